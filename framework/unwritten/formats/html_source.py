"""Generated HTML before it is parsed: a tag that a text only mentions must not swallow what follows.

A browser's parser hides everything after ``<title>``, ``<script>``, ``<svg>`` or ``<!--`` until their end. In "The
<title> tag names a page" that is the rest of the page. Here an element or comment with an end is removed, and one
without is text. What is returned is not safe: the sanitizer parses it afterwards.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

from .unsettled import CLOSE, OPEN

_RAW_TEXT = frozenset("script style textarea title xmp iframe noembed noframes noscript plaintext".split())
"""Elements whose content is parsed as text: the first end tag ends them. The others below can be nested."""

DROPPED_ELEMENTS = _RAW_TEXT | set("template object embed svg math select option canvas audio video hx-partial".split())
"""Elements whose content is no visible text: they are removed with their content."""

_PHRASING = frozenset({"title", "textarea", "select", "option"})
"""Those of them that never contain a block."""

# A quoted value that contains a tag is an unclosed quotation mark. All quantifiers are possessive, and no part of a tag
# matches the start of another one, so searching takes linear time.
_ATTRIBUTES = r"""(?:[^<>"']++|"(?:[^"<]++|<(?![A-Za-z/!?]))*+"|'(?:[^'<]++|<(?![A-Za-z/!?]))*+')*+"""
TAG = re.compile(rf"<(/?)([A-Za-z][^\s/<>]*+)({_ATTRIBUTES})>")
"""A complete tag: "/" in an end tag, the name, and the attributes."""

_PARTIAL_TAG = re.compile(
    rf"""</?[A-Za-z][^\s/<>]*+({_ATTRIBUTES}(?:"(?:[^"<]++|<(?![A-Za-z/!?]))*+|'(?:[^'<]++|<(?![A-Za-z/!?]))*+)?)\Z"""
)
_TAG_NAME = re.compile(r"</?[A-Za-z]")
_DROPPED_TAG = re.compile(rf"<(/?)({'|'.join(sorted(DROPPED_ELEMENTS))})(?=[\s/>])[^<>]*+>", re.I)
# Text and complete tags of other elements: most of a text, so it is skipped at once.
_ORDINARY = re.compile(
    r"(?:[^<]++|<(?=[^A-Za-z/!?])"
    rf"|</?(?!(?:{'|'.join(sorted(DROPPED_ELEMENTS))})[\s/>])[A-Za-z][^\s/<>]*+{_ATTRIBUTES}>)*+",
    re.I,
)
_DECLARATION = re.compile(r"<[!/?][^<>]*+>")
_BLOCK_TAG = re.compile(
    r"<(/?)(?:address|article|aside|blockquote|dd|details|div|dl|dt|figcaption|figure|footer|h[1-6]|header|li|main|nav|ol"
    r"|p|pre|section|summary|table|tbody|td|tfoot|th|thead|tr|ul)(?=[\s/>])",
    re.I,
)
_MARKS = re.compile(f"[{OPEN}{CLOSE}]")
_PROGRAM = re.compile(r"[{}=;]|\([\"'`]")
# What looks like a tag and has an end of its own: how it begins and ends.
_SECTIONS = {"<!--": re.compile(r"--!?>"), "<![CDATA[": re.compile(r"\]\]>"), "<?": re.compile(r"\?>")}


def escape_mentions(html: str, *, growing: bool = False) -> str:
    """Return HTML in which no element, comment or tag hides what follows it.

    Args:
        html: Generated HTML, or any prefix of it.
        growing: True if more may follow. The text then ends before an element whose end may still come, so that
            the source of a script is never shown.
    """
    at = _end_of_ordinary(html, 0)
    if at == len(html):
        return html
    source = _Source(html)
    parts: list[str] = []
    position = 0
    while at < len(html):
        end = source.end_of(at, growing)
        if end is None:  # text
            parts += [html[position:at], "&lt;"]
            position = at = at + 1
        elif end < 0:  # undecided
            return "".join([*parts, html[position:at], *_MARKS.findall(html, at)])
        elif source.is_dropped:
            parts += [html[position:at], *_MARKS.findall(html, at, end)]
            position = at = end
        else:
            at = end
        at = _end_of_ordinary(html, at)
    return "".join([*parts, html[position:]])


def _end_of_ordinary(html: str, start: int) -> int:
    """Return where the text and the ordinary tags from a position on end."""
    ordinary = _ORDINARY.match(html, start)
    return ordinary.end() if ordinary else start


class _Source:
    """Generated HTML, with the positions of what may end an element.

    Attributes:
        is_dropped: True if what ``end_of`` found last is to be removed.
    """

    def __init__(self, html: str) -> None:
        self.is_dropped = False
        self._html = html
        self._blocks = [(match.start(), bool(match[1])) for match in _BLOCK_TAG.finditer(html)]
        self._section_ends = {start: _ends(pattern.finditer(html)) for start, pattern in _SECTIONS.items()}
        self._end_tags: dict[str, list[tuple[int, int]]] = {}
        self._nested_ends: dict[int, tuple[int, int]] = {}
        self._program: list[int] | None = None
        open_tags: dict[str, list[int]] = {}
        for match in _DROPPED_TAG.finditer(html):
            name = match[2].lower()
            if name in _RAW_TEXT:
                if match[1]:
                    self._end_tags.setdefault(name, []).append(match.span())
            elif not match[1]:
                open_tags.setdefault(name, []).append(match.start())
            elif open_tags.get(name):
                self._nested_ends[open_tags[name].pop()] = match.span()

    def end_of(self, at: int, growing: bool) -> int | None:
        """Return the end of what begins with the ``<`` at a position: a tag, or what is to be removed.

        Returns:
            None if the ``<`` is text, and -1 if that is undecided.
        """
        self.is_dropped = False
        if not _TAG_NAME.match(self._html, at):
            following = self._html[at + 1 : at + 2]
            if following and following in "!?/":
                return self._end_of_section(at, growing)
            return at + 1 if following or not growing else -1  # parsers read this as text, too
        tag = TAG.match(self._html, at)
        if tag is None:
            return self._end_of_partial_tag(at, growing)
        name = tag[2].lower()
        if name not in DROPPED_ELEMENTS:
            return tag.end()
        if tag[1]:
            return None
        self.is_dropped = True
        if name == "embed" or (tag[3].endswith("/") and name in {"svg", "math"}):
            return tag.end()
        end = self._nested_ends.get(at) if name not in _RAW_TEXT else _first(self._end_tags.get(name, ()), tag.end())
        if self._crosses_block(name, tag.end(), end[0] if end else len(self._html)):
            return None
        if end is not None:
            return end[1]
        if growing:
            return -1
        return len(self._html) if self._is_cut_off(name, tag) else None

    def _end_of_section(self, at: int, growing: bool) -> int | None:
        """Like ``end_of``, for comments, declarations and processing instructions."""
        self.is_dropped = True
        for start, ends in self._section_ends.items():
            if self._html.startswith(start, at):
                # "<!-->" is a whole comment.
                end = _first(ends, at + 2)
                if self._crosses_block("", at + 2, end[0] if end else len(self._html)):
                    return None
                if end is not None:
                    return end[1]
                if growing:
                    return -1
        declaration = _DECLARATION.match(self._html, at)
        if declaration is not None and not self._html.startswith("<!--", at):
            return declaration.end()
        return -1 if growing and "<" not in self._html[at + 1 : at + 200] else None

    def _end_of_partial_tag(self, at: int, growing: bool) -> int | None:
        """Like ``end_of``, for a tag without an end. At the end of a finished text, an incomplete tag is removed."""
        partial = _PARTIAL_TAG.match(self._html, at)
        if partial is None:
            return None
        is_tag = "=" in partial[1] or not partial[1].strip()
        return -1 if growing or is_tag else None

    def _crosses_block(self, name: str, start: int, end: int) -> bool:
        """True if a block ends between these positions that began before them. Then the tag is only mentioned."""
        index = bisect_left(self._blocks, (start,))
        if index == len(self._blocks) or self._blocks[index][0] >= end:
            return False
        block, is_end = self._blocks[index]
        if name not in {"script", "style"}:
            return is_end or name in _PHRASING
        # A program may contain the tag in a string.
        return is_end and not self._has_program(start, block)

    def _is_cut_off(self, name: str, tag: re.Match[str]) -> bool:
        """True if a finished text ends inside of this element, so that the rest is its content."""
        if self._blocks and self._blocks[-1][0] >= tag.end():
            return False
        return "=" in tag[3] or (name in {"script", "style"} and self._has_program(tag.end(), len(self._html)))

    def _has_program(self, start: int, end: int) -> bool:
        """True if there are characters between these positions that are more usual in programs than in prose."""
        if self._program is None:
            self._program = [match.start() for match in _PROGRAM.finditer(self._html)]
        return bisect_left(self._program, start) < bisect_left(self._program, end)


def _ends(matches: Iterable[re.Match[str]]) -> list[tuple[int, int]]:
    return [match.span() for match in matches]


def _first(spans: Sequence[tuple[int, int]], start: int) -> tuple[int, int] | None:
    """Return the first span that begins at a position or after it."""
    index = bisect_right(spans, (start, -1))
    return spans[index] if index < len(spans) else None
