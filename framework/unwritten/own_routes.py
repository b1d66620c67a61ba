"""Our own routes: what an app answers under ``/_unwritten/``, whatever its pages are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Mount, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from .answering.live import LiveSocket
from .answering.pictures import picture_routes
from .answering.security import WRITE_PATH
from .answering.top_routes import WellKnownRoutes
from .assets import STATIC_PREFIX
from .developing.developer import developer_routes
from .editing import edit_pages, history
from .editing.own_forms import read_form
from .formats.boxes import box_routes
from .guarding.health import Health
from .guarding.metrics import metrics_endpoint
from .guarding.robots import robots

if TYPE_CHECKING:
    from .app import App

OWN = "/_unwritten/"
"""Where our own addresses begin. No page is there."""

_ROUTE = "unwritten_route"


class _Prefixed(BaseRoute):
    """Routes under our prefix, as one: what is asked for elsewhere, as most of it is, is not held to each of them."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._routes = routes

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """The first route that takes a request whole, or else the first that takes its path."""
        best: tuple[Match, Scope] = (Match.NONE, {})
        if not scope.get("path", "").startswith(OWN):
            return best
        for route in self._routes:
            match, child = route.matches(scope)
            if match.value > best[0].value:
                best = match, {**child, _ROUTE: route}
            if match is Match.FULL:
                break
        return best

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let that route answer."""
        await scope[_ROUTE].handle(scope, receive, send)


def framework_routes(app: App) -> list[BaseRoute]:
    """The routes of our own, for one app."""

    async def live(websocket: WebSocket) -> None:
        serving = await app.ready()
        await LiveSocket(serving, app.audience, websocket, app.settings).run()

    async def write(request: Request) -> Response:
        """Write a page that nobody has written, and lead to it."""
        form = await read_form(request)
        form.only({"page"})
        serving = await app.ready()
        return await serving.write(form.key(), request, app.pages)

    prefixed = [
        Mount(STATIC_PREFIX, app.static_files),
        WebSocketRoute(f"{OWN}live", live),
        *edit_pages.routes(app),
        *history.routes(app),
        Route(WRITE_PATH, write, methods=["POST"]),
        *developer_routes(app),
        *box_routes(app),
        *picture_routes(app),
    ]
    return [
        _Prefixed(prefixed),
        WellKnownRoutes(
            app, {"/robots.txt": robots, "/health": Health(app).answer, "/metrics": partial(metrics_endpoint, app)}
        ),
    ]
