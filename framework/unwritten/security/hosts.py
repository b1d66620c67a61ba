"""Hosts: the names under which this server answers.

A page elsewhere can give its own name the address of this machine, once a browser has loaded it, and then read from
here as if it were at home. Such a request carries that name: who does not answer to it is safe.
"""

from __future__ import annotations

import functools
from urllib.parse import urlsplit

from starlette.types import Scope

from ..core.errors import BadAddress
from .client_address import is_address, is_in_process, is_loopback


class AllowedHosts:
    """The names that are answered to.

    Args:
        names: the setting: names with commas between, ``*.example.org`` for all below one, ``*`` for any. Empty for
            what ``bound`` says.
        bound: the address that is listened on. If it is this machine's own, only its names and addresses are
            answered to; else any.
    """

    def __init__(self, names: str, bound: str) -> None:
        self.names = tuple(name.strip().lower() for name in names.split(",") if name.strip())
        self._bound = bound.strip("[]").lower()
        self._any = "*" in self.names or (not self.names and not is_loopback(bound))

    def check(self, scope: Scope) -> None:
        """Make sure that a connection asks for one of them.

        Raises:
            BadAddress: 421 if it does not; the message says which setting would allow it.
        """
        if self._any or (not self.names and is_in_process(scope)):
            return
        header = next((value for name, value in scope["headers"] if name == b"host"), None)
        host = _name(header.decode("latin-1")) if header is not None else ""
        if host is None or not self._knows(host):
            asked = f"named {host!r}" if host else "of no readable name"
            raise BadAddress(
                f"This server does not answer for a host {asked}. If it is meant to, start it with "
                f"--hosts {host or 'NAME'}, or write App(…, hosts={(host or 'NAME')!r}).",
                421,
            )

    def _knows(self, host: str) -> bool:
        if is_loopback(host) or host == self._bound:
            return True
        if not self.names:
            # Nobody can give an address another meaning: only names can be turned around. Old clients send none.
            return is_address(host) or not host
        return any(host == name or (name.startswith("*.") and host.endswith(name[1:])) for name in self.names)


@functools.lru_cache(256)
def _name(header: str) -> str | None:
    """The name in a Host header, without its port; None if it cannot be read."""
    try:
        return (urlsplit(f"//{header}").hostname or "").rstrip(".")
    except ValueError:
        return None
