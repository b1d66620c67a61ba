"""The door: what is done with every connection before anything else looks at it."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import Scope

from ..core.errors import BadAddress
from ..core.settings import Settings
from ..security.client_address import TrustedProxies
from ..security.hosts import AllowedHosts
from ..security.signed_links import SignedLinks, take_signature


class Connections:
    """Who is let in, and as whom.

    Args:
        settings: ``host``, ``hosts``, ``trusted_proxies`` and ``gates``.
        secret: the world's secret.

    Raises:
        BadSetting: if one of them cannot be read.

    Attributes:
        gates: whether writing takes a signed link.
        turned_away: how many connections were not let in.
    """

    def __init__(self, settings: Settings, secret: Callable[[], bytes]) -> None:
        self._proxies = TrustedProxies(settings.trusted_proxies)
        self._hosts = AllowedHosts(settings.hosts, settings.host)
        self.gates = SignedLinks(settings, secret)
        self.turned_away = 0

    def enter(self, scope: Scope) -> Scope:
        """A connection as it really is: its visitor as trusted proxies saw them, its address without a signature.

        Raises:
            BadAddress: 421 if it asks for a host that this server is not.
        """
        scope = self._proxies.seen(scope)
        try:
            self._hosts.check(scope)
        except BadAddress:
            self.turned_away += 1
            raise
        self.gates.notice(scope)
        return take_signature(scope) if scope["type"] == "http" else scope
