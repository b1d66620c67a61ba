"""A time limit that does not count the time in which a function waits for the model."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator


class TimeLimit:
    """The time limit of one call of an author's function. Several tasks may pause it at the same time.

    Attributes:
        is_over: True if the limit has ended the call.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._timeout: asyncio.Timeout | None = None
        self._left = 0.0
        self._pauses = 0

    @contextlib.asynccontextmanager
    async def limit(self, seconds: float) -> AsyncIterator[None]:
        """Cancel the code inside this context after some seconds, and raise ``TimeoutError``.

        The function may have been called before, up to its first ``await``, and may have paused the limit there.
        """
        self._left = seconds
        self._timeout = asyncio.timeout(None if self._pauses else seconds)
        try:
            async with self._timeout:
                yield
        finally:
            self.is_over, self._timeout = self._timeout.expired(), None

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock while the code inside this context runs."""
        loop = asyncio.get_running_loop()
        self._pauses += 1
        if self._timeout is not None and self._pauses == 1:
            when = self._timeout.when()
            self._left = self._left if when is None else max(0.0, when - loop.time())
            self._timeout.reschedule(None)
        try:
            yield
        finally:
            self._pauses -= 1
            if self._timeout is not None and not self._pauses and not self._timeout.expired():
                self._timeout.reschedule(loop.time() + self._left)
