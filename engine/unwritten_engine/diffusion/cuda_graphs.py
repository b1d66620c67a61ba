"""CUDA graphs for denoising steps.

A step has about two thousand small kernels, whose launches take longer than the work. It is captured once per bucket of
rows and cached tokens and then replayed with one launch. The first step of a bucket runs eagerly, which initializes
libraries and buffers; the second is captured. If capturing fails, steps run eagerly, and ``reason`` has the error.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch

MIN_LENGTH_BUCKET = 256
"""The smallest bucket of cached tokens; the others are doublings."""


class CUDAGraphs:
    """Captured steps by bucket. Use it from one thread."""

    def __init__(self) -> None:
        self.reason = ""
        self._seen: set[Hashable] = set()
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._pool: Any = None

    @staticmethod
    def buckets(count: int, longest: int, rows: int, context: int) -> tuple[int, int]:
        """Return the bucket for a number of rows and cached tokens: powers of two, limited by the cache."""
        wide, long = 1, MIN_LENGTH_BUCKET
        while wide < count:
            wide *= 2
        while long < longest:
            long *= 2
        return min(wide, rows), min(long, context)

    def run(self, key: Hashable, work: Callable[[], None]) -> None:
        """Run ``work``, which must use the same memory in every call with the same key."""
        if self.reason or key not in self._seen:
            self._seen.add(key)
            work()
            return
        if key not in self._graphs and not self._capture(key, work):
            work()
            return
        self._graphs[key].replay()

    def _capture(self, key: Hashable, work: Callable[[], None]) -> bool:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool):
                work()
        except RuntimeError as error:  # a host sync, or out of memory
            self.reason = f"Steps run without CUDA graphs, because the capture failed: {str(error).splitlines()[0]}"
            torch.cuda.synchronize()
            return False
        self._pool = graph.pool()
        self._graphs[key] = graph
        return True
