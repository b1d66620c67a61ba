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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Scope

from unwritten_engine import About, Priority

from ..core.errors import Busy, UnwrittenError
from ..core.settings import Settings
from ..routing.resolver import PageResolver
from ..routing.routes import PageRequest
from ..security.client_address import client_id
from ..storage.pages import PageStore
from ..storage.records import UNOPENED
from .job_queue import JobQueue
from .job_starter import JobStarter
from .page_job import JobObserver, PageJob

log = logging.getLogger("unwritten")


GRACE = 3.0
"""Seconds that wishes outlive the tab that had them: a reload takes less."""


_NEARLY = 0.75
"""The share of a page's usual time from which on it is finished though nobody wishes for it."""


_BARREN = 1024
"""Links that are remembered as no pages to write ahead: a page function said no, or the writing failed."""


def is_prefetch_enabled(settings: Settings, about: About) -> bool:
    """Whether pages are written ahead: "auto" leaves it to whether the engine's work costs more than its time."""
    return bool(settings.ahead == "on" or (settings.ahead == "auto" and about.abilities.prefetch))


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A page that a reader may want next. ``order`` is where it comes among all: the lowest first."""

    key: str
    rank: int
    order: tuple[bool, bool, int, int]
    viewer: Viewer


@dataclass(frozen=True, slots=True)
class _Leads:
    """Where a page leads: the links that nobody has written, and how many pages stand ready that nobody has opened."""

    opened: bool
    keys: frozenset[str]
    unwritten: tuple[str, ...]
    ready: int


class Prefetcher(JobObserver):
    """Writes ahead for one app.

    Args:
        jobs: The queue.
        starter: Starts jobs.
        resolver: Resolves the pages behind links.
        store: The stored pages and their links.
        settings: ``ahead_per_visitor`` and ``ahead_limit``.

    Attributes:
        begun_ahead: how many pages were begun.
        taken_over: how many of them somebody clicked on before they were finished.
        lost: tokens of broken-off work ahead, about.
    """

    def __init__(
        self, *, jobs: JobQueue, starter: JobStarter, resolver: PageResolver, store: PageStore, settings: Settings
    ) -> None:
        self._jobs = jobs
        self._starter = starter
        self._resolver = resolver
        self._store = store
        self._settings = settings
        self._viewers: dict[Viewer, None] = {}  # in the order in which they came
        self._work: dict[str, PageJob] = {}
        self._barren: OrderedDict[str, None] = OrderedDict()
        self._leads: dict[str, _Leads] = {}
        self._stamp = -1
        self._task: asyncio.Task[None] | None = None
        self._again = False
        self.begun_ahead = 0
        self.taken_over = 0
        self.lost = 0

    # -- readers ------------------------------------------------------------------------------------------

    def on_view(self, viewer: Viewer, page: str, view: Sequence[str] = (), hover: str = "", press: str = "") -> None:
        """A reader has this page before them, and these of its links."""
        self._stay(viewer)
        viewer.page, viewer.view, viewer.hover, viewer.press = page, frozenset(view), hover, press
        self.arrange()

    def on_hide(self, viewer: Viewer, page: str) -> None:
        """A reader has left a page, or hides it. They may be back at once."""
        if viewer.page == page:
            self.on_close(viewer)

    def on_close(self, viewer: Viewer, grace: float = GRACE) -> None:
        """A reader is gone, and their wishes soon after."""
        self._stay(viewer)
        viewer.timer = asyncio.get_running_loop().call_later(grace, self._forget, viewer)

    def _stay(self, viewer: Viewer) -> None:
        if viewer.timer:
            viewer.timer.cancel()
            viewer.timer = None
        self._viewers[viewer] = None

    def _forget(self, viewer: Viewer) -> None:
        self._viewers.pop(viewer, None)
        viewer.page = viewer.fetched = ""
        self.arrange()

    async def prefetch(self, page_request: PageRequest) -> PageJob:
        """Write a page that a browser prefetches, if there is room for it.

        Raises:
            Busy: if there is none, or nothing is written ahead now.
        """
        theirs = sum(job.visitor == page_request.visitor for job in self._work.values())
        full = theirs >= self._settings.ahead_per_visitor or len(self._work) >= self._settings.ahead_limit
        if full or self._jobs.clicked or not page_request.route.prefetch:
            raise Busy("Nothing is written ahead for you just now. Click on the link to have the page written.", 10)
        viewer = Viewer(page_request.request.scope, fetched=page_request.key)
        job = await self._begin(page_request)
        self.on_close(viewer, self._settings.grace)
        self.arrange()
        return job

    # -- what happens to pages ----------------------------------------------------------------------------

    def on_promote(self, job: PageJob) -> None:
        """Somebody clicked: the work is theirs now."""
        if self._work.pop(job.key, None) is not None:
            self.taken_over += 1
            self.lost += job.lost

    def on_end(self, job: PageJob) -> None:
        """A page is written, or will not be: links turn, and there may be room for the next."""
        if self._work.get(job.key) is job:
            del self._work[job.key]
        if job.priority is Priority.PREFETCH:
            self.lost += job.lost
        if job.state == "failed":
            self._give_none(job.key)
        elif job.kept is not None:
            for viewer in self._viewers:
                if viewer.page and job.key in self._links(viewer.page).keys:
                    viewer.tell({"type": "written", "page": viewer.page, "links": [job.key]})
        asyncio.get_running_loop().call_soon(self.arrange)

    # -- what is to be written ----------------------------------------------------------------------------

    def arrange(self) -> None:
        """Give up what nobody wishes for, put what is at work in order, and begin what there is room for."""
        candidates = {candidate.key: candidate for candidate in self._candidates()}
        for key, job in list(self._work.items()):
            candidate = candidates.get(key)
            if candidate is not None:
                job.rank = candidate.rank
            elif not self._is_nearly_done(job):
                log.debug("%s was being written ahead, and nobody is near it any more", key)
                del self._work[key]
                self._jobs.cancel(job)
        self._jobs.reorder(HOVERED)
        self._again = True
        if self._task is None and any(self._is_free(key) for key in candidates):
            self._task = asyncio.create_task(self._write(), name="writing ahead")

    def _is_nearly_done(self, job: PageJob) -> bool:
        """Whether what is left of a page costs less than what would be thrown away. It is kept for whoever comes."""
        usual = self._jobs.seconds_per_page
        left = (2 - _NEARLY) * usual - job.seconds
        if job.seconds < _NEARLY * usual or left <= 0:
            return False
        asyncio.get_running_loop().call_later(left, self.arrange)  # unless it takes far longer than others
        return True

    def _candidates(self) -> list[_Candidate]:
        """What is to be written, within all bounds, the likeliest first."""
        by_visitor: dict[str, dict[str, _Candidate]] = defaultdict(dict)
        for viewer in self._viewers:
            for candidate in self._candidates_of(viewer):
                before = by_visitor[viewer.visitor].get(candidate.key)
                if before is None or candidate.order < before.order:
                    by_visitor[viewer.visitor][candidate.key] = candidate
        each = int(self._settings.ahead_per_visitor)
        found = [
            candidate
            for candidates in by_visitor.values()
            for candidate in sorted(candidates.values(), key=_order)[:each]
        ]
        best = {
            candidate.key: candidate for candidate in sorted(found, key=_order, reverse=True)
        }  # several may wish for the same
        return sorted(best.values(), key=_order)[: self._settings.ahead_limit]

    def _candidates_of(self, viewer: Viewer) -> Iterator[_Candidate]:
        if viewer.fetched in self._work:
            yield _Candidate(viewer.fetched, IN_VIEW, (True, False, IN_VIEW, 0), viewer)
        if not viewer.page:
            return
        leads = self._links(viewer.page)
        if not leads.opened:
            return  # nobody has opened it: what lies behind it is too far away
        candidates = []
        for position, key in enumerate(leads.unwritten):
            if key not in self._barren and (key in self._work or self._is_free(key)):
                rank = viewer.rank(key)
                # What is at work is not given up because somebody scrolls.
                candidates.append(
                    _Candidate(key, rank, (rank > HOVERED, key not in self._work, rank, position), viewer)
                )
        candidates.sort(key=_order)
        guesses = self._settings.ahead_per_visitor - leads.ready
        for candidate in candidates:
            if candidate.rank > HOVERED:
                if guesses <= 0:
                    return  # enough pages stand ready behind this one that nobody has opened
                guesses -= 1
            yield candidate

    def _links(self, page: str) -> _Leads:
        """Where a page leads. Asked of the store once for all readers, until something is written."""
        stamp = self._store.stamp()
        if stamp != self._stamp:
            self._stamp = stamp
            self._leads.clear()
        if page not in self._leads:
            own, *links = self._store.database.read(
                """SELECT l.target, v.opened_after, p.id FROM (
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
        return key not in self._work and self._jobs.get(key) is None

    # -- beginning ----------------------------------------------------------------------------------------

    async def _write(self) -> None:
        """Begin what there is room for. While a click is at work, nothing is begun."""
        tried: set[str] = set()
        try:
            while self._again and not self._jobs.clicked:
                self._again = False
                for candidate in self._candidates():
                    if candidate.key not in tried and self._is_free(candidate.key):
                        tried.add(candidate.key)
                        await self._try(candidate)
                        self._again = True  # much may have happened meanwhile
                        break
        except Busy as busy:
            log.debug("Nothing is written ahead: %s", busy)
        except Exception:
            log.exception("Writing ahead broke off")
        finally:
            self._task = None

    async def _try(self, candidate: _Candidate) -> None:
        """Ask the page function what a page needs, as a click would, and begin it."""
        try:
            page_request = await self._resolver.resolve_key(
                candidate.key, candidate.viewer.scope, referer=candidate.viewer.page
            )
        except Exception as error:  # an author's mistake, or an address that no page can have: a click will tell
            log.debug("%s is not written ahead: %s", candidate.key, error)
            page_request = None
        if (
            not isinstance(page_request, PageRequest)
            or page_request.key != candidate.key
            or not page_request.page.canvases
            or not page_request.route.prefetch
        ):
            self._give_none(candidate.key)
        elif self._store.exists([page_request.key]):
            return
        elif self._is_free(page_request.key) and any(candidate.key == other.key for other in self._candidates()):
            try:
                (await self._begin(page_request)).rank = candidate.rank
                self._jobs.reorder(HOVERED)
            except Busy:
                raise
            except UnwrittenError as error:
                log.debug("%s is not written ahead: %s", candidate.key, error)
                self._give_none(candidate.key)

    async def _begin(self, page_request: PageRequest) -> PageJob:
        job = await self._starter.start(page_request, priority=Priority.PREFETCH)
        if job.state in {"queued", "writing"}:
            self._work[page_request.key] = job
        self.begun_ahead += 1
        return job

    def _give_none(self, key: str) -> None:
        """Here is no page to write ahead."""
        self._barren[key] = None
        if len(self._barren) > _BARREN:
            self._barren.popitem(last=False)

    def close(self) -> None:
        """Wish for nothing any more."""
        for viewer in list(self._viewers):
            if viewer.timer:
                viewer.timer.cancel()
        self._viewers.clear()
        if self._task is not None:
            self._task.cancel()


def _order(candidate: _Candidate) -> tuple[bool, bool, int, int]:
    return candidate.order


PRESSED, HOVERED, IN_VIEW, GUESSED = range(4)
"""Ranks of links: under a pressed pointer, under one that rests, in view, and all others in the order of the page."""


@dataclass(eq=False)
class Viewer:
    """A tab, or a browser that prefetches.

    Args:
        scope: of its connection.
        tell: called with messages for the tab.
        fetched: a page that a browser has prefetched.

    Attributes:
        visitor: who it is; see ``visitor_of``.
        page: the page that is read; "" for none.
        view: its links that can be seen.
        hover: the link that the pointer rests on.
        press: the link that is pressed.
    """

    scope: Scope
    tell: Callable[[Mapping[str, Any]], None] = lambda message: None
    fetched: str = ""
    visitor: str = field(init=False)
    page: str = ""
    view: frozenset[str] = frozenset()
    hover: str = ""
    press: str = ""
    timer: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        self.visitor = client_id(self.scope)

    def rank(self, key: str) -> int:
        """How likely this link is the next."""
        if key == self.press:
            return PRESSED
        if key == self.hover:
            return HOVERED
        return IN_VIEW if key in self.view else GUESSED
