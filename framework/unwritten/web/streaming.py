"""Plain: the same page over plain HTTP, streamed in document order, for browsers without JavaScript and for curl.

HTTP is the truth and the socket is an accelerator. What stands before the first region is sent at once; of each
region what cannot change any more is sent as it comes, and the rest when it is finished.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import StreamingResponse

from ..core.errors import UnwrittenError
from ..generation.job_queue import JobQueue
from ..generation.page_job import PageJob, Subscriber
from ..generation.region_job import RegionJob
from ..rendering.document import COLOPHON, insert_nonce
from ..rendering.regions import Region, RegionState
from ..rendering.renderer import Renderer
from ..rendering.templates import Placeholder, Shell
from ..security.headers import NOT_FOR_ROBOTS, new_nonce, secure_headers
from .live_pages import LivePages


def accepts_stream(request: Request) -> bool:
    """Whether a page is wanted whole over HTTP: ``?plain=1`` says so, and so does a client that does not ask
    for HTML by name, as every browser does."""
    asked = request.query_params.get("plain")
    if asked is not None:
        return asked not in {"0", "no", "false"}
    return "text/html" not in request.headers.get("accept", "")


class StreamingPage(StreamingResponse):
    """A page that is being written, streamed."""

    def __init__(
        self, jobs: JobQueue, live_pages: LivePages, renderer: Renderer, job: PageJob, frames: str = ""
    ) -> None:
        nonce = new_nonce()
        headers = {
            **secure_headers(nonce, frames),
            "cache-control": "no-store",
            **NOT_FOR_ROBOTS,
            "x-accel-buffering": "no",
        }
        super().__init__(_stream(jobs, live_pages, renderer, job, nonce), media_type="text/html", headers=headers)


async def _stream(
    jobs: JobQueue, live_pages: LivePages, renderer: Renderer, job: PageJob, nonce: str
) -> AsyncIterator[str]:
    subscriber = Subscriber()
    job.subscribe(subscriber)
    try:
        shell = live_pages.shell(job, placeholders=True)
        for piece in shell.pieces():
            if isinstance(piece, str):
                yield insert_nonce(piece, nonce)
            elif piece.name == COLOPHON:
                async for text in _colophon(renderer, job, subscriber):
                    yield insert_nonce(text, nonce)
            else:
                async for text in _region(live_pages, job, shell, piece, subscriber):
                    yield insert_nonce(text, nonce)
    finally:
        jobs.detach(job, subscriber)


async def _region(
    live_pages: LivePages, job: PageJob, shell: Shell, hole: Placeholder, subscriber: Subscriber
) -> AsyncIterator[str]:
    region_job = job.regions[hole.name]
    frame = _around(job, shell, region_job)
    sent = 0
    if frame:
        yield frame[0]
    while region_job.state in {"waiting", "writing"} and not job.finished.is_set():
        subscriber.changed.clear()
        if frame and region_job.frame.text:
            drawn = region_job.formatted()
            if drawn.fixed > sent:
                yield drawn.html[sent : drawn.fixed]
                sent = drawn.fixed
        if region_job.state in {"waiting", "writing"} and not job.finished.is_set():
            await subscriber.changed.wait()
    if not frame:
        yield live_pages.block(job, region_job.name)
    else:
        # As plain strings: adding one to Markup would escape it, and what the block puts after its text is HTML.
        yield (str(region_job.formatted().html)[sent:] if region_job.frame.text else "") + frame[1]
    if region_job.state != "written":
        yield str(Markup('<p class="region-error">{}</p>').format(job.message or "This part was not finished."))


def _around(job: PageJob, shell: Shell, region_job: RegionJob) -> tuple[str, str] | None:
    """What the region's block puts before and after its text, if that is all it does.

    A block that does more than print its canvas once (it loops over a value, say) may change anywhere, and can
    only be sent when it is finished.
    """
    if region_job.canvas.schema is not None:
        return None
    around = None
    ends: tuple[tuple[RegionState, int], ...] = (("writing", 16), ("written", 32))
    # Drawn for its beginning and for its end: what stands around the text must be the same for both.
    for state, length in ends:
        probe = f"probe-{secrets.token_hex(length)}"
        region = Region(
            region_job.name, state=state, number=length, html=Markup(probe), text=probe, settled=state == "written"
        )
        try:
            before, found, after = shell.region(region, job.view()).partition(probe)
        except UnwrittenError:
            return None
        if not found or probe in after or around not in (None, (before, after)):
            return None
        around = (before, after)
    return around


async def _colophon(renderer: Renderer, job: PageJob, subscriber: Subscriber) -> AsyncIterator[str]:
    """The colophon, with the figures, if everything before it has come to its end by now."""
    going_on = {"waiting", "writing"}
    while not job.finished.is_set() and all(w.state not in going_on for w in job.regions.values()):
        subscriber.changed.clear()
        if not job.finished.is_set():
            await subscriber.changed.wait()
    yield str(renderer.colophon_element(job.view()))
