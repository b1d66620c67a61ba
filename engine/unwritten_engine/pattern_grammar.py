r"""Convert a regular expression (``pattern`` in a JSON schema) into a GBNF expression for the inside of a JSON string.

Supported: characters, ``.``, classes, ``\d \w \s``, groups, alternatives, the quantifiers ``? * + {m,n}``, and ``^``
and ``$`` around the whole. An unanchored pattern is matched as a whole, which it allows. Repetitions without a maximum
are limited. Look-around, back-references and word boundaries are refused.
"""

from __future__ import annotations

import re
from typing import Final

MAX_REPEAT: Final = 40
"""Maximum of a repetition that has none in the pattern."""
_MAX_COUNT: Final = 2000
"""The largest repetition that llama.cpp accepts in a grammar."""
_CLASSES: Final = {"d": "0-9", "w": "A-Za-z0-9_", "s": " ", "D": "^0-9", "W": "^A-Za-z0-9_", "S": "^ "}
_CONTROLS: Final = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
_QUANTIFIER: Final = re.compile(r"[?*+]|\{(\d+)(,?)(\d*)\}")
_NOT_IN_TEXT: Final = r'"\\\x00-\x1F\x7F'
"""Characters that a JSON string holds only as an escape. Negated classes leave them out."""


class UnsupportedPattern(ValueError):
    """A part of a pattern that a grammar cannot express. The message says which."""


def grammar_from_pattern(pattern: str) -> tuple[str, int, int]:
    """Return the expression of a pattern, and the minimum and maximum length of what it matches.

    Raises:
        UnsupportedPattern: a part is not supported.
    """
    parser = _Parser(pattern)
    expression, low, high = parser.alternatives()
    if parser.position < len(pattern):
        raise UnsupportedPattern(f"{pattern[parser.position :]!r} at position {parser.position}")
    return expression, low, high


class _Parser:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.position = 0
        self._depth = 0

    def _char(self) -> str:
        return self.pattern[self.position : self.position + 1]

    def _next(self) -> str:
        char = self._char()
        if not char:
            raise UnsupportedPattern("its end")
        self.position += 1
        return char

    def alternatives(self) -> tuple[str, int, int]:
        parts = [self._sequence()]
        while self._char() == "|":
            self.position += 1
            parts.append(self._sequence())
        low, high = min(part[1] for part in parts), max(part[2] for part in parts)
        return (parts[0][0] if len(parts) == 1 else f"({' | '.join(part[0] for part in parts)})"), low, high

    def _sequence(self) -> tuple[str, int, int]:
        parts: list[str] = []
        low = high = 0
        if self._char() == "^" and not self._depth:
            self.position += 1
        while (char := self._char()) and char not in "|)":
            if char == "$" and not self._depth and self.pattern[self.position + 1 : self.position + 2] in ("", "|"):
                self.position += 1
                continue
            expression, least, most = self._quantified()
            parts.append(expression)
            low, high = low + least, high + most
        return " ".join(parts) or '""', low, high

    def _quantified(self) -> tuple[str, int, int]:
        expression, low, high = self._atom()
        found = _QUANTIFIER.match(self.pattern, self.position)
        if found is None:
            return expression, low, high
        self.position = found.end()
        if self._char() in ("?", "+"):
            self.position += self._char() == "?"  # lazy: a grammar has no preference
            if self._char() == "+":
                raise UnsupportedPattern("a possessive quantifier")
        match found[0]:
            case "?":
                least, most = 0, 1
            case "*":
                least, most = 0, MAX_REPEAT
            case "+":
                least, most = 1, MAX_REPEAT
            case _:
                least = int(found[1])
                most = int(found[3]) if found[3] else max(MAX_REPEAT, least) if found[2] else least
        if least > most or most > _MAX_COUNT:
            raise UnsupportedPattern(f"the quantifier {found[0]}")
        return f"({expression}){{{least},{most}}}", low * least, high * most

    def _atom(self) -> tuple[str, int, int]:
        char = self._next()
        if char == "(":
            if self._char() == "?":
                if self.pattern[self.position : self.position + 2] != "?:":
                    raise UnsupportedPattern(f"the group {self.pattern[self.position - 1 : self.position + 3]!r}")
                self.position += 2
            self._depth += 1
            expression, low, high = self.alternatives()
            self._depth -= 1
            if self._next() != ")":
                raise UnsupportedPattern("a group without its end")
            return f"({expression})", low, high
        if char == "[":
            return self._class()
        if char == ".":
            return f"[^{_NOT_IN_TEXT}]", 1, 1
        if char == "\\":
            escaped = self._next()
            if escaped in _CLASSES:
                inside = _CLASSES[escaped]
                return f"[{inside}{_NOT_IN_TEXT if inside[0] == '^' else ''}]", 1, 1
            return _literal(self._escaped(escaped)), 1, 1
        if char in "^$*+?":
            raise UnsupportedPattern(f"{char!r} at position {self.position - 1}")
        return _literal(char), 1, 1

    def _escaped(self, char: str) -> str:
        if char in _CONTROLS:
            return _CONTROLS[char]
        if char.isalnum():
            raise UnsupportedPattern(f"'\\{char}'")
        return char

    def _class(self) -> tuple[str, int, int]:
        negated = self._char() == "^"
        self.position += negated
        parts: list[str] = []
        first = True
        while (char := self._next()) != "]" or first:
            first = False
            if char == "[" and self._char() == ":":
                raise UnsupportedPattern("a named class")
            if char == "\\":
                escaped = self._next()
                if escaped in _CLASSES:
                    if escaped.isupper():
                        raise UnsupportedPattern(f"'\\{escaped}' in a class")
                    parts.append(_CLASSES[escaped])
                    continue
                char = self._escaped(escaped)
            elif char == "-":
                pass
            if char in '"\\' or ord(char) < 32:
                if not negated:
                    raise UnsupportedPattern(f"{char!r} in a class")
                continue  # left out anyway
            if self._char() == "-" and self.pattern[self.position + 1 : self.position + 2] not in ("", "]"):
                self.position += 1
                last = self._next()
                if last == "\\":
                    last = self._escaped(self._next())
                if char <= '"' <= last or char <= "\\" <= last or last < char:
                    raise UnsupportedPattern(f"the range {char}-{last}")
                parts.append(f"{_in_class(char)}-{_in_class(last)}")
                continue
            parts.append(_in_class(char))
        inside = "".join(parts)
        return (f"[^{inside}{_NOT_IN_TEXT}]" if negated else f"[{inside}]"), 1, 1


def _in_class(char: str) -> str:
    return f"\\x{ord(char):02X}" if char in "^-[]\\" else char


def _literal(char: str) -> str:
    """Return a character as it is written in JSON."""
    if char in '"\\':
        return f'"\\\\\\{char}"'
    if ord(char) < 32:
        raise UnsupportedPattern(f"the control character {char!r}")
    return f'"{char}"'
