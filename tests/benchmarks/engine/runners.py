"""The two sides, the denoising loop and ``generate()`` of transformers, on one model, timed step by step.

Both return the draft of each step, as a page needs it, so the time of a step is from draft to draft. Neither finishes a
canvas early, because no draft reaches the confidence.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections import abc
from collections.abc import Callable
from typing import Any, Final

import torch
from tests.benchmarks.engine.bench_model import BenchModel
from torch import Tensor

from unwritten_engine.diffusion.cuda_graphs import CUDAGraphs
from unwritten_engine.diffusion.diffusion_gemma.family import DIFFUSION_GEMMA
from unwritten_engine.diffusion.diffusion_gemma.layers import DiffusionGemmaLayers
from unwritten_engine.diffusion.diffusion_gemma.sampling_params import SamplingParams
from unwritten_engine.diffusion.diffusion_gemma.step_rule import EntropyBoundRule
from unwritten_engine.diffusion.loop import DenoisingLoop
from unwritten_engine.diffusion.model_runner import ModelRunner
from unwritten_engine.diffusion.sequence import Sequence
from unwritten_engine.diffusion.tokenization.canvas_plan import CanvasPlan
from unwritten_engine.diffusion.tokenization.prompt_tokenizer import TokenizedPrompt
from unwritten_engine.errors import GenerationFailed

UNREACHABLE_CONFIDENCE: Final = 1e-9
"""A confidence in nats that no draft reaches."""


def random_prompt(subject: BenchModel, length: int, seed: int) -> tuple[int, ...]:
    """Return random tokens without control tokens."""
    made = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(600, subject.vocabulary, (length,), generator=made).tolist())


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def out_of_memory(subject: BenchModel, work: Callable[[], list[float]]) -> list[float] | None:
    """Return the result of ``work``, or None if memory ran out."""
    try:
        return work()
    except (torch.OutOfMemoryError, GenerationFailed):  # the loop raises the second
        pass
    gc.collect()
    if subject.device.type == "cuda":
        torch.cuda.empty_cache()
    return None


class EngineRunner:
    """The denoising loop.

    Args:
        subject: the model.
        rows: maximum batch size.
        context: tokens of a row.
        graphs: CUDA graphs; None for new ones on a GPU.
    """

    def __init__(self, subject: BenchModel, *, rows: int, context: int, graphs: CUDAGraphs | None = None) -> None:
        self.subject = subject
        if graphs is None and subject.device.type == "cuda":
            graphs = CUDAGraphs()
        model, rule = DIFFUSION_GEMMA.assemble(subject.model, rows=rows, context=context)
        assert isinstance(model, DiffusionGemmaLayers) and isinstance(rule, EntropyBoundRule)
        self.model, self.rule = model, rule
        self.runner = ModelRunner(model, rule, cuda_graphs=graphs)
        self.loop = DenoisingLoop(self.runner, prefix_cache_bytes=10**9)
        self.loop.prepare()

    def run(
        self, tokens: abc.Sequence[int], *, steps: int, seed: int = 7, shared: int = 0, canvases: int = 1
    ) -> Sequence:
        """Return a sequence with this many steps in each canvas."""
        plan = CanvasPlan(
            canvases, self.subject.size, self.subject.size, canvases * self.subject.size, self.subject.detokenizer
        )
        ids = tuple(tokens)
        return Sequence(
            TokenizedPrompt(ids, ids, shared),
            plan,
            SamplingParams(steps=steps, confidence=UNREACHABLE_CONFIDENCE),
            seed,
        )

    def steps(self, prompts: abc.Sequence[abc.Sequence[int]], steps: int) -> list[float]:
        """Return the seconds of each step except the first, with all these requests in one batch."""
        runs = [self.run(tokens, steps=steps, seed=seed) for seed, tokens in enumerate(prompts)]
        for run in runs:
            self.loop.add(run)
        while len(self.loop.running) < len(runs):
            self.loop.step()
            check(runs)
        seconds = []
        while not self.loop.idle:
            start = time.perf_counter()
            self.loop.step()
            synchronize(self.subject.device)
            seconds.append(time.perf_counter() - start)
            check(runs)
        return seconds

    def forward(self, count: int, repeats: int) -> float:
        """Return the seconds of the layers alone, on the rows as the last run left them."""
        batch, longest = self.runner, int(self.runner.lengths[:count].max())
        if batch.cuda_graphs is not None:
            count, longest = batch.cuda_graphs.buckets(count, longest, self.model.cache.rows, self.model.cache.context)
        graphs = CUDAGraphs() if batch.cuda_graphs is not None else None

        def work() -> None:
            self.model.decode(
                batch.tokens[:count],
                self.rule.soft_embeddings[:count],
                batch.lengths[:count],
                longest,
                graphs is not None,
            )

        seconds = []
        with torch.inference_mode():
            for _ in range(repeats + 2):
                start = time.perf_counter()
                graphs.run("forward", work) if graphs is not None else work()
                synchronize(self.subject.device)
                seconds.append(time.perf_counter() - start)
        return statistics.median(seconds[2:])


class ReferenceRunner:
    """``generate()`` of transformers.

    Args:
        subject: the model.
    """

    def __init__(self, subject: BenchModel) -> None:
        self.subject = subject
        self.layer_seconds: list[float] = []
        """Seconds of the layers in each step of the last run with ``time_layers``."""

    @torch.inference_mode()
    def steps(self, prompts: abc.Sequence[abc.Sequence[int]], steps: int, *, time_layers: bool = False) -> list[float]:
        """Return the seconds of each step except the first, with all these requests in one call.

        Args:
            prompts: token ids, all of the same length.
            steps: steps of each.
            time_layers: fill ``layer_seconds``, which on a GPU costs two synchronizations per step.
        """
        from transformers.models.diffusion_gemma.generation_diffusion_gemma import EntropyBoundSamplerConfig

        model, device, params = self.subject.model, self.subject.device, SamplingParams(steps=steps)
        clock = _DraftTimer(device)
        hooks = self._timing_hooks() if time_layers else []
        self.layer_seconds = []
        try:
            model.generate(
                torch.tensor([list(tokens) for tokens in prompts], device=device),
                max_new_tokens=self.subject.size,
                max_denoising_steps=steps,
                sampler_config=EntropyBoundSamplerConfig(params.entropy_bound),
                t_max=params.t_max,
                t_min=params.t_min,
                stability_threshold=params.stability,
                confidence_threshold=UNREACHABLE_CONFIDENCE,
                eos_token_id=1,
                pad_token_id=0,
                streamer=clock,
            )
        finally:
            for hook in hooks:
                hook.remove()
        if len(clock.times) != steps:
            raise RuntimeError(f"generate() made {len(clock.times)} steps where {steps} were asked for.")
        return [end - begin for begin, end in zip(clock.times[:-1], clock.times[1:], strict=True)]

    def _timing_hooks(self) -> list[Any]:
        """Register hooks before and after the decoder's layers."""
        decoder, device, start = self.subject.model.model.decoder, self.subject.device, [0.0]

        def before(*_: Any) -> None:
            synchronize(device)
            start[0] = time.perf_counter()

        def behind(*_: Any) -> None:
            synchronize(device)
            self.layer_seconds.append(time.perf_counter() - start[0])

        return [
            decoder.self_conditioning.register_forward_pre_hook(before),
            decoder.norm.register_forward_hook(behind),
        ]


class _DraftTimer:
    """A streamer that records the times of drafts."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.times: list[float] = []

    def put(self, value: Tensor) -> None:
        """Ignore finished tokens."""

    def put_draft(self, value: Tensor) -> None:
        """Record the time of a draft."""
        synchronize(self._device)
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """Do nothing."""


def check(runs: abc.Sequence[Sequence]) -> None:
    """Raise the error of a failed request."""
    for run in runs:
        if run.error is not None:
            raise run.error


def has_drafts(*runs: Sequence, steps: int = 1) -> Callable[[], bool]:
    """Return a function that tells whether each of these has this many drafts."""
    return lambda: all(run.steps >= steps for run in runs)


def run_until(engine: EngineRunner, runs: abc.Sequence[Sequence], done: Callable[[], bool] = lambda: False) -> float:
    """Add requests, and run steps until ``done`` or until no work is left. Returns the seconds.

    The next call continues requests that are still running.
    """
    start = time.perf_counter()
    for run in runs:
        engine.loop.add(run)
    while not done() and not engine.loop.idle:
        engine.loop.step()
        check(runs)
    return time.perf_counter() - start


def to_ms(seconds: float) -> float:
    """Return milliseconds."""
    return round(seconds * 1000, 2)
