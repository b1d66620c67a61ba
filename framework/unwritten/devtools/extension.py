"""The developer tools extension: who may see the tools, the routes of the panel and the gallery, and live reload.

With ``debug`` every browser sees the tools; under ``unwritten run`` the owner does. Rendered pages do not
depend on them: the middleware inserts them into responses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from cachetools import LRUCache
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Scope

from unwritten_engine.errors import suggestion

from ..core.errors import BadURL
from ..core.settings import Settings
from ..core.tracing import Trace
from ..security.exposure import Exposure
from ..web.extension import Extension
from ..web.site import GetSite, Site
from .gallery import CASES, render_case
from .middleware import DevToolsMiddleware
from .panel import build_panel
from .recordings import FrameRecorder

MAX_TRACES = 64
"""Maximum number of pages whose last trace is remembered."""

_PARTS = ("panel", "frame", "errors")
"""Parts of the panel that devtools.js requests on their own."""

_LOOKS = {"light": "Light", "dark": "Dark", "phone": "Phone", "rtl": "Right to left"}
"""Parameters of the gallery that change how it looks, and their labels."""


class DevTools(Extension):
    """The developer tools of one app: panel, request traces, recorded frames and live reload.

    Args:
        settings: ``debug`` shows the tools to every browser.
        exposure: Recognizes the owner.

    Attributes:
        local: True if ``unwritten run`` restarts the app when its files change. Then the owner sees the tools.
        recorder: Records the frames of recent pages.
    """

    def __init__(self, settings: Settings, exposure: Exposure) -> None:
        self._settings = settings
        self._exposure = exposure
        self.local = False
        self.recorder = FrameRecorder()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._traces: LRUCache[str, Trace] = LRUCache(MAX_TRACES)
        self._site: Site | None = None

    def configure(self, settings: Settings, exposure: Exposure) -> None:
        """Replace the settings, before the app is built."""
        self._settings = settings
        self._exposure = exposure

    @property
    def is_enabled(self) -> bool:
        """True if anyone sees the tools: the app is being developed."""
        return self._settings.debug or self.local

    def is_visible(self, scope: Scope) -> bool:
        """True if the client of this connection may see the tools."""
        return self._settings.debug or (self.local and self._exposure.owner.owns(scope))

    def connect(self, site: Site) -> None:
        """Start recording, if anyone may see the result."""
        self._site = site
        if self.is_enabled:
            site.jobs.observe(self.recorder)

    async def close(self) -> None:
        """Release the site."""
        self._site = None

    def middleware(self, get_site: GetSite) -> list[Middleware]:
        """Return the middleware that inserts the tools into pages."""
        return [Middleware(DevToolsMiddleware, get_site, self.is_visible, self.add_trace)]

    def routes(self, get_site: GetSite) -> list[BaseRoute]:
        """Return the routes of the panel and of the gallery."""

        async def show(request: Request) -> Response:
            return await self._respond(request, await get_site())

        async def show_gallery(request: Request) -> Response:
            return self._respond_gallery(request, await get_site())

        return [
            Route("/developer", show, methods=["GET"], name="developer"),
            Route("/developer/gallery", show_gallery, methods=["GET"], name="gallery"),
        ]

    # -- traces -------------------------------------------------------------------------------------------

    def add_trace(self, trace: Trace) -> None:
        """Remember the trace of a request, if it was for a page. Call it in the app's event loop."""
        self._loop = asyncio.get_running_loop()
        if trace.key:
            self.recorder.mark_opened(trace.key)
            self._traces[trace.key] = trace

    # -- live reload --------------------------------------------------------------------------------------

    def refresh_soon(self) -> None:
        """Reload templates and static files, and notify every open page. May be called from any thread.

        Before the first request there are no open pages, and nothing is done.
        """
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._refresh)

    def _refresh(self) -> None:
        if self._site is not None:
            self._site.refresh()

    # -- the panel ----------------------------------------------------------------------------------------

    async def _respond(self, request: Request, site: Site) -> Response:
        """Respond with the panel of a page, or with a part of it for devtools.js.

        It shows the frame ``at`` of the chosen canvas, and the latest frame of the others.
        """
        self._check_visible(request)
        query = request.query_params
        unknown = sorted(set(query) - {"page", "canvas", "at", "bare"})
        key = query.get("page", "")
        if unknown or not key.startswith("/"):
            problem = f"has no parameter {unknown[0]!r}" if unknown else "needs the page: ?page=/wiki/Lighthouse"
            raise BadURL(f"The developer panel {problem}.")
        name = query.get("canvas", "")
        panel = build_panel(site, self.recorder.get(key), self._traces.get(key), key, {name: query.get("at", "")})
        canvas = next((canvas for canvas in panel.canvases if canvas.name == name), None)
        if name and canvas is None:
            raise BadURL(f"The page {key} has no canvas {name!r}.", 404)
        errors = [error for canvas in panel.canvases for error in canvas.errors]
        values = {"panel": panel, "canvas": canvas, "errors": errors, "title": f"Developer tools: {key}"}
        part = query.get("bare", "")
        if not part:
            return site.renderer.render("devtools/page.html", values)
        if part not in _PARTS or (part == "frame" and canvas is None):
            raise BadURL(f"The developer panel has no part {part!r}.{suggestion(part, _PARTS)}")
        return _part(site, part, values)

    def _check_visible(self, request: Request) -> None:
        if not self.is_visible(request.scope):
            raise BadURL(
                "The developer panel is only shown to the owner: open the URL that the server printed at its start.",
                404,
            )

    # -- the gallery --------------------------------------------------------------------------------------

    def _respond_gallery(self, request: Request, site: Site) -> Response:
        """Respond with the gallery, or with one of its texts for devtools.js.

        The text ``case`` is shown after ``at`` characters, and the others completely.
        """
        self._check_visible(request)
        query = request.query_params
        name = query.get("case", "")
        if name and name not in CASES:
            raise BadURL(f"The gallery has no text {name!r}.{suggestion(name, CASES)}", 404)
        looks = [look for look in _LOOKS if look in query]
        if name and "bare" in query:
            case = CASES[name]
            values = {"case": case, "frame": render_case(case, query.get("at", "")), "query": looks}
            return _part(site, "case", values)
        values = {
            "title": "Gallery",
            "cases": [
                (case, render_case(case, query.get("at", "") if case.name == name else "")) for case in CASES.values()
            ],
            "query": looks,
            "looks": [
                (look, label, "?" + urlencode(dict.fromkeys(set(looks) ^ {look}, 1))) for look, label in _LOOKS.items()
            ],
        }
        return site.renderer.render("devtools/gallery.html", values | ({"lang": "ar"} if "rtl" in looks else {}))


def _part(site: Site, name: str, values: Mapping[str, Any]) -> HTMLResponse:
    """Return a part of the tools as a response."""
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    html = site.renderer.templates.render(f"devtools/{name}.html", {**values, "root_path": site.mount.prefix})
    return HTMLResponse(html, headers=headers)
