"""Cached prefixes: copies of rows of a family's cache, with a limit in bytes.

A *snapshot* is a copy of a row with its tokens. Shared prefixes and preempted sequences are stored as snapshots in
``PrefixCache``. Evicted tokens are prefilled again; results stay the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy of the first tokens of a row.

    Attributes:
        tokens: their keys; for images, keys depend on the content (see ``prompt_tokenizer.py``).
        tensors: what the family's cache keeps of them.
    """

    tokens: tuple[Hashable, ...]
    tensors: tuple[Tensor, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors)


class PrefixCache:
    """An LRU cache of snapshots with a limit in bytes.

    Args:
        max_bytes: limit of all snapshots together.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._snapshots: OrderedDict[tuple[Hashable, ...], Snapshot] = OrderedDict()

    def __len__(self) -> int:
        return len(self._snapshots)

    def __contains__(self, tokens: tuple[Hashable, ...]) -> bool:
        return tokens in self._snapshots

    def longest_prefix(self, tokens: tuple[Hashable, ...]) -> Snapshot | None:
        """Return the longest snapshot whose tokens are a prefix of ``tokens``, or None."""
        best = None
        for snapshot in self._snapshots.values():
            length = len(snapshot.tokens)
            if (best is None or length > len(best.tokens)) and tokens[:length] == snapshot.tokens:
                best = snapshot
        if best is not None:
            self._snapshots.move_to_end(best.tokens)
        return best

    def put(self, snapshot: Snapshot) -> bool:
        """Store a snapshot. Return False if it exceeds the limit on its own."""
        if snapshot.nbytes > self.max_bytes:
            return False
        self.drop(snapshot.tokens)
        self._snapshots[snapshot.tokens] = snapshot
        self.nbytes += snapshot.nbytes
        while self.nbytes > self.max_bytes:
            _, oldest = self._snapshots.popitem(last=False)
            self.nbytes -= oldest.nbytes
        return True

    def drop(self, tokens: tuple[Hashable, ...]) -> None:
        """Remove a snapshot, if it exists."""
        gone = self._snapshots.pop(tokens, None)
        if gone is not None:
            self.nbytes -= gone.nbytes

    def clear(self) -> None:
        """Remove all snapshots."""
        self._snapshots.clear()
        self.nbytes = 0
