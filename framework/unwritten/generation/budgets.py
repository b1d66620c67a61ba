"""Budgets: how much generation one client, and all clients together, may cause.

Pages are charged when their jobs start, seconds when they end. Stored pages are free, and so is joining a running job.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from starlette.types import Scope

from ..broker.base import BrokerListener
from ..core.errors import OverBudget
from ..core.localization import Text, join
from ..core.localization import gettext_lazy as _
from ..core.localization import ngettext_lazy as _n
from ..core.settings import Settings
from ..security.exposure import Exposure
from ..security.rate_limits import Charge, LocalWindows, Windows
from .page_job import JobObserver, PageJob

HOUR, MINUTE = 3600.0, 60.0

VISITOR_BURST = 30
"""Maximum number of pages that one visitor may start within a minute, if other machines can reach the app."""

SEARCH_PAGES = 30
"""Maximum number of pages that one visitor may start within an hour by a search box or a button, if other machines can
reach the app."""

VISITOR_SOCKETS = 64
"""Maximum number of live sockets, one for each open tab, of one visitor, if other machines can reach the app."""

_MESSAGES: Mapping[str, Callable[[float], Text]] = {
    "visitor_pages": lambda limit: _n(
        "You have started %(num)s new page within an hour, which is the limit for one visitor.",
        "You have started %(num)s new pages within an hour, which is the limit for one visitor.",
        limit,
    ),
    "visitor_burst": lambda limit: _n(
        "You have started %(num)s new page within a minute, which is the limit for one visitor.",
        "You have started %(num)s new pages within a minute, which is the limit for one visitor.",
        limit,
    ),
    "search_pages": lambda limit: _n(
        "You have started %(num)s new page by search or by button within an hour, which is the limit for one visitor. "
        "Pages that others link to can still be opened by their links.",
        "You have started %(num)s new pages by search or by button within an hour, which is the limit for one visitor. "
        "Pages that others link to can still be opened by their links.",
        limit,
    ),
    "visitor_seconds": lambda limit: _n(
        "Your new pages took %(num)s second within an hour, which is the limit for one visitor.",
        "Your new pages took %(num)s seconds within an hour, which is the limit for one visitor.",
        limit,
    ),
    "engine_seconds": lambda limit: _n(
        "New pages took %(num)s second within an hour, which is the limit for all visitors together.",
        "New pages took %(num)s seconds within an hour, which is the limit for all visitors together.",
        limit,
    ),
}


_READABLE = _("Pages that are already written can be read meanwhile.")

_SECONDS = {"visitor_pages": HOUR, "visitor_burst": MINUTE, "search_pages": HOUR, "visitor_seconds": HOUR}
"""The windows of the budgets of one visitor."""


class Budgets(JobObserver, BrokerListener):
    """Tracks the spending of all clients.

    Args:
        settings: ``visitor_pages``, ``visitor_seconds`` and ``engine_seconds``.
        exposure: Until others than the owner can reach the app, only budgets that were set apply.
        windows: Holds what was spent: in memory, or in the broker for all processes together.
    """

    def __init__(self, settings: Settings, exposure: Exposure, windows: Windows | None = None) -> None:
        self._settings = settings
        self._exposure = exposure
        self._windows = windows or LocalWindows()
        self._fixed = {
            "visitor_burst": VISITOR_BURST,
            "search_pages": SEARCH_PAGES,
            "visitor_sockets": VISITOR_SOCKETS,
        }
        self._charged: dict[PageJob, float] = {}  # of each running job, the seconds that are charged already

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

    async def spend(
        self, client_id: str, *, searched: bool = False, share: float = 1.0, scope: Scope | None = None
    ) -> None:
        """Charge a client for a page whose job is about to start.

        Args:
            client_id: See ``security.client_address.client_id``.
            searched: True if no page linked to it: it was requested by a search box or a button.
            share: The share of each budget that may be used. Prefetches leave the rest to clicks.
            scope: The client's connection; see ``limit``.

        Raises:
            OverBudget: If a budget is used up. Then nothing is charged.
            BrokerUnavailable: If budgets are counted by a broker that cannot be reached.
        """
        pages = ["visitor_pages", "visitor_burst", *(["search_pages"] if searched else [])]
        charges = [Charge(name, client_id, _SECONDS[name], self.limit(name, scope) * share, 1.0) for name in pages]
        await self._spend([*charges, *self._seconds(client_id, share, scope)])

    async def check_seconds(self, client_id: str) -> None:
        """Check that a client has seconds left, for work that is not a page, such as a picture.

        Raises:
            OverBudget: If a budget is used up.
            BrokerUnavailable: If budgets are counted by a broker that cannot be reached.
        """
        await self._spend(self._seconds(client_id))

    def charge(self, client_id: str, seconds: float) -> None:
        """Charge a client for seconds of work."""
        for charge in self._seconds(client_id):
            self._windows.add(replace(charge, amount=seconds))

    def on_start(self, job: PageJob) -> None:
        """Count a job's seconds as they pass."""
        if job.is_attended:
            self._charged.setdefault(job, 0.0)

    def on_heartbeat(self) -> None:
        """Charge the seconds of running jobs, so that other processes count them."""
        for job in self._charged:
            self._charge_job(job)

    def on_end(self, job: PageJob) -> None:
        """Charge a job's seconds to the client that started it."""
        if job in self._charged:
            self._charge_job(job)
            del self._charged[job]

    def _charge_job(self, job: PageJob) -> None:
        seconds = job.seconds - self._charged[job]
        if seconds:
            self._charged[job] += seconds
            self.charge(job.client_id, seconds)

    def _seconds(self, client_id: str, share: float = 1.0, scope: Scope | None = None) -> list[Charge]:
        """Return charges that check the seconds of a client and of all clients, and add nothing."""
        pending = [(job.client_id, job.seconds - charged) for job, charged in self._charged.items()]
        own = sum(seconds for client, seconds in pending if client == client_id)
        everyone = sum(seconds for _, seconds in pending)
        return [
            Charge("visitor_seconds", client_id, HOUR, self.limit("visitor_seconds", scope) * share, pending=own),
            Charge("engine_seconds", "", HOUR, self.limit("engine_seconds", scope) * share, pending=everyone),
        ]

    async def _spend(self, charges: Sequence[Charge]) -> None:
        refused = await self._windows.spend([charge for charge in charges if charge.limit])
        if refused is not None:
            charge, wait = refused
            # If only running jobs count, the time until they end is unknown: a minute is a guess.
            seconds = max(1, math.ceil(wait or MINUTE))
            message = _MESSAGES[charge.name](charge.limit)
            raise OverBudget(join(message, _retry_hint(seconds), _READABLE), seconds, charge.name)


def _retry_hint(seconds: int) -> Text:
    if seconds < 100:
        return _n("Try again in about %(num)s second.", "Try again in about %(num)s seconds.", seconds)
    minutes = math.ceil(seconds / 60)
    return _n("Try again in about %(num)s minute.", "Try again in about %(num)s minutes.", minutes)
