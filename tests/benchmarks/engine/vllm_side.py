"""vLLM beside the own engine, on one small random checkpoint: agreement of logits, steps, and what drafts cost.

vLLM runs in this process, so that its logits and the time of its steps can be seen.
"""

from __future__ import annotations

import os
import secrets
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from tests.benchmarks.engine.runners import to_ms

from unwritten_engine.diffusion.diffusion_gemma.kv_cache import KVCache
from unwritten_engine.diffusion.diffusion_gemma.layers import DiffusionGemmaLayers
from unwritten_engine.diffusion.diffusion_gemma.random_model import no_progress_bars
from unwritten_engine.diffusion.loader import load_model
from unwritten_engine.diffusion.token_chunk import TokenChunk
from unwritten_engine.vllm.checkpoint import read_checkpoint, write_random
from unwritten_engine.vllm.draft_channel import ADDRESS_VARIABLE, KEY_VARIABLE, new_key
from unwritten_engine.vllm.internals import SAMPLER, installed_version, vllm_object

PROMPT: Final = 40
CONTEXT: Final = 1024
STEPS: Final = 24


def measure_vllm(pairs: int) -> dict[str, Any]:
    """Measure a small model in vLLM and in the own engine.

    Args:
        pairs: repetitions with and without drafts.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_random(Path(scratch), canvas=64)
        os.environ |= {ADDRESS_VARIABLE: f"ipc://{scratch}/drafts", KEY_VARIABLE: new_key()}
        with _running_vllm(folder) as side:
            errors = [_logit_error(folder, side, seed) for seed in range(3)]
            with_drafts, without = [], []
            for _ in range(pairs + 1):
                with_drafts.append(side.step_seconds(drafts=True))
                without.append(side.step_seconds(drafts=False))
            return {
                "version": installed_version(),
                "logit_error": max(errors),
                "ms_per_step": to_ms(statistics.median(without[1:])),
                "ms_per_step_with_drafts": to_ms(statistics.median(with_drafts[1:])),
                "draft_ms": round(1000 * statistics.median(side.plugin_seconds), 3),
                "steps": side.steps_of_a_canvas(),
            }


class VLLMSide:
    """A vLLM in this process.

    Attributes:
        logits: what the sampler got in the last step.
        samplers: the sampler, after the first step.
        seconds: duration of each step of the last run.
        plugin_seconds: for each step with drafts, processor time that the plugin took from the thread of the model.
    """

    def __init__(self, engine: Any, sampler_class: Any, size: int) -> None:
        self._engine, self._size = engine, size
        self.logits = torch.empty(0)
        self.samplers: list[Any] = []
        self.seconds: list[float] = []
        self.plugin_seconds: list[float] = []
        plain = sampler_class.__call__

        def call(sampler: Any, logits: Any, input_batch: Any, draft_logits: Any = None) -> Any:
            if input_batch.num_draft_tokens:
                self.logits = logits.detach().clone()
            self.samplers[:] = [sampler]
            return plain(sampler, logits, input_batch, draft_logits)

        sampler_class.__call__ = call

    def run(self, prompt: list[int], **extra_args: Any) -> int:
        """Generate one canvas. Return the number of steps."""
        params = vllm_object("vllm.SamplingParams")(
            max_tokens=self._size, ignore_eos=True, extra_args={"diffusion_read_only": True, **extra_args}
        )
        self._engine.add_request(secrets.token_hex(4), {"prompt_token_ids": prompt}, params)
        self.seconds.clear()
        while self._engine.has_unfinished_requests():
            start = time.perf_counter()
            self._engine.step()
            self.seconds.append(time.perf_counter() - start)
        return len(self.seconds) - 1  # without that of the prompt

    def step_seconds(self, *, drafts: bool) -> float:
        """Return the median duration of a step."""
        if not self.samplers:
            self.run(list(range(700, 700 + PROMPT)), diffusion_max_steps=2)
        plugin = self.samplers[0].unwritten_plugin
        publisher, plugin._publisher = plugin._publisher, plugin._publisher if drafts else None
        plain = plugin.after_step

        def timed(batch: Any) -> None:
            start = time.thread_time()
            plain(batch)
            self.plugin_seconds.append(time.thread_time() - start)

        if drafts:
            plugin.after_step = timed
        try:
            # From random tokens at a temperature that never settles, a canvas takes all its steps.
            self.run([secrets.randbelow(300) + 600 for _ in range(PROMPT)], diffusion_max_steps=STEPS)
        finally:
            plugin._publisher, plugin.after_step = publisher, plain
        return statistics.median(self.seconds[1:])

    def steps_of_a_canvas(self) -> float:
        """Return the mean number of steps of some canvases."""
        return statistics.mean(self.run(list(range(600 + n, 600 + n + PROMPT))) for n in range(4))


@contextmanager
def _running_vllm(folder: Path) -> Iterator[VLLMSide]:
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR"}
    sampler_class = vllm_object(SAMPLER)
    size = read_checkpoint(folder).canvas_length
    plain = sampler_class.__call__
    engine = vllm_object("vllm.v1.engine.llm_engine.LLMEngine").from_engine_args(
        vllm_object("vllm.EngineArgs")(
            str(folder),
            dtype="float32",
            max_model_len=CONTEXT,
            enforce_eager=True,
            max_num_seqs=2,
            diffusion_config={"canvas_length": size},
            limit_mm_per_prompt={"image": 0, "video": 0},
            disable_log_stats=True,
        )
    )
    try:
        yield VLLMSide(engine, sampler_class, size)
    finally:
        sampler_class.__call__ = plain
        engine.engine_core.shutdown()


def _logit_error(folder: Path, side: VLLMSide, seed: int) -> float:
    """Return the largest difference of the logits of both engines for one canvas, in its first step."""
    checkpoint = read_checkpoint(folder)
    generator = torch.Generator().manual_seed(seed)

    def random_ids(count: int) -> list[int]:
        found: list[int] = torch.randint(600, checkpoint.vocab_size, (count,), generator=generator).tolist()
        return found

    prompt, canvas = random_ids(PROMPT), random_ids(checkpoint.canvas_length)
    side.run(prompt, diffusion_seed_canvas=canvas, diffusion_max_steps=1)
    own = own_logits(folder, prompt, canvas)
    return float((side.logits.float() - own).abs().max())


@torch.inference_mode()
def own_logits(folder: Path, prompt: list[int], canvas: list[int]) -> Any:
    """Return the logits of the own engine in the first step of a canvas, [positions, vocabulary]."""
    with no_progress_bars():
        loaded = load_model(
            str(folder),
            device="cpu",
            quantize=None,
            dtype="float32",
            budget_bytes=None,
            progress=lambda share, doing: None,
        )
    config = loaded.model.config
    cache = KVCache(
        config.text_config,
        rows=1,
        context=CONTEXT,
        canvas=len(canvas),
        device=loaded.device,
        dtype=torch.float32,
    )
    model = DiffusionGemmaLayers(loaded.model, cache)
    model.encode(TokenChunk(0, 0, torch.tensor(prompt)))
    soft = torch.zeros(1, len(canvas), config.text_config.hidden_size)
    lengths = torch.tensor([len(prompt)])
    hidden = model.decode(torch.tensor([canvas]), soft, lengths, len(prompt), False)[0]
    cap = float(config.text_config.final_logit_softcapping)
    return torch.tanh(loaded.model.lm_head(hidden).float() / cap) * cap
