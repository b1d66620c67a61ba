"""Health: whether the app can do its work, for whoever looks after it and for the program that starts it anew."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from unwritten_engine import EngineError

from ..errors import UnwrittenError

if TYPE_CHECKING:
    from ..answering.serving import PageHandler
    from ..app import App

_PATIENCE = 2.0
"""Seconds until a database that does not answer counts as one that cannot be written."""
_FRESH = 1.0
"""Seconds for which an answer is given again: asking often costs nothing."""


class Health:
    """Answers ``/health``.

    Args:
        app: whose health it is.
    """

    def __init__(self, app: App) -> None:
        self._app = app
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
            serving = await self._app.ready()
        except (UnwrittenError, EngineError):
            # What it says may name files: that is for the log.
            return {"status": "failing", "reason": "The app cannot be opened; its log says why."}
        running, waiting = serving.jobs.load
        writable = await _writable(serving)
        about = serving.engine.about
        return {
            "status": "ok" if writable else "failing",
            "engine": about.engine,
            "model": about.model,
            "running": running,
            "waiting": waiting,
            "sockets": sum(serving.sockets.values()),
            "store": "writable" if writable else "not writable",
            "uptime_seconds": round(time.monotonic() - self._since, 1),
        }


async def _writable(serving: PageHandler) -> bool:
    """Whether the database takes a transaction: an empty one, which needs the lock and writes nothing."""
    try:
        async with asyncio.timeout(_PATIENCE):
            await serving.store.database.write(lambda database: None)
    except (UnwrittenError, TimeoutError):
        return False
    return True
