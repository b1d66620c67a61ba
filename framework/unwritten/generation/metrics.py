"""Counters of what the app generates, serves and refuses. ``web.monitoring`` shows them at ``/metrics``."""

from __future__ import annotations

import contextlib
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

from unwritten_engine.errors import EngineError, RequestRefused

from ..core.errors import Busy, Denied, OverBudget
from .page_job import JobObserver, PageJob
from .region_job import RegionJob

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0)
"""Upper bounds of a histogram's buckets, in seconds."""


class Histogram:
    """Counts durations by bucket.

    Attributes:
        counts: The number of observations in each bucket. The last bucket has no upper bound.
        sum: The sum of all observations, in seconds.
    """

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        """Return upper bounds with the number of observations up to each, as Prometheus expects them."""
        total, rows = 0, []
        for bound, count in zip([*map(str, BUCKETS), "+Inf"], self.counts, strict=True):
            total += count
            rows.append((bound, float(total)))
        return rows


class Metrics(JobObserver):
    """The counters of one app. A job's kind is "click" or "prefetch".

    Attributes:
        jobs_started: Jobs by kind.
        jobs_ended: Jobs by final state and kind.
        first_frame_seconds: Durations from submission to the first frame, by kind.
        page_seconds: Durations from submission to the stored page, by kind.
        tokens: Tokens of the stored pages.
        refused: Requests that were refused, by reason.
        engine_failures: Regions that the engine could not write.
        failures_in_a_row: How many of them since it last wrote a page.
        stored_pages_served: Stored pages that were served.
        connections: Open connections. 0 if the server does not count them.
        closed_connections: Connections that the server closed, by reason: what the client was too slow with ("header",
            "body", "send"), or "idle" if there were too many.
    """

    def __init__(self) -> None:
        self.jobs_started: Counter[str] = Counter()
        self.jobs_ended: Counter[tuple[str, str]] = Counter()
        self.first_frame_seconds: dict[str, Histogram] = {}
        self.page_seconds: dict[str, Histogram] = {}
        self.tokens = 0
        self.refused: Counter[str] = Counter()
        self.engine_failures = 0
        self.failures_in_a_row = 0
        self.stored_pages_served = 0
        self.connections = 0
        self.closed_connections: Counter[str] = Counter()
        self._submitted_at: dict[PageJob, float] = {}
        self._with_frames: set[PageJob] = set()

    def on_start(self, job: PageJob) -> None:
        """Count a new job of this process."""
        if job.follows or job in self._submitted_at:
            return
        self.jobs_started[_kind(job)] += 1
        self._submitted_at[job] = time.monotonic()

    def on_frame(self, job: PageJob, region_job: RegionJob) -> None:
        """Measure the time to the first frame of a job."""
        if job not in self._with_frames and job in self._submitted_at:
            self._with_frames.add(job)
            seconds = time.monotonic() - self._submitted_at[job]
            self.first_frame_seconds.setdefault(_kind(job), Histogram()).observe(seconds)

    def on_region_failed(self, job: PageJob, region_job: RegionJob, error: Exception) -> None:
        """Count what the engine could not write. Requests that it refuses are not its fault."""
        if isinstance(error, EngineError) and not isinstance(error, RequestRefused):
            self.engine_failures += 1
            self.failures_in_a_row += 1

    def on_end(self, job: PageJob) -> None:
        """Count an ended job, and its time and tokens if its page was stored."""
        submitted_at = self._submitted_at.pop(job, None)
        if submitted_at is None:  # another process counts it
            return
        self._with_frames.discard(job)
        state = "left" if job.cancel_reason == "abandoned" else job.state
        self.jobs_ended[state, _kind(job)] += 1
        if job.state == "written":
            self.failures_in_a_row = self.failures_in_a_row if job.reverted else 0
            self.page_seconds.setdefault(_kind(job), Histogram()).observe(time.monotonic() - submitted_at)
            provenance = job.provenance()
            self.tokens += provenance.tokens if provenance else 0

    @contextlib.contextmanager
    def refusals(self) -> Iterator[None]:
        """Count a ``Denied`` or ``Busy`` that is raised inside, by its reason."""
        try:
            yield
        except Denied:
            self.refused["denied"] += 1
            raise
        except Busy as refusal:
            self.refused[refusal.budget if isinstance(refusal, OverBudget) else "busy"] += 1
            raise


def _kind(job: PageJob) -> str:
    return job.priority.name.lower()
