"""The denoising loop: ``step`` is one pass over all that runs, and ``generate`` loops over it.

Requests join and leave at any step. Those that run have the rows 0, 1, 2, … of cache and batch without a gap; the
one whose prompt is being read has the row after them. Before each pass the loop lets go of what nobody wants any
more, gives free rows to those who wait, and reads a bounded part of their prompts, so that long prompts do not hold
up the others.

A click goes before what is written ahead. If no row is free for it, something written ahead is pre-empted: its
canvas is set aside and its cache goes to the store of snapshots; when its turn comes it goes on where it was. Reading
something ahead stops likewise for a click. With ``rest``, where arithmetic is the limit, everything ahead makes way
as long as a click is at work, so that no click shares its passes. What has waited for ``PATIENCE`` seconds in all
counts as a click, so that nothing starves.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Iterator
from typing import Any, Final

import torch

from ..errors import EngineClosed, EngineError, GenerationFailed
from ..frames import Priority
from .kv_cache import KVCache, PrefixCache
from .model import DiffusionModel, TokenChunk, to_tensor
from .model_runner import ModelRunner
from .sequence import CanvasState, Sequence
from .tokenization.image_processor import ImagePatches

MAX_QUEUE_SECONDS: Final = 30.0
"""Seconds in the queue after which a request counts as a click."""
MIN_SHARED_TOKENS: Final = 16
"""Tokens of a shared beginning that are worth a snapshot."""
PREFILL_TOKENS: Final = {"cpu": 512}
"""Tokens of prompts that are read before a pass, where they would hold up the others."""
PREFILL_TOKENS_ON_GPU: Final = 4096


class DenoisingLoop:
    """All requests of one model. One thread uses it; ``Run.cancelled`` may be set from any.

    Args:
        model: transformers' ``DiffusionGemmaForBlockDiffusion``.
        batch: the rows.
        kept_bytes: limit of the store of snapshots.
        patience: seconds in the queue after which a request counts as a click.
        rest: let nothing that is written ahead run beside a click.
    """

    def __init__(
        self,
        model: Any,
        runner: ModelRunner,
        *,
        prefix_cache_bytes: int,
        max_queue_seconds: float = MAX_QUEUE_SECONDS,
        exclusive_clicks: bool = False,
    ) -> None:
        self._hf_model = model
        self._runner = runner
        self._model: DiffusionModel = runner.model
        self._kv_cache: KVCache = runner.model.kv_cache
        self.prefix_cache = PrefixCache(prefix_cache_bytes)
        self.max_queue_seconds = max_queue_seconds
        self.exclusive_clicks = exclusive_clicks
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self._prefilling: Sequence | None = None
        self._numbers = itertools.count(1)
        self.prefill_tokens = PREFILL_TOKENS.get(runner.device.type, PREFILL_TOKENS_ON_GPU)
        self._image_inputs: dict[Sequence, tuple[torch.Tensor, torch.Tensor]] = {}

    @property
    def idle(self) -> bool:
        """There is nothing to do."""
        return not (self.waiting or self.running or self._prefilling)

    def add(self, run: Sequence) -> None:
        """Let a request wait for its turn."""
        run.number = next(self._numbers)
        self.waiting.append(run)

    def generate(self, runs: Iterable[Sequence]) -> Iterator[list[Sequence]]:
        """Work on these requests to their end. Yields after each pass those that have news."""
        for run in runs:
            self.add(run)
        while not self.idle:
            yield self.step()

    @torch.inference_mode()
    def step(self) -> list[Sequence]:
        """Let requests in, and make one denoising pass over all that run.

        Returns:
            The requests that have a new draft or have come to their end.
        """
        news: list[Sequence] = []
        self._drop_cancelled()
        self._admit(news)
        if self.running and self._forward(news):
            self._fetch(news)
        for run in news:
            _notify(run)
        return news

    def fail_all(self, error: EngineError) -> None:
        """End everything with an error."""
        everyone = [*self.running, *([self._prefilling] if self._prefilling else []), *self.waiting]
        self.running, self._prefilling, self.waiting = [], None, []
        self._image_inputs.clear()
        for run in everyone:
            run.error = type(error)(*error.args)  # each is raised somewhere else
            _notify(run)

    def _drop_cancelled(self) -> None:
        """Drop what nobody wants any more."""
        for run in [run for run in self.waiting if run.cancelled]:
            self.waiting.remove(run)
            if run.saved_state is not None:
                self.prefix_cache.drop(run.cache_keys)
        if self._prefilling is not None and self._prefilling.cancelled:
            self._image_inputs.pop(self._prefilling, None)
            self._prefilling = None
        for run in [run for run in self.running if run.cancelled]:
            self._remove(run)

    def _admit(self, news: list[Sequence]) -> None:
        """Give rows to those who wait, and read their prompts, as far as may be before the next pass."""
        left = self.prefill_tokens
        self._preempt_for_click()
        if self.exclusive_clicks and self._has_clicks():
            for other in [other for other in self.running if self._rank(other) > Priority.CLICK]:
                self._preempt(other)
        while left > 0:
            if self._prefilling is None and not self._next_sequence():
                return
            run = self._prefilling
            assert run is not None
            try:
                left -= self._prefill(run, left)
                if run.num_cached_tokens >= run.num_target_tokens:
                    self._start(run, news)
            except Exception as error:  # whatever torch raises concerns this request alone
                self._prefilling = None
                if run in self.running:
                    self.running.remove(run)  # it is the last: no row has to move
                self._fail(run, self._to_error(error, "while its prompt was read"), news)

    def _next_sequence(self) -> bool:
        """Choose who gets the next row; False if nobody does."""
        if not self.waiting:
            return False
        first = min(self.waiting, key=lambda run: (self._rank(run), run.number))
        if self.exclusive_clicks and self._rank(first) > Priority.CLICK and self._has_clicks():
            return False
        if len(self.running) == self._kv_cache.rows:
            ahead = [run for run in self.running if self._rank(run) > Priority.CLICK]
            if self._rank(first) > Priority.CLICK or not ahead:
                return False
            self._preempt(max(ahead, key=lambda run: run.number))
        self.waiting.remove(first)
        row = len(self.running)
        found = self.prefix_cache.longest_prefix(first.cache_keys)
        first.num_cached_tokens = 0
        if found is not None:
            self._kv_cache.load(row, found)
            first.num_cached_tokens = len(found.tokens)
            if first.saved_state is not None and first.num_cached_tokens == first.num_target_tokens:
                self.prefix_cache.drop(found.tokens)  # nobody else goes on from there
        if first.start_time is None:
            first.num_reused_tokens = first.num_cached_tokens
        first.mark_running()
        self._prefilling = first
        return True

    def _rank(self, run: Sequence) -> int:
        """0 for a click, or for who has waited too long."""
        return 0 if run.queued_seconds > self.max_queue_seconds else int(run.priority)

    def _has_clicks(self) -> bool:
        """Whether a click is at work, or waits."""
        return any(self._rank(run) <= Priority.CLICK for run in (*self.running, *self.waiting))

    def _preempt_for_click(self) -> None:
        """If a click waits while something ahead is read, that waits, and what is read of it goes to the store."""
        run = self._prefilling
        if run is None or self._rank(run) <= Priority.CLICK:
            return
        if any(self._rank(other) <= Priority.CLICK for other in self.waiting):
            self._save_prefix(len(self.running), run.cache_keys[: run.num_cached_tokens])
            self._prefilling = None
            self._image_inputs.pop(run, None)
            run.mark_waiting()
            self.waiting.append(run)

    def _preempt(self, run: Sequence) -> None:
        """Pre-empt a request: its canvas is set aside, its cache goes to the store."""
        row = self.running.index(run)
        run.saved_state = self._runner.save(row)
        self._save_prefix(row, run.cache_keys)
        self._remove(run)
        run.mark_waiting()
        self.waiting.append(run)

    def _save_prefix(self, row: int, keys: tuple[Hashable, ...]) -> None:
        """Put a copy of a row, which holds exactly these tokens, into the store, if there is memory for it."""
        if self.prefix_cache.max_bytes == 0:
            return
        try:
            self.prefix_cache.put(self._kv_cache.save(row, keys))
        except torch.OutOfMemoryError:
            self._free_memory()

    def _prefill(self, run: Sequence, most: int) -> int:
        """Read some more of the tokens that a row should hold. Returns how many."""
        row, keys = len(self.running), run.cache_keys
        shared = run.prompt.num_shared
        end = max(run.num_cached_tokens, min(run.num_target_tokens, run.num_cached_tokens + most))
        if run.num_cached_tokens < shared < end:
            end = shared  # to take a snapshot there
        if run.prompt.images is not None and end > run.num_cached_tokens:
            end = self._end_of_image(run.prompt.images, run.num_cached_tokens, end)
        if end > run.num_cached_tokens:
            self._model.encode(self._chunk(run, row, run.num_cached_tokens, end))
        count, run.num_cached_tokens = end - run.num_cached_tokens, end
        if end == shared and shared >= MIN_SHARED_TOKENS and keys[:shared] not in self.prefix_cache:
            self._save_prefix(row, keys[:shared])
        return max(count, 1)

    def _chunk(self, run: Sequence, row: int, start: int, end: int) -> TokenChunk:
        ids = to_tensor(run.token_ids[start:end], self._runner.device)
        seen = run.prompt.images
        if seen is None or start >= len(run.prompt.ids):
            return TokenChunk(row, start, ids)
        if run not in self._image_inputs:
            self._image_inputs[run] = embed_images(self._hf_model, self._model, seen)
        embeddings, blocks = self._image_inputs[run]
        if end > len(embeddings):
            return self._chunk(run, row, start, len(embeddings))
        return TokenChunk(row, start, ids, embeddings[start:end], blocks[start:end])

    @staticmethod
    def _end_of_image(seen: ImagePatches, start: int, end: int) -> int:
        """The end of a piece that breaks no picture: its tokens see each other."""
        marks = seen.mm_token_type_ids[0].tolist()
        total = len(marks)
        if end >= total:
            return end if start >= total else total
        while end < total and marks[end] and marks[end - 1]:
            end += 1
        return end

    def _start(self, run: Sequence, news: list[Sequence]) -> None:
        """The tokens are read: denoising begins, or goes on."""
        self._prefilling = None
        self._image_inputs.pop(run, None)
        if run.warm_only:
            run.finish("end")
            news.append(run)
            return
        row = len(self.running)
        self.running.append(run)
        if run.saved_state is not None:
            self._runner.load(row, run.saved_state)
            run.saved_state = None
        else:
            self._begin_canvas(run, row)

    def _begin_canvas(self, run: Sequence, row: int) -> None:
        canvas = run.plan.init_canvas(run.canvas, self._runner.canvas_length)
        run.max_steps = self._runner.begin_canvas(
            row, seed=run.seed, length=run.num_cached_tokens, params=run.params, canvas=canvas
        )

    def _remove(self, run: Sequence) -> None:
        """Free a row; the last ones move up, so that there is no gap."""
        row, last = self.running.index(run), len(self.running) - 1
        if row < last:
            other = self.running[last]
            self._kv_cache.move(last, row, other.num_cached_tokens)
            self._runner.load(row, self._runner.save(last))
            self.running[row] = other
        self.running.pop()
        if self._prefilling is not None:
            self._kv_cache.move(last + 1, last, self._prefilling.num_cached_tokens)

    def _forward(self, news: list[Sequence]) -> bool:
        """Make a pass. If memory runs out, the others go on without the one who came last."""
        while self.running:
            lengths = [run.num_cached_tokens for run in self.running]
            shaped = any(run.plan.mask_ids for run in self.running)
            even = min(lengths) == max(lengths)
            try:
                self._runner.step(len(lengths), max(lengths), equal_lengths=even, constrained=shaped)
                return True
            except Exception as error:  # memory, or a broken driver or model: then nobody's pass has a result
                why = self._to_error(error, "in the middle of a pass")
                last = max(self.running, key=lambda run: (self._rank(run), run.number))
                for run in [last] if _is_out_of_memory(error) else list(self.running):
                    self._remove(run)
                    self._fail(run, why, news)
        return False

    def _fetch(self, news: list[Sequence]) -> None:
        """Take the results of a pass, and open the next canvas or end the request where one is finished."""
        looked = self._runner.fetch(len(self.running))
        finished: list[tuple[Sequence, list[int]]] = []
        for row, run in enumerate(self.running):
            run.steps += 1
            step = run.max_steps - looked.steps_left[row]
            run.state = CanvasState(
                run.canvas, run.finished_text, looked.best[row], looked.unsettled[row], step, run.max_steps
            )
            news.append(run)
            if looked.finished[row]:
                finished.append((run, looked.best[row]))
        for run, ids in finished:
            self._finish_canvas(run, ids, news)

    def _finish_canvas(self, run: Sequence, ids: list[int], news: list[Sequence]) -> None:
        try:
            reason = run.commit(ids)
            if reason is not None:
                run.finish(reason)
                self._remove(run)
                return
            row = self.running.index(run)
            self._model.encode(
                TokenChunk(
                    row, run.num_cached_tokens, to_tensor(run.token_ids[run.num_cached_tokens :], self._runner.device)
                )
            )
            run.num_cached_tokens = run.num_target_tokens
            self._begin_canvas(run, row)
        except Exception as error:  # it concerns this request alone
            self._remove(run)
            self._fail(run, self._to_error(error, "between two canvases"), news)

    def _to_error(self, error: Exception, when: str) -> EngineError:
        """What to tell of an error; if memory ran out, what is there only for speed is given back."""
        if _is_out_of_memory(error):
            self._free_memory()
            return GenerationFailed(
                f"Memory ran out {when}; the others go on. Open the engine with a smaller parallel or context, or "
                f"with quantize='nf4'."
            )
        return GenerationFailed(f"It broke off {when}: {str(error) or repr(error)}. Try again.")

    def _fail(self, run: Sequence, error: EngineError, news: list[Sequence]) -> None:
        self._image_inputs.pop(run, None)
        run.error = type(error)(*error.args)  # each is raised somewhere else
        if run not in news:
            news.append(run)

    def _free_memory(self) -> None:
        """Give memory back that is only there for speed."""
        self.prefix_cache.clear()
        if self._runner.device.type == "cuda":
            torch.cuda.empty_cache()

    def close(self) -> None:
        """End everything."""
        self.fail_all(EngineClosed("The engine was closed while it was writing."))
        self.prefix_cache.clear()


def embed_images(model: Any, body: DiffusionModel, seen: ImagePatches) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings [tokens, hidden] of a prompt with its pictures in place, and the blocks [tokens] that they form."""
    device = body.device
    ids = seen.input_ids.to(device)
    encoder = model.model.encoder
    pixels = seen.pixel_values.to(device, body.embed(ids[:, :1]).dtype)
    features = encoder.get_image_features(pixels, seen.image_position_ids.to(device), return_dict=True).pooler_output
    embeddings = body.embed(ids)
    here = seen.mm_token_type_ids.to(device) == 1
    embeddings = embeddings.masked_scatter(here[..., None], features.to(embeddings.dtype))
    marks = here[0].long()
    starts = marks - torch.cat([marks.new_zeros(1), marks[:-1]]) == 1
    blocks = torch.where(here[0], starts.cumsum(0) - 1, -1)
    if model.config.text_config.use_bidirectional_attention != "vision":
        blocks = torch.full_like(blocks, -1)
    return embeddings[0], blocks


def _notify(run: Sequence) -> None:
    """Say that there is news. Nobody else shall wait because one listener is broken."""
    if run.notify is None:
        return
    try:
        run.notify()
    except Exception:
        run.cancelled = True


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out; on a CPU torch raises a plain error of its allocator."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)
