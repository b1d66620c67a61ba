"""Visitors: who is asking, as far as a server can tell without asking back."""

from __future__ import annotations

import functools
import ipaddress
from typing import TypeAlias

from starlette.types import Scope

from ..core.errors import BadSetting

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


FORWARDING_HEADERS = frozenset({b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip"})
"""Headers that say that somebody in between passes a request on."""


def client_id(scope: Scope) -> str:
    """Who is asking: the address of the connection.

    Of an IPv6 address the first 64 bits, which one household or server is given as a whole.

    Returns:
        The address as text; "" if the server does not know it.
    """
    client = scope.get("client")
    return _household(str(client[0])) if client else ""


@functools.lru_cache(1024)
def _household(host: str) -> str:
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
    """Whether a host's name or address is this machine's own, which nobody else can reach."""
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
    """Whether this is an IP address and not a name."""
    try:
        ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return True


def is_in_process(scope: Scope) -> bool:
    """Whether a request never went over a network: a test's client, say, whose server is a name. A server that really
    listens has an address, or the path of a socket."""
    server = scope.get("server")
    host = str(server[0]) if server else ""
    return bool(host) and not host.startswith("/") and not is_address(host)


def is_local_client(scope: Scope) -> bool:
    """Whether a request certainly comes from this very machine, and was not passed on for somebody else."""
    if any(name in FORWARDING_HEADERS for name, _ in scope["headers"]):
        return False
    server, client = scope.get("server"), scope.get("client")
    host = str(client[0]) if client else ""
    if is_in_process(scope):
        return not is_address(host) or is_loopback(host)  # a test may play a stranger
    return bool(server and client) and is_loopback(str(server[0])) and is_loopback(host)  # type: ignore[index]


class TrustedProxies:
    """The proxies whose word is taken for who is asking. Anybody can send such headers; only theirs count.

    Args:
        trusted: their addresses and networks, with commas between: ``127.0.0.1, 10.0.0.0/8``.

    Raises:
        BadSetting: if one of them is neither.
    """

    def __init__(self, trusted: str) -> None:
        self._networks = [_network(text.strip()) for text in trusted.split(",") if text.strip()]

    def __bool__(self) -> bool:
        return bool(self._networks)

    def apply(self, scope: Scope) -> Scope:
        """A connection as the trusted proxy in front saw it: its visitor, its scheme, and the host that was asked for.

        ``X-Forwarded-For`` is read from its end, where the nearest proxy wrote, past trusted ones only: what stands
        before the first that is not trusted may be anything.
        """
        client = scope.get("client")
        if not self._networks or not client or not self._trusts(str(client[0])):
            return scope
        headers = [(name, value) for name, value in scope["headers"] if name in FORWARDING_HEADERS]
        told = {name: value.decode("latin-1").rpartition(",")[2].strip() for name, value in headers}
        changed = dict(scope)
        hops = b",".join(value for name, value in headers if name == b"x-forwarded-for").decode("latin-1")
        for hop in reversed(hops.split(",")):
            host = _without_port(hop.strip())
            if not is_address(host):
                break  # who is before this cannot be told
            changed["client"] = (host, 0)
            if not self._trusts(host):
                break
        proto = told.get(b"x-forwarded-proto", "").lower()
        if proto in {"http", "https", "ws", "wss"}:
            changed["scheme"] = proto.replace("http", "ws") if scope["type"] == "websocket" else proto
        if told.get(b"x-forwarded-host"):
            host_header = (b"host", told[b"x-forwarded-host"].encode("latin-1"))
            changed["headers"] = [host_header, *(pair for pair in scope["headers"] if pair[0] != b"host")]
        return changed

    def _trusts(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return any((mapped or address) in network for network in self._networks)


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise BadSetting(
            f"The setting 'trusted_proxies' names {text!r}, which is no address and no network. Write addresses with "
            "commas between, such as 127.0.0.1, 10.0.0.0/8"
        ) from None


def _without_port(hop: str) -> str:
    """An address as it stands in ``X-Forwarded-For``, which may be ``192.0.2.1:443`` or ``[2001:db8::1]:443``."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
