"""Exposure: whether other machines can reach the app.

Signed links, budgets and edits are relaxed while only the owner's machine can reach the app.
"""

from __future__ import annotations

from starlette.types import Scope

from ..core.settings import Settings
from .client_address import is_local_client, is_loopback


class Exposure:
    """Tracks whether other machines can reach the app.

    The settings decide first: an address beyond loopback, a public host name or a trusted proxy. A server that another
    program started does not report its address. Then the first request that does not certainly come from this machine
    marks the app as public, for as long as the process lives.

    Args:
        settings: ``host``, ``hosts``, ``signed_links`` and ``trusted_proxies``.

    Attributes:
        is_public: True if other machines can reach the app.
        refused_hosts: The number of connections for unknown hosts.
    """

    def __init__(self, settings: Settings) -> None:
        hosts = [name.strip() for name in settings.hosts.split(",") if name.strip()]
        self.is_public = (
            settings.signed_links == "on"
            or not is_loopback(settings.host)
            or bool(settings.trusted_proxies)
            or not all(map(is_loopback, hosts))
        )
        self.refused_hosts = 0

    def observe(self, scope: Scope) -> None:
        """Mark the app as public if this connection may come from another machine."""
        if not self.is_public and not is_local_client(scope):
            self.is_public = True
