"""A small model and a denoising loop, for the tests of the loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from tests.engine.reference_generate import reference_generate, until_end

from unwritten_engine.diffusion.diffusion_gemma.kv_cache import KVCache
from unwritten_engine.diffusion.diffusion_gemma.layers import DiffusionGemmaLayers
from unwritten_engine.diffusion.diffusion_gemma.random_model import random_model
from unwritten_engine.diffusion.diffusion_gemma.sampling_params import SamplingParams
from unwritten_engine.diffusion.diffusion_gemma.step_rule import EntropyBoundRule
from unwritten_engine.diffusion.loop import MAX_QUEUE_SECONDS, DenoisingLoop
from unwritten_engine.diffusion.model_runner import ModelRunner
from unwritten_engine.diffusion.sequence import Sequence
from unwritten_engine.diffusion.tokenization.canvas_plan import CanvasPlan
from unwritten_engine.diffusion.tokenization.detokenizer import Detokenizer
from unwritten_engine.diffusion.tokenization.prompt_tokenizer import TokenizedPrompt
from unwritten_engine.frames import Priority

END = 1


class Model:
    """A small model with its own denoising loop.

    Args:
        rows: maximum number of sequences that run at the same time.
        context: maximum number of tokens per sequence.
        cache_bytes: size of the prefix cache in bytes.
        shape: arguments of ``random_model``.
    """

    def __init__(self, *, rows: int = 4, context: int = 512, cache_bytes: int = 10**8, **shape: Any) -> None:
        self.model, self.tokenizer = random_model(**shape)
        self.size = int(self.model.config.canvas_length)
        self.vocabulary = int(self.model.config.text_config.vocab_size)
        self.reader = Detokenizer(self.tokenizer, frozenset({END}), 0, self.vocabulary)
        self.rows, self.context, self.cache_bytes = rows, context, cache_bytes
        self.new_loop()

    def new_loop(
        self,
        *,
        rows: int | None = None,
        cache_bytes: int | None = None,
        max_queue_seconds: float = MAX_QUEUE_SECONDS,
        cache: type[KVCache] = KVCache,
        body: type[DiffusionGemmaLayers] = DiffusionGemmaLayers,
        batch: type[ModelRunner] = ModelRunner,
        run_ahead: bool = False,
        top_k: int | None = None,
    ) -> DenoisingLoop:
        """Return a new loop without sequences. Tests may replace its parts by ones that fail."""
        kv = cache(
            self.model.config.text_config,
            rows=self.rows if rows is None else rows,
            context=self.context,
            canvas=self.size,
            device=torch.device("cpu"),
            dtype=torch.float32,
        )
        layers = body(self.model, kv)
        self.batch = batch(layers, EntropyBoundRule(self.model, layers, top_k=top_k))
        self.loop = DenoisingLoop(
            self.batch,
            prefix_cache_bytes=self.cache_bytes if cache_bytes is None else cache_bytes,
            max_queue_seconds=max_queue_seconds,
            run_ahead=run_ahead,
        )
        return self.loop

    def prompt(self, length: int, seed: int = 0) -> tuple[int, ...]:
        """Return random token ids."""
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
        plan_options: Mapping[str, Any] | None = None,
        **given: Any,
    ) -> Sequence:
        """Return a sequence for this prompt. ``given`` are sampling parameters."""
        made = CanvasPlan(canvases, self.size, self.size, canvases * self.size, self.reader, **(plan_options or {}))
        return Sequence(
            TokenizedPrompt(prompt, prompt, shared), made, SamplingParams(**{"steps": 8, **given}), seed, priority
        )

    def generate(self, *runs: Sequence) -> list[list[int]]:
        """Generate these sequences together. Return the tokens of each up to its end token."""
        for _ in self.loop.generate(runs):
            pass
        assert all(run.error is None for run in runs), [run.error for run in runs]
        return [until_end(run.output_ids, END) for run in runs]

    def reference_output(self, *runs: Sequence) -> list[list[int]]:
        """Return the output of the reference ``generate()``. Prompts must have the same length and parameters."""
        params = runs[0].params
        assert isinstance(params, SamplingParams)
        found = reference_generate(
            self.model,
            [run.prompt.ids for run in runs],
            [run.seed for run in runs],
            params,
            runs[0].plan.canvases,
            end=END,
        )
        return [until_end(ids, END) for ids in found]
