"""The first middleware of every app: refuses unknown hosts, and records the prefix and exposure of the app."""

from __future__ import annotations

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ..core.errors import BadURL
from ..core.mount import MountPoint
from ..core.settings import Settings
from ..routing.access import ACCESS_CHECK
from ..routing.audience import current_connection
from ..security.client_address import FORWARDING_HEADERS, is_in_process
from ..security.exposure import Exposure
from ..security.hosts import AllowedHosts
from ..security.owner import OWNER_MARK
from ..security.signed_links import SIGNATURE_MARK, take_signature
from .transport import remember_transport
from .watchdog import Watchdog

_MAX_CHECKED = 1024
"""Connections whose checks are remembered."""


class ConnectionMiddleware:
    """Refuses unknown hosts, and removes the signature from the URL. Runs after the headers of proxies are applied.

    Args:
        app: The next ASGI app.
        settings: ``host`` and ``hosts``.
        exposure: Updated with each connection.
        mount: Updated with the prefix under which the app is served.
        watchdog: Started by the first connection over a network: only then the event loop runs all the time.
    """

    def __init__(
        self, app: ASGIApp, settings: Settings, exposure: Exposure, mount: MountPoint, watchdog: Watchdog
    ) -> None:
        self._app = app
        self._hosts = AllowedHosts(settings.hosts, settings.host)
        self._exposure = exposure
        self._mount = mount
        self._watchdog = watchdog
        self._checked: set[tuple[object, ...]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the next app, or refuse the connection."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        if ACCESS_CHECK in scope:  # made by the framework itself, on behalf of a connection that was checked
            await self._app(scope, receive, send)
            return
        connection = _direct_connection(scope)
        if connection is None or connection not in self._checked:
            try:
                self._hosts.check(scope)
            except BadURL as error:
                self._exposure.refused_hosts += 1
                await _refuse(error, scope, receive, send)
                return
            if not is_in_process(scope):
                self._watchdog.start()
            if connection is not None:
                if len(self._checked) >= _MAX_CHECKED:
                    self._checked.clear()
                self._checked.add(connection)
        if scope["type"] == "http" and OWNER_MARK in scope["query_string"]:
            scope, response = self._exposure.owner.sign_in(scope)
            if response is not None:
                await response(scope, receive, send)
                return
        if not self._exposure.is_public:
            self._exposure.observe(scope)
        if scope.get("root_path", "") != self._mount.root_path:
            self._mount.update(scope.get("root_path", ""))
        remember_transport(scope, receive)
        if scope["type"] == "http" and SIGNATURE_MARK in scope["query_string"]:
            scope = take_signature(scope)
        token = current_connection.set(scope)
        try:
            await self._app(scope, receive, send)
        finally:
            current_connection.reset(token)


def _direct_connection(scope: Scope) -> tuple[object, ...] | None:
    """Return what the checks of a connection depend on, or None if a proxy may have forwarded it.

    The checks of a connection between the same two machines for the same host have the same outcome every time.
    """
    host = b""
    for name, value in scope["headers"]:
        if name == b"host":
            host = value
        elif name in FORWARDING_HEADERS:
            return None
    client, server = scope.get("client"), scope.get("server")
    return host, client[0] if client else None, server[0] if server else None


async def _refuse(error: BadURL, scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse a connection in plain text. Pages are only for hosts that the app responds to."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": ""})  # before accept: the browser sees 403
        return
    await PlainTextResponse(f"{error}\n", error.status)(scope, receive, send)
