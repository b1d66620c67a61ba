"""Pages over plain HTTP, streamed in document order, for browsers without JavaScript and for command-line clients.

The text before the first region is sent at once. Of each region, the part that will not change is sent as it is
generated, and the rest when the region is finished.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from ..core.errors import UnwrittenError
from ..core.localization import Language
from ..core.localization import gettext_lazy as _
from ..formats.page import Page
from ..generation.job_queue import JobQueue
from ..generation.page_job import PageJob, Subscriber
from ..generation.region_job import RegionJob
from ..rendering.document import COLOPHON, insert_nonce
from ..rendering.regions import Region, RegionState
from ..rendering.renderer import Renderer
from ..rendering.templates import Placeholder, Shell
from ..routing.page_function import PLAIN
from ..security.headers import NO_STORE, new_nonce, secure_headers
from .job_renderer import JobRenderer
from .transport import abort

SEND_TIMEOUT = 30.0
"""Seconds after which a client that does not read is disconnected."""

_UNFINISHED = {"waiting", "writing"}

_STARTED_AGAIN = _("This part was started again:")


def accepts_stream(request: Request) -> bool:
    """True if a page should be streamed: for ``?plain=1``, and for clients that do not list HTML in Accept."""
    plain = request.query_params.get(PLAIN)
    if plain is not None:
        return plain not in {"0", "no", "false"}
    return "text/html" not in request.headers.get("accept", "")


class StreamingPage(StreamingResponse):
    """The response that streams a page while it is generated.

    Args:
        jobs: The queue, which is notified when the client disconnects.
        job_renderer: Renders the regions.
        renderer: Renders the colophon.
        job: The page.
        page: What the page function returned for this visitor. None: it is the same for all visitors.
        frame_src: What the page may embed; see ``secure_headers``.
    """

    def __init__(
        self,
        jobs: JobQueue,
        job_renderer: JobRenderer,
        renderer: Renderer,
        job: PageJob,
        page: Page | None = None,
        frame_src: str = "",
    ) -> None:
        nonce = new_nonce()
        headers = {
            **secure_headers(nonce, frame_src),
            **NO_STORE,
            "x-accel-buffering": "no",
        }
        super().__init__(
            _stream(jobs, job_renderer, renderer, job, page, nonce), media_type="text/html", headers=headers
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream the page. A client that does not read is disconnected, which ends its subscription."""

        async def send_in_time(message: Message) -> None:
            try:
                async with asyncio.timeout(SEND_TIMEOUT):
                    await send(message)
            except TimeoutError:
                if not abort(scope):
                    raise

        await super().__call__(scope, receive, send_in_time)


async def _stream(
    jobs: JobQueue, job_renderer: JobRenderer, renderer: Renderer, job: PageJob, page: Page | None, nonce: str
) -> AsyncIterator[str]:
    subscriber = Subscriber()
    job.subscribe(subscriber)
    try:
        shell = job_renderer.shell(job, page, placeholders=True)
        for part in shell.parts():
            if isinstance(part, str):
                yield insert_nonce(part, nonce)
            elif part.name == COLOPHON:
                yield insert_nonce(await _colophon(renderer, job, subscriber), nonce)
            else:
                language = renderer.language(job.page.lang)
                async for html in _region(job_renderer, job, page, shell, part, subscriber, language):
                    yield insert_nonce(html, nonce)
    finally:
        jobs.unsubscribe(job, subscriber)


async def _region(
    job_renderer: JobRenderer,
    job: PageJob,
    page: Page | None,
    shell: Shell,
    placeholder: Placeholder,
    subscriber: Subscriber,
    language: Language,
) -> AsyncIterator[str]:
    region_job = job.regions[placeholder.name]
    wrapper = _block_wrapper(job, shell, region_job)
    sent = ""
    if wrapper:
        yield wrapper[0]
    while region_job.state in _UNFINISHED and not job.finished.is_set():
        subscriber.changed.clear()
        if wrapper and region_job.frame.text:
            formatted = region_job.formatted()
            html = str(formatted.html)
            if formatted.fixed > len(sent) and html.startswith(sent):
                yield html[len(sent) : formatted.fixed]
                sent = html[: formatted.fixed]
        if region_job.state in _UNFINISHED and not job.finished.is_set():
            await subscriber.changed.wait()
    if not wrapper:
        yield job_renderer.block(job, region_job.name, page)
    else:
        # As plain strings: adding one to Markup would escape it, and what the block puts after its text is HTML.
        html = str(region_job.formatted().html) if region_job.frame.text else ""
        # Another text follows if the region was started again, after a failed attempt or by another process.
        again = "" if html.startswith(sent) else f"<p><em>{language.text(_STARTED_AGAIN)}</em></p>"
        yield again + html.removeprefix("" if again else sent) + wrapper[1]
    if region_job.state != "written":
        yield str(
            Markup('<p class="region-error">{}</p>').format(
                language.text(job.message or _("This part was not finished."))
            )
        )


def _block_wrapper(job: PageJob, shell: Shell, region_job: RegionJob) -> tuple[str, str] | None:
    """Return the HTML before and after the text in a region's block, or None if the block does more than print it.

    Such a block, one that loops over a value for example, may change anywhere. It is sent when it is finished.
    """
    if region_job.canvas.schema is not None:
        return None
    wrapper = None
    # The block is rendered for two states with a random text: the HTML around the text must be the same.
    states: tuple[tuple[RegionState, int], ...] = (("writing", 16), ("written", 32))
    for state, length in states:
        probe = f"probe-{secrets.token_hex(length)}"
        region = Region(
            region_job.name, state=state, number=length, html=Markup(probe), text=probe, settled=state == "written"
        )
        try:
            before, found, after = shell.render_region(region, job.view()).partition(probe)
        except UnwrittenError:
            return None
        if not found or probe in after or wrapper not in (None, (before, after)):
            return None
        wrapper = (before, after)
    return wrapper


async def _colophon(renderer: Renderer, job: PageJob, subscriber: Subscriber) -> str:
    """Return the colophon. If all regions are finished, wait until the page is stored, so that it has the figures."""
    while not job.finished.is_set() and all(region.state not in _UNFINISHED for region in job.regions.values()):
        subscriber.changed.clear()
        if not job.finished.is_set():
            await subscriber.changed.wait()
    return str(renderer.colophon_element(job.view()))
