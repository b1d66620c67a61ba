"""What the tests of the denoising loop share: a small model with all its parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from tests.engine.reference_generate import reference_generate, until_end

from unwritten_engine.diffusion.kv_cache import KVCache
from unwritten_engine.diffusion.loading.random_model import random_model
from unwritten_engine.diffusion.loop import MAX_QUEUE_SECONDS, DenoisingLoop
from unwritten_engine.diffusion.model import DiffusionModel
from unwritten_engine.diffusion.model_runner import ModelRunner
from unwritten_engine.diffusion.sampling_params import SamplingParams
from unwritten_engine.diffusion.sequence import Sequence
from unwritten_engine.diffusion.tokenization.canvas_plan import CanvasPlan
from unwritten_engine.diffusion.tokenization.detokenizer import Detokenizer
from unwritten_engine.diffusion.tokenization.prompt_tokenizer import TokenizedPrompt
from unwritten_engine.frames import Priority

END = 1


class Model:
    """A small model over a loop of its own.

    Args:
        rows: requests that run together.
        context: tokens of a row.
        kept: bytes of the store of snapshots.
        shape: as for ``small_model``.
    """

    def __init__(self, *, rows: int = 4, context: int = 512, kept: int = 10**8, **shape: Any) -> None:
        self.model, self.tokenizer = random_model(**shape)
        self.size = int(self.model.config.canvas_length)
        self.vocabulary = int(self.model.config.text_config.vocab_size)
        self.reader = Detokenizer(self.tokenizer, frozenset({END}), 0, self.vocabulary)
        self.rows, self.context, self.kept = rows, context, kept
        self.fresh()

    def fresh(
        self,
        *,
        rows: int | None = None,
        kept: int | None = None,
        patience: float = MAX_QUEUE_SECONDS,
        cache: type[KVCache] = KVCache,
        body: type[DiffusionModel] = DiffusionModel,
        batch: type[ModelRunner] = ModelRunner,
    ) -> DenoisingLoop:
        """A new loop with empty rows. Other parts than the usual ones may stand in, which fail where they are told."""
        kv = cache(
            self.model.config.text_config,
            rows=self.rows if rows is None else rows,
            context=self.context,
            canvas=self.size,
            device=torch.device("cpu"),
            dtype=torch.float32,
        )
        self.batch = batch(self.model, body(self.model, kv))
        self.loop = DenoisingLoop(
            self.batch, prefix_cache_bytes=self.kept if kept is None else kept, max_queue_seconds=patience
        )
        return self.loop

    def prompt(self, length: int, seed: int = 0) -> tuple[int, ...]:
        """Random tokens."""
        made = torch.Generator().manual_seed(seed)
        return tuple(torch.randint(600, self.vocabulary, (length,), generator=made).tolist())

    def run(
        self,
        prompt: tuple[int, ...],
        *,
        seed: int = 7,
        canvases: int = 1,
        shared: int = 0,
        priority: Priority = Priority.CLICK,
        outline: Mapping[str, Any] | None = None,
        **given: Any,
    ) -> Sequence:
        """A request for these tokens; ``outline`` has more of its outline, and ``given`` sets the dial."""
        made = CanvasPlan(canvases, canvases * self.size, self.reader, **(outline or {}))
        return Sequence(
            TokenizedPrompt(prompt, prompt, shared), made, SamplingParams(**{"steps": 8, **given}), seed, priority
        )

    def written(self, *runs: Sequence) -> list[list[int]]:
        """The tokens of these requests, worked on together, up to their end."""
        for _ in self.loop.generate(runs):
            pass
        assert all(run.error is None for run in runs), [run.error for run in runs]
        return [until_end(run.output_ids, END) for run in runs]

    def theirs(self, *runs: Sequence) -> list[list[int]]:
        """What ``generate()`` makes of these requests, which have prompts of one length and one dial."""
        found = reference_generate(
            self.model,
            [run.prompt.ids for run in runs],
            [run.seed for run in runs],
            runs[0].params,
            runs[0].plan.canvases,
            end=END,
        )
        return [until_end(ids, END) for ids in found]
