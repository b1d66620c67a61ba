"""Unfinished pages: what was generated when the server stopped is continued by the next one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from unwritten_engine import Priority

from ..core.errors import StoreError
from ..routing.resolver import PageResolver
from ..storage.pages import PageStore
from ..storage.records import StoredCanvas
from ..storage.unfinished import UnfinishedPageStore
from .job_queue import JobQueue
from .job_starter import JobStarter
from .page_job import JobObserver, PageJob

log = logging.getLogger("unwritten")

RESUME_SECONDS = 2.0
"""Seconds after which the processes of one app look again for pages that another one has left."""

MAX_PAGES = 256
"""Maximum number of unfinished pages that are remembered."""


class UnfinishedPages(JobObserver):
    """Remembers the pages that visitors opened and that a shutdown interrupted. Changes of stored pages are reverted.

    Finished regions are kept and used by the next attempt at the page: by a visitor who opens the page,
    or ``resume``.
    """

    def __init__(self, unfinished: UnfinishedPageStore, store: PageStore, jobs: JobQueue) -> None:
        self._unfinished = unfinished
        self._store = store
        self._jobs = jobs
        self._pages: dict[str, Mapping[str, StoredCanvas]] = {}

    def __contains__(self, key: str) -> bool:
        """True if a page was begun before a shutdown and is still unfinished."""
        return key in self._pages or self._unfinished.exists(key)

    def on_end(self, job: PageJob) -> None:
        """Remember a job that the shutdown has stopped. Forget a page that was continued."""
        was_interrupted = job.is_page and job.cancel_reason == "shutdown" and job.state == "stopped" and not job.follows
        if was_interrupted and (job.priority is Priority.CLICK or job.key in self._pages):
            self._pages[job.key] = job.partial_results()
            while len(self._pages) > MAX_PAGES:
                del self._pages[next(iter(self._pages))]
        else:
            self._pages.pop(job.key, None)

    async def save(self) -> None:
        """Save the unfinished pages. Call it after all jobs have ended."""
        try:
            await self._unfinished.save(self._pages)
        except StoreError as error:
            log.warning("%d unfinished pages are not continued after the next start: %s", len(self._pages), error)
        else:
            self._pages.clear()

    async def resume(self, starter: JobStarter, resolver: PageResolver, *, repeats: bool = False) -> None:
        """Continue the saved pages with low priority.

        Pages whose function sees the visitor wait until a visitor opens them.

        Args:
            starter: Starts the jobs.
            resolver: Calls the page functions.
            repeats: True to continue until the server stops, because other processes may stop before.
        """
        failed = False
        while not self._jobs.draining:
            try:
                await self._resume(starter, resolver)
                failed = False
            except StoreError as error:
                if not failed:
                    log.warning("Unfinished pages cannot be continued at the moment: %s", error)
                failed = True
            if not repeats:
                return
            await asyncio.sleep(RESUME_SECONDS)

    async def _resume(self, starter: JobStarter, resolver: PageResolver) -> None:
        pages = await self._unfinished.take()
        pages = {key: canvases for key, canvases in pages.items() if not self._store.exists([key])}
        self._pages |= pages
        for key, canvases in pages.items():
            self._jobs.remember_partial_results(key, canvases)
        for key in pages:
            try:
                page_request = await resolver.resolve_without_visitor(key)
                if page_request is not None and page_request.page.canvases and self._jobs.get(key) is None:
                    await starter.start(page_request, priority=Priority.PREFETCH)
            except Exception as error:  # the page function may raise anything, for example because a session is missing
                log.info("%s is continued when a visitor opens it: %s", key, error)
