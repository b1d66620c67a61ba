"""Keys and values: of the requests that run, and of beginnings that are kept.

Each running request has a *row* in buffers that are made once: for every layer ``[rows, heads, canvas + kept, width]``.
The first places of a row belong to the canvas being denoised and are written anew in every step, so that a step need
not join tensors; the others hold the prompt and the finished canvases. A layer with a sliding window of W keeps the
last W - 1 tokens in a ring: token p lies at place p modulo (W - 1). Attention does not care about the order of places.

A *snapshot* is a copy of a row together with the tokens that it stands for. Shared beginnings of prompts and requests
that were pre-empted are kept so, in one store with a limit in bytes. What it forgets is encoded again: that costs
time, never correctness.
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
        tokens: what it stands for; pictures are marked by what was seen (see ``prompts.py``).
        layers: keys and values of each layer, [2, heads, places, width].
    """

    tokens: tuple[Hashable, ...]
    layers: tuple[Tensor, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all layers."""
        return sum(layer.nbytes for layer in self.layers)


class KVCache:
    """The buffers of all rows.

    Args:
        config: the text config of the model.
        rows: requests that run together.
        context: tokens of prompt and finished canvases that a row holds.
        canvas: tokens in a canvas.
        device: where the buffers are.
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
        for number, places in enumerate(self.places):
            layer = config.per_layer_config[number]
            shape = (rows, layer.num_key_value_heads, canvas + places, layer.head_dim)
            # Zeros, not empty: masked places are multiplied by 0, and nan times 0 is nan.
            self.keys.append(torch.zeros(shape, device=device, dtype=dtype))
            self.values.append(torch.zeros(shape, device=device, dtype=dtype))

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers."""
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values))

    def write(self, layer: int, row: int, start: int, keys: Tensor, values: Tensor) -> None:
        """Keep the keys and values of tokens ``start`` and following, each [heads, tokens, width]."""
        places = self.places[layer]
        count = keys.shape[1]
        if self.sliding[layer] and start + count > places:
            skip = max(0, count - places)  # only the last ones are still in the window
            ring = torch.arange(start + skip, start + count, device=keys.device) % places + self.canvas
            self.keys[layer][row].index_copy_(1, ring, keys[:, skip:])
            self.values[layer][row].index_copy_(1, ring, values[:, skip:])
            return
        place = slice(self.canvas + start, self.canvas + start + count)
        self.keys[layer][row, :, place] = keys
        self.values[layer][row, :, place] = values

    def past(self, layer: int, row: int, length: int) -> tuple[Tensor, Tensor]:
        """Keys and values of the first ``length`` tokens, as far as they are kept, each [heads, places, width]."""
        place = slice(self.canvas, self.canvas + min(length, self.places[layer]))
        return self.keys[layer][row, :, place], self.values[layer][row, :, place]

    def positions(self, layer: int, length: int) -> Tensor:
        """[places] int64 on the host: which token lies at each place of ``past``."""
        places = self.places[layer]
        if length <= places:
            return torch.arange(length)
        slots = torch.arange(places)
        return slots + (length - 1 - slots) // places * places

    def save(self, row: int, tokens: Sequence[Hashable]) -> Snapshot:
        """A copy of a row that holds exactly these tokens."""
        layers = [torch.stack(self.past(layer, row, len(tokens))) for layer in range(len(self.keys))]
        return Snapshot(tuple(tokens), tuple(layers))

    def load(self, row: int, snapshot: Snapshot) -> None:
        """Begin a row with the tokens of a snapshot."""
        for layer, kept in enumerate(snapshot.layers):
            place = slice(self.canvas, self.canvas + kept.shape[2])
            self.keys[layer][row, :, place] = kept[0]
            self.values[layer][row, :, place] = kept[1]

    def move(self, source: int, target: int, length: int) -> None:
        """Copy a row of so many tokens to another."""
        for layer in range(len(self.keys)):
            place = slice(self.canvas, self.canvas + min(length, self.places[layer]))
            self.keys[layer][target, :, place] = self.keys[layer][source, :, place]
            self.values[layer][target, :, place] = self.values[layer][source, :, place]


class PrefixCache:
    """Snapshots under a limit in bytes; the one unused for longest goes first.

    Args:
        limit: bytes of all snapshots together.
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
        """The snapshot with the longest beginning of these tokens that leaves at least nothing to encode."""
        found = None
        for snapshot in self._snapshots.values():
            length = len(snapshot.tokens)
            if (found is None or length > len(found.tokens)) and tokens[:length] == snapshot.tokens:
                found = snapshot
        if found is not None:
            self._snapshots.move_to_end(found.tokens)
        return found

    def put(self, snapshot: Snapshot) -> bool:
        """Keep a snapshot; False if it alone is larger than the limit."""
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
        """Forget a snapshot, if it is there."""
        gone = self._snapshots.pop(tokens, None)
        if gone is not None:
            self.nbytes -= gone.nbytes

    def clear(self) -> None:
        """Forget all."""
        self._snapshots.clear()
        self.nbytes = 0
