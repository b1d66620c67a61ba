"""The state of running sequences: keys and values of the layers with attention, inputs of those with convolutions.

Each running sequence has a row. The first places of its keys and values belong to the block that is denoised and are
overwritten in every step, so that a step concatenates nothing; the others hold prompt and finished blocks.

A convolution needs its last inputs, of which the row has only those at its present length. A row can therefore be
saved, moved and continued only there; at any other length a ``ValueError`` is raised.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from ..prefix_cache import Snapshot
from .config import Lfm2Config


class Lfm2Cache:
    """Preallocated buffers for all rows.

    Args:
        config: sizes of the model.
        rows: sequences that run together.
        context: tokens of prompt and finished blocks per row.
        device: device of the buffers.
        dtype: of all numbers.
    """

    def __init__(
        self, config: Lfm2Config, *, rows: int, context: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.rows, self.context, self.block_length = rows, context, config.block_length
        self.lengths = [0] * rows
        """Number of tokens that each row holds."""
        shape = (config.num_attention_layers, 2, rows, config.num_kv_heads, config.block_length + context)
        # Zeros, not uninitialized memory: masked places are multiplied by 0, and nan * 0 is nan.
        self.keys_values = torch.zeros((*shape, config.head_dim), device=device, dtype=dtype)
        """[attention layers, 2, rows, heads, block + context, head_dim]."""
        inputs = (config.num_conv_layers, rows, config.conv_taps - 1, config.hidden_size)
        self.conv_inputs = torch.zeros(inputs, device=device, dtype=dtype)
        """[convolution layers, rows, taps - 1, hidden], the last inputs of each convolution, oldest first."""

    @property
    def nbytes(self) -> int:
        """Size of all buffers in bytes."""
        return self.keys_values.nbytes + self.conv_inputs.nbytes

    def begin(self, row: int, start: int, count: int) -> Tensor:
        """Prepare a row that holds ``start`` tokens for ``count`` more. Return a copy of its convolution inputs.

        Tokens at the start of a row replace what it held.
        """
        if start:
            self._check(row, start)
        if start + count > self.context:
            raise ValueError(f"{start + count} tokens exceed the context of {self.context}")
        self.lengths[row] = start
        return self.conv_inputs[:, row].clone() if start else torch.zeros_like(self.conv_inputs[:, row])

    def write(self, layer: int, row: int, start: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values of the tokens from ``start`` on, and return those of all tokens up to the last.

        Args:
            layer: number among the layers with attention.
            row: the row.
            start: position of the first token.
            keys: [heads, tokens, head_dim].
            values: like the keys.
        """
        end = start + keys.shape[1]
        own = self.keys_values[layer, :, row, :, self.block_length :]
        own[0, :, start:end] = keys
        own[1, :, start:end] = values
        return own[0, :, :end], own[1, :, :end]

    def finish(self, row: int, length: int, conv_inputs: Tensor) -> None:
        """Set the convolution inputs of a row that now holds ``length`` tokens."""
        self.conv_inputs[:, row] = conv_inputs
        self.lengths[row] = length

    def save(self, row: int, tokens: Sequence[Hashable]) -> Snapshot:
        """Return a snapshot of a row that holds exactly these tokens."""
        self._check(row, len(tokens))
        end = self.block_length + len(tokens)
        return Snapshot(
            tuple(tokens),
            (
                self.keys_values[:, :, row, :, self.block_length : end].clone(),
                self.conv_inputs[:, row].clone(),
            ),
        )

    def load(self, row: int, snapshot: Snapshot) -> None:
        """Fill a row with the tokens of a snapshot."""
        keys_values, conv_inputs = snapshot.tensors
        length = len(snapshot.tokens)
        self.keys_values[:, :, row, :, self.block_length : self.block_length + length] = keys_values
        self.finish(row, length, conv_inputs)

    def move(self, source: int, target: int, length: int) -> None:
        """Copy a row, which holds ``length`` tokens, to another."""
        if length:  # a row that has no tokens yet may still hold those of an earlier sequence
            self._check(source, length)
        places = slice(self.block_length, self.block_length + length)
        self.keys_values[:, :, target, :, places] = self.keys_values[:, :, source, :, places]
        self.finish(target, length, self.conv_inputs[:, source])

    def _check(self, row: int, length: int) -> None:
        if self.lengths[row] != length:
            raise ValueError(
                f"row {row} holds {self.lengths[row]} tokens; its convolutions cannot continue at {length}"
            )
