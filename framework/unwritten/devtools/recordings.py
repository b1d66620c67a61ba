"""Recordings: the frames of the pages written last, kept in memory while an author develops, to be looked at again."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, field

from unwritten_engine import Frame, Request

from ..generation.page_job import JobObserver, PageJob
from ..generation.region_job import RegionJob

MOST_PAGES = 16
"""Pages that are remembered."""


MOST_FRAMES = 400
"""Frames of one canvas that are remembered. Of a longer one every second, every fourth and so on."""


MOST_CHARACTERS = 1_000_000
"""Characters in the remembered frames of one canvas."""


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """A frame, with the seconds since the page was begun."""

    seconds: float
    frame: Frame


@dataclass(eq=False)
class RegionRecording:
    """The frames of one canvas.

    Attributes:
        name: the canvas's name.
        request: what the engine was asked for.
        moments: the remembered frames, the latest last.
        seen: how many there were.
        error: why it failed; None if it did not.
    """

    name: str
    request: Request
    moments: list[RecordedFrame] = field(default_factory=list)
    seen: int = 0
    error: Exception | None = None
    _every: int = 1
    _characters: int = 0

    def add(self, seconds: float, frame: Frame) -> None:
        """Remember the next frame."""
        # The latest is always there; it stays if its turn has come, and else makes room for the next one.
        if self.moments and (self.seen - 1) % self._every:
            self._characters -= len(self.moments.pop().frame.text)
        self.moments.append(RecordedFrame(seconds, frame))
        self._characters += len(frame.text)
        self.seen += 1
        if len(self.moments) > MOST_FRAMES or (self._characters > MOST_CHARACTERS and len(self.moments) > 2):
            self._every *= 2
            last = self.moments[-1]
            self.moments = self.moments[::2]
            if self.moments[-1] is not last:
                self.moments.append(last)
            self._characters = sum(len(moment.frame.text) for moment in self.moments)

    @property
    def last(self) -> Frame | None:
        """The latest frame."""
        return self.moments[-1].frame if self.moments else None

    @property
    def first_words(self) -> float | None:
        """Seconds from the beginning of the page to the first words of the model; None before they come."""
        opening = len(self.request.prompt.opening)
        return next((moment.seconds for moment in self.moments if moment.frame.text[opening:].strip()), None)


@dataclass(eq=False)
class Recording:
    """A page on its way from noise to settled.

    Attributes:
        generation: the page.
        strips: its canvases by name. One that was finished before has no frames.
        queued: seconds that it waited for its turn; None while it waits.
        seconds: from its beginning to its end; None before.
        opened: whether anybody has asked for it, and it was not only written ahead.
    """

    job: PageJob
    strips: dict[str, RegionRecording]
    queued: float | None = None
    seconds: float | None = None
    opened: bool = False
    begun: float = field(default_factory=time.monotonic)

    @property
    def so_far(self) -> float:
        """Seconds since its beginning, up to its end."""
        return time.monotonic() - self.begun if self.seconds is None else self.seconds


class FrameRecorder(JobObserver):
    """Remembers the pages that were begun last, each with its frames."""

    def __init__(self) -> None:
        self._recordings: OrderedDict[str, Recording] = OrderedDict()

    def get(self, key: str) -> Recording | None:
        """The recording of a page, if it is remembered."""
        return self._recordings.get(key)

    def on_start(self, job: PageJob) -> None:
        """A page is being written: what was remembered of it is forgotten, and so is the oldest."""
        strips = {
            name: RegionRecording(name, region_job.request(job.priority)) for name, region_job in job.regions.items()
        }
        self._recordings[job.key] = Recording(job, strips)
        self._recordings.move_to_end(job.key)
        while len(self._recordings) > MOST_PAGES:
            # What was written ahead and never opened goes first: it must not push out what the author looks at.
            older = list(self._recordings)[:-1]
            del self._recordings[next((key for key in older if not self._recordings[key].opened), older[0])]

    def opened(self, key: str) -> None:
        """Somebody looks at a page: it is forgotten last."""
        recording = self._recordings.get(key)
        if recording is not None:
            recording.opened = True
            self._recordings.move_to_end(key)

    def on_frame(self, job: PageJob, region_job: RegionJob) -> None:
        """A canvas has its next frame."""
        recording = self._of(job)
        if recording is None:
            return
        if recording.queued is None:
            usage = region_job.frame.usage
            recording.queued = usage.queued_seconds if usage else 0.0
        strip = recording.strips.get(region_job.name)
        if strip is None:  # the page needs more than when it was begun: a reply to what was posted meanwhile, say
            strip = recording.strips[region_job.name] = RegionRecording(
                region_job.name, region_job.request(job.priority)
            )
        strip.add(recording.so_far, region_job.frame)

    def on_region_failed(self, job: PageJob, region_job: RegionJob, error: Exception) -> None:
        """A canvas cannot be written or drawn."""
        recording = self._of(job)
        if recording is not None and region_job.name in recording.strips:
            recording.strips[region_job.name].error = error

    def on_end(self, job: PageJob) -> None:
        """A page has come to its end."""
        recording = self._of(job)
        if recording is not None:
            recording.seconds = time.monotonic() - recording.begun

    def _of(self, job: PageJob) -> Recording | None:
        recording = self._recordings.get(job.key)
        return recording if recording is not None and recording.job is job else None
