"""Fixed and allowed tokens of a canvas, as they travel in ``SamplingParams.extra_args``.

vLLM has a seed canvas and pinned positions: the model sees the pinned tokens in every step. It still returns its own
prediction at these places. The plugin therefore changes the logits of our requests: at a pinned position only the
pinned token is possible, and at a position with a mask only the allowed ones. Drafts and committed canvases then have
the pins at every step, as in our own loop.

Values are numbers, strings and lists of them, because ``vllm_xargs`` of the HTTP server takes nothing else.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy

if TYPE_CHECKING:
    from torch import Tensor

MASK_IDS: Final = "unwritten_mask_ids"
"""For each position a number of ``MASKS`` from 1, or 0 for any token. Its presence marks our requests."""
MASKS: Final = "unwritten_masks"
"""Masks of the vocabulary: one bit per token, compressed, in base64."""
_IMPOSSIBLE: Final = -1e20
"""A logit that softmax turns into 0. Infinity would give NaN in the entropy."""
_LARGEST_MASK: Final = 1 << 20
"""Bytes of a mask. A compressed one cannot take more memory."""


def extra_args(
    seed: Sequence[int], pins: Sequence[int], mask_ids: Sequence[int], masks: Sequence[str]
) -> dict[str, Any]:
    """Return the arguments of a canvas.

    Args:
        seed: initial tokens of all positions; empty for random ones. Required with pins.
        pins: for each position the fixed token or -1; empty for none.
        mask_ids: for each position a number of ``masks`` from 1, or 0; empty for none.
        masks: encoded masks.
    """
    arguments: dict[str, Any] = {}
    positions = [at for at, token in enumerate(pins) if token >= 0]
    if seed:
        arguments["diffusion_seed_canvas"] = list(seed)
    if positions:
        arguments["diffusion_pinned"] = positions
    used = sorted({number for number in mask_ids if number})
    if positions or used:
        numbers = {number: at for at, number in enumerate(used, 1)}
        arguments[MASK_IDS] = [numbers.get(number, 0) for number in mask_ids] or [0] * len(seed)
    if used:
        arguments[MASKS] = [masks[number - 1] for number in used]
    return arguments


def encode_mask(mask: bytes) -> str:
    """Encode a mask of one byte per token, 1 for allowed tokens."""
    bits = numpy.packbits(numpy.frombuffer(mask, numpy.uint8)).tobytes()
    return base64.b64encode(zlib.compress(bits)).decode("ascii")


def _decode_mask(text: str, vocabulary: int) -> numpy.ndarray[Any, Any]:
    """Return a mask as booleans. Tokens that it does not have are not allowed."""
    try:
        bits = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), _LARGEST_MASK)
    except zlib.error as error:
        raise ValueError("a damaged mask") from error
    found = numpy.unpackbits(numpy.frombuffer(bits, numpy.uint8), count=None)[:vocabulary]
    return numpy.pad(found, (0, vocabulary - len(found))).astype(bool)


@dataclass(frozen=True, slots=True)
class Constraints:
    """Constraints of one request, on the device of the sampler.

    Attributes:
        width: tokens of the canvas.
        pinned: the pinned positions.
        tokens: their tokens.
        masks: positions with the same mask, and the mask, True for tokens that are not possible.
    """

    width: int
    pinned: Tensor
    tokens: Tensor
    masks: tuple[tuple[Tensor, Tensor], ...]

    def apply(self, logits: Tensor) -> None:
        """Change the logits of a canvas [width, vocabulary] in place."""
        if len(logits) != self.width:
            return  # a canvas that vLLM cut at the end of the context
        for positions, impossible in self.masks:
            logits[positions] = logits[positions].masked_fill(impossible, _IMPOSSIBLE)
        logits.index_fill_(0, self.pinned, _IMPOSSIBLE)
        logits[self.pinned, self.tokens] = 0.0


def read_constraints(arguments: Mapping[str, Any] | None, vocabulary: int, device: Any) -> Constraints | None:
    """Return the constraints in ``extra_args``, or None if it is not a request of ours.

    Raises:
        ValueError, TypeError: the arguments are malformed.
    """
    if not arguments or MASK_IDS not in arguments:
        return None
    import torch

    def indices(values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=device)

    mask_ids = [int(number) for number in arguments[MASK_IDS]]
    seed = arguments.get("diffusion_seed_canvas") or ()
    pinned = [int(at) for at in arguments.get("diffusion_pinned") or ()]
    if any(not 0 <= at < len(mask_ids) for at in pinned) or (pinned and len(seed) != len(mask_ids)):
        raise ValueError("positions outside the canvas")
    tokens = [int(seed[at]) for at in pinned]
    if any(not 0 <= token < vocabulary for token in tokens):
        raise ValueError("tokens outside the vocabulary")  # on a GPU, such an index would end vLLM
    masks = []
    for number, text in enumerate(arguments.get(MASKS) or (), 1):
        mask = _decode_mask(text, vocabulary)
        positions = [at for at, each in enumerate(mask_ids) if each == number]
        if not mask.any():
            raise ValueError("a mask without any token")
        masks.append((indices(positions), torch.from_numpy(~mask).to(device)))
    return Constraints(len(mask_ids), indices(pinned), indices(tokens), tuple(masks))
