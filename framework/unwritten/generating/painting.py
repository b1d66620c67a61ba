"""Painting: pictures that are being painted, one at a time, after everything that is being written.

A picture is painted once, however many look at it. It waits while somebody waits for words, as long as that is not for
ever; whoever asks for more than the queue holds, or has had enough painted, sees an ornament instead.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from unwritten_engine import EngineError, Priority
from unwritten_engine.text_to_image import Painted, Painter

from ..errors import Busy, PageFailed, StoreError, TimedOut
from ..guarding.budgets import Budgets
from ..keeping.database import Database
from ..keeping.pictures import Ask, Picture, keep_picture, kept_picture
from ..settings import Settings
from .generation import Generation, Listener

log = logging.getLogger("unwritten")

QUEUE = 16
"""Pictures that may be painted or wait for it."""
AGAIN = 60.0
"""Seconds until a picture that could not be painted is tried again."""
STAND_BACK = 60.0
"""Seconds that one picture stands back behind words, at most."""


class Studio(Listener):
    """Paints what is asked for, and keeps it.

    Args:
        painter: paints.
        database: keeps.
        budgets: what a visitor may have painted: seconds of painting count as seconds of writing.
        settings: ``painter_seconds``.
    """

    def __init__(self, painter: Painter, database: Database, budgets: Budgets, settings: Settings) -> None:
        self.painter = painter
        self._database = database
        self._budgets = budgets
        self._settings = settings
        self._tasks: dict[str, asyncio.Task[Picture | None]] = {}
        self._failed: OrderedDict[str, float] = OrderedDict()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="unwritten-painter")
        self._writing: set[Generation] = set()
        self._quiet = threading.Event()
        self._quiet.set()
        self._closing = threading.Event()

    # -- words come first ---------------------------------------------------------------------------------

    def begun(self, generation: Generation) -> None:
        """A page is being written."""
        if generation.priority is Priority.CLICK:
            self.hurried(generation)

    def hurried(self, generation: Generation) -> None:
        """Somebody waits for a page."""
        self._writing.add(generation)
        self._quiet.clear()

    def ended(self, generation: Generation) -> None:
        """A page has come to its end."""
        self._writing.discard(generation)
        if not self._writing:
            self._quiet.set()

    # -- painting -----------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Pictures that are being painted, or wait for it."""
        return len(self._tasks)

    async def paint(self, ask: Ask, visitor: str, patience: float) -> Picture | None:
        """A picture, painted unless it is there.

        Args:
            ask: what is asked for.
            visitor: who pays.
            patience: seconds that this call waits; the work goes on after that.

        Returns:
            The picture; None if it is not ready yet.

        Raises:
            Busy, OverBudget: if too many wait, or the visitor has had enough painted.
            PageFailed: if it could not be painted a moment ago.
        """
        task = self._tasks.get(ask.key)
        if task is None:
            failed = self._failed.get(ask.key)
            if failed is not None and time.monotonic() - failed < AGAIN:
                raise PageFailed("This picture could not be painted a moment ago.")
            if len(self._tasks) >= QUEUE or self._closing.is_set():
                raise Busy(f"{len(self._tasks)} pictures wait to be painted already.", 30)
            self._budgets.afford(visitor)
            task = asyncio.create_task(self._paint(ask, visitor), name=f"painting {ask.key}")
            self._tasks[ask.key] = task
            task.add_done_callback(lambda _: self._tasks.pop(ask.key, None))
        done, _ = await asyncio.wait({task}, timeout=patience)
        return task.result() if done and not task.cancelled() else None

    async def _paint(self, ask: Ask, visitor: str) -> Picture | None:
        """Paint and keep one picture. What goes wrong is logged, and leaves an ornament."""
        kept = kept_picture(self._database, ask)
        if kept is not None:
            return kept
        loop, model, spent = asyncio.get_running_loop(), self.painter.about.model, [0.0]
        try:
            painted = await loop.run_in_executor(self._thread, self._work, ask, spent)
            return await keep_picture(self._database, ask, painted, model, spent[0])
        except (EngineError, StoreError, PageFailed) as error:
            if not self._closing.is_set():
                log.warning("A picture is an ornament for now: %s", error)
        except Exception:
            log.exception("A picture is an ornament for now: the painter %s broke", model)
        finally:  # what failed took its time too
            self._budgets.charge(visitor, spent[0])
        self._failed[ask.key] = time.monotonic()
        while len(self._failed) > 1000:
            self._failed.popitem(last=False)
        return None

    def _work(self, ask: Ask, spent: list[float]) -> Painted:
        """Paint, in the painter's thread, and note the seconds that it takes."""
        limit, begun, stood_back = float(self._settings.painter_seconds), time.monotonic(), 0.0

        def between() -> None:
            nonlocal stood_back
            while not self._quiet.is_set() and stood_back < STAND_BACK and not self._closing.is_set():
                before = time.monotonic()
                self._quiet.wait(0.2)
                stood_back += time.monotonic() - before
            if self._closing.is_set():
                raise PageFailed("The server stops.")
            if time.monotonic() - begun - stood_back > limit:
                raise TimedOut(
                    f"A picture took more than {limit:g} seconds and was given up. A smaller one is quicker: "
                    "--painter-options 'size=384 steps=8'; or allow more: --painter-seconds"
                )

        try:
            return self.painter.paint(ask.prompt, ask.width, ask.height, seed=ask.seed, between=between)
        finally:
            spent[0] = time.monotonic() - begun - stood_back

    async def close(self) -> None:
        """Stop within one step, and free the model."""
        self._closing.set()
        tasks = list(self._tasks.values())
        await asyncio.to_thread(self._thread.shutdown, wait=True, cancel_futures=True)
        await asyncio.gather(*tasks, return_exceptions=True)
        self.painter.close()
