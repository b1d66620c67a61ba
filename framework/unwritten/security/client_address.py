"""Client addresses: identify the sender of a request, and whether it comes from this machine."""

from __future__ import annotations

import functools
import ipaddress

from starlette.types import Scope

FORWARDING_HEADERS = frozenset(
    {
        b"cf-connecting-ip",
        b"fastly-client-ip",
        b"fly-client-ip",
        b"forwarded",
        b"true-client-ip",
        b"via",
        b"x-client-ip",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-real-ip",
    }
)
"""Headers that show that a proxy has forwarded a request."""


def client_id(scope: Scope) -> str:
    """Return an identifier of the client for budgets and rate limits: the address of the connection.

    For IPv6 it is the /64 network, which is usually assigned to one household or server.

    Returns:
        The address or network as text. Empty if the server does not know it.
    """
    client = scope.get("client")
    return _network_of(str(client[0])) if client else ""


@functools.lru_cache(1024)
def _network_of(host: str) -> str:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


@functools.lru_cache(1024)
def is_loopback(host: str) -> bool:
    """True if a host name or address means this machine, and cannot be reached from another one."""
    name = host.strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


@functools.lru_cache(1024)
def is_address(host: str) -> bool:
    """True if this is an IP address, not a name."""
    try:
        ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return True


def is_in_process(scope: Scope) -> bool:
    """True if a request did not come over a network, but from a test client.

    A test client calls the server by a name. A server that listens has an address, or the path of a socket.
    """
    server = scope.get("server")
    host = str(server[0]) if server else ""
    return bool(host) and not host.startswith("/") and not is_address(host)


def is_local_client(scope: Scope) -> bool:
    """True if a request may come from this machine: from a loopback address, without a header that a proxy adds.

    A proxy that adds none looks the same, so nothing may be allowed for this reason alone.
    """
    if any(name in FORWARDING_HEADERS for name, _ in scope["headers"]):
        return False
    server, client = scope.get("server"), scope.get("client")
    host = str(client[0]) if client else ""
    if is_in_process(scope):
        return not is_address(host) or is_loopback(host)  # a test may pretend to be another machine
    return bool(server and client) and is_loopback(str(server[0])) and is_loopback(host)  # type: ignore[index]
