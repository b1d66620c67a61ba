"""Filters for streamed model output: remove reasoning, a repeated opening, and text around JSON.

Each filter takes pieces of text, returns pieces, and holds back what it cannot decide yet. They run before
``TextFrames``.
"""

from __future__ import annotations

from typing import Final

_MARKS: Final = {"<think>": "</think>", "<thinking>": "</thinking>", "<|channel>": "<channel|>"}
"""Start and end markers of reasoning."""
_BARE: Final = "thought\n"
"""What remains of empty reasoning of Gemma if a server drops the control tokens."""
_CLOSES: Final = ("</think>", "</thinking>")
_ORNAMENTS: Final = frozenset(" \t\n\r*_#`\"'“”‘’>")
"""Characters that a model may add to or drop from a requested opening."""
_CLOSING: Final = frozenset(",.;:!?)]’”…")
"""Characters that follow a word without a space."""


class UnopenedReasoning(ValueError):
    """An end marker of reasoning without a start marker: the text before it was reasoning."""


class ReasoningFilter:
    """Removes reasoning before the answer.

    Args:
        in_reasoning: the server's chat template has opened the reasoning, so that only the end marker is sent.
    """

    def __init__(self, *, in_reasoning: bool = False) -> None:
        self._held = ""
        self._close = _CLOSES[0] if in_reasoning else ""
        self._answering = False
        self._tail = ""

    def push(self, piece: str) -> str:
        """Add output; return the part that is certainly answer.

        Raises:
            UnopenedReasoning: an end marker without a start marker.
        """
        if self._answering:
            self._look_for_an_end(piece)
            return piece
        self._held += piece
        while True:
            if self._close:
                at = self._held.find(self._close)
                if at < 0:
                    return ""
                self._held, self._close = self._held[at + len(self._close) :], ""
            text = self._held.lstrip()
            opened = next((mark for mark in _MARKS if text.startswith(mark)), "")
            if opened:
                self._close, self._held = _MARKS[opened], text[len(opened) :]
            elif text.startswith(_BARE):
                self._held = text[len(_BARE) :]
            elif any(mark.startswith(text) for mark in (*_MARKS, _BARE)):
                return ""  # it may become one
            else:
                return self._release()

    @property
    def thinking(self) -> bool:
        """True while reasoning is open."""
        return bool(self._close)

    def end(self) -> str:
        """Return held-back text that is part of the answer; nothing of open reasoning."""
        return "" if self._close or self._answering else self._release()

    def _release(self) -> str:
        self._answering = True
        text, self._held = self._held, ""
        self._look_for_an_end(text)
        return text

    def _look_for_an_end(self, piece: str) -> None:
        text = self._tail + piece
        if any(close in text for close in _CLOSES):
            raise UnopenedReasoning
        self._tail = text[-12:]


class PrefillFilter:
    """Removes the requested opening from the answer, because every frame already has it.

    Args:
        opening: the opening. Case and ornaments such as ``**`` around it are ignored.
    """

    def __init__(self, opening: str) -> None:
        self._opening = opening
        self._wanted = [char.casefold() for char in opening if char not in _ORNAMENTS]
        self._held = ""
        self._done = not self._wanted

    def push(self, piece: str) -> str:
        """Add output; return what follows the opening once its end is certain."""
        if self._done:
            return piece
        self._held += piece
        best_length = begin = end = 0
        for at, char in enumerate(self._held):
            if char in _ORNAMENTS:
                continue
            if best_length == len(self._wanted):
                self._done = True
                return self._between(self._held[:begin].strip(), self._held[end:at]) + self._held[at:]
            if char.casefold() != self._wanted[best_length]:
                return self._apart()
            begin, end = (begin if best_length else at), at + 1
            best_length += 1
        return ""

    def end(self) -> str:
        """Return what was held back when the text ended."""
        if self._done:
            return ""
        repeated = [char.casefold() for char in self._held if char not in _ORNAMENTS] == self._wanted
        return "" if repeated else self._apart()

    def _between(self, before: str, after: str) -> str:
        """Return the ornaments after the opening, without those that close an ornament before it."""
        own = self._opening[len(self._opening.rstrip("".join(_ORNAMENTS))) :]
        for mark in (own, before):
            if mark and after.startswith(mark):
                return after[len(mark) :]
        return after

    def _apart(self) -> str:
        """Return the whole answer, separated from the opening that it does not begin with."""
        self._done = True
        text = self._held.lstrip()
        gap = text and text[0] not in _CLOSING and not self._opening[-1:].isspace()
        return f" {text}" if gap else text


class JSONFilter:
    """Removes white space, fences and text before and after a JSON value.

    Args:
        starts: the characters that the value may begin with; ``{`` for an object.
    """

    def __init__(self, starts: str) -> None:
        self._starts = starts
        self._depth = 0
        self._quoted = self._escaped = self._begun = False
        self.done = False
        """The value is complete."""
        self.said = ""
        """All output of the model."""

    def push(self, piece: str) -> str:
        """Add output; return its part of the value."""
        self.said += piece
        shown = []
        for char in piece:
            if self.done or (not self._begun and char not in self._starts):
                continue
            self._begun = True
            if self._quoted:
                self._quoted = self._escaped or char != '"'
                self._escaped = char == "\\" and not self._escaped
            elif char.isspace():
                continue
            else:
                self._quoted = char == '"'
                self._depth += (char in "{[") - (char in "}]")
            shown.append(char)
            if char in '}]"' and not self._quoted and self._depth == 0:
                self.done = True
        return "".join(shown)


def json_start_characters(schema: object) -> str:
    """Return the characters that a value of this schema may begin with."""
    kind = schema.get("type") if isinstance(schema, dict) else None
    return {"object": "{", "array": "[", "string": '"'}.get(str(kind), '{["-0123456789tfn')
