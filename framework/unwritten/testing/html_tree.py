"""Parse HTML into a small tree, for the text, links and forms of a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())

_INVISIBLE = frozenset("script style template noscript head title skeleton iframe".split())

_BLOCKS = frozenset(
    """address article aside blockquote body br caption dd details dialog div dl dt fieldset figcaption figure footer
    form h1 h2 h3 h4 h5 h6 header hr html legend li main nav ol p pre section summary table td th tr ul""".split()
)

_CLOSES = {
    **{tag: {"p"} for tag in _BLOCKS - {"br"}},
    "li": {"li", "p"},
    "dt": {"dt", "dd", "p"},
    "dd": {"dt", "dd", "p"},
    "td": {"td", "th", "p"},
    "th": {"td", "th", "p"},
    "tr": {"tr", "td", "th", "p"},
    "option": {"option"},
    "optgroup": {"option"},
}
"""The open elements that a start tag closes."""


@dataclass
class Node:
    """An element.

    Attributes:
        tag: Its name in lower case.
        attributes: Values by name. An attribute without a value has "".
        children: Elements and texts, in order.
        parent: The element around it.
        span: Start and end of its inner HTML in the source.
    """

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Node | str] = field(default_factory=list)
    parent: Node | None = field(default=None, repr=False)
    span: tuple[int, int] = (0, 0)

    def find_all(self, *tags: str) -> Iterator[Node]:
        """Return the descendants with these tags, in document order; without tags, all descendants."""
        for child in self.children:
            if isinstance(child, Node):
                if not tags or child.tag in tags:
                    yield child
                yield from child.find_all(*tags)

    def find(self, *tags: str) -> Node | None:
        """Return the first descendant with one of these tags."""
        return next(self.find_all(*tags), None)

    @property
    def text(self) -> str:
        """The visible text, one line per block."""
        lines = "".join(self._pieces()).split("\n")
        return "\n".join(line for line in (" ".join(line.split()) for line in lines) if line)

    @property
    def line(self) -> str:
        """The visible text on one line."""
        return " ".join(self.text.split())

    def _pieces(self) -> Iterator[str]:
        if self.tag in _INVISIBLE or "hidden" in self.attributes or self.attributes.get("aria-hidden") == "true":
            return
        is_block = self.tag in _BLOCKS
        if is_block:
            yield "\n"
        for child in self.children:
            if isinstance(child, Node):
                yield from child._pieces()
            else:
                yield child if self.tag == "pre" else " ".join(child.split("\n"))
        if is_block:
            yield "\n"


class _TreeBuilder(HTMLParser):
    """Builds the tree. Elements that are left open are closed where a browser closes them, for common cases."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("document")
        self._open = self.root
        self._line_starts = [0]
        for line in html.split("\n"):
            self._line_starts.append(self._line_starts[-1] + len(line) + 1)
        self.feed(html)
        self.close()
        while self._open is not self.root:
            self._close_node(len(html))

    def _position(self) -> int:
        line, column = self.getpos()
        return self._line_starts[line - 1] + column

    def _close_node(self, end: int) -> None:
        self._open.span = (self._open.span[0], end)
        self._open = self._open.parent or self.root

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        while self._open.tag in _CLOSES.get(tag, ()):
            self._close_node(self._position())
        start = self._position() + len(self.get_starttag_text() or "")
        node = Node(tag, {name: value or "" for name, value in reversed(attrs)}, parent=self._open, span=(start, start))
        self._open.children.append(node)
        if tag not in _VOID:
            self._open = node

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID and self._open.tag == tag:
            self._close_node(self._position())

    def handle_endtag(self, tag: str) -> None:
        node: Node | None = self._open
        while node is not None and node.tag != tag:
            node = node.parent
        if node is None:
            return  # there is no such open element
        while self._open is not node:
            self._close_node(self._position())
        self._close_node(self._position())

    def handle_data(self, data: str) -> None:
        self._open.children.append(data)


def parse_html(html: str) -> Node:
    """Return the tree of a document. Spans refer to ``html`` with line ends normalized to newlines."""
    return _TreeBuilder(html.replace("\r\n", "\n")).root
