"""Freshness: which texts of a stored page are older than its author allows.

A text that a person has changed is not generated again: it stays until someone regenerates it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..routing.routes import PageRequest
from ..storage.pages import PageStore
from ..storage.records import StoredPage, Version

_BY_PEOPLE = frozenset({"by hand", "asked", "restored"})
"""Kinds of changes that a person has made."""

_VERSIONS_READ = 32
"""Number of versions that are read at a time."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """How old the texts of a stored page are.

    Attributes:
        as_of: When the oldest text that will be generated again was generated, in UTC.
        stale_at: When each text becomes stale, by its canvas, in seconds of the wall clock.
    """

    as_of: datetime
    stale_at: Mapping[str, float]

    @property
    def expires_at(self) -> float:
        """When the first text becomes stale, in seconds of the wall clock."""
        return min(self.stale_at.values())

    def stale(self) -> set[str]:
        """Return the canvases whose texts are stale now."""
        now = time.time()
        return {name for name, at in self.stale_at.items() if at <= now}


def fresh_canvases(page_request: PageRequest) -> dict[str, timedelta]:
    """Return how old the texts of a page may become, by canvas. Canvases whose texts stay are left out."""
    common = page_request.route.fresh
    return {
        name: fresh
        for name, canvas in page_request.page.canvases.items()
        if (fresh := canvas.fresh or common) is not None
    }


def freshness_of(page_request: PageRequest, stored: StoredPage, store: PageStore) -> Freshness | None:
    """Return how old the texts of a page are. None if none of them will be generated again."""
    fresh = fresh_canvases(page_request)
    if not fresh:
        return None
    written_at = {
        name: version.written_at
        for name, version in _last_changes(store, stored, fresh).items()
        if version.change.kind not in _BY_PEOPLE
    }
    if not written_at:
        return None
    stale_at = {name: _later(at, fresh[name]) for name, at in written_at.items()}
    return Freshness(min(written_at.values()), stale_at)


def _later(at: datetime, fresh: timedelta) -> float:
    return at.timestamp() + fresh.total_seconds()


def _last_changes(store: PageStore, stored: StoredPage, names: Iterable[str]) -> dict[str, Version]:
    """Return the newest version that has changed each of these canvases."""
    found: dict[str, Version] = {}
    missing = {name for name in names if name in stored.canvases}
    before = stored.version + 1
    while missing and (versions := store.history(stored.key, _VERSIONS_READ, before)):
        for version in versions:
            changed = missing.intersection(version.change.regions) if version.change.regions else set(missing)
            found.update(dict.fromkeys(changed, version))
            missing -= changed
        before = versions[-1].number
    return found
