"""The format "markdown", the default: Markdown with ``[[Title]]`` links.

A text is rendered block by block, and unchanged blocks are not parsed again: a frame costs only what is new in it.
Texts are split so that the blocks together render like the whole text.

While a text grows, a block keeps the type that it is first shown with, and no markup is shown that the finished page
does not show. For this, what cannot be decided yet at the end of the last block is held back: a line of nothing but
markup, the header of a possible table, an incomplete link (see ``markdown_inline``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_block.table import escapedSplit
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from markupsafe import Markup, escape

from unwritten_engine import Frame, Span

from . import markdown_inline
from .html import HTMLFormatter
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

# The start of a fenced code block, or blank lines.
_BREAK = re.compile(r"^(?: {0,3}(`{3,}(?=[^`\n]*$)|~{3,})|[ \t]*\n(?:[ \t]*\n)*)", re.M)
# A paragraph of one line without any markup, or characters that the sanitizer replaces.
_PLAIN_PARAGRAPH = re.compile(r"[^\W\d_][^\\`*_~\[\]<>&!\x00-\x1f\x7f-\xa0\ue000-\ue002]*\n*")
# A line that may continue the block before a blank line: indented, a list item (or the beginning of its number),
# a quote, a table row.
_CONTINUES = re.compile(r"[ \t]|[-*+](?:[ \t]|$)|\d{1,9}(?:[.)]|$)|>|\|", re.M)
# A last line that may become markup: nothing but markup so far, or a fence whose language may be incomplete.
_UNDECIDED_LINE = re.compile(
    r"(?:[\s>*+\-_=~`|:#]|\d{1,9}[.)](?!\S))*(?:\d{0,9}[.)]?|`{3}[^`\r\n]{0,80}|~{3}[^~\r\n]{0,80})"
)
# Markup at the start of a line. Marks go after it.
_LINE_START = re.compile(r"[ \t]*(?:(?:#{1,6}|[-*+]|\d{1,9}[.)]|>|\|)[ \t]+|[>|])*[*_`]*")
# Marks beside these characters would change their meaning.
_NO_MARKS_AROUND = "*_`~|#\\ \t"
_PLAIN_LINK = re.compile(r"(?:!|(?<!\[))\[((?:[^\[\]\n]|\[[^\[\]\n]*\])+)\]\([^()\n]*\)")
# The beginning of ``[[Title|text]]``.
_UNCLOSED_WIKI_LINK = re.compile(r"\[\[[^\[\]|\n]{1,200}\|")
_PARTIAL_WIKI_LINK = re.compile(_UNCLOSED_WIKI_LINK.pattern + r"[^\[\]|\n]{0,200}\]?\Z")
_FENCE = re.compile(r" {0,3}(```(?=[^`\n]*$)|~~~)", re.M)
# [[1, 2], [3, 4]]
_NESTED_BRACKETS = re.compile(rf"\[\[[^\[\]|{PIPE}\n]{{0,200}}\][{OPEN}{CLOSE}]*+[^\]\n]")
_BLANK_LINES = re.compile(r"\n[ \t\r]*+\n\s*+")
_TASK = re.compile(rf"([{OPEN}{CLOSE}]*)\[([ xX])\](?=\s)")
_MAX_HELD_ROW = 200
_MAX_HEADING = 100
_SENTENCE_ENDS = tuple(".!?:;,。！？：；，।؟۔")

# A frame must not take long, whatever a model writes. So a block with much markup is shown as plain text, and so is the
# rest of a text after very many blocks with markup: the limit is reached after about 60 kB of ordinary documentation.
_MAX_MARKUP = 2000
_MAX_MARKUP_OF_TEXT = 6000
# How long parsing takes, in characters of markup.
_BLOCK_COST = 8
_COSTS = {"\n": 3, "\r": 3, "](": 6, "<": 4, "*": 2, **dict.fromkeys("_`~[]>&!|\\", 1)}


def split_blocks(text: str, start: int = 0) -> Iterator[tuple[int, int]]:
    """Split a text at the blank lines that certainly end a block.

    Args:
        text: The text.
        start: Where a block begins.

    Yields:
        ``(start, end)`` of each block, including the blank lines after it. Together they cover the rest of the text.
    """
    if "\r" in text:
        text = text.replace("\r\n", " \n").replace("\r", "\n")
    fence = ""
    for match in _BREAK.finditer(text, start):
        end = match.end()
        if fence:
            if match[1] and match[1].startswith(fence):
                line_end = text.find("\n", end)
                if not text[end : line_end if line_end >= 0 else len(text)].strip(" \t"):
                    fence = ""
        elif match[1]:
            fence = match[1]
        elif end < len(text) and not _CONTINUES.match(text, end):
            yield start, end
            start = end
    if start < len(text):
        yield start, len(text)


# Models that are asked for Markdown sometimes answer in HTML. A tag with a space after it is one that a text is about.
_HTML_START = re.compile(
    r"\s*+<(?:!doctype\s+html|html|body|main|article|section|header|div|p|h[1-6]|[uod]l|table|blockquote|figure)"
    r"(?:\s[^<>]*+)?>(?![^\S\n])",
    re.IGNORECASE,
)
_PARTIAL_HTML_START = re.compile(r"\s*+<(?:!?[a-z]{0,10}[1-6]?(?:\s[^<>]{0,200})?>?)?", re.IGNORECASE)


class MarkdownFormatter:
    """Renders Markdown, or any prefix of it. A text that begins with an element of HTML is rendered as HTML."""

    def __init__(self, linker: Linker) -> None:
        self._linker = linker
        self._html_formatter = HTMLFormatter(linker)
        self._rendered: dict[tuple[str, tuple[Span, ...], bool], str] = {}  # the blocks of the previous frame
        # The leading blocks that are fixed. They are not even looked at again.
        self._fixed_text = ""
        self._fixed_html = ""
        self._fixed_cost = 0

    def format(self, frame: Frame) -> FormattedFrame:
        """Return the rendered text. Its settled blocks except the last one are fixed."""
        text = strip_marks(frame.text)
        if _HTML_START.match(text):
            return self._html_formatter.format(frame)
        if not frame.done and _PARTIAL_HTML_START.fullmatch(text):
            return FormattedFrame(Markup(""))
        if frame.fixed < len(self._fixed_text) or not text.startswith(self._fixed_text):
            self._fixed_text = self._fixed_html = ""
            self._fixed_cost = 0
        rendered: dict[tuple[str, tuple[Span, ...], bool], str] = {}
        html: list[str] = []
        spans = frame.unsettled
        settled = spans[0][0] if spans else len(text)
        num_fixed = 0
        fixed_end = len(self._fixed_text)
        cost = self._fixed_cost
        for start, end in split_blocks(text, fixed_end):
            if cost > _MAX_MARKUP_OF_TEXT:
                html.append(_render_plain(text[start:], clip_spans(spans, start, len(text))))
                break
            last = end == len(text)
            body = text[start:end]
            if not last and _PLAIN_PARAGRAPH.fullmatch(body):
                body = body.rstrip(" \n")
                marked = body if end <= settled else insert_marks(body, clip_spans(spans, start, start + len(body)))
                cost += 1
                html.append(_PARAGRAPH_START + render_marks(marked) + _PARAGRAPH_END)
            else:
                cost += _cost(body)
                key = (body, clip_spans(spans, start, end), last and not frame.done)
                block = rendered[key] = self._rendered.get(key) or self._render_block(*key)
                html.append(block)
            # The last block may still grow. Those before it are complete once the engine will not change them.
            if not last and end <= frame.fixed:
                num_fixed, fixed_end, self._fixed_cost = len(html), end, cost
        self._rendered = rendered
        self._fixed_text = text[:fixed_end]
        self._fixed_html += "".join(html[:num_fixed])
        whole = self._fixed_html + "".join(html[num_fixed:])
        return FormattedFrame(Markup(whole), len(whole) if frame.done else len(self._fixed_html))

    def _render_block(self, text: str, unsettled: Sequence[Span], growing: bool) -> str:
        if growing:
            line_start = max(text.rfind("\n"), text.rfind("\r")) + 1
            if _UNDECIDED_LINE.fullmatch(text, line_start):
                text, unsettled = text[:line_start], clip_spans(unsettled, 0, line_start)
        if _cost(text) > _MAX_MARKUP:
            return _render_plain(text, unsettled)
        text, unsettled = unlink_unsettled(text, unsettled, WIKI_LINK, _PLAIN_LINK, around=_disable_link)
        spans = list(_markable_spans(text, unsettled))
        text = WIKI_LINK.sub(_protect_pipe, text)
        if growing:
            text = _PARTIAL_WIKI_LINK.sub(_protect_pipe, text)
        open_line = growing and not text.endswith(("\n", "\r"))
        env = {"linker": self._linker, "growing": growing, "open_line": open_line}
        html = _parser.render(insert_marks(text, spans), env).replace(PIPE, "|")
        return str(clean_rendered(render_marks(html)))


def _cost(text: str) -> int:
    """Return about how long it takes to parse a block, in characters of markup."""
    if fence := _FENCE.match(text):
        end = text.find("\n" + fence[1], fence.end())
        text = text[end:] if end >= 0 else ""  # code costs nothing
    return _BLOCK_COST + sum(text.count(markup) * cost for markup, cost in _COSTS.items())


def _render_plain(text: str, unsettled: Sequence[Span]) -> str:
    paragraphs = _BLANK_LINES.sub("</p>\n<p>", str(escape(insert_marks(text, unsettled))).strip())
    return f"<p>{render_marks(paragraphs)}</p>\n"


def _disable_link(match: re.Match[str]) -> tuple[str, str]:
    """Return what stands around a link's text, with marks in its address: such a link is rendered as text."""
    group = match.lastindex or 0
    before, after = match.string[match.start() : match.start(group)], match.string[match.end(group) : match.end()]
    if before.startswith("[["):
        return f"[[{OPEN}{CLOSE}{before[2:]}", after
    return before, f"]({OPEN}{CLOSE}{after[2:]}"


def _protect_pipe(match: re.Match[str]) -> str:
    return match[0].replace("|", PIPE)


def _markable_spans(text: str, spans: Sequence[Span]) -> Iterator[Span]:
    """Split spans at line ends, and exclude markup at line starts and emphasis characters at their ends."""
    line_end = content_start = -1
    for start, end in spans:
        position = start
        while position < end:
            if position > line_end:
                line_start = text.rfind("\n", line_end + 1, position) + 1 or line_end + 1
                line_end = text.find("\n", position)
                line_end = len(text) if line_end < 0 else line_end
                line = text[line_start:line_end].lstrip()
                # Rules, fences, table delimiters and heading underlines cannot hold marks.
                markable = not line.startswith(("```", "~~~")) and line.strip(" \t\r|:=*_-")
                prefix = _LINE_START.match(text, line_start, line_end) if markable else None
                content_start = prefix.end() if prefix else line_end
            a, b = max(position, content_start), min(end, line_end)
            while b > a and text[b - 1] in _NO_MARKS_AROUND + "[!":
                b -= 1
            while a < b and (text[a] in _NO_MARKS_AROUND or (a and text[a - 1] == "\\")):
                a += 1
            if a < b:
                yield a, b
            position = line_end + 1


def _wiki_link(state: StateInline, silent: bool) -> bool:
    """Parse ``[[Title|text]]``, as an inline rule. Double brackets that form no link or list of lists are removed."""
    if not state.src.startswith("[[", state.pos) or _NESTED_BRACKETS.match(state.src, state.pos):
        return False
    match = WIKI_LINK.match(state.env["unprotected"], state.pos)
    if match:
        if not silent:
            token = state.push("wiki_link", "a", 0)
            token.content = match[2] or match[1]
            token.meta = {"title": match[1]}
            if state.md.inline.terminator_re.search(token.content):
                token.children = _parse_complete(state.md, token.content, state.env)
        state.pos = match.end()
        return True
    state.env["removed_brackets"] = state.pos
    unclosed = _UNCLOSED_WIKI_LINK.match(state.env["unprotected"], state.pos)
    if unclosed and not silent and state.env["open_line"] and state.src.find("]", state.pos, -1) < 0:
        state.append_pending(OPEN)  # up to the end of the text
    state.pos = unclosed.end() if unclosed else state.pos + 2 - state.src.startswith("[[[", state.pos)
    return True


def _stray_brackets(state: StateInline, silent: bool) -> bool:
    """Remove ``]]`` without an opening, as an inline rule. Silent rules look for the end of a link's text."""
    if silent or not state.src.startswith("]]", state.pos, state.posMax) or state.pos + 1 == state.env["link_end"]:
        return False
    start = max(state.src.rfind("\n", 0, state.pos), state.env["removed_brackets"] + 1) + 1
    if state.src.count("[", start, state.pos) - state.src.count("]", start, state.pos) >= 2:
        return False  # dict[str, list[int]]
    state.pos += 2
    return True


def _setext_heading(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    """Parse a line that is underlined with ``===`` or ``---``, as a block rule. Replaces "lheading".

    Longer paragraphs and sentences do not become headings: a ``---`` below them is meant as a rule.
    """
    underline = start_line + 1
    if underline >= end_line or state.is_code_block(start_line) or state.sCount[underline] < state.blkIndent:
        return False
    if state.is_code_block(underline):
        return False
    line = state.src[state.bMarks[underline] + state.tShift[underline] : state.eMarks[underline]].rstrip()
    content = state.getLines(start_line, underline, state.blkIndent, False).strip()
    if len(line) < 2 or line.strip(line[0]) or line[0] not in "=-":
        return False
    if line[0] == "-" and (len(line) < 3 or len(content) > _MAX_HEADING or content.endswith(_SENTENCE_ENDS)):
        return False
    state.line = underline + 1
    token = state.push("heading_open", "h2", 1)
    token.map = [start_line, state.line]
    token = state.push("inline", "", 0)
    token.content = content
    token.map = [start_line, underline]
    token.children = []
    state.push("heading_close", "h2", -1)
    return True


def _simplify_lists(state: StateCore) -> None:
    """Render the first paragraph of each list item without ``<p>``, and task lists with signs, as a core rule.

    Items would otherwise change when the list gets a blank line, which makes it a "loose" one.
    """
    tokens = state.tokens
    for index, token in enumerate(tokens[:-1]):
        if token.type == "list_item_open" and tokens[index + 1].type == "paragraph_open":
            tokens[index + 1].hidden = tokens[index + 3].hidden = True
            text = tokens[index + 2]
            text.content = _TASK.sub(lambda match: match[1] + "☐☑"[match[2] != " "], text.content, count=1)


def _parse_inline(state: StateCore) -> None:
    """Parse the content of blocks, as a core rule. Replaces "inline": only the end of the last block may grow."""
    env = state.env
    growing, open_line = bool(env.get("growing")), bool(env.get("open_line"))
    last = _find_growing(state.tokens, open_line) if growing else -1
    for index, token in enumerate(state.tokens):
        if token.type != "inline":
            continue
        held_row = False
        if index == last and state.tokens[index - 1].type == "paragraph_open":
            content = _hold_back_row(token.content)
            held_row = len(content) < len(token.content)
            token.content = content
        env["growing"] = index == last
        env["open_line"] = index == last and (open_line or held_row)
        env["text_end"] = len(token.content.rstrip(OPEN + CLOSE))
        env["unprotected"] = token.content.replace(PIPE, "|")
        env["link_end"] = None
        env["removed_brackets"] = -2
        token.children = []
        state.md.inline.parse(token.content, state.md, env, token.children)
        if not token.children and state.tokens[index - 1].type == "paragraph_open":  # nothing but a comment
            state.tokens[index - 1].hidden = state.tokens[index + 1].hidden = True


def _parse_complete(md: MarkdownIt, text: str, env: MutableMapping[str, Any]) -> list[Token]:
    """Parse an inline text that does not grow, inside another one."""
    around = dict(env)
    env.update(growing=False, open_line=False, text_end=len(text), unprotected=text, link_end=None, removed_brackets=-2)
    tokens = md.inline.parse(text, md, env, [])
    env.update(around)
    return tokens


def _find_growing(tokens: Sequence[Token], open_line: bool) -> int:
    """Return the index of the inline token at the end of the text, or -1 if the text ends with a complete block."""
    for index in range(len(tokens) - 1, 0, -1):
        if tokens[index].type in {"fence", "code_block", "hr"}:
            return -1
        if tokens[index].type == "inline" and tokens[index].content:
            return index if open_line or tokens[index - 1].type == "paragraph_open" else -1
    return -1


def _hold_back_row(text: str) -> str:
    """Return a paragraph without its last line if that may be a table's header, whose delimiter row has not come yet.

    Where the line does not begin with ``|``, its first cell may be shown already, and is kept.
    """
    line_start = text.rfind("\n") + 1
    pipe = text.find("|", line_start)
    if pipe < 0 or len(text) - pipe > _MAX_HELD_ROW:
        return text
    before = text[line_start:pipe].strip(OPEN + CLOSE + " ")
    if before.count("`") % 2 or before.endswith("\\"):
        return text
    return text[:pipe].rstrip() if before else text[:line_start].rstrip()


def _keep_extra_cells(state: StateCore) -> None:
    """Put the cells for which a table has no column into the last column, as a core rule, so that no text is lost."""
    lines: list[str] = []
    for index, token in enumerate(state.tokens):
        if token.type != "td_close" or state.tokens[index + 1].type != "tr_close":
            continue
        lines = lines or state.src.split("\n")
        cell = state.tokens[index - 1]
        row = next(i for i in range(index, 0, -1) if state.tokens[i].type == "tr_open")
        num_columns = (index - row) // 3
        cells = escapedSplit(lines[(cell.map or [0])[0]].strip())
        cells = cells[not cells[0].strip("> \t") : len(cells) - (not cells[-1])]
        if len(cells) > num_columns:
            cell.content = "|".join(cells[num_columns - 1 :]).strip()


def _demote_headings(state: StateCore) -> None:
    """Turn h1 into h2, as a core rule: the page has an h1 of its own."""
    for token in state.tokens:
        if token.tag == "h1":
            token.tag = "h2"


class _Renderer(RendererHTML):
    """markdown-it's renderer, with links from the ``Linker`` in ``env``."""

    def wiki_link(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        linker: Linker = env["linker"]
        title = tokens[idx].meta["title"]
        children = tokens[idx].children
        text = Markup(self.renderInline(children, options, env)) if children else escape(tokens[idx].content)
        # A title with a mark in it is not settled: the link is not shown yet.
        return str(text if OPEN in title or CLOSE in title else linker.anchor(title, text))

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
    parser.block.ruler.at("lheading", _setext_heading)
    parser.inline.ruler.at("backticks", markdown_inline.code_span)
    parser.inline.ruler.at("emphasis", markdown_inline.emphasis)
    parser.inline.ruler.disable("strikethrough")
    parser.inline.ruler.before("newline", "unfinished", markdown_inline.unfinished)
    parser.inline.ruler.before("autolink", "break_or_comment", markdown_inline.break_or_comment)
    parser.inline.ruler.before("link", "footnote", markdown_inline.footnote)
    parser.inline.ruler.before("link", "wiki_link", _wiki_link)
    parser.inline.ruler.before("link", "no_link", markdown_inline.no_link)
    parser.inline.ruler.before("link", "stray_brackets", _stray_brackets)
    parser.inline.ruler2.before("fragments_join", "finish_openers", markdown_inline.finish_openers)
    parser.core.ruler.at("inline", _parse_inline)
    parser.core.ruler.before("inline", "simplify_lists", _simplify_lists)
    parser.core.ruler.before("inline", "keep_extra_cells", _keep_extra_cells)
    parser.core.ruler.push("demote_headings", _demote_headings)
    parser.inline.terminator_re = re.compile(r"[\n!&<\[\]\\*_`~]")  # the characters that the rules above begin with
    parser.validateLink = lambda url: True  # type: ignore[method-assign]
    return parser


_parser = _make_parser()
_PARAGRAPH_START, _PARAGRAPH_END = str(clean_rendered(_parser.render("x"))).split("x")
