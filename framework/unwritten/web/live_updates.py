"""The audience: who looks at which page, and what its regions of state show now.

A page that is being written has watchers of its own (``generation``); a page with regions of state is looked at for as
long as a browser shows it. After an action, every page that is looked at and has read a table that was written is
asked anew what it needs: its page function is called again, regions that have changed are sent to all who look, and
canvases that are new are written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.types import Scope

from unwritten_engine.errors import suggestion

from ..core.errors import BadApp, Busy, Denied, OverBudget, UnwrittenError
from ..formats.page import Page
from ..generation.job_queue import JobQueue
from ..generation.job_starter import JobStarter
from ..generation.page_job import JobObserver, PageJob, Subscriber
from ..rendering.blocks import LiveRegion
from ..rendering.regions import PageView
from ..rendering.renderer import Renderer
from ..routing.resolver import PageResolver
from ..routing.routes import PageRequest
from ..storage.pages import PageStore
from ..storage.records import Change
from .live_pages import LivePages
from .messages import live_text
from .page_cache import PageCache

log = logging.getLogger("unwritten")


RATE = 10.0
"""How often in a second changed pages are asked anew at most; what comes in between is seen to together."""


@dataclass(eq=False)
class PageSubscription:
    """A browser tab that shows a page.

    Attributes:
        subscriber: Notified when there is something new.
        on_start: Called when the page is generated again, so that its frames are followed.
        scope: The connection of the tab.
    """

    subscriber: Subscriber
    on_start: Callable[[PageJob], None]
    scope: Scope


@dataclass
class _RenderedState:
    """What a page shows: of each region of state the number and the message, and the tables it was read from."""

    regions: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    tables: frozenset[str] = frozenset()


class LiveUpdates(JobObserver):
    """Keeps open pages up to date with the app's tables.

    Args:
        resolver: Calls page functions again.
        renderer: The app's renderer.
        store: The stored pages.
        jobs: The queue.
        starter: Starts jobs.
        live_pages: Pages that are being generated, rendered.
        cache: Stored pages, rendered.
    """

    def __init__(
        self,
        *,
        resolver: PageResolver,
        renderer: Renderer,
        store: PageStore,
        jobs: JobQueue,
        starter: JobStarter,
        live_pages: LivePages,
        cache: PageCache,
    ) -> None:
        self._resolver = resolver
        self._renderer = renderer
        self._store = store
        self._jobs = jobs
        self._starter = starter
        self._live_pages = live_pages
        self._cache = cache
        self._subscriptions: dict[str, set[PageSubscription]] = {}
        self._rendered: dict[str, _RenderedState] = {}
        self._stale: dict[str, bool] = {}
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # -- who looks ----------------------------------------------------------------------------------------

    def join(self, key: str, subscription: PageSubscription) -> None:
        """A tab shows a page from now on. It starts no work but to find out what the page shows."""
        self._loop = asyncio.get_running_loop()
        self._subscriptions.setdefault(key, set()).add(subscription)
        self._refresh([key], acted=False)

    def leave(self, key: str, subscription: PageSubscription) -> None:
        """A tab does not show a page any more."""
        subscriptions = self._subscriptions.get(key, set())
        subscriptions.discard(subscription)
        if not subscriptions:
            self._subscriptions.pop(key, None)
            self._rendered.pop(key, None)

    def scene(self, key: str) -> Mapping[str, tuple[int, str]]:
        """Of each region of state of a page its number and its message, as far as they are known."""
        scene = self._rendered.get(key)
        return scene.regions if scene else {}

    # -- what happens -------------------------------------------------------------------------------------

    async def acted(self, page: str, tables: Collection[str], again: Collection[str], request: Request) -> None:
        """An action has changed tables. When this returns, what is new on its own page is being written.

        Args:
            page: the page where its form stood.
            tables: what it has written to.
            again: regions of that page that are to be drawn or written again.
            request: the action's.

        Raises:
            BadApp: if ``again`` names no region of the page, or the page cannot be drawn.
        """
        try:
            await self._follow(page, write=True, again=again, request=request)
        except (OverBudget, Denied) as refused:
            log.info("%s: what is new on it is not written: %s", page, refused)
        except Busy as busy:
            log.warning("%s: what is new on it is written later: %s", page, busy)
            self._starter.mark_pending(page, again)
        self._refresh({*self._showing(tables), page} & self._subscriptions.keys(), acted=True)

    def wrote(self, table: str) -> None:
        """Something that is no action has written to a table. Any thread may say so."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(lambda: self._refresh(self._showing([table]), acted=True))

    def _showing(self, tables: Collection[str]) -> list[str]:
        """The pages that are looked at and have read one of these tables."""
        return [key for key, scene in self._rendered.items() if scene.tables & {*tables}]

    def on_start(self, job: PageJob) -> None:
        """A page that is looked at is written again: its frames go to all who look."""
        for subscription in self._subscriptions.get(job.key, ()):
            subscription.on_start(job)

    def on_end(self, job: PageJob) -> None:
        """What had to wait for its end, or for room, can be written now."""
        self._refresh([*self._starter.pending_regions], acted=True)

    def _refresh(self, keys: Iterable[str], *, acted: bool) -> None:
        for key in keys:
            self._stale[key] = self._stale.get(key, False) or acted
        if self._stale and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._catch_up(), name="audience")

    async def _catch_up(self) -> None:
        while self._stale:
            stale, self._stale = self._stale, {}
            for key, acted in stale.items():
                try:
                    await self._show(key, acted)
                except UnwrittenError as error:
                    log.warning("%s: what it shows now cannot be told: %s", key, error)
                except Exception:
                    log.exception("%s: what it shows now cannot be told", key)
            await asyncio.sleep(1 / RATE)

    async def _show(self, key: str, acted: bool) -> None:
        if acted:
            await self._follow_later(key)
        page_request = await self._look(key) if key in self._subscriptions else None
        if isinstance(page_request, PageRequest) and key in self._subscriptions:
            regions = {
                name: (live.number, live_text(key, name, live)) for name, live in self._live(page_request).items()
            }
            self._rendered[key] = _RenderedState(regions, page_request.tables)
            for subscription in self._subscriptions.get(key, ()):
                subscription.subscriber.changed.set()

    async def _follow_later(self, key: str) -> None:
        """See to it that a page is brought up to the state of the app, and to what had to wait."""
        waited = self._starter.pending_regions.get(key) if self._jobs.get(key) is None else None
        try:
            await self._follow(key, write=waited is not None, again=waited or ())
        except (OverBudget, Denied) as refused:
            log.info("%s: what is new on it is not written: %s", key, refused)
        except Busy:
            return  # it goes on waiting
        if waited is not None:
            self._starter.pending_regions.pop(key, None)

    # -- what a page needs now ----------------------------------------------------------------------------

    def _origin(self, key: str) -> Scope | None:
        """Return the connection of a viewer of a page, whose session and user its page function sees."""
        return next((subscription.scope for subscription in self._subscriptions.get(key, ())), None)

    async def _look(self, key: str) -> PageRequest | None:
        """What a page needs now; None if there is no such page. It starts no work."""
        page_request = await self._resolver.resolve_key(key, self._origin(key))
        return page_request if isinstance(page_request, PageRequest) else None

    async def _follow(
        self, key: str, *, write: bool, again: Collection[str] = (), request: Request | None = None
    ) -> PageRequest | None:
        """Bring a page up to the state of the app, after an action.

        Args:
            key: the page.
            write: whether canvases that are missing may be written now; otherwise only if the page was asked for.
            again: regions that are written again, whatever is there.
            request: of whoever caused it, and is charged.

        Returns:
            What the page needs now; None if there is no such page.
        """
        page_request = await self._resolver.resolve_key(key, request.scope if request else self._origin(key))
        if not isinstance(page_request, PageRequest):
            return None
        rewritten = _canvases_of(page_request.page, again)
        job = self._jobs.get(page_request.key)
        if job is not None:
            self._starter.update(job, page_request)
            if rewritten:
                self._starter.mark_pending(page_request.key, rewritten)
        elif rewritten:
            await self._write_again(page_request, rewritten)
        elif page_request.page.canvases and self._may_write(page_request, write) and not self._is_whole(page_request):
            await self._starter.start(page_request, searched=True)
        return page_request

    async def _write_again(self, page_request: PageRequest, names: set[str]) -> None:
        """Write canvases again, and what is missing: the next version of the page, made from the one that is there."""
        kept = self._store.get(page_request.key)
        if kept is None or not names & kept.canvases.keys():
            await self._starter.start(page_request, searched=True)
            return
        finished = {name: canvas for name, canvas in kept.canvases.items() if name not in names}
        region_jobs = self._starter.region_jobs(page_request, self._resolver.linker(page_request), finished)
        regions = tuple(name for name, region_job in region_jobs.items() if region_job.state != "written")
        change = Change("rewritten", base=kept.version, regions=regions)
        await self._starter.start(page_request, searched=True, region_jobs=region_jobs, change=change, before=kept)

    def _may_write(self, page_request: PageRequest, write: bool) -> bool:
        return write or bool(self._store.exists([page_request.key])) or self._jobs.recent(page_request.key) is not None

    def _is_whole(self, page_request: PageRequest) -> bool:
        return self._cache.rendered(page_request, opened=False) is not None

    def _live(self, page_request: PageRequest) -> Mapping[str, LiveRegion]:
        """The regions of state of a page, as they are now."""
        job = self._jobs.get(page_request.key)
        if job is not None:
            return self._live_pages.shell(job).live
        drawn = self._cache.rendered(page_request, opened=False)
        if drawn is not None:
            return drawn.live
        return self._renderer.shell(
            PageView(key=page_request.key, title=page_request.title), page_request.page, {}
        ).live

    async def close(self) -> None:
        """Nothing is sent any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


def _canvases_of(page: Page, names: Collection[str]) -> set[str]:
    """The canvases that these names stand for: a canvas, or all of several under one name. Live ones need none."""
    found: set[str] = set()
    for name in names:
        if name in page.canvases:
            found.add(name)
        elif name in page.collections:
            found.update(page.collections[name].regions.values())
        elif name not in page.context:
            known = [*page.canvases, *page.collections, *page.context]
            raise BadApp(f"The page has no region {name!r} that could be drawn again.{suggestion(name, known)}")
    return found
