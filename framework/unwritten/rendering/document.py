"""The document around a rendered page: head tags, scripts, nonces and response headers."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup
from starlette.responses import HTMLResponse

from ..core.assets import HTMX, htmx_sources
from ..security.headers import new_nonce, secure_headers

SCRIPTS = ("morph.js", "live.js", "forms.js", "box-host.js")
"""The scripts of every page, in the order in which they run. Those after ``live.js`` use its global object."""


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


def head_tags(static_url: Callable[[str], str], root_path: str, scripts: Sequence[str] = SCRIPTS) -> Markup:
    """What a page needs in its ``<head>``: style sheet, scripts, and where htmx may be had.

    htmx is not loaded here: our script does it after the page is there, so that a slow CDN holds nothing up.

    Args:
        static_url: Returns the URL of a static file.
        root_path: The prefix under which the app is served.
        scripts: The framework's scripts, in the order in which they run.
    """
    tags = [
        Markup('<link rel="stylesheet" href="{}">').format(static_url("unwritten.css")),
        Markup("<meta name=\"htmx-config\" content='{}'>").format(Markup('{"prefix":"","includeIndicatorCSS":false}')),
        *(
            Markup('<script defer src="{}" nonce="{}"{}></script>').format(
                static_url(name), NONCE, _script_attributes(root_path) if name == "live.js" else ""
            )
            for name in scripts
        ),
    ]
    return Markup("\n").join(tags)


EMBEDS_TAG = Markup('\n<meta name="unwritten-frames" content="yes">')
"""Tells ``box-host.js`` that the policy of this document allows frames."""


def refresh_tag(address: str) -> Markup:
    """Leads a browser without JavaScript to where it gets the page's words over plain HTTP."""
    return Markup('\n<noscript><meta http-equiv="refresh" content="0; url={}"></noscript>').format(address)


def _script_attributes(root_path: str) -> Markup:
    """Return what the main script needs to know: the app's prefix, and where to load htmx from."""
    names = ("htmx", "preload")
    assert len(HTMX) == len(names)
    root = Markup(' data-root="{}"').format(root_path) if root_path else Markup("")
    return root + Markup("").join(
        Markup(' data-{0}="{1}" data-{0}-integrity="{2}"').format(
            name, root_path + url if url.startswith("/") else url, integrity
        )
        for name, (url, integrity) in zip(names, htmx_sources(), strict=True)
    )


NONCE = f"nonce-{secrets.token_hex(16)}"
"""Stands for the nonce in drawn HTML, so that a drawn page can be kept and sent with a new nonce each time.
It is drawn anew for each process, so that no text can contain it on purpose."""


FORM_KEY = f"key-{secrets.token_hex(16)}"
"""Stands for the key of a form in drawn HTML: each form that is sent to a browser gets one of its own."""


COLOPHON = "colophon"
