"""Background tasks: kept alive until they end, and logged if they fail."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

log = logging.getLogger("unwritten")


class BackgroundTasks:
    """The background tasks of one component.

    asyncio holds only weak references to tasks, so a task that nothing else refers to may disappear before it ends.

    Args:
        handle_error: Called with what a task raises. Returns False if it must be logged. None: everything is logged.
    """

    def __init__(self, handle_error: Callable[[BaseException], bool] | None = None) -> None:
        self._handle_error = handle_error
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run a coroutine in the background. The name is for the log."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not (self._handle_error is not None and self._handle_error(error)):
            log.error("The task %r failed", task.get_name(), exc_info=error)

    def cancel(self) -> None:
        """Cancel all tasks, without waiting until they have ended."""
        for task in self._tasks:
            task.cancel()

    async def wait(self, seconds: float) -> None:
        """Wait until all tasks have ended, at most for some seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def close(self, *, repeat_after: float | None = None) -> None:
        """Cancel all tasks, and wait until they have ended.

        Args:
            repeat_after: Seconds after which tasks are cancelled again, because a library may swallow a cancellation.
                None: they are cancelled once.
        """
        while self._tasks:
            self.cancel()
            await asyncio.wait(self._tasks, timeout=repeat_after)
