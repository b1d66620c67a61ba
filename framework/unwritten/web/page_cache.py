"""The page cache: written pages as they are drawn, sent again while nothing that they were drawn from has changed."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from starlette.responses import Response

from ..core.errors import BadAddress, StoreError
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
from ..security.signer import FRESH
from ..storage.pages import PageStore
from ..storage.records import UNOPENED, StoredPage

log = logging.getLogger("unwritten")


_DRAWN_PAGES = 512
"""Kept pages whose drawn HTML is held in memory."""


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
    stamp: tuple[int, bool]
    pieces: tuple[bytes, ...] | str
    tag: str
    live: Mapping[str, LiveRegion]
    at: float

    def is_good(self, page: Page, stamp: tuple[int, bool], now: float) -> bool:
        """Whether it may be sent again."""
        return self.stamp == stamp and self.page == page and (bool(self.tag) or now - self.at < FRESH)

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
    """Written pages of one app, drawn.

    Args:
        clicks: knows where links lead.
        views: draws.
        store: keeps.
        launcher: makes regions of what is kept.
        gates: whether links are signed.
    """

    def __init__(
        self, *, clicks: PageResolver, views: Renderer, store: PageStore, launcher: JobStarter, gates: SignedLinks
    ) -> None:
        self._clicks = clicks
        self._views = views
        self._store = store
        self._launcher = launcher
        self._gates = gates
        self._drawn: OrderedDict[str, RenderedPage] = OrderedDict()
        self._notes: set[asyncio.Task[None]] = set()

    def clear(self) -> None:
        """Forget all: templates have changed."""
        self._drawn.clear()

    def rendered(self, click: PageRequest, *, opened: bool) -> RenderedPage | None:
        """A page that is written, or that needs no writing, drawn. None if a canvas of it is missing.

        Args:
            click: which page.
            opened: whether somebody sees it now.
        """
        stamp = (self._store.stamp(), self._gates.required)
        drawn = self._drawn.get(click.key)
        now = time.monotonic()
        if drawn is not None and drawn.is_good(click.page, stamp, now):
            note_page(click.key, "kept, and sent as it was drawn before")
            return drawn
        kept, writings = None, dict[str, RegionJob]()
        if click.page.canvases:
            kept = self._store.get(click.key)
            if kept is None:
                return None
            writings = self._launcher.region_jobs(click, self._clicks.linker(click), kept.canvases, remember=False)
            if any(writing.state != "written" for writing in writings.values()):
                return None  # the author has changed the page since
        waited = kept is not None and kept.provenance.ahead == UNOPENED
        note_page(click.key, "kept in the database, and drawn now")
        shown = self._first(kept) if kept and waited and opened else kept
        with step("drawing"):
            shell = self._draw(click, shown, writings, first=opened and waited)
        tag, pieces = "", None
        if FORM_KEY not in shell.html:
            tag = f'W/"{hashlib.blake2b(shell.html.encode(), digest_size=12).hexdigest()}"'
            pieces = tuple(piece.encode() for piece in shell.html.split(NONCE))
        drawn = RenderedPage(click.page, stamp, pieces or shell.html, tag, shell.live, now)
        if waited:
            return drawn  # who comes next sees it otherwise
        self._drawn[click.key] = drawn
        if len(self._drawn) > _DRAWN_PAGES:
            self._drawn.popitem(last=False)
        return drawn

    def old_version(self, click: PageRequest, version: str) -> Response:
        """A version of a page, by its number.

        Raises:
            BadAddress: if there is none of that number.
        """
        kept = self._store.get(click.key, int(version)) if version.isdecimal() and len(version) < 10 else None
        if kept is None:
            raise BadAddress(f"The page {click.title!r} has no version {version!r}.", 404)
        writings = self._launcher.region_jobs(click, self._clicks.linker(click), kept.canvases, remember=False)
        html = self._draw(click, kept, writings).html
        return page_response(html, headers={"cache-control": "no-cache"}, frames=click.frames)

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
        self, click: PageRequest, kept: StoredPage | None, writings: Mapping[str, RegionJob], *, first: bool = False
    ) -> Shell:
        return self._views.shell(self.view(click, kept, first=first), click.page, writings)

    def view(self, click: PageRequest, kept: StoredPage | None, *, first: bool = False) -> PageView:
        """A page as its template sees it.

        Args:
            click: which page.
            kept: it, if it is written.
            first: whether this is the first time that somebody sees it.
        """
        if kept is None:
            return PageView(key=click.key, title=click.title)
        return PageView(
            key=click.key,
            title=click.title,
            state="written",
            version=kept.version,
            versions=kept.versions,
            written_at=kept.written_at,
            kept=True,
            provenance=kept.provenance,
            first=first,
            change=kept.change,
        )
