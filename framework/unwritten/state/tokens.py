"""Tokens: what a form carries to show that it comes from a page of this world, and from which one.

A token names the hour in which its form was drawn, and signs it together with the address of the action and the key of
the page. It says nothing about a visitor: that a form was sent by a page of ours and not by a page of somebody else
is for the browser to say (``Origin``), and is asked too.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from typing import Literal, TypeAlias

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
