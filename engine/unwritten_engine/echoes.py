"""Detect text in which a model repeats the framing of its prompt.

A prompt has lines that are no part of any answer: the asks of the examples, the heading over the facts, the rule
between entries. A base model that does not end its answer continues with the next entry of the transcript, and an
instruct model sometimes quotes its instructions. Such a text ends where the echo begins.
"""

from __future__ import annotations

import re
from typing import Final

from .chat_prompts import FACTS_HEADING, OPENING_REQUEST, RULE
from .engine import About
from .frames import Frame, Prompt, Request, StopReason
from .text_frames import num_held_back

_FRAMING: Final = (FACTS_HEADING.partition(":")[0], OPENING_REQUEST)
"""Phrases of prompts that no answer contains."""
_WORDS = re.compile(r"\w+")
_MARKED_LINE = re.compile(r"\s*(?:#{1,6}\s|>|[-*+]\s|\d+[.)]\s|\|)")
_LONGEST_LINE: Final = 400
_LEAST_WORDS: Final = 4
_FACT_WORDS: Final = 8
"""Words of a fact that identify the note of facts before an ask."""


class EchoGuard:
    """Ends a text before it repeats the framing of its prompt.

    A line counts if it is the ask of the prompt or of an example, or a note of facts in parentheses. The ask may be the
    title of its own answer, and headings, quotations, items of lists and questions may repeat any ask.
    """

    reason: StopReason = "echo"

    def __init__(self, request: Request, about: About) -> None:
        prompt = request.prompt
        self._judges = request.draft is None and request.schema is None
        self._drafts = about.abilities.drafts
        self._skipped = len(prompt.opening)
        self._asks = _framing_lines(prompt)
        self._title = _words(prompt.ask) if not prompt.opening.strip() else ()
        self._facts = [_words(fact)[:_FACT_WORDS] for fact in prompt.facts]
        self._line = self._skipped  # where the current line begins; the text before it has no echo
        self._searched = 0
        self.fixed = 0
        """Leading characters of the last frame that are not part of a possible echo."""

    def check(self, frame: Frame) -> int | None:
        """Return the length that the text is cut to, or None if it has no echo."""
        text = frame.text if frame.done or not self._drafts else frame.text[: frame.fixed]
        self.fixed = len(frame.text)
        if not self._judges or len(text) <= self._skipped:
            return None
        ends = [text.find(phrase, max(self._skipped, self._searched - len(phrase))) for phrase in _FRAMING]
        self._searched = len(text)
        while (newline := text.find("\n", self._line)) >= 0:
            if self._is_echo(text, self._line, newline):
                ends.append(self._line)
                break
            self._line = newline + 1
        rest = text[self._line : self._line + _LONGEST_LINE + 1]
        if newline < 0 and (self._is_note(rest) or (frame.done and self._is_echo(text, self._line, len(text)))):
            ends.append(self._line)
        end = min((end for end in ends if end >= 0), default=None)
        if end is None and not frame.done:
            certain = self._line if self._may_become_echo(rest) else len(text)
            self.fixed = certain - num_held_back(text[:certain], _FRAMING)
        return end

    def _is_echo(self, text: str, start: int, end: int) -> bool:
        if end - start > _LONGEST_LINE:
            return False
        line = text[start:end]
        if self._is_note(line) or (line.startswith(RULE) and text[start - 2 : start] == "\n\n"):
            return True
        if _MARKED_LINE.match(line) or line.rstrip(" *_").endswith("?"):
            return False
        words = _words(line)
        return words in self._asks and not (words == self._title and not text[self._skipped : start].strip())

    def _is_note(self, line: str) -> bool:
        """True if a line begins with a fact in parentheses, like the facts before an ask."""
        words = _words(line) if line.lstrip().startswith("(") else ()
        return any(fact and words[: len(fact)] == fact for fact in self._facts)

    def _may_become_echo(self, line: str) -> bool:
        """True if a line that is not complete yet may turn out to be an echo."""
        if line and RULE.startswith(line):
            return True
        words = _words(line)
        if len(line) > _LONGEST_LINE or not words:
            return False
        complete, last = words[:-1], words[-1]
        candidates = [*self._asks, *(self._facts if line.lstrip().startswith("(") else ())]
        return any(
            known[: len(complete)] == complete and all(w.startswith(last) for w in known[len(complete) :][:1])
            for known in candidates
        )


def _framing_lines(prompt: Prompt) -> frozenset[tuple[str, ...]]:
    """Return the words of the lines that stand before answers."""
    asks = (prompt.ask, *(example.ask for example in prompt.examples))
    return frozenset(words for ask in asks if len(words := _words(ask)) >= _LEAST_WORDS)


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORDS.findall(text.casefold()))
