"""Security: what every page sends along, and who may talk to the server.

Model output never runs: it is cleaned by an allow-list (``sanitize``), and the policy here would stop a script
that got through. Only scripts with the nonce of this very response run; nothing is loaded from elsewhere.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

from markupsafe import Markup
from starlette.responses import HTMLResponse

from .assets import HTMX, Static, htmx_sources
from .drawing import NONCE

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

_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


def secure_headers(nonce: str) -> dict[str, str]:
    """The headers of every HTML page that we draw."""
    return {"content-security-policy": _POLICY.format(nonce=nonce), **_HEADERS}


def new_nonce() -> str:
    """A nonce for one response."""
    return secrets.token_urlsafe(16)


def page_response(html: str, status: int = 200, headers: Mapping[str, str] | None = None) -> HTMLResponse:
    """A drawn page as a response, with a nonce of its own in place of ``NONCE``."""
    nonce = new_nonce()
    return HTMLResponse(html.replace(NONCE, nonce), status, {**secure_headers(nonce), **(headers or {})})


def head_tags(static: Static) -> Markup:
    """What a page needs in its ``<head>``: style sheet, scripts, and where htmx may be had.

    htmx is not loaded here: our script does it after the page is there, so that a slow CDN holds nothing up.

    Args:
        static: finds our files.
    """
    tags = [
        Markup('<link rel="stylesheet" href="{}">').format(static.url("unwritten.css")),
        Markup("<meta name=\"htmx-config\" content='{}'>").format(Markup('{"prefix":"","includeIndicatorCSS":false}')),
        Markup('<script defer src="{}" nonce="{}"></script>').format(static.url("morph.js"), NONCE),
        Markup('<script defer src="{}" nonce="{}"{}></script>').format(
            static.url("unwritten.js"), NONCE, _htmx_attributes()
        ),
    ]
    return Markup("\n").join(tags)


def refresh_tag(address: str) -> Markup:
    """Leads a browser without JavaScript to where it gets the page's words over plain HTTP."""
    return Markup('\n<noscript><meta http-equiv="refresh" content="0; url={}"></noscript>').format(address)


def _htmx_attributes() -> Markup:
    names = ("htmx", "preload")
    assert len(HTMX) == len(names)
    return Markup("").join(
        Markup(' data-{0}="{1}" data-{0}-integrity="{2}"').format(name, url, integrity)
        for name, (url, integrity) in zip(names, htmx_sources(), strict=True)
    )


def same_origin(origin: str | None, host: str | None) -> bool:
    """Whether a request comes from a page of this server.

    A browser always names the origin of a WebSocket and of a form from elsewhere; a program that is not a
    browser need not, and is nobody's unwitting helper.
    """
    if origin is None:
        return True
    try:
        return bool(host) and urlsplit(origin).netloc.lower() == str(host).lower()
    except ValueError:  # half an IPv6 address, say
        return False
