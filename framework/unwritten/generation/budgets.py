"""Budgets: how much one visitor, and all together, may have written.

Pages are counted when they are begun, and seconds of writing when they are over: nobody knows before what a page
takes. What is kept costs nothing, and neither does looking at a page that somebody else has begun.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from ..core.errors import OverBudget
from ..core.settings import Settings
from ..security.exposure import Exposure
from ..security.rate_limits import SlidingWindow
from .page_job import JobObserver, PageJob

HOUR, MINUTE = 3600.0, 60.0


_VISITORS = 20_000
"""Visitors whose spending is remembered; beyond that, that of who has been away the longest is forgotten."""


_WORDS = {
    "visitor_pages": "You have had {limit:g} new pages written within an hour, and that is as many as one visitor may.",
    "visitor_burst": "You have had {limit:g} new pages begun within a minute, and that is as many as one visitor may.",
    "search_pages": "You have had {limit:g} pages written by search or by button within an hour, which is as many as "
    "one visitor may. Pages that others link to can still be opened by their links.",
    "visitor_seconds": "The pages that you had written took {limit:g} seconds within an hour, and that is as much as "
    "one visitor may.",
    "engine_seconds": "All visitors together had {limit:g} seconds of writing within an hour, and that is as much as "
    "there is.",
}


class Budgets(JobObserver):
    """Keeps the accounts of all visitors, in memory.

    Args:
        settings: ``visitor_pages``, ``visitor_burst``, ``search_pages``, ``visitor_seconds`` and ``engine_seconds``.
        exposure: If only this machine can reach the app, only budgets that were set apply.
        clock: seconds that only rise.
    """

    def __init__(self, settings: Settings, exposure: Exposure, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._exposure = exposure
        self._clock = clock
        self._visitors: OrderedDict[str, dict[str, SlidingWindow]] = OrderedDict()
        self._everybody = SlidingWindow(HOUR)
        self._running: set[PageJob] = set()

    def limit(self, budget: str) -> float:
        """A budget in force; 0 for none."""
        if self._exposure.is_public or self._settings.was_given(budget):
            return float(getattr(self._settings, budget))
        return 0.0

    def spend(self, visitor: str, *, searched: bool = False, share: float = 1.0) -> None:
        """Charge a visitor for one page that is about to be begun, by a click or ahead of one.

        Args:
            visitor: see ``visitor_of``.
            searched: whether no page offered it: it was asked for by a search box or a button.
            share: of each budget that may be used up by now; what is written ahead leaves the rest to clicks.

        Raises:
            OverBudget: if that is too much; then nothing is charged.
        """
        now = self._clock()
        account = self._account(visitor)
        pages = ["visitor_pages", "visitor_burst", *(["search_pages"] if searched else [])]
        for budget in (*pages, "visitor_seconds", "engine_seconds"):
            self._hold(budget, account.get(budget, self._everybody), visitor, self.limit(budget) * share, now)
        for budget in pages:
            account[budget].add(now, 1)

    def afford(self, visitor: str) -> None:
        """Make sure that a visitor has seconds left for work that is no page: a picture.

        Raises:
            OverBudget: if not.
        """
        now, account = self._clock(), self._account(visitor)
        for budget in ("visitor_seconds", "engine_seconds"):
            self._hold(budget, account.get(budget, self._everybody), visitor, self.limit(budget), now)

    def charge(self, visitor: str, seconds: float) -> None:
        """Charge a visitor for seconds of such work."""
        now = self._clock()
        self._account(visitor)["visitor_seconds"].add(now, seconds)
        self._everybody.add(now, seconds)

    def on_start(self, job: PageJob) -> None:
        """A page is being written, or waits for its turn."""
        self._running.add(job)

    def on_end(self, job: PageJob) -> None:
        """A page has come to its end: its seconds are charged to who began it."""
        self._running.discard(job)
        if job.seconds:
            self.charge(job.visitor, job.seconds)

    def _hold(self, budget: str, window: SlidingWindow, visitor: str, limit: float, now: float) -> None:
        if limit and window.total(now) + self._going_on(budget, visitor) >= limit:
            # Pages that are being written count as they go on: when they are over can only be guessed.
            seconds = max(1, math.ceil(window.wait(now, limit) or MINUTE))
            raise OverBudget(f"{_WORDS[budget].format(limit=limit)} {_again(seconds)}", seconds, budget)

    def _going_on(self, budget: str, visitor: str) -> float:
        if budget == "visitor_seconds":
            return sum(g.seconds for g in self._running if g.visitor == visitor)
        return sum(g.seconds for g in self._running) if budget == "engine_seconds" else 0.0

    def _account(self, visitor: str) -> dict[str, SlidingWindow]:
        account = self._visitors.get(visitor)
        if account is None:
            times = {"visitor_pages": HOUR, "visitor_burst": MINUTE, "search_pages": HOUR, "visitor_seconds": HOUR}
            account = self._visitors[visitor] = {budget: SlidingWindow(seconds) for budget, seconds in times.items()}
            if len(self._visitors) > _VISITORS:
                self._visitors.popitem(last=False)
        self._visitors.move_to_end(visitor)
        return account


def _again(seconds: int) -> str:
    when = f"{seconds} seconds" if seconds < 100 else f"{math.ceil(seconds / 60)} minutes"
    return f"Try again in about {when}. Everything that is written can be read meanwhile."
