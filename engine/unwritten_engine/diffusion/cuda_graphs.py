"""CUDA graphs for denoising steps.

A step has about two thousand small kernels, whose launches take longer than the work. It is captured once per size,
which is a bucket of rows and one of cached tokens, and then replayed with one launch. Most sizes are captured when the
engine opens (``ModelRunner.capture``), the others in their second step; the first step runs eagerly.

A size whose capture fails runs eagerly from then on; other sizes are not affected.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Hashable
from typing import Any, Final

import torch

log = logging.getLogger("unwritten_engine")

MIN_LENGTH_BUCKET: Final = 1024
"""The smallest bucket of cached tokens; each further one is four times as long. Attention over padding costs little:
1,024 tokens are 20 MB of keys and values in the layers with full attention, beside gigabytes of weights."""


class CUDAGraphs:
    """Captured steps by size. Use it from one thread, whose current device is that of the model.

    Args:
        report: gets a sentence for each cause of a failed capture.
    """

    def __init__(self, report: Callable[[str], None] = lambda sentence: None) -> None:
        self.failures: dict[Hashable, str] = {}
        """Why the capture of a size failed."""
        self._report = report
        self._seen: set[Hashable] = set()
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._stream: Any = None
        self._pool: Any = None

    @property
    def captured(self) -> int:
        """Number of captured sizes."""
        return len(self._graphs)

    @staticmethod
    def row_buckets(rows: int) -> list[int]:
        """Return the numbers of rows that are captured: powers of two, and all rows."""
        return sorted({rows, *(1 << power for power in range(rows.bit_length()) if 1 << power < rows)})

    @staticmethod
    def length_buckets(context: int) -> list[int]:
        """Return the numbers of cached tokens that are captured."""
        lengths = [MIN_LENGTH_BUCKET * 4**power for power in range(16)]
        return [*(length for length in lengths if length < context), context]

    @classmethod
    def buckets(cls, count: int, longest: int, rows: int, context: int) -> tuple[int, int]:
        """Return the bucket for a number of rows and of cached tokens."""
        return (
            next(bucket for bucket in cls.row_buckets(rows) if bucket >= count),
            next(bucket for bucket in cls.length_buckets(context) if bucket >= longest),
        )

    def run(self, key: Hashable, work: Callable[[], None]) -> None:
        """Run ``work``, which must use the same memory in every call with the same key."""
        if key not in self._graphs and key in self._seen and key not in self.failures:
            self.capture(key, work)
        if key in self._graphs:
            self._graphs[key].replay()
            return
        self._seen.add(key)
        work()

    def capture(self, key: Hashable, work: Callable[[], None]) -> None:
        """Capture ``work`` without running it. Everything that it needs must be initialized."""
        graph = torch.cuda.CUDAGraph()
        if self._stream is None:
            make: Any = torch.cuda.Stream
            self._stream = make()
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()  # what eager work has left is needed for the graph
        try:
            # Unlike ``torch.cuda.graph``, this leaves the capture stream if ``capture_end`` raises. Other threads may
            # use the GPU meanwhile.
            with torch.cuda.stream(self._stream):
                graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
                try:
                    work()
                finally:
                    self._end(graph)
        except RuntimeError as error:  # such as a host sync, or no memory
            self._fail(key, error)
            return
        self._graphs[key] = graph

    def _end(self, graph: torch.cuda.CUDAGraph) -> None:
        """End a capture. If it has failed, end it in the memory allocator too, which ``capture_end`` does not."""
        try:
            graph.capture_end()
        except RuntimeError:
            # Otherwise ``empty_cache`` fails or does nothing from now on, and the allocator does not free what it has
            # cached when memory runs out.
            with contextlib.suppress(RuntimeError):  # ``capture_end`` may have done it before it failed
                device = torch.cuda.current_device()
                torch._C._cuda_endAllocateToPool(device, self._pool)
                torch._C._cuda_releasePool(device, self._pool)
            raise

    def _fail(self, key: Hashable, error: BaseException) -> None:
        while isinstance(error.__context__, RuntimeError):  # capture_end only says that something failed before
            error = error.__context__
        cause = (str(error).strip() or repr(error)).splitlines()[0]
        known = cause in self.failures.values()
        self.failures[key] = cause
        self._pool = self._stream = None  # memory of a failed capture is not used again
        if not known:
            sentence = f"Some denoising steps run without CUDA graphs, which is slower: the capture failed ({cause})."
            log.warning(sentence)
            self._report(sentence)
