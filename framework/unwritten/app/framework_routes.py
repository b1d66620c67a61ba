"""Our own routes: what an app answers under ``/_unwritten/``, whatever its pages are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Match, Mount, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from ..core.paths import OWN, STATIC_PREFIX, WRITE_PATH
from ..devtools.toolbar import developer_routes
from ..editing import edit_pages, history
from ..pictures.views import picture_routes
from ..security.signed_links import SIGNATURE
from ..web.boxes import box_routes
from ..web.framework_forms import read_form
from ..web.live_socket import LiveSocket
from ..web.monitoring import Health, metrics_endpoint

if TYPE_CHECKING:
    from .application import App

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


Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


class WellKnownRoutes(BaseRoute):
    """Some paths, such as ``/robots.txt``. A page for any address does not claim them; a route of just this path does.

    Args:
        app: the app whose own routes win.
        endpoints: what answers a GET, by path.
    """

    def __init__(self, app: App, endpoints: Mapping[str, Endpoint]) -> None:
        self._app = app
        self._routes = {path: Route(path, endpoint, methods=["GET"]) for path, endpoint in endpoints.items()}

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether a request is for one of the paths, and no route of the author's is."""
        route = self._routes.get(scope.get("path", "")) if scope["type"] == "http" else None
        if route is None or any(getattr(other, "path", None) == route.path for other in self._app.routes):
            return Match.NONE, {}
        return route.matches(scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        await self._routes[scope["path"]].handle(scope, receive, send)


RULES = f"""# Pages that are written may be read by anybody. What is not written yet is not there to be crawled.
User-agent: *
Disallow: /_unwritten/
Disallow: /*?{SIGNATURE}=
Disallow: /*&{SIGNATURE}=
"""


async def robots(request: Request) -> Response:
    """``/robots.txt``."""
    return PlainTextResponse(RULES, headers={"cache-control": "max-age=3600"})
