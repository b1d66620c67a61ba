"""The app in which another is mounted: its middleware, its state and its routes count for the mounted app, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from ..routing.routes import MountedNames


class OuterApp:
    """The app in which an app is mounted, as far as its connections have shown it.

    Args:
        inner: The mounted app.

    Attributes:
        lifespan_state: The state of the inner app's own lifespan. None: it has none.
    """

    def __init__(self, inner: Starlette) -> None:
        self._inner = inner
        self._app: ASGIApp = inner
        self._root_path: str | None = None
        self.lifespan_state: Mapping[str, Any] | None = None

    @property
    def is_known(self) -> bool:
        """True if the inner app is mounted in another Starlette app."""
        return self._root_path is not None

    def enter(self, scope: Scope) -> Scope:
        """Return the scope of a connection that comes through a mount: ``request.url_for`` knows both apps' names."""
        outer = scope.get("app")
        if self._root_path is None and isinstance(outer, Starlette):
            self._app, self._root_path = outer, _root_path_of(outer, scope["root_path"])
        prefix = scope.get("root_path", "").removeprefix(scope.get("app_root_path", ""))
        return {**scope, "router": MountedNames(self._inner.router, scope["router"], prefix)}

    async def dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request of the framework itself as one from outside, through the middleware of both apps."""
        if self.lifespan_state is not None:
            scope["state"] = dict(self.lifespan_state)
        if self._root_path is not None:
            scope["root_path"] = self._root_path
        await self._app(scope, receive, send)


def _root_path_of(app: Starlette, root_path: str) -> str:
    """Return the root path of an app, from that of an app that is mounted in it."""
    paths = [route.path for route in app.routes if isinstance(route, Mount) and root_path.endswith(route.path)]
    return root_path.removesuffix(max(paths, key=len, default=""))
