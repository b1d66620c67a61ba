"""The audience: who looks at which page, and what its regions of state show now.

A page that is being written has watchers of its own (``generation``); a page with regions of state is looked at for as
long as a browser shows it. After an action, every page that is looked at and has read a table that was written is
asked anew what it needs: its page function is called again, regions that have changed are sent to all who look, and
canvases that are new are written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from starlette.requests import Request

from unwritten_engine.errors import suggestion

from ..core.errors import BadApp, Busy, Denied, OverBudget, UnwrittenError
from ..formats.page import Page
from ..generation.page_job import JobObserver, PageJob, Subscriber
from ..rendering.blocks import LiveRegion
from ..rendering.regions import PageView
from ..routing.routes import PageRequest, PageRoute
from ..storage.records import Change
from .messages import live_text
from .page_handler import PageHandler

log = logging.getLogger("unwritten")


RATE = 10.0
"""How often in a second changed pages are asked anew at most; what comes in between is seen to together."""


@dataclass(eq=False)
class PageSubscription:
    """A browser tab that shows a page.

    Attributes:
        watcher: is told when there is something new.
        begun: called when the page is being written again, so that its frames are followed.
    """

    watcher: Subscriber
    begun: Callable[[PageJob], None]


@dataclass
class _RenderedState:
    """What a page shows: of each region of state the number and the message, and the tables it was read from."""

    regions: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    tables: frozenset[str] = frozenset()


class LiveUpdates(JobObserver):
    """Those who look at the pages of one app.

    Args:
        serving: the app's pages.
        routes: all pages, as they are declared.
    """

    def __init__(self, serving: PageHandler, routes: Callable[[], Sequence[PageRoute]]) -> None:
        self._serving = serving
        self._routes = routes
        self._lookers: dict[str, set[PageSubscription]] = {}
        self._scenes: dict[str, _RenderedState] = {}
        self._stale: dict[str, bool] = {}
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        serving.jobs.observers.append(self)

    # -- who looks ----------------------------------------------------------------------------------------

    def join(self, key: str, looker: PageSubscription) -> None:
        """A tab shows a page from now on. It starts no work but to find out what the page shows."""
        self._loop = asyncio.get_running_loop()
        self._lookers.setdefault(key, set()).add(looker)
        self._refresh([key], acted=False)

    def leave(self, key: str, looker: PageSubscription) -> None:
        """A tab does not show a page any more."""
        lookers = self._lookers.get(key, set())
        lookers.discard(looker)
        if not lookers:
            self._lookers.pop(key, None)
            self._scenes.pop(key, None)

    def scene(self, key: str) -> Mapping[str, tuple[int, str]]:
        """Of each region of state of a page its number and its message, as far as they are known."""
        scene = self._scenes.get(key)
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
            self._serving.starter.pending_regions.setdefault(page, set()).update(again)
        self._refresh({*self._showing(tables), page} & self._lookers.keys(), acted=True)

    def wrote(self, table: str) -> None:
        """Something that is no action has written to a table. Any thread may say so."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(lambda: self._refresh(self._showing([table]), acted=True))

    def _showing(self, tables: Collection[str]) -> list[str]:
        """The pages that are looked at and have read one of these tables."""
        return [key for key, scene in self._scenes.items() if scene.tables & {*tables}]

    def begun(self, generation: PageJob) -> None:
        """A page that is looked at is written again: its frames go to all who look."""
        for looker in self._lookers.get(generation.key, ()):
            looker.begun(generation)

    def ended(self, generation: PageJob) -> None:
        """What had to wait for its end, or for room, can be written now."""
        self._refresh([*self._serving.starter.pending_regions], acted=True)

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
        click = await self._look(key) if key in self._lookers else None
        if isinstance(click, PageRequest) and key in self._lookers:
            regions = {name: (live.number, live_text(key, name, live)) for name, live in self._live(click).items()}
            self._scenes[key] = _RenderedState(regions, click.tables)
            for looker in self._lookers.get(key, ()):
                looker.watcher.changed.set()

    async def _follow_later(self, key: str) -> None:
        """See to it that a page is brought up to the state of the app, and to what had to wait."""
        serving = self._serving
        waited = serving.starter.pending_regions.get(key) if serving.jobs.get(key) is None else None
        try:
            await self._follow(key, write=waited is not None, again=waited or ())
        except (OverBudget, Denied) as refused:
            log.info("%s: what is new on it is not written: %s", key, refused)
        except Busy:
            return  # it goes on waiting
        if waited is not None:
            serving.starter.pending_regions.pop(key, None)

    # -- what a page needs now ----------------------------------------------------------------------------

    async def _look(self, key: str) -> PageRequest | None:
        """What a page needs now; None if there is no such page. It starts no work."""
        click = await self._serving.resolver.resolve_key(key, self._routes(), [])
        return click if isinstance(click, PageRequest) else None

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
        serving = self._serving
        headers, client = (request.headers.raw, request.scope.get("client")) if request else ([], None)
        click = await serving.resolver.resolve_key(key, self._routes(), headers, client)
        if not isinstance(click, PageRequest):
            return None
        rewritten = _canvases_of(click.page, again)
        generation = serving.jobs.get(click.key)
        if generation is not None:
            serving.starter.update(generation, click)
            if rewritten:
                serving.starter.pending_regions.setdefault(click.key, set()).update(rewritten)
        elif rewritten:
            await self._write_again(click, rewritten)
        elif click.page.canvases and self._may_write(click, write) and not self._is_whole(click):
            await serving.starter.start(click, searched=True)
        return click

    async def _write_again(self, click: PageRequest, names: set[str]) -> None:
        """Write canvases again, and what is missing: the next version of the page, made from the one that is there."""
        serving = self._serving
        kept = serving.store.get(click.key)
        if kept is None or not names & kept.canvases.keys():
            await serving.starter.start(click, searched=True)
            return
        finished = {name: canvas for name, canvas in kept.canvases.items() if name not in names}
        writings = serving.starter.region_jobs(click, serving.resolver.linker(click), finished)
        regions = tuple(name for name, writing in writings.items() if writing.state != "written")
        change = Change("rewritten", base=kept.version, regions=regions)
        await serving.starter.start(click, searched=True, writings=writings, change=change, before=kept)

    def _may_write(self, click: PageRequest, write: bool) -> bool:
        serving = self._serving
        return write or bool(serving.store.exists([click.key])) or serving.jobs.recent(click.key) is not None

    def _is_whole(self, click: PageRequest) -> bool:
        return self._serving.cache.rendered(click, opened=False) is not None

    def _live(self, click: PageRequest) -> Mapping[str, LiveRegion]:
        """The regions of state of a page, as they are now."""
        serving = self._serving
        generation = serving.jobs.get(click.key)
        if generation is not None:
            return serving.starter.shell(generation).live
        drawn = serving.cache.rendered(click, opened=False)
        if drawn is not None:
            return drawn.live
        return serving.renderer.shell(PageView(key=click.key, title=click.title), click.page, {}).live

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
