"""Painting: pictures that are being painted, one at a time, after everything that is being written.

A picture is painted once, however many look at it. It waits while somebody waits for words, as long as that is not for
ever; whoever asks for more than the queue holds, or has had enough painted, sees an ornament instead.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from unwritten_engine import EngineError, Priority
from unwritten_engine.text_to_image import Painted, Painter

from ..core.errors import Busy, PageFailed, StoreError, TimedOut
from ..core.settings import Settings
from ..generation.budgets import Budgets
from ..generation.page_job import JobObserver, PageJob
from ..storage.database import Database

log = logging.getLogger("unwritten")


QUEUE = 16
"""Pictures that may be painted or wait for it."""


AGAIN = 60.0
"""Seconds until a picture that could not be painted is tried again."""


STAND_BACK = 60.0
"""Seconds that one picture stands back behind words, at most."""


class PaintQueue(JobObserver):
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
        self._tasks: dict[str, asyncio.Task[StoredPicture | None]] = {}
        self._failed: OrderedDict[str, float] = OrderedDict()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="unwritten-painter")
        self._waited_for: set[PageJob] = set()
        self._quiet = threading.Event()
        self._quiet.set()
        self._closing = threading.Event()

    # -- words come first ---------------------------------------------------------------------------------

    def on_start(self, job: PageJob) -> None:
        """A page is being written."""
        if job.priority is Priority.CLICK:
            self.on_promote(job)

    def on_promote(self, job: PageJob) -> None:
        """Somebody waits for a page."""
        self._waited_for.add(job)
        self._quiet.clear()

    def on_end(self, job: PageJob) -> None:
        """A page has come to its end."""
        self._waited_for.discard(job)
        if not self._waited_for:
            self._quiet.set()

    # -- painting -----------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Pictures that are being painted, or wait for it."""
        return len(self._tasks)

    async def paint(self, ask: PictureRequest, visitor: str, patience: float) -> StoredPicture | None:
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

    async def _paint(self, ask: PictureRequest, visitor: str) -> StoredPicture | None:
        """Paint and keep one picture. What goes wrong is logged, and leaves an ornament."""
        kept = stored_picture(self._database, ask)
        if kept is not None:
            return kept
        loop, model, spent = asyncio.get_running_loop(), self.painter.about.model, [0.0]
        try:
            painted = await loop.run_in_executor(self._thread, self._work, ask, spent)
            return await save_picture(self._database, ask, painted, model, spent[0])
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

    def _work(self, ask: PictureRequest, spent: list[float]) -> Painted:
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


@dataclass(frozen=True, slots=True)
class PictureRequest:
    """What a picture was asked for with.

    Attributes:
        prompt: what is on it.
        width: in pixels.
        height: in pixels.
    """

    prompt: str
    width: int
    height: int

    @property
    def key(self) -> str:
        """The picture's key: equal asks are one picture."""
        text = json.dumps([self.prompt, self.width, self.height])
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def seed(self) -> int:
        """The picture's seed, from its words alone: the same in every world."""
        return int.from_bytes(hashlib.sha256(self.prompt.encode("utf-8", "replace")).digest()[:4], "big")


@dataclass(frozen=True, slots=True)
class StoredPicture:
    """A painted picture as it is kept.

    Attributes:
        content: the file.
        media_type: of the file.
        model: who painted it.
    """

    content: bytes
    media_type: str
    model: str


def stored_picture(database: Database, ask: PictureRequest) -> StoredPicture | None:
    """A picture, if it was painted."""
    rows = database.read("SELECT content, media_type, model FROM pictures WHERE key = ?", (ask.key,))
    return StoredPicture(*rows[0]) if rows else None


def painter_of(database: Database, ask: PictureRequest) -> str:
    """The model that painted a picture; "" if nobody has."""
    rows = database.read("SELECT model FROM pictures WHERE key = ?", (ask.key,))
    return str(rows[0][0]) if rows else ""


async def save_picture(
    database: Database, ask: PictureRequest, painted: Painted, model: str, seconds: float
) -> StoredPicture:
    """Keep a picture; the one that was first, if another server on the same file was quicker.

    Raises:
        StoreError: it was not kept.
    """
    row = {
        "key": ask.key,
        "prompt": ask.prompt,
        "width": ask.width,
        "height": ask.height,
        "media_type": painted.media_type,
        "content": painted.content,
        "model": model,
        "seed": painted.seed,
        "steps": painted.steps,
        "seconds": round(seconds, 3),
        "painted_at": datetime.now(UTC).isoformat(),
    }
    await database.write(lambda tables: tables.table("pictures").insert(row, ignore=True))
    return stored_picture(database, ask) or StoredPicture(painted.content, painted.media_type, model)
