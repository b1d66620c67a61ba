"""The framework's own routes: one mount under ``/_unwritten``, and a few well-known paths."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from starlette.datastructures import URLPath
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Match, Mount, NoMatchFound, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from ..core.assets import VersionedStaticFiles
from ..core.mount import MountPoint
from ..core.paths import FRAMEWORK_PREFIX, WELL_KNOWN_PATHS
from ..security.signed_links import SIGNATURE
from ..web.boxes import box_routes
from ..web.extension import Extension
from ..web.feed import Feed
from ..web.form_data import read_form
from ..web.live_socket import LiveSocket
from ..web.monitoring import Health, metrics_endpoint
from ..web.site import GetSite
from ..web.texts_route import texts_route
from ..web.uploads import upload_routes

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]

ROBOTS_TXT = f"""# Written pages may be crawled. Pages that are not written yet should not be.
User-agent: *
Disallow: {FRAMEWORK_PREFIX}
Disallow: /*?{SIGNATURE}=
Disallow: /*&{SIGNATURE}=
"""


def framework_mount(get_site: GetSite, static_files: VersionedStaticFiles, extensions: Sequence[Extension]) -> Mount:
    """Return the mount with the framework's routes.

    Args:
        get_site: Returns the site.
        static_files: The static files of the app and of the framework.
        extensions: Add routes of their own.
    """

    async def live(websocket: WebSocket) -> None:
        await LiveSocket(await get_site(), websocket).run()

    async def write(request: Request) -> Response:
        """Generate a page because a visitor pressed a button, and redirect to it."""
        form = await read_form(request)
        form.require_only({"page"})
        site = await get_site()
        return await site.handler.write(form.page_key(), request)

    return _FrameworkMount(
        FRAMEWORK_PREFIX.rstrip("/"),
        name="unwritten",
        routes=[
            Mount("/static", static_files, name="static"),
            WebSocketRoute("/live", live, name="live"),
            Route("/write", write, methods=["POST"], name="write"),
            texts_route(get_site),
            *box_routes(get_site),
            *upload_routes(get_site),
            *(route for extension in extensions for route in extension.routes(get_site)),
        ],
    )


class _FrameworkMount(Mount):
    """A mount that requests for pages pass at little cost."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match as Starlette does."""
        return super().matches(scope) if FRAMEWORK_PREFIX in scope["path"] else (Match.NONE, {})


class WellKnownRoutes(BaseRoute):
    """``/robots.txt``, ``/health``, ``/metrics`` and ``/feed.atom``. A route of the author with such a path goes first.

    Args:
        get_site: Returns the site.
        mount: The prefix under which the app is served.
        routes: The app's routes.
    """

    def __init__(self, get_site: GetSite, mount: MountPoint, routes: Sequence[BaseRoute]) -> None:
        endpoints: Sequence[Endpoint] = (
            robots,
            Health(get_site).respond,
            partial(metrics_endpoint, get_site),
            Feed(get_site).respond,
        )
        self._routes = {
            path: Route(path, endpoint, methods=["GET"])
            for path, endpoint in zip(WELL_KNOWN_PATHS, endpoints, strict=True)
        }
        self._mount = mount
        self._others = routes

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match one of the paths, unless the author has a route for it."""
        if not scope["path"].endswith(WELL_KNOWN_PATHS) or scope["type"] != "http":
            return Match.NONE, {}
        route = self._routes.get(self._mount.route_path(scope["path"]) or "")
        if route is None or any(getattr(other, "path", None) == route.path for other in self._others):
            return Match.NONE, {}
        return route.matches(scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle the request."""
        await self._routes[self._mount.route_path(scope["path"]) or ""].handle(scope, receive, send)

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        """Raise NoMatchFound: these routes have no names."""
        raise NoMatchFound(name, path_params)


async def robots(request: Request) -> Response:
    """Respond to ``/robots.txt``."""
    return PlainTextResponse(ROBOTS_TXT, headers={"cache-control": "max-age=3600"})
