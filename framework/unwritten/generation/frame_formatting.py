"""Formatting of long texts in a thread, so that other visitors do not wait for it.

A frame is shown when it is formatted. While one is, those that arrive are skipped except for the latest. The last frame
of a region is always shown, and always after the drafts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from unwritten_engine import Frame
from unwritten_engine.text_thread import in_text_thread

from .region_job import RegionJob

LONG_TEXT = 12_000
"""Characters from which a text is formatted in a thread. Most shorter ones take less than a millisecond."""

SLOW_SECONDS = 0.004
"""A text whose last frame took longer to format is formatted in a thread, however short it is."""

REST_SHARE = 1.0
"""How long a region waits for its next draft, relative to the time that its last draft took."""


class FrameFormatter:
    """Shows the frames of one attempt at a region. Close it at the end, as ``contextlib.aclosing`` does.

    Args:
        region_job: The region.
        on_shown: Called after each frame that is shown.
    """

    def __init__(self, region_job: RegionJob, on_shown: Callable[[], None]) -> None:
        self._region_job = region_job
        self._on_shown = on_shown
        self._latest: Frame | None = None
        self._drafts: asyncio.Task[None] | None = None

    async def show(self, frame: Frame) -> None:
        """Show a frame: a draft now or later, the last one before this returns.

        Raises:
            UnusableText, PageFailed, UnwrittenError: See ``RegionJob.prepare``; also if an earlier draft has failed.
        """
        is_long = len(frame.text) >= LONG_TEXT or self._region_job.format_seconds > SLOW_SECONDS
        if frame.usage is not None:
            await self.aclose()
            prepared = await in_text_thread(self._region_job.prepare, frame) if is_long else None
            self._region_job.apply_frame(frame, prepared)
            self._on_shown()
        elif self._drafts is not None:
            if self._drafts.done():
                self._drafts.result()  # raises
            self._latest = frame
        elif is_long:
            self._latest = frame
            self._drafts = asyncio.create_task(self._show_drafts(), name=f"drafts of {self._region_job.name}")
        else:
            self._region_job.apply_frame(frame)
            self._on_shown()

    async def _show_drafts(self) -> None:
        while self._latest is not None:
            frame, self._latest = self._latest, None
            started = time.monotonic()
            prepared = await in_text_thread(self._region_job.prepare, frame)
            self._region_job.apply_frame(frame, prepared)
            self._on_shown()
            await asyncio.sleep(REST_SHARE * (time.monotonic() - started))
        self._drafts = None

    async def aclose(self) -> None:
        """Discard drafts that are not shown. On return, the thread does not use the region any more."""
        drafts, self._drafts, self._latest = self._drafts, None, None
        if drafts is not None:
            drafts.cancel()
            await asyncio.gather(drafts, return_exceptions=True)
