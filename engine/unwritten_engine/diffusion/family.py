"""What a family of diffusion models provides. Imports no family, and no torch.

The engine shares requests, scheduling, the batch with its pins and masks, random numbers, the sampler and the prefix
cache. A family provides a ``Family`` object, through which its checkpoints are loaded, and from which the engine gets
the two objects that run: a ``DiffusionModel`` with its ``Cache``, and a ``StepRule``. The families are listed in
``families.py``.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..engine import Progress
from ..options import Option
from .loading.checkpoint import Checkpoint
from .loading.memory_plan import MemoryNeeds

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .prefix_cache import Snapshot
    from .step_rows import StepChoice, StepRows
    from .token_chunk import TokenChunk
    from .tokenization.image_processor import ImagePatches, ImageProcessor


class SamplingParams(Protocol):
    """Sampling parameters of a request. Each family has a class of its own, with what its step rule needs."""

    @property
    def steps(self) -> int:
        """Maximum steps per canvas."""
        ...


class Cache(Protocol):
    """What the layers keep of the tokens in each row: keys and values, and other states.

    A row holds the prompt and the finished text of a sequence, without what is being denoised.
    """

    @property
    def rows(self) -> int:
        """Sequences that run together."""
        ...

    @property
    def context(self) -> int:
        """Maximum tokens of a row."""
        ...

    @property
    def block_length(self) -> int:
        """Tokens that are denoised together."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers."""
        ...

    def save(self, row: int, tokens: Sequence[Hashable]) -> Snapshot:
        """Return a snapshot of a row that holds exactly these tokens."""
        ...

    def load(self, row: int, snapshot: Snapshot) -> None:
        """Fill a row with the tokens of a snapshot."""
        ...

    def move(self, source: int, target: int, length: int) -> None:
        """Copy a row, which holds this many tokens, to another."""
        ...


class DiffusionModel(Protocol):
    """The layers of a model over its cache, as the loop uses them."""

    @property
    def cache(self) -> Cache:
        """The cache."""
        ...

    @property
    def device(self) -> torch.device:
        """Device of weights and cache."""
        ...

    def encode(self, *chunks: TokenChunk) -> None:
        """Append tokens to rows, all in one pass: those of prompts, or of a finished block."""
        ...

    def embed_images(self, images: ImagePatches) -> tuple[Tensor, Tensor]:
        """Embed a prompt with images. Not called for a family without an image processor.

        Returns:
            Embeddings, [tokens, hidden], and the image index of each token or -1, [tokens] int64.
        """
        ...


class StepRule(Protocol):
    """A denoising step of a family: runs the model over all rows, and chooses tokens.

    It reads nothing back to the host, so that steps can run ahead and be captured in a CUDA graph. The runner counts
    the steps, applies pins, and writes all results in place.
    """

    @property
    def vocabulary(self) -> int:
        """Number of tokens that the model can write."""
        ...

    @property
    def state(self) -> Sequence[Tensor]:
        """State of each row, [rows, ...]. The runner saves and loads it with the row."""
        ...

    def begin(self, row: int, params: Any, strength: float) -> tuple[int, int]:
        """Start a block in a row: set the row's state.

        Args:
            row: the row.
            params: sampling parameters of the request, of the family's class.
            strength: share of the tokens that are random: 1 without a draft to edit.

        Returns:
            Steps of this block, and of a block with a strength of 1.
        """
        ...

    def step(self, rows: StepRows) -> StepChoice:
        """Run one denoising step, without writing to the state."""
        ...


class Family(Protocol):
    """A family of models: how its checkpoints are recognized, checked and loaded. Does not import torch by itself."""

    @property
    def name(self) -> str:
        """Display name."""
        ...

    @property
    def architectures(self) -> tuple[str, ...]:
        """Names in ``architectures`` of a ``config.json``."""
        ...

    @property
    def model_types(self) -> tuple[str, ...]:
        """Names in ``model_type``, for a ``config.json`` without ``architectures``."""
        ...

    @property
    def example(self) -> str:
        """OWNER/REPO of a published checkpoint."""
        ...

    @property
    def random(self) -> str:
        """Reference of a small random model, which ``write_random`` makes."""
        ...

    @property
    def cpu_dtype(self) -> str:
        """Type of activations and unquantized weights on a CPU, if none is requested: "float32" or "bfloat16"."""
        ...

    @property
    def sampling(self) -> tuple[Option, ...]:
        """Options of a request."""
        ...

    def sampling_params(self, options: Mapping[str, Any], base: Any) -> SamplingParams:
        """Return the parameters of a request.

        Args:
            options: of the request.
            base: parameters of the checkpoint.

        Raises:
            UnknownOption, BadOption: an unknown option, or an invalid value.
        """
        ...

    def memory_needs(self, folder: Path, config: Mapping[str, Any], name: str) -> MemoryNeeds:
        """Return how much memory a model needs. Called before its weights are downloaded.

        Args:
            folder: its JSON files.
            config: its ``config.json``.
            name: display name.

        Raises:
            ModelBroken, ModelUnsupported: according to these files, it cannot be loaded.
        """
        ...

    def licence(self, folder: Path, name: str) -> str:
        """Return the terms of a model, or "" if its files do not state them. Called before its weights are downloaded.

        Args:
            folder: its model card and JSON files.
            name: display name.
        """
        ...

    def inspect(self, folder: Path, config: Mapping[str, Any], name: str) -> Checkpoint:
        """Inspect a checkpoint folder, and check that its files are complete and fit together.

        Args:
            folder: the folder.
            config: its ``config.json``.
            name: display name.

        Raises:
            ModelNotFound: a file does not exist.
            ModelBroken: a file is truncated or damaged, or tensors are missing or have the wrong shape.
            ModelUnsupported: an unsupported quantization or variant.
        """
        ...

    def write_random(self, folder: Path) -> None:
        """Write a small random model as a checkpoint folder, for the reference ``random``."""
        ...

    def load_weights(
        self, checkpoint: Any, kind: str, device: torch.device, dtype: torch.dtype, progress: Progress
    ) -> tuple[Any, tuple[str, ...]]:
        """Return a module with the weights of a checkpoint.

        Args:
            checkpoint: the checkpoint.
            kind: weight format: "float32" or one of ``MemoryNeeds.kinds``.
            device: target device.
            dtype: of activations and of weights that are not quantized.
            progress: gets the share of bytes that are loaded.

        Returns:
            The module, in eval mode without gradients, and sentences about choices that were made.

        Raises:
            ModelBroken: a file is damaged, or tensors are missing. The message names them.
            ModelUnsupported: the model has no place for some tensors.
            MissingPackage: a package is missing or too old.
        """
        ...

    def assemble(
        self, module: Any, *, rows: int, context: int, top_k: int | None = None
    ) -> tuple[DiffusionModel, StepRule]:
        """Return the layers of a loaded module over a new cache, and its step rule.

        Args:
            module: see ``load_weights``.
            rows: sequences that run together.
            context: maximum tokens of each.
            top_k: number of tokens in the self-conditioning; None uses the whole distribution.
        """
        ...

    def image_processor(
        self, checkpoint: Any, tokenizer: Any, image_tokens: int | None
    ) -> tuple[ImageProcessor | None, tuple[str, ...]]:
        """Return the image processor of a checkpoint, or None and why images are not supported.

        Args:
            checkpoint: the checkpoint.
            tokenizer: its tokenizer.
            image_tokens: maximum tokens per image; None uses the checkpoint's own.
        """
        ...
