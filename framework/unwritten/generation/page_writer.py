"""Write many pages in one run: ``app.write`` and ``unwritten write``.

Every page is a job like that of a prefetch: clicks go first, and a page is written once, also if a visitor or another
process asks for it at the same time. Pages that are stored are skipped, so a run that was interrupted is continued by
repeating it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.responses import Response

from unwritten_engine import About, EngineError, Priority, Progress

from ..core.errors import BadURL, PageFailed, StoreReadOnly, UnwrittenError
from ..core.mount import MountPoint
from ..core.paths import page_key
from ..core.settings import Settings
from ..routing.access import PageAccess
from ..routing.audience import no_visitor
from ..routing.redirects import CanonicalRedirect
from ..routing.routes import PageRequest
from ..storage.pages import PageStore
from ..storage.transactions import no_table_access, without_write_lock
from .job_queue import JobQueue
from .job_starter import JobStarter
from .page_job import Subscriber

MAX_REDIRECTS = 5


@dataclass
class WriteResult:
    """What ``app.write`` has done.

    Attributes:
        written: The keys of the pages that were written.
        skipped: The keys of pages that were stored already, or have nothing to generate.
        failed: Why a page was not written, by its path as it was given.
    """

    written: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def num_done(self) -> int:
        """The number of paths that are done."""
        return len(self.written) + len(self.skipped) + len(self.failed)


class PageWriter:
    """Writes many pages, for one app.

    Args:
        settings: ``jobs`` and ``read_only``.
        about: The engine.
        mount: The prefix under which the app is served.
        access: Resolves paths.
        store: The stored pages.
        starter: Starts the jobs.
        jobs: The queue.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        about: About,
        mount: MountPoint,
        access: PageAccess,
        store: PageStore,
        starter: JobStarter,
        jobs: JobQueue,
    ) -> None:
        self._settings = settings
        self._mount = mount
        self._access = access
        self._store = store
        self._starter = starter
        self._jobs = jobs
        # As many as run at the same time: the prompt of the next page may mention what was just written.
        self._num_workers = max(1, min(settings.jobs, about.parallel))

    async def write(self, paths: Iterable[str], progress: Progress | None = None) -> WriteResult:
        """Write pages. See ``App.write``."""
        if isinstance(paths, str):
            raise TypeError(f"app.write takes a list of paths: app.write([{paths!r}])")
        if self._settings.read_only:
            raise StoreReadOnly("No page can be written: this app only reads its database (--read-only).")
        given = list(dict.fromkeys(paths))
        run = _Run(given, progress)
        async with without_write_lock():
            with no_visitor(), no_table_access():
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(self._num_workers, len(given))):
                        group.create_task(self._work(run))
        return run.result

    async def _work(self, run: _Run) -> None:
        for path in run.remaining:
            try:
                await self._write(path, run)
            except (UnwrittenError, EngineError) as error:
                run.fail(path, str(error))
            except HTTPException as error:
                run.fail(path, f"Its page function refuses it with {error.status_code}: {error.detail}")
            except Exception as error:
                run.fail(path, f"Its page function raised {type(error).__name__}: {error}")

    async def _write(self, path: str, run: _Run) -> None:
        page_request = await self._resolve(path)
        key, canvases = page_request.key, page_request.page.canvases
        stored = self._store.get(key) if canvases else None
        if key in run.seen or not canvases or (stored is not None and canvases.keys() <= stored.canvases.keys()):
            run.seen.add(key)
            run.result.skipped.append(key)
            return
        run.seen.add(key)
        job = await self._starter.start(page_request, priority=Priority.PREFETCH, is_attended=False)
        subscriber = Subscriber()
        job.subscribe(subscriber)  # a visitor who opens the page and leaves does not cancel it
        try:
            await job.finished.wait()
        finally:
            self._jobs.unsubscribe(job, subscriber)
            if not job.finished.is_set():  # this run was cancelled
                self._jobs.cancel_prefetch(job)
        if job.state != "written" or job.stored is None:
            raise PageFailed(job.detail or job.message or "It was stopped.")
        run.finish(key)

    async def _resolve(self, path: str) -> PageRequest:
        """Return the page at a path. Redirects to other pages are followed.

        Raises:
            BadURL: If there is none.
            Exception: What the page function raises.
        """
        if not isinstance(path, str) or not path.startswith("/"):
            raise BadURL("A path begins with a slash, such as /wiki/Tea.")
        key = page_key(path)
        for _ in range(MAX_REDIRECTS):
            found = None if key is None else await self._access.resolve_for_writing(key)
            if isinstance(found, PageRequest):
                return found
            if found is None:
                raise BadURL(
                    "No page has this path." if key == page_key(path) else f"It redirects to {key}, which is no page."
                )
            key = self._target(found)
        raise BadURL(f"It was redirected {MAX_REDIRECTS} times without a page.")

    def _target(self, response: Response) -> str | None:
        """Return the key that a redirect leads to.

        Raises:
            BadURL: If the response is not a redirect to a page of this app.
        """
        if isinstance(response, CanonicalRedirect):
            return response.key
        location = response.headers.get("location", "")
        if not (300 <= response.status_code < 400 and location):
            raise BadURL(
                f"Its page function returns a response with the status {response.status_code}, and not a page."
            )
        parts = urlsplit(location)
        path = self._mount.key(parts.path) if parts.netloc in {"", "localhost"} else None
        if path is None:
            raise BadURL(f"It redirects to {location}, which is not in this app.")
        return page_key(path + (f"?{parts.query}" if parts.query else ""))


class _Run:
    """One run: what remains, what is done, and how long the rest will take."""

    def __init__(self, paths: list[str], progress: Progress | None) -> None:
        self.result = WriteResult()
        self.seen: set[str] = set()
        self.remaining: Iterator[str] = iter(paths)
        self._total = len(paths)
        self._progress = progress
        self._started_at = time.monotonic()

    def finish(self, key: str) -> None:
        """Count a page that was written."""
        self.result.written.append(key)
        self._report(key)

    def fail(self, path: str, reason: str) -> None:
        """Count a page that was not written."""
        self.result.failed[path] = reason
        self._report(f"{path} failed: {reason}")

    def _report(self, event: str) -> None:
        if self._progress is None:
            return
        done, written = self.result.num_done, len(self.result.written)
        left = (self._total - done) * (time.monotonic() - self._started_at) / written if written else 0.0
        end = f" ({_duration(left)} left)" if left else ""
        self._progress(done / self._total, f"{done:,} of {self._total:,}{end}: {event}")


def _duration(seconds: float) -> str:
    """Return a duration in words that is about right, such as "5 min"."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.0f} h"
