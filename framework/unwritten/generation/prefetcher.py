"""The prefetcher: generates the likeliest next pages while a visitor reads the current one.

A browser tab reports the page that it shows, the links of it that are in view, and the link under the pointer. These
reports only order the links. A page is prefetched only if the stored page that is shown links to it, and only if that
page was opened: the links of prefetched pages are not followed. A prefetch that no viewer needs any more is cancelled.
``job_queue`` preempts prefetches for clicks.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from cachetools import LRUCache
from starlette.types import Scope

from unwritten_engine import About, Priority

from ..broker.base import BrokerListener
from ..core.errors import Busy, UnwrittenError
from ..core.localization import gettext_lazy as _
from ..core.paths import url_of_key
from ..core.settings import Settings
from ..core.tracebacks import log_error
from ..routing.access import KeyResolver
from ..routing.routes import PageRequest
from ..security.client_address import client_id
from ..storage.pages import PageStore
from ..storage.records import UNOPENED
from .job_queue import JobQueue
from .job_starter import JobStarter
from .page_job import JobObserver, PageJob

log = logging.getLogger("unwritten")

VIEWER_GRACE = 3.0
"""Seconds for which the prefetches of a closed tab continue. Reloading a page takes less time."""

PREFETCH_PER_VISITOR = 3
"""Maximum number of pages that are being prefetched for one visitor, or wait to be opened."""

PREFETCH_LIMIT = 12
"""Maximum number of pages that are being prefetched for all visitors together."""

_NEARLY_DONE = 0.75
"""The share of a page's usual time after which a prefetch is finished even if no viewer needs it."""

_MAX_REJECTED = 1024
"""Maximum number of pages that are excluded from prefetching because their page function or generation failed."""


def is_prefetch_enabled(settings: Settings, about: About) -> bool:
    """True if pages are prefetched. With ``prefetch=auto`` that depends on the engine: some charge for each token."""
    return settings.prefetch == "on" or (settings.prefetch == "auto" and about.abilities.prefetch)


class LinkRank(IntEnum):
    """How likely a link is to be clicked next. The lowest is the likeliest."""

    PRESSED = 0
    HOVERED = 1
    IN_VIEW = 2
    OTHER = 3


@dataclass(eq=False)
class Viewer:
    """A tab that shows a page, or a browser that prefetches one.

    Args:
        scope: Its connection.
        send: Called with messages for the tab.
        prefetched: The key of the page that the browser prefetches; "" for a tab.

    Attributes:
        client_id: The client; see ``security.client_address.client_id``.
        page: The key of the page that is shown; "" for none.
        visible_links: The keys of its links that are in view.
        hovered_link: The key of the link under the pointer; "" for none.
        pressed_link: The key of the link that is being pressed; "" for none.
        removal: The timer that removes the viewer after its tab was closed.
    """

    scope: Scope
    send: Callable[[Mapping[str, Any]], None] = lambda message: None
    prefetched: str = ""
    client_id: str = field(init=False)
    page: str = ""
    visible_links: frozenset[str] = frozenset()
    hovered_link: str = ""
    pressed_link: str = ""
    removal: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        self.client_id = client_id(self.scope)

    def link_rank(self, key: str) -> LinkRank:
        """Return how likely this link is to be clicked next."""
        key = url_of_key(key)
        if key == self.pressed_link:
            return LinkRank.PRESSED
        if key == self.hovered_link:
            return LinkRank.HOVERED
        return LinkRank.IN_VIEW if key in self.visible_links else LinkRank.OTHER


@dataclass(frozen=True, slots=True, order=True)
class _Candidate:
    """A page that a viewer may want next. Candidates are ordered by likelihood, the likeliest first.

    Attributes:
        is_guess: True unless the pointer is on the link.
        is_new: True unless it is being generated already. Scrolling does not cancel what runs.
        rank: The rank of the link.
        position: The position of the link on its page.
        key: The key of the page.
        viewer: The viewer.
    """

    is_guess: bool
    is_new: bool
    rank: LinkRank
    position: int
    key: str = field(compare=False)
    viewer: Viewer = field(compare=False)


@dataclass(frozen=True, slots=True)
class _PageLinks:
    """The links of a page, as the store knows them.

    Attributes:
        opened: True if a visitor has opened the page.
        keys: The keys that it links to.
        unwritten: Those of them that are not written, in the order of the page.
        num_unopened: How many of them were prefetched and not opened.
    """

    opened: bool
    keys: frozenset[str]
    unwritten: tuple[str, ...]
    num_unopened: int


class Prefetcher(JobObserver, BrokerListener):
    """Prefetches pages for one app.

    Attributes:
        num_promoted: How many prefetches became clicks before they were finished.
        discarded_tokens: About how many tokens of cancelled prefetches were thrown away.
    """

    def __init__(self, *, jobs: JobQueue, starter: JobStarter, resolver: KeyResolver, store: PageStore) -> None:
        self.num_promoted = 0
        self.discarded_tokens = 0
        self._jobs = jobs
        self._starter = starter
        self._resolver = resolver
        self._store = store
        self._viewers: dict[Viewer, None] = {}  # an ordered set
        self._prefetches: dict[str, PageJob] = {}
        self._rejected: LRUCache[str, None] = LRUCache(_MAX_REJECTED)
        self._links_by_page: dict[str, _PageLinks] = {}
        self._links_version = -1
        self._task: asyncio.Task[None] | None = None
        self._has_changed = False

    # -- viewers ------------------------------------------------------------------------------------------

    def on_view(
        self, viewer: Viewer, page: str, visible: Sequence[str] = (), hovered: str = "", pressed: str = ""
    ) -> None:
        """Record the page that a viewer shows, and which of its links are in view."""
        self._keep_viewer(viewer)
        viewer.page, viewer.visible_links = page, frozenset(visible)
        viewer.hovered_link, viewer.pressed_link = hovered, pressed
        self.reschedule()

    def on_hide(self, viewer: Viewer, page: str) -> None:
        """Record that a viewer has left a page or is in the background. It may come back soon."""
        if viewer.page == page:
            self.on_close(viewer)

    def on_close(self, viewer: Viewer, grace: float = VIEWER_GRACE) -> None:
        """Record that a viewer is gone. Its prefetches continue for ``grace`` seconds."""
        self._keep_viewer(viewer)
        viewer.removal = asyncio.get_running_loop().call_later(grace, self._remove_viewer, viewer)

    def _keep_viewer(self, viewer: Viewer) -> None:
        if viewer.removal:
            viewer.removal.cancel()
            viewer.removal = None
        self._viewers[viewer] = None

    def _remove_viewer(self, viewer: Viewer) -> None:
        self._viewers.pop(viewer, None)
        viewer.page = viewer.prefetched = ""
        self.reschedule()

    async def prefetch(self, page_request: PageRequest) -> PageJob:
        """Start generating a page because a browser prefetches it.

        Raises:
            Busy: If there is no room, the page must not be prefetched, or a click runs.
        """
        viewer = Viewer(page_request.request.scope, prefetched=page_request.key)
        own = sum(job.client_id == viewer.client_id for job in self._prefetches.values())
        full = own >= PREFETCH_PER_VISITOR or len(self._prefetches) >= PREFETCH_LIMIT
        if full or self._jobs.num_clicks or not page_request.route.prefetch:
            raise Busy(_("This page cannot be prefetched now. Click on the link to have the page written."), 10)
        job = await self._start(page_request)
        self.on_close(viewer, self._jobs.grace_period)
        self.reschedule()
        return job

    # -- jobs ---------------------------------------------------------------------------------------------

    def on_promote(self, job: PageJob) -> None:
        """Forget a prefetch that has become a click."""
        if self._prefetches.pop(job.key, None) is not None:
            self.num_promoted += 1
            self.discarded_tokens += job.discarded_tokens

    def on_end(self, job: PageJob) -> None:
        """Tell viewers which links lead to a written page now, and start the next prefetch."""
        if self._prefetches.get(job.key) is job:
            del self._prefetches[job.key]
        if job.priority is Priority.PREFETCH:
            self.discarded_tokens += job.discarded_tokens
        if job.state == "failed":
            self._reject(job.key)
        elif job.stored is not None:
            self._announce_written(job.key)
        asyncio.get_running_loop().call_soon(self.reschedule)

    def on_page_ended(self, key: str, state: str) -> None:
        """Tell viewers which links lead to a page that another process has written."""
        if state == "written":
            self._announce_written(key)
        self.reschedule()

    def on_other_clicks(self) -> None:
        """Start prefetches when no visitor waits in another process any more."""
        self.reschedule()

    def _announce_written(self, key: str) -> None:
        for viewer in self._viewers:
            if viewer.page and key in self._links(viewer.page).keys:
                viewer.send({"type": "written", "page": viewer.page, "links": [url_of_key(key)]})

    # -- choosing what to prefetch ------------------------------------------------------------------------

    def reschedule(self) -> None:
        """Cancel the prefetches that no viewer needs, put the others in order, and start new ones if there is room."""
        candidates = {candidate.key: candidate for candidate in self._candidates()}
        for key, job in list(self._prefetches.items()):
            candidate = candidates.get(key)
            if candidate is not None:
                job.link_rank = candidate.rank
            elif not self._is_nearly_done(job):
                log.debug("The prefetch of %s is cancelled: no viewer needs it", key)
                del self._prefetches[key]
                self._jobs.cancel_prefetch(job)
        self._jobs.reorder(LinkRank.HOVERED)
        self._has_changed = True
        if self._task is None and any(self._is_free(key) for key in candidates):
            self._task = asyncio.create_task(self._start_candidates(), name="prefetching")

    def _is_nearly_done(self, job: PageJob) -> bool:
        """True if finishing a page costs less than throwing it away. A visitor may still want it."""
        usual = self._jobs.seconds_per_page
        left = (2 - _NEARLY_DONE) * usual - job.seconds
        if job.seconds < _NEARLY_DONE * usual or left <= 0:
            return False
        asyncio.get_running_loop().call_later(left, self.reschedule)  # unless it takes far longer than usual
        return True

    def _candidates(self) -> list[_Candidate]:
        """Return what should be prefetched, within all limits, the likeliest first."""
        by_client: dict[str, dict[str, _Candidate]] = defaultdict(dict)
        for viewer in self._viewers:
            for candidate in self._candidates_of(viewer):
                before = by_client[viewer.client_id].get(candidate.key)
                if before is None or candidate < before:
                    by_client[viewer.client_id][candidate.key] = candidate
        found = [
            candidate for by_key in by_client.values() for candidate in sorted(by_key.values())[:PREFETCH_PER_VISITOR]
        ]
        # Several clients may want the same page: the likeliest candidate comes last and replaces the others.
        best = {candidate.key: candidate for candidate in sorted(found, reverse=True)}
        return sorted(best.values())[:PREFETCH_LIMIT]

    def _candidates_of(self, viewer: Viewer) -> Iterator[_Candidate]:
        if viewer.prefetched in self._prefetches:
            yield _Candidate(True, False, LinkRank.IN_VIEW, 0, viewer.prefetched, viewer)
        if not viewer.page:
            return
        links = self._links(viewer.page)
        if not links.opened:
            return
        candidates = []
        for position, key in enumerate(links.unwritten):
            if key not in self._rejected and (key in self._prefetches or self._is_free(key)):
                rank = viewer.link_rank(key)
                is_new = key not in self._prefetches
                candidates.append(_Candidate(rank > LinkRank.HOVERED, is_new, rank, position, key, viewer))
        candidates.sort()
        guesses = PREFETCH_PER_VISITOR - links.num_unopened
        for candidate in candidates:
            if candidate.is_guess:
                if guesses <= 0:
                    return  # enough prefetched pages behind this one wait to be opened
                guesses -= 1
            yield candidate

    def _links(self, page: str) -> _PageLinks:
        """Return the links of a page. They are read once, until a page is written."""
        data_version = self._store.data_version()
        if data_version != self._links_version:
            self._links_version = data_version
            self._links_by_page.clear()
        if page not in self._links_by_page:
            own, *links = self._store.database.read(
                """SELECT l.target, v.opened_after, p.id FROM (
                       SELECT ? AS target, -1 AS position UNION ALL SELECT target, position FROM links WHERE source = ?
                   ) l LEFT JOIN pages p ON p.key = l.target
                   LEFT JOIN versions v ON v.page = p.id AND v.number = p.version ORDER BY l.position""",
                (page, page),
            )
            self._links_by_page[page] = _PageLinks(
                opened=own[2] is not None and own[1] != UNOPENED,
                keys=frozenset(key for key, _, _ in links),
                unwritten=tuple(key for key, _, row in links if row is None),
                num_unopened=sum(opened_after == UNOPENED for _, opened_after, _ in links),
            )
        return self._links_by_page[page]

    def _is_free(self, key: str) -> bool:
        """True if no process generates this page."""
        return key not in self._prefetches and not self._jobs.is_active(key)

    # -- starting prefetches ------------------------------------------------------------------------------

    async def _start_candidates(self) -> None:
        """Start prefetches while there is room, and no click runs."""
        tried: set[str] = set()
        try:
            while self._has_changed and not self._jobs.num_clicks:
                self._has_changed = False
                for candidate in self._candidates():
                    if candidate.key not in tried and self._is_free(candidate.key):
                        tried.add(candidate.key)
                        await self._start_candidate(candidate)
                        self._has_changed = True  # candidates may have changed meanwhile
                        break
        except Busy as busy:
            log.debug("Nothing is prefetched: %s", busy)
        except Exception as error:
            log_error(log, "Prefetching failed", error)
        finally:
            self._task = None

    async def _start_candidate(self, candidate: _Candidate) -> None:
        """Resolve a candidate's page as a click would, and start generating it."""
        try:
            page_request = await self._resolver.resolve_key(
                candidate.key, candidate.viewer.scope, referer=candidate.viewer.page
            )
        except Exception as error:  # the page function raised, or no page can have the URL: a click will report it
            log.debug("%s is not prefetched: %s", candidate.key, error)
            page_request = None
        if (
            not isinstance(page_request, PageRequest)
            or page_request.key != candidate.key
            or not page_request.page.canvases
            or not page_request.route.prefetch
        ):
            self._reject(candidate.key)
        elif self._store.exists([page_request.key]):
            return
        elif self._is_free(page_request.key) and any(candidate.key == other.key for other in self._candidates()):
            try:
                job = await self._start(page_request)
                job.link_rank = candidate.rank
                self._jobs.reorder(LinkRank.HOVERED)
            except Busy:
                raise
            except UnwrittenError as error:
                log.debug("%s is not prefetched: %s", candidate.key, error)
                self._reject(candidate.key)

    async def _start(self, page_request: PageRequest) -> PageJob:
        job = await self._starter.start(page_request, priority=Priority.PREFETCH)
        if job.state in {"queued", "writing"}:
            self._prefetches[page_request.key] = job
        return job

    def _reject(self, key: str) -> None:
        """Exclude a page from prefetching."""
        self._rejected[key] = None

    def close(self) -> None:
        """Stop prefetching."""
        for viewer in self._viewers:
            if viewer.removal:
                viewer.removal.cancel()
        self._viewers.clear()
        if self._task is not None:
            self._task.cancel()
