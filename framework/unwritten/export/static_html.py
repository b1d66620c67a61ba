"""Convert a page as the server sends it into a file of a static site.

Links point to files, scripts are removed, forms are disabled with a note, and elements that need a server are left out.
A content security policy in the file is the second line of defence, as the server's is for its pages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html import escape, unescape

from ..core.localization import Localization
from ..core.localization import gettext_lazy as _
from ..core.paths import FRAMEWORK_PREFIX, site_path
from ..security.signed_links import unsigned

_POLICY = {
    "default-src": "'none'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "font-src": "'self'",
    "media-src": "'self'",
    "form-action": "'none'",
    "base-uri": "'none'",
}

# A box is a document inside of the page's file, and inherits its policy. Its own policy and sandbox forbid the network.
_POLICY_WITH_BOXES = _POLICY | {
    "script-src": "'unsafe-inline'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "media-src": "'self' data: blob:",
}

FORM_NOTE = _("Forms work in the running app, not in this copy.")
"""Shown below every form, in the language of the page."""

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

_REMOVED_ATTRIBUTES = frozenset({"ping", "formaction", "background", "nonce"})

_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*+):")

# All quantifiers are possessive. Quotes and "<" are only in quoted values, so searching takes linear time. A "<" that
# begins none of these is text.
_VALUE = r"""(?:"[^"]*+"|'[^']*+'|[^\s"'<>]*+)"""
_ATTRIBUTE = re.compile(rf"""([^\s/>="'<]++)(?:\s*+=\s*+({_VALUE}))?+""")
_TOKEN = re.compile(
    rf"<(?P<end>/?)(?P<tag>[A-Za-z][^\s/>=\"'<]*+)(?P<attributes>(?:[\s/]*+{_ATTRIBUTE.pattern})*+)[\s/]*+>"
    r"|<!--(?:-?>|.*?(?:--!?>|\Z))|<!(?P<doctype>doctype\b)?[^>]*+(?:>|\Z)|<\?[^>]*+(?:>|\Z)|<|[^<]++",
    re.I | re.S,
)
_RAW_TEXT = {name: re.compile(rf"</{name}[\s/>]|\Z", re.I) for name in ("script", "style")}
"""Elements whose content is no HTML, and where it ends."""

_CONTROLS = frozenset({"button", "input", "select", "textarea"})

Attributes = list[tuple[str, str | None]]


def local_url(url: str) -> tuple[str, str] | None:
    """Return the path and query of a URL of the app, without its signature, and its fragment.

    Returns None if the URL leads elsewhere.
    """
    path = site_path(url)
    if path is None:
        return None
    target, _, fragment = unsigned(path).partition("#")
    return target.removesuffix("?"), fragment


def is_signed(url: str) -> bool:
    """True if a URL is signed: it leads to an unwritten page."""
    path = site_path(url)
    return path is not None and unsigned(path) != path


def leads_elsewhere(url: str) -> bool:
    """True if a URL leads out of the site where its text does not say so, or runs a script."""
    scheme = _SCHEME.match(url)
    if scheme is not None:
        return scheme[1].lower() not in {"http", "https", "mailto", "tel", "data"}
    return site_path(url, "/") is None


def urls_of(html: str) -> list[str]:
    """Return every URL of the app on a page, in document order."""
    found: list[str] = []

    def collect(tag: str, url: str) -> str:
        found.append(url)
        return url

    make_static(html, collect, lambda url: "")
    return found


def make_static(
    html: str,
    rewrite: Callable[[str, str], str | None],
    box: Callable[[str], str],
    footer: str = "",
    *,
    policy: bool = False,
    localization: Localization | None = None,
) -> str:
    """Return a page that works without a server.

    Args:
        html: The page as the server sends it.
        rewrite: Takes a tag and a URL of the app in it. Returns the new URL, or None to remove the element.
        box: Takes the URL of a box and returns its document.
        footer: HTML for the end of the body.
        policy: True adds a content security policy.
        localization: The languages of the note below forms. None: it is English.
    """
    localization = localization or Localization()
    writer = _StaticWriter(rewrite, box, footer, _policy(html) if policy else "", localization)
    writer.feed(html)
    return "".join(writer.out)


def _policy(html: str) -> str:
    """Return the element with the policy of a page."""
    rules = _POLICY_WITH_BOXES if "<iframe" in html else _POLICY
    policy = "; ".join(f"{name} {sources}" for name, sources in rules.items())
    return f'<meta http-equiv="Content-Security-Policy" content="{policy}">'


class _StaticWriter:
    """Copies a page tag by tag. Tags that need no change are copied as they are, and comments are left out."""

    # Why not HTMLParser: before Python 3.11.14, it takes a minute for 100 kB of tags that are never closed.

    def __init__(
        self,
        rewrite: Callable[[str, str], str | None],
        box: Callable[[str], str],
        footer: str,
        policy: str,
        localization: Localization,
    ) -> None:
        self.out: list[str] = []
        self._rewrite = rewrite
        self._box = box
        self._footer = footer
        self._policy = policy  # until it is written
        self._localization = localization
        self._lang = ""
        self._skipped = ""
        self._depth = 0
        self._in_colophon = False

    def _is_removed(self, tag: str, values: dict[str, str | None]) -> bool:
        classes = (values.get("class") or "").split()
        if tag == "meta":
            return values.get("name") == "htmx-config" or (values.get("http-equiv") or "").lower() == "refresh"
        if tag == "base":
            return True
        if tag == "form":
            return (values.get("action") or "").startswith(FRAMEWORK_PREFIX)
        if tag == "link":
            return values.get("rel") in {"preload", "modulepreload", "manifest"}
        # The buttons to regenerate and edit a page, and its history, need the running app.
        return tag in {"script", "noscript"} or (self._in_colophon and tag == "div" and "actions" in classes)

    def feed(self, html: str) -> None:
        """Copy a page."""
        position = 0
        while token := _TOKEN.match(html, position):
            position = token.end()
            if token["tag"] is None:
                self._text(token)
            elif token["end"]:
                self._end_tag(token["tag"].lower())
            else:
                self._start_tag(token)
                end = _RAW_TEXT.get(token["tag"].lower())
                if end and (found := end.search(html, position)):
                    position = found.start()
                    self._copy(html[token.end() : position])

    def _text(self, token: re.Match[str]) -> None:
        """Copy text and the doctype. Comments and what browsers read as comments are left out."""
        text = token[0]
        if token["doctype"]:
            self._copy(text)
        elif text[0] != "<" or text == "<":
            if text.strip():
                self._write_policy()
            self._copy("&lt;" if text == "<" else text)

    def _start_tag(self, token: re.Match[str]) -> None:
        tag = token["tag"].lower()
        closes_itself = token[0].endswith("/>") and tag not in _RAW_TEXT
        if self._skipped:
            self._depth += tag == self._skipped and not closes_itself
            return
        attrs = list(_parse_attributes(token["attributes"]))
        values = dict(reversed(attrs))  # of attributes with one name, the first counts
        if tag == "html":
            self._lang = values.get("lang") or ""
        if tag not in {"html", "head"}:
            self._write_policy()
        if tag == "footer" and "colophon" in (values.get("class") or ""):
            self._in_colophon = True
        new = self._attributes(tag, values, attrs)
        if new is None or self._is_removed(tag, values):
            if tag not in _VOID and not closes_itself:
                self._skipped, self._depth = tag, 1
            return
        self.out.append(_tag(tag, new, "/>" if closes_itself else ">") if new != attrs else token[0])
        if tag == "head":
            self._write_policy()

    def _write_policy(self) -> None:
        """Write the policy, which applies only to what comes after it."""
        self.out.append(self._policy)
        self._policy = ""

    def _attributes(self, tag: str, values: dict[str, str | None], attrs: Attributes) -> Attributes | None:
        """Return a tag's new attributes, or None to remove the element."""
        result = [
            (name, value)
            for name, value in attrs
            if not name.startswith(("hx-", "on", "ws-", "sse-")) and name not in _REMOVED_ATTRIBUTES
        ]
        name = _URL_ATTRIBUTES.get(tag)
        url = values.get(name) if name else None
        if name and url is not None and leads_elsewhere(url):
            result = [pair for pair in result if pair[0] != name]
        elif name and url is not None and local_url(url) is not None:
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

    def _end_tag(self, tag: str) -> None:
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
            note = self._localization.get(self._lang).text(FORM_NOTE)
            self.out.append(f'<p class="quiet">{escape(note, quote=False)}</p>')

    def _copy(self, text: str) -> None:
        if not self._skipped:
            self.out.append(text)


def _parse_attributes(source: str) -> Iterator[tuple[str, str | None]]:
    for attribute in _ATTRIBUTE.finditer(source):
        value = attribute[2]
        if value is not None:
            value = unescape(value[1:-1] if value[:1] in {'"', "'"} else value)
        yield attribute[1].lower(), value


def _tag(tag: str, attrs: Attributes, end: str = ">") -> str:
    pairs = "".join(f" {name}" if value is None else f' {name}="{escape(value)}"' for name, value in attrs)
    return f"<{tag}{pairs}{end}"
