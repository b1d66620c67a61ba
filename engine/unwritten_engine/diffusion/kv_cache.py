"""Keys and values of running sequences, and of cached prefixes.

Each running sequence has a *row* in preallocated buffers, one per layer: ``[rows, heads, canvas + places, head_dim]``.
The first places of a row belong to the canvas and are overwritten in every step, so that a step concatenates nothing.
The other places hold the prompt and the finished canvases. A layer with a sliding window of W keeps the last W - 1
tokens in a ring buffer: token p is stored at place p modulo (W - 1). Attention does not depend on the order of places.

A *snapshot* is a copy of a row with its tokens. Shared prefixes and preempted sequences are stored as snapshots in
``PrefixCache``, which has a size limit. Evicted tokens are prefilled again; results stay the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy of the first tokens of a row.

    Attributes:
        tokens: their keys; for images, keys depend on the content (see ``prompt_tokenizer.py``).
        layers: keys and values of each layer, [2, heads, places, head_dim].
    """

    tokens: tuple[Hashable, ...]
    layers: tuple[Tensor, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all layers."""
        return sum(layer.nbytes for layer in self.layers)


class KVCache:
    """Preallocated buffers for all rows.

    Args:
        config: text config of the model.
        rows: sequences that run together.
        context: tokens of prompt and finished canvases per row.
        canvas: tokens in a canvas.
        device: device of the buffers.
        dtype: of keys and values.
    """

    def __init__(
        self, config: Any, *, rows: int, context: int, canvas: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.rows, self.context, self.canvas = rows, context, canvas
        self.sliding = [kind == "sliding_attention" for kind in config.layer_types]
        self.window: int = config.sliding_window
        self.places = [min(context, self.window - 1) if sliding else context for sliding in self.sliding]
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        for number, num_slots in enumerate(self.places):
            layer = config.per_layer_config[number]
            shape = (rows, layer.num_key_value_heads, canvas + num_slots, layer.head_dim)
            # Zeros, not uninitialized memory: masked places are multiplied by 0, and nan * 0 is nan.
            self.keys.append(torch.zeros(shape, device=device, dtype=dtype))
            self.values.append(torch.zeros(shape, device=device, dtype=dtype))

    @property
    def nbytes(self) -> int:
        """Size of all buffers in bytes."""
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values))

    def write(self, layer: int, row: int, start: int, keys: Tensor, values: Tensor) -> None:
        """Store keys and values of the tokens from ``start`` on, each [heads, tokens, head_dim]."""
        num_slots = self.places[layer]
        count = keys.shape[1]
        if self.sliding[layer] and start + count > num_slots:
            skip = max(0, count - num_slots)  # only the last ones are still in the window
            ring = torch.arange(start + skip, start + count, device=keys.device) % num_slots + self.canvas
            self.keys[layer][row].index_copy_(1, ring, keys[:, skip:])
            self.values[layer][row].index_copy_(1, ring, values[:, skip:])
            return
        place = slice(self.canvas + start, self.canvas + start + count)
        self.keys[layer][row, :, place] = keys
        self.values[layer][row, :, place] = values

    def past(self, layer: int, row: int, length: int) -> tuple[Tensor, Tensor]:
        """Return the stored keys and values of the first ``length`` tokens, each [heads, places, head_dim]."""
        place = slice(self.canvas, self.canvas + min(length, self.places[layer]))
        return self.keys[layer][row, :, place], self.values[layer][row, :, place]

    def positions(self, layer: int, length: int, device: torch.device | None = None) -> Tensor:
        """Return the token position at each place of ``past``, [places] int64, on the host or this device."""
        num_slots = self.places[layer]
        if length <= num_slots:
            return torch.arange(length, device=device)
        slots = torch.arange(num_slots, device=device)
        return slots + (length - 1 - slots) // num_slots * num_slots

    def save(self, row: int, tokens: Sequence[Hashable]) -> Snapshot:
        """Return a snapshot of a row that holds exactly these tokens."""
        layers = [torch.stack(self.past(layer, row, len(tokens))) for layer in range(len(self.keys))]
        return Snapshot(tuple(tokens), tuple(layers))

    def load(self, row: int, snapshot: Snapshot) -> None:
        """Fill a row with the tokens of a snapshot."""
        for layer, tensors in enumerate(snapshot.layers):
            place = slice(self.canvas, self.canvas + tensors.shape[2])
            self.keys[layer][row, :, place] = tensors[0]
            self.values[layer][row, :, place] = tensors[1]

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first ``length`` tokens of one row to another."""
        for layer in range(len(self.keys)):
            place = slice(self.canvas, self.canvas + min(length, self.places[layer]))
            self.keys[layer][target, :, place] = self.keys[layer][source, :, place]
            self.values[layer][target, :, place] = self.values[layer][source, :, place]


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
