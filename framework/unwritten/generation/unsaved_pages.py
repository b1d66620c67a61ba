"""Finished pages that wait in memory because the database cannot be written, for example on a full disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from ..core.errors import Busy, StoreError
from ..core.localization import gettext_lazy as _
from .page_job import PageJob

log = logging.getLogger("unwritten")

MAX_PAGES = 256
"""Maximum number of pages that wait. Beyond that, no page is generated."""

MAX_BYTES = 64 * 1024 * 1024
"""Maximum size of these pages together, as text and as HTML."""

LOG_SECONDS = 60.0
"""Seconds between two log entries while pages wait."""


class UnsavedPages:
    """The finished pages of one app that wait to be saved.

    Args:
        clock: Returns monotonic seconds.

    Attributes:
        size: The size of all of them, in bytes.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.size = 0
        self._clock = clock
        self._sizes: dict[PageJob, int] = {}
        self._logged_at = float("-inf")

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, job: PageJob, error: StoreError) -> None:
        """Note that a page could not be saved. The log has one entry a minute."""
        if job not in self._sizes:
            self._sizes[job] = size = _size_of(job)
            self.size += size
        now = self._clock()
        if now - self._logged_at >= LOG_SECONDS:
            self._logged_at = now
            log.error("%s could not be stored, and is tried again (%d pages wait): %s", job.key, len(self), error)

    def discard(self, job: PageJob) -> None:
        """Note that a page does not wait any more."""
        size = self._sizes.pop(job, None)
        if size is None:
            return
        self.size -= size
        if not self._sizes:
            self._logged_at = float("-inf")
            log.warning("The database can be written again. No page waits to be saved.")

    def check_capacity(self) -> None:
        """Check that another page may be generated.

        Raises:
            Busy: If too many wait.
        """
        if len(self) >= MAX_PAGES or self.size >= MAX_BYTES:
            raise Busy(_("Too many finished pages wait to be saved. The server's log says why the database fails."), 60)


def _size_of(job: PageJob) -> int:
    regions = job.regions.values()
    return sum(len(region_job.frame.text) + 2 * len(region_job.formatted().html) for region_job in regions)
