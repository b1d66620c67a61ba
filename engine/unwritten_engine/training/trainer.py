"""The training loop: steps, evaluation, previews and saved states."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

from ..diffusion.loader import LoadedModel
from . import checkpoints as states
from .checkpoints import write_checkpoint_folder
from .config import TrainingConfig
from .dataset import TrainingPage
from .lora import LoRA
from .packing import BatchLayout, Corpus, PackedBatch, Packer
from .preview import PreviewWriter
from .runs import TrainingRun, log_entry, set_num_threads
from .step import StepMetrics, Stepper, make_optimizer

REPORT_SECONDS: Final = 5.0
"""Seconds between two progress reports."""
EVAL_STEPS: Final = 500
"""Steps between two evaluations with previews."""
SAVE_SECONDS: Final = 300.0
"""Seconds between two saved states."""
PREVIEWS_PER_EVAL: Final = 2
"""Previews per evaluation; they rotate through the preview pages."""


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """Progress of a run.

    Attributes:
        step: finished steps of ``steps``.
        loss: smoothed training loss in nats.
        learning_rate: current learning rate.
        tokens_per_second: text tokens on canvases per second, since the last report.
        eval_losses: loss of held-out text by noise level, in nats per token; empty between evaluations.
        nats_per_character: mean of ``eval_losses`` per character, which is comparable between tokenizers.
        previews: titles with generated texts; empty between evaluations.
        skipped_steps: steps with a gradient that was not finite.
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    tokens_per_second: float
    eval_losses: dict[float, float] = field(default_factory=dict)
    nats_per_character: float = math.nan
    previews: tuple[tuple[str, str], ...] = ()
    skipped_steps: int = 0


class Trainer:
    """Trains a run.

    Args:
        run: a prepared run.
        device: torch's device name; None chooses a GPU if there is one.
        threads: threads of torch on a CPU; None uses one per core.
        eval_every: steps between two evaluations.
        report: called with the progress.

    Raises:
        ModelNotFound, ModelBroken: the run cannot be read.
    """

    def __init__(
        self,
        run: TrainingRun,
        *,
        device: str | None = None,
        threads: int | None = None,
        eval_every: int = EVAL_STEPS,
        report: Callable[[TrainingProgress], None] = lambda progress: None,
    ) -> None:
        run.check()
        self.run, self.config, self._on_report, self._eval_every = run, run.config(), report, eval_every
        self.loaded = run.load(device)
        self._device = self.loaded.device
        if self._device.type == "cpu":
            set_num_threads(threads)
        else:
            torch.set_float32_matmul_precision("high")  # use tensor cores for float32
        self.model = self.loaded.model
        rank = self.config.lora_rank
        self.adapters = LoRA(self.model, rank, self.config.seed) if rank else None
        if self.adapters is None:
            self.model.model.decoder.requires_grad_(True)  # shared with the encoder; the loader froze it
        self.weights = states.trainable_weights(self.adapters or self.model)
        self.optimizer = make_optimizer(self.weights.values(), self.config)
        self._stepper = Stepper(self.model, self.weights.values(), self.config, self._device)
        self._preview_writer = PreviewWriter(self.loaded, context=max_context(self.loaded, self.config))
        self.packer = self._packer(run.corpus())
        self._eval_set: list[PackedBatch] = []
        self._tokens_per_character = math.nan
        if held_out := run.held_out():
            self._eval_set = _eval_batches(self._packer(held_out))
            self._tokens_per_character = held_out.num_text_tokens / held_out.num_chars
        self._preview_pages = run.preview_pages()
        self.step, self.skipped_steps = 0, 0
        self._loss = math.nan
        self._resume()

    def train(self, *, minutes: float = math.inf, steps: int | None = None) -> TrainingProgress:
        """Train until the configured steps are done, or for this many steps or minutes.

        The state is saved at the end, also after Ctrl-C.
        """
        end = self.config.steps if steps is None else min(self.config.steps, self.step + steps)
        start = reported = saved = time.monotonic()
        tokens = 0
        progress = self._progress(0.0)
        try:
            while self.step < end and time.monotonic() - start < minutes * 60:
                metrics = self._stepper.step(self.packer.batch(), self.step, self.optimizer)
                self.step += 1
                tokens += metrics.tokens
                self._smooth(metrics)
                now = time.monotonic()
                evaluate = self.step % self._eval_every == 0 or self.step == self.config.steps
                if evaluate or now - reported >= REPORT_SECONDS or self.step == end:
                    progress = self._progress(tokens / (now - reported), evaluate=evaluate)
                    self._report(progress)
                    reported, tokens = time.monotonic(), 0
                if now - saved >= SAVE_SECONDS:
                    self.save()
                    saved = time.monotonic()
        finally:
            self.save()
            if self.adapters is not None:
                self.export(self.run.checkpoint)
        return progress

    def save(self) -> None:
        """Save the state and the current model. With LoRA, the large model is only exported at the end."""
        before = self.run.state.with_name("state.before.safetensors")
        if self.run.state.exists():
            shutil.copyfile(self.run.state, before)
        states.save_state(self.run.state, self.weights, self.optimizer, self._notes())
        states.save_compact_state(self.run.compact_state, self.weights, self.optimizer, self._notes())
        if self.adapters is None:
            self.export(self.run.checkpoint)

    def export(self, folder: Path) -> None:
        """Write the current model as a checkpoint, replacing an existing one."""
        temporary = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(temporary, ignore_errors=True)
        with self.adapters.merged() if self.adapters is not None else nullcontext():
            write_checkpoint_folder(temporary, self.model, self.loaded.tokenizer)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.replace(folder)

    def _packer(self, corpus: Corpus) -> Packer:
        """Return a packer with the configured batch size."""
        config = self.config
        layout = BatchLayout(
            rows=config.rows,
            tokens=config.tokens,
            canvases=config.canvases,
            canvas=int(self.model.config.canvas_length),
            copies=config.copies,
        )
        return Packer(corpus, layout, seed=config.seed, end=self._preview_writer.end_id, pad=self.loaded.pad_id)

    def _notes(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "epoch": self.packer.epoch,
            "position": self.packer.position,
            "loss": None if math.isnan(self._loss) else self._loss,
            "skipped_steps": self.skipped_steps,
        }

    def _resume(self) -> None:
        if self.run.state.exists():
            notes = states.load_state(self.run.state, self.weights, self.optimizer)
        elif self.run.compact_state.exists():
            notes = states.load_compact_state(self.run.compact_state, self.weights, self.optimizer)
        else:
            return
        self.step, self.skipped_steps = notes["step"], notes["skipped_steps"]
        self.packer.epoch, self.packer.position = notes["epoch"], notes["position"]
        self._loss = math.nan if notes["loss"] is None else notes["loss"]

    def _smooth(self, metrics: StepMetrics) -> None:
        if math.isnan(metrics.loss):
            self.skipped_steps += 1
        elif math.isnan(self._loss):
            self._loss = metrics.loss
        else:
            self._loss += 0.02 * (metrics.loss - self._loss)

    def _progress(self, speed: float, evaluate: bool = False) -> TrainingProgress:
        losses = self._stepper.evaluate(self._eval_set) if evaluate and self._eval_set else {}
        per_token = sum(losses.values()) / len(losses) if losses else math.nan
        return TrainingProgress(
            step=self.step,
            steps=self.config.steps,
            loss=self._loss,
            learning_rate=self.config.learning_rate_at(self.step),
            tokens_per_second=speed,
            eval_losses=losses,
            nats_per_character=per_token * self._tokens_per_character,
            previews=self._write_previews() if evaluate else (),
            skipped_steps=self.skipped_steps,
        )

    def _write_previews(self) -> tuple[tuple[str, str], ...]:
        """Generate some previews."""
        first = self.step // self._eval_every * PREVIEWS_PER_EVAL
        pages: list[TrainingPage] = [
            self._preview_pages[(first + at) % len(self._preview_pages)]
            for at in range(min(PREVIEWS_PER_EVAL, len(self._preview_pages)))
        ]
        return tuple(
            (page.title or page.prompt.ask, self._preview_writer.write(page.prompt, seed=self.step)[0])
            for page in pages
        )

    def _report(self, progress: TrainingProgress) -> None:
        entry: dict[str, Any] = {
            "step": progress.step,
            "loss": round(progress.loss, 4),
            "learning_rate": progress.learning_rate,
            "tokens_per_second": round(progress.tokens_per_second),
            "skipped_steps": progress.skipped_steps,
        }
        if progress.eval_losses:
            entry["eval_losses"] = {f"{level:g}": round(loss, 4) for level, loss in progress.eval_losses.items()}
            entry["nats_per_character"] = round(progress.nats_per_character, 4)
        if progress.previews:
            entry["previews"] = [list(sample) for sample in progress.previews]
        log_entry(self.run, **entry)
        self._on_report(progress)


def max_context(loaded: LoadedModel, config: TrainingConfig) -> int:
    """Return the maximum number of tokens, prompt and output together, for previews."""
    most = int(loaded.model.config.text_config.max_position_embeddings)
    return min(most, config.tokens + 4 * int(loaded.model.config.canvas_length))


def _eval_batches(packs: Packer) -> list[PackedBatch]:
    """Return batches with all documents once, but not more than eight."""
    batches = [packs.batch()]
    while packs.epoch == 0 and len(batches) < 8:
        batches.append(packs.batch())
    return batches
