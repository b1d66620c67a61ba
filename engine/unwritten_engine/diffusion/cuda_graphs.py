"""Captured passes: on a GPU a pass is some two thousand small kernels, and launching them takes longer than their work.

A pass is captured once for each bucket of rows and kept tokens, and replayed from then on: one launch. The first
pass of a bucket runs plainly, which readies libraries and buffers, the second is captured. Where capturing fails,
passes run plainly, and ``reason`` says why.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch

MIN_LENGTH_BUCKET = 256
"""The smallest bucket of kept tokens; the others double."""


class CUDAGraphs:
    """Passes by bucket. One thread uses it."""

    def __init__(self) -> None:
        self.reason = ""
        self._seen: set[Hashable] = set()
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._pool: Any = None

    @staticmethod
    def buckets(count: int, longest: int, rows: int, context: int) -> tuple[int, int]:
        """The bucket for so many rows and kept tokens: powers of two, not beyond what there is."""
        wide, long = 1, MIN_LENGTH_BUCKET
        while wide < count:
            wide *= 2
        while long < longest:
            long *= 2
        return min(wide, rows), min(long, context)

    def run(self, key: Hashable, work: Callable[[], None]) -> None:
        """Do the work, which reads and writes the same memory each time for the same key."""
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
        except RuntimeError as error:  # something reads back to the host, or memory ran out
            self.reason = f"Passes run one kernel at a time, for capturing them failed: {str(error).splitlines()[0]}"
            torch.cuda.synchronize()
            return False
        self._pool = graph.pool()
        self._graphs[key] = graph
        return True
