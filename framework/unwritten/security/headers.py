"""Security: what every page sends along, and who may talk to the server.

Model output never runs on a page: it is cleaned by an allow-list (``sanitize``), and the policy here would stop a
script that got through. Only scripts with the nonce of this very response run; nothing is loaded from elsewhere.
"""

from __future__ import annotations

import re
import secrets
from typing import Literal, TypeAlias
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request

from ..core.paths import BOX_PREFIX

_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'nonce-{nonce}'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "media-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'self'",
    ]
)


_HOST = re.compile(r"[\w.-]+(?::\d{1,5})?", re.ASCII)  # a policy knows no address in brackets


_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


NOT_FOR_ROBOTS = {"x-robots-tag": "noindex"}
"""For what is no page to be found again: one that is not written yet, a message."""


def secure_headers(nonce: str, frames: str = "") -> dict[str, str]:
    """The headers of every HTML page that we draw.

    Args:
        nonce: of this response.
        frames: what may be shown in a frame; see ``frame_source``. Empty: nothing.
    """
    policy = _POLICY.format(nonce=nonce)
    return {"content-security-policy": f"{policy}; frame-src {frames}" if frames else policy, **_HEADERS}


def frame_src(embeds: Embeds, host: str | None, root_path: str = "") -> str:
    """Return the ``frame-src`` of a page's policy; empty if the page may show no frames.

    Args:
        embeds: What the page shows in frames: boxes, or pages of this app.
        host: The name under which the server was reached.
        root_path: The prefix under which the app is served, decoded, as in an ASGI scope.
    """
    if embeds == "boxes" and host and _HOST.fullmatch(host):
        return f"{host}{quote(root_path.rstrip('/'))}{BOX_PREFIX}"  # quote: a policy cannot hold spaces, ";" or ","
    return "'self'" if embeds else ""


def new_nonce() -> str:
    """A nonce for one response."""
    return secrets.token_urlsafe(16)


def accepts_html(request: Request) -> bool:
    """Whether a message is to be a page for people; for programs it is a line of text."""
    return "text/html" in request.headers.get("accept", "")


def is_same_site_navigation(headers: Headers) -> bool:
    """Whether a browser says that a page of this server led to a request: a form, a link, a script.

    A program can say so too. This tells people who use a page from people who typed an address, no more.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    source = headers.get("origin") or headers.get("referer")
    return source is not None and is_same_origin(source, headers.get("host"))


def is_same_origin(origin: str | None, host: str | None) -> bool:
    """True if ``origin``, from an Origin or Referer header, names this host. A missing one counts as the same."""
    if origin is None:
        return True
    try:
        return bool(host) and urlsplit(origin).netloc.lower() == str(host).lower()
    except ValueError:  # half an IPv6 address, for example
        return False


def is_cross_origin(headers: Headers) -> bool:
    """True if a browser states that a page of another origin sent this request.

    This is the CSRF policy of forms, boxes and the live socket. Browsers send Sec-Fetch-Site, older ones an Origin.
    Clients that send neither are not browsers, so no other page can use them.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in {"same-origin", "none"}
    return not is_same_origin(headers.get("origin"), headers.get("host"))


def is_prefetch(headers: Headers) -> bool:
    """Whether a browser says that nobody has clicked yet."""
    purpose = headers.get("sec-purpose") or headers.get("purpose") or headers.get("x-moz") or ""
    return purpose.partition(";")[0].strip().lower() == "prefetch"


def saves_data(headers: Headers) -> bool:
    """Whether somebody asked for nothing that they have not asked for."""
    return headers.get("save-data", "").strip().lower() == "on"


Embeds: TypeAlias = Literal["", "boxes", "pages"]
