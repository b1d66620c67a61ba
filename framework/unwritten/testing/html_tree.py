"""Reading: HTML as a small tree, of which a test asks for words, links and forms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())


_SILENT = frozenset("script style template noscript head title skeleton iframe".split())


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
"""What a tag ends that was left open."""


@dataclass
class Node:
    """An element.

    Attributes:
        tag: its name, in small letters.
        attributes: by name; one without a value has "".
        children: elements and texts, in order.
        parent: the element around it.
    """

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Node | str] = field(default_factory=list)
    parent: Node | None = field(default=None, repr=False)
    span: tuple[int, int] = (0, 0)

    def all(self, *tags: str) -> Iterator[Node]:
        """Every element of these names inside, in the order of the document; every element, if none is named."""
        for child in self.children:
            if isinstance(child, Node):
                if not tags or child.tag in tags:
                    yield child
                yield from child.all(*tags)

    def first(self, *tags: str) -> Node | None:
        """The first element of these names inside."""
        return next(self.all(*tags), None)

    def around(self, tag: str) -> Node | None:
        """The nearest element of this name around it."""
        node = self.parent
        while node is not None and node.tag != tag:
            node = node.parent
        return node

    @property
    def text(self) -> str:
        """The words that a person sees, a line for each block."""
        lines = "".join(self._pieces()).split("\n")
        return "\n".join(line for line in (" ".join(line.split()) for line in lines) if line)

    @property
    def words(self) -> str:
        """The same on one line."""
        return " ".join(self.text.split())

    def _pieces(self) -> Iterator[str]:
        if self.tag in _SILENT or "hidden" in self.attributes or self.attributes.get("aria-hidden") == "true":
            return
        block = self.tag in _BLOCKS
        if block:
            yield "\n"
        for child in self.children:
            if isinstance(child, Node):
                yield from child._pieces()
            else:
                yield child if self.tag == "pre" else " ".join(child.split("\n"))
        if block:
            yield "\n"


class _Reader(HTMLParser):
    """Builds the tree. What an author left open is closed where a browser would close it, as far as tests need that."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("document")
        self._open = self.root
        self._starts = [0]
        for line in html.split("\n"):
            self._starts.append(self._starts[-1] + len(line) + 1)
        self.feed(html)
        self.close()
        while self._open is not self.root:
            self._leave(len(html))

    def _at(self) -> int:
        line, column = self.getpos()
        return self._starts[line - 1] + column

    def _leave(self, end: int) -> None:
        self._open.span = (self._open.span[0], end)
        self._open = self._open.parent or self.root

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        while self._open.tag in _CLOSES.get(tag, ()):
            self._leave(self._at())
        begin = self._at() + len(self.get_starttag_text() or "")
        node = Node(tag, {name: value or "" for name, value in reversed(attrs)}, parent=self._open, span=(begin, begin))
        self._open.children.append(node)
        if tag not in VOID:
            self._open = node

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID and self._open.tag == tag:
            self._leave(self._at())

    def handle_endtag(self, tag: str) -> None:
        node: Node | None = self._open
        while node is not None and node.tag != tag:
            node = node.parent
        if node is None:
            return  # it closes nothing
        while self._open is not node:
            self._leave(self._at())
        self._leave(self._at())

    def handle_data(self, data: str) -> None:
        self._open.children.append(data)


def parse_html(html: str) -> Node:
    """The tree of a document. ``span`` of each element is where its inner HTML stands in the source."""
    return _Reader(html.replace("\r\n", "\n")).root
