"""The plugin of vLLM that publishes drafts: vLLM calls ``install`` in each of its processes.

Without ``UNWRITTEN_DRAFTS`` in the environment it does nothing. A failure in here never stops vLLM: drafts are then
missing, and the log says why.

The drafts of a step cost vLLM a few small kernels. They are gathered into a new tensor, which a second CUDA stream
copies to pinned memory. A thread waits for the copy and sends it. The step itself never waits. If a copy is still
under way when the next one is due, the older drafts are dropped.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .constraints import Constraints, read_constraints
from .draft_channel import ChannelSettings, DraftWriter, pack_draft, settings_of
from .internals import INSTALL, SAMPLER, find_missing, installed_version, is_supported, vllm_object

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("vllm.unwritten")
_INSTALLED: Final = "_unwritten_plugin"


def install() -> None:
    """Wrap vLLM's sampler if drafts are wanted. Calling it again changes nothing."""
    try:
        settings = settings_of(os.environ)
        if settings is None:
            return
        version = installed_version() or ""
        if not is_supported(version):
            log.error("Drafts are off: this version of Unwritten does not support vLLM %s. Type: %s", version, INSTALL)
            return
        if missing := find_missing():
            log.error("Drafts are off: this vLLM has no %s.", ", ".join(missing))
            return
        sampler_class = vllm_object(SAMPLER)
        if not hasattr(sampler_class, _INSTALLED):
            _wrap(sampler_class, settings)
    except Exception as error:
        log.error("Drafts are off: %s", error)


def _wrap(sampler_class: Any, settings: ChannelSettings) -> None:
    plain_init, plain_call, plain_add = sampler_class.__init__, sampler_class.__call__, sampler_class.add_request

    @functools.wraps(plain_init)
    def init(self: Any, *args: Any, **options: Any) -> None:
        plain_init(self, *args, **options)
        self.unwritten_plugin = SamplerPlugin(self, settings)

    @functools.wraps(plain_add)
    def add_request(self: Any, req_idx: int, sampling_params: Any) -> None:
        plain_add(self, req_idx, sampling_params)
        self.unwritten_plugin.add_request(req_idx, sampling_params)

    @functools.wraps(plain_call)
    def call(self: Any, logits: Any, input_batch: Any, draft_logits: Any = None) -> Any:
        self.unwritten_plugin.before_step(logits, input_batch)
        output = plain_call(self, logits, input_batch, draft_logits)
        self.unwritten_plugin.after_step(input_batch)
        return output

    sampler_class.__init__, sampler_class.add_request, sampler_class.__call__ = init, add_request, call
    setattr(sampler_class, _INSTALLED, True)


class SamplerPlugin:
    """What the plugin knows about one sampler.

    Args:
        sampler: vLLM's ``DiffusionSampler``.
        settings: where drafts are published.
    """

    def __init__(self, sampler: Any, settings: ChannelSettings) -> None:
        self._states = sampler.diffusion_states
        self._constraints: dict[int, Constraints] = {}  # by slot
        self._publisher: DraftPublisher | None = None
        try:
            if _is_tp_rank_0():
                self._publisher = DraftPublisher(DraftWriter(settings), self._states.device)
        except Exception as error:
            log.error("Drafts are off: %s", error)

    def add_request(self, slot: int, params: Any) -> None:
        """Remember the constraints of a request."""
        self._constraints.pop(slot, None)
        try:
            states = self._states
            found = read_constraints(params.extra_args, states.vocab_size, states.device)
        except Exception as error:  # from a client of the HTTP server
            log.warning("The constraints of a request are ignored: %s", error)
            return
        if found is not None:
            self._constraints[slot] = found

    def before_step(self, logits: Any, batch: Any) -> None:
        """Apply the constraints of all canvases of a step to the logits."""
        if not self._constraints or batch.num_draft_tokens == 0 or logits.shape[-1] != self._states.vocab_size:
            return
        ends = batch.cu_num_logits_np
        for at, slot in enumerate(batch.idx_mapping_np[: batch.num_reqs].tolist()):
            found = self._constraints.get(slot)
            if found is None or ends[at + 1] == ends[at]:
                continue
            try:
                found.apply(logits[int(ends[at]) : int(ends[at + 1])])
            except Exception as error:
                del self._constraints[slot]
                log.warning("The constraints of a request are ignored: %s", error)

    def after_step(self, batch: Any) -> None:
        """Publish the drafts of a step."""
        if self._publisher is None or batch.num_draft_tokens == 0:
            return
        try:
            ends = batch.cu_num_logits_np
            requests = [
                (at, str(batch.req_ids[at]), int(ends[at + 1] - ends[at]))
                for at in range(batch.num_reqs)
                if ends[at + 1] > ends[at]
            ]
            self._publisher.publish(requests, _draft_rows(self._states, batch.idx_mapping[: batch.num_reqs]))
        except Exception as error:
            self._publisher = None
            log.error("Drafts are off from now on, because publishing them failed: %s", error)


def _is_tp_rank_0() -> bool:
    """True on tensor-parallel rank 0, which publishes. The other ranks compute the same drafts."""
    group = vllm_object("vllm.distributed.parallel_state.get_tp_group")()
    return bool(group.rank_in_group == 0)


def _draft_rows(states: Any, slots: Tensor) -> Tensor:
    """Return a row per request: the most likely tokens, complemented if not accepted, and the step."""
    import torch

    slots = slots.long()
    best = states.argmax_canvas[slots]
    # After a step the canvas has the sampled token where it was accepted, else a random one.
    rows = torch.where(states.canvas[slots] == best, best, ~best)
    return torch.cat([rows, states.step[slots, None].to(rows.dtype)], 1).to(torch.int32)


@dataclass(frozen=True, slots=True)
class _StepRows:
    """The drafts of one step.

    Attributes:
        requests: for each request its row, its id, and the number of its tokens.
        copy: the rows on their way to the host.
    """

    requests: Sequence[tuple[int, str, int]]
    copy: _HostCopy


class DraftPublisher:
    """Sends drafts from a thread of its own. The newest step replaces one that was not sent yet.

    Args:
        writer: the socket.
        device: device of the rows.
    """

    def __init__(self, writer: DraftWriter, device: Any) -> None:
        self._writer = writer
        self._pinned = _PinnedBuffers() if device.type == "cuda" else None
        self._changed = threading.Condition()
        self._waiting: _StepRows | None = None
        threading.Thread(target=self._run, name="unwritten-drafts", daemon=True).start()

    def publish(self, requests: Sequence[tuple[int, str, int]], rows: Tensor) -> None:
        """Send the drafts of a step. Returns at once."""
        copy = _HostCopy(rows) if self._pinned is None else self._pinned.copy(rows)
        if copy is None:
            return
        with self._changed:
            if self._waiting is not None:
                self._waiting.copy.release()
            self._waiting = _StepRows(requests, copy)
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._waiting is None:
                    self._changed.wait()
                drafts, self._waiting = self._waiting, None
            try:
                rows = drafts.copy.wait()
                for at, request_id, width in drafts.requests:
                    step = int(rows[at, -1])
                    if step > 0:  # 0 after a commit
                        self._writer.send(request_id, pack_draft(step, rows[at, :width].tobytes()))
            except Exception as error:
                log.warning("The drafts of a step are lost: %s", error)
            finally:
                drafts.copy.release()


class _HostCopy:
    """Rows that are in main memory already."""

    def __init__(self, rows: Tensor) -> None:
        self._rows = rows

    def wait(self) -> Any:
        """Wait for the copy. Return it as a NumPy array."""
        return self._rows.numpy()

    def release(self) -> None:
        """Call when the copy is not needed any more."""


class _PinnedCopy(_HostCopy):
    def __init__(self, rows: Tensor, done: Any, release: Callable[[], None]) -> None:
        super().__init__(rows)
        self._done, self._release = done, release

    def wait(self) -> Any:
        self._done.synchronize()  # in the thread that sends, not in that of the model
        return super().wait()

    def release(self) -> None:
        self._release()


class _PinnedBuffers:
    """Copies rows from the GPU to pinned memory on a stream of its own."""

    def __init__(self) -> None:
        import torch

        cuda: Any = torch.cuda  # its constructors are untyped
        self._cuda, self._stream = cuda, cuda.Stream()
        self._free: list[Tensor | None] = [None, None]  # one that is sent, and one that waits

    def copy(self, rows: Tensor) -> _HostCopy | None:
        """Start a copy. Return None if all buffers are in use; these drafts are then dropped."""
        import torch

        try:
            buffer = self._free.pop()
        except IndexError:
            return None
        if buffer is None or buffer.numel() < rows.numel():
            buffer = torch.empty(2 * rows.numel(), dtype=rows.dtype, pin_memory=True)
        target = buffer[: rows.numel()].view(rows.shape)
        self._stream.wait_stream(self._cuda.current_stream())
        with self._cuda.stream(self._stream):
            target.copy_(rows, non_blocking=True)
            done = self._cuda.Event()
            done.record(self._stream)
        rows.record_stream(self._stream)  # keeps its memory until the copy is done
        # A released buffer may still be written; the next copy into it follows on the same stream.
        return _PinnedCopy(target, done, functools.partial(self._free.append, buffer))
