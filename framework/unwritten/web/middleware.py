"""The first middleware of every app: which hosts it answers to, and who the client is."""

from __future__ import annotations

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ..core.errors import BadAddress
from ..core.mount import MountPoint
from ..core.settings import Settings
from ..security.client_address import TrustedProxies
from ..security.exposure import Exposure
from ..security.hosts import AllowedHosts
from ..security.signed_links import take_signature


class ConnectionMiddleware:
    """Refuses unknown hosts, applies the headers of trusted proxies, and takes the signature off the address.

    Args:
        app: The next ASGI app.
        settings: ``host``, ``hosts`` and ``trusted_proxies``.
        exposure: Learns whether other machines can reach the app.
        mount: Learns the prefix under which the app is served.

    Raises:
        BadSetting: If a setting cannot be parsed.
    """

    def __init__(self, app: ASGIApp, settings: Settings, exposure: Exposure, mount: MountPoint) -> None:
        self._app = app
        self._proxies = TrustedProxies(settings.trusted_proxies)
        self._hosts = AllowedHosts(settings.hosts, settings.host)
        self._exposure = exposure
        self._mount = mount

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the connection on, or refuse it."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        scope = self._proxies.seen(scope)
        try:
            self._hosts.check(scope)
        except BadAddress as error:
            self._exposure.refused_hosts += 1
            await _refuse(error, scope, receive, send)
            return
        self._exposure.observe(scope)
        self._mount.update(scope.get("root_path", ""))
        await self._app(take_signature(scope) if scope["type"] == "http" else scope, receive, send)


async def _refuse(error: BadAddress, scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse a connection in plain text: its host is not ours, and so is no page."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": ""})  # before accept: the browser sees 403
        return
    await PlainTextResponse(f"{error}\n", error.status)(scope, receive, send)
