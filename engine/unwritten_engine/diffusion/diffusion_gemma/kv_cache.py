"""Keys and values of running sequences.

Each running sequence has a *row* in preallocated buffers, one per layer: ``[rows, heads, canvas + places, head_dim]``.
The first places of a row belong to the canvas and are overwritten in every step, so that a step concatenates nothing.
The other places hold the prompt and the finished canvases. A layer with a sliding window of W keeps the last W - 1
tokens in a ring buffer: token p is stored at place p modulo (W - 1). Attention does not depend on the order of places.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..prefix_cache import Snapshot


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
        self.rows, self.context, self.block_length = rows, context, canvas
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
            ring = torch.arange(start + skip, start + count, device=keys.device) % num_slots + self.block_length
            self.keys[layer][row].index_copy_(1, ring, keys[:, skip:])
            self.values[layer][row].index_copy_(1, ring, values[:, skip:])
            return
        place = slice(self.block_length + start, self.block_length + start + count)
        self.keys[layer][row, :, place] = keys
        self.values[layer][row, :, place] = values

    def past(self, layer: int, row: int, length: int) -> tuple[Tensor, Tensor]:
        """Return the stored keys and values of the first ``length`` tokens, each [heads, places, head_dim]."""
        place = slice(self.block_length, self.block_length + min(length, self.places[layer]))
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
        for layer, tensors in enumerate(snapshot.tensors):
            place = slice(self.block_length, self.block_length + tensors.shape[2])
            self.keys[layer][row, :, place] = tensors[0]
            self.values[layer][row, :, place] = tensors[1]

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first ``length`` tokens of one row to another."""
        for layer in range(len(self.keys)):
            place = slice(self.block_length, self.block_length + min(length, self.places[layer]))
            self.keys[layer][target, :, place] = self.keys[layer][source, :, place]
            self.values[layer][target, :, place] = self.values[layer][source, :, place]
