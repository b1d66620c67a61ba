"""Security headers of responses, and what the headers of a request say about its origin.

Model output never executes on a page. An allow-list sanitizes it, and the content security policy is the second line of
defence: only scripts with the nonce of the response run, and nothing is loaded from other servers.
"""

from __future__ import annotations

import logging
import re
import secrets
from typing import Literal, TypeAlias
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Scope

from ..core.paths import BOX_PREFIX

log = logging.getLogger("unwritten")

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

_HOST = re.compile(r"[\w.-]+(?::\d{1,5})?", re.ASCII)  # a policy cannot hold an address in brackets

_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}

NOINDEX = {"x-robots-tag": "noindex"}
"""Keeps a response out of search engines: an unwritten page or an error page."""

NO_STORE = {"cache-control": "no-store", **NOINDEX}
"""Keeps a response out of caches, too."""

PROBLEM_KEY = "unwritten.problem"
"""The key of an ASGI scope that marks a request for data: an error is sent as JSON."""

Embeds: TypeAlias = Literal["", "boxes", "pages"]
"""What a page may show in frames: nothing, boxes, or pages of this app."""


def secure_headers(nonce: str, frames: str = "") -> dict[str, str]:
    """Return the security headers of an HTML page.

    Args:
        nonce: The nonce of this response.
        frames: What the page may show in frames; see ``frame_src``. Empty: nothing.
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
    """Return a nonce for one response."""
    return secrets.token_hex(16)


def accepts_html(request: Request) -> bool:
    """True if the client accepts HTML. Other clients get errors as plain text."""
    return "text/html" in request.headers.get("accept", "")


def prefers_json(scope: Scope) -> bool:
    """True if the Accept header prefers JSON to HTML. Those of browsers do not."""
    for name, value in scope["headers"]:
        if name == b"accept" and b"json" in value.lower():  # every request of a page comes here, so little is parsed
            return _quality("application/json", value) > _quality("text/html", value)
    return False


def _quality(media_type: str, accept: bytes) -> float:
    """Return how much a client wants a media type that it names, from 0 to 1."""
    for entry in accept.decode("latin-1").lower().split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        if name == media_type:
            quality = next((text[2:] for text in parameters if text.startswith("q=")), "1")
            return float(quality) if re.fullmatch(r"\d(?:\.\d{0,3})?", quality, re.ASCII) else 0.0
    return 0.0


def is_cached_copy(scope: Scope, etag: str) -> bool:
    """True if the client has a copy with this ETag."""
    tags = (value.decode("latin-1") for name, value in scope["headers"] if name == b"if-none-match")
    return any(tag.strip() in {etag, "*"} for value in tags for tag in value.split(","))


def is_same_site_navigation(headers: Headers) -> bool:
    """True if a browser states that a page of this server led to the request: by a form, a link or a script.

    Programs can state it too, so it protects nothing. It distinguishes a click from a typed URL.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    source = headers.get("origin") or headers.get("referer")
    return source is not None and is_same_origin(source, headers.get("host"))


def is_same_origin(origin: str | None, host: str | None) -> bool:
    """True if ``origin``, from an Origin or Referer header, names this host, or is missing."""
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
    origin, host = headers.get("origin"), headers.get("host")
    if is_same_origin(origin, host):
        return False
    if origin and host and _host_name(origin) == _host_name(f"//{host}"):
        log.warning(
            "A form or live socket of %.200r was refused because its Host header is %.200r. If a proxy has removed the "
            "port, let it pass the header unchanged (nginx: proxy_set_header Host $http_host).",
            origin,
            host,
        )
    return True


def _host_name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


_PURPOSE_HEADERS = frozenset({b"sec-purpose", b"purpose", b"x-moz"})


def is_prefetch(headers: Headers) -> bool:
    """True if a browser states that it prefetches, before the visitor has clicked."""
    purposes = (value for name, value in headers.raw if name in _PURPOSE_HEADERS)
    return any(value.partition(b";")[0].strip().lower() == b"prefetch" for value in purposes)


def saves_data(headers: Headers) -> bool:
    """True if the client sent `Save-Data: on`."""
    return headers.get("save-data", "").strip().lower() == "on"
