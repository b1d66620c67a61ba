"""Exposure: who can reach the app, and who owns it.

Signed links, budgets and edits are relaxed for the owner of an app on a loopback address.
"""

from __future__ import annotations

from starlette.types import Scope

from ..core.settings import Settings
from .client_address import is_loopback
from .owner import Owner


class Exposure:
    """Tracks whether others than the owner can reach the app.

    The settings decide first: an address beyond loopback, a public host name or a trusted proxy. Otherwise the first
    request that is not certainly the owner's marks the app as public, for as long as the process lives.

    Args:
        settings: ``host``, ``port``, ``hosts``, ``signed_links`` and ``trusted_proxies``.

    Attributes:
        is_public: True if others can reach the app.
        owner: Recognizes the owner.
        refused_hosts: The number of connections for unknown hosts.
    """

    def __init__(self, settings: Settings) -> None:
        hosts = [name.strip() for name in settings.hosts.split(",") if name.strip()]
        self.owner = Owner(settings.port)
        self._is_configured = (
            settings.signed_links == "on"
            or not is_loopback(settings.host)
            or bool(settings.trusted_proxies)
            or not all(map(is_loopback, hosts))
        )
        self.is_public = self._is_configured
        self.refused_hosts = 0

    @property
    def is_private(self) -> bool:
        """True unless the settings make the app public. Then its owner is exempt from what protects the open web."""
        return not self._is_configured

    def exempts(self, scope: Scope) -> bool:
        """True if a connection needs no signed links, has no budgets, and may edit: its owner's, on a private app."""
        return self.is_private and self.owner.owns(scope)

    def observe(self, scope: Scope) -> None:
        """Mark the app as public if this connection may not be the owner's."""
        if not self.owner.owns(scope):
            self.is_public = True
