"""Our routes at the top of the site, where everybody looks for them: an author's own route of the same path wins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

if TYPE_CHECKING:
    from ..app import App

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
