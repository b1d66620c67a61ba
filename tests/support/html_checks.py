"""Checks of HTML, written independently of the sanitizer, so that a mistake there is not repeated here."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

import nh3

_INLINE = (
    "a abbr b bdi bdo cite code data del dfn em i ins kbd mark meter progress q ruby rp rt s samp small span strong"
)
_TAGS = set(
    f"""{_INLINE} sub sup time u var wbr br hr p pre div section article aside header footer main address blockquote
    details summary figure figcaption h1 h2 h3 h4 h5 h6 ul ol li dl dt dd
    table caption colgroup col thead tbody tfoot tr th td""".split()
)
_VOID = {"br", "hr", "wbr", "col"}
_ATTRIBUTES = set(
    """id lang dir title class href span value open min max low high optimum start reversed type colspan rowspan
    headers scope abbr datetime""".split()
)
_CLASSES = {"written", "unwritten", "unsettled"}


class Checker(HTMLParser):
    """Parses HTML with the standard library, and collects faults. Comments and declarations are always faults.

    Attributes:
        faults: Descriptions of the faults.
        open: The open elements.
    """

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.faults: list[str] = []
        self.open: list[str] = []

    def handle_comment(self, data: str) -> None:
        self.faults.append("a comment")

    def handle_decl(self, decl: str) -> None:
        self.faults.append("a declaration")

    def unknown_decl(self, data: str) -> None:
        self.faults.append("a declaration")

    def handle_pi(self, data: str) -> None:
        self.faults.append("a processing instruction")


class _HTMLChecker(Checker):
    """Checks the HTML of a region."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[object] = []

    def handle_data(self, data: str) -> None:
        if self.events and isinstance(self.events[-1], str):
            data = str(self.events.pop()) + data
        self.events.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.events.append((tag, attrs))
        if tag not in _TAGS:
            self.faults.append(f"<{tag}> is not allowed")
        if tag == "a" and "a" in self.open:
            self.faults.append("a link is inside a link")
        if tag not in _VOID:
            self.open.append(tag)
        names = [name for name, _ in attrs]
        if len(names) != len(set(names)):
            self.faults.append(f"<{tag}> has an attribute twice")
        for name, value in attrs:
            self._attribute(tag, name, value or "")

    def _attribute(self, tag: str, name: str, value: str) -> None:
        if name not in _ATTRIBUTES:
            self.faults.append(f"<{tag} {name}> is not allowed")
        if name == "id" and not value.startswith("g-"):
            self.faults.append(f"the id {value!r} has no prefix")
        if name == "class" and value not in _CLASSES:
            self.faults.append(f"the class {value!r} is not allowed")
        if name == "href":
            # As browsers parse it: without white space and control characters, and with "/" for "\\".
            seen = "".join(c for c in value if ord(c) > 32).replace("\\", "/")
            if tag != "a" or not (value.startswith("#g-") or (seen == value and _is_local(seen))):
                self.faults.append(f"the URL {value!r} leads elsewhere")

    def handle_endtag(self, tag: str) -> None:
        self.events.append((tag,))
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes no element")


def _is_local(url: str) -> bool:
    """True if a URL leads to a page of this app, also where a proxy decodes it."""
    for _ in range(3):
        try:
            parts = urlsplit(urljoin("http://own.example/a/b", url))
        except ValueError:
            return False
        if parts.netloc != "own.example" or parts.path.startswith(("//", "/_unwritten")) or not url.startswith("/"):
            return False
        url = unquote(url)
    return True


_reader = nh3.Cleaner(
    tags=_TAGS,
    clean_content_tags=set(),
    attributes={"*": _ATTRIBUTES},
    link_rel=None,
    url_schemes={"http", "https", "javascript", "data"},
)


def _checked(html: str) -> _HTMLChecker:
    checker = _HTMLChecker()
    checker.feed(html)
    checker.close()
    return checker


def faults(html: str) -> list[str]:
    """Return what is wrong with a piece of HTML that should be safe and balanced."""
    html = html.replace("\r\n", "\n").replace("\r", "\n")  # as browsers do first
    checker = _checked(html)
    found = checker.faults + [f"<{tag}> is not closed" for tag in checker.open]
    # html5ever parses as browsers do. What it serializes unchanged, no browser rearranges.
    again = _reader.clean(html)
    if not found and _checked(again).events != checker.events:
        found.append(f"a browser would parse it as {again!r}")
    return found


class _Balance(HTMLParser):
    """Checks that every tag is closed, in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.faults: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _VOID | {"meta", "link", "input", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes no element")


def page_faults(html: str) -> list[str]:
    """Return which tags of a whole page are not balanced."""
    checker = _Balance()
    checker.feed(html)
    checker.close()
    return checker.faults + [f"<{tag}> is not closed" for tag in checker.open]


def inner(html: str, region: str) -> str:
    """Return the inner HTML of a region in a page."""
    _, _, rest = html.partition(f'id="region-{region}"')
    _, _, rest = rest.partition(">")
    depth, position = 1, 0
    while depth:
        opening, closing = rest.find("<div", position), rest.find("</div>", position)
        assert closing >= 0, "the region is not closed"
        if 0 <= opening < closing:
            depth, position = depth + 1, opening + 4
        else:
            depth, position = depth - 1, closing + 6
    return rest[: position - 6]


def text_of_html(html: str) -> str:
    """Return the text of HTML on one line, without tags."""
    return " ".join(unescape(re.sub(r"<[^<>]*>", " ", html)).split())
