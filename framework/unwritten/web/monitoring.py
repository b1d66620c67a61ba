"""``/health`` and ``/metrics``: whether the app can generate and store pages, and its counters for Prometheus."""

from __future__ import annotations

import asyncio
import importlib.util
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from unwritten_engine import EngineError

from ..core.errors import UnwrittenError
from ..core.settings import OWNER_VARIABLE
from ..generation.metrics import Histogram
from ..security.headers import NO_STORE
from .site import GetSite, Site

WRITE_TIMEOUT = 2.0
"""Seconds after which a database that does not respond counts as not writable."""

_CACHE_SECONDS = 1.0
"""Seconds for which a health check is reused, so that frequent requests cost nothing."""


class Health:
    """The endpoint ``/health``."""

    def __init__(self, get_site: GetSite) -> None:
        self._get_site = get_site
        self._started_at = time.monotonic()
        self._checked_at = float("-inf")
        self._values: dict[str, Any] = {}

    async def respond(self, request: Request) -> Response:
        """Respond with JSON: 200 if pages can be generated and stored, otherwise 503."""
        now = time.monotonic()
        if now - self._checked_at > _CACHE_SECONDS:
            self._checked_at, self._values = now, await self._check()
        return JSONResponse(self._values, 200 if self._values["status"] == "ok" else 503, NO_STORE)

    async def _check(self) -> dict[str, Any]:
        try:
            site = await self._get_site()
        except (UnwrittenError, EngineError):
            # The message may name files, so it belongs in the log only.
            return {"status": "failing", "reason": "The app cannot start. Its log has the reason."}
        running, waiting = site.jobs.load
        writable = site.settings.read_only or await _is_writable(site)
        about = site.engine.about
        return {
            "status": "draining" if site.draining else "ok" if writable else "failing",
            "engine": about.engine,
            "model": about.model,
            "running": running,
            "waiting": waiting,
            "sockets": len(site.sockets),
            "store": "read only" if site.settings.read_only else "writable" if writable else "not writable",
            "uptime_seconds": round(time.monotonic() - self._started_at, 1),
        }


async def _is_writable(site: Site) -> bool:
    """True if the database accepts a transaction. An empty one takes the lock and writes nothing."""
    try:
        async with asyncio.timeout(WRITE_TIMEOUT):
            await site.store.database.write(lambda database: None)
    except (UnwrittenError, TimeoutError):
        return False
    return True


async def metrics_endpoint(get_site: GetSite, request: Request) -> Response:
    """Respond to ``/metrics`` in Prometheus' text format: to the owner, or to all clients with ``--metrics``."""
    site = await get_site()
    if not (site.settings.metrics or site.exposure.owner.owns(request.scope)):
        message = (
            f"Metrics are served to the owner only: send the header 'Authorization: Bearer TOKEN' with the token of "
            f"{OWNER_VARIABLE}, or start the app with --metrics to serve them to all clients.\n"
        )
        return PlainTextResponse(message, 403, NO_STORE)
    if importlib.util.find_spec("prometheus_client") is None:
        message = 'Metrics need a library. Install it: pip install "unwritten[metrics]"\n'
        return PlainTextResponse(message, 501, NO_STORE)
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
    from prometheus_client.registry import Collector

    class SiteCollector(Collector):
        def collect(self) -> Iterator[Any]:
            return metric_families(site)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(SiteCollector())
    return Response(generate_latest(registry), headers={**NO_STORE, "content-type": CONTENT_TYPE_LATEST})


def metric_families(site: Site) -> Iterator[Any]:
    """Yield an app's counters as metric families of ``prometheus_client``, which must be installed."""
    from prometheus_client.core import GaugeMetricFamily

    metrics = site.metrics
    refused = {**metrics.refused, "host": site.exposure.refused_hosts}
    running, waiting = site.jobs.load
    started = [([kind], number) for kind, number in metrics.jobs_started.items()]
    yield _counter("pages_begun", "Pages whose generation was started.", ["priority"], started)
    ended = metrics.jobs_ended.items()
    yield _counter("pages_ended", "Pages whose generation has ended, by result.", ["state", "priority"], ended)
    yield _counter("tokens", "Tokens of the stored pages.", [], [([], metrics.tokens)])
    yield _counter("kept_pages_served", "Stored pages that were served.", [], [([], metrics.stored_pages_served)])
    reasons = [([reason], number) for reason, number in refused.items()]
    yield _counter("refused", "Requests that were refused, by reason.", ["reason"], reasons)
    yield _histogram(
        "first_frame_seconds", "From the request of a page to its first words.", metrics.first_frame_seconds
    )
    yield _histogram("written_seconds", "From the request of a page to the stored page.", metrics.page_seconds)
    yield GaugeMetricFamily("unwritten_pages_running", "Pages that are being generated.", value=running)
    yield GaugeMetricFamily("unwritten_queue_length", "Pages that wait to be generated.", value=waiting)
    yield GaugeMetricFamily("unwritten_sockets", "Open live sockets.", value=len(site.sockets))


def _counter(name: str, help: str, labels: list[str], values: Iterable[tuple[Sequence[str], int]]) -> Any:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(f"unwritten_{name}", help, labels=labels)
    for label_values, number in values:
        family.add_metric(list(label_values), float(number))
    return family


def _histogram(name: str, help: str, histograms: Mapping[str, Histogram]) -> Any:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(f"unwritten_{name}", help, labels=["priority"])
    for kind, histogram in histograms.items():
        family.add_metric([kind], histogram.cumulative(), histogram.sum)
    return family
