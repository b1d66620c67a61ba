"""Metrics: what the app has done, counted, in the form that Prometheus reads.

Counting needs nothing; showing the counts needs the extra ``metrics``. They tell strangers how busy an app is and by
which models, so only this machine may read them unless the setting ``metrics`` says otherwise.
"""

from __future__ import annotations

import contextlib
import importlib.util
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ..errors import Busy, Denied, OverBudget
from ..generating.generation import JobObserver, PageJob
from ..generating.writing import RegionJob
from .visitors import is_local_client

if TYPE_CHECKING:
    from ..app import App

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

    def begun(self, generation: PageJob) -> None:
        """A page is being written, or waits for its turn."""
        self.begun_pages[_kind_label(generation)] += 1
        self._since[generation] = time.monotonic()

    def framed(self, generation: PageJob, writing: RegionJob) -> None:
        """A region has its next frame."""
        if generation not in self._seen and generation in self._since:
            self._seen.add(generation)
            seconds = time.monotonic() - self._since[generation]
            self.first_frame.setdefault(_kind_label(generation), Histogram()).observe(seconds)

    def ended(self, generation: PageJob) -> None:
        """A page has come to its end."""
        since = self._since.pop(generation, time.monotonic())
        self._seen.discard(generation)
        state = "left" if generation.ending == "left" else generation.state
        self.ended_pages[state, _kind_label(generation)] += 1
        if generation.state == "written":
            self.written.setdefault(_kind_label(generation), Histogram()).observe(time.monotonic() - since)
            provenance = generation.provenance()
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


def _kind_label(generation: PageJob) -> str:
    return generation.priority.name.lower()


async def metrics_endpoint(app: App, request: Request) -> Response:
    """Answer ``/metrics``."""
    headers = {"cache-control": "no-store", "x-robots-tag": "noindex"}
    if not (app.settings.metrics or is_local_client(request.scope)):
        words = "Metrics are shown on this machine only. To show them to others, start the app with --metrics."
        return PlainTextResponse(f"{words}\n", 403, headers)
    if importlib.util.find_spec("prometheus_client") is None:
        words = 'Metrics need a library. Type: pip install "unwritten[metrics]"'
        return PlainTextResponse(f"{words}\n", 501, headers)
    await app.ready()
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
    from prometheus_client.registry import Collector

    class Counts(Collector):
        def collect(self) -> Iterator[Any]:
            return families(app)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Counts())
    return Response(generate_latest(registry), headers={**headers, "content-type": CONTENT_TYPE_LATEST})


def families(app: App) -> Iterator[Any]:
    """The counts of an app as Prometheus' families. Needs the library."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    serving = app.handler
    counts = serving.metrics

    def counter(name: str, words: str, labels: list[str], rows: list[tuple[list[str], float]]) -> CounterMetricFamily:
        family = CounterMetricFamily(f"unwritten_{name}", words, labels=labels)
        for values, number in rows:
            family.add_metric(values, number)
        return family

    begun = [([kind], float(number)) for kind, number in counts.begun_pages.items()]
    yield counter("pages_begun", "Pages whose writing was begun.", ["priority"], begun)
    ended = [([state, kind], float(number)) for (state, kind), number in counts.ended_pages.items()]
    yield counter("pages_ended", "Pages whose writing has ended, by how.", ["state", "priority"], ended)
    yield counter("tokens", "Tokens of the pages that were kept.", [], [([], float(counts.tokens))])
    yield counter("kept_pages_served", "Kept pages that were served.", [], [([], float(counts.kept_served))])
    refused = {**counts.refused, "host": app.connections.turned_away}
    rows = [([reason], float(number)) for reason, number in refused.items()]
    yield counter("refused", "What was not done, by reason.", ["reason"], rows)
    for name, words, histograms in (
        ("first_frame_seconds", "From the wish for a page to its first words.", counts.first_frame),
        ("written_seconds", "From the wish for a page to the kept page.", counts.written),
    ):
        family = HistogramMetricFamily(f"unwritten_{name}", words, labels=["priority"])
        for kind, histogram in histograms.items():
            family.add_metric([kind], histogram.cumulative(), histogram.sum)
        yield family
    running, waiting = serving.jobs.load
    yield GaugeMetricFamily("unwritten_pages_running", "Pages that are being written.", value=running)
    yield GaugeMetricFamily("unwritten_queue_length", "Pages that wait to be written.", value=waiting)
    yield GaugeMetricFamily("unwritten_sockets", "Open sockets.", value=sum(serving.sockets.values()))
