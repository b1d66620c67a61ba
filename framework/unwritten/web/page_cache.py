"""The page cache: written pages as they are drawn, sent again while nothing that they were drawn from has changed."""

from __future__ import annotations

import asyncio
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
from ..core.tracing import note_page, step
from ..formats.page import Page
from ..generation.job_starter import JobStarter
from ..generation.region_job import RegionJob
from ..rendering.blocks import LiveRegion
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
"""Stored pages whose rendered HTML is held in memory."""


@dataclass(frozen=True, slots=True)
class RenderedPage:
    """A kept page, drawn. It is sent again while nothing that it was drawn from has changed.

    Attributes:
        page: what the page function asked for.
        stamp: the store's stamp when it was drawn: links turn blue when their pages are written. And whether links
            were signed.
        pieces: the HTML between the places where the nonce belongs; with forms, where other things belong too, whole.
        tag: its ETag; "" if it must be sent each time, because each sending has keys of its own.
        live: its regions of state.
        at: when it was drawn: the tokens in its forms grow old.
    """

    page: Page
    stamp: tuple[int, bool, str]
    pieces: tuple[bytes, ...] | str
    tag: str
    live: Mapping[str, LiveRegion]
    at: float

    def is_good(self, page: Page, stamp: tuple[int, bool, str], now: float) -> bool:
        """Whether it may be sent again."""
        return self.stamp == stamp and self.page == page and (bool(self.tag) or now - self.at < FORM_REUSE)

    def response(self, known_tag: str | None, frames: str) -> Response:
        """It with a new nonce; or a word that the browser has it, if that is what ``known_tag`` says.

        Args:
            known_tag: the ETag of what the browser has.
            frames: what may be shown in frames on it; see ``secure_headers``.
        """
        if isinstance(self.pieces, str):
            # Without a tag: a browser that showed its own copy again would send a form with a key that was used.
            return page_response(self.pieces, headers={"cache-control": "no-cache"}, frames=frames)
        headers = {"cache-control": "no-cache", "etag": self.tag}
        if known_tag == self.tag:
            return Response(status_code=304, headers=headers)
        nonce = new_nonce()
        content = nonce.encode().join(self.pieces)
        headers = {**secure_headers(nonce, frames), **headers, "content-type": "text/html; charset=utf-8"}
        return Response(content, headers=headers)


class PageCache:
    """Renders stored pages, and keeps the result while nothing it was rendered from has changed.

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
        self._notes: set[asyncio.Task[None]] = set()

    def clear(self) -> None:
        """Forget all: templates have changed."""
        self._pages.clear()

    def rendered(self, page_request: PageRequest, *, opened: bool) -> RenderedPage | None:
        """A page that is written, or that needs no writing, drawn. None if a canvas of it is missing.

        Args:
            click: which page.
            opened: whether somebody sees it now.
        """
        stamp = (self._store.stamp(), self._signed_links.required, self._mount.prefix)
        drawn = self._pages.get(page_request.key)
        now = time.monotonic()
        if drawn is not None and drawn.is_good(page_request.page, stamp, now):
            note_page(page_request.key, "kept, and sent as it was drawn before")
            return drawn
        kept, region_jobs = None, dict[str, RegionJob]()
        if page_request.page.canvases:
            kept = self._store.get(page_request.key)
            if kept is None:
                return None
            region_jobs = self._starter.region_jobs(
                page_request, self._resolver.linker(page_request), kept.canvases, remember=False
            )
            if any(region_job.state != "written" for region_job in region_jobs.values()):
                return None  # the author has changed the page since
        waited = kept is not None and kept.provenance.ahead == UNOPENED
        note_page(page_request.key, "kept in the database, and drawn now")
        shown = self._first(kept) if kept and waited and opened else kept
        with step("drawing"):
            shell = self._draw(page_request, shown, region_jobs, first=opened and waited)
        tag, pieces = "", None
        if FORM_KEY not in shell.html:
            tag = f'W/"{hashlib.blake2b(shell.html.encode(), digest_size=12).hexdigest()}"'
            pieces = tuple(piece.encode() for piece in shell.html.split(NONCE))
        drawn = RenderedPage(page_request.page, stamp, pieces or shell.html, tag, shell.live, now)
        if waited:
            return drawn  # who comes next sees it otherwise
        self._pages[page_request.key] = drawn
        return drawn

    def old_version(self, page_request: PageRequest, version: str) -> Response:
        """A version of a page, by its number.

        Raises:
            BadAddress: if there is none of that number.
        """
        kept = self._store.get(page_request.key, int(version)) if version.isdecimal() and len(version) < 10 else None
        if kept is None:
            raise BadAddress(f"The page {page_request.title!r} has no version {version!r}.", 404)
        region_jobs = self._starter.region_jobs(
            page_request, self._resolver.linker(page_request), kept.canvases, remember=False
        )
        html = self._draw(page_request, kept, region_jobs).html
        return page_response(html, headers={"cache-control": "no-cache"}, frames=page_request.frames)

    def _first(self, kept: StoredPage) -> StoredPage:
        """A page that was written ahead, as its first reader sees it. That they have come is noted meanwhile."""
        seconds = round((datetime.now(UTC) - kept.written_at).total_seconds(), 1)

        async def note() -> None:
            try:
                await self._store.mark_opened(kept.key, seconds)
            except StoreError as error:
                log.warning("That %s was opened could not be noted: %s", kept.key, error)

        task = asyncio.create_task(note(), name=f"noting {kept.key}")
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)
        return replace(kept, provenance=replace(kept.provenance, ahead=seconds))

    def _draw(
        self,
        page_request: PageRequest,
        kept: StoredPage | None,
        region_jobs: Mapping[str, RegionJob],
        *,
        first: bool = False,
    ) -> Shell:
        regions = {name: region_job.region() for name, region_job in region_jobs.items()}
        return self._renderer.shell(self.view(page_request, kept, first=first), page_request.page, regions)

    def view(self, page_request: PageRequest, kept: StoredPage | None, *, first: bool = False) -> PageView:
        """A page as its template sees it.

        Args:
            click: which page.
            kept: it, if it is written.
            first: whether this is the first time that somebody sees it.
        """
        if kept is None:
            return PageView(key=page_request.key, title=page_request.title)
        return PageView(
            key=page_request.key,
            title=page_request.title,
            state="written",
            version=kept.version,
            versions=kept.versions,
            written_at=kept.written_at,
            kept=True,
            provenance=kept.provenance,
            first=first,
            change=kept.change,
        )
