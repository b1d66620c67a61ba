"""Jobs that are shared by several processes: what the lease holder publishes, and how the others show it.

A region is published as a JSON object with the ``number``, ``state`` and ``frame`` of its latest frame, and with the
``stored`` canvas if it is finished. Formatting and sanitizing happen in every process, so a frame is not trusted more
than a text of the model.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from unwritten_engine import Frame
from unwritten_engine.text_thread import in_text_thread

from ..core.errors import PageFailed
from ..core.localization import pack_text, unpack_text
from ..rendering.regions import RegionState
from ..storage.records import StoredCanvas, StoredPage
from .frame_formatting import LONG_TEXT
from .page_job import PageJob, Subscriber
from .region_job import RegionJob

log = logging.getLogger("unwritten")


class PublishedJob(Subscriber):
    """A job of this process, as a lease publishes it. See ``broker.base.JobSource``.

    Args:
        job: The job.
        position: Returns its place in the queue.
    """

    def __init__(self, job: PageJob, position: Callable[[PageJob], int]) -> None:
        super().__init__()
        self._job = job
        self._position = position
        self._published: dict[str, tuple[int, str]] = {}
        job.publisher = self

    def changes(self) -> tuple[Mapping[str, Any], Mapping[str, Mapping[str, Any]]]:
        """Return the job's status, and the regions that have changed since the last call."""
        job, changed = self._job, {}
        for name, region_job in job.regions.items():
            current = region_job.number, region_job.state
            if self._published.get(name) != current:
                self._published[name] = current
                changed[name] = encode_region(region_job, with_result=job.previous is None)
        status = {
            "state": job.state,
            "message": pack_text(job.message),
            "position": self._position(job),
            "client": job.client_id,
            "visitor": job.visitor,
        }
        return status, changed

    def republish(self) -> None:
        """Return all regions at the next call of ``changes``."""
        self._published.clear()

    def num_subscribers(self) -> int:
        """Return the number of subscribers in this process."""
        return self._job.num_own_subscribers


def encode_region(region_job: RegionJob, *, with_result: bool = True) -> dict[str, Any]:
    """Return a region as a JSON object.

    Args:
        region_job: The region.
        with_result: True to add the finished canvas, which another process may store. Not for a change of a page.
    """
    frame = region_job.frame
    is_written = region_job.state == "written"
    return {
        "number": region_job.number,
        "state": region_job.state,
        "frame": [frame.text, frame.unsettled, frame.fixed, frame.canvas, frame.canvases, frame.step, frame.steps],
        "stored": asdict(region_job.to_stored()) if is_written and with_result else None,
    }


def finished_canvases(regions: Mapping[str, Mapping[str, Any]]) -> dict[str, StoredCanvas]:
    """Return the finished canvases of published regions."""
    return {name: StoredCanvas(**region["stored"]) for name, region in regions.items() if region["stored"]}


async def show_frames(job: PageJob, message: Mapping[str, Any]) -> None:
    """Show published regions in a job that follows another process. Older frames than those shown are ignored.

    Args:
        job: The job.
        message: A message of a ``Subscription`` with regions. Its status is optional.
    """
    if job.finished.is_set():
        return
    try:
        status = message.get("status")
        if status and status["state"] in {"queued", "writing"}:
            job.state, job.message = status["state"], unpack_text(status["message"])
            job.position, job.client_id, job.visitor = status["position"], status["client"], status["visitor"]
        for name, region in message["regions"].items():
            region_job = job.regions.get(name)  # this visitor's page may have others
            if region_job is not None and region["number"] > region_job.number:
                await _show_region(region_job, region)
    except (LookupError, TypeError, ValueError) as error:  # another version of the app, or of Unwritten
        log.warning("%s: a frame of another process cannot be shown: %s", job.key, error)
    job.notify()


async def _show_region(region_job: RegionJob, region: Mapping[str, Any]) -> None:
    number = region["number"]
    if region["stored"]:
        restore_region(region_job, StoredCanvas(**region["stored"]))
        region_job.number = number
        return
    text, unsettled, *rest = region["frame"]
    spans = tuple((start, end) for start, end in unsettled)
    # A region that another process has not finished can be continued here, unless it is only shown until its revert.
    state: RegionState = "writing" if region["state"] == "written" else region["state"]
    frame = Frame(text, spans, *rest)
    prepared = await in_text_thread(region_job.prepare, frame) if len(text) >= LONG_TEXT else frame
    region_job.show(prepared, state, number)


def outcome_of(job: PageJob) -> dict[str, Any]:
    """Return the outcome of a job for other processes."""
    return {
        "state": job.state,
        "message": pack_text(job.message),
        "reverted": job.reverted,
        "left": job.cancel_reason in {"abandoned", "shutdown"},  # a process that still has visitors takes it over
    }


def adopt(job: PageJob, stored: StoredPage | None) -> bool:
    """Show what another process has stored, and finish the job.

    Args:
        job: A job that has followed the other process, or has generated the same page.
        stored: The page as it is now.

    Returns:
        False if regions of the job are missing in the stored page. Then the job is not finished.
    """
    canvases = stored.canvases if stored is not None else {}
    for name, region_job in job.regions.items():
        canvas = canvases.get(name)
        if canvas is not None and (region_job.state, region_job.frame.text) != ("written", canvas.text):
            restore_region(region_job, canvas)
    if stored is None or any(
        name not in canvases or region_job.state != "written" for name, region_job in job.regions.items()
    ):
        return False
    job.stored = stored
    return True


def restore_region(region_job: RegionJob, canvas: StoredCanvas) -> None:
    """Show a finished canvas, unless it does not fit the region any more."""
    if canvas.format == region_job.format.name:
        with contextlib.suppress(PageFailed):  # its schema has changed since
            region_job.roll_back(canvas)
