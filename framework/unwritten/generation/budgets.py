"""Budgets: how much generation one client, and all clients together, may cause.

Pages are charged when their jobs start, seconds when they end. Stored pages are free, and so is joining a running job.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from starlette.types import Scope

from ..core.errors import OverBudget
from ..core.settings import Settings
from ..security.exposure import Exposure
from ..security.rate_limits import ClientWindows, SlidingWindow
from .page_job import JobObserver, PageJob

HOUR, MINUTE = 3600.0, 60.0

VISITOR_BURST = 30
"""Maximum number of pages that one visitor may start within a minute, if other machines can reach the app."""

SEARCH_PAGES = 30
"""Maximum number of pages that one visitor may start within an hour by a search box or a button, if other machines can
reach the app."""

VISITOR_SOCKETS = 64
"""Maximum number of live sockets, one for each open tab, of one visitor, if other machines can reach the app."""

_MESSAGES = {
    "visitor_pages": "You have started {limit:g} new pages within an hour, which is the limit for one visitor.",
    "visitor_burst": "You have started {limit:g} new pages within a minute, which is the limit for one visitor.",
    "search_pages": "You have started {limit:g} new pages by search or by button within an hour, which is the limit "
    "for one visitor. Pages that others link to can still be opened by their links.",
    "visitor_seconds": "Your new pages took {limit:g} seconds within an hour, which is the limit for one visitor.",
    "engine_seconds": "New pages took {limit:g} seconds within an hour, which is the limit for all visitors together.",
}


class Budgets(JobObserver):
    """Tracks the spending of all clients, in memory.

    Args:
        settings: ``visitor_pages``, ``visitor_seconds`` and ``engine_seconds``.
        exposure: Until others than the owner can reach the app, only budgets that were set apply.
        clock: Returns monotonic seconds.
    """

    def __init__(self, settings: Settings, exposure: Exposure, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._exposure = exposure
        self._clock = clock
        self._fixed = {
            "visitor_burst": VISITOR_BURST,
            "search_pages": SEARCH_PAGES,
            "visitor_sockets": VISITOR_SOCKETS,
        }
        self._windows = {
            "visitor_pages": ClientWindows(HOUR),
            "visitor_burst": ClientWindows(MINUTE),
            "search_pages": ClientWindows(HOUR),
            "visitor_seconds": ClientWindows(HOUR),
        }
        self._all_clients = SlidingWindow(HOUR)
        self._running: set[PageJob] = set()

    def limit(self, budget: str, scope: Scope | None = None) -> float:
        """Return a budget's limit, or 0 if it has none.

        Args:
            budget: The budget.
            scope: The client's connection. Some have no limits; see ``Exposure.exempts``.
        """
        is_limited = self._exposure.is_public and not (scope is not None and self._exposure.exempts(scope))
        if budget in self._fixed:
            return self._fixed[budget] if is_limited else 0
        if is_limited or budget in self._settings.model_fields_set:
            return float(getattr(self._settings, budget))
        return 0

    def spend(self, client_id: str, *, searched: bool = False, share: float = 1.0, scope: Scope | None = None) -> None:
        """Charge a client for a page whose job is about to start.

        Args:
            client_id: See ``security.client_address.client_id``.
            searched: True if no page linked to it: it was requested by a search box or a button.
            share: The share of each budget that may be used. Prefetches leave the rest to clicks.
            scope: The client's connection; see ``limit``.

        Raises:
            OverBudget: If a budget is used up. Then nothing is charged.
        """
        now = self._clock()
        pages = ["visitor_pages", "visitor_burst", *(["search_pages"] if searched else [])]
        for budget in (*pages, "visitor_seconds", "engine_seconds"):
            self._check(budget, client_id, self.limit(budget, scope) * share, now)
        for budget in pages:
            if self.limit(budget, scope):
                self._windows[budget][client_id].add(now)

    def check_seconds(self, client_id: str) -> None:
        """Check that a client has seconds left, for work that is not a page, such as a picture.

        Raises:
            OverBudget: If a budget is used up.
        """
        now = self._clock()
        for budget in ("visitor_seconds", "engine_seconds"):
            self._check(budget, client_id, self.limit(budget), now)

    def charge(self, client_id: str, seconds: float) -> None:
        """Charge a client for seconds of work."""
        now = self._clock()
        self._windows["visitor_seconds"][client_id].add(now, seconds)
        self._all_clients.add(now, seconds)

    def on_start(self, job: PageJob) -> None:
        """Count a job's seconds as they pass."""
        self._running.add(job)

    def on_end(self, job: PageJob) -> None:
        """Charge a job's seconds to the client that started it."""
        self._running.discard(job)
        if job.seconds:
            self.charge(job.client_id, job.seconds)

    def _check(self, budget: str, client_id: str, limit: float, now: float) -> None:
        if not limit:
            return
        window = self._windows[budget][client_id] if budget in self._windows else self._all_clients
        if window.total(now) + self._running_seconds(budget, client_id) >= limit:
            # If only running jobs count, the time until they end is unknown: a minute is a guess.
            seconds = max(1, math.ceil(window.wait(now, limit) or MINUTE))
            raise OverBudget(f"{_MESSAGES[budget].format(limit=limit)} {_retry_hint(seconds)}", seconds, budget)

    def _running_seconds(self, budget: str, client_id: str) -> float:
        if budget == "visitor_seconds":
            return sum(job.seconds for job in self._running if job.client_id == client_id)
        return sum(job.seconds for job in self._running) if budget == "engine_seconds" else 0.0


def _retry_hint(seconds: int) -> str:
    delay = f"{seconds} seconds" if seconds < 100 else f"{math.ceil(seconds / 60)} minutes"
    return f"Try again in about {delay}. Pages that are already written can be read meanwhile."
