"""The denoising loop: ``step`` runs one denoising step for all running sequences, ``generate`` repeats it.

Sequences join and leave at any step (continuous batching). Running sequences use the rows 0, 1, 2, … of cache and
runner without a gap; sequences whose prompts are being prefilled use the next rows. Before each step the loop drops
cancelled sequences, admits waiting ones to free rows, and prefills a limited number of prompt tokens, so that a long
prompt does not delay the others. Short prompts, such as those of one page, are prefilled together.

On a GPU the loop runs one step ahead: it starts a step before it reads the results of the last one, so that the GPU
does not wait for the host. Rows that have finished ignore the extra step. Before anything but steps happens, such as an
admission, the results are read.

Clicks run before prefetches. If no row is free for a click, a prefetch is preempted: the state of its block is saved,
its KV cache becomes a snapshot in the prefix cache, and it resumes later. The prefill of a prefetch is interrupted
likewise. With ``exclusive_clicks``, for compute-bound devices, all prefetches are preempted while a click is active. A
sequence that has waited for ``MAX_QUEUE_SECONDS`` in total counts as a click, so that nothing starves.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import torch

from ..errors import EngineClosed, EngineError, GenerationFailed
from ..frames import Priority
from .family import Cache, DiffusionModel
from .loading.memory_plan import PREFILL_CHUNK
from .model_runner import ModelRunner, StepResults
from .prefix_cache import PrefixCache
from .sequence import BlockState, Sequence
from .token_chunk import TokenChunk, to_tensor
from .tokenization.image_processor import ImagePatches

MAX_QUEUE_SECONDS: Final = 30.0
"""Seconds in the queue after which a sequence counts as a click."""
MIN_SHARED_TOKENS: Final = 16
"""Minimum length of a shared prefix that is cached."""
PREFILL_TOKENS: Final = {"cpu": 512}
"""Prompt tokens that are prefilled per step, by device type."""
PREFILL_TOKENS_ON_GPU: Final = 4096


@dataclass(frozen=True, slots=True)
class _Launched:
    """A step whose results have not been read.

    Attributes:
        seqs: the sequence of each row; None if its block has ended since.
        results: on their way to the host.
    """

    seqs: list[Sequence | None]
    results: StepResults


_NOT_NUMBERS: Final = GenerationFailed(
    "The model computed values that are not numbers (NaN), so there is no text. Its weights overflow in this format, "
    "or are damaged: open the engine with another quantize or with dtype='float32', or fetch the checkpoint again."
)
_ONLY_PADDING: Final = GenerationFailed(
    "The model wrote only padding. Its weights are damaged, or do not fit its config.json: fetch the checkpoint again, "
    "or open the engine with another quantize."
)


class DenoisingLoop:
    """Schedules all sequences of one model. Use it from one thread; ``Sequence.cancelled`` may be set from any.

    Args:
        runner: runs the denoising steps.
        prefix_cache_bytes: size limit of the prefix cache.
        max_queue_seconds: seconds in the queue after which a sequence counts as a click.
        exclusive_clicks: run no prefetches beside a click.
        run_ahead: start a step before the results of the last one are read; None does so on a GPU.
    """

    def __init__(
        self,
        runner: ModelRunner,
        *,
        prefix_cache_bytes: int,
        max_queue_seconds: float = MAX_QUEUE_SECONDS,
        exclusive_clicks: bool = False,
        run_ahead: bool | None = None,
    ) -> None:
        self._runner = runner
        self._model: DiffusionModel = runner.model
        self._cache: Cache = runner.model.cache
        self.prefix_cache = PrefixCache(prefix_cache_bytes)
        self.max_queue_seconds = max_queue_seconds
        self.exclusive_clicks = exclusive_clicks
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self._run_ahead = runner.device.type == "cuda" if run_ahead is None else run_ahead
        self._launched: _Launched | None = None
        self._prefilling: list[Sequence] = []
        """Sequences in the rows after the running ones. Only the last may have tokens left for another step."""
        self._numbers = itertools.count(1)
        self.prefill_tokens = PREFILL_TOKENS.get(runner.device.type, PREFILL_TOKENS_ON_GPU)
        self._image_inputs: dict[Sequence, tuple[torch.Tensor, torch.Tensor]] = {}

    @property
    def idle(self) -> bool:
        """True if there is no work."""
        return not (self.waiting or self.running or self._prefilling)

    def add(self, seq: Sequence) -> None:
        """Append a sequence to the queue."""
        seq.number = next(self._numbers)
        self.waiting.append(seq)

    def generate(self, seqs: Iterable[Sequence]) -> Iterator[list[Sequence]]:
        """Run sequences to their end. Yields the updated sequences after each step."""
        for seq in seqs:
            self.add(seq)
        while not self.idle:
            yield self.step()

    @torch.inference_mode()
    def step(self) -> list[Sequence]:
        """Admit waiting sequences and run one denoising step.

        Returns:
            The sequences that have a new draft or have finished.
        """
        updated: list[Sequence] = []
        if not self._is_steady():
            self._read(updated)
            self._drop_cancelled()
            self._admit(updated)
        before, self._launched = self._launched, self._launch(updated) if self.running else None
        if not self._run_ahead:
            before = self._launched
            self._launched = None
        if before is not None:
            self._apply(before, updated)
        for seq in updated:
            _notify(seq)
        return updated

    def prepare(self) -> None:
        """Make the model's GPU the current one of this thread, and capture CUDA graphs. Call it before all others."""
        if self._runner.device.type == "cuda":
            torch.cuda.set_device(self._runner.device)
        self._runner.capture()

    def fail_all(self, error: EngineError) -> None:
        """Fail all sequences with this error."""
        seqs = [*self.running, *self._prefilling, *self.waiting]
        self.running, self._prefilling, self.waiting, self._launched = [], [], [], None
        self._image_inputs.clear()
        for seq in seqs:
            seq.error = type(error)(*error.args)  # a copy, because each is raised separately
            _notify(seq)

    def _drop_cancelled(self) -> None:
        """Drop cancelled sequences."""
        for seq in [seq for seq in self.waiting if seq.cancelled]:
            self.waiting.remove(seq)
            if seq.saved_state is not None:
                self.prefix_cache.drop(seq.cache_keys)
        for seq in [seq for seq in self._prefilling if seq.cancelled]:
            self._stop_prefill(seq)
        for seq in [seq for seq in self.running if seq.cancelled]:
            self._remove(seq)

    def _is_steady(self) -> bool:
        """True if nothing but the next step can happen now."""
        if self.exclusive_clicks or self._prefilling or not self.running:
            return False
        if any(seq.cancelled for seq in (*self.running, *self.waiting)) or all(map(_is_last_step, self.running)):
            return False
        if not self.waiting:
            return True
        can_preempt = any(self._rank(seq) <= Priority.CLICK for seq in self.waiting) and any(
            self._rank(seq) > Priority.CLICK for seq in self.running
        )
        return len(self.running) == self._cache.rows and not can_preempt

    def _admit(self, updated: list[Sequence]) -> None:
        """Admit waiting sequences to free rows, and prefill their prompts within the limit per step."""
        left = self.prefill_tokens
        self._preempt_for_click()
        if self.exclusive_clicks and self._has_clicks():
            for other in [other for other in self.running if self._rank(other) > Priority.CLICK]:
                self._preempt(other)
        while left > 0:
            group = self._next_group(min(left, PREFILL_CHUNK))
            if not group:
                return
            left -= max(1, sum(end - seq.num_cached_tokens for seq, end in group))
            self._prefill(group, updated)

    def _next_group(self, limit: int) -> list[tuple[Sequence, int]]:
        """Choose the next sequences to prefill, and the end of the tokens of each, in the order of their rows.

        Further sequences join while all tokens of those before are included. A shared prefix is prefilled on its own,
        because the others may use it.
        """
        group: list[tuple[Sequence, int]] = []
        while limit > 0:
            if len(group) == len(self._prefilling) and not self._next_sequence():
                break
            seq = self._prefilling[len(group)]
            end = self._chunk_end(seq, limit)
            group.append((seq, end))
            limit -= max(1, end - seq.num_cached_tokens)
            if end < seq.num_target_tokens:
                break
        return group

    def _next_sequence(self) -> bool:
        """Append the next waiting sequence to those being prefilled. Return False if there is none."""
        if not self.waiting:
            return False
        seq = min(self.waiting, key=lambda seq: (self._rank(seq), seq.number))
        if self.exclusive_clicks and self._rank(seq) > Priority.CLICK and self._has_clicks():
            return False
        if len(self.running) + len(self._prefilling) == self._cache.rows:
            prefetches = [other for other in self.running if self._rank(other) > Priority.CLICK]
            if self._prefilling or self._rank(seq) > Priority.CLICK or not prefetches:
                return False
            self._preempt(max(prefetches, key=lambda seq: seq.number))
        self.waiting.remove(seq)
        seq.num_cached_tokens = 0
        snapshot = self.prefix_cache.longest_prefix(seq.cache_keys)
        if snapshot is not None:
            self._cache.load(len(self.running) + len(self._prefilling), snapshot)
            seq.num_cached_tokens = len(snapshot.tokens)
            if seq.saved_state is not None and seq.num_cached_tokens == seq.num_target_tokens:
                self.prefix_cache.drop(snapshot.tokens)  # no other sequence can use it
        if seq.start_time is None:
            seq.num_reused_tokens = seq.num_cached_tokens
        seq.mark_running()
        self._prefilling.append(seq)
        return True

    def _rank(self, seq: Sequence) -> int:
        """Return the effective priority: that of a click after a long wait."""
        return 0 if seq.queued_seconds > self.max_queue_seconds else int(seq.priority)

    def _has_clicks(self) -> bool:
        """True if a click is running, being prefilled or waiting."""
        seqs = (*self.running, *self._prefilling, *self.waiting)
        return any(self._rank(seq) <= Priority.CLICK for seq in seqs)

    def _preempt_for_click(self) -> None:
        """Interrupt the prefill of a prefetch if a click is waiting. Its prefilled tokens are saved."""
        if not any(self._rank(other) <= Priority.CLICK for other in self.waiting):
            return
        for seq in [seq for seq in self._prefilling if self._rank(seq) > Priority.CLICK]:
            self._save_prefix(self._row(seq), seq.cache_keys[: seq.num_cached_tokens])
            self._stop_prefill(seq)
            seq.mark_waiting()
            self.waiting.append(seq)

    def _row(self, seq: Sequence) -> int:
        """Return the row of a sequence that is being prefilled."""
        return len(self.running) + self._prefilling.index(seq)

    def _stop_prefill(self, seq: Sequence) -> None:
        """Free the row of a sequence that is being prefilled. Those behind it move up."""
        row = self._row(seq)
        self._prefilling.remove(seq)
        self._image_inputs.pop(seq, None)
        self._move_prefilling(row)

    def _move_prefilling(self, first: int) -> None:
        """Move sequences that are being prefilled up by a row, to the rows from ``first`` on."""
        for row, seq in enumerate(self._prefilling, len(self.running)):
            if row >= first:
                self._cache.move(row + 1, row, seq.num_cached_tokens)

    def _preempt(self, seq: Sequence) -> None:
        """Preempt a running sequence: save the state of its block and its KV cache."""
        row = self.running.index(seq)
        seq.saved_state = self._runner.save(row)
        self._save_prefix(row, seq.cache_keys)
        self._remove(seq)
        seq.mark_waiting()
        self.waiting.append(seq)

    def _save_prefix(self, row: int, keys: tuple[Hashable, ...]) -> None:
        """Save a copy of a row, which holds exactly these tokens, if there is memory for it."""
        if self.prefix_cache.max_bytes == 0:
            return
        try:
            self.prefix_cache.put(self._cache.save(row, keys))
        except torch.OutOfMemoryError:
            self._free_memory()

    def _chunk_end(self, seq: Sequence, limit: int) -> int:
        """Return the end of the next tokens to prefill, at most ``limit`` of them if no image has more."""
        start, shared = seq.num_cached_tokens, seq.prompt.num_shared
        end = max(start, min(seq.num_target_tokens, start + limit))
        if start < shared < end:
            end = shared  # to save the shared prefix
        if seq.prompt.images is not None and end > start:
            end = self._end_of_image(seq.prompt.images, start, end)
        return end

    def _prefill(self, group: list[tuple[Sequence, int]], updated: list[Sequence]) -> None:
        """Prefill the next tokens of some sequences in one pass, and start those that are complete."""
        try:
            chunks = [self._chunk(seq, end) for seq, end in group if end > seq.num_cached_tokens]
            if chunks:
                self._model.encode(*chunks)
        except Exception as error:
            if len(group) > 1:  # only one may have failed
                for one in group:
                    self._prefill([one], updated)
                return
            self._stop_prefill(group[0][0])
            self._fail(group[0][0], self._to_error(error, "while the prompt was processed"), updated)
            return
        for seq, end in group:
            seq.num_cached_tokens = end
        for seq, end in group:
            try:
                keys, shared = seq.cache_keys, seq.prompt.num_shared
                if end == shared and shared >= MIN_SHARED_TOKENS and keys[:shared] not in self.prefix_cache:
                    self._save_prefix(self._row(seq), keys[:shared])
                if end >= seq.num_target_tokens:
                    self._start(seq, updated)
            except Exception as error:  # affects only this sequence
                if seq in self.running:
                    self._remove(seq)
                else:
                    self._stop_prefill(seq)
                self._fail(seq, self._to_error(error, "while the prompt was processed"), updated)

    def _chunk(self, seq: Sequence, end: int) -> TokenChunk:
        row, start = self._row(seq), seq.num_cached_tokens
        ids = to_tensor(seq.token_ids[start:end], self._runner.device)
        images = seq.prompt.images
        if images is None or start >= len(seq.prompt.ids):
            return TokenChunk(row, start, ids)
        if seq not in self._image_inputs:
            self._image_inputs[seq] = self._model.embed_images(images)
        embeddings, image_indices = self._image_inputs[seq]
        return TokenChunk(row, start, ids, embeddings[start:end], image_indices[start:end])

    @staticmethod
    def _end_of_image(images: ImagePatches, start: int, end: int) -> int:
        """Return the end of a chunk that does not split an image, because tokens of one image attend to each other."""
        is_image = images.mm_token_type_ids[0].tolist()
        total = len(is_image)
        if end >= total:
            return end if start >= total else total
        while end < total and is_image[end] and is_image[end - 1]:
            end += 1
        return end

    def _start(self, seq: Sequence, updated: list[Sequence]) -> None:
        """Start or resume denoising after the prefill."""
        if seq.warm_only:
            self._stop_prefill(seq)
            seq.finish("end")
            updated.append(seq)
            return
        row = len(self.running)  # the first of those being prefilled
        self._prefilling.remove(seq)
        self._image_inputs.pop(seq, None)
        self.running.append(seq)
        if seq.saved_state is not None:
            self._runner.load(row, seq.saved_state)
            seq.saved_state = None
        else:
            self._begin_block(seq, row)

    def _begin_block(self, seq: Sequence, row: int) -> None:
        seq.max_steps = self._runner.begin_block(
            row,
            seed=seq.seed,
            length=seq.num_cached_tokens,
            params=seq.params,
            block=seq.plan.init_block(seq.block),
        )

    def _remove(self, seq: Sequence) -> None:
        """Free a row. The last rows move up, so that there is no gap."""
        row, last = self.running.index(seq), len(self.running) - 1
        if row < last:
            other = self.running[last]
            self._cache.move(last, row, other.num_cached_tokens)
            self._runner.load(row, self._runner.save(last))
            self.running[row] = other
        self.running.pop()
        self._move_prefilling(last)

    def _launch(self, updated: list[Sequence]) -> _Launched | None:
        """Start a denoising step. If memory runs out, fail the last sequence and retry with the others."""
        while self.running:
            lengths = [seq.num_cached_tokens for seq in self.running]
            try:
                self._runner.step(
                    len(lengths),
                    max(lengths),
                    equal_lengths=min(lengths) == max(lengths),
                    constrained=any(seq.plan.mask_ids for seq in self.running),
                )
                return _Launched([*self.running], self._runner.send(len(lengths)))
            except Exception as error:
                self._fail_step(error, updated)
        return None

    def _fail_step(self, error: Exception, updated: list[Sequence]) -> None:
        """Fail one sequence if memory ran out, else all: the driver or the model failed, and no row has results."""
        failure = self._to_error(error, "in a denoising step")
        last = max(self.running, key=lambda seq: (self._rank(seq), seq.number))
        for seq in [last] if _is_out_of_memory(error) else list(self.running):
            self._remove(seq)
            self._fail(seq, failure, updated)

    def _read(self, updated: list[Sequence]) -> None:
        """Read the results of the step that runs ahead."""
        launched, self._launched = self._launched, None
        if launched is not None:
            self._apply(launched, updated)

    def _apply(self, launched: _Launched, updated: list[Sequence]) -> None:
        """Wait for a step and apply its results. Finished blocks start the next one or end the sequence."""
        try:
            output = launched.results.wait()
        except Exception as error:  # a GPU reports failures of a step only now
            self._launched = None
            if self.running:
                self._fail_step(error, updated)
            return
        finished: list[tuple[Sequence, list[int]]] = []
        failed: list[Sequence] = []
        for row, seq in enumerate(launched.seqs):
            if seq is None or seq not in self.running:
                continue
            seq.steps += 1
            step = seq.max_steps - output.steps_left[row]
            seq.state = BlockState(
                seq.block, seq.finished_text, output.best[row], output.unsettled[row], step, seq.max_steps
            )
            updated.append(seq)
            if min(output.best[row]) < 0:
                failed.append(seq)
            elif output.finished[row]:
                finished.append((seq, output.best[row]))
        for seq in failed:
            self._remove(seq)
            self._fail(seq, _NOT_NUMBERS, updated)
        for seq, ids in finished:
            if self._launched is not None:  # the step that already runs has ignored its row
                self._launched.seqs[self._launched.seqs.index(seq)] = None
            self._finish_block(seq, ids, updated)

    def _finish_block(self, seq: Sequence, ids: list[int], updated: list[Sequence]) -> None:
        try:
            so_far = [*seq.output_ids, *ids]
            if seq.plan.is_judged(so_far):
                if seq.plan.is_padding(so_far):
                    raise _ONLY_PADDING
                if not seq.plan.mask_ids and seq.plan.is_empty(so_far):
                    seq.plan = seq.plan.require_text(seq.block, self._runner.masks.register)
                    self._begin_block(seq, self.running.index(seq))
                    return
            reason = seq.commit(ids)
            if reason is not None:
                seq.finish(reason)
                self._remove(seq)
                return
            row = self.running.index(seq)
            self._model.encode(
                TokenChunk(
                    row, seq.num_cached_tokens, to_tensor(seq.token_ids[seq.num_cached_tokens :], self._runner.device)
                )
            )
            seq.num_cached_tokens = seq.num_target_tokens
            self._begin_block(seq, row)
        except Exception as error:  # affects only this sequence
            self._remove(seq)
            self._fail(seq, self._to_error(error, "between two blocks"), updated)

    def _to_error(self, error: Exception, when: str) -> EngineError:
        """Convert an exception to an engine error. If memory ran out, free the prefix cache."""
        if isinstance(error, EngineError):
            return error
        if _is_out_of_memory(error):
            self._free_memory()
            return GenerationFailed(
                f"Memory ran out {when}; other requests continue. Open the engine with a smaller parallel or context, "
                f"or with quantize='nf4'."
            )
        return GenerationFailed(f"The generation failed {when}: {str(error) or repr(error)}. Try again.")

    def _fail(self, seq: Sequence, error: EngineError, updated: list[Sequence]) -> None:
        self._image_inputs.pop(seq, None)
        seq.error = type(error)(*error.args)  # a copy, because each is raised separately
        if seq not in updated:
            updated.append(seq)

    def _free_memory(self) -> None:
        """Free memory that only improves speed."""
        self.prefix_cache.clear()
        if self._runner.device.type == "cuda":
            torch.cuda.empty_cache()

    def close(self) -> None:
        """Fail all sequences and clear the prefix cache."""
        self.fail_all(EngineClosed("The engine was closed during the generation."))
        self.prefix_cache.clear()


def _is_last_step(seq: Sequence) -> bool:
    """True if the step after the last one that was read is the last of its block."""
    state = seq.state
    return state is not None and state.block == seq.block and state.step + 1 >= state.max_steps


def _notify(seq: Sequence) -> None:
    """Call the listener of a sequence. A listener that raises cancels only its own sequence."""
    if seq.notify is None:
        return
    try:
        seq.notify()
    except Exception:
        seq.cancelled = True


def _is_out_of_memory(error: Exception) -> bool:
    """True if memory ran out. On a CPU torch raises a plain RuntimeError of its allocator."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)
