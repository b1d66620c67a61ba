"""Generations: pages that are being written, one for each page, however many look at it.

A page that somebody waits for goes before all that are written ahead. Those run only while no click is at work; when
one comes, they make way at once, and go on, or begin anew what was not finished, when it is done.

The server owns the work; visitors attach to it and detach from it. When the last one has left, a grace timer
starts, and only when it runs out is the work given up. What was finished of a page that failed, was stopped or
was left is remembered for the next attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import TypeAlias, TypeVar

from unwritten_engine import Engine, Priority

from ..core.errors import Busy, EditConflict, StoreError
from ..core.settings import Settings
from ..storage.database import LOCK_TIMEOUT
from ..storage.pages import PageStore
from ..storage.records import StoredCanvas
from .page_job import INSIDE, Ending, JobObserver, PageJob, Subscriber, TextCheck

T = TypeVar("T")


WrittenCallback: TypeAlias = Callable[[PageJob], Awaitable[None]]
"""Called with a page that has just been kept, before it counts as written. It must not raise."""


log = logging.getLogger("unwritten")


_REMAINS = 128
"""Pages whose finished regions are remembered after a failure."""


_UNKEPT = 256
"""Finished pages that may wait in memory while the database takes none (a full disk, say)."""


_RECENT = 64
"""Finished generations that are held for browsers whose socket comes, or comes back, after the end."""


_RETRY_SECONDS = (1.0, 5.0, 15.0, 60.0)
"""How long to wait before a page that could not be kept is tried again; the last one repeats."""


class JobQueue:
    """All pages that are being written, and those that wait for their turn.

    Args:
        engine: writes.
        store: keeps.
        settings: ``generations``, ``queue_limit``, ``time_limit`` and ``grace``.

    Attributes:
        started: How many jobs were added.
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
        self._engine = engine
        self._store = store
        self._settings = settings
        self._by_key: dict[str, PageJob] = {}
        self._waiting: deque[PageJob] = deque()
        self._running: set[PageJob] = set()
        self._recent: OrderedDict[str, PageJob] = OrderedDict()
        self._remains: OrderedDict[str, dict[str, StoredCanvas]] = OrderedDict()
        # asyncio keeps only weak references to tasks: these are the strong ones.
        self._tasks: set[asyncio.Task[None]] = set()
        self._seconds_per_page = 8.0
        self._closing = False
        self._observers: list[JobObserver] = []
        self.started = 0
        # Work that nobody waits for: half of what may be done at the same time, as in the engine, so that a click finds
        # a place; and the likeliest page is ready soon, and not all of them late.
        self._places_ahead = max(1, min(settings.jobs, engine.about.parallel) // 2)
        self._check_text = check_text
        self._on_written = on_written

    def observe(self, *observers: JobObserver) -> None:
        """Tell these observers what happens to every job."""
        self._observers.extend(observers)

    def get(self, key: str) -> PageJob | None:
        """The generation of a page, if it is being written (or written and not kept yet)."""
        return self._by_key.get(key)

    def recent(self, key: str) -> PageJob | None:
        """The generation of a page, even if it is over, as long as it is remembered."""
        return self._by_key.get(key) or self._recent.get(key)

    def unfinished(self) -> list[PageJob]:
        """The pages that are being written or wait for it, in the order in which they were asked for."""
        return [job for job in self._by_key.values() if not job.finished.is_set()]

    def partial_results(self, key: str) -> Mapping[str, StoredCanvas]:
        """What was finished of a page in an attempt that came to nothing."""
        return self._remains.get(key, {})

    @property
    def load(self) -> tuple[int, int]:
        """How many pages are being written, and how many wait."""
        return len(self._running), len(self._waiting)

    @property
    def clicked(self) -> int:
        """How many pages somebody waits for, begun or not."""
        return len(_clicked(self._running)) + len(_clicked(self._waiting))

    @property
    def seconds_per_page(self) -> float:
        """What a page took lately."""
        return self._seconds_per_page

    def admit(self, priority: Priority = Priority.CLICK) -> None:
        """Make sure that one more page may come. What is written ahead takes no room from clicks.

        Raises:
            Busy: if too many wait.
        """
        running, waiting = self.load
        if len(self._by_key) - running - waiting >= _UNKEPT:
            raise Busy("Finished pages wait for the database, and no more of them fit. The server's log says why.", 60)
        if priority is Priority.PREFETCH:
            return
        running, waiting = len(_clicked(self._running)), len(_clicked(self._waiting))
        if running + waiting >= self._settings.jobs + self._settings.queue_limit:
            seconds = max(1, round(self._seconds_per_page * (waiting + 1) / self._settings.jobs))
            raise Busy(
                f"{waiting} pages wait to be written here already. Try again in about {seconds} seconds.", seconds
            )

    def add(self, job: PageJob) -> None:
        """Begin to write a page, or let it wait for its turn.

        Raises:
            Busy: if too many wait.
        """
        self.admit(job.priority)
        self.started += 1
        job.observers = self._observers
        job.check = self._check_text
        self._by_key[job.key] = job
        self._waiting.append(job)
        if job.priority is Priority.CLICK:
            job.start_grace_period(self._settings.grace, self._leave)
            self._make_way()
        job.publish(lambda observer: observer.on_start(job))
        self._next()

    def promote(self, job: PageJob) -> None:
        """Somebody waits for this page now. One that was being written ahead counts as a click from here on."""
        if job.priority is Priority.CLICK or job.finished.is_set():
            return
        job.promote(self._engine)
        job.start_grace_period(self._settings.grace, self._leave)
        job.publish(lambda observer: observer.on_promote(job))
        self._make_way()
        self._next()

    def reorder(self, urgent: int) -> None:
        """The ranks of pages that are written ahead have changed.

        Args:
            urgent: a page of this rank or a lower one takes the place of another that is being written.
        """
        waiting = min((g.rank for g in self._waiting if g.priority is Priority.PREFETCH), default=urgent + 1)
        running = [g for g in self._running if g.priority is Priority.PREFETCH]
        if waiting <= urgent and len(running) >= self._places_ahead:
            last = max(running, key=lambda job: (job.rank, -job.seconds))  # the least is lost
            if last.rank > waiting:
                last.preempt()
        self._next()

    def cancel(self, job: PageJob) -> None:
        """Nobody wants a page any more that was being written ahead."""
        if job.priority is Priority.PREFETCH:
            self._leave(job)

    def _make_way(self) -> None:
        """A click has come. An engine whose work ahead does not rest by itself is freed of it."""
        if not self._engine.about.abilities.preempts:
            for job in self._running:
                if job.priority is Priority.PREFETCH:
                    job.preempt()

    def ahead(self, job: PageJob) -> int:
        """How many pages will be begun before this one."""
        if job not in self._waiting:
            return 0
        place = self._waiting.index(job)
        return sum(
            other.priority < job.priority or (other.priority == job.priority and at < place)
            for at, other in enumerate(self._waiting)
        )

    def detach(self, job: PageJob, subscriber: Subscriber) -> None:
        """Somebody does not look at a page any more."""
        job.unsubscribe(subscriber, self._settings.grace, self._leave)

    def stop(self, job: PageJob) -> None:
        """Stop a page because somebody asked for it."""
        self._end(job, "stopped")

    def _leave(self, job: PageJob) -> None:
        if not job.subscribers:
            log.info("%s was left by everybody, and is given up", job.key)
            self._end(job, "left")

    def _end(self, job: PageJob, ending: Ending) -> None:
        waited = job in self._waiting
        if waited:
            self._waiting.remove(job)
        job.end(ending)
        if waited:
            self._over(job)

    def _next(self) -> None:
        while job := self._first():
            self._waiting.remove(job)
            self._running.add(job)
            job.start(lambda g: self._spawn(self._run(g), name=f"writing {g.key}"))
        for job in self._waiting:
            job.notify()  # their place in the queue has changed

    def _first(self) -> PageJob | None:
        """Who is begun next: a click if there is a place for it; something ahead only if no click is at work."""
        if not self._waiting:
            return None
        first = min(self._waiting, key=lambda waiting: (waiting.priority, waiting.rank))  # among equals, who came first
        clicked = len(_clicked(self._running))
        if first.priority is Priority.CLICK:
            return first if clicked < self._settings.jobs else None
        return first if not clicked and len(self._running) < self._places_ahead else None

    async def _run(self, job: PageJob) -> None:
        made_way = False
        try:
            await job.write(self._engine, self._settings.time_limit)
        finally:
            self._running.discard(job)
            made_way = job.state == "queued"
            if made_way:
                self._waiting.appendleft(job)
            self._next()
        if made_way:
            return
        if job.finished.is_set():
            self._remember(job)
            self._over(job)
            return
        self._seconds_per_page += 0.2 * (job.seconds - self._seconds_per_page)
        try:
            await self._keep(job)
        except Exception:
            # Nothing that can be tried again: a text that no database takes, say. It must not block its page.
            log.exception("%s could not be kept", job.key)
            job.settle("failed", INSIDE)
            self._over(job)

    async def _keep(self, job: PageJob) -> None:
        """Keep a finished page. While the store refuses it, the page lives here and is tried again."""
        page = job.page_to_store()
        attempt = 0
        while job.kept is None:
            try:
                job.kept = await self._store.save(page)
            except EditConflict:  # another server on this file, or a command, was quicker
                job.rebase(self._store.get(job.key))
                page = job.page_to_store()
            except StoreError as error:
                log.error("%s could not be kept: %s", job.key, error)
                job.settle("written", f"Not kept yet: {error}")
                if self._closing:
                    return
                await asyncio.sleep(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])
                attempt += 1
        self._remains.pop(job.key, None)
        if self._on_written is not None:
            await self._on_written(job)
        job.settle("written", "")
        self._over(job)

    def _remember(self, job: PageJob) -> None:
        remains = job.partial_results()
        if remains:
            _put(self._remains, job.key, remains, _REMAINS)

    def _over(self, job: PageJob) -> None:
        if self._by_key.get(job.key) is job:
            del self._by_key[job.key]
        _put(self._recent, job.key, job, _RECENT)
        job.publish(lambda observer: observer.on_end(job))

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():
            log.error("%s broke off", task.get_name(), exc_info=task.exception())

    async def close(self) -> None:
        """Break everything off. A page that is finished and not kept yet gets one last attempt."""
        self._closing = True
        for job in list(self._by_key.values()):
            self._end(job, "closing")
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LOCK_TIMEOUT + 1)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for job in list(self._by_key.values()):
            if job.state == "written" and job.kept is None:
                with contextlib.suppress(StoreError):
                    await self._store.save(job.page_to_store())


def _clicked(jobs: Iterable[PageJob]) -> list[PageJob]:
    """Those that somebody waits for."""
    return [job for job in jobs if job.priority is Priority.CLICK]


def _put(cache: OrderedDict[str, T], key: str, value: T, limit: int) -> None:
    """Put a value into a cache that forgets the oldest."""
    cache[key] = value
    cache.move_to_end(key)
    while len(cache) > limit:
        cache.popitem(last=False)
