"""The denoising loop: ``step`` is one pass over all that runs, and ``generate`` loops over it.

Requests join and leave at any step. Those that run have the rows 0, 1, 2, … of cache and batch without a gap; the
one whose prompt is being read has the row after them. Before each pass the loop lets go of what nobody wants any
more, gives free rows to those who wait, and reads a bounded part of their prompts, so that long prompts do not hold
up the others.

A click goes before what is written ahead. If no row is free for it, something written ahead is pre-empted: its
canvas is set aside and its cache goes to the store of snapshots; when its turn comes it goes on where it was. What
has waited for ``PATIENCE`` seconds counts as a click, so that nothing starves.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

import torch

from ..errors import EngineClosed, EngineError, GenerationFailed
from ..frames import Priority
from .batch import Batch
from .body import Body, Piece, tokens_of
from .images import Seen
from .kv import KV, Kept
from .run import Draft, Run

PATIENCE: Final = 30.0
"""Seconds after which a request counts as a click."""
LEAST_SHARED: Final = 16
"""Tokens of a shared beginning that are worth a snapshot."""
READ: Final = {"cpu": 512}
"""Tokens of prompts that are read before a pass, where they would hold up the others."""
READ_ELSEWHERE: Final = 4096


class Loop:
    """All requests of one model. One thread uses it; ``Run.cancelled`` may be set from any.

    Args:
        model: transformers' ``DiffusionGemmaForBlockDiffusion``.
        batch: the rows.
        kept_bytes: limit of the store of snapshots.
    """

    def __init__(self, model: Any, batch: Batch, *, kept_bytes: int) -> None:
        self._model = model
        self._batch = batch
        self._body: Body = batch.body
        self._kv: KV = batch.body.kv
        self.kept = Kept(kept_bytes)
        self.waiting: list[Run] = []
        self.running: list[Run] = []
        self._reading: Run | None = None
        self._numbers = itertools.count(1)
        self._read_at_once = READ.get(batch.device.type, READ_ELSEWHERE)
        self._seeing: dict[Run, tuple[torch.Tensor, torch.Tensor]] = {}

    @property
    def idle(self) -> bool:
        """There is nothing to do."""
        return not (self.waiting or self.running or self._reading)

    def add(self, run: Run) -> None:
        """Let a request wait for its turn."""
        run.number = next(self._numbers)
        self.waiting.append(run)

    def generate(self, runs: Iterable[Run]) -> Iterator[list[Run]]:
        """Work on these requests to their end. Yields after each pass those that have news."""
        for run in runs:
            self.add(run)
        while not self.idle:
            yield self.step()

    @torch.inference_mode()
    def step(self) -> list[Run]:
        """Let requests in, and make one denoising pass over all that run.

        Returns:
            The requests that have a new draft or have come to their end.
        """
        news: list[Run] = []
        self._let_go()
        self._let_in(news)
        if self.running and self._passed(news):
            self._look(news)
        for run in news:
            if run.notify is not None:
                run.notify()
        return news

    def fail_all(self, error: EngineError) -> None:
        """End everything with an error."""
        everyone = [*self.running, *([self._reading] if self._reading else []), *self.waiting]
        self.running, self._reading, self.waiting = [], None, []
        self._seeing.clear()
        for run in everyone:
            run.error = error
            if run.notify is not None:
                run.notify()

    def _let_go(self) -> None:
        """Drop what nobody wants any more."""
        self.waiting = [run for run in self.waiting if not run.cancelled]
        if self._reading is not None and self._reading.cancelled:
            self._seeing.pop(self._reading, None)
            self._reading = None
        for run in [run for run in self.running if run.cancelled]:
            self._leave(run)

    def _let_in(self, news: list[Run]) -> None:
        """Give rows to those who wait, and read their prompts, as far as may be before the next pass."""
        left = self._read_at_once
        while left > 0:
            if self._reading is None and not self._next():
                return
            run = self._reading
            assert run is not None
            try:
                left -= self._read(run, left)
            except torch.OutOfMemoryError:
                self._reading = None
                self._free()
                self._fail(run, _no_memory("while its prompt was read"), news)
                continue
            except Exception as error:  # whatever torch raises concerns this request alone
                self._reading = None
                self._fail(run, GenerationFailed(f"The prompt could not be read: {error}"), news)
                continue
            if run.held == len(run.keys) or (run.warming and run.held >= run.spoken.shared):
                self._join(run, news)

    def _next(self) -> bool:
        """Choose who gets the next row; False if nobody does."""
        if not self.waiting:
            return False
        first = min(self.waiting, key=lambda run: (self._rank(run), run.number))
        if len(self.running) == self._kv.rows:
            ahead = [run for run in self.running if self._rank(run) > Priority.CLICK]
            if self._rank(first) > Priority.CLICK or not ahead:
                return False
            self._park(max(ahead, key=lambda run: run.number))
        self.waiting.remove(first)
        first.joined()
        row = len(self.running)
        found = self.kept.longest(first.keys)
        first.held = 0
        if found is not None:
            self._kv.load(row, found)
            first.held = len(found.tokens)
        if first.parked is None and not first.written:
            first.cached = min(first.held, len(first.spoken.ids))
        self._reading = first
        return True

    def _rank(self, run: Run) -> int:
        """0 for a click, or for who has waited too long."""
        return 0 if time.monotonic() - run.asked > PATIENCE else int(run.priority)

    def _park(self, run: Run) -> None:
        """Pre-empt a request: its canvas is set aside, its cache goes to the store."""
        row = self.running.index(run)
        run.parked = self._batch.save(row)
        run.parked_at = time.monotonic()
        self.kept.put(self._kv.save(row, run.keys))
        self._leave(run)
        self.waiting.append(run)

    def _read(self, run: Run, most: int) -> int:
        """Read some more of the tokens that a row should hold. Returns how many."""
        row, keys = len(self.running), run.keys
        shared = run.spoken.shared
        end = min(len(keys), run.held + most)
        if run.held < shared < end:
            end = shared  # to take a snapshot there
        if run.spoken.seen is not None and end > run.held:
            end = self._whole(run.spoken.seen, run.held, end)
        if end > run.held:
            self._body.encode(self._piece(run, row, run.held, end))
        count, run.held = end - run.held, end
        if end == shared and shared >= LEAST_SHARED and keys[:shared] not in self.kept:
            self.kept.put(self._kv.save(row, keys[:shared]))
        return max(count, 1)

    def _piece(self, run: Run, row: int, start: int, end: int) -> Piece:
        ids = tokens_of(run.ids[start:end], self._batch.device)
        seen = run.spoken.seen
        if seen is None or start >= len(run.spoken.ids):
            return Piece(row, start, ids)
        if run not in self._seeing:
            self._seeing[run] = see(self._model, self._body, seen)
        embeddings, blocks = self._seeing[run]
        if end > len(embeddings):
            return self._piece(run, row, start, len(embeddings))
        return Piece(row, start, ids, embeddings[start:end], blocks[start:end])

    @staticmethod
    def _whole(seen: Seen, start: int, end: int) -> int:
        """The end of a piece that breaks no picture: its tokens see each other."""
        marks = seen.mm_token_type_ids[0].tolist()
        total = len(marks)
        if end >= total:
            return end if start >= total else total
        while end < total and marks[end] and marks[end - 1]:
            end += 1
        return end

    def _join(self, run: Run, news: list[Run]) -> None:
        """The tokens are read: denoising begins, or goes on."""
        self._reading = None
        self._seeing.pop(run, None)
        if run.warming:
            run.finish("end")
            news.append(run)
            return
        row = len(self.running)
        self.running.append(run)
        if run.parked is not None:
            self._batch.load(row, run.parked)
            run.parked = None
        else:
            self._open(run, row)

    def _open(self, run: Run, row: int) -> None:
        canvas = run.outline.canvas(run.canvas, self._batch.size)
        self._batch.begin(row, seed=run.seed, length=run.held, dial=run.dial, canvas=canvas)

    def _leave(self, run: Run) -> None:
        """Free a row; the last ones move up, so that there is no gap."""
        row, last = self.running.index(run), len(self.running) - 1
        if row < last:
            other = self.running[last]
            self._kv.move(last, row, other.held)
            self._batch.load(row, self._batch.save(last))
            self.running[row] = other
        self.running.pop()
        if self._reading is not None:
            self._kv.move(last + 1, last, self._reading.held)

    def _passed(self, news: list[Run]) -> bool:
        """Make a pass. If memory runs out, the others go on without the one who came last."""
        while self.running:
            lengths = [run.held for run in self.running]
            shaped = any(run.outline.classes for run in self.running)
            even = min(lengths) == max(lengths)
            try:
                self._batch.step(len(lengths), max(lengths), even=even, shaped=shaped)
                return True
            except torch.OutOfMemoryError:
                self._free()
                last = max(self.running, key=lambda run: (self._rank(run), run.number))
                self._leave(last)
                self._fail(last, _no_memory("in the middle of its work"), news)
            except Exception as error:  # a broken driver, a broken model: nobody's pass has a result
                for run in list(self.running):
                    self._leave(run)
                    self._fail(run, GenerationFailed(f"The denoising pass broke off: {error}. Try again."), news)
        return False

    def _look(self, news: list[Run]) -> None:
        """Take the results of a pass, and open the next canvas or end the request where one is finished."""
        looked = self._batch.look(len(self.running))
        finished: list[tuple[Run, list[int]]] = []
        for row, run in enumerate(self.running):
            run.steps += 1
            run.draft = Draft(run.canvas, run.before, looked.best[row], looked.unsettled[row], looked.steps[row])
            news.append(run)
            if looked.finished[row]:
                finished.append((run, looked.best[row]))
        for run, ids in finished:
            self._finish_canvas(run, ids, news)

    def _finish_canvas(self, run: Run, ids: list[int], news: list[Run]) -> None:
        reason = run.commit(ids)
        if reason is not None:
            run.finish(reason)
            self._leave(run)
            return
        row = self.running.index(run)
        end = len(run.ids)
        try:
            self._body.encode(Piece(row, run.held, tokens_of(run.ids[run.held : end], self._batch.device)))
        except torch.OutOfMemoryError:
            self._free()
            self._leave(run)
            self._fail(run, _no_memory("between two canvases"), news)
            return
        run.held = end
        self._open(run, row)

    def _fail(self, run: Run, error: EngineError, news: list[Run]) -> None:
        self._seeing.pop(run, None)
        run.error = error
        if run not in news:
            news.append(run)

    def _free(self) -> None:
        """Give memory back that is only there for speed."""
        self.kept.clear()
        if self._batch.device.type == "cuda":
            torch.cuda.empty_cache()

    def close(self) -> None:
        """End everything."""
        self.fail_all(EngineClosed("The engine was closed while it was writing."))
        self.kept.clear()


def see(model: Any, body: Body, seen: Seen) -> tuple[torch.Tensor, torch.Tensor]:
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


def _no_memory(when: str) -> GenerationFailed:
    return GenerationFailed(
        f"Memory ran out {when}; the others go on. Open the engine with a smaller parallel or context, or with "
        f"quantize='nf4'."
    )
