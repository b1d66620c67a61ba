"""Identity: a visitor's browser is known again by a signed cookie, given with the first form that asks who sends it.

Nothing is known of the person behind it, and nothing is asked. The cookie holds a random number and our signature; what
an author sees is a digest of it, so that nobody becomes somebody else by reading a table.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from typing import Literal, TypeAlias

from starlette.requests import Request
from starlette.responses import Response

YEAR = 365 * 24 * 3600


_FORM = re.compile(r"([0-9a-f]{32})\.([0-9a-f]{32})", re.ASCII)


class VisitorCookie:
    """Knows the browsers of visitors again.

    Args:
        secret: the world's secret.
    """

    def __init__(self, secret: Callable[[], bytes]) -> None:
        self._secret = secret

    @property
    def name(self) -> str:
        """The name of the cookie. Each world has its own: a browser does not tell servers on one machine apart."""
        return f"unwritten_{self._digest('name', '')[:8]}"

    def read(self, request: Request) -> str:
        """A word that stands for the browser that asks; "" if it has sent no form yet, or its cookie is not ours."""
        match = _FORM.fullmatch(request.cookies.get(self.name, ""))
        if match is None or not hmac.compare_digest(match[2], self._digest("cookie", match[1])):
            return ""
        return self._digest("visitor", match[1])

    def new(self) -> tuple[str, str]:
        """The cookie of a browser that has none, and the word that stands for it from then on."""
        number = secrets.token_hex(16)
        return f"{number}.{self._digest('cookie', number)}", self._digest("visitor", number)

    def set_on(self, response: Response, cookie: str, request: Request) -> None:
        """Send a cookie along with the answer to a form."""
        secure = request.scope.get("scheme") == "https"
        response.set_cookie(self.name, cookie, max_age=YEAR, httponly=True, samesite="lax", secure=secure)

    def _digest(self, what: str, number: str) -> str:
        return hmac.digest(self._secret(), f"{what}\0{number}".encode(), hashlib.sha256).hex()[:32]


FormCheck: TypeAlias = Literal["good", "stale", "forged"]


LIFETIME = 24 * 3600.0
"""Seconds that a form may be filled in."""


FRESH = 3600.0
"""Seconds that a drawn form may be held before it is sent."""


_HOUR = 3600


def sign_form(secret: bytes, action: str, page: str, now: float | None = None) -> str:
    """A token for a form of a page that is drawn now. It stays the same for an hour, so that pages do."""
    hour = int((time.time() if now is None else now) // _HOUR)
    return f"{hour:x}.{_signature(secret, hour, action, page)}"


def verify_form(token: str, secret: bytes, action: str, page: str, now: float | None = None) -> FormCheck:
    """Whether a token is one of this world's for this action on this page, and not too old."""
    match = re.fullmatch(r"([0-9a-f]{1,8})\.([0-9a-f]{32})", token)
    if match is None or not hmac.compare_digest(match[2], _signature(secret, int(match[1], 16), action, page)):
        return "forged"
    age = (time.time() if now is None else now) - int(match[1], 16) * _HOUR
    return "good" if age < LIFETIME + _HOUR else "stale"


def _signature(secret: bytes, hour: int, action: str, page: str) -> str:
    text = f"form\0{hour}\0{action}\0{page}"
    return hmac.digest(secret, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hex()[:32]
