"""Convert a page as the server sends it into a file of a static site.

Links point to files, scripts are removed, forms are disabled with a note, and elements that need a server are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from html.parser import HTMLParser
from urllib.parse import urlsplit

from ..core.paths import FRAMEWORK_PREFIX
from ..security.signed_links import SIGNATURE

FORM_NOTE = "Forms work in the running app, not in this copy."
"""Shown below every form."""

_VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())

_URL_ATTRIBUTES = {
    "a": "href",
    "link": "href",
    "img": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "iframe": "src",
}

_CONTROLS = frozenset({"button", "input", "select", "textarea"})

Attributes = list[tuple[str, str | None]]


def local_url(url: str) -> tuple[str, str] | None:
    """Return the path and query of a URL of the app, without its signature, and its fragment.

    Returns None if the URL leads elsewhere.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.scheme or parts.netloc or not parts.path.startswith("/"):
        return None
    query = "&".join(pair for pair in parts.query.split("&") if pair and not pair.startswith(f"{SIGNATURE}="))
    return parts.path + (f"?{query}" if query else ""), parts.fragment


def is_signed(url: str) -> bool:
    """True if a URL is signed: it leads to an unwritten page."""
    return f"{SIGNATURE}=" in urlsplit(url).query


def urls_of(html: str) -> list[str]:
    """Return every URL of the app on a page, in document order."""
    found: list[str] = []

    def collect(tag: str, url: str) -> str:
        found.append(url)
        return url

    make_static(html, collect, lambda url: "")
    return found


def make_static(
    html: str, rewrite: Callable[[str, str], str | None], box: Callable[[str], str], footer: str = ""
) -> str:
    """Return a page that works without a server.

    Args:
        html: The page as the server sends it.
        rewrite: Takes a tag and a URL of the app in it. Returns the new URL, or None to remove the element.
        box: Takes the URL of a box and returns its document.
        footer: HTML for the end of the body.
    """
    writer = _StaticWriter(rewrite, box, footer)
    writer.feed(html)
    writer.close()
    return "".join(writer.out)


class _StaticWriter(HTMLParser):
    """Copies a page tag by tag. Tags that need no change are copied as they are."""

    def __init__(self, rewrite: Callable[[str, str], str | None], box: Callable[[str], str], footer: str) -> None:
        super().__init__(convert_charrefs=False)
        self.out: list[str] = []
        self._rewrite = rewrite
        self._box = box
        self._footer = footer
        self._skipped = ""
        self._depth = 0
        self._in_colophon = False

    def _is_removed(self, tag: str, values: dict[str, str | None]) -> bool:
        classes = (values.get("class") or "").split()
        if tag == "meta":
            return values.get("name") == "htmx-config" or (values.get("http-equiv") or "").lower() == "refresh"
        if tag == "form":
            return (values.get("action") or "").startswith(FRAMEWORK_PREFIX)
        if tag == "link":
            return values.get("rel") in {"preload", "modulepreload", "manifest"}
        # The buttons to regenerate and edit a page, and its history, need the running app.
        return tag in {"script", "noscript"} or (self._in_colophon and tag == "div" and "actions" in classes)

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:
        if self._skipped:
            self._depth += tag == self._skipped
            return
        values = dict(attrs)
        if tag == "footer" and "colophon" in (values.get("class") or ""):
            self._in_colophon = True
        new = self._attributes(tag, values, attrs)
        if new is None or self._is_removed(tag, values):
            if tag not in _VOID:
                self._skipped, self._depth = tag, 1
            return
        self.out.append(_tag(tag, new) if new != attrs else self.get_starttag_text() or "")

    def handle_startendtag(self, tag: str, attrs: Attributes) -> None:
        if self._skipped:
            return
        values = dict(attrs)
        new = self._attributes(tag, values, attrs)
        if new is not None and not self._is_removed(tag, values):
            self.out.append(_tag(tag, new, "/>") if new != attrs else self.get_starttag_text() or "")

    def _attributes(self, tag: str, values: dict[str, str | None], attrs: Attributes) -> Attributes | None:
        """Return a tag's new attributes, or None to remove the element."""
        result = [(name, value) for name, value in attrs if not name.startswith(("hx-", "on", "ws-", "sse-"))]
        name = _URL_ATTRIBUTES.get(tag)
        url = values.get(name) if name else None
        if name and url is not None and local_url(url) is not None:
            if tag == "iframe":
                result = [("srcdoc", self._box(url)) if pair[0] == "src" else pair for pair in result]
            else:
                new = self._rewrite(tag, url)
                if new is None:
                    return None
                result = [(name, new) if pair[0] == name else pair for pair in result]
        if tag in _CONTROLS and "disabled" not in values and values.get("type") != "hidden":
            result.append(("disabled", None))
        if tag == "form":
            result = [pair for pair in result if pair[0] not in {"action", "method"}]
        return result

    def handle_endtag(self, tag: str) -> None:
        if self._skipped:
            self._depth -= tag == self._skipped
            if not self._depth:
                self._skipped = ""
            return
        if tag == "footer":
            self._in_colophon = False
        if tag == "body":
            self.out.append(self._footer)
        self.out.append(f"</{tag}>")
        if tag == "form":
            self.out.append(f'<p class="quiet">{FORM_NOTE}</p>')

    def _copy(self, text: str) -> None:
        if not self._skipped:
            self.out.append(text)

    def handle_data(self, data: str) -> None:
        self._copy(data)

    def handle_entityref(self, name: str) -> None:
        self._copy(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self._copy(f"&#{name};")

    def handle_decl(self, decl: str) -> None:
        self._copy(f"<!{decl}>")


def _tag(tag: str, attrs: Attributes, end: str = ">") -> str:
    pairs = "".join(f" {name}" if value is None else f' {name}="{escape(value)}"' for name, value in attrs)
    return f"<{tag}{pairs}{end}"
