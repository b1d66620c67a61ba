"""The document around a rendered page: head tags, scripts, nonces and response headers."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup
from starlette.responses import HTMLResponse

from ..core.assets import HTMX, htmx_sources
from ..security.headers import new_nonce, secure_headers

NONCE = f"nonce-{secrets.token_hex(16)}"
"""Stands for the nonce in rendered HTML, so that a page can be cached and sent with a new nonce each time. It is
random, so that no text can contain it deliberately."""

FORM_KEY = f"key-{secrets.token_hex(16)}"
"""Stands for the key of a form in rendered HTML. Each form that is sent to a browser gets its own key."""

COLOPHON = "colophon"
"""The name of the colophon in templates and placeholders."""

SCRIPTS = ("controls.js", "morph.js", "live.js", "forms.js", "box-host.js")
"""The scripts of every page, in the order in which they run. Those after ``live.js`` use its global object."""

TEXTS_ID = "unwritten-texts"
"""The id of the script with the texts of the other scripts."""

EMBEDS_TAG = Markup('\n<meta name="unwritten-frames" content="yes">')
"""Tells ``box-host.js`` that the content security policy of this document allows frames."""


def page_response(
    html: str, status: int = 200, headers: Mapping[str, str] | None = None, frame_src: str = ""
) -> HTMLResponse:
    """Return rendered HTML as a response with security headers.

    Args:
        html: The HTML, with ``NONCE`` and ``FORM_KEY``.
        status: The status code.
        headers: More headers. They replace the security headers of the same name.
        frame_src: What the page may show in frames; see ``security.headers.frame_src``.
    """
    nonce = new_nonce()
    secure = secure_headers(nonce, frame_src)
    return HTMLResponse(insert_nonce(html, nonce), status, {**secure, **(headers or {})})


def insert_nonce(html: str, nonce: str) -> str:
    """Return rendered HTML with a nonce, and a new key for each form."""
    html = html.replace(NONCE, nonce)
    return re.sub(FORM_KEY, lambda _: secrets.token_urlsafe(12), html) if FORM_KEY in html else html


def head_tags(
    static_url: Callable[[str], str], root_path: str, texts_url: str, scripts: Sequence[str] = SCRIPTS
) -> Markup:
    """Return the tags that a page needs in its ``<head>``: style sheet, scripts, and the sources of htmx.

    ``live.js`` loads htmx itself after the page, so that a slow CDN does not delay it.

    Args:
        static_url: Returns the URL of a static file.
        root_path: The prefix under which the app is served.
        texts_url: The URL of the script with what the other scripts show to visitors, in the language of the page.
        scripts: The framework's scripts, in the order in which they run.
    """
    tags = [
        Markup('<link rel="stylesheet" href="{}">').format(static_url("unwritten.css")),
        Markup("<meta name=\"htmx-config\" content='{}'>").format(Markup('{"prefix":"","includeIndicatorCSS":false}')),
        Markup('<script defer src="{}" nonce="{}" id="{}"></script>').format(texts_url, NONCE, TEXTS_ID),
        *(
            Markup('<script defer src="{}" nonce="{}"{}></script>').format(
                static_url(name), NONCE, _live_attributes(root_path) if name == "live.js" else ""
            )
            for name in scripts
        ),
    ]
    return Markup("\n").join(tags)


def _live_attributes(root_path: str) -> Markup:
    """Return the attributes of ``live.js``: the app's prefix, and where to load htmx from."""
    names = ("htmx", "preload")
    assert len(HTMX) == len(names)
    root = Markup(' data-root="{}"').format(root_path) if root_path else Markup("")
    return root + Markup("").join(
        Markup(' data-{0}="{1}" data-{0}-integrity="{2}"').format(
            name, root_path + url if url.startswith("/") else url, integrity
        )
        for name, (url, integrity) in zip(names, htmx_sources(), strict=True)
    )


def refresh_tag(url: str) -> Markup:
    """Return a tag that leads a browser without JavaScript to the streamed page."""
    return Markup('\n<noscript><meta http-equiv="refresh" content="0; url={}"></noscript>').format(url)
