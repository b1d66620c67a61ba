"""Inline Markdown that may still grow: emphasis in every script, and markup whose end has not arrived yet.

Three rules keep the text of a growing block stable:

* What cannot be decided yet at the end of the text is held back: ``[the sea``, ``&am``, a ``**`` at the end.
* Emphasis and code that are open are shown as if they were closed at the end of the text.
* An opening run is not shown while the text grows. If it is never closed, the finished text shows it where it is
  probably meant as text (``*args``, ``_private``, ``5 stars*``), but not what a model forgot to close (``**Note``).

``env["growing"]`` is true while the text of an inline token may grow, ``env["open_line"]`` while its last line may, and
``env["text_end"]`` is where the text ends, without marks of unsettled spans.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache

from markdown_it.rules_inline import StateInline, backtick
from markdown_it.rules_inline.state_inline import Delimiter

from .unsettled import CLOSE, OPEN, PIPE

_MARKS = OPEN + CLOSE
_END = rf"[{_MARKS}]*\Z"
_MAX_HELD = 80
"""The longest label of a possible link that is held back."""

_LONGEST_RUN = 3
"""``***both***``. Longer runs of a marker are text: ``****``."""

_MAX_OPEN = 4
"""How many kinds of emphasis are shown as open at the end of a growing text. More are not meant as emphasis."""

_LABEL = r"(?:\\.|[^\[\]\\]|\[[^\[\]\n]*\])*"
_ADDRESS = r"(?:[^()\n]|\([^()\n]*\))*(?:\([^()\n]*)?"
_COMMENT_TEXT = r"(?:[^-]|-(?!->)){0,200}"
_UNFINISHED = re.compile(
    rf"!{_END}|&[#\w{_MARKS}]{{0,31}}{_END}"
    # <https://…> and <mail@…>
    rf"|<[{_MARKS}]*(?:br[ {_MARKS}]{{0,3}}/?|![{_MARKS}]*-?|!--{_COMMENT_TEXT}){_END}"
    rf"|<(?:[\w.+{_MARKS}-]{{0,64}}(?:@[\w.{_MARKS}-]{{0,255}})?|[A-Za-z][\w.+-]{{1,31}}:[^\s<>]{{0,500}}){_END}"
    # [text, [text], [[Title, [[Title] and the end of ]]
    rf"|!?\[(?!\[)(?:[^\[\]]|\[[^\[\]\n]{{0,{_MAX_HELD}}}(?:\]|{_END})){{0,{_MAX_HELD}}}\]?{_END}"
    rf"|\[\[[^\[\]|{PIPE}\n]{{0,{_MAX_HELD}}}\]?{_END}|\]{_END}"
)
_UNFINISHED_LONG_LABEL = re.compile(rf"!?\[(?!\[){_LABEL}\]?{_END}")
# The text of a link whose address is incomplete.
_UNFINISHED_LINK = re.compile(rf"!?\[(?!\[)(?={_LABEL}(\])\({_ADDRESS}{_END})")
# ``[label](``, where the label has balanced brackets, at most three levels deep. Matching it is cheap: markdown-it
# takes a hundred times as long to find that a bracket begins no link.
_TEXT = r"\\.|`[^`]*`|[^\[\]\\]"
_LINK_START = re.compile(rf"!?\[(?:{_TEXT}|\[(?:{_TEXT}|\[(?:{_TEXT}|\[(?:{_TEXT})*+\])*+\])*+\])*+\]\(", re.S)
_FOOTNOTE = re.compile(rf"\[[{_MARKS}]*\^([^\[\]\s]{{1,40}})\](:?)")

_MARKUP = re.compile(r"[\\`*_~\[\]<&!]")
# *.py and the emoji of the key *
_LITERAL_STAR = re.compile(rf"\*[{_MARKS}]*(?:\.(?=\w|{_END})|[\ufe0f\u20e3])")

# __init__
_NAME = re.compile(rf"__[{_MARKS}]*[a-z][a-z0-9{_MARKS}]*+(?:_[a-z0-9{_MARKS}]++)*+__(?![{_MARKS}]*\w)")
_UNFINISHED_NAME = re.compile(rf"__[a-z0-9_{_MARKS}]{{0,{_MAX_HELD}}}\Z")
# **kwargs
_LOWER_CASE_NAME = re.compile(rf"[{_MARKS}]*[a-z_][a-z0-9_{_MARKS}]*+(?!\w)")
_NO_LETTERS = re.compile(r"[\W_]*+")
_BREAK_TAG = re.compile(rf"<br[ {_MARKS}]{{0,3}}/?[{_MARKS}]?>", re.I)
_COMMENT = re.compile(f"<!--{_COMMENT_TEXT}-->")

_SPACE, _LETTER, _OPENING, _CLOSING, _OTHER = range(5)
_CLOSING_PUNCTUATION = frozenset(".,:;!?、。，．：；！？।॥،؛؟۔")
# The rest of a word up to the next run of the same marker.
_WORD_REST: Mapping[str, re.Pattern[str]] = {
    marker[-1]: re.compile(rf"[^\s{marker}]{{1,{_MAX_HELD}}}({marker}*)") for marker in (r"\*", "~", "`")
}


@lru_cache(maxsize=4096)
def _kind(char: str) -> int:
    """Return what a character next to a run of markers is: a space, a letter, or a kind of punctuation."""
    category = unicodedata.category(char)
    if char.isspace() or category == "Zs":
        return _SPACE
    if category == "Ps":
        return _OPENING
    if category == "Pe" or char in _CLOSING_PUNCTUATION:
        return _CLOSING
    return _OTHER if category[0] in "PS" else _LETTER


def _skip_marks_back(src: str, position: int) -> int:
    while position and src[position - 1] in _MARKS:
        position -= 1
    return position


def _neighbours(state: StateInline, start: int, end: int) -> tuple[str, str]:
    """Return the characters before and after a run of markers. Marks of unsettled spans do not count."""
    src = state.src
    start = _skip_marks_back(src, start)
    while end < state.posMax and src[end] in _MARKS:
        end += 1
    return src[start - 1] if start else " ", src[end] if end < state.posMax else " "


def _run_end(state: StateInline) -> int:
    """Return the end of the run of equal characters at the current position."""
    end = state.pos + 1
    while end < state.posMax and state.src[end] == state.src[state.pos]:
        end += 1
    return end


def _can_open_close(marker: str, before: str, after: str) -> tuple[bool, bool]:
    """Return whether a run of markers can open, and whether it can close emphasis.

    CommonMark's rules expect a space or punctuation on one side of a run, so they fail in scripts without spaces:
    ``これは**「重要」**です``. Where one of the two characters is not ASCII, or closes a clause, a run between a letter
    and punctuation can do both. As in CommonMark, it closes what is open, and opens if nothing is.
    """
    previous, following = _kind(before), _kind(after)
    can_open = following != _SPACE and (following == _LETTER or previous != _LETTER)
    can_open = can_open and not (previous == following == _CLOSING)  # "(e.g.*), " has the mark of a footnote
    can_close = previous != _SPACE and (previous == _LETTER or following != _LETTER)
    if previous == following == _LETTER:
        # 変数_名 is a name, but a word in _한국어_로 is followed by its particle.
        return (False, _is_caseless(before) and _is_caseless(after)) if marker == "_" else (True, True)
    unspaced = not (before.isascii() and after.isascii())
    if not can_open and previous == _LETTER and following not in (_SPACE, _CLOSING):
        can_open = unspaced
    elif not can_close and following == _LETTER and previous not in (_SPACE, _OPENING):
        can_close = unspaced or (previous == _CLOSING and marker != "_")
    return can_open, can_close


def _is_latin(char: str) -> bool:
    """True for digits and for letters of Latin and Greek, which stand in formulas and file names."""
    return char < "\u0400" and char.isalnum()


def _is_caseless(char: str) -> bool:
    """True for letters of scripts without capitals."""
    return not char.isascii() and char.isalpha() and char.lower() == char.upper()


def _is_formula(state: StateInline, start: int, end: int) -> bool:
    """True if a run inside a word stands between numbers or variables: ``2*3``, ``2**8``, ``a*b``."""
    before, after = _neighbours(state, start, end)
    if not (_is_latin(before) and _is_latin(after)):
        return False
    if before.isdigit() or after.isdigit():
        return True
    previous = _skip_marks_back(state.src, _skip_marks_back(state.src, start) - 1)
    return end - start == 1 and not (previous and _is_latin(state.src[previous - 1]))


def _begins_word(state: StateInline, marker: str, start: int) -> bool:
    """True if the word before a position begins with a marker: ``*2*nd``."""
    word_start = max(state.src.rfind(" ", 0, start), state.src.rfind("\n", 0, start)) + 1
    no_letters = _NO_LETTERS.match(state.src, word_start)
    return no_letters is not None and marker in no_letters[0]


def _closing_length(state: StateInline, start: int, end: int) -> int | None:
    """Return the length of the run that closes a run inside a word, in the same word.

    ``un*frigging*believable`` is emphasis, but ``2*3`` and ``2**8`` are not.

    Returns:
        0 if the word ends before, None if it may still grow, and the length of the run itself outside of words and in
        scripts that do not put spaces between words.
    """
    before, after = _neighbours(state, start, end)
    in_word = _is_latin(before) or (before in ")]}" and state.src[start] == "*")
    if not (in_word and _is_latin(after)):
        return end - start
    rest = _WORD_REST[state.src[start]].match(state.src, end)
    if not rest:
        return 0
    if state.env["open_line"] and rest.end() >= state.env["text_end"] and len(rest[0]) < _MAX_HELD:
        return None
    return len(rest[1])


def emphasis(state: StateInline, silent: bool) -> bool:
    """Parse a run of ``*``, ``_`` or ``~``, as an inline rule. Replaces "emphasis" and "strikethrough"."""
    marker = state.src[state.pos]
    if silent or marker not in "*_~":
        return False
    start, end = state.pos, _run_end(state)
    if state.env["open_line"] and end >= state.env["text_end"]:
        state.pos = len(state.src)
        return True
    if marker == "_" and state.env["open_line"] and _UNFINISHED_NAME.match(state.src, start):
        state.pos = len(state.src)
        return True
    name = _NAME.match(state.src, start) if marker == "_" else None
    if name:
        state.append_pending(name[0])
        state.pos = name.end()
        return True
    before, after = _neighbours(state, start, end)
    can_open, can_close = _can_open_close(marker, before, after)
    width = 2 if marker == "~" else 1
    length = end - start
    if not width <= length <= _LONGEST_RUN:
        state.append_pending(state.src[start:end])
        state.pos = end
        return True
    if marker == "*" and before == "^":  # x^*
        can_open = can_close = False
    elif marker == "*" and _is_formula(state, start, end):
        can_open, can_close = False, can_close and _begins_word(state, marker, start)
    elif length == 2 and not can_close and _kind(before) == _OTHER and _kind(after) == _LETTER:
        can_close = marker == "*" and _has_opener(state, marker, length)  # **"Işık"**ı
    hidden = can_open
    if can_open and marker != "_":
        closing = _closing_length(state, start, end)
        literal = _LITERAL_STAR.match(state.src, start)
        undecided = closing is None and not (can_close and _has_opener(state, marker, length))
        if undecided or (literal and state.env["open_line"] and literal.end() >= state.env["text_end"]):
            state.pos = len(state.src)
            return True
        can_open = bool(closing) and not literal
        hidden = can_open and closing == length
    # What is never closed is probably meant as text if it is a single marker or stands before a name.
    is_text = marker != "~" and (length == 1 or bool(_LOWER_CASE_NAME.match(state.src, end)))
    if length % width:
        state.push("text", "", 0).content = marker
    for _ in range(length // width):
        token = state.push("text", "", 0)
        token.content = marker * width
        token.info = ("open" if can_open else "stray") if hidden else ""
        token.meta = {"is_text": is_text}
        # The length 0 disables the rule that the lengths of two runs do not add up to a multiple of 3.
        rule_length = 0 if marker == "~" else length
        state.delimiters.append(Delimiter(ord(marker), rule_length, len(state.tokens) - 1, -1, can_open, can_close))
    state.pos = end
    return True


def _has_opener(state: StateInline, marker: str, length: int) -> bool:
    """True if emphasis by a run of this length is open."""
    num_open = 0
    for delimiter in state.delimiters:
        if delimiter.marker == ord(marker) and delimiter.length in (length, 0):
            if delimiter.close and num_open:
                num_open -= 1
            elif delimiter.open:
                num_open += 1
    return num_open > 0


def finish_openers(state: StateInline) -> None:
    """Close emphasis that is open at the end of a growing text, and remove what a model forgot to close.

    A rule of the second kind, after those that match pairs.
    """
    tokens = state.tokens
    closing: list[tuple[str, str]] = []
    depth = 0
    for index, token in enumerate(tokens):
        depth += token.nesting
        if token.type != "text" or not token.info or not token.content:
            continue
        if token.meta["is_text"] and not state.env["growing"]:
            continue
        marker, token.content = token.content, ""
        if token.info == "open" and depth == 0 and len(closing) < _MAX_OPEN and state.env["growing"]:
            name, tag = ("s", "s") if marker == "~~" else ("em", "em")
            following = tokens[index + 1] if index + 1 < len(tokens) else None
            if following and following.info == "open" and following.content == marker and name == "em":
                name = tag = "strong"
                following.content = ""
            token.type, token.tag, token.nesting = f"{name}_open", tag, 1
            closing.append((f"{name}_close", tag))
    for name, tag in reversed(closing):
        state.push("text", "", 0)
        tokens[-1].type, tokens[-1].tag, tokens[-1].nesting = name, tag, -1


def code_span(state: StateInline, silent: bool) -> bool:
    """Parse a code span, as an inline rule. Replaces "backticks", whose runs without an end are shown."""
    if state.src[state.pos] != "`":
        return False
    start, end = state.pos, _run_end(state)
    if state.env["open_line"] and end >= state.env["text_end"]:
        state.pos = len(state.src)
        return True
    closing = _closing_length(state, start, end)
    if closing is None or closing != end - start:
        if not silent and closing is not None:
            state.append_pending(state.src[start:end])
        state.pos = len(state.src) if closing is None else end
        return True
    pending = state.pending
    backtick(state, silent)
    if silent:
        return True
    if state.pending == pending + state.src[start:end]:  # The run has no closing one.
        state.pending = pending
    elif state.env["open_line"] and state.pos >= state.env["text_end"]:  # The closing run may grow, and be none then.
        state.tokens.pop()
        state.tokens_meta.pop()
    else:
        return True
    state.pos = end
    if state.env["growing"] and state.src.find("\n", end) < 0:
        # If the span is never closed, what looks like markup in it is markup. It waits for the end of the span.
        content = state.src[end:]
        markup = _MARKUP.search(content)
        shown = markup.start() if markup else len(content)
        if len(content) - shown <= _MAX_HELD:
            state.push("code_inline", "code", 0).content = content[:shown].removeprefix(" ")
            state.pos = len(state.src)
    return True


def unfinished(state: StateInline, silent: bool) -> bool:
    """Hold back a link, an address, an entity or an escape that is incomplete at the end, as an inline rule.

    Of a link whose address is incomplete, the text is shown, as unsettled.
    """
    src, pos = state.src, state.pos
    if pos == state.env["link_end"]:
        if not silent and state.env["growing"]:
            state.append_pending(CLOSE)
        state.pos = len(src)
        return True
    if src[pos] not in "\\!&<[]":
        return False
    link = _UNFINISHED_LINK.match(src, pos) if src[pos] in "![" else None
    if link and not silent:
        state.env["link_end"] = link.start(1)
        if state.env["growing"]:
            state.append_pending(OPEN)
        state.pos = link.end()
        return True
    if src[pos] == "\\" and state.env["growing"] and pos + 1 >= state.env["text_end"]:
        state.pos = len(src)
        return True
    # The text of a link may go on in the next line.
    if not state.env["growing" if src[pos] == "[" else "open_line"]:
        return False
    if _UNFINISHED.match(src, pos) or (silent and link):
        state.pos = len(src)
        return True
    label = _UNFINISHED_LONG_LABEL.match(src, pos) if src[pos] in "![" else None
    if label and not silent:
        state.pos = src.index("[", pos) + 1
        return True
    return False


def no_link(state: StateInline, silent: bool) -> bool:
    """Parse a bracket that begins no link, as an inline rule."""
    start = "!" if state.src.startswith("![[", state.pos) else "![" if state.src.startswith("![", state.pos) else "["
    if not state.src.startswith(start, state.pos) or _LINK_START.match(state.src, state.pos):
        return False
    if not silent:
        state.append_pending(start)
    state.pos += len(start)
    return True


def footnote(state: StateInline, silent: bool) -> bool:
    """Parse ``[^1]`` and, at the start of a line, ``[^1]:``, as an inline rule. They become superscript."""
    match = _FOOTNOTE.match(state.src, state.pos)
    if not match:
        return False
    if not silent:
        state.push("sup_open", "sup", 1)
        state.push("text", "", 0).content = match[1]
        state.push("sup_close", "sup", -1)
    before = _skip_marks_back(state.src, state.pos)
    at_line_start = before == 0 or state.src[before - 1] == "\n"
    state.pos = match.end() if at_line_start else match.end(1) + 1
    return True


def break_or_comment(state: StateInline, silent: bool) -> bool:
    """Parse ``<br>`` and short comments, as an inline rule. Other HTML in Markdown is text."""
    match = _BREAK_TAG.match(state.src, state.pos) or _COMMENT.match(state.src, state.pos)
    if not match:
        return False
    if not silent and match.re is _BREAK_TAG:
        state.push("hardbreak", "br", 0)
    elif not silent:
        state.pending += "".join(re.findall(f"[{_MARKS}]", match[0]))
    state.pos = match.end()
    return True
