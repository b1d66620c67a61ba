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


def accepts_stream(request: Request) -> bool:
    """Whether a page is wanted whole over HTTP: ``?plain=1`` says so, and so does a client that does not ask
    for HTML by name, as every browser does."""
    asked = request.query_params.get("plain")
    if asked is not None:
        return asked not in {"0", "no", "false"}
    return "text/html" not in request.headers.get("accept", "")


class StreamingPage(StreamingResponse):
    """A page that is being written, streamed."""

    def __init__(self, generations: JobQueue, views: Renderer, generation: PageJob, frames: str = "") -> None:
        nonce = new_nonce()
        headers = {
            **secure_headers(nonce, frames),
            "cache-control": "no-store",
            **NOT_FOR_ROBOTS,
            "x-accel-buffering": "no",
        }
        super().__init__(_stream(generations, views, generation, nonce), media_type="text/html", headers=headers)


async def _stream(generations: JobQueue, views: Renderer, generation: PageJob, nonce: str) -> AsyncIterator[str]:
    watcher = Subscriber()
    generation.subscribe(watcher)
    try:
        shell = views.generation(generation, holes=True)
        for piece in shell.pieces():
            if isinstance(piece, str):
                yield insert_nonce(piece, nonce)
            elif piece.name == COLOPHON:
                async for text in _colophon(views, generation, watcher):
                    yield insert_nonce(text, nonce)
            else:
                async for text in _region(generation, shell, piece, watcher):
                    yield insert_nonce(text, nonce)
    finally:
        generations.detach(generation, watcher)


async def _region(generation: PageJob, shell: Shell, hole: Placeholder, watcher: Subscriber) -> AsyncIterator[str]:
    writing = generation.regions[hole.name]
    frame = _around(generation, shell, writing)
    sent = 0
    if frame:
        yield frame[0]
    while writing.state in {"waiting", "writing"} and not generation.finished.is_set():
        watcher.changed.clear()
        if frame and writing.frame.text:
            drawn = writing.formatted()
            if drawn.fixed > sent:
                yield drawn.html[sent : drawn.fixed]
                sent = drawn.fixed
        if writing.state in {"waiting", "writing"} and not generation.finished.is_set():
            await watcher.changed.wait()
    if not frame:
        yield generation.inner(writing.name)
    else:
        # As plain strings: adding one to Markup would escape it, and what the block puts after its text is HTML.
        yield (str(writing.formatted().html)[sent:] if writing.frame.text else "") + frame[1]
    if writing.state != "written":
        yield str(Markup('<p class="broken-off">{}</p>').format(generation.message or "This part was not finished."))


def _around(generation: PageJob, shell: Shell, writing: RegionJob) -> tuple[str, str] | None:
    """What the region's block puts before and after its text, if that is all it does.

    A block that does more than print its canvas once (it loops over a value, say) may change anywhere, and can
    only be sent when it is finished.
    """
    if writing.canvas.schema is not None:
        return None
    around = None
    ends: tuple[tuple[RegionState, int], ...] = (("writing", 16), ("written", 32))
    # Drawn for its beginning and for its end: what stands around the text must be the same for both.
    for state, length in ends:
        probe = f"probe-{secrets.token_hex(length)}"
        region = Region(
            writing.name, state=state, number=length, html=Markup(probe), text=probe, settled=state == "written"
        )
        try:
            before, found, after = shell.region(region, generation.view()).partition(probe)
        except UnwrittenError:
            return None
        if not found or probe in after or around not in (None, (before, after)):
            return None
        around = (before, after)
    return around


async def _colophon(views: Renderer, generation: PageJob, watcher: Subscriber) -> AsyncIterator[str]:
    """The colophon, with the figures, if everything before it has come to its end by now."""
    going_on = {"waiting", "writing"}
    while not generation.finished.is_set() and all(w.state not in going_on for w in generation.regions.values()):
        watcher.changed.clear()
        if not generation.finished.is_set():
            await watcher.changed.wait()
    yield str(views.colophon_element(generation.view()))
