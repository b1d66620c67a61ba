"""Markdown with ``[[Title]]`` links: the default format.

A text is drawn block by block, and a block that has not changed is not parsed again: the cost of a frame is
the cost of what is new in it. Blocks are split so that drawing them apart gives what drawing the whole gives.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from markupsafe import Markup, escape

from unwritten_engine import Frame, Span

from .links import WIKI_LINK, Linker
from .sanitize_html import clean_rendered
from .unsettled import (
    CLOSE,
    OPEN,
    PIPE,
    FormattedFrame,
    clip_spans,
    insert_marks,
    render_marks,
    strip_marks,
    unlink_unsettled,
)

_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})")
# Lines as Markdown counts them: Python's splitlines knows more ends of lines.
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
# A line that may belong to the block before the blank line: indented, a list item (or the number that one begins
# with), a quote, a table row.
_CONTINUES = re.compile(r"[ \t]|[-*+][ \t]|[-*+]$|\d{1,9}(?:[.)]|$)|>|\|")
# What Markdown needs at the start of a line; marks go after it.
_LINE_START = re.compile(r"[ \t]*(?:(?:#{1,6}|[-*+]|\d{1,9}[.)]|>|\|)[ \t]+|[>|])*[*_`]*")
_PLAIN_LINK = re.compile(r"(?<!\[)\[([^\[\]\n]+)\]\([^()\n]*\)")
# Lines that must not carry marks at all: rules, fences, the line under a table's head, the line under a title.
_BARE_LINE = re.compile(r"[ \t]*(?:`{3,}.*|~{3,}.*|[\s|:=*_-]*)$")


def split_blocks(text: str) -> Iterator[tuple[int, int]]:
    """Split a text at blank lines where the block before is certainly over.

    Yields:
        ``(start, end)`` of each block, blank lines after it included; together they are the whole text.
    """
    start = position = 0
    fence = ""
    blank = False
    for line in _LINE.findall(text):
        bare = line.rstrip("\r\n")
        if fence:
            closing = _FENCE.match(bare)
            if closing and closing[1].startswith(fence) and not bare.strip(" \t" + fence[0]):
                fence = ""
        elif not bare.strip(" \t"):
            blank = True
        else:
            if blank and not _CONTINUES.match(bare):
                yield start, position
                start = position
            blank = False
            opening = _FENCE.match(bare)
            if opening:
                fence = opening[1]
        position += len(line)
    if start < len(text):
        yield start, len(text)


class MarkdownFormatter:
    """Draws Markdown, or any prefix of it."""

    def __init__(self, linker: Linker) -> None:
        self._linker = linker
        self._drawn: dict[tuple[str, tuple[Span, ...], bool], str] = {}

    def format(self, frame: Frame) -> FormattedFrame:
        """HTML of the text so far."""
        text = strip_marks(frame.text)
        fresh: dict[tuple[str, tuple[Span, ...], bool], str] = {}
        html: list[str] = []
        length = fixed = 0
        for start, end in split_blocks(text):
            last = end == len(text)
            key = (text[start:end], clip_spans(frame.unsettled, start, end), last and not frame.done)
            drawn = fresh[key] = self._drawn.get(key) or self._block(*key)
            html.append(drawn)
            length += len(drawn)
            # The last block may still grow; those before it are over once the engine will not change them.
            if not last and end <= frame.fixed:
                fixed = length
        self._drawn = fresh
        return FormattedFrame(Markup("".join(html)), length if frame.done else fixed)

    def _block(self, text: str, unsettled: Sequence[Span], growing: bool) -> str:
        body, unsettled = _without_open_links(text, unsettled, growing)
        spans = list(_markable(body, unsettled))
        body = WIKI_LINK.sub(lambda match: match[0].replace("|", PIPE), body)
        body = _closed(insert_marks(body, spans), growing)
        html = _parser.render(body, {"linker": self._linker}).replace(PIPE, "|")
        return str(clean_rendered(render_marks(html)))


def _without_open_links(text: str, spans: Sequence[Span], growing: bool) -> tuple[str, Sequence[Span]]:
    """Hold back a ``[[link`` or ``[link](addr`` that is still being written, and show links that are not
    settled as words: a link works as soon as it is settled, and not before."""
    if growing:
        cut = re.search(r"\[\[?[^\[\]\n]{0,200}\]?(?:\([^()\n]{0,200})?$", text)
        if cut:
            words = cut[0].lstrip("[").split("](")[0].rstrip("]")
            shown = words.rsplit("|", 1)[-1].strip() if "|" in words else words
            kept = text[: cut.start()] + shown
            spans = [(a, min(b, len(kept))) for a, b in spans if a < len(kept)]
            if shown and not (spans and spans[-1][1] >= len(kept)):
                spans = [*[s for s in spans if s[1] <= cut.start()], (cut.start(), len(kept))]
            text = kept
    return unlink_unsettled(text, spans, WIKI_LINK, _PLAIN_LINK)


def _markable(text: str, spans: Sequence[Span]) -> Iterator[Span]:
    """The spans cut at line ends, after what Markdown needs at the start of a line, and off its emphasis."""
    for start, end in spans:
        position = start
        while position < end:
            line_start = text.rfind("\n", 0, position) + 1
            line_end = text.find("\n", position)
            line_end = len(text) if line_end < 0 else line_end
            if not _BARE_LINE.fullmatch(text, line_start, line_end):
                prefix = _LINE_START.match(text, line_start, line_end)
                a = max(position, prefix.end() if prefix else line_start)
                b = min(end, line_end)
                while b > a and text[b - 1] in "*_`| \t":
                    b -= 1
                while a < b and text[a] in "*_`| \t":
                    a += 1
                if a < b:
                    yield a, b
            position = line_end + 1


def _closed(text: str, growing: bool) -> str:
    """Emphasis that was opened and not closed: closed while the text grows, dropped when it is finished."""
    if "**" not in text or text.lstrip().startswith(("```", "~~~")) or "`" in text:
        return text
    if text.count("**") % 2 == 0:
        return text
    last = text.rindex("**")
    bare = text[last + 2 :].strip(OPEN + CLOSE + " \n")
    if growing and bare and "\n" not in bare:
        body = text.rstrip(CLOSE + " \n")
        return body + "**" + text[len(body) :]
    return text[:last] + text[last + 2 :]


def _wiki_link(state: StateInline, silent: bool) -> bool:
    """The inline rule for ``[[Title|text]]``; brackets that make no link vanish, and their words stay."""
    if not state.src.startswith("[[", state.pos):
        return False
    match = WIKI_LINK.match(state.src.replace(PIPE, "|"), state.pos)
    if not silent and match:
        token = state.push("wiki_link", "a", 0)
        token.content = match[2] or match[1]
        token.meta = {"title": match[1]}
    state.pos = match.end() if match else state.pos + 2
    return True


def _stray_close(state: StateInline, silent: bool) -> bool:
    if not state.src.startswith("]]", state.pos):
        return False
    state.pos += 2
    return True


def _lower_titles(state: StateCore) -> None:
    """The page has its own h1: a title inside a region is one level lower."""
    for token in state.tokens:
        if token.tag == "h1":
            token.tag = "h2"


class _Renderer(RendererHTML):
    """markdown-it's renderer, with links that go through the ``Linker`` in ``env``."""

    def wiki_link(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        linker: Linker = env["linker"]
        title = tokens[idx].meta["title"].replace(OPEN, "").replace(CLOSE, "")
        return str(linker.anchor(title, tokens[idx].content))

    def link_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        linker: Linker = env["linker"]
        address = str(tokens[idx].attrGet("href") or "")
        # A mark in an address: it is not settled, and leads nowhere yet.
        local = None if any(mark in unquote(address) for mark in (OPEN, CLOSE)) else linker.local_path(address)
        env.setdefault("open", []).append(local is not None)
        if local is None:
            return ""
        return f"<a{linker.attributes(local)}>"

    def link_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        return "</a>" if env["open"].pop() else ""

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        """A picture elsewhere would tell that place who is reading: only its words are shown."""
        return str(escape(self.renderInlineAsText(tokens[idx].children, options, env)))

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        return str(Markup("<pre><code>{}</code></pre>\n").format(tokens[idx].content))


def _make_parser() -> MarkdownIt:
    # "js-default" and not "commonmark", which lets <script> through. Reference definitions would tie one
    # block to another, and links are checked when they are drawn, so that a bad one leaves its words.
    parser = MarkdownIt("js-default", {"html": False}, renderer_cls=_Renderer).disable("reference")
    parser.inline.ruler.before("link", "wiki_link", _wiki_link)
    parser.inline.ruler.before("link", "stray_close", _stray_close)
    parser.core.ruler.push("lower_titles", _lower_titles)
    parser.validateLink = lambda url: True  # type: ignore[method-assign]
    return parser


_parser = _make_parser()
