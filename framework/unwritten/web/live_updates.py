"""Live updates: open pages follow changes of the app's tables.

A tab subscribes to a page with state regions for as long as it shows it. When a table is written, every subscribed
page that has read it is resolved again: its page function is called, changed regions are sent to all subscribers, and
new canvases are generated. A page that may depend on the visitor is resolved for each visitor.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Scope

from unwritten_engine.errors import suggestion

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

MAX_REFRESH_RATE = 10.0
"""Maximum rate, per second, at which changed pages are resolved again. Changes in between are handled together."""


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


class LiveUpdates(JobObserver):
    """Keeps open pages up to date with the app's tables."""

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
    ) -> None:
        self._access = access
        self._renderer = renderer
        self._store = store
        self._jobs = jobs
        self._starter = starter
        self._job_renderer = job_renderer
        self._cache = cache
        self._subscriptions: dict[str, set[PageSubscription]] = {}
        self._tables: dict[str, frozenset[str]] = {}  # those that the page function of a subscribed page has read
        self._stale: dict[str, bool] = {}
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # -- subscriptions ------------------------------------------------------------------------------------

    def subscribe(self, key: str, subscription: PageSubscription) -> None:
        """Follow a page. The page function is called once, and nothing is generated."""
        self._loop = asyncio.get_running_loop()
        subscriptions = self._subscriptions.setdefault(key, set())
        is_open, reader = self._access.is_open(key), identity(subscription.scope)
        for other in subscriptions:
            if other.regions and (is_open or identity(other.scope) == reader):
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
        self._refresh({*self._pages_reading(tables), key} & self._subscriptions.keys(), changed=True)

    def on_table_write(self, table: str) -> None:
        """Update pages after a write outside of actions. May be called from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(lambda: self._refresh(self._pages_reading([table]), changed=True))

    def on_start(self, job: PageJob) -> None:
        """Let all subscribers of a page follow its new job."""
        for subscription in self._subscriptions.get(job.key, ()):
            subscription.on_start(job)

    def on_end(self, job: PageJob) -> None:
        """Generate regions that had to wait for the end of a job or for room in the queue."""
        self._refresh([*self._starter.pending_regions], changed=True)

    def _pages_reading(self, tables: Collection[str]) -> list[str]:
        """Return the subscribed pages that have read one of these tables."""
        return [key for key, read in self._tables.items() if read & {*tables}]

    # -- refreshing ---------------------------------------------------------------------------------------

    def _refresh(self, keys: Iterable[str], *, changed: bool) -> None:
        """Resolve pages again soon. ``changed`` is False if only the current state is needed."""
        for key in keys:
            self._stale[key] = self._stale.get(key, False) or changed
        if self._stale and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._refresh_stale(), name="live updates")

    async def _refresh_stale(self) -> None:
        while self._stale:
            stale, self._stale = self._stale, {}
            for key, changed in stale.items():
                try:
                    if changed:
                        await self._update_pending(key)
                    await self._update_regions(key)
                except UnwrittenError as error:
                    log.warning("%s: open tabs are not updated: %s", key, error)
                except Exception as error:
                    log_error(log, f"{key}: open tabs are not updated", error)
            await asyncio.sleep(1 / MAX_REFRESH_RATE)

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
            groups.setdefault(b"" if is_open else identity(subscription.scope), []).append(subscription)
        tables: frozenset[str] = frozenset()
        for subscriptions in groups.values():
            page_request = await self._resolve(key, subscriptions)
            if page_request is not None:
                self._update_subscriptions(page_request, subscriptions, is_open=is_open)
                tables |= page_request.tables
        if key in self._subscriptions:
            self._tables[key] = tables

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
        if isinstance(page_request, PageRequest):
            return page_request
        for subscription in subscriptions:
            subscription.on_denied()
        return None

    def _update_subscriptions(
        self, page_request: PageRequest, subscriptions: Sequence[PageSubscription], *, is_open: bool
    ) -> None:
        key = page_request.key
        regions = self._state_regions(page_request)
        messages = {name: state_region_message(key, name, region) for name, region in regions.items()}
        for subscription in subscriptions:
            subscription.page = None if is_open else page_request.page
            known = {text: number for number, text in subscription.regions.values()}
            subscription.regions = {
                name: (known.get(text, regions[name].number), text) for name, text in messages.items()
            }
            subscription.subscriber.changed.set()

    def _state_regions(self, page_request: PageRequest) -> Mapping[str, StateRegion]:
        """Return the state regions of a page, as they are now."""
        job = self._jobs.get(page_request.key)
        if job is not None:
            return self._job_renderer.shell(job, page_request.page).state_regions
        rendered = self._cache.rendered(page_request, is_visit=False)
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
            and self._cache.rendered(page_request, is_visit=False) is None  # a canvas is missing
        ):
            await self._starter.start(page_request, searched=True)

    async def _resolve_for_update(self, key: str, request: Request | None) -> PageRequest | None:
        """Resolve a page for the visitor who caused an update, or else for the first subscriber who may read it."""
        if request is not None:
            found = await self._access.resolve_key(key, request.scope)
            return found if isinstance(found, PageRequest) else None
        scopes = {identity(subscription.scope): subscription.scope for subscription in self._subscriptions.get(key, ())}
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
        region_jobs = self._starter.region_jobs(page_request, finished, facts)
        regions = tuple(name for name, region_job in region_jobs.items() if region_job.state != "written")
        change = Change("rewritten", base=stored.version, regions=regions)
        await self._starter.start(page_request, searched=True, region_jobs=region_jobs, change=change, previous=stored)

    def _was_generated(self, key: str) -> bool:
        return bool(self._store.exists([key])) or self._jobs.recent(key) is not None

    async def close(self) -> None:
        """Stop updating."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


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
