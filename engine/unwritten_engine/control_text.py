"""Reasoning and control tokens in generated text: remove them, and end the text where the model ended its turn.

A server whose parser does not know the model sends these as text. The same strings are ordinary text where a page is
about them: in code (spans, fenced and indented blocks, elements of HTML), in quotation marks, in strings of JSON, and
inside of a sentence, which real markers do not stand in.
That an inline span or a quotation is one shows only at its end, on the same line. Until then the text is held back.

Spans are only looked for once there is a marker, which most texts never have. The scanner looks at each character a
constant number of times, whatever the text is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import regex

from .characters import PositionMap

_MARKER: Final = regex.compile(
    r"""
      (?P<think> <(?:seed:)?(?:think|thinking|thought|reasoning)(?:\s{1,2}[\w-]{1,20}=[^<>\s]{0,30}){0,2}\s{0,2}>
        | \[THINK\] | ◁think▷ | <\|(?:channel|START_THINKING\||inner_prefix\|)> )
    | (?P<unthink> </(?:seed:)?(?:think|thinking|thought|reasoning)\s{0,2}>
        | \[/THINK\] | ◁/think▷ | <channel\|> | <\|(?:END_THINKING|inner_suffix)\|> )
    | (?P<channel> <\|channel\|> [ ]{0,2} (?P<name>\w{0,20}) [^<\n]{0,60} )
    | (?P<turn> <(?:start_of_turn|\|turn|\|im_start\||\|start\||\|start_header_id\|)>
        \s{0,2} (?P<role>\w{0,20}) (?:<\|end_header_id\|>)? \s{0,2} )
    | (?P<assistant> (?:
            <(?:bos|\|(?:begin_of_text|startoftext|assistant|end_header_id|CHATBOT_TOKEN)\|)>
          | <｜(?:begin▁of▁sentence|Assistant)｜> | \[/INST\]
        ) \s{0,2} )
    | (?P<strike> </s> | <s>(?=[ ]|\[INST\]) )
    | (?P<padding> <(?:pad|unk|unused\d{1,4}|\|(?:message|(?:begin|end)_of_box)\|)> )
    | (?P<end> <(?:eos|eot|eot_id|im_end|end_?of_?(?:turn|text|utterance)|</?SYS>)>
        | <\|[\w/.-]{3,40}\|?> | <\w{3,40}\|> | (?<![^\n])\#\#\#[ ](?:Instruction|Human|Assistant):
        | <[｜][\w▁]{1,40}[｜]> | \[INST\] | \[/?(?:SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\] )
    """,
    regex.VERBOSE | regex.IGNORECASE,
)
"""Markers of chat templates. Unknown tokens of the usual forms, such as ``<|name|>``, count as the end of a turn."""
_WHOLE_MARKER: Final = re.compile(_MARKER.pattern, re.VERBOSE | re.IGNORECASE)
"""The same for the standard library, which is faster and knows no partial matches."""
_CANDIDATE: Final = re.compile(r"<(?=[|｜</\w]|$)|\[(?=/?[a-z]|/?$)|◁|(?<![^\n])#(?=##|#?\Z)", re.IGNORECASE)
_LONGEST_MARKER: Final = 128
_ASSISTANT: Final = frozenset({"assistant", "model", "bot", "gpt"})
_ROLES: Final = _ASSISTANT | {"user", "system", "developer", "tool", "analysis", "commentary", "final", "thought"}
_USER: Final = re.compile("user|human|inst|sys|prompt", re.IGNORECASE)
"""Names of markers that never begin the model's own text."""
_NAME_END: Final = re.compile(r"[>\]▷:]")
_ENDS_SENTENCE: Final = frozenset('.!?…。！？।؟。"”»')
_REASONING_END: Final = {
    "think": regex.compile(
        r"</(?:seed:)?(?:think|thinking|thought|reasoning)\s{0,2}>|\[/THINK\]|◁/think▷|<channel\|>"
        r"|<\|(?:END_THINKING|inner_suffix)\|>",
        regex.IGNORECASE,
    ),
    "channel": regex.compile(r"<\|end\|>|(?=<\|(?:start|return|call|channel)\|>)"),
}
_LONGEST_END: Final = 24
"""In characters, of the markers in ``_REASONING_END``."""
_LABEL: Final = regex.compile(r"\s{0,8}thought\n")
"""What remains of empty reasoning of Gemma if a server drops the control tokens."""

_TOKEN: Final = regex.compile(r"""[\n<\[◁]|(?<![^\n])\#|`+|["“”„«»「」『』]|\\.?""", regex.DOTALL)
_JSON_TOKEN: Final = regex.compile(r"""[\n<\[◁"]|\\.?""", regex.DOTALL)
_CLOSING_QUOTES: Final = {'"': '"', "“": "”", "„": "“", "«": "»", "「": "」", "『": "』"}
_BEFORE_QUOTE: Final = frozenset(" \t\n([{<>=:—–-/*_'‘+,|~")
_ENCLOSING: Final = {"'": "'", "‘": "’", "’": "’‘", "‹": "›", "›": "‹", "[": "]", "(": ")", "{": "}"}
_ELEMENT: Final = regex.compile(
    r"<(?P<close>/?)(?P<name>code|kbd|samp|tt|var|pre|script|style|textarea|xmp|s)(?=[\s/>])|(?P<comment><!--)",
    regex.IGNORECASE,
)
"""Elements in which markers are ordinary text, comments, and struck-out text, whose end tag is also an end token."""
_JSON_STRING: Final = regex.compile(r'(?:[^"\\\n]|\\.)*+', regex.DOTALL)
_BLOCKS: Final = frozenset({"pre", "script", "style", "textarea", "xmp", "<!--"})
"""Elements that may have several lines."""
_LIST_ITEM: Final = regex.compile(r" {0,3}(?:[-*+]|\d{1,9}[.)])[ \t]")
_INDENTED: Final = regex.compile(r" {4}| {0,3}\t")
_FENCE: Final = regex.compile(
    r"[ \t>]*+(?:(?:[-*+]|\d{1,9}[.)])[ \t]++)?(?P<fence>`{3,}(?=[^`\n]*\n)|~{3,}(?=[^\n]*\n))"
)
_HTML: Final = regex.compile(r"\s*+<[a-z!]", regex.IGNORECASE)
_LONGEST_CLOSE: Final = 16
"""In characters, of what ends a span."""


@dataclass
class _State:
    """Where the scanner is, and what it knows of the text before.

    Attributes:
        at: the next position to look at.
        copied: up to here, the source was copied or removed.
        looked: what was decided depends on the source up to here.
        unmarked: no marker starts before this position, except before ``at``.
        length: length of the clean text.
        last: its last character.
        html: it begins with an element.
        hidden: number of characters of reasoning.
        since: length of the clean text after the last reasoning, or of the opening.
        blank: only white space was copied since then.
        reasoning: the key in ``_REASONING_END`` of open reasoning, or "".
        trim: white space is not copied now, because what it separated was removed.
        searched, block_searched: up to here, the end of a span or of a block was searched for in vain.
        literal: markers before this position are in a span.
        ended: the position after the marker that ended the model's turn, or None.
        line: start of the current line, or of what follows the last removed part in it.
        code, quote, element: what would end the open span, or "": a run of backticks, a quotation mark, an element.
        failed: backticks and quotation marks that are not closed on this line.
        named: the start of reasoning is ordinary text on this line, and so is its end.
        block: the open element of ``_BLOCKS``, or "".
        unclosed: elements of ``_BLOCKS`` that are never closed.
        fence: the backticks or tildes of the open fence, or "".
        struck: number of open ``<s>`` elements.
        after_blank, in_list, in_code: about the lines before: is the last one blank, a part of a list, indented code.
    """

    at: int
    copied: int
    looked: int = 0
    unmarked: int = 0
    length: int = 0
    last: str = ""
    html: bool = False
    hidden: int = 0
    since: int = 0
    blank: bool = True
    reasoning: str = ""
    trim: bool = True
    searched: int = 0
    block_searched: int = 0
    literal: int = 0
    ended: int | None = None
    line: int = 0
    code: str = ""
    quote: str = ""
    element: str = ""
    failed: tuple[str, ...] = ()
    named: bool = False
    block: str = ""
    unclosed: tuple[str, ...] = ()
    fence: str = ""
    struck: int = 0
    after_blank: bool = True
    in_list: bool = False
    in_code: bool = False

    def copy(self, looked: int) -> _State:
        """Return a copy that depends on the source up to ``looked``."""
        state = object.__new__(_State)
        state.__dict__.update(self.__dict__)
        state.looked = max(looked, self.looked)
        return state


class ControlScanner:
    """A growing or changing text without reasoning, control tokens, and what follows the model's turn.

    Args:
        opening: what the text begins with. It is not the model's, so that it has no markers.
        json: the text is JSON, so that only its strings are spans.

    Attributes:
        text: the clean text. What cannot be decided yet is missing at its end.
        positions: from positions of the source to positions of the text.
    """

    def __init__(self, opening: str = "", *, json: bool = False) -> None:
        self.text = ""
        self.positions = PositionMap()
        self._source = ""
        self._parts: list[str] = []  # of the text; joined once for each update
        self._json = json
        self._token = _JSON_TOKEN if json else _TOKEN
        self._opening = opening
        self._opened = bool(opening.strip())
        self._state = _State(0, 0)
        self._fixed: _State | None = None

    @property
    def ended(self) -> int | None:
        """The position in the source after the marker that ended the text, or None."""
        return self._state.ended

    @property
    def hidden(self) -> int:
        """Number of characters of reasoning."""
        return self._state.hidden

    def update(self, source: str, same: int, fixed: int | None, *, final: bool) -> None:
        """Replace the source.

        Args:
            source: the whole new source.
            same: number of its leading characters that are those of the source before.
            fixed: number of its leading characters that do not change any more; None if none of them does.
            final: nothing follows.
        """
        self._source = source
        if self._state.looked <= same and self._parts:
            pass  # resume at the end
        elif self._fixed and self._fixed.looked <= same:
            self._state = self._fixed.copy(0)
        else:
            self._fixed = None
            start = len(self._opening)
            html = _HTML.match(self._opening) is not None
            self._state = _State(0, start, literal=start, length=start, since=start, html=html, trim=not self._opened)
            self.text, self.positions = self._opening, PositionMap()
            self.positions.copy(0, start)
        self._parts = [self.text[: self._state.length]]
        self.positions.truncate(self._state.length)
        self._scan(fixed, final)
        self._state.looked = len(source)
        self.text = "".join(self._parts)

    def _scan(self, fixed: int | None, final: bool) -> None:
        source, state = self._source, self._state
        if not (state.at or state.copied or self._opened or self._skip_label(final)):
            return
        if not state.reasoning and self._copy_unmarked(fixed, final):
            return
        while state.ended is None:
            if state.reasoning:
                if not self._skip_reasoning(final):
                    return
                continue
            if state.fence:
                if not self._skip_fence():
                    return
                continue
            if state.block and self._skip_block():
                continue
            match = self._token.search(source, state.at)
            start, end = match.span() if match else (len(source), len(source))
            if fixed is not None and start >= fixed >= state.at:
                self._fixed, fixed = state.copy(fixed), None
            if match is None:
                state.at = start
                self._copy(start)
                return
            first = source[start]
            if first == "\n":
                state.at = end
                self._end_line(start)
            elif first in "<[◁#":
                if not self._read_marker(start, final):
                    return
            elif end == len(source) and first in "`\\" and not final:
                self._copy(end)  # shown, but what it is shows with the next character
                state.at = start
                return
            else:
                state.at = end
                if not state.block:
                    self._read_delimiter(first, start, end)

    # -- copying -------------------------------------------------------------------------------------------

    def _copy_unmarked(self, fixed: int | None, final: bool) -> bool:
        """Copy the rest of the source up to what may become a marker. Return False if there is a whole one."""
        source, state = self._source, self._state
        if state.ended is not None:
            return True
        end = len(source)
        for candidate in _CANDIDATE.finditer(source, max(state.at, state.unmarked)):
            start = candidate.start()
            if not final and start > len(source) - _LONGEST_MARKER and _MARKER.match(source, start, partial=True):
                if _WHOLE_MARKER.match(source, start, len(source) - 1):
                    return False
                end = start
                break
            if _WHOLE_MARKER.match(source, start):
                return False
        if fixed is not None and state.copied <= fixed:
            # A marker may begin in fixed text and end after it.
            before = max(source.rfind(mark, max(state.copied, fixed - _LONGEST_MARKER), fixed) for mark in "<[")
            self._copy(min(before if before >= 0 else fixed, end))
            state.unmarked = max(state.copied, state.unmarked)
            self._fixed = state.copy(fixed)
        self._copy(end)
        state.unmarked = end
        return True

    def _copy(self, end: int) -> None:
        """Copy the source up to ``end``."""
        state = self._state
        start = state.copied
        if end <= start:
            return
        if state.trim:
            spaces = " \t" if self._opened or state.last else None  # None: all white space
            start = end - len(self._source[start:end].lstrip(spaces))
            state.trim = start == end
        piece = self._source[start:end]
        if piece:
            if not state.length:
                state.html = _HTML.match(piece) is not None
            self._parts.append(piece)
            self.positions.copy(start, end)
            state.blank = state.blank and piece.isspace()
            state.length += len(piece)
            state.last = piece[-1]
        state.copied = end

    def _remove(self, start: int, end: int) -> None:
        """Copy the source up to ``start``, and remove it from there to ``end``."""
        self._copy(start)
        state = self._state
        state.at = state.copied = state.line = end
        state.searched = 0
        state.trim = state.trim or state.last.isspace() or not state.length

    def _truncate(self, length: int) -> None:
        """Shorten the clean text."""
        state = self._state
        while state.length > length:
            part = self._parts.pop()
            state.length -= len(part)
            if state.length < length:  # a part of an earlier update
                self._parts.append(part[: length - state.length])
                state.length = length
        self.positions.truncate(length)
        if self._fixed and self._fixed.length > length:
            self._fixed = None
        state.last = self._parts[-1][-1:] if self._parts else ""

    # -- reasoning -----------------------------------------------------------------------------------------

    def _skip_label(self, final: bool) -> bool:
        """Remove Gemma's label at the beginning. Return False if it may still become one."""
        match = _LABEL.match(self._source, partial=not final)
        if match is None:
            return True
        if match.partial:
            return False
        self._remove(0, match.end())
        return True

    def _skip_reasoning(self, final: bool) -> bool:
        """Remove reasoning up to its end. Return False if it has none yet."""
        source, state = self._source, self._state
        match = _REASONING_END[state.reasoning].search(source, state.at)
        if match is None:
            end = max(state.at, len(source) - _LONGEST_END)
        elif source[match.start() - 1] in "`'\"" and match[0]:
            if match.end() == len(source) and not final:
                end, match = match.start(), None
            elif source[match.end() : match.end() + 1] == source[match.start() - 1]:
                state.hidden += match.end() - state.at
                state.at = state.copied = state.line = match.end()
                return True
            else:
                end = match.end()
        else:
            end = match.end()
        state.hidden += end - state.at
        state.at = state.copied = state.line = end
        if match is None:
            return False
        state.reasoning = ""
        state.since, state.blank = state.length, True
        return True

    def _drop_reasoning(self, end: int) -> None:
        """Remove the text since the last reasoning: its end marker shows that it was reasoning, opened elsewhere."""
        state = self._state
        state.hidden += end - state.copied + state.length - state.since
        self._truncate(state.since)
        state.copied = end
        state.blank = True
        self._remove(end, end)

    # -- lines and spans -----------------------------------------------------------------------------------

    def _end_line(self, end: int) -> None:
        """Update the state at the end of a line."""
        source, state = self._source, self._state
        blank = not source[state.line : end].strip()
        if self._json or state.block:
            pass
        elif blank:
            state.after_blank = True
        else:
            state.in_code = self._is_indented_code()
            indented = source.startswith(("  ", "\t"), state.line)
            if _LIST_ITEM.match(source, state.line):
                state.in_list = True
            elif state.after_blank and not indented:
                state.in_list = False
            state.after_blank = False
            fence = _FENCE.match(source, state.line, end + 1)
            if fence and not state.in_code:
                state.fence = fence["fence"]
                state.at = end
        state.line = end + 1
        state.code = state.quote = state.element = ""
        state.failed, state.named = (), False

    def _is_indented_code(self) -> bool:
        """True if the current line is one of an indented block of code."""
        state = self._state
        return (
            (state.after_blank or state.in_code)
            and not (state.in_list or self._json or state.block)
            and _INDENTED.match(self._source, state.line) is not None
            and not (state.html if state.length else _HTML.match(self._source, state.copied))  # indented elements
        )

    def _skip_fence(self) -> bool:
        """Go to the end of a fenced block of code. Return False if it has none yet."""
        source, state = self._source, self._state
        match = _fence_end(state.fence[0], len(state.fence)).search(source, state.at)
        if match is None:
            state.at = max(state.at, source.rfind("\n", state.at))
            self._copy(len(source))
            return False
        state.at = state.line = match.end()
        state.fence = ""
        return True

    def _skip_block(self) -> bool:
        """Go to the end of an element of several lines. Return False if it has none yet."""
        source, state = self._source, self._state
        end = _block_end(state.block).search(source, max(state.at, state.block_searched))
        if end is None:
            state.block_searched = max(state.at, len(source) - _LONGEST_CLOSE)
            return False
        state.at, state.block, state.block_searched = end.end(), "", 0
        state.looked = max(state.looked, state.at + 1)
        return True

    def _read_delimiter(self, first: str, start: int, end: int) -> None:
        """Open or close an inline span."""
        source, state = self._source, self._state
        if first == "\\":
            return
        if first == "`":
            run = source[start:end]
            if state.code == run:
                state.code = ""
            elif not state.code and run not in state.failed:
                state.code = run
        elif state.quote:
            if first == state.quote or (first == "”" and state.quote == "“"):
                state.quote = ""
        elif first in _CLOSING_QUOTES and not state.code and first not in state.failed:
            # A straight quotation mark opens a quotation only before a word: not in 5".
            opens = self._json or first != '"' or start == state.line or source[start - 1] in _BEFORE_QUOTE
            state.quote = _CLOSING_QUOTES[first] if opens else ""

    def _read_element(self, match: regex.Match[str]) -> None:
        """Open or close an element of HTML."""
        state = self._state
        name, closes = (match["name"] or match["comment"]).lower(), bool(match["close"])
        if name == "s":
            state.struck = max(0, state.struck + (-1 if closes else 1))
        elif name in _BLOCKS:
            state.block = "" if closes or name in state.unclosed else name
        elif closes:
            state.element = ""
        elif not state.element and name not in state.failed:
            state.element = name

    # -- markers -------------------------------------------------------------------------------------------

    def _read_marker(self, start: int, final: bool) -> bool:
        """Handle what may be a marker. Return False to wait for what follows."""
        source, state = self._source, self._state
        match = _MARKER.match(source, start, partial=not final)
        if match is None or start < state.literal or self._is_indented_code():
            state.at = start + 1
            if source[start] == "<" and not (self._json or state.block):
                element = _ELEMENT.match(source, start, partial=not final)
                if element and element.partial:
                    self._copy(start)
                    state.at = start
                    return False
                if element:
                    self._read_element(element)
            return True
        end = match.end()
        kind = "" if match.partial else str(match.lastgroup)
        if kind in ("name", "role"):
            kind = "channel" if kind == "name" else "turn"
        if not final and (match.partial or end == len(source)):
            self._hold(start)
            return False
        if kind == "strike":
            opens = source[start + 1] != "/"
            if opens and self._is_at_start(start):  # as the first token of a text, not as an element
                self._remove(start, end)
                return True
            if opens or state.struck:
                state.struck += 1 if opens else -1
                state.at = end
                return True
        ordinary = self._is_ordinary(kind, match, final)
        if ordinary is None:
            self._hold(start)
            return False
        if ordinary:
            state.at = _end_of_name(source, start)
            state.searched = 0
            state.named = state.named or kind == "think"
        else:
            self._apply(kind, match)
        return True

    def _hold(self, start: int) -> None:
        self._copy(start)
        self._state.at = start

    def _is_ordinary(self, kind: str, match: regex.Match[str], final: bool) -> bool | None:
        """True if a marker is ordinary text, None if that shows later."""
        source, state = self._source, self._state
        start, end = match.span()
        if state.block:
            if not final:
                return None
            state.unclosed += (state.block,)
            state.block = ""
        if state.code or state.quote or state.element:
            at = self._find_span_end(max(end, state.searched), final)
            if at == len(source) and not final:
                return None
            state.looked = max(state.looked, at + 1)
            if at < len(source) and source[at] != "\n":
                state.literal = at
                return True
            quotes = (mark for mark, close in _CLOSING_QUOTES.items() if close == state.quote)
            state.failed += (state.code, state.element, *quotes)
            state.code = state.quote = state.element = ""
        state.looked = max(state.looked, end + 2)
        if self._json:
            return False
        if kind == "unthink" and state.named:
            return True
        if (match["role"] or match["name"] or "").lower() in _ROLES:
            return False
        end = _end_of_name(source, start)
        before, after = source[max(state.line, start - 4) : start], source[end : end + 2]
        if not before or not after:
            return False
        if before[-1] in _ENCLOSING and after[0] in _ENCLOSING[before[-1]]:
            return True
        if before[-1] in "*_" and after[0] in "*_":  # the marker alone is emphasized
            return before.rstrip("*_")[-1:] in {"", " ", "(", "|"}
        if before[-1] == ">" and after[0] == "<":  # the marker alone is in an element
            tag = source.rfind("<", max(state.line, start - _LONGEST_MARKER), start)
            return None if len(after) == 1 and not final else after == "</" and source[tag + 1 : tag + 2].isalpha()
        return self._is_in_sentence(kind, before, after, final)

    def _is_in_sentence(self, kind: str, before: str, after: str, final: bool) -> bool | None:
        """True if a sentence, a cell or an item goes on after a marker, as in "the token </s> ends it".

        Args:
            kind: of the marker.
            before, after: the text on both sides, as far as it matters.
            final: nothing follows.
        """
        if _is_caseless(after[0]) and (before[-1] in " (" or _is_caseless(before[-1])):
            return before.rstrip()[-1:] not in _ENDS_SENTENCE
        if before[-1] not in " \t(=/":
            return False
        if after[0] in (",;:)/" if kind in ("think", "channel") else ",;:)/.?!'’-"):
            return True
        if after[0] != " ":
            return False
        if len(after) == 1:
            return False if final else None
        previous, following = before.rstrip()[-1:], after[1]
        if previous == "|":
            return True
        goes_on = (following.isalpha() and not following.isupper()) or following in "(=+/&|–—-"
        return goes_on and previous != "" and previous not in _ENDS_SENTENCE

    def _find_span_end(self, at: int, final: bool) -> int:
        """Return where an open span or the line ends; the length of the source if neither is known to end."""
        source, state = self._source, self._state
        if self._json:
            string = _JSON_STRING.match(source, at)  # matches always
            state.searched = match_end = string.end() if string else at
            return match_end if source[match_end : match_end + 1] in ('"', "\n") else len(source)
        match = _span_end(state.code, state.quote, state.element).search(source, at)
        if match is None:
            state.searched = max(at, len(source) - _LONGEST_CLOSE - len(state.code))
            return len(source)
        state.searched = match.start()
        grows = match.end() == len(source) and match[0][0] == "`" and not final  # it may be a longer run
        return len(source) if grows else match.start()

    def _is_at_start(self, start: int) -> bool:
        """True if there is no text before, or only reasoning since."""
        return self._state.blank and not self._source[self._state.copied : start].strip()

    def _apply(self, kind: str, match: regex.Match[str]) -> None:
        state = self._state
        start, end = match.span()
        if kind == "padding":
            self._remove(start, end)
        elif kind == "think" or (kind == "channel" and match["name"].lower() != "final"):
            self._remove(start, end)
            state.hidden += end - start
            state.reasoning = kind
        elif kind == "channel":
            self._remove(start, end)
        elif kind == "unthink":
            self._drop_reasoning(end)
        elif self._is_at_start(start) and (
            match["role"].lower() in _ASSISTANT if kind == "turn" else not _USER.search(match[0])
        ):
            self._remove(start, end)
        else:
            self._remove(start, end)
            state.ended = end


def _end_of_name(source: str, start: int) -> int:
    """Return the end of a marker's name, which other parts of the marker may follow."""
    match = _NAME_END.search(source, start)
    return match.end() if match else len(source)


def _is_caseless(char: str) -> bool:
    """True for letters of scripts without capitals, which may have no spaces around markers."""
    return char.isalpha() and char.lower() == char.upper()


@lru_cache(maxsize=256)
def _fence_end(mark: str, length: int) -> regex.Pattern[str]:
    """Return the pattern of the line that ends a fenced block. A marker may stand after it."""
    return regex.compile(rf"\n[ \t>]*+{mark}{{{length},}}+[ \t]*+(?=[\n<\[])")


@lru_cache(maxsize=256)
def _block_end(block: str) -> regex.Pattern[str]:
    """Return the pattern of what ends an element of several lines."""
    return regex.compile("-->" if block == "<!--" else rf"</{block}(?=[\s>])", regex.IGNORECASE)


@lru_cache(maxsize=256)
def _span_end(code: str, quote: str, element: str) -> regex.Pattern[str]:
    """Return the pattern of what ends one of these spans, or the line."""
    parts = ["\n"]
    if code:
        parts.append(rf"(?<!`){code}(?!`)")
    if quote:
        parts.append("[“”]" if quote == "“" else quote)
    if element:
        parts.append(rf"</{element}")
    return regex.compile("|".join(parts), regex.IGNORECASE)
