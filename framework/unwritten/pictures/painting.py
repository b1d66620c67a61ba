"""The queue of pictures to paint, one at a time. Pages that visitors wait for take precedence.

If the queue is full or the visitor's budget is spent, an ornament is shown in place of the picture.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from cachetools import TTLCache

from unwritten_engine import EngineError, Priority
from unwritten_engine.text_to_image import Painted, Painter

from ..core.errors import Busy, PageFailed, StoreError, TimedOut
from ..generation.budgets import Budgets
from ..generation.page_job import JobObserver, PageJob
from ..storage.database import Database
from .store import PictureRequest, StoredPicture, get_picture, save_picture

log = logging.getLogger("unwritten")

QUEUE_LIMIT = 16
"""Maximum number of pictures that are being painted or wait."""

PAINT_TIME_LIMIT = 300.0
"""Seconds after which painting a picture is cancelled. Pauses do not count."""

RETRY_DELAY = 60.0
"""Seconds after which a picture that could not be painted is tried again."""

MAX_PAUSE = 60.0
"""Maximum number of seconds for which one picture pauses for pages."""

_MAX_FAILURES = 1000
"""Maximum number of failed pictures that are remembered."""


class PaintQueue(JobObserver):
    """Paints pictures, and stores them.

    Args:
        painter: The painter.
        database: Where pictures are stored.
        budgets: Seconds of painting are charged to clients like seconds of generation.
        time_limit: Seconds after which painting a picture is cancelled.
    """

    def __init__(
        self, painter: Painter, database: Database, budgets: Budgets, time_limit: float = PAINT_TIME_LIMIT
    ) -> None:
        self.painter = painter
        self._database = database
        self._budgets = budgets
        self._time_limit = time_limit
        self._tasks: dict[str, asyncio.Task[StoredPicture | None]] = {}
        self._failed: TTLCache[str, bool] = TTLCache[str, bool](_MAX_FAILURES, RETRY_DELAY)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="unwritten-painter")
        self._awaited_jobs: set[PageJob] = set()
        self._may_paint = threading.Event()
        self._may_paint.set()
        self._closing = threading.Event()

    # -- pausing for pages -------------------------------------------------------------------------------

    def on_start(self, job: PageJob) -> None:
        """Pause if a visitor waits for the new job."""
        if job.priority is Priority.CLICK:
            self.on_promote(job)

    def on_promote(self, job: PageJob) -> None:
        """Pause: a visitor waits for the job."""
        self._awaited_jobs.add(job)
        self._may_paint.clear()

    def on_end(self, job: PageJob) -> None:
        """Continue if no visitor waits for another job."""
        self._awaited_jobs.discard(job)
        if not self._awaited_jobs:
            self._may_paint.set()

    # -- painting -----------------------------------------------------------------------------------------

    @property
    def num_pending(self) -> int:
        """The number of pictures that are being painted, or wait for it."""
        return len(self._tasks)

    async def paint(self, picture: PictureRequest, client_id: str, wait_seconds: float) -> StoredPicture | None:
        """Return a picture, and paint it if it does not exist.

        Args:
            picture: The picture.
            client_id: The client that is charged.
            wait_seconds: Seconds for which this call waits. Painting continues after that.

        Returns:
            The picture, or None if it is not finished yet.

        Raises:
            Busy: If the queue is full.
            OverBudget: If the client's budget is spent.
            PageFailed: If painting it has failed within the last ``RETRY_DELAY`` seconds.
        """
        task = self._tasks.get(picture.key)
        if task is None:
            if picture.key in self._failed:
                raise PageFailed("This picture could not be painted a moment ago.")
            if self.num_pending >= QUEUE_LIMIT or self._closing.is_set():
                raise Busy(f"{self.num_pending} pictures already wait to be painted.", 30)
            await self._budgets.check_seconds(client_id)
            task = self._tasks.get(picture.key)  # another request may have started it meanwhile
        if task is None:
            task = asyncio.create_task(self._paint(picture, client_id), name=f"painting {picture.key}")
            self._tasks[picture.key] = task
            task.add_done_callback(lambda _: self._tasks.pop(picture.key, None))
        done, _ = await asyncio.wait({task}, timeout=wait_seconds)
        return task.result() if done and not task.cancelled() else None

    async def _paint(self, picture: PictureRequest, client_id: str) -> StoredPicture | None:
        """Paint and store one picture. Return None if that fails; the error is logged."""
        stored = get_picture(self._database, picture)
        if stored is not None:
            return stored
        loop, model, seconds = asyncio.get_running_loop(), self.painter.about.model, [0.0]
        try:
            painted = await loop.run_in_executor(self._thread, self._paint_in_thread, picture, seconds)
            return await save_picture(self._database, picture, painted, model, seconds[0])
        except (EngineError, StoreError, PageFailed) as error:
            if not self._closing.is_set():
                log.warning("A picture could not be painted, an ornament is shown instead: %s", error)
        except Exception:
            log.exception("A picture could not be painted, an ornament is shown instead: the painter %s failed", model)
        finally:  # a failure is charged, too
            self._budgets.charge(client_id, seconds[0])
        self._failed[picture.key] = True
        return None

    def _paint_in_thread(self, picture: PictureRequest, seconds: list[float]) -> Painted:
        """Paint a picture, and put the seconds that it took into ``seconds``."""
        started, paused = time.monotonic(), 0.0

        def between() -> None:
            nonlocal paused
            while not self._may_paint.is_set() and paused < MAX_PAUSE and not self._closing.is_set():
                before = time.monotonic()
                self._may_paint.wait(0.2)
                paused += time.monotonic() - before
            if self._closing.is_set():
                raise PageFailed("The server is stopping.")
            if time.monotonic() - started - paused > self._time_limit:
                raise TimedOut(
                    f"Painting a picture took more than {self._time_limit:g} seconds and was cancelled. A smaller "
                    "picture takes less: --painter-options 'size=384 steps=8'."
                )

        try:
            return self.painter.paint(picture.prompt, picture.width, picture.height, seed=picture.seed, between=between)
        finally:
            seconds[0] = time.monotonic() - started - paused

    async def close(self) -> None:
        """Stop within one denoising step, and release the model."""
        self._closing.set()
        tasks = list(self._tasks.values())
        await asyncio.to_thread(self._thread.shutdown, wait=True, cancel_futures=True)
        await asyncio.gather(*tasks, return_exceptions=True)
        self.painter.close()
