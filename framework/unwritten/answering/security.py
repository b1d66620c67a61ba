"""Security: what every page sends along, and who may talk to the server.

Model output never runs on a page: it is cleaned by an allow-list (``sanitize``), and the policy here would stop a
script that got through. Only scripts with the nonce of this very response run; nothing is loaded from elsewhere.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from markupsafe import Markup
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse

from ..assets import HTMX, VersionedStaticFiles, htmx_sources
from ..formats.boxed import BOX_PREFIX
from ..pages import Embeds
from ..showing.drawing import FORM_KEY, NONCE

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

AHEAD_SCRIPT = "ahead.js"
"""Left out where nothing is written ahead."""

PICTURES_SCRIPT = "pictures.js"
"""Left out where nothing is painted."""

_HOST = re.compile(r"[\w.-]+(?::\d{1,5})?", re.ASCII)  # a policy knows no address in brackets

SCRIPTS = ("morph.js", "unwritten.js", "forms.js", "box.js", "edits.js", PICTURES_SCRIPT, AHEAD_SCRIPT)
"""Our scripts, in the order in which they run. Those after ``unwritten.js`` find its global ``unwritten``."""

_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


WRITE_PATH = "/_unwritten/write"
"""Where a button posts that has a page written."""

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


def frame_src(frames: Embeds, host: str | None) -> str:
    """What a page may show in a frame, as its policy says it.

    Args:
        frames: documents of boxes, and nothing else of this server; or pages of this app, if the page's author says so.
        host: the name under which the server was asked.
    """
    if frames == "boxes" and host and _HOST.fullmatch(host):
        return f"{host}{BOX_PREFIX}"
    return "'self'" if frames else ""


def new_nonce() -> str:
    """A nonce for one response."""
    return secrets.token_urlsafe(16)


def insert_nonce(html: str, nonce: str) -> str:
    """Drawn HTML as it is sent: with the nonce of its response, and a new key for each of its forms."""
    html = html.replace(NONCE, nonce)
    return re.sub(FORM_KEY, lambda _: secrets.token_urlsafe(12), html) if FORM_KEY in html else html


def page_response(
    html: str, status: int = 200, headers: Mapping[str, str] | None = None, frames: str = ""
) -> HTMLResponse:
    """A drawn page as a response, with a nonce in place of ``NONCE``; ``frames`` as in ``secure_headers``."""
    nonce = new_nonce()
    return HTMLResponse(insert_nonce(html, nonce), status, {**secure_headers(nonce, frames), **(headers or {})})


def head_tags(static: VersionedStaticFiles, scripts: Sequence[str] = SCRIPTS) -> Markup:
    """What a page needs in its ``<head>``: style sheet, scripts, and where htmx may be had.

    htmx is not loaded here: our script does it after the page is there, so that a slow CDN holds nothing up.

    Args:
        static: finds our files.
        scripts: ours, in the order in which they run.
    """
    tags = [
        Markup('<link rel="stylesheet" href="{}">').format(static.url("unwritten.css")),
        Markup("<meta name=\"htmx-config\" content='{}'>").format(Markup('{"prefix":"","includeIndicatorCSS":false}')),
        *(
            Markup('<script defer src="{}" nonce="{}"{}></script>').format(
                static.url(name), NONCE, _htmx_attributes() if name == "unwritten.js" else ""
            )
            for name in scripts
        ),
    ]
    return Markup("\n").join(tags)


EMBEDS_TAG = Markup('\n<meta name="unwritten-frames" content="yes">')
"""Tells ``box.js`` that the policy of this document allows frames."""


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
