"""Stored pages as HTML. A rendered page is served again until something that it was rendered from has changed."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from weakref import WeakValueDictionary

from cachetools import LRUCache
from starlette.responses import Response
from starlette.types import Scope

from ..core.background_tasks import BackgroundTasks
from ..core.errors import BadURL, StoreError
from ..core.localization import gettext_lazy as _
from ..core.mount import MountPoint
from ..core.tracing import current_trace
from ..formats.page import Page
from ..generation.freshness import Freshness, freshness_of
from ..generation.job_starter import JobStarter
from ..generation.region_job import RegionJob
from ..rendering.blocks import StateRegion
from ..rendering.document import FORM_KEY, NONCE, page_response
from ..rendering.regions import PageView
from ..rendering.renderer import Renderer
from ..rendering.templates import Shell
from ..routing.routes import PageRequest, PageRoute
from ..security.headers import is_prefetch, new_nonce, secure_headers
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
        version: What else the HTML depends on: whether links are signed; the version of the database, because links
            change their class when their pages are written; and the prefix of the app.
        body: The HTML, split where the nonce belongs. A page with forms is one string: each of its responses also
            needs new form keys.
        etag: Its ETag. Empty for a page with forms.
        headers: The headers that all responses with this HTML have in common, encoded.
        state_regions: Its state regions.
        rendered_at: When it was rendered, in seconds of the wall clock: the tokens of its forms expire by that clock.
        cache_headers: The headers for caches; see ``cache_headers``.
        expires_at: When its first text becomes older than its author allows, by the same clock. None: never.
    """

    page: Page
    version: tuple[bool, int, str]
    body: tuple[bytes, ...] | str
    etag: bytes
    headers: Sequence[tuple[bytes, bytes]]
    state_regions: Mapping[str, StateRegion]
    rendered_at: float
    cache_headers: Mapping[str, str]
    expires_at: float | None = None

    def is_current(self, page: Page, version: tuple[bool, int, str]) -> bool:
        """True if it may be served now."""
        return (
            self.version == version
            and (self.page is page or self.page == page)
            and (bool(self.etag) or abs(time.time() - self.rendered_at) < FORM_REUSE)
        )

    def response(self, scope: Scope, frame_src: str) -> Response:
        """Return a response with a new nonce, or 304 (Not Modified).

        Args:
            scope: The request. It may have the ETag of the browser's copy.
            frame_src: What the page may embed; see ``secure_headers``.
        """
        if isinstance(self.body, str):
            # Without an ETag: a browser that reused its copy would submit a form key a second time.
            return page_response(self.body, headers=self.cache_headers, frame_src=frame_src)
        for name, value in scope["headers"]:
            if name == b"if-none-match" and value == self.etag:
                return Response(status_code=304, headers={**self.cache_headers, "etag": self.etag.decode()})
        return _CachedPage(self.body, self.headers, frame_src)


class _CachedPage(Response):
    """A response whose headers are encoded once: this is the hottest path of an app.

    Args:
        body: The HTML, split where the nonce belongs.
        headers: All headers except the content security policy.
        frame_src: What the page may embed.
    """

    def __init__(self, body: tuple[bytes, ...], headers: Sequence[tuple[bytes, bytes]], frame_src: str) -> None:
        nonce = new_nonce().encode()
        before, after = _policy(frame_src)
        self.status_code = 200
        self.background = None
        self.body = nonce.join(body)
        self.raw_headers = [(b"content-security-policy", before + nonce + after), *headers]


@functools.lru_cache(64)
def _policy(frame_src: str) -> tuple[bytes, bytes]:
    """Return the content security policy before and after its nonce, encoded."""
    before, after = secure_headers(NONCE, frame_src)["content-security-policy"].split(NONCE)
    return before.encode("latin-1"), after.encode("latin-1")


def cache_headers(route: PageRoute, *, is_open: bool) -> dict[str, str]:
    """Return the headers for caches: browsers ask each time.

    Args:
        route: The route of the page.
        is_open: False if it may be different for another visitor, or refused. Then only browsers hold copies.
    """
    # Programs get the page as JSON at the same URL.
    vary = "Accept" if route.vary is None else "Accept, Accept-Language, Authorization, Cookie"
    return {"cache-control": "no-cache" if is_open else "private, no-cache", "vary": vary}


def _encoded_headers(etag: str, body: tuple[bytes, ...], for_caches: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Return the headers of all responses with this HTML, encoded, except the policy, which has the nonce."""
    headers = {
        **secure_headers(""),
        **for_caches,
        "content-type": "text/html; charset=utf-8",
        "etag": etag,
        "content-length": str(sum(map(len, body)) + (len(body) - 1) * len(new_nonce())),
    }
    del headers["content-security-policy"]
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


class PageCache:
    """Renders stored pages, and holds the results in memory.

    Args:
        mount: The prefix under which the app is served.
        renderer: The app's renderer.
        store: The stored pages.
        starter: Makes regions of stored canvases.
        signed_links: Whether links are signed.
        is_open: True if a page is the same for all visitors; see ``PageAccess.is_open``.
    """

    def __init__(
        self,
        *,
        mount: MountPoint,
        renderer: Renderer,
        store: PageStore,
        starter: JobStarter,
        signed_links: SignedLinks,
        is_open: Callable[[str], bool],
    ) -> None:
        self._mount = mount
        self._renderer = renderer
        self._store = store
        self._starter = starter
        self._signed_links = signed_links
        self._is_open = is_open
        self._pages: LRUCache[str, RenderedPage] = LRUCache(_CACHED_PAGES)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks = BackgroundTasks()
        self._data_version: int | None = None

    def clear(self) -> None:
        """Remove all pages, because templates have changed."""
        self._pages.clear()

    async def rendered(self, page_request: PageRequest, *, is_visit: bool) -> RenderedPage | None:
        """Return a page whose canvases are all stored, or that has none. None if a canvas is missing.

        Args:
            page_request: The page.
            is_visit: True if a visitor sees it now. A prefetched page remembers its first visitor.
        """
        if self._data_version is None:
            # Whatever runs in this iteration of the event loop was received before. So no client knows a newer version.
            self._data_version = self._store.data_version()
            asyncio.get_running_loop().call_soon(self._forget_version)
        version = (self._signed_links.required, self._data_version, self._mount.prefix)
        rendered = self._pages.get(page_request.key)
        trace = current_trace.get()
        if rendered is not None and rendered.is_current(page_request.page, version):
            if trace:
                trace.record_page(page_request.key, "stored, rendered before")
            return rendered
        stored, region_jobs = None, dict[str, RegionJob]()
        if page_request.page.canvases:
            stored = self._store.get(page_request.key)
            if stored is None:
                return None
            # Many visitors may open a long page before it is rendered. It is formatted for the first of them.
            async with self._locks.setdefault(page_request.key, asyncio.Lock()):
                rendered = self._pages.get(page_request.key)
                if rendered is not None and rendered.is_current(page_request.page, version):
                    return rendered
                region_jobs = await self._region_jobs(page_request, stored)
            if any(region_job.state != "written" for region_job in region_jobs.values()):
                return None  # the page function returns other canvases now
        if trace:
            trace.record_page(page_request.key, "stored, rendered now")
        unopened = stored is not None and stored.provenance.opened_after == UNOPENED
        is_first = unopened and is_visit and not is_prefetch(page_request.request.headers)
        is_first = is_first and not self._store.database.read_only
        if stored and is_first:
            stored = self._mark_opened(stored)
        freshness = freshness_of(page_request, stored, self._store) if stored else None
        view = stored_view(page_request.key, page_request.title, stored, is_first, freshness)
        with trace.step("rendering") if trace else nullcontext():
            shell = self._render(view, page_request.page, region_jobs)
            rendered = _rendered(page_request, version, shell, self._cache_headers(page_request))
        if freshness is not None:
            rendered = replace(rendered, expires_at=freshness.expires_at)
        if not unopened:  # the next visitor of a prefetched page sees another colophon
            self._pages[page_request.key] = rendered
        return rendered

    def _forget_version(self) -> None:
        self._data_version = None

    async def old_version(self, page_request: PageRequest, version: str) -> Response:
        """Respond with a version of a page.

        Args:
            page_request: The page.
            version: The number of the version, from the URL.

        Raises:
            BadURL: If the page has no such version.
        """
        stored = stored_version(self._store, page_request, version)
        region_jobs = await self._region_jobs(page_request, stored)
        view = stored_view(page_request.key, page_request.title, stored)
        html = self._render(view, page_request.page, region_jobs).html
        return page_response(html, headers=self._cache_headers(page_request), frame_src=page_request.frame_src)

    def _cache_headers(self, page_request: PageRequest) -> dict[str, str]:
        return cache_headers(page_request.route, is_open=self._is_open(page_request.key))

    async def _region_jobs(self, page_request: PageRequest, stored: StoredPage) -> dict[str, RegionJob]:
        return await self._starter.region_jobs(page_request, stored.canvases)

    def _render(self, view: PageView, page: Page, region_jobs: Mapping[str, RegionJob]) -> Shell:
        return self._renderer.shell(view, page, {name: job.region() for name, job in region_jobs.items()})

    def _mark_opened(self, stored: StoredPage) -> StoredPage:
        """Return a prefetched page as its first visitor sees it. The visit is stored in the background."""
        # The clock may have been set back since.
        seconds = max(0.0, round((datetime.now(UTC) - stored.written_at).total_seconds(), 1))

        async def save() -> None:
            try:
                await self._store.mark_opened(stored.key, seconds)
            except StoreError as error:
                log.warning("%s: its first visit could not be stored: %s", stored.key, error)

        self._tasks.start(save(), f"first visit of {stored.key}")
        return replace(stored, provenance=replace(stored.provenance, opened_after=seconds))


def _rendered(
    page_request: PageRequest, version: tuple[bool, int, str], shell: Shell, for_caches: Mapping[str, str]
) -> RenderedPage:
    """Return a shell as it is cached. A page with forms has no ETag and no common headers."""
    now, page = time.time(), page_request.page
    if FORM_KEY in shell.html:
        return RenderedPage(page, version, shell.html, b"", (), shell.state_regions, now, for_caches)
    etag = f'W/"{hashlib.blake2b(shell.html.encode(), digest_size=12).hexdigest()}"'
    body = tuple(piece.encode() for piece in shell.html.split(NONCE))
    headers = _encoded_headers(etag, body, for_caches)
    return RenderedPage(page, version, body, etag.encode(), headers, shell.state_regions, now, for_caches)


def stored_version(store: PageStore, page_request: PageRequest, version: str) -> StoredPage:
    """Return the version of a page whose number is in a URL.

    Raises:
        BadURL: If the page has no such version.
    """
    is_number = version.isascii() and version.isdecimal() and len(version) < 10
    stored = store.get(page_request.key, int(version)) if is_number else None
    if stored is None:
        message = _("The page '%(title)s' has no version %(version)s.", title=page_request.title, version=version)
        raise BadURL(message, 404)
    return stored


def stored_view(
    key: str, title: str, stored: StoredPage | None, first_view: bool = False, freshness: Freshness | None = None
) -> PageView:
    """Return a stored page as its template sees it.

    Args:
        key: The page's key.
        title: The page's title.
        stored: The version to show. None for a page without stored canvases.
        first_view: True for the first visitor of a prefetched page.
        freshness: How old its texts are. None: they stay.
    """
    if stored is None:
        return PageView(key=key, title=title)
    return PageView(
        key=key,
        title=title,
        state="written",
        version=stored.version,
        versions=stored.versions,
        written_at=stored.written_at,
        stored=True,
        provenance=stored.provenance,
        first_view=first_view,
        change=stored.change,
        as_of=freshness.as_of if freshness is not None else None,
    )
