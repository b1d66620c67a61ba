"""Live updates: open pages follow changes of the app's tables.

A tab subscribes to a page with state regions for as long as it shows it. When a table is written, every subscribed
page that has read it is resolved again: its page function is called, changed regions are sent to all subscribers, and
new canvases are generated. A page that may depend on the visitor is resolved for each visitor.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Scope

from unwritten_engine.errors import suggestion

from ..broker.base import Broker, BrokerListener
from ..core.background_tasks import BackgroundTasks
from ..core.errors import BadApp, BadURL, Busy, Denied, OverBudget, PageFailed, StoreError, UnwrittenError
from ..core.tracebacks import log_error
from ..formats.page import Page
from ..generation.job_queue import JobQueue
from ..generation.job_starter import JobStarter
from ..generation.page_job import JobObserver, PageJob, Subscriber
from ..rendering.blocks import StateRegion
from ..rendering.regions import PageView
from ..rendering.renderer import Renderer
from ..routing.access import PageAccess, identity
from ..routing.routes import PageRequest
from ..storage.pages import PageStore
from ..storage.records import Change
from .job_renderer import JobRenderer
from .messages import state_region_message
from .page_cache import PageCache

log = logging.getLogger("unwritten")

MAX_VISITORS = 4
"""Visitors for whom one page is resolved at the same time, if it is not the same for all."""

MAX_REFRESH_RATE = 10.0
"""Maximum rate, per second, at which a changed page is resolved again. Changes in between are handled together."""

MAX_UPDATES = 8
"""Maximum number of pages that are updated at the same time. As many slow ones run beside them."""

UPDATE_TIME_LIMIT = 30.0
"""Seconds after which the update of one page is given up."""

SLOW_SECONDS = 1.0
"""Pages whose last update took longer run apart from the others, so that they delay only each other."""


@dataclass(eq=False)
class PageSubscription:
    """A browser tab that shows a page.

    Attributes:
        subscriber: Notified when there is something new.
        on_start: Called when a new job of the page starts, so that its frames are followed.
        on_denied: Called when the tab's visitor may not read the page any more. It ends the subscription.
        scope: The connection of the tab.
        page: What the page function returned for the tab's visitor. None: it is the same for all visitors.
        regions: The number and the message of each state region, for the tab's visitor. Empty until it is resolved.
    """

    subscriber: Subscriber
    on_start: Callable[[PageJob], None]
    on_denied: Callable[[], None]
    scope: Scope
    page: Page | None = None
    regions: Mapping[str, tuple[int, str]] = field(default_factory=dict)

    @functools.cached_property
    def identity(self) -> bytes:
        """What identifies the tab's visitor."""
        return identity(self.scope)


class LiveUpdates(JobObserver, BrokerListener):
    """Keeps open pages up to date with the app's tables, also with what other processes write."""

    def __init__(
        self,
        *,
        access: PageAccess,
        renderer: Renderer,
        store: PageStore,
        jobs: JobQueue,
        starter: JobStarter,
        job_renderer: JobRenderer,
        cache: PageCache,
        broker: Broker,
    ) -> None:
        self._access = access
        self._renderer = renderer
        self._store = store
        self._jobs = jobs
        self._starter = starter
        self._job_renderer = job_renderer
        self._cache = cache
        self._broker = broker
        self._tasks = BackgroundTasks()
        self._subscriptions: dict[str, set[PageSubscription]] = {}
        self._tables: dict[str, frozenset[str]] = {}  # those that the page function of a subscribed page has read
        self._stale: dict[str, bool] = {}
        self._updating: set[str] = set()
        self._slow: set[str] = set()
        self._slots = asyncio.Semaphore(MAX_UPDATES), asyncio.Semaphore(MAX_UPDATES)
        self._loop: asyncio.AbstractEventLoop | None = None

    # -- subscriptions ------------------------------------------------------------------------------------

    def subscribe(self, key: str, subscription: PageSubscription) -> None:
        """Follow a page. The page function is called once, and nothing is generated."""
        self._loop = asyncio.get_running_loop()
        subscriptions = self._subscriptions.setdefault(key, set())
        is_open = self._access.is_open(key)
        for other in subscriptions:
            if other.regions and (is_open or other.identity == subscription.identity):
                subscription.regions, subscription.page = other.regions, other.page  # what other tabs show is current
                break
        subscriptions.add(subscription)
        self._refresh([key], changed=False)

    def unsubscribe(self, key: str, subscription: PageSubscription) -> None:
        """Stop following a page."""
        subscriptions = self._subscriptions.get(key, set())
        subscriptions.discard(subscription)
        if not subscriptions:
            self._subscriptions.pop(key, None)
            self._tables.pop(key, None)
            self._slow.discard(key)

    # -- events -------------------------------------------------------------------------------------------

    async def on_action(self, key: str, tables: Collection[str], redraw: Collection[str], request: Request) -> None:
        """Update pages after an action. On return, the generation of new canvases on its own page has started.

        The action is committed, so what fails here is logged, and the response to the form stays as it is.

        Args:
            key: The page with the action's form.
            tables: The tables that it has written.
            redraw: Regions of that page to render again or regenerate.
            request: The action's request. Its client is charged.
        """
        try:
            await self._update_page(key, allow_new=True, redraw=redraw, request=request)
        except (OverBudget, Denied) as error:
            log.info("%s: new canvases are not generated: %s", key, error)
        except Busy as error:
            log.warning("%s: new canvases are generated later: %s", key, error)
            self._starter.mark_pending(key, redraw)
        except UnwrittenError as error:
            log.error("%s: the page is not updated after an action: %s", key, error)
        except Exception as error:
            log_error(log, f"{key}: the page is not updated after an action", error)
        self._broker.announce("data", tables=[*tables], pages=[key])
        self.on_data_changed(tables, [key])

    def on_table_write(self, table: str) -> None:
        """Update pages after a write outside of actions. May be called from any thread."""
        self._broker.announce("data", tables=[table], pages=[])
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(lambda: self._refresh(self._pages_reading([table]), changed=True))

    def on_start(self, job: PageJob) -> None:
        """Let all subscribers of a page follow its new job."""
        if job.is_refresh:
            return  # the old version is shown until the new one is stored
        for subscription in self._subscriptions.get(job.key, ()):
            subscription.on_start(job)

    def on_end(self, job: PageJob) -> None:
        """Show a refreshed page, and generate regions that had to wait for a job or for room in the queue."""
        if job.is_refresh and job.stored is not None and not job.reverted:
            self._show_soon(job.key, self._show_current)
            self._broker.announce("edited", key=job.key)
        self._refresh([*self._starter.pending_regions], changed=True)

    # -- events of other processes ------------------------------------------------------------------------

    def on_data_changed(self, tables: Collection[str], pages: Collection[str]) -> None:
        """Update pages after a write of any process."""
        self._refresh({*self._pages_reading(tables), *pages} & self._subscriptions.keys(), changed=True)

    def on_page_started(self, key: str) -> None:
        """Let subscribers follow what another process generates of their page."""
        self._show_soon(key, self._follow_elsewhere)

    def on_page_ended(self, key: str, state: str) -> None:
        """Show an edit of another process, and generate regions that had to wait for the end of a job there."""
        if state == "edited":
            self._show_soon(key, self._show_stored)
        self._refresh([*self._starter.pending_regions], changed=True)

    def on_reconnected(self) -> None:
        """Update all subscribed pages, because events of other processes may have been lost."""
        self._refresh([*self._subscriptions], changed=True)
        self._tasks.start(self._show_all(), "showing what other processes have written")

    async def _show_all(self) -> None:
        for key in [*self._subscriptions]:
            await self._show(key, self._show_current)

    def _show_soon(self, key: str, show: Callable[[PageRequest], Awaitable[None]]) -> None:
        if key in self._subscriptions:
            self._tasks.start(self._show(key, show), f"showing {key}")

    async def _show(self, key: str, show: Callable[[PageRequest], Awaitable[None]]) -> None:
        try:
            page_request = await self._resolve_for_update(key, None)
            if page_request is not None and key in self._subscriptions:
                await show(page_request)
        except UnwrittenError as error:
            log.warning("%s: open tabs do not show what another process writes: %s", key, error)
        except Exception as error:
            log_error(log, f"{key}: open tabs do not show what another process writes", error)

    async def _follow_elsewhere(self, page_request: PageRequest) -> None:
        await self._starter.follow(page_request)

    def show_newer(self, key: str, version: int) -> None:
        """Show the stored version of a page soon, if it is newer than the one that a tab shows."""

        async def show(page_request: PageRequest) -> None:
            stored = self._store.get(key) if self._jobs.get(key) is None else None
            if stored is not None and stored.version > version:
                await self._show_stored(page_request)

        self._show_soon(key, show)

    async def _show_current(self, page_request: PageRequest) -> None:
        if await self._starter.follow(page_request) is None:
            await self._show_stored(page_request)

    async def _show_stored(self, page_request: PageRequest) -> None:
        """Show the stored version of a page, as if it had just been generated."""
        job = await self._starter.finished_job(page_request)
        if job is not None:
            self._job_renderer.prepare(job)
            self.on_start(job)
            for region_job in job.regions.values():
                region_job.renumber()
            job.notify()

    def _pages_reading(self, tables: Collection[str]) -> list[str]:
        """Return the subscribed pages that have read one of these tables."""
        return [key for key, read in self._tables.items() if read & {*tables}]

    # -- refreshing ---------------------------------------------------------------------------------------

    def _refresh(self, keys: Iterable[str], *, changed: bool) -> None:
        """Resolve pages again soon. ``changed`` is False if only the current state is needed."""
        for key in keys:
            self._stale[key] = self._stale.get(key, False) or changed
            if key not in self._updating:
                self._updating.add(key)
                self._tasks.start(self._refresh_page(key), f"live updates of {key}")

    async def _refresh_page(self, key: str) -> None:
        """Update one page until it is not stale any more. Other pages do not wait for it."""
        try:
            while key in self._stale:
                async with self._slots[key in self._slow]:
                    started = time.monotonic()
                    await self._refresh_once(key, self._stale.pop(key))
                is_slow = time.monotonic() - started > SLOW_SECONDS and key in self._subscriptions
                (self._slow.add if is_slow else self._slow.discard)(key)
                await asyncio.sleep(1 / MAX_REFRESH_RATE)
        finally:
            self._updating.discard(key)

    async def _refresh_once(self, key: str, changed: bool) -> None:
        timeout = asyncio.timeout(UPDATE_TIME_LIMIT)
        try:
            async with timeout:
                if changed:
                    await self._update_pending(key)
                await self._update_regions(key)
        except UnwrittenError as error:
            log.warning("%s: open tabs are not updated: %s", key, error)
        except Exception as error:
            if timeout.expired():
                log.warning("%s: open tabs are not updated: it took more than %g seconds", key, UPDATE_TIME_LIMIT)
            else:
                log_error(log, f"{key}: open tabs are not updated", error)

    async def _update_pending(self, key: str) -> None:
        """Update a page, and generate its pending regions if no job is running."""
        pending = self._starter.pending_regions.get(key) if self._jobs.get(key) is None else None
        try:
            await self._update_page(key, allow_new=pending is not None, redraw=pending or ())
        except (OverBudget, Denied) as error:
            log.info("%s: new canvases are not generated: %s", key, error)
        except Busy:
            return  # the regions stay pending
        if pending is not None:
            self._starter.pending_regions.pop(key, None)

    async def _update_regions(self, key: str) -> None:
        """Render the state regions of a subscribed page for its subscribers, and notify them.

        A page that is not open is resolved for each visitor: its function may return other values, or refuse.
        """
        is_open = self._access.is_open(key)
        groups: dict[bytes, list[PageSubscription]] = {}
        for subscription in self._subscriptions.get(key, ()):
            groups.setdefault(b"" if is_open else subscription.identity, []).append(subscription)
        slots = asyncio.Semaphore(MAX_VISITORS)
        tables: set[str] = set()

        async def update(subscriptions: Sequence[PageSubscription]) -> None:
            async with slots:
                page_request = await self._resolve(key, subscriptions)
                if page_request is not None:
                    await self._update_subscriptions(page_request, subscriptions, is_open=is_open)
                    tables.update(page_request.tables)

        try:
            await asyncio.gather(*map(update, groups.values()))
        finally:
            if key in self._subscriptions:
                self._tables[key] = frozenset(tables) or self._tables.get(key, frozenset())

    async def _resolve(self, key: str, subscriptions: Sequence[PageSubscription]) -> PageRequest | None:
        """Resolve a page for the tabs of one visitor. End their subscriptions if the visitor may not read it."""
        try:
            page_request = await self._access.resolve_key(key, subscriptions[0].scope)
        except (StoreError, PageFailed) as error:
            log.warning("%s: open tabs are not updated: %s", key, error)
            return None
        except (Denied, BadURL, HTTPException):
            page_request = None
        except Exception as error:
            log_error(log, f"{key}: open tabs are not updated", error)
            return None
        if isinstance(page_request, PageRequest) and page_request.key == key:
            return page_request
        for subscription in subscriptions:
            subscription.on_denied()
        return None

    async def _update_subscriptions(
        self, page_request: PageRequest, subscriptions: Sequence[PageSubscription], *, is_open: bool
    ) -> None:
        key = page_request.key
        regions = await self._state_regions(page_request)
        messages = {name: state_region_message(key, name, region) for name, region in regions.items()}
        for subscription in subscriptions:
            subscription.page = None if is_open else page_request.page
            known = {text: number for number, text in subscription.regions.values()}
            subscription.regions = {
                name: (known.get(text, regions[name].number), text) for name, text in messages.items()
            }
            subscription.subscriber.changed.set()

    async def _state_regions(self, page_request: PageRequest) -> Mapping[str, StateRegion]:
        """Return the state regions of a page, as they are now."""
        job = self._jobs.get(page_request.key)
        if job is not None:
            return self._job_renderer.shell(job, page_request.page).state_regions
        rendered = await self._cache.rendered(page_request, is_visit=False)
        if rendered is not None:
            return rendered.state_regions
        view = PageView(key=page_request.key, title=page_request.title)
        return self._renderer.shell(view, page_request.page, {}).state_regions

    # -- new canvases -------------------------------------------------------------------------------------

    async def _update_page(
        self, key: str, *, allow_new: bool, redraw: Collection[str] = (), request: Request | None = None
    ) -> None:
        """Resolve a page again, and generate its new canvases. Does nothing if there is no such page.

        Args:
            key: The page.
            allow_new: True if missing canvases may be generated even if the page has never been generated.
            redraw: Regions to regenerate.
            request: The request that caused the update. Its client is charged. None: that of a subscriber who may
                read the page.

        Raises:
            Busy, OverBudget, Denied, BadApp: See ``JobStarter.start``.
        """
        page_request = await self._resolve_for_update(key, request)
        if page_request is None:
            return
        canvases = canvases_of(page_request.page, redraw)
        job = self._jobs.get(page_request.key)
        if job is not None:
            await self._starter.update(job, page_request)
            if canvases:
                self._starter.mark_pending(page_request.key, canvases)
        elif canvases:
            await self._regenerate(page_request, canvases)
        elif (
            page_request.page.canvases
            and (allow_new or self._was_generated(page_request.key))
            and await self._cache.rendered(page_request, is_visit=False) is None  # a canvas is missing
        ):
            await self._starter.start(page_request, searched=True)

    async def _resolve_for_update(self, key: str, request: Request | None) -> PageRequest | None:
        """Resolve a page for the visitor who caused an update, or else for the first subscriber who may read it."""
        if request is not None:
            found = await self._access.resolve_key(key, request.scope)
            return found if isinstance(found, PageRequest) else None
        scopes = {subscription.identity: subscription.scope for subscription in self._subscriptions.get(key, ())}
        if not scopes or self._access.is_open(key):
            found = await self._access.resolve_key(key, next(iter(scopes.values()), None))
            return found if isinstance(found, PageRequest) else None
        for scope in scopes.values():
            page_request = await self._access.find(key, scope)
            if page_request is not None:
                return page_request
        return None

    async def _regenerate(self, page_request: PageRequest, names: set[str]) -> None:
        """Regenerate canvases, and generate missing ones, as the next version of the page."""
        stored = self._store.get(page_request.key)
        if stored is None or not names & stored.canvases.keys():
            await self._starter.start(page_request, searched=True)
            return
        finished = {name: canvas for name, canvas in stored.canvases.items() if name not in names}
        facts = await self._starter.recall(page_request)
        region_jobs = await self._starter.region_jobs(page_request, finished, facts)
        regions = tuple(name for name, region_job in region_jobs.items() if region_job.state != "written")
        change = Change("rewritten", base=stored.version, regions=regions)
        job = await self._starter.start(
            page_request, searched=True, region_jobs=region_jobs, change=change, previous=stored
        )
        if job.regions is not region_jobs:  # another process generates the page now
            self._starter.mark_pending(page_request.key, names)

    def _was_generated(self, key: str) -> bool:
        return bool(self._store.exists([key])) or self._jobs.recent(key) is not None

    async def close(self) -> None:
        """Stop updating."""
        self._stale.clear()
        await self._tasks.close()
        self._updating.clear()  # a task that never ran could not remove itself


def canvases_of(page: Page, names: Collection[str]) -> set[str]:
    """Return the canvases that these region names stand for: one, or all of a group. State regions have none.

    Raises:
        BadApp: If the page has no region of that name.
    """
    found: set[str] = set()
    for name in names:
        if name in page.canvases:
            found.add(name)
        elif name in page.canvas_groups:
            found.update(page.canvas_groups[name].regions.values())
        elif name not in page.context:
            known = [*page.canvases, *page.canvas_groups, *page.context]
            raise BadApp(f"The page has no region {name!r} that could be redrawn.{suggestion(name, known)}")
    return found
