"""TODO."""

from __future__ import annotations

import contextlib
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

from ..core.errors import Busy, Denied, OverBudget
from .page_job import JobObserver, PageJob
from .region_job import RegionJob

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0)
"""Upper ends of the intervals in which seconds are counted."""


class Histogram:
    """Seconds, counted by interval.

    Attributes:
        counts: how many fell into each interval; the last one has no end.
        sum: all of them together.
    """

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        """Upper end and how many were not above it, as Prometheus wants them."""
        total, rows = 0, []
        for end, count in zip([*map(str, BUCKETS), "+Inf"], self.counts, strict=True):
            total += count
            rows.append((end, float(total)))
        return rows


class Metrics(JobObserver):
    """Counts.

    Attributes:
        begun: pages, by whether they were clicked or written ahead.
        ended: pages, by how they ended and whether they were clicked or written ahead.
        first_frame: seconds from the wish to the first words.
        written: seconds from the wish to the kept page.
        tokens: tokens of the kept pages.
        refused: what was not done, by reason.
        kept_served: kept pages that were served.
    """

    def __init__(self) -> None:
        self.begun_pages: Counter[str] = Counter()
        self.ended_pages: Counter[tuple[str, str]] = Counter()
        self.first_frame: dict[str, Histogram] = {}
        self.written: dict[str, Histogram] = {}
        self.tokens = 0
        self.refused: Counter[str] = Counter()
        self.kept_served = 0
        self._since: dict[PageJob, float] = {}
        self._seen: set[PageJob] = set()

    def on_start(self, job: PageJob) -> None:
        """A page is being written, or waits for its turn."""
        self.begun_pages[_kind_label(job)] += 1
        self._since[job] = time.monotonic()

    def on_frame(self, job: PageJob, region_job: RegionJob) -> None:
        """A region has its next frame."""
        if job not in self._seen and job in self._since:
            self._seen.add(job)
            seconds = time.monotonic() - self._since[job]
            self.first_frame.setdefault(_kind_label(job), Histogram()).observe(seconds)

    def on_end(self, job: PageJob) -> None:
        """A page has come to its end."""
        since = self._since.pop(job, time.monotonic())
        self._seen.discard(job)
        state = "left" if job.ending == "left" else job.state
        self.ended_pages[state, _kind_label(job)] += 1
        if job.state == "written":
            self.written.setdefault(_kind_label(job), Histogram()).observe(time.monotonic() - since)
            provenance = job.provenance()
            self.tokens += provenance.tokens if provenance else 0

    @contextlib.contextmanager
    def refusals(self) -> Iterator[None]:
        """Count it if a page may not be begun, by the reason."""
        try:
            yield
        except Denied:
            self.refused["denied"] += 1
            raise
        except Busy as refusal:
            self.refused[refusal.budget if isinstance(refusal, OverBudget) else "busy"] += 1
            raise


def _kind_label(job: PageJob) -> str:
    return job.priority.name.lower()
