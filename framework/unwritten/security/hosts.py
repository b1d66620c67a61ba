"""Allowed hosts: the host names that this server responds to.

This prevents DNS rebinding, in which another site points its own host name to this machine and reads its pages as
same-origin content. Such requests carry that host name, and are refused.
"""

from __future__ import annotations

import functools
from urllib.parse import urlsplit

from starlette.types import Scope

from ..core.errors import BadURL
from .client_address import is_address, is_in_process, is_loopback


class AllowedHosts:
    """The host names that this server responds to.

    Args:
        names: The setting ``hosts``: names separated by commas, ``*.example.org`` for all subdomains, ``*`` for any.
            Empty: this machine's own names and addresses if ``bound`` is a loopback address, otherwise any.
        bound: The address that the server listens on.
    """

    def __init__(self, names: str, bound: str) -> None:
        self.names = tuple(name.strip().lower() for name in names.split(",") if name.strip())
        self._bound = bound.strip("[]").lower()
        self._any = "*" in self.names or (not self.names and not is_loopback(bound))

    def check(self, scope: Scope) -> None:
        """Check the host of a connection.

        Raises:
            BadURL: 421 if it is not allowed. The message names the setting that would allow it.
        """
        if self._any or (not self.names and is_in_process(scope)):
            return
        header = next((value for name, value in scope["headers"] if name == b"host"), None)
        host = _host_name(header.decode("latin-1")) if header is not None else ""
        if host is None or not self._allows(host):
            rejected = f"the host {host!r}" if host else "a request without a valid Host header"
            raise BadURL(
                f"This server does not respond to {rejected}. To allow it, start the server with "
                f"--hosts {host or 'NAME'}, or write App(…, hosts={(host or 'NAME')!r}).",
                421,
            )

    def _allows(self, host: str) -> bool:
        if is_loopback(host) or host == self._bound:
            return True
        if not self.names:
            # Rebinding needs a name, so addresses are safe. Old clients send no host.
            return is_address(host) or not host
        return any(host == name or (name.startswith("*.") and host.endswith(name[1:])) for name in self.names)


@functools.lru_cache(256)
def _host_name(header: str) -> str | None:
    """Return the name in a Host header without its port, or None if it cannot be parsed."""
    try:
        return (urlsplit(f"//{header}").hostname or "").rstrip(".")
    except ValueError:
        return None
