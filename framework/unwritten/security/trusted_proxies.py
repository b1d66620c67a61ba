"""Trusted proxies: ASGI middleware that applies the X-Forwarded headers of proxies named in ``trusted_proxies``.

Every client can send these headers, so they count only if the connection comes from a trusted proxy.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Container
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from ..core.errors import BadSetting


class TrustedProxiesMiddleware:
    """Sets client, scheme and Host header to what a trusted proxy reports.

    X-Forwarded-For and -Proto are handled by uvicorn's middleware, which reads the former from the right and skips
    trusted proxies only. X-Forwarded-Host becomes the Host header.

    Args:
        app: The next ASGI app.
        trusted_proxies: The setting: addresses and networks, separated by commas.

    Raises:
        BadSetting: If one of them is neither an address nor a network.
    """

    def __init__(self, app: ASGIApp, trusted_proxies: str) -> None:
        inner: Any = app  # uvicorn has ASGI types of its own
        self._app = ProxyHeadersMiddleware(inner, _all_networks(trusted_proxies))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the next app with what the proxy reports about the connection."""
        client = scope.get("client")
        if client and client[0] in self._app.trusted_hosts:
            hosts = [value for name, value in scope["headers"] if name == b"x-forwarded-host"]
            if hosts:
                host = hosts[-1].rpartition(b",")[2].strip()
                scope["headers"] = [(b"host", host), *(pair for pair in scope["headers"] if pair[0] != b"host")]
        arguments: Any = (scope, receive, send)
        await self._app(*arguments)


def trusted_hosts(trusted_proxies: str) -> Container[str]:
    """Return the addresses of the setting, as a container.

    Raises:
        BadSetting: If one of them is neither an address nor a network.
    """
    return ProxyHeadersMiddleware(lambda scope, receive, send: None, _all_networks(trusted_proxies)).trusted_hosts  # type: ignore[arg-type,return-value]


def _all_networks(trusted_proxies: str) -> list[str]:
    return [network for text in trusted_proxies.split(",") if text.strip() for network in _networks(text)]


def _networks(text: str) -> list[str]:
    """Return an address or network as networks. An IPv4 network is also returned as IPv6 sockets report it."""
    try:
        network = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise BadSetting(
            f"The setting 'trusted_proxies' contains {text.strip()!r}, which is neither an address nor a network. "
            "Separate them by commas: 127.0.0.1, 10.0.0.0/8"
        ) from None
    if network.version == 6:
        return [str(network)]
    return [str(network), f"::ffff:{network.network_address}/{96 + network.prefixlen}"]
