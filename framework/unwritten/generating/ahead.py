"""Written ahead: while somebody reads a page, the likeliest pages behind its links are written.

A tab says which page it shows, which of its links are in view, and which one the pointer is on (``near``); it says when
that is over (``away``). What it names only puts links in order: a page that the store does not know as a link of the
page that is shown is never written ahead, nor is anything behind a page that was written ahead and that nobody has
opened. Whatever nobody wishes for any more is given up. Whether there is a place for work ahead, and that clicks come
first, is the business of ``generations``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from unwritten_engine import About, Priority

from ..asking.clicks import Click, Clicks
from ..asking.routing import PageRoute
from ..errors import Busy, UnwrittenError
from ..settings import Settings
from ..showing.regions import UNOPENED
from .generation import Generation, Listener
from .readers import HOVERED, IN_VIEW, Reader

if TYPE_CHECKING:
    from ..answering.serving import Serving

log = logging.getLogger("unwritten")

GRACE = 3.0
"""Seconds that wishes outlive the tab that had them: a reload takes less."""

_NEARLY = 0.75
"""The share of a page's usual time from which on it is finished though nobody wishes for it."""

_BARREN = 1024
"""Links that are remembered as no pages to write ahead: a page function said no, or the writing failed."""


def writes_ahead(settings: Settings, about: About) -> bool:
    """Whether pages are written ahead: "auto" leaves it to whether the engine's work costs more than its time."""
    return bool(settings.ahead == "on" or (settings.ahead == "auto" and about.abilities.prefetch))


@dataclass(frozen=True, slots=True)
class _Wish:
    """A page that a reader may want next. ``order`` is where it comes among all: the lowest first."""

    key: str
    rank: int
    order: tuple[bool, bool, int, int]
    reader: Reader


@dataclass(frozen=True, slots=True)
class _Leads:
    """Where a page leads: the links that nobody has written, and how many pages stand ready that nobody has opened."""

    opened: bool
    keys: frozenset[str]
    unwritten: tuple[str, ...]
    ready: int


class Ahead(Listener):
    """Writes ahead for one app.

    Args:
        serving: begins pages, and knows those that are written.
        clicks: reads what a page needs.
        settings: ``ahead_per_visitor`` and ``ahead_limit``.
        routes: the app's pages.

    Attributes:
        begun_ahead: how many pages were begun.
        taken_over: how many of them somebody clicked on before they were finished.
        lost: tokens of broken-off work ahead, about.
    """

    def __init__(
        self, serving: Serving, clicks: Clicks, settings: Settings, routes: Callable[[], Sequence[PageRoute]]
    ) -> None:
        self._serving = serving
        self._clicks = clicks
        self._settings = settings
        self._routes = routes
        self._readers: dict[Reader, None] = {}  # in the order in which they came
        self._work: dict[str, Generation] = {}
        self._barren: OrderedDict[str, None] = OrderedDict()
        self._leads: dict[str, _Leads] = {}
        self._stamp = -1
        self._task: asyncio.Task[None] | None = None
        self._again = False
        self.begun_ahead = 0
        self.taken_over = 0
        self.lost = 0
        serving.generations.listeners.append(self)

    # -- readers ------------------------------------------------------------------------------------------

    def near(self, reader: Reader, page: str, view: Sequence[str] = (), hover: str = "", press: str = "") -> None:
        """A reader has this page before them, and these of its links."""
        self._stay(reader)
        reader.page, reader.view, reader.hover, reader.press = page, frozenset(view), hover, press
        self.arrange()

    def away(self, reader: Reader, page: str) -> None:
        """A reader has left a page, or hides it. They may be back at once."""
        if reader.page == page:
            self.leave(reader)

    def leave(self, reader: Reader, grace: float = GRACE) -> None:
        """A reader is gone, and their wishes soon after."""
        self._stay(reader)
        reader.timer = asyncio.get_running_loop().call_later(grace, self._forget, reader)

    def _stay(self, reader: Reader) -> None:
        if reader.timer:
            reader.timer.cancel()
            reader.timer = None
        self._readers[reader] = None

    def _forget(self, reader: Reader) -> None:
        self._readers.pop(reader, None)
        reader.page = reader.fetched = ""
        self.arrange()

    async def prefetch(self, click: Click) -> Generation:
        """Write a page that a browser prefetches, if there is room for it.

        Raises:
            Busy: if there is none, or nothing is written ahead now.
        """
        theirs = sum(generation.visitor == click.visitor for generation in self._work.values())
        full = theirs >= self._settings.ahead_per_visitor or len(self._work) >= self._settings.ahead_limit
        if full or self._serving.generations.clicks or not click.route.ahead:
            raise Busy("Nothing is written ahead for you just now. Click on the link to have the page written.", 10)
        reader = Reader(click.request.scope, fetched=click.key)
        generation = await self._begin(click)
        self.leave(reader, self._settings.grace)
        self.arrange()
        return generation

    # -- what happens to pages ----------------------------------------------------------------------------

    def hurried(self, generation: Generation) -> None:
        """Somebody clicked: the work is theirs now."""
        if self._work.pop(generation.key, None) is not None:
            self.taken_over += 1
            self.lost += generation.lost

    def ended(self, generation: Generation) -> None:
        """A page is written, or will not be: links turn, and there may be room for the next."""
        if self._work.get(generation.key) is generation:
            del self._work[generation.key]
        if generation.priority is Priority.PREFETCH:
            self.lost += generation.lost
        if generation.state == "failed":
            self._give_none(generation.key)
        elif generation.kept is not None:
            for reader in self._readers:
                if reader.page and generation.key in self._links(reader.page).keys:
                    reader.tell({"type": "written", "page": reader.page, "links": [generation.key]})
        asyncio.get_running_loop().call_soon(self.arrange)

    # -- what is to be written ----------------------------------------------------------------------------

    def arrange(self) -> None:
        """Give up what nobody wishes for, put what is at work in order, and begin what there is room for."""
        wishes = {wish.key: wish for wish in self._wishes()}
        for key, generation in list(self._work.items()):
            wish = wishes.get(key)
            if wish is not None:
                generation.rank = wish.rank
            elif not self._is_nearly_done(generation):
                log.debug("%s was being written ahead, and nobody is near it any more", key)
                del self._work[key]
                self._serving.generations.give_up(generation)
        self._serving.generations.rearrange(HOVERED)
        self._again = True
        if self._task is None and any(self._is_free(key) for key in wishes):
            self._task = asyncio.create_task(self._write(), name="writing ahead")

    def _is_nearly_done(self, generation: Generation) -> bool:
        """Whether what is left of a page costs less than what would be thrown away. It is kept for whoever comes."""
        usual = self._serving.generations.seconds_per_page
        left = (2 - _NEARLY) * usual - generation.seconds
        if generation.seconds < _NEARLY * usual or left <= 0:
            return False
        asyncio.get_running_loop().call_later(left, self.arrange)  # unless it takes far longer than others
        return True

    def _wishes(self) -> list[_Wish]:
        """What is to be written, within all bounds, the likeliest first."""
        by_visitor: dict[str, dict[str, _Wish]] = defaultdict(dict)
        for reader in self._readers:
            for wish in self._wishes_of(reader):
                before = by_visitor[reader.visitor].get(wish.key)
                if before is None or wish.order < before.order:
                    by_visitor[reader.visitor][wish.key] = wish
        each = int(self._settings.ahead_per_visitor)
        found = [wish for wishes in by_visitor.values() for wish in sorted(wishes.values(), key=_order)[:each]]
        best = {wish.key: wish for wish in sorted(found, key=_order, reverse=True)}  # several may wish for the same
        return sorted(best.values(), key=_order)[: self._settings.ahead_limit]

    def _wishes_of(self, reader: Reader) -> Iterator[_Wish]:
        if reader.fetched in self._work:
            yield _Wish(reader.fetched, IN_VIEW, (True, False, IN_VIEW, 0), reader)
        if not reader.page:
            return
        leads = self._links(reader.page)
        if not leads.opened:
            return  # nobody has opened it: what lies behind it is too far away
        wishes = []
        for position, key in enumerate(leads.unwritten):
            if key not in self._barren and (key in self._work or self._is_free(key)):
                rank = reader.rank(key)
                # What is at work is not given up because somebody scrolls.
                wishes.append(_Wish(key, rank, (rank > HOVERED, key not in self._work, rank, position), reader))
        wishes.sort(key=_order)
        guesses = self._settings.ahead_per_visitor - leads.ready
        for wish in wishes:
            if wish.rank > HOVERED:
                if guesses <= 0:
                    return  # enough pages stand ready behind this one that nobody has opened
                guesses -= 1
            yield wish

    def _links(self, page: str) -> _Leads:
        """Where a page leads. Asked of the store once for all readers, until something is written."""
        stamp = self._serving.store.stamp()
        if stamp != self._stamp:
            self._stamp = stamp
            self._leads.clear()
        if page not in self._leads:
            own, *links = self._serving.store.database.read(
                """SELECT l.target, v.ahead, p.id FROM (
                       SELECT ? AS target, -1 AS position UNION ALL SELECT target, position FROM links WHERE source = ?
                   ) l LEFT JOIN pages p ON p.key = l.target
                   LEFT JOIN versions v ON v.page = p.id AND v.number = p.version ORDER BY l.position""",
                (page, page),
            )
            self._leads[page] = _Leads(
                opened=own[2] is not None and own[1] != UNOPENED,
                keys=frozenset(key for key, _, _ in links),
                unwritten=tuple(key for key, _, row in links if row is None),
                ready=sum(ahead == UNOPENED for _, ahead, _ in links),
            )
        return self._leads[page]

    def _is_free(self, key: str) -> bool:
        """Whether nobody writes this page."""
        return key not in self._work and self._serving.generations.get(key) is None

    # -- beginning ----------------------------------------------------------------------------------------

    async def _write(self) -> None:
        """Begin what there is room for. While a click is at work, nothing is begun."""
        tried: set[str] = set()
        try:
            while self._again and not self._serving.generations.clicks:
                self._again = False
                for wish in self._wishes():
                    if wish.key not in tried and self._is_free(wish.key):
                        tried.add(wish.key)
                        await self._try(wish)
                        self._again = True  # much may have happened meanwhile
                        break
        except Busy as busy:
            log.debug("Nothing is written ahead: %s", busy)
        except Exception:
            log.exception("Writing ahead broke off")
        finally:
            self._task = None

    async def _try(self, wish: _Wish) -> None:
        """Ask the page function what a page needs, as a click would, and begin it."""
        scope = wish.reader.scope
        host = Headers(scope=scope).get("host", "").encode("latin-1")
        headers = [(b"host", host), (b"referer", b"http://" + host + wish.reader.page.encode())]
        try:
            click = await self._clicks.at(wish.key, self._routes(), headers, scope.get("client"))
        except Exception as error:  # an author's mistake, or an address that no page can have: a click will tell
            log.debug("%s is not written ahead: %s", wish.key, error)
            click = None
        if not isinstance(click, Click) or click.key != wish.key or not click.page.canvases or not click.route.ahead:
            self._give_none(wish.key)
        elif self._serving.store.exists([click.key]):
            return
        elif self._is_free(click.key) and any(wish.key == other.key for other in self._wishes()):
            try:
                (await self._begin(click)).rank = wish.rank
                self._serving.generations.rearrange(HOVERED)
            except Busy:
                raise
            except UnwrittenError as error:
                log.debug("%s is not written ahead: %s", wish.key, error)
                self._give_none(wish.key)

    async def _begin(self, click: Click) -> Generation:
        generation = await self._serving.launcher.begin(click, priority=Priority.PREFETCH)
        if generation.state in {"queued", "writing"}:
            self._work[click.key] = generation
        self.begun_ahead += 1
        return generation

    def _give_none(self, key: str) -> None:
        """Here is no page to write ahead."""
        self._barren[key] = None
        if len(self._barren) > _BARREN:
            self._barren.popitem(last=False)

    def close(self) -> None:
        """Wish for nothing any more."""
        for reader in list(self._readers):
            if reader.timer:
                reader.timer.cancel()
        self._readers.clear()
        if self._task is not None:
            self._task.cancel()


def _order(wish: _Wish) -> tuple[bool, bool, int, int]:
    return wish.order
