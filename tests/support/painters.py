"""A painter without a model, for tests of pictures."""

from __future__ import annotations

import threading
from collections.abc import Callable

from unwritten_engine.text_to_image import Painted, PainterAbout


class FakePainter:
    """A painter that records its requests. It waits until ``leave`` is set before it finishes."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.about = PainterAbout("a fake painter", "none", 3)
        self.painted: list[tuple[str, int, int, int]] = []
        self.leave = threading.Event()
        self.leave.set()
        self.fault = fault
        self.closed = False

    def paint(
        self, prompt: str, width: int, height: int, *, seed: int, between: Callable[[], None] = lambda: None
    ) -> Painted:
        self.painted.append((prompt, width, height, seed))
        for _ in range(self.about.steps):
            between()
        while not self.leave.wait(0.01):
            between()
        if self.fault:
            raise self.fault
        return Painted(b"RIFF" + prompt.encode(), "image/webp", seed, 3)

    def close(self) -> None:
        self.closed = True
