"""The owner: the person who runs the app, recognized by a token that the server prints when it starts.

A loopback address proves nothing, because a proxy on the same machine has one, too. The owner opens the printed URL
once; the token then moves from the URL into a cookie. Programs send it as ``Authorization: Bearer …``.
"""

from __future__ import annotations

import hmac
import os
import secrets
from urllib.parse import quote, unquote_to_bytes

from starlette.responses import RedirectResponse, Response
from starlette.types import Scope

from ..core.errors import BadSetting
from ..core.paths import site_path
from ..core.settings import OWNER_VARIABLE
from .client_address import is_in_process, is_local_client

OWNER_PARAMETER = "_owner"
"""The query parameter that holds the token in the URL that is printed at the start."""

OWNER_MARK = f"{OWNER_PARAMETER}=".encode()

_MIN_LENGTH = 16


class Owner:
    """Recognizes the connections of the owner.

    Requests of a test client, which do not come over a network, are the owner's.

    Args:
        port: The port of the server. Browsers send cookies to all ports of a machine, so it is part of their name.
        token: The token. Empty: the environment variable ``UNWRITTEN_OWNER_TOKEN``, or else a random one.

    Raises:
        BadSetting: If the token is too short to be a secret.
    """

    def __init__(self, port: int, token: str = "") -> None:
        self.token = token or os.environ.get(OWNER_VARIABLE, "") or secrets.token_urlsafe(24)
        if len(self.token) < _MIN_LENGTH or not self.token.isascii() or not self.token.isprintable():
            raise BadSetting(
                f"The environment variable {OWNER_VARIABLE} must have at least {_MIN_LENGTH} printable ASCII "
                "characters. Make one:  python -c 'import secrets; print(secrets.token_urlsafe(24))'"
            )
        self.cookie = f"unwritten_owner_{port}"
        self._secret = self.token.encode()
        # A cookie cannot hold every character, so it holds a digest.
        self._cookie_value = hmac.digest(self._secret, b"owner cookie", "sha256").hex()
        self._cookie_pair = f"{self.cookie}=".encode()

    def owns(self, scope: Scope) -> bool:
        """True if a connection is the owner's."""
        if is_in_process(scope):
            return is_local_client(scope)
        for name, value in scope["headers"]:
            if name == b"cookie" and self._cookie_pair in value:
                expected = self._cookie_value.encode()
                pairs = (pair.strip() for pair in value.split(b";"))
                values = [pair.removeprefix(self._cookie_pair) for pair in pairs if pair.startswith(self._cookie_pair)]
                if any(hmac.compare_digest(given, expected) for given in values):
                    return True
            elif name == b"authorization":
                scheme, _, given = value.partition(b" ")
                if scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._secret):
                    return True
        return False

    def url(self, url: str) -> str:
        """Return the URL of the app with the token."""
        return f"{url}/?{OWNER_PARAMETER}={quote(self.token, safe='')}"

    def sign_in(self, scope: Scope) -> tuple[Scope, Response | None]:
        """Handle a URL with a token. Call it if the query contains ``OWNER_MARK``.

        Returns:
            The scope without the token. With a valid one also a redirect that sets the cookie, otherwise None.
        """
        pairs = scope["query_string"].split(b"&")
        given = [unquote_to_bytes(pair.removeprefix(OWNER_MARK)) for pair in pairs if pair.startswith(OWNER_MARK)]
        if not given:
            return scope, None
        scope = {**scope, "query_string": b"&".join(pair for pair in pairs if not pair.startswith(OWNER_MARK))}
        if scope["method"] not in {"GET", "HEAD"} or not any(hmac.compare_digest(one, self._secret) for one in given):
            return scope, None
        path = (scope.get("raw_path") or scope["path"].encode("utf-8", "replace")).partition(b"?")[0].decode("latin-1")
        url = (site_path(path) or "/") + ("?" + scope["query_string"].decode("latin-1")).rstrip("?")
        response = RedirectResponse(url, 303, {"cache-control": "no-store", "referrer-policy": "no-referrer"})
        response.set_cookie(
            self.cookie,
            self._cookie_value,
            httponly=True,
            samesite="strict",
            secure=scope.get("scheme") == "https",
        )
        return scope, response
