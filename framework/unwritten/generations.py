"""Generations: pages that are being written, one for each page, however many look at it.

The server owns the work; visitors attach to it and detach from it. When the last one has left, a grace timer
starts, and only when it runs out is the work given up. What was finished of a page that failed, was stopped or
was left is remembered for the next attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeVar

from markupsafe import Markup

from unwritten_engine import Engine, EngineError

from .drawing import Shell
from .errors import Busy, PageFailed, StoreError, TimedOut, UnwrittenError
from .links import Link, Linker
from .pages import Page
from .regions import PageState, PageView, Provenance
from .settings import Settings
from .store import LOCK_TIMEOUT, KeptCanvas, KeptPage, NewPage, Store
from .writing import Writing, prompt_hash

T = TypeVar("T")

log = logging.getLogger("unwritten")

_Ending: TypeAlias = Literal["stopped", "left", "closing"]

_REMAINS = 128
"""Pages whose finished regions are remembered after a failure."""

_UNKEPT = 256
"""Finished pages that may wait in memory while the database takes none (a full disk, say)."""

_RECENT = 64
"""Finished generations that are held for browsers whose socket comes, or comes back, after the end."""

_INSIDE = "Something went wrong inside. The server's log says what."

_RETRY_SECONDS = (1.0, 5.0, 15.0, 60.0)
"""How long to wait before a page that could not be kept is tried again; the last one repeats."""


@dataclass(eq=False)
class Watcher:
    """Somebody who looks at pages. ``changed`` is set when there is something new to see; what it is, they ask.

    Nothing is queued for a watcher, so a slow one costs nothing and simply skips frames.
    """

    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Generation:
    """A page that is being written.

    Attributes:
        key: the page's key.
        page: what the author's function asked for.
        title: the page's title.
        writings: its regions by name, in the order of the page.
        state: queued, writing, written, stopped or failed.
        message: a sentence for people, when something went wrong.
        kept: the page in the store, once it is there.
        finished: set when nothing more will come.
    """

    def __init__(self, key: str, page: Page, title: str, writings: dict[str, Writing], linker: Linker) -> None:
        self.key = key
        self.page = page
        self.title = title
        self.writings = writings
        self.linker = linker
        self.state: PageState = "queued"
        self.message = ""
        self.kept: KeptPage | None = None
        self.finished = asyncio.Event()
        self.shell: Shell | None = None
        self.change = 0
        self._watchers: set[Watcher] = set()
        self._task: asyncio.Task[None] | None = None
        self._ending: _Ending | None = None
        self._at_work = False
        self._complete = False
        self._grace: asyncio.TimerHandle | None = None
        self._begun = time.monotonic()
        self._seconds = 0.0

    # -- who looks ----------------------------------------------------------------------------------------

    def attach(self, watcher: Watcher) -> None:
        """Somebody looks at the page from now on."""
        self._watchers.add(watcher)
        if self._grace:
            self._grace.cancel()
            self._grace = None

    def detach(self, watcher: Watcher, grace: float, leave: Callable[[Generation], None]) -> None:
        """Somebody does not look any more. The last one starts the grace timer."""
        self._watchers.discard(watcher)
        self.await_visitors(grace, leave)

    def await_visitors(self, grace: float, leave: Callable[[Generation], None]) -> None:
        """Give the page up if nobody looks at it for ``grace`` seconds."""
        if not self._watchers and not self._grace and not self.finished.is_set():
            self._grace = asyncio.get_running_loop().call_later(grace, leave, self)

    @property
    def watchers(self) -> int:
        """How many look."""
        return len(self._watchers)

    def notify(self) -> None:
        """Tell everybody who looks that something is new."""
        self.change += 1
        for watcher in self._watchers:
            watcher.changed.set()

    # -- what they see ------------------------------------------------------------------------------------

    def view(self) -> PageView:
        """The page as templates see it."""
        kept = self.kept
        return PageView(
            key=self.key,
            title=self.title,
            state=self.state,
            version=kept.version if kept else None,
            versions=kept.versions if kept else 0,
            written_at=kept.written_at if kept else None,
            provenance=self.provenance() if self.state == "written" else None,
            message=self.message,
        )

    def provenance(self) -> Provenance | None:
        """By which model the page was written and at which cost; None while it is not finished."""
        return self.kept.provenance if self.kept else self._provenance

    _provenance: Provenance | None = None

    def inner(self, name: str) -> str:
        """The inner HTML of a region as it is now.

        A block that cannot be drawn is an author's mistake: it fails the region, and the page says so.
        """
        writing = self.writings[name]
        if self.shell is None:
            return str(writing.region())
        shell, view = self.shell, self.view()
        try:
            return writing.block(lambda region: shell.region(region, view))
        except UnwrittenError as error:
            if writing.frame.done:
                log.warning("%s: the region %r cannot be drawn: %s", self.key, name, error)  # its text is whole
            elif writing.state != "failed":
                self.fail_region(writing, str(error))
            return str(Markup('<p class="broken-off">{}</p>').format(error))

    def fail_region(self, writing: Writing, message: str) -> None:
        """One region cannot be written. The others go on."""
        log.warning("%s: the region %r failed: %s", self.key, writing.name, message)
        writing.state = "failed"
        writing.count()
        self.message = message
        self.notify()

    # -- the work -----------------------------------------------------------------------------------------

    def start(self, run: Callable[[Generation], asyncio.Task[None]]) -> None:
        """Begin."""
        self.state = "writing"
        self._begun = time.monotonic()
        self._task = run(self)
        self.notify()

    def end(self, ending: _Ending) -> None:
        """Break the work off. Does nothing if all is written, kept or not yet."""
        if self.finished.is_set() or self._complete:
            return
        self._ending = ending
        if self._task is None:
            self.settle("stopped", "")
        elif self._at_work:
            self._task.cancel()
        # A task that is cancelled before its first step never runs at all: one that has not begun sees to it itself.

    async def write(self, engine: Engine, time_limit: float) -> None:
        """Write all regions at the same time, and come to a state that will not change."""
        self._at_work = True
        try:
            if self._ending is not None:
                raise asyncio.CancelledError
            async with asyncio.timeout(time_limit):
                async with asyncio.TaskGroup() as group:
                    for writing in self.writings.values():
                        if writing.state != "written":
                            group.create_task(self._write_region(engine, writing))
        except TimeoutError:
            error = TimedOut(f"The page was not finished after {time_limit:g} seconds, and was given up.")
            self.settle("failed", str(error))
        except asyncio.CancelledError:
            if self._ending is None:
                raise
            self.settle("stopped", "" if self._ending == "stopped" else "The page was left before it was finished.")
        else:
            self._seconds = time.monotonic() - self._begun
            if all(writing.state == "written" for writing in self.writings.values()):
                about = engine.about
                self._complete = True
                self._provenance = self._sum(about.model, about.engine)
            else:
                self.settle("failed", self.message or "A part of the page could not be written.")

    async def _write_region(self, engine: Engine, writing: Writing) -> None:
        try:
            async with contextlib.aclosing(engine.generate(writing.request())) as frames:
                async for frame in frames:
                    writing.take(frame)
                    self.notify()
            if writing.state != "written":
                raise PageFailed("The engine ended without a last frame.")
        except (UnwrittenError, EngineError) as error:
            if writing.state != "failed":  # it may have failed while it was drawn
                self.fail_region(writing, str(error))
        except Exception:
            log.exception("%s: the region %r failed", self.key, writing.name)
            self.fail_region(writing, _INSIDE)

    def settle(self, state: PageState, message: str) -> None:
        """Come to the end: nothing changes after this."""
        self.state = state
        self.message = message
        if state != "written":
            for writing in self.writings.values():
                writing.end("stopped" if state == "stopped" else "failed")
        if self._grace:
            self._grace.cancel()
            self._grace = None
        self.finished.set()
        self.notify()

    def new_page(self) -> NewPage:
        """The finished page for the store."""
        assert self._provenance is not None
        links: dict[str, Link] = {}
        for writing in self.writings.values():
            for link in writing.links(self.linker):
                links.setdefault(link.key, link)
        return NewPage(
            key=self.key,
            title=self.title,
            text=" ".join(writing.words() for writing in self.writings.values() if writing.canvas.format != "typed"),
            prompt_hash=prompt_hash(self.writings),
            provenance=self._provenance,
            canvases=tuple(writing.kept() for writing in self.writings.values()),
            links=tuple(links.values()),
        )

    def remains(self) -> dict[str, KeptCanvas]:
        """The regions that were finished."""
        return {name: writing.kept() for name, writing in self.writings.items() if writing.state == "written"}

    def _sum(self, model: str, engine: str) -> Provenance:
        kept = [writing.kept() for writing in self.writings.values()]
        return Provenance(
            model=model,
            engine=engine,
            seed=kept[0].seed,
            tokens=sum(c.tokens for c in kept),
            steps=sum(c.steps for c in kept),
            canvases=sum(c.canvases for c in kept),
            seconds=round(self._seconds, 3),
            reason=next((c.reason for c in kept if c.reason != "end"), "end"),
        )


class Generations:
    """All pages that are being written, and those that wait for their turn.

    Args:
        engine: writes.
        store: keeps.
        settings: ``generations``, ``queue_limit``, ``time_limit`` and ``grace``.
    """

    def __init__(self, engine: Engine, store: Store, settings: Settings) -> None:
        self._engine = engine
        self._store = store
        self._settings = settings
        self._by_key: dict[str, Generation] = {}
        self._waiting: deque[Generation] = deque()
        self._running: set[Generation] = set()
        self._recent: OrderedDict[str, Generation] = OrderedDict()
        self._remains: OrderedDict[str, dict[str, KeptCanvas]] = OrderedDict()
        # asyncio keeps only weak references to tasks: these are the strong ones.
        self._tasks: set[asyncio.Task[None]] = set()
        self._seconds_per_page = 8.0
        self._closing = False
        self.started = 0

    def get(self, key: str) -> Generation | None:
        """The generation of a page, if it is being written (or written and not kept yet)."""
        return self._by_key.get(key)

    def recent(self, key: str) -> Generation | None:
        """The generation of a page, even if it is over, as long as it is remembered."""
        return self._by_key.get(key) or self._recent.get(key)

    def remains(self, key: str) -> Mapping[str, KeptCanvas]:
        """What was finished of a page in an attempt that came to nothing."""
        return self._remains.get(key, {})

    def forget_remains(self, key: str) -> None:
        """Nothing of earlier attempts is wanted."""
        self._remains.pop(key, None)

    @property
    def load(self) -> tuple[int, int]:
        """How many pages are being written, and how many wait."""
        return len(self._running), len(self._waiting)

    def admit(self) -> None:
        """Make sure that one more page may come.

        Raises:
            Busy: if too many wait.
        """
        running, waiting = self.load
        if len(self._by_key) - running - waiting >= _UNKEPT:
            raise Busy("Finished pages wait for the database, and no more of them fit. The server's log says why.", 60)
        if running + waiting >= self._settings.generations + self._settings.queue_limit:
            seconds = max(1, round(self._seconds_per_page * (waiting + 1) / self._settings.generations))
            raise Busy(
                f"{waiting} pages wait to be written here already. Try again in about {seconds} seconds.", seconds
            )

    def add(self, generation: Generation) -> None:
        """Begin to write a page, or let it wait for its turn.

        Raises:
            Busy: if too many wait.
        """
        self.admit()
        self.started += 1
        self._by_key[generation.key] = generation
        self._waiting.append(generation)
        generation.await_visitors(self._settings.grace, self._leave)
        self._next()

    def ahead(self, generation: Generation) -> int:
        """How many pages will be begun before this one."""
        return self._waiting.index(generation) if generation in self._waiting else 0

    def detach(self, generation: Generation, watcher: Watcher) -> None:
        """Somebody does not look at a page any more."""
        generation.detach(watcher, self._settings.grace, self._leave)

    def stop(self, generation: Generation) -> None:
        """Stop a page because somebody asked for it."""
        self._end(generation, "stopped")

    def _leave(self, generation: Generation) -> None:
        if not generation.watchers:
            log.info("%s was left by everybody, and is given up", generation.key)
            self._end(generation, "left")

    def _end(self, generation: Generation, ending: _Ending) -> None:
        if generation in self._waiting:
            self._waiting.remove(generation)
            self._forget(generation)
        generation.end(ending)

    def _next(self) -> None:
        while self._waiting and len(self._running) < self._settings.generations:
            generation = self._waiting.popleft()
            self._running.add(generation)
            generation.start(lambda g: self._spawn(self._run(g), name=f"writing {g.key}"))
        for generation in self._waiting:
            generation.notify()  # their place in the queue has changed

    async def _run(self, generation: Generation) -> None:
        begun = time.monotonic()
        try:
            await generation.write(self._engine, self._settings.time_limit)
        finally:
            self._running.discard(generation)
            self._next()
        if generation.finished.is_set():
            self._remember(generation)
            self._forget(generation)
            return
        self._seconds_per_page += 0.2 * (time.monotonic() - begun - self._seconds_per_page)
        try:
            await self._keep(generation)
        except Exception:
            # Nothing that can be tried again: a text that no database takes, say. It must not block its page.
            log.exception("%s could not be kept", generation.key)
            generation.settle("failed", _INSIDE)
            self._forget(generation)

    async def _keep(self, generation: Generation) -> None:
        """Keep a finished page. While the store refuses it, the page lives here and is tried again."""
        page = generation.new_page()
        attempt = 0
        while generation.kept is None:
            try:
                generation.kept = await self._store.keep(page)
            except StoreError as error:
                log.error("%s could not be kept: %s", generation.key, error)
                generation.settle("written", f"Not kept yet: {error}")
                if self._closing:
                    return
                await asyncio.sleep(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])
                attempt += 1
        self._remains.pop(generation.key, None)
        generation.settle("written", "")
        self._forget(generation)

    def _remember(self, generation: Generation) -> None:
        remains = generation.remains()
        if remains:
            _put(self._remains, generation.key, remains, _REMAINS)

    def _forget(self, generation: Generation) -> None:
        if self._by_key.get(generation.key) is generation:
            del self._by_key[generation.key]
        _put(self._recent, generation.key, generation, _RECENT)

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
        for generation in list(self._by_key.values()):
            self._end(generation, "closing")
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LOCK_TIMEOUT + 1)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for generation in list(self._by_key.values()):
            if generation.state == "written" and generation.kept is None:
                with contextlib.suppress(StoreError):
                    await self._store.keep(generation.new_page())


def _put(cache: OrderedDict[str, T], key: str, value: T, limit: int) -> None:
    """Put a value into a cache that forgets the oldest."""
    cache[key] = value
    cache.move_to_end(key)
    while len(cache) > limit:
        cache.popitem(last=False)
