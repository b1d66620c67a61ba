"""Signatures: one signer for links, forms, pictures and visitor cookies.

Every world has a secret in its database. ``itsdangerous`` derives one key per purpose from it, so a signature made
for one purpose is invalid for any other.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from typing import Literal, TypeAlias

import itsdangerous
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

FormCheck: TypeAlias = Literal["good", "stale", "forged"]

FORM_LIFETIME = 24 * 3600.0
"""Seconds for which a form may be open before it is submitted."""

FORM_REUSE = 3600.0
"""Seconds for which a rendered form may be served from a cache."""

_HOUR = 3600
_YEAR = 365 * 24 * 3600
_COOKIE = re.compile(r"([0-9a-f]{32})\.([0-9a-f]{32})", re.ASCII)


class Signer:
    """Signs texts for one world."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._signers: dict[str, itsdangerous.Signer] = {}

    def _signer(self, purpose: str) -> itsdangerous.Signer:
        if purpose not in self._signers:
            self._signers[purpose] = itsdangerous.Signer(
                self._secret, salt=f"unwritten {purpose}", key_derivation="hmac", digest_method=hashlib.sha256
            )
        return self._signers[purpose]

    def signature(self, purpose: str, text: str, length: int = 32) -> str:
        """Return the first ``length`` characters of the URL-safe signature of ``text`` for one purpose."""
        return self._signer(purpose).get_signature(text.encode("utf-8", "surrogatepass")).decode()[:length]

    def verify(self, purpose: str, text: str, signature: str, length: int = 32) -> bool:
        """True if ``signature`` is the signature of ``text`` for this purpose."""
        expected = self.signature(purpose, text, length)
        return hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace"))

    def digest(self, purpose: str, text: str) -> str:
        """Return 32 hexadecimal digits that only this world can compute from ``text``.

        They never change, unlike signatures: authors store identifiers of visitors in tables.
        """
        return hmac.digest(self._secret, f"{purpose}\0{text}".encode(), hashlib.sha256).hex()[:32]

    def sign_form(self, action: str, page: str, now: float | None = None) -> str:
        """Return a token for a form on a page. It changes once an hour, so that rendered pages can be cached."""
        hour = int((time.time() if now is None else now) // _HOUR)
        return f"{hour:x}." + self.signature("form", _form_text(hour, action, page))

    def verify_form(self, token: str, action: str, page: str, now: float | None = None) -> FormCheck:
        """Check a form's token: "good", "stale" if too old, "forged" if not valid for this action and page."""
        stamp, _, signature = token.partition(".")
        if not re.fullmatch(r"[0-9a-f]{1,8}", stamp):
            return "forged"
        hour = int(stamp, 16)
        if not self.verify("form", _form_text(hour, action, page), signature):
            return "forged"
        age = (time.time() if now is None else now) - hour * _HOUR
        return "good" if age < FORM_LIFETIME + _HOUR else "stale"


def _form_text(hour: int, action: str, page: str) -> str:
    return f"{hour}\0{action}\0{page}"


class VisitorCookie:
    """Recognizes a visitor's browser by a signed cookie.

    It is set when the visitor starts the generation of a page, which only that visitor can stop, and by the first form
    whose action takes a ``Visit``.

    The cookie holds a random number and its signature. Authors see a digest of the number, so a person who can read
    a table cannot take over a visitor's identity. It contains no personal data.

    Attributes:
        name: The cookie's name. It differs per world, since browsers send cookies to all ports of a machine.
    """

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self.name = f"unwritten_{signer.digest('name', '')[:8]}"

    def read(self, request: HTTPConnection) -> str:
        """Return the visitor's identifier, or "" if the cookie is missing or invalid."""
        match = _COOKIE.fullmatch(request.cookies.get(self.name, ""))
        if match is None or not hmac.compare_digest(match[2], self._signer.digest("cookie", match[1])):
            return ""
        return self._signer.digest("visitor", match[1])

    def new(self) -> tuple[str, str]:
        """Return a new cookie and the visitor's identifier that belongs to it."""
        number = secrets.token_hex(16)
        return f"{number}.{self._signer.digest('cookie', number)}", self._signer.digest("visitor", number)

    def set_on(self, response: Response, cookie: str, request: Request) -> None:
        """Set the cookie on the response to a form."""
        secure = request.scope.get("scheme") == "https"
        response.set_cookie(self.name, cookie, max_age=_YEAR, httponly=True, samesite="lax", secure=secure)
