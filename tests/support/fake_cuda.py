"""CUDA graphs on a CPU, for tests: operations are recorded during a capture and repeated by a replay.

A replay repeats each recorded operation on the same tensors, as a GPU does. So a captured step is wrong if it depends
on numbers of the host that change, or on memory that is replaced. During a capture it is an error to read a tensor on
the host, or to use an operation whose result has a shape that depends on data.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

DEFAULT_STREAM = "default stream"
SYNCS = ("_local_scalar_dense", "nonzero", "bincount", "unique", "masked_select", "item", "is_nonzero", "equal")
"""Operations that read a tensor on the host, or whose result has a shape that depends on data."""


class FakeCUDA:
    """The state of a pretended CUDA: the device and stream of each thread, and the captures under way."""

    def __init__(self) -> None:
        self.threads = threading.local()
        self.capturing: FakeGraph | None = None
        self.pools_in_use: set[object] = set()
        self.replays = 0
        self.refuse: str = ""
        """Name of an operation that cannot be captured, in addition to ``SYNCS``."""

    @property
    def device(self) -> int:
        return getattr(self.threads, "device", 0)

    @property
    def stream(self) -> Any:
        return getattr(self.threads, "stream", DEFAULT_STREAM)

    @contextmanager
    def use_stream(self, stream: Any) -> Iterator[None]:
        before, self.threads.stream = self.stream, stream
        try:
            yield
        finally:
            self.threads.stream = before

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Replace the parts of ``torch.cuda`` that the engine uses for graphs."""
        patch.setattr(torch.cuda, "CUDAGraph", lambda: FakeGraph(self))
        patch.setattr(torch.cuda, "Stream", lambda: object())
        patch.setattr(torch.cuda, "graph_pool_handle", lambda: object())
        patch.setattr(torch.cuda, "stream", self.use_stream)
        patch.setattr(torch.cuda, "synchronize", self._not_in_capture)
        patch.setattr(torch.cuda, "empty_cache", self._empty_cache)
        patch.setattr(torch.cuda, "current_device", lambda: self.device)
        patch.setattr(torch._C, "_cuda_endAllocateToPool", lambda device, pool: self.pools_in_use.remove(pool))
        patch.setattr(torch._C, "_cuda_releasePool", lambda device, pool: None)
        patch.setattr(torch.cuda, "set_device", lambda device: setattr(self.threads, "device", device))

    def _not_in_capture(self) -> None:
        if self.capturing is not None:
            raise RuntimeError("operation not permitted when stream is capturing")

    def _empty_cache(self) -> None:
        self._not_in_capture()
        if self.pools_in_use:  # after a failed capture
            raise RuntimeError("captures_underway.empty() INTERNAL ASSERT FAILED")


class FakeGraph:
    """A recorded sequence of operations."""

    def __init__(self, cuda: FakeCUDA) -> None:
        self.cuda = cuda
        self.recorder: _Recorder | None = None
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.thread = 0

    def capture_begin(self, pool: object, capture_error_mode: str) -> None:
        if self.cuda.stream is DEFAULT_STREAM:
            raise RuntimeError("CUDA graphs must be captured on a non-default stream")
        if pool in self.cuda.pools_in_use:
            raise RuntimeError("beginAllocateToPool: already recording to mempool_id")
        assert capture_error_mode == "thread_local"  # else other threads must not use the GPU
        self.cuda.capturing, self.pool = self, pool
        self.cuda.pools_in_use.add(pool)
        self.recorder = _Recorder(self)
        self.recorder.__enter__()  # type: ignore[no-untyped-call]

    def capture_end(self) -> None:
        recorder, self.recorder, self.cuda.capturing = self.recorder, None, None
        assert recorder is not None
        recorder.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        if recorder.invalid:  # as in torch 2.13, the pool stays in use
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        self.cuda.pools_in_use.remove(self.pool)
        recorder.restore()

    def replay(self) -> None:
        assert self.cuda.stream is DEFAULT_STREAM
        self.cuda.replays += 1
        for func, args, kwargs, results in self.calls:
            found = func(*args, **kwargs)
            for target, value in zip(tree_flatten(results)[0], tree_flatten(found)[0], strict=True):
                if isinstance(target, Tensor) and target.data_ptr() != value.data_ptr():
                    target.copy_(value)


class _Recorder(TorchDispatchMode):
    def __init__(self, graph: FakeGraph) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.graph = graph
        self.invalid = False
        self.before: dict[int, tuple[Tensor, Tensor]] = {}
        """Memory from before the capture with its contents, because a capture runs nothing."""
        self.made: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        if name in SYNCS or name == self.graph.cuda.refuse:
            self.invalid = True
            raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing ({name})")
        for tensor in tree_flatten((args, kwargs))[0]:
            if isinstance(tensor, Tensor):
                self._keep(tensor)
        result = func(*args, **kwargs)
        for tensor in tree_flatten(result)[0]:
            if isinstance(tensor, Tensor):
                self.made.add(tensor.untyped_storage().data_ptr())
        self.graph.calls.append((func, args, kwargs, result))
        return result

    def _keep(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.made and storage.data_ptr() not in self.before and storage.nbytes() < 10**6:
            whole = torch.empty(0, dtype=torch.uint8).set_(storage)
            self.before[storage.data_ptr()] = (whole, whole.clone())

    def restore(self) -> None:
        for whole, contents in self.before.values():
            whole.copy_(contents)
