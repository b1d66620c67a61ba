"""Bounds of generated HTML, applied before it is parsed.

A parser multiplies its input: ``<b>`` that is never closed is opened again in every following paragraph, so that 55 kB
of ``<p><b id=1><p><b id=2>`` become gigabytes. It also takes quadratic time for deeply nested elements, and for many
attributes of one element. ``limit_markup`` follows the parser closely enough to stop before that.
"""

from __future__ import annotations

import logging
import re

from .html_source import TAG, escape_mentions

log = logging.getLogger("unwritten")

MAX_LENGTH = 200_000
"""Maximum number of characters of generated HTML."""

MAX_ELEMENTS = 10_000
"""Maximum number of start tags."""

MAX_DEPTH = 200
"""Maximum depth of nested elements. The start tags of deeper ones are left out."""

_MAX_REOPENED = 300_000
"""Maximum number of characters of tags that the parser may add because earlier elements are not closed."""

_MAX_OPEN = 100
"""Maximum number of such elements that are open at the same time."""

_MAX_ATTRIBUTES = 40
"""Maximum number of attributes of an element. One with more loses all of them."""

_UNNOTICED = 64
"""HTML with fewer tags and at most ``_SHORT`` characters is within all bounds."""

_SHORT = 20_000

_CONTAINERS = frozenset(
    "ul ol dl menu dir div blockquote center table section article aside main nav header footer hgroup details dialog "
    "figure fieldset address pre listing form button object applet marquee search svg math li dd "
    "summary figcaption h1".split()
)
"""Elements that only their own end tag closes, or that of an element around them."""

_ITEMS = frozenset({"li", "dd"})
"""Those of them that the next item or the end of the list closes."""

_ALIASES = {"dt": "dd", **dict.fromkeys(("h2", "h3", "h4", "h5", "h6"), "h1")}
"""Elements that close another one as if they were the same."""

_REOPENED = frozenset("a b big code em font i nobr s small strike strong tt u".split())
"""Elements that a parser opens again after the end of a block in which they are not closed."""

_UNNESTED = frozenset(
    "p tr td th thead tbody tfoot colgroup col caption br hr wbr img input link meta area "
    "base embed param source track html head body option optgroup".split()
)
"""Elements that cannot be nested without a container between them."""

_ALONE = frozenset({"a", "nobr"})
"""Those of them whose start tag ends the one before."""

_SPLITS = 8
"""How often a parser may copy the open elements for an end tag in the wrong place, which splits what it closes."""

_CELLS = frozenset({"td", "th", "caption", "object", "applet", "marquee"})
"""Elements in which an end tag does not close what is open outside of them."""

_BLOCKS = _CONTAINERS | (_UNNESTED - {"br", "wbr", "img", "input", "link", "meta", "area", "base", "embed", "param"})

_ATTRIBUTE_BREAK = re.compile(r"[\s/\"'=]+")
_END_LENGTH = 12
_LINK_LENGTH = 200
"""Characters that an end tag adds to an element, and with class and signature to a link."""


def limit_markup(html: str, *, growing: bool = False) -> str:
    """Return HTML that a parser handles in linear time and space. What is beyond a bound is cut off, with an ellipsis.

    Args:
        html: Generated HTML. Tags that it only mentions are escaped; see ``escape_mentions``.
        growing: True if more may follow. Only finished HTML that is cut is logged.
    """
    source = escape_mentions(html[:MAX_LENGTH], growing=growing)
    limited, end = _limit(source) if len(source) > _SHORT or source.count("<") > _UNNOTICED else (source, None)
    if end is None and len(html) <= MAX_LENGTH:
        return limited
    if not growing:
        end = MAX_LENGTH if end is None else end
        log.warning("Generated HTML was cut after %d of %d characters: it is too long or too complex.", end, len(html))
    return f"{limited}…"


def _limit(html: str) -> tuple[str, int | None]:
    """Return HTML within the bounds, and where it is cut, or None."""
    parts: list[str] = []
    position = num_elements = reopened = depth = 0
    levels: list[tuple[str, list[str]]] = [("", [])]  # the open containers, each with the other elements open in it
    open_tags = _OpenTags()
    for tag in TAG.finditer(html):
        name, source = tag[2].lower(), tag[0]
        if tag[1]:
            if name not in levels[-1][1][-1:]:  # it does not close the innermost element
                reopened += open_tags.length * (_SPLITS if name in _REOPENED else 1)
            if name in _REOPENED:
                open_tags.close(name)
            depth -= _close(levels, _ALIASES.get(name, name))
        else:
            num_elements += 1
            if len(tag[3]) > _MAX_ATTRIBUTES and len(_ATTRIBUTE_BREAK.findall(tag[3])) > 2 * _MAX_ATTRIBUTES:
                source = f"<{tag[2]}>"
            if name in _BLOCKS:
                reopened += open_tags.length
            if name in _REOPENED:
                if name in _ALONE and open_tags.close(name):
                    reopened += open_tags.length * _SPLITS
                open_tags.open(name, source)
            elif name in _CELLS:
                open_tags.begin_cell()
            name = _ALIASES.get(name, name)
            if name in _ITEMS and levels[-1][0] == name:  # it ends the item before it
                depth -= _close(levels, name)
            if name in _UNNESTED:
                pass
            elif depth >= MAX_DEPTH:
                source = ""
            else:
                depth += 1
                if name in _CONTAINERS:
                    levels.append((name, []))
                else:
                    levels[-1][1].append(name)
        if num_elements > MAX_ELEMENTS or reopened > _MAX_REOPENED or len(open_tags) > _MAX_OPEN:
            return "".join([*parts, html[position : tag.start()]]), tag.start()
        if source != tag[0]:
            parts += [html[position : tag.start()], source]
            position = tag.end()
    return "".join([*parts, html[position:]]), None


def _close(levels: list[tuple[str, list[str]]], name: str) -> int:
    """Close an element if a parser would. Return the number of elements that this closes, with those in it."""
    others = levels[-1][1]
    if name in others:
        count = 1
        while others.pop() != name:
            count += 1
        return count
    index = len(levels) - 1
    while levels[index][0] in _ITEMS and levels[index][0] != name:  # the end of a list ends its item
        index -= 1
    if levels[index][0] != name or not index:
        return 0
    count = sum(1 + len(inside) for _, inside in levels[index:])
    del levels[index:]
    return count


class _OpenTags:
    """The tags that a parser may open again.

    Attributes:
        length: The number of characters that it adds each time.
    """

    def __init__(self) -> None:
        self.length = 0
        self._tags: list[tuple[str, str, int]] = []  # name, source and length; the name "" is the start of a cell

    def __len__(self) -> int:
        return len(self._tags)

    def open(self, name: str, source: str) -> None:
        """Add a start tag. Of equal ones, three count, as in a parser."""
        if sum(source == other for _, other, _ in self._tags) < 3:
            length = len(source) + (_LINK_LENGTH if name == "a" else _END_LENGTH)
            self._tags.append((name, source, length))
            self.length += length

    def close(self, name: str) -> bool:
        """Remove the last tag with this name. Return False if none was opened in the current cell."""
        for index in range(len(self._tags) - 1, -1, -1):
            if self._tags[index][0] == name:
                self.length -= self._tags.pop(index)[2]
                return True
            if not self._tags[index][0]:
                break
        return False

    def begin_cell(self) -> None:
        """Begin a part in which end tags do not close what is open outside of it."""
        if self._tags and self._tags[-1][0]:
            self._tags.append(("", "", 0))
