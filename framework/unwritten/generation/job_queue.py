"""The job queue: every page that is being generated, one job per page.

Clicks run before prefetches. A prefetch runs only while no click does. When a click arrives, the prefetch is preempted
and restarted later.

Jobs belong to the server, and visitors subscribe to them. When the last subscriber has left, a grace period starts, and
at its end the job is cancelled. If a job fails or is cancelled, the next attempt at the page uses its finished regions.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import TypeAlias

from cachetools import LRUCache

from unwritten_engine import Engine, Priority
from unwritten_engine.cleaning import clean_engine

from ..core.errors import Busy, EditConflict, StoreError, StoreReadOnly
from ..core.settings import Settings
from ..storage.database import LOCK_TIMEOUT
from ..storage.pages import PageStore
from ..storage.records import StoredCanvas
from .page_job import INTERNAL_ERROR, SHUTDOWN, CancelReason, JobObserver, PageJob, Subscriber, TextCheck

WrittenCallback: TypeAlias = Callable[[PageJob], Awaitable[None]]
"""Called with a job whose page has just been stored, before the job is finished. It must not raise."""

log = logging.getLogger("unwritten")

GRACE_PERIOD = 20.0
"""Seconds for which a job continues after its last visitor has left."""

_PARTIAL_RESULTS = 128
"""Maximum number of pages whose finished regions are remembered after a failure."""

_MAX_UNSTORED = 256
"""Maximum number of finished pages in memory while the database cannot be written, for example on a full disk."""

_RECENT_JOBS = 64
"""Maximum number of ended jobs that are remembered for browsers whose socket connects after the end."""

_STORE_RETRY_SECONDS = (1.0, 5.0, 15.0, 60.0)
"""Seconds before each further attempt to store a page. The last delay repeats."""


class JobQueue:
    """All jobs of one app, running and waiting.

    Args:
        engine: The engine.
        store: Where finished pages are saved.
        settings: ``jobs``, ``queue_limit`` and ``time_limit``.
        check_text: Called with every finished text before it is shown. None: drafts are shown at once.
        on_written: Called with every job whose page has been stored.

    Attributes:
        num_submitted: How many jobs were submitted.
        grace_period: Seconds for which a job continues after its last visitor has left.
        seconds_per_page: A moving average of the seconds that jobs took.
    """

    def __init__(
        self,
        engine: Engine,
        store: PageStore,
        settings: Settings,
        *,
        check_text: TextCheck | None = None,
        on_written: WrittenCallback | None = None,
    ) -> None:
        self.num_submitted = 0
        self.grace_period = GRACE_PERIOD
        self.seconds_per_page = 8.0
        self._engine = clean_engine(engine)
        self._store = store
        self._settings = settings
        self._check_text = check_text
        self._on_written = on_written
        self._observers: list[JobObserver] = []
        self._by_key: dict[str, PageJob] = {}
        self._waiting: deque[PageJob] = deque()
        self._running: set[PageJob] = set()
        self._recent: LRUCache[str, PageJob] = LRUCache(_RECENT_JOBS)
        self._partial_results: LRUCache[str, Mapping[str, StoredCanvas]] = LRUCache(_PARTIAL_RESULTS)
        # Half of what the engine runs in parallel, so that a click finds a free place, and the likeliest page is ready
        # soon instead of all of them late.
        self._prefetch_slots = max(1, min(settings.jobs, engine.about.parallel) // 2)
        self._tasks: set[asyncio.Task[None]] = set()  # asyncio itself holds only weak references to tasks
        self._closing = False

    def observe(self, *observers: JobObserver) -> None:
        """Notify these observers of every job."""
        self._observers.extend(observers)

    # -- what is in the queue -----------------------------------------------------------------------------

    def get(self, key: str) -> PageJob | None:
        """Return the job of a page, if the page is being generated, or finished and not stored yet."""
        return self._by_key.get(key)

    def recent(self, key: str) -> PageJob | None:
        """Return the job of a page, also if it has ended a short time ago."""
        return self._by_key.get(key) or self._recent.get(key)

    def unfinished(self) -> list[PageJob]:
        """Return the jobs that run or wait, in the order in which they were submitted."""
        return [job for job in self._by_key.values() if not job.finished.is_set()]

    def partial_results(self, key: str) -> Mapping[str, StoredCanvas]:
        """Return the finished regions of the last attempt at a page, if that failed or was cancelled."""
        return self._partial_results.get(key, {})

    @property
    def load(self) -> tuple[int, int]:
        """The numbers of running and waiting jobs."""
        return len(self._running), len(self._waiting)

    @property
    def num_clicks(self) -> int:
        """The number of jobs that visitors wait for, running or waiting."""
        return len(_clicks(self._running)) + len(_clicks(self._waiting))

    def position(self, job: PageJob) -> int:
        """Return how many waiting jobs start before this one."""
        if job not in self._waiting:
            return 0
        position = self._waiting.index(job)
        return sum(
            other.priority < job.priority or (other.priority == job.priority and index < position)
            for index, other in enumerate(self._waiting)
        )

    # -- submitting and cancelling ------------------------------------------------------------------------

    def check_capacity(self, priority: Priority = Priority.CLICK) -> None:
        """Check that another job may be submitted. Prefetches do not count against clicks.

        Raises:
            Busy: If the queue is full.
            StoreReadOnly: If pages cannot be stored.
        """
        if self._settings.read_only:
            raise StoreReadOnly("This page is not written yet, and this server only reads its database.")
        running, waiting = self.load
        if len(self._by_key) - running - waiting >= _MAX_UNSTORED:
            raise Busy("Too many finished pages wait to be saved. The server's log says why the database fails.", 60)
        if priority is Priority.PREFETCH:
            return
        running, waiting = len(_clicks(self._running)), len(_clicks(self._waiting))
        if running + waiting >= self._settings.jobs + self._settings.queue_limit:
            seconds = max(1, round(self.seconds_per_page * (waiting + 1) / self._settings.jobs))
            raise Busy(f"{waiting} pages already wait to be written. Try again in about {seconds} seconds.", seconds)

    def submit(self, job: PageJob) -> None:
        """Run a job, or put it into the queue.

        Raises:
            Busy: If the queue is full.
        """
        self.check_capacity(job.priority)
        self.num_submitted += 1
        job.observers = self._observers
        job.check_text = self._check_text
        self._by_key[job.key] = job
        self._waiting.append(job)
        if job.priority is Priority.CLICK:
            job.start_grace_period(self.grace_period, self._abandon)
            self._preempt_for_click()
        job.publish(lambda observer: observer.on_start(job))
        self._start_next()

    def promote(self, job: PageJob) -> None:
        """Turn a prefetch into a click, because a visitor has opened its page."""
        if job.priority is Priority.CLICK or job.finished.is_set():
            return
        job.promote(self._engine)
        job.start_grace_period(self.grace_period, self._abandon)
        job.publish(lambda observer: observer.on_promote(job))
        self._preempt_for_click()
        self._start_next()

    def reorder(self, urgent_rank: int) -> None:
        """Apply the link ranks of prefetches, after they have changed.

        Args:
            urgent_rank: A waiting prefetch of this rank or a lower one preempts a running one of a higher rank.
        """
        waiting = min(
            (job.link_rank for job in self._waiting if job.priority is Priority.PREFETCH), default=urgent_rank + 1
        )
        running = [job for job in self._running if job.priority is Priority.PREFETCH]
        if waiting <= urgent_rank and len(running) >= self._prefetch_slots:
            last = max(running, key=lambda job: (job.link_rank, -job.seconds))  # the youngest loses the least work
            if last.link_rank > waiting:
                last.preempt()
        self._start_next()

    def cancel_prefetch(self, job: PageJob) -> None:
        """Cancel a prefetch that is not useful any more. Does nothing if a visitor waits for the page."""
        if job.priority is Priority.PREFETCH:
            self._abandon(job)

    def stop(self, job: PageJob) -> None:
        """Stop a job because a visitor pressed its stop button."""
        self._cancel(job, "stopped")

    def unsubscribe(self, job: PageJob, subscriber: Subscriber) -> None:
        """Stop notifying a subscriber. The last one starts the grace period."""
        job.unsubscribe(subscriber, self.grace_period, self._abandon)

    def _abandon(self, job: PageJob) -> None:
        if not job.num_subscribers:
            log.info("%s is cancelled: all visitors have left", job.key)
            self._cancel(job, "abandoned")

    def _cancel(self, job: PageJob, reason: CancelReason) -> None:
        is_waiting = job in self._waiting
        if is_waiting:
            self._waiting.remove(job)
        job.cancel(reason)
        if is_waiting:
            self._remove(job)

    def _preempt_for_click(self) -> None:
        """Preempt running prefetches, unless the engine itself lets them yield to a click."""
        if not self._engine.about.abilities.preempts:
            for job in self._running:
                if job.priority is Priority.PREFETCH:
                    job.preempt()

    # -- running ------------------------------------------------------------------------------------------

    def _start_next(self) -> None:
        while job := self._next_job():
            self._waiting.remove(job)
            self._running.add(job)
            job.start(lambda job: self._create_task(self._run(job), name=f"generating {job.key}"))
        for job in self._waiting:
            job.notify()  # its position has changed

    def _next_job(self) -> PageJob | None:
        """Return the job that may start now: a click if one is allowed, a prefetch only if no click runs."""
        if not self._waiting:
            return None
        first = min(self._waiting, key=lambda job: (job.priority, job.link_rank))  # the earliest among equals
        clicks = len(_clicks(self._running))
        if first.priority is Priority.CLICK:
            return first if clicks < self._settings.jobs else None
        return first if not clicks and len(self._running) < self._prefetch_slots else None

    async def _run(self, job: PageJob) -> None:
        preempted = False
        try:
            await job.run(self._engine, self._settings.time_limit)
        finally:
            self._running.discard(job)
            preempted = job.state == "queued"
            if preempted:
                self._waiting.appendleft(job)
            self._start_next()  # may be this job again
            if not preempted and job.finished.is_set():  # it failed or was cancelled
                results = job.partial_results()
                if results:
                    self._partial_results[job.key] = results
                self._remove(job)
        if preempted or job.finished.is_set():
            return
        self.seconds_per_page += 0.2 * (job.seconds - self.seconds_per_page)
        try:
            await self._store_page(job)
        except asyncio.CancelledError:  # the event loop ends
            if not job.finished.is_set():
                job.finish("stopped", SHUTDOWN)
                self._remove(job)
            raise
        except Exception:
            # Retrying cannot help, for example if the text cannot be stored. The page must not stay blocked.
            log.exception("%s could not be stored", job.key)
            job.finish("failed", INTERNAL_ERROR)
            self._remove(job)

    async def _store_page(self, job: PageJob) -> None:
        """Save a finished page. While the store fails, the job stays in the queue, and saving is retried."""
        page = job.page_to_store()
        attempt = 0
        is_outdated = False
        while job.stored is None:
            try:
                if is_outdated:
                    job.rebase(self._store.get(job.key))
                    page, is_outdated = job.page_to_store(), False
                job.stored = await self._store.save(page)
            except EditConflict:  # another process has saved a newer version
                is_outdated = True
            except StoreError as error:
                log.error("%s could not be stored: %s", job.key, error)
                job.finish("written", f"Not saved yet: {error}")
                if self._closing:
                    return
                await asyncio.sleep(_STORE_RETRY_SECONDS[min(attempt, len(_STORE_RETRY_SECONDS) - 1)])
                attempt += 1
        self._partial_results.pop(job.key, None)
        if self._on_written is not None:
            await self._on_written(job)
        job.finish("written", "")
        self._remove(job)

    def _remove(self, job: PageJob) -> None:
        """Take an ended job out of the queue."""
        if self._by_key.get(job.key) is job:
            del self._by_key[job.key]
        self._recent[job.key] = job
        job.publish(lambda observer: observer.on_end(job))

    def _create_task(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        return task

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():
            log.error("The task %r failed", task.get_name(), exc_info=task.exception())

    async def close(self) -> None:
        """Cancel all jobs. Finished pages that are not stored yet get one last attempt."""
        self._closing = True
        for job in list(self._by_key.values()):
            self._cancel(job, "shutdown")
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LOCK_TIMEOUT + 1)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for job in list(self._by_key.values()):
            if job.state == "written" and job.stored is None:
                with contextlib.suppress(StoreError):
                    await self._store.save(job.page_to_store())


def _clicks(jobs: Iterable[PageJob]) -> list[PageJob]:
    """Return the jobs that visitors wait for."""
    return [job for job in jobs if job.priority is Priority.CLICK]
