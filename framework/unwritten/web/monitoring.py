"""Health: whether the app can do its work, for whoever looks after it and for the program that starts it anew."""

from __future__ import annotations

import asyncio
import importlib.util
import time
from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from unwritten_engine import EngineError

from ..core.errors import UnwrittenError
from ..security.client_address import is_local_client
from .site import GetSite, Site

_PATIENCE = 2.0
"""Seconds until a database that does not answer counts as one that cannot be written."""


_FRESH = 1.0
"""Seconds for which an answer is given again: asking often costs nothing."""


class Health:
    """Answers ``/health``.

    Args:
        get_site: Returns the site.
    """

    def __init__(self, get_site: GetSite) -> None:
        self._get_site = get_site
        self._since = time.monotonic()
        self._last: tuple[float, dict[str, Any]] | None = None

    async def answer(self, request: Request) -> Response:
        """200 if pages can be written and kept, 503 if not; JSON either way."""
        now = time.monotonic()
        if self._last is None or now - self._last[0] > _FRESH:
            self._last = (now, await self._look())
        values = self._last[1]
        status = 200 if values["status"] == "ok" else 503
        return JSONResponse(values, status, {"cache-control": "no-store", "x-robots-tag": "noindex"})

    async def _look(self) -> dict[str, Any]:
        try:
            site = await self._get_site()
        except (UnwrittenError, EngineError):
            # What it says may name files: that is for the log.
            return {"status": "failing", "reason": "The app cannot be opened; its log says why."}
        running, waiting = site.jobs.load
        writable = await _writable(site)
        about = site.engine.about
        return {
            "status": "ok" if writable else "failing",
            "engine": about.engine,
            "model": about.model,
            "running": running,
            "waiting": waiting,
            "sockets": len(site.sockets),
            "store": "writable" if writable else "not writable",
            "uptime_seconds": round(time.monotonic() - self._since, 1),
        }


async def _writable(site: Site) -> bool:
    """Whether the database takes a transaction: an empty one, which needs the lock and writes nothing."""
    try:
        async with asyncio.timeout(_PATIENCE):
            await site.store.database.write(lambda database: None)
    except (UnwrittenError, TimeoutError):
        return False
    return True


async def metrics_endpoint(get_site: GetSite, request: Request) -> Response:
    """Answer ``/metrics``."""
    site = await get_site()
    headers = {"cache-control": "no-store", "x-robots-tag": "noindex"}
    if not (site.settings.metrics or is_local_client(request.scope)):
        words = "Metrics are shown on this machine only. To show them to others, start the app with --metrics."
        return PlainTextResponse(f"{words}\n", 403, headers)
    if importlib.util.find_spec("prometheus_client") is None:
        words = 'Metrics need a library. Type: pip install "unwritten[metrics]"'
        return PlainTextResponse(f"{words}\n", 501, headers)
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
    from prometheus_client.registry import Collector

    class Counts(Collector):
        def collect(self) -> Iterator[Any]:
            return families(site)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Counts())
    return Response(generate_latest(registry), headers={**headers, "content-type": CONTENT_TYPE_LATEST})


def families(site: Site) -> Iterator[Any]:
    """The counts of an app as Prometheus' families. Needs the library."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    counts = site.metrics

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
    refused = {**counts.refused, "host": site.exposure.refused_hosts}
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
    running, waiting = site.jobs.load
    yield GaugeMetricFamily("unwritten_pages_running", "Pages that are being written.", value=running)
    yield GaugeMetricFamily("unwritten_queue_length", "Pages that wait to be written.", value=waiting)
    yield GaugeMetricFamily("unwritten_sockets", "Open sockets.", value=len(site.sockets))
