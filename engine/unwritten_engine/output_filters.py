"""What a server's model wrote, cleaned while it arrives: no thoughts, the opening once, JSON without its wrapping.

Each of these is a small machine that takes pieces of text and gives pieces back, and holds back what it cannot
judge yet. They stand in a row before the ``Stream``, which makes frames of what is left.
"""

from __future__ import annotations

from typing import Final

_MARKS: Final = {"<think>": "</think>", "<thinking>": "</thinking>", "<|channel>": "<channel|>"}
"""How thoughts begin, and how they end."""
_BARE: Final = "thought\n"
"""What is left of an empty thought of Gemma where a server drops its control tokens."""
_CLOSES: Final = ("</think>", "</thinking>")
_ORNAMENTS: Final = frozenset(" \t\n\r*_#`\"'“”‘’>")
"""Characters that a model adds to, or leaves out of, words that it was asked to begin with."""
_CLOSING: Final = frozenset(",.;:!?)]’”…")
"""Characters that stand close to the word before them."""


class UnopenedReasoning(ValueError):
    """A thought ended that had not begun: what came before it was no answer."""


class ReasoningFilter:
    """Leaves out what a model thinks before it answers.

    Args:
        begun: the server's template has opened the thought already, so that only its end comes.
    """

    def __init__(self, *, begun: bool = False) -> None:
        self._held = ""
        self._close = _CLOSES[0] if begun else ""
        self._answering = False
        self._tail = ""

    def push(self, piece: str) -> str:
        """The part of the answer that is certain now.

        Raises:
            OpenThoughts: a thought ends that nobody saw begin.
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
        """A thought has begun and not ended."""
        return bool(self._close)

    def end(self) -> str:
        """What was held back and is part of the answer after all: nothing of an open thought."""
        return "" if self._close or self._answering else self._release()

    def _release(self) -> str:
        self._answering = True
        text, self._held = self._held, ""
        self._look_for_an_end(text)
        return text

    def _look_for_an_end(self, piece: str) -> None:
        seen = self._tail + piece
        if any(close in seen for close in _CLOSES):
            raise UnopenedReasoning
        self._tail = seen[-12:]


class PrefillFilter:
    """Leaves out the words that an answer was asked to begin with, which every frame has anyway.

    Args:
        opening: those words. Ornaments around them, such as ``**``, and capitals make no difference.
    """

    def __init__(self, opening: str) -> None:
        self._opening = opening
        self._wanted = [char.casefold() for char in opening if char not in _ORNAMENTS]
        self._held = ""
        self._done = not self._wanted

    def push(self, piece: str) -> str:
        """What follows the opening, as soon as it is certain where that is."""
        if self._done:
            return piece
        self._held += piece
        found = begin = end = 0
        for at, char in enumerate(self._held):
            if char in _ORNAMENTS:
                continue
            if found == len(self._wanted):
                self._done = True
                return self._between(self._held[:begin].strip(), self._held[end:at]) + self._held[at:]
            if char.casefold() != self._wanted[found]:
                return self._apart()
            begin, end = (begin if found else at), at + 1
            found += 1
        return ""

    def end(self) -> str:
        """What was held back when the text ended."""
        if self._done:
            return ""
        whole = [char.casefold() for char in self._held if char not in _ORNAMENTS] == self._wanted
        return "" if whole else self._apart()

    def _between(self, before: str, after: str) -> str:
        """The ornaments after the opening's last letter, without those that close what began before its first."""
        own = self._opening[len(self._opening.rstrip("".join(_ORNAMENTS))) :]
        for mark in (own, before):
            if mark and after.startswith(mark):
                return after[len(mark) :]
        return after

    def _apart(self) -> str:
        """The whole answer, set off from the opening that it does not begin with."""
        self._done = True
        text = self._held.lstrip()
        gap = text and text[0] not in _CLOSING and not self._opening[-1:].isspace()
        return f" {text}" if gap else text


class JSONFilter:
    """JSON without white space, fences and whatever a model says before and after it.

    Args:
        starts: the characters that the value may begin with; for an object ``{``.
    """

    def __init__(self, starts: str) -> None:
        self._starts = starts
        self._depth = 0
        self._quoted = self._escaped = self._begun = False
        self.done = False
        """The value is complete."""
        self.said = ""
        """All that the model wrote."""

    def push(self, piece: str) -> str:
        """The part of the value in this piece."""
        self.said += piece
        kept = []
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
            kept.append(char)
            if char in '}]"' and not self._quoted and self._depth == 0:
                self.done = True
        return "".join(kept)


def json_start_characters(schema: object) -> str:
    """The characters that a value of this schema may begin with."""
    kind = schema.get("type") if isinstance(schema, dict) else None
    return {"object": "{", "array": "[", "string": '"'}.get(str(kind), '{["-0123456789tfn')
