"""Loose JSON: what models write when they mean JSON, read as the data that they meant.

Code fences and prose around it, single and typographic quotes, names without quotes, comments, commas too many or too
few, words of Python, line ends inside of texts, and an end in the middle. Nothing is invented: a number or a word that
was cut off is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

MISSING: Final = object()
"""In place of a value that was cut off before it said anything."""


_DEEPEST: Final = 64
"""Brackets inside brackets; what goes deeper is noise."""


_STARTS: Final = 12
"""Brackets in a text at which JSON is looked for."""


_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "`": "`"}


_SPACE = re.compile(r"(?:\s+|//[^\n]*|/\*.*?(?:\*/|\Z)|#[^\n]*)+", re.DOTALL)


_NUMBER = re.compile(r"[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?=[\s,}\]]|\Z)")


_BARE = re.compile(r"[^,}\]\n]*")


# Bounded, for it is tried at every word: names of shapes are short.
_NAME = re.compile(r"[\w.$-]{1,60}(?: [\w.$-]{1,60}){0,5}(?=\s{0,9}[:=])")


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\n": " "}


_WORDS: Final[dict[str, Any]] = {
    "true": True,
    "false": False,
    "null": None,
    "none": None,
    "undefined": None,
    "nan": None,
    "...": MISSING,
    "…": MISSING,
}


@dataclass(slots=True)
class LenientValue:
    """What was read.

    Attributes:
        data: objects, lists, texts, numbers, booleans and None.
        notes: what was not as it should be, in words.
        cut: the brackets that were open when the text ended, outermost first, as the lists and dicts in ``data``.
    """

    data: Any
    notes: list[str] = field(default_factory=list)
    unclosed: list[Any] = field(default_factory=list)


def parse_lenient(text: str) -> Iterator[LenientValue]:
    """Everything in a text that looks like a JSON object or list, in its order, the outermost brackets only."""
    at = 0
    for _ in range(_STARTS):
        found = re.compile(r"[{\[]").search(text, at)
        if found is None:
            return
        reader = _Reader(text, found.start())
        try:
            data = reader.value(0, "")
        except RecursionError:
            return
        around = (text[: found.start()] + text[reader.at :]).strip()
        notes = ["a code fence around it"] if "```" in around else []
        if re.sub(r"```\w*", "", around).strip():
            notes.append("words around it")
        loose = LenientValue(data, notes + reader.notes, reader.cut)
        yield loose
        at = max(reader.at, found.end())


class _Reader:
    def __init__(self, text: str, at: int) -> None:
        self.text = text
        self.at = at
        self.notes: list[str] = []
        self.cut: list[Any] = []

    def note(self, what: str) -> None:
        if what not in self.notes:
            self.notes.append(what)

    def value(self, depth: int, inside: str) -> Any:
        """The value that begins here; ``inside`` is the bracket around it."""
        self._space()
        char = self._char()
        if not char:
            self._ended()
            return MISSING
        if char in "{[" and depth < _DEEPEST:
            return self._object(depth) if char == "{" else self._list(depth)
        if char in _QUOTES:
            return self._string(inside)
        number = _NUMBER.match(self.text, self.at)
        if number is not None:
            return self._number(number)
        return self._bare()

    def _char(self) -> str:
        return self.text[self.at : self.at + 1]

    def _space(self) -> None:
        found = _SPACE.match(self.text, self.at)
        if found is not None:
            self.at = found.end()
            if found[0].strip():
                self.note("a comment")

    def _ended(self) -> None:
        self.note("its end was missing")

    def _object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self.at += 1
        while (char := self._next(found, "}")) is not None:
            if char in _QUOTES:
                name = self._string("name")
            elif bare := _NAME.match(self.text, self.at):
                name, self.at = bare[0], bare.end()
                self.note("names without quotes")
            else:
                self.at += 1  # a mark that has no business here
                self.note("stray marks")
                continue
            self._space()
            if not self._char():
                self._broken_off(found)
                break
            if self._char() in ":=":
                self.at += 1
                value = self._thousands(self.value(depth + 1, "{"))
                if value is not MISSING:
                    found.setdefault(name if isinstance(name, str) else "", value)
        return found

    def _thousands(self, value: Any) -> Any:
        """A number with what follows it as in 1,720: after a comma inside of braces there must be a name."""
        while type(value) is int and (more := re.compile(r",(\d{3})(?=[\s,}]|\Z)").match(self.text, self.at)):
            value, self.at = value * 1000 + int(more[1]), more.end()
            self.note("commas inside of a number")
        return value

    def _list(self, depth: int) -> list[Any]:
        found: list[Any] = []
        self.at += 1
        while self._next(found, "]") is not None:
            before = self.at
            value = self.value(depth + 1, "[")
            if value is not MISSING:
                found.append(value)
            if self.at == before:
                self.at += 1
                self.note("stray marks")
        return found

    def _next(self, found: Any, closing: str) -> str | None:
        """The first character of the next entry; None at the end of the brackets or of the text."""
        commas = 0
        while True:
            self._space()
            char = self._char()
            if char != ",":
                break
            commas += 1
            self.at += 1
        if not char:
            self._broken_off(found)
            return None
        if char in "}]":
            self.at += char == closing  # the wrong bracket closes this one, and is left for the outer one
            if char != closing or commas:
                self.note("a comma too many" if commas else "a wrong bracket")
            return None
        if found and not commas:
            self.note("a comma too few")
        return char

    def _broken_off(self, found: Any) -> None:
        self._ended()
        if not any(found is one for one in self.cut):
            self.cut.insert(0, found)

    def _string(self, inside: str) -> Any:
        opening = self.text[self.at]
        closing = _QUOTES[opening]
        if opening != '"':
            self.note("other quotes than JSON has")
        out: list[str] = []
        at = self.at + 1
        while at < len(self.text):
            char = self.text[at]
            if char == closing and self._closes(at + 1, inside):
                self.at = at + 1
                return "".join(out)
            if char == "\\":
                # The text may end in the middle of an escape: then nothing of it is there.
                piece, at = self._escaped(at + 1) if at + 1 < len(self.text) else ("", at + 1)
                out.append(piece)
                continue
            if char == "\n":
                self.note("a line end inside of a text")
            elif char == closing:
                self.note("quotes inside of a text")
            out.append(char)
            at += 1
        self.at = at
        self._ended()
        return drop_partial_word("".join(out)) or MISSING

    def _closes(self, at: int, inside: str) -> bool:
        """Whether a quote before this position ends the text: what follows must be able to follow one."""
        near = self.text[at : at + 200]
        rest = near.lstrip()
        if not rest or rest[0] in _QUOTES or rest.startswith(("//", "/*")):
            return True
        if inside == "name":
            return rest[0] in ":="
        if rest[0] == ",":
            after = rest[1:].lstrip()
            if inside == "{":
                return not after or after[0] in "}/" or after[0] in _QUOTES or _NAME.match(after) is not None
            return not after or after[0] in "{[}]-/." or after[0] in _QUOTES or after[0].isalnum()
        return rest[0] in "}]" or "\n" in near[: len(near) - len(rest)]

    def _escaped(self, at: int) -> tuple[str, int]:
        char = self.text[at]
        if char != "u":
            return _ESCAPES.get(char, char), at + 1
        code = self.text[at + 1 : at + 5]
        if not re.fullmatch("[0-9a-fA-F]{4}", code):
            return "", at + 1 + len(code)
        low = re.match(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})", self.text[at + 5 : at + 11])
        if low and 0xD800 <= int(code, 16) < 0xDC00:
            return chr(0x10000 + ((int(code, 16) - 0xD800) << 10) + int(low[1], 16) - 0xDC00), at + 11
        single = chr(int(code, 16))
        return ("" if "\ud800" <= single <= "\udfff" else single), at + 5

    def _number(self, found: re.Match[str]) -> Any:
        self.at = found.end()
        if found.end() == len(self.text):
            self._ended()
            return MISSING  # more digits may have been meant
        digits = found[0].replace("_", "")
        try:
            return int(digits)
        except ValueError:
            number = float(digits)
            return number if abs(number) < float("inf") else MISSING

    def _bare(self) -> Any:
        found = _BARE.match(self.text, self.at)
        assert found is not None
        word = found[0].strip()
        self.at = found.end()
        if word.casefold() in _WORDS:
            if word not in {"true", "false", "null"}:
                self.note("words of another language than JSON")
            return _WORDS[word.casefold()]
        if self.at == len(self.text):
            self._ended()
            word = drop_partial_word(word)
        if word:
            self.note("a text without quotes")
        return word or MISSING


def drop_partial_word(text: str) -> str:
    """A text that was cut off somewhere, without the word in which that was. "" if no word is whole."""
    if re.search(r"[.!?。！？]\s*\Z", text):
        return text.rstrip()
    words = re.match(r".*\s(?=\S*\Z)", text, re.DOTALL)
    if words is not None:
        return words[0].rstrip().rstrip(",;:-–—")
    return "" if text.isascii() else text
