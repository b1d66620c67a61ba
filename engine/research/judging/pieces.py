"""Tokenize text like llama.cpp for a SentencePiece vocabulary, from GGUF metadata.

transformers' tokenizers need explicit merges, which takes most of a minute for Gemma's vocabulary. Here neighbours
merge if the result is a token, best token first; a few hundred characters take a millisecond.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Mapping, Sequence
from typing import Any

from unwritten_engine.errors import ModelUnsupported

_NORMAL, _WHOLE, _BYTE = 1, 4, 6
"""Kinds of tokens: merged ones, ones that are split off in advance, and single bytes."""
_BLANK = "▁"


class SentencePieceTokenizer:
    """Tokenizer of a GGUF file's vocabulary.

    Args:
        metadata: of the file, including long arrays.

    Raises:
        ModelUnsupported: the vocabulary is not SentencePiece.
    """

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        kind = metadata.get("tokenizer.ggml.model")
        if kind != "llama" or metadata.get("tokenizer.ggml.add_space_prefix", True):
            raise ModelUnsupported(f"Texts cannot be put into tokens of the kind {kind!r} here. Take a Gemma model.")
        tokens: Sequence[str] = metadata["tokenizer.ggml.tokens"]
        kinds: Sequence[int] = metadata["tokenizer.ggml.token_type"]
        scores: Sequence[float] = metadata["tokenizer.ggml.scores"]
        self._ids = {token: at for at, token in enumerate(tokens) if kinds[at] == _NORMAL}
        self._ranks = {token: -scores[at] for token, at in self._ids.items()}
        self._wholes = {token: at for at, token in enumerate(tokens) if kinds[at] == _WHOLE}
        found = [at for at in range(len(tokens)) if kinds[at] == _BYTE]
        self._bytes = {int(tokens[at][3:-1], 16): at for at in found}  # <0x0A>
        longest_first = sorted(self._wholes, key=len, reverse=True)
        self._split = re.compile(f"({'|'.join(map(re.escape, longest_first))})" if longest_first else "(?!)")

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text. Names of control tokens are plain text."""
        found: list[int] = []
        for part in self._split.split(text):
            if part in self._wholes:
                found.append(self._wholes[part])
            else:
                for piece in self._merged(part.replace(" ", _BLANK)):
                    known = self._ids.get(piece)
                    found += [known] if known is not None else [self._bytes[byte] for byte in piece.encode()]
        return found

    def _merged(self, text: str) -> list[str]:
        """Return the tokens of a text by repeatedly merging the best pair of neighbours."""
        parts = list(text)  # "" where a part was swallowed by the one before
        before, after = list(range(-1, len(text) - 1)), list(range(1, len(text) + 1))
        waiting: list[tuple[float, int, str]] = []

        def offer(left: int) -> None:
            if left >= 0 and after[left] < len(parts):
                whole = parts[left] + parts[after[left]]
                if whole in self._ranks:
                    heapq.heappush(waiting, (self._ranks[whole], left, whole))

        for left in range(len(parts)):
            offer(left)
        while waiting:
            _, left, whole = heapq.heappop(waiting)
            right = after[left]
            if not parts[left] or right >= len(parts) or parts[left] + parts[right] != whole:
                continue  # one of the two has merged with another neighbour meanwhile
            parts[left], parts[right], after[left] = whole, "", after[right]
            if after[left] < len(parts):
                before[after[left]] = left
            offer(before[left])
            offer(left)
        return [part for part in parts if part]
