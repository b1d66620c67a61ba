"""The format "markdown", the default: Markdown with ``[[Title]]`` links.

A text is rendered block by block, and unchanged blocks are not parsed again: a frame costs only what is new in it.
Texts are split so that the blocks together render like the whole text.
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
# Lines as Markdown defines them. str.splitlines splits at more characters.
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
# A line that may continue the block before a blank line: indented, a list item (or the beginning of its number),
# a quote, a table row.
_CONTINUES = re.compile(r"[ \t]|[-*+][ \t]|[-*+]$|\d{1,9}(?:[.)]|$)|>|\|")
# Markup at the start of a line. Marks go after it.
_LINE_START = re.compile(r"[ \t]*(?:(?:#{1,6}|[-*+]|\d{1,9}[.)]|>|\|)[ \t]+|[>|])*[*_`]*")
_PLAIN_LINK = re.compile(r"(?<!\[)\[([^\[\]\n]+)\]\([^()\n]*\)")
# An incomplete ``[[link`` or ``[link](address`` at the end of a text.
_PARTIAL_LINK = re.compile(r"\[\[?[^\[\]\n]{0,200}\]?(?:\([^()\n]{0,200})?$")
# Lines that cannot hold marks: rules, fences, table delimiters, heading underlines.
_UNMARKABLE_LINE = re.compile(r"[ \t]*(?:`{3,}.*|~{3,}.*|[\s|:=*_-]*)$")


def split_blocks(text: str) -> Iterator[tuple[int, int]]:
    """Split a text at the blank lines that certainly end a block.

    Yields:
        ``(start, end)`` of each block, including the blank lines after it. Together they cover the whole text.
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
    """Renders Markdown, or any prefix of it."""

    def __init__(self, linker: Linker) -> None:
        self._linker = linker
        self._rendered: dict[tuple[str, tuple[Span, ...], bool], str] = {}  # the blocks of the previous frame

    def format(self, frame: Frame) -> FormattedFrame:
        """Return the rendered text. Its settled blocks except the last one are fixed."""
        text = strip_marks(frame.text)
        rendered: dict[tuple[str, tuple[Span, ...], bool], str] = {}
        html: list[str] = []
        length = fixed = 0
        for start, end in split_blocks(text):
            last = end == len(text)
            key = (text[start:end], clip_spans(frame.unsettled, start, end), last and not frame.done)
            block = rendered[key] = self._rendered.get(key) or self._render_block(*key)
            html.append(block)
            length += len(block)
            # The last block may still grow. Those before it are complete once the engine will not change them.
            if not last and end <= frame.fixed:
                fixed = length
        self._rendered = rendered
        return FormattedFrame(Markup("".join(html)), length if frame.done else fixed)

    def _render_block(self, text: str, unsettled: Sequence[Span], growing: bool) -> str:
        body, unsettled = _hold_back_links(text, unsettled, growing)
        spans = list(_markable_spans(body, unsettled))
        body = WIKI_LINK.sub(lambda match: match[0].replace("|", PIPE), body)
        body = _close_emphasis(insert_marks(body, spans), growing)
        html = _parser.render(body, {"linker": self._linker}).replace(PIPE, "|")
        return str(clean_rendered(render_marks(html)))


def _hold_back_links(text: str, spans: Sequence[Span], growing: bool) -> tuple[str, Sequence[Span]]:
    """Replace links that are incomplete or not fully settled by their text: only settled links can be followed.

    Args:
        text: A block.
        spans: Its unsettled spans.
        growing: True if the block may get more text.

    Returns:
        The new text and its unsettled spans.
    """
    if growing:
        partial = _PARTIAL_LINK.search(text)
        if partial:
            label = partial[0].lstrip("[").split("](")[0].rstrip("]")
            label = label.rsplit("|", 1)[-1].strip() if "|" in label else label
            shortened = text[: partial.start()] + label
            spans = [(a, min(b, len(shortened))) for a, b in spans if a < len(shortened)]
            if label and not (spans and spans[-1][1] >= len(shortened)):
                spans = [*[s for s in spans if s[1] <= partial.start()], (partial.start(), len(shortened))]
            text = shortened
    return unlink_unsettled(text, spans, WIKI_LINK, _PLAIN_LINK)


def _markable_spans(text: str, spans: Sequence[Span]) -> Iterator[Span]:
    """Split spans at line ends, and exclude markup at line starts and emphasis characters at their ends."""
    for start, end in spans:
        position = start
        while position < end:
            line_start = text.rfind("\n", 0, position) + 1
            line_end = text.find("\n", position)
            line_end = len(text) if line_end < 0 else line_end
            if not _UNMARKABLE_LINE.fullmatch(text, line_start, line_end):
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


def _close_emphasis(text: str, growing: bool) -> str:
    """Close a ``**`` that was opened and not closed while the text grows, or remove it from a finished text."""
    if "**" not in text or text.lstrip().startswith(("```", "~~~")) or "`" in text:
        return text
    if text.count("**") % 2 == 0:
        return text
    last = text.rindex("**")
    content = text[last + 2 :].strip(OPEN + CLOSE + " \n")
    if growing and content and "\n" not in content:
        body = text.rstrip(CLOSE + " \n")
        return body + "**" + text[len(body) :]
    return text[:last] + text[last + 2 :]


def _wiki_link(state: StateInline, silent: bool) -> bool:
    """Parse ``[[Title|text]]``, as an inline rule. Double brackets that form no link are removed."""
    if not state.src.startswith("[[", state.pos):
        return False
    match = WIKI_LINK.match(state.src.replace(PIPE, "|"), state.pos)
    if not silent and match:
        token = state.push("wiki_link", "a", 0)
        token.content = match[2] or match[1]
        token.meta = {"title": match[1]}
    state.pos = match.end() if match else state.pos + 2
    return True


def _stray_brackets(state: StateInline, silent: bool) -> bool:
    """Remove ``]]`` without an opening, as an inline rule."""
    if not state.src.startswith("]]", state.pos):
        return False
    state.pos += 2
    return True


def _demote_headings(state: StateCore) -> None:
    """Turn h1 into h2, as a core rule: the page has an h1 of its own."""
    for token in state.tokens:
        if token.tag == "h1":
            token.tag = "h2"


class _Renderer(RendererHTML):
    """markdown-it's renderer, with links from the ``Linker`` in ``env``."""

    def wiki_link(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        linker: Linker = env["linker"]
        title = tokens[idx].meta["title"].replace(OPEN, "").replace(CLOSE, "")
        return str(linker.anchor(title, tokens[idx].content))

    def link_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        linker: Linker = env["linker"]
        address = str(tokens[idx].attrGet("href") or "")
        # An address with a mark in it is not settled: the link is not shown yet.
        path = None if any(mark in unquote(address) for mark in (OPEN, CLOSE)) else linker.local_path(address)
        env.setdefault("open", []).append(path is not None)
        return "" if path is None else f"<a{linker.attributes(path)}>"

    def link_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        return "</a>" if env["open"].pop() else ""

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        """Return only the alternative text: an image on another server would reveal who reads the page."""
        return str(escape(self.renderInlineAsText(tokens[idx].children, options, env)))

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        return str(Markup("<pre><code>{}</code></pre>\n").format(tokens[idx].content))


def _make_parser() -> MarkdownIt:
    # "js-default", because "commonmark" lets <script> through. Reference definitions are disabled, because they
    # make one block depend on another. Links are checked when they are rendered, so that a bad one keeps its text.
    parser = MarkdownIt("js-default", {"html": False}, renderer_cls=_Renderer).disable("reference")
    parser.inline.ruler.before("link", "wiki_link", _wiki_link)
    parser.inline.ruler.before("link", "stray_brackets", _stray_brackets)
    parser.core.ruler.push("demote_headings", _demote_headings)
    parser.validateLink = lambda url: True  # type: ignore[method-assign]
    return parser


_parser = _make_parser()
