"""The two sides: our loop and ``generate()`` of transformers, on one model, step by step, with the clock running.

Both hand out the draft after each step, as a page needs it; so a step's time is from draft to draft. Neither stops
early: no confidence is high enough.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections import abc
from collections.abc import Callable
from typing import Any, Final

import torch
from tests.benchmarks.engine.subject import Subject
from torch import Tensor

from unwritten_engine.diffusion.cuda_graphs import CUDAGraphs
from unwritten_engine.diffusion.kv_cache import KVCache
from unwritten_engine.diffusion.loop import DenoisingLoop
from unwritten_engine.diffusion.model import DiffusionModel
from unwritten_engine.diffusion.model_runner import ModelRunner
from unwritten_engine.diffusion.sampling_params import SamplingParams
from unwritten_engine.diffusion.sequence import Sequence
from unwritten_engine.diffusion.tokenization.canvas_plan import CanvasPlan
from unwritten_engine.diffusion.tokenization.prompt_tokenizer import TokenizedPrompt
from unwritten_engine.errors import GenerationFailed

NEVER: Final = 1e-9
"""A confidence in nats that no draft reaches."""


def prompt(subject: Subject, length: int, seed: int) -> tuple[int, ...]:
    """Random tokens, none of them a control token."""
    made = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(600, subject.vocabulary, (length,), generator=made).tolist())


def synchronize(device: torch.device) -> None:
    """Wait until the device has done everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def out_of_memory(subject: Subject, work: Callable[[], list[float]]) -> list[float] | None:
    """What the work returns, or None if memory ran out."""
    try:
        return work()
    except (torch.OutOfMemoryError, GenerationFailed):  # our loop says it in words
        pass
    gc.collect()
    if subject.device.type == "cuda":
        torch.cuda.empty_cache()
    return None


class Ours:
    """Our loop.

    Args:
        subject: the model.
        rows: requests that run together.
        context: tokens of a row.
    """

    def __init__(self, subject: Subject, *, rows: int, context: int) -> None:
        self.subject = subject
        self.kv = KVCache(
            subject.model.config.text_config,
            rows=rows,
            context=context,
            canvas=subject.size,
            device=subject.device,
            dtype=subject.model.model.decoder.embed_tokens.weight.dtype,
        )
        graphs = CUDAGraphs() if subject.device.type == "cuda" else None
        self.batch = ModelRunner(subject.model, DiffusionModel(subject.model, self.kv), cuda_graphs=graphs)
        self.loop = DenoisingLoop(self.batch, prefix_cache_bytes=10**9)

    def run(
        self, tokens: abc.Sequence[int], *, steps: int, seed: int = 7, shared: int = 0, canvases: int = 1
    ) -> Sequence:
        """A request of so many steps in each canvas."""
        outline = CanvasPlan(canvases, canvases * self.subject.size, self.subject.reader)
        ids = tuple(tokens)
        return Sequence(TokenizedPrompt(ids, ids, shared), outline, SamplingParams(steps=steps, confidence=NEVER), seed)

    def steps(self, prompts: abc.Sequence[abc.Sequence[int]], steps: int) -> list[float]:
        """Seconds of each step but the first, with all of these requests running together."""
        runs = [self.run(tokens, steps=steps, seed=seed) for seed, tokens in enumerate(prompts)]
        for run in runs:
            self.loop.add(run)
        while len(self.loop.running) < len(runs):
            self.loop.step()
            check(runs)
        seconds = []
        while not self.loop.idle:
            begun = time.perf_counter()
            self.loop.step()
            synchronize(self.subject.device)
            seconds.append(time.perf_counter() - begun)
            check(runs)
        return seconds

    def forward(self, count: int, repeats: int) -> float:
        """Seconds of the layers alone, over the rows as the last runs left them."""
        batch, longest = self.batch, int(self.batch.lengths[:count].max())
        if batch.cuda_graphs is not None:
            count, longest = batch.cuda_graphs.buckets(count, longest, self.kv.rows, self.kv.context)
        graphs = CUDAGraphs() if batch.cuda_graphs is not None else None

        def work() -> None:
            batch.model.decode(
                batch.canvas[:count], batch.soft_embeddings[:count], batch.lengths[:count], longest, graphs is not None
            )

        seconds = []
        with torch.inference_mode():
            for _ in range(repeats + 2):
                begun = time.perf_counter()
                graphs.run("forward", work) if graphs is not None else work()
                synchronize(self.subject.device)
                seconds.append(time.perf_counter() - begun)
        return statistics.median(seconds[2:])


class Theirs:
    """``generate()``.

    Args:
        subject: the model.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.forwards: list[float] = []
        """Seconds of the layers in each step of the last run with ``watched``."""

    @torch.inference_mode()
    def steps(self, prompts: abc.Sequence[abc.Sequence[int]], steps: int, *, watched: bool = False) -> list[float]:
        """Seconds of each step but the first, with all of these requests in one call; their prompts have one length.

        Args:
            prompts: token ids.
            steps: of each.
            watched: fill ``forwards``, which on a GPU costs two waits in each step.
        """
        from transformers.models.diffusion_gemma.generation_diffusion_gemma import EntropyBoundSamplerConfig

        model, device, dial = self.subject.model, self.subject.device, SamplingParams(steps=steps)
        clock = _Clock(device)
        hooks = self._watch() if watched else []
        self.forwards = []
        try:
            model.generate(
                torch.tensor([list(tokens) for tokens in prompts], device=device),
                max_new_tokens=self.subject.size,
                max_denoising_steps=steps,
                sampler_config=EntropyBoundSamplerConfig(dial.entropy_bound),
                t_max=dial.t_max,
                t_min=dial.t_min,
                stability_threshold=dial.stability,
                confidence_threshold=NEVER,
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

    def _watch(self) -> list[Any]:
        """Hooks before and behind the decoder's layers."""
        decoder, device, begun = self.subject.model.model.decoder, self.subject.device, [0.0]

        def before(*_: Any) -> None:
            synchronize(device)
            begun[0] = time.perf_counter()

        def behind(*_: Any) -> None:
            synchronize(device)
            self.forwards.append(time.perf_counter() - begun[0])

        return [
            decoder.self_conditioning.register_forward_pre_hook(before),
            decoder.norm.register_forward_hook(behind),
        ]


class _Clock:
    """A streamer that notes when drafts come."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.times: list[float] = []

    def put(self, value: Tensor) -> None:
        """Finished tokens."""

    def put_draft(self, value: Tensor) -> None:
        """A draft, on the host."""
        synchronize(self._device)
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """The end."""


def check(runs: abc.Sequence[Sequence]) -> None:
    """Raise what a request failed with."""
    for run in runs:
        if run.error is not None:
            raise run.error


def drafted(*runs: Sequence, steps: int = 1) -> Callable[[], bool]:
    """Asks whether each of these has so many drafts."""
    return lambda: all(run.steps >= steps for run in runs)


def until(ours: Ours, runs: abc.Sequence[Sequence], done: Callable[[], bool] = lambda: False) -> float:
    """Add requests, and step until it is done or nothing is left to do. Returns the seconds.

    What runs still is gone on with by the next call.
    """
    begun = time.perf_counter()
    for run in runs:
        ours.loop.add(run)
    while not done() and not ours.loop.idle:
        ours.loop.step()
        check(runs)
    return time.perf_counter() - begun


def ms(seconds: float) -> float:
    """Milliseconds."""
    return round(seconds * 1000, 2)
