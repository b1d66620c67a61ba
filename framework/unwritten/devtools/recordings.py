"""Recorded frames of recent pages, in memory, so that developers can step through them."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, field

from unwritten_engine import Frame, Request

from ..generation.page_job import JobObserver, PageJob
from ..generation.region_job import RegionJob

MAX_PAGES = 16
"""Maximum number of recorded pages."""

MAX_FRAMES = 400
"""Maximum number of recorded frames per canvas. Beyond that, every second frame is recorded, then every fourth, etc."""

MAX_CHARACTERS = 1_000_000
"""Maximum number of characters in the recorded frames of one canvas."""


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """A frame, and the seconds from the start of its job."""

    seconds: float
    frame: Frame


@dataclass(eq=False)
class RegionRecording:
    """The frames of one canvas.

    Attributes:
        name: The canvas's name.
        request: The request to the engine.
        frames: The recorded frames, the latest last.
        num_frames: The number of all frames, recorded or not.
        error: Why the canvas failed. None if it did not.
    """

    name: str
    request: Request
    frames: list[RecordedFrame] = field(default_factory=list)
    num_frames: int = 0
    error: Exception | None = None
    _interval: int = 1
    _characters: int = 0

    def add(self, seconds: float, frame: Frame) -> None:
        """Record the next frame."""
        # The latest frame is always in the list. If it is not one to keep, the next one replaces it.
        if self.frames and (self.num_frames - 1) % self._interval:
            self._characters -= len(self.frames.pop().frame.text)
        self.frames.append(RecordedFrame(seconds, frame))
        self._characters += len(frame.text)
        self.num_frames += 1
        if len(self.frames) > MAX_FRAMES or (self._characters > MAX_CHARACTERS and len(self.frames) > 2):
            self._interval *= 2
            last = self.frames[-1]
            self.frames = self.frames[::2]
            if self.frames[-1] is not last:
                self.frames.append(last)
            self._characters = sum(len(recorded.frame.text) for recorded in self.frames)

    @property
    def last(self) -> Frame | None:
        """The latest frame."""
        return self.frames[-1].frame if self.frames else None

    @property
    def first_words(self) -> float | None:
        """Seconds from the start of the job to the model's first words. None before they arrive."""
        opening = len(self.request.prompt.opening)
        return next((recorded.seconds for recorded in self.frames if recorded.frame.text[opening:].strip()), None)


@dataclass(eq=False)
class Recording:
    """The recording of one job.

    Attributes:
        job: The job.
        regions: The recordings of its canvases by name. Canvases that were finished before have no frames.
        queued_seconds: How long it waited in the queue. None while it waits.
        seconds: How long it took. None while it runs.
        opened: True if a visitor has requested the page, so that it was not only prefetched.
        started_at: When it was submitted, in monotonic seconds.
    """

    job: PageJob
    regions: dict[str, RegionRecording]
    queued_seconds: float | None = None
    seconds: float | None = None
    opened: bool = False
    started_at: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Seconds from its start, up to its end."""
        return time.monotonic() - self.started_at if self.seconds is None else self.seconds


class FrameRecorder(JobObserver):
    """Records the frames of the most recent jobs."""

    def __init__(self) -> None:
        self._recordings: OrderedDict[str, Recording] = OrderedDict()

    def get(self, key: str) -> Recording | None:
        """Return the recording of a page's last job, if it is remembered."""
        return self._recordings.get(key)

    def on_start(self, job: PageJob) -> None:
        """Start a recording. It replaces the page's earlier one, and the oldest one if there are too many."""
        regions = {
            name: RegionRecording(name, region_job.request(job.priority)) for name, region_job in job.regions.items()
        }
        self._recordings[job.key] = Recording(job, regions)
        self._recordings.move_to_end(job.key)
        while len(self._recordings) > MAX_PAGES:
            # Unopened prefetches go first: they must not replace what the developer looks at.
            older = list(self._recordings)[:-1]
            del self._recordings[next((key for key in older if not self._recordings[key].opened), older[0])]

    def mark_opened(self, key: str) -> None:
        """Record that a page was requested, so that its recording is removed last."""
        recording = self._recordings.get(key)
        if recording is not None:
            recording.opened = True
            self._recordings.move_to_end(key)

    def on_frame(self, job: PageJob, region_job: RegionJob) -> None:
        """Record a frame."""
        recording = self._recording_of(job)
        if recording is None:
            return
        if recording.queued_seconds is None:
            usage = region_job.frame.usage
            recording.queued_seconds = usage.queued_seconds if usage else 0.0
        region = recording.regions.get(region_job.name)
        if region is None:  # it was added while the job runs
            region = RegionRecording(region_job.name, region_job.request(job.priority))
            recording.regions[region_job.name] = region
        region.add(recording.elapsed, region_job.frame)

    def on_region_failed(self, job: PageJob, region_job: RegionJob, error: Exception) -> None:
        """Record the error of a region."""
        recording = self._recording_of(job)
        if recording is not None and region_job.name in recording.regions:
            recording.regions[region_job.name].error = error

    def on_end(self, job: PageJob) -> None:
        """Record how long the job took."""
        recording = self._recording_of(job)
        if recording is not None:
            recording.seconds = recording.elapsed

    def _recording_of(self, job: PageJob) -> Recording | None:
        recording = self._recordings.get(job.key)
        return recording if recording is not None and recording.job is job else None
