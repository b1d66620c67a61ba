"""The apps in which an app is mounted: their middleware, state and routes count for the mounted app, too."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..routing.access import ACCESS_CHECK
from ..routing.routes import MountedNames


class OuterApp:
    """The outermost app around an app, as far as its connections have shown it.

    Args:
        inner: The mounted app.

    Attributes:
        lifespan_state: The state of the inner app's own lifespan. None: it has none.
        is_unknown: True if the lifespan of another app has started the inner one, and no request has come through it.
    """

    def __init__(self, inner: Starlette) -> None:
        self._inner = inner
        self._app: ASGIApp = inner
        self._root_path: str | None = None
        self.lifespan_state: Mapping[str, Any] | None = None
        self.is_unknown = False
        # What the state of all connections has had in common, so no middleware has added it for one of them.
        self._shared_state: Mapping[str, Any] | None = None

    def reset(self, *, is_unknown: bool) -> None:
        """Forget the app around the inner one, and the state of its lifespan: the inner app starts again.

        Args:
            is_unknown: True if the lifespan of another app starts the inner one.
        """
        self._app, self._root_path, self._shared_state = self._inner, None, None
        self.is_unknown = is_unknown

    @property
    def may_be_mounted(self) -> bool:
        """True if the inner app is mounted in another one, or may be."""
        return self._root_path is not None or self.is_unknown

    def enter(self, scope: Scope) -> Scope:
        """Return the scope of a connection that comes through a mount: ``request.url_for`` knows both apps' names."""
        if self._root_path is None:
            self._app = _outermost_app(scope)
            self._root_path = scope.get("app_root_path", scope.get("root_path", ""))
            self.is_unknown = False
        if ACCESS_CHECK not in scope:
            given, shared = scope.get("state") or {}, self._shared_state
            self._shared_state = dict(given) if shared is None else _same_values(given, shared)
        prefix = scope.get("root_path", "").removeprefix(scope.get("app_root_path", ""))
        return {**scope, "router": MountedNames(self._inner.router, scope["router"], prefix)}

    async def dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request of the framework itself as one from outside, through the middleware of all apps."""
        if self.is_unknown:
            await Response(status_code=503)(
                scope, receive, send
            )  # the middleware around the inner app is not known yet
            return
        if self.lifespan_state is not None:
            scope["state"] = dict(self.lifespan_state)
        else:
            scope["state"] = _same_values(scope["state"], self._shared_state or {})
        if self._root_path is not None:
            scope["root_path"] = self._root_path
        await self._app(scope, receive, send)


def _outermost_app(scope: Scope) -> ASGIApp:
    """Return the outermost app of a connection to a mounted app: a Starlette app, or a router without one.

    ``scope["app"]`` is the innermost Starlette app around the mounted one, and ``scope["router"]`` the outermost
    router, which does not know its app. So an app that is mounted more than once is looked for.
    """
    router: Any = scope["router"]
    while isinstance(router, MountedNames):
        router = router.outer
    app = scope.get("app")
    if isinstance(app, Starlette) and app.router is router:
        return app
    apps = (found for found in gc.get_objects() if issubclass(type(found), Starlette))
    found: ASGIApp = next((app for app in apps if app.router is router), router)
    return found


def _same_values(state: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a state that is the same in another one."""
    return {name: value for name, value in state.items() if name in other and other[name] is value}
