"""Stored pages as HTML. A rendered page is served again until something that it was rendered from has changed."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from cachetools import LRUCache
from starlette.responses import Response

from ..core.errors import BadAddress, StoreError
from ..core.mount import MountPoint
from ..core.tracing import record_page, step
from ..formats.page import Page
from ..generation.job_starter import JobStarter
from ..generation.region_job import RegionJob
from ..rendering.blocks import StateRegion
from ..rendering.document import FORM_KEY, NONCE, page_response
from ..rendering.regions import PageView
from ..rendering.renderer import Renderer
from ..rendering.templates import Shell
from ..routing.resolver import PageResolver
from ..routing.routes import PageRequest
from ..security.headers import new_nonce, secure_headers
from ..security.signed_links import SignedLinks
from ..security.signer import FORM_REUSE
from ..storage.pages import PageStore
from ..storage.records import UNOPENED, StoredPage

log = logging.getLogger("unwritten")

_CACHED_PAGES = 512
"""Rendered pages that are held in memory."""


@dataclass(frozen=True, slots=True)
class RenderedPage:
    """A stored page as HTML.

    Attributes:
        page: What the page function returned.
        version: What else the HTML depends on: the version of the database, because links change their class when
            their pages are written; whether links are signed; and the prefix of the app.
        body: The HTML, split where the nonce belongs. A page with forms is one string: each of its responses also
            needs new form keys.
        etag: Its ETag. Empty for a page with forms.
        state_regions: Its state regions.
        rendered_at: When it was rendered, in monotonic seconds. The tokens of its forms expire.
    """

    page: Page
    version: tuple[int, bool, str]
    body: tuple[bytes, ...] | str
    etag: str
    state_regions: Mapping[str, StateRegion]
    rendered_at: float

    def is_fresh(self, page: Page, version: tuple[int, bool, str], now: float) -> bool:
        """True if it may be served now."""
        return (
            self.version == version and self.page == page and (bool(self.etag) or now - self.rendered_at < FORM_REUSE)
        )

    def response(self, if_none_match: str | None, frame_src: str) -> Response:
        """Return a response with a new nonce, or 304 (Not Modified).

        Args:
            if_none_match: The ETag of the browser's copy.
            frame_src: What the page may embed; see ``secure_headers``.
        """
        if isinstance(self.body, str):
            # Without an ETag: a browser that reused its copy would submit a form key a second time.
            return page_response(self.body, headers={"cache-control": "no-cache"}, frame_src=frame_src)
        if if_none_match == self.etag:
            return Response(status_code=304, headers={"cache-control": "no-cache", "etag": self.etag})
        return _CachedPage(self.body, self.etag, new_nonce(), frame_src)


class _CachedPage(Response):
    """A response whose headers are encoded once: this is the hottest path of an app.

    Args:
        body: The HTML, split where the nonce belongs.
        etag: Its ETag.
        nonce: The nonce of this response.
        frame_src: What the page may embed.
    """

    def __init__(self, body: tuple[bytes, ...], etag: str, nonce: str, frame_src: str) -> None:
        self.status_code = 200
        self.background = None
        self.body = nonce.encode().join(body)
        self.raw_headers = [
            (name, value.replace(_NONCE, nonce.encode()) if name == b"content-security-policy" else value)
            for name, value in _cached_headers(frame_src)
        ]
        self.raw_headers += [(b"etag", etag.encode()), (b"content-length", str(len(self.body)).encode())]


_NONCE = b"{nonce}"


@functools.lru_cache(64)
def _cached_headers(frame_src: str) -> list[tuple[bytes, bytes]]:
    """Return the headers that all cached pages have in common, encoded."""
    headers = {
        **secure_headers(_NONCE.decode(), frame_src),
        "cache-control": "no-cache",
        "content-type": "text/html; charset=utf-8",
    }
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


class PageCache:
    """Renders stored pages, and holds the results in memory.

    Args:
        mount: The prefix under which the app is served.
        resolver: Decides where links lead.
        renderer: The app's renderer.
        store: The stored pages.
        starter: Makes regions of stored canvases.
        signed_links: Whether links are signed.
    """

    def __init__(
        self,
        *,
        mount: MountPoint,
        resolver: PageResolver,
        renderer: Renderer,
        store: PageStore,
        starter: JobStarter,
        signed_links: SignedLinks,
    ) -> None:
        self._mount = mount
        self._resolver = resolver
        self._renderer = renderer
        self._store = store
        self._starter = starter
        self._signed_links = signed_links
        self._pages: LRUCache[str, RenderedPage] = LRUCache(_CACHED_PAGES)
        self._tasks: set[asyncio.Task[None]] = set()  # asyncio itself holds only weak references to tasks

    def clear(self) -> None:
        """Remove all pages, because templates have changed."""
        self._pages.clear()

    def rendered(self, page_request: PageRequest, *, opened: bool) -> RenderedPage | None:
        """Return a page whose canvases are all stored, or that has none. None if a canvas is missing.

        Args:
            page_request: The page.
            opened: True if a visitor sees it now. A prefetched page remembers its first visitor.
        """
        version = (self._store.data_version(), self._signed_links.required, self._mount.prefix)
        rendered = self._pages.get(page_request.key)
        now = time.monotonic()
        if rendered is not None and rendered.is_fresh(page_request.page, version, now):
            record_page(page_request.key, "stored, rendered before")
            return rendered
        stored, region_jobs = None, dict[str, RegionJob]()
        if page_request.page.canvases:
            stored = self._store.get(page_request.key)
            if stored is None:
                return None
            region_jobs = self._region_jobs(page_request, stored)
            if any(region_job.state != "written" for region_job in region_jobs.values()):
                return None  # the page function returns other canvases now
        unopened = stored is not None and stored.provenance.opened_after == UNOPENED
        record_page(page_request.key, "stored, rendered now")
        if stored and unopened and opened:
            stored = self._mark_opened(stored)
        with step("rendering"):
            shell = self._render(page_request, stored, region_jobs, first_view=opened and unopened)
        etag, body = "", None
        if FORM_KEY not in shell.html:
            etag = f'W/"{hashlib.blake2b(shell.html.encode(), digest_size=12).hexdigest()}"'
            body = tuple(piece.encode() for piece in shell.html.split(NONCE))
        rendered = RenderedPage(page_request.page, version, body or shell.html, etag, shell.state_regions, now)
        if not unopened:  # the next visitor of a prefetched page sees another colophon
            self._pages[page_request.key] = rendered
        return rendered

    def old_version(self, page_request: PageRequest, version: str) -> Response:
        """Respond with a version of a page.

        Args:
            page_request: The page.
            version: The number of the version, from the URL.

        Raises:
            BadAddress: If the page has no such version.
        """
        is_number = version.isascii() and version.isdecimal() and len(version) < 10
        stored = self._store.get(page_request.key, int(version)) if is_number else None
        if stored is None:
            raise BadAddress(f"The page {page_request.title!r} has no version {version!r}.", 404)
        html = self._render(page_request, stored, self._region_jobs(page_request, stored)).html
        return page_response(html, headers={"cache-control": "no-cache"}, frame_src=page_request.frame_src)

    def _region_jobs(self, page_request: PageRequest, stored: StoredPage) -> dict[str, RegionJob]:
        linker = self._resolver.linker(page_request)
        return self._starter.region_jobs(page_request, linker, stored.canvases, recall=False)

    def _render(
        self,
        page_request: PageRequest,
        stored: StoredPage | None,
        region_jobs: Mapping[str, RegionJob],
        *,
        first_view: bool = False,
    ) -> Shell:
        regions = {name: region_job.region() for name, region_job in region_jobs.items()}
        return self._renderer.shell(stored_view(page_request, stored, first_view), page_request.page, regions)

    def _mark_opened(self, stored: StoredPage) -> StoredPage:
        """Return a prefetched page as its first visitor sees it. The visit is stored in the background."""
        seconds = round((datetime.now(UTC) - stored.written_at).total_seconds(), 1)

        async def save() -> None:
            try:
                await self._store.mark_opened(stored.key, seconds)
            except StoreError as error:
                log.warning("%s: its first visit could not be stored: %s", stored.key, error)

        task = asyncio.create_task(save(), name=f"first visit of {stored.key}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return replace(stored, provenance=replace(stored.provenance, opened_after=seconds))


def stored_view(page_request: PageRequest, stored: StoredPage | None, first_view: bool = False) -> PageView:
    """Return a stored page as its template sees it.

    Args:
        page_request: The page.
        stored: The version to show. None for a page without stored canvases.
        first_view: True for the first visitor of a prefetched page.
    """
    if stored is None:
        return PageView(key=page_request.key, title=page_request.title)
    return PageView(
        key=page_request.key,
        title=page_request.title,
        state="written",
        version=stored.version,
        versions=stored.versions,
        written_at=stored.written_at,
        stored=True,
        provenance=stored.provenance,
        first_view=first_view,
        change=stored.change,
    )
