"""``/health`` and ``/metrics``: whether the app can do its work, and its state and counters for Prometheus."""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from unwritten_engine import EngineError

from ..core.errors import StoreFull, UnwrittenError
from ..core.process import max_descriptors, num_descriptors, resident_bytes
from ..core.settings import OWNER_VARIABLE
from ..generation.metrics import Histogram
from ..security.headers import NO_STORE
from .site import GetSite, Site

WRITE_TIMEOUT = 2.0
"""Seconds after which a database or disk that does not respond counts as not writable."""

LOW_DISK_BYTES = 256 * 1024 * 1024
"""Free space of the database's disk below which the app is degraded."""

MAX_FAILURES = 3
"""How often in a row the engine may fail until the app is degraded."""

MAX_DESCRIPTOR_SHARE = 0.9
"""Share of the allowed file descriptors above which the app is degraded."""

STALL_MEMORY = 60.0
"""Seconds for which the app is degraded after its event loop was blocked."""

_CACHE_SECONDS = 1.0
"""Seconds for which a health check is reused, so that frequent requests cost nothing."""

_PROBE_BYTES = 64 * 1024
"""Bytes that are written to see whether the disk is full. SQLite writes about as much for a page."""

StoreState: TypeAlias = Literal["writable", "read only", "full", "not writable"]


class Health:
    """The endpoint ``/health``."""

    def __init__(self, get_site: GetSite) -> None:
        self._get_site = get_site
        self._started_at = time.monotonic()
        self._checked_at = float("-inf")
        self._values: dict[str, Any] = {}
        self._checking = asyncio.Lock()
        self._stalls = (0, float("-inf"))

    async def respond(self, request: Request) -> Response:
        """Respond with JSON. The status is 503 if this process should get no requests, otherwise 200."""
        async with self._checking:
            if time.monotonic() - self._checked_at > _CACHE_SECONDS:
                self._values = await self._check()
                self._checked_at = time.monotonic()
        return JSONResponse(self._values, 503 if self._values["status"] in {"failing", "draining"} else 200, NO_STORE)

    async def _check(self) -> dict[str, Any]:
        try:
            site = await self._get_site()
        except (UnwrittenError, EngineError):
            # The message may name files, so it belongs in the log only.
            return {"status": "failing", "reason": "The app cannot start. Its log has the reason."}
        store, disk_free = await store_state(site), free_disk_bytes(site)
        descriptors, max_open = num_descriptors(), max_descriptors()
        problems = {
            "store": store in {"full", "not writable"},
            "disk": disk_free is not None and disk_free < LOW_DISK_BYTES,
            "unsaved_pages": len(site.jobs.unsaved) > 0,
            "engine": site.metrics.failures_in_a_row >= MAX_FAILURES,
            "descriptors": descriptors is not None and descriptors > MAX_DESCRIPTOR_SHARE * max_open,
            "event_loop": self._has_stalled(site),
            "broker": site.broker.state == "unavailable",
        }
        failing = problems["store"]
        running, waiting = site.jobs.load
        about = site.engine.about
        status = "failing" if failing else "degraded" if any(problems.values()) else "ok"
        return {
            "status": "draining" if site.draining else status,
            "problems": [name for name, found in problems.items() if found],
            "engine": about.engine,
            "model": about.model,
            "engine_failures_in_a_row": site.metrics.failures_in_a_row,
            "running": running,
            "waiting": waiting,
            "sockets": len(site.sockets),
            "connections": site.metrics.connections,
            "store": store,
            "broker": site.broker.state,
            "unsaved_pages": len(site.jobs.unsaved),
            "disk_free_bytes": disk_free,
            "descriptors": descriptors,
            "max_descriptors": max_open,
            "stalls": site.watchdog.stalls,
            "longest_stall_seconds": round(site.watchdog.longest, 3),
            "resident_bytes": resident_bytes(),
            "uptime_seconds": round(time.monotonic() - self._started_at, 1),
        }

    def _has_stalled(self, site: Site) -> bool:
        """True if the event loop was blocked within the last minute, as far as the checks have seen."""
        known, at = self._stalls
        if site.watchdog.stalls != known:
            self._stalls = known, at = site.watchdog.stalls, time.monotonic()
        return time.monotonic() - at < STALL_MEMORY


async def store_state(site: Site) -> StoreState:
    """Return whether pages can be stored now.

    An empty transaction takes the lock and writes nothing, so the disk is tried with a temporary file beside the
    database: a real transaction would make all cached pages stale.
    """
    if site.settings.read_only:
        return "read only"
    try:
        async with asyncio.timeout(WRITE_TIMEOUT):
            await site.store.database.write(lambda database: None)
            return await asyncio.to_thread(_probe_disk, _folder(site))
    except StoreFull:
        return "full"
    except (UnwrittenError, TimeoutError):
        return "not writable"


def _probe_disk(folder: Path | None) -> StoreState:
    """Write a temporary file. It has no name where the system allows that, so that nothing is left behind."""
    if folder is None:
        return "writable"
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(bytes(_PROBE_BYTES))
    except OSError as error:
        return "full" if error.errno in {errno.ENOSPC, errno.EDQUOT} else "not writable"
    return "writable"


def free_disk_bytes(site: Site) -> int | None:
    """Return the free space of the disk with the database, or None if the database is elsewhere."""
    folder = _folder(site)
    try:
        return None if folder is None else shutil.disk_usage(folder).free
    except OSError:
        return None


def _folder(site: Site) -> Path | None:
    location = site.store.database.location
    return location.absolute().parent if isinstance(location, Path) else None


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
    yield GaugeMetricFamily("unwritten_connections", "Open connections.", value=metrics.connections)
    closed = [([reason], number) for reason, number in metrics.closed_connections.items()]
    help = "Connections that were closed, by what the client was too slow with, or idle if there were too many."
    yield _counter("connections_closed", help, ["reason"], closed)
    yield from _state_families(site)


def _state_families(site: Site) -> Iterator[Any]:
    """Yield the state of the engine, of the event loop and of what the process depends on."""
    from prometheus_client.core import GaugeMetricFamily

    metrics, watchdog, unsaved = site.metrics, site.watchdog, site.jobs.unsaved
    yield _counter("engine_failures", "Regions that the engine could not write.", [], [([], metrics.engine_failures)])
    yield _counter("event_loop_stalls", "How often the event loop was blocked.", [], [([], watchdog.stalls)])
    yield _counter("event_loop_stall_seconds", "How long it was blocked in all.", [], [([], watchdog.total)])
    gauges: dict[str, tuple[str, float | None]] = {
        "engine_failures_in_a_row": ("Failures since the last page that was written.", metrics.failures_in_a_row),
        "event_loop_longest_stall_seconds": ("The longest time that the event loop was blocked.", watchdog.longest),
        "unsaved_pages": ("Finished pages that wait to be saved.", len(unsaved)),
        "unsaved_bytes": ("Their size.", unsaved.size),
        "disk_free_bytes": ("Free space of the disk with the database.", free_disk_bytes(site)),
        "open_descriptors": ("Open files and connections.", num_descriptors()),
        "max_descriptors": ("How many may be open.", max_descriptors()),
        "resident_memory_bytes": ("Memory that the process has in use.", resident_bytes()),
    }
    for name, (help, value) in gauges.items():
        if value is not None:
            yield GaugeMetricFamily(f"unwritten_{name}", help, value=value)


def _counter(name: str, help: str, labels: list[str], values: Iterable[tuple[Sequence[str], float]]) -> Any:
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
