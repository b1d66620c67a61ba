"""Control tokens in a text that is none of theirs: broken up, so that a model reads them as text.

llama.cpp parses control tokens wherever they stand in a prompt. A visitor who writes ``<end_of_turn>`` into a
search box would end the turn of the conversation. The tokens differ from model to model, so they are taken from
the model's own vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_JOINER = "\u2060"
"""Invisible, and part of no control token."""


class ControlTokens:
    """The control tokens of one vocabulary.

    Args:
        tokens: thousands, in some vocabularies.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        self._tokens = frozenset(token for token in tokens if len(token) > 1)
        self._lengths = sorted({len(token) for token in self._tokens}, reverse=True)
        firsts = "".join(sorted({token[0] for token in self._tokens}))
        # Trying thousands of tokens at every character would take longer than writing a sentence.
        self._first = re.compile(f"[{re.escape(firsts)}]" if firsts else r"(?!)")

    def escape(self, text: str) -> str:
        """The text with an invisible character after the first of every control token in it."""
        return self._first.sub(lambda match: match[0] + (_JOINER if self._at(text, match.start()) else ""), text)

    def _at(self, text: str, at: int) -> bool:
        return any(text[at : at + length] in self._tokens for length in self._lengths)
