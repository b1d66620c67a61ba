"""A generation: one page while it is being written, and those who look at it.

The queue of all generations, and what is done with a finished one, is the business of ``generations``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from unwritten_engine import Engine, EngineError, Priority, Request

from ..core.errors import PageFailed, SchemaMismatch, TimedOut, UnwrittenError
from ..formats.links import Linker
from ..formats.page import Page
from ..rendering.regions import PageState, PageView, Region
from ..storage.records import UNOPENED, WRITTEN, Change, PageWrite, Provenance, StoredCanvas, StoredPage
from .region_job import RegionJob, page_to_store

log = logging.getLogger("unwritten")


Ending: TypeAlias = Literal["stopped", "left", "closing"]
"""Why a generation was broken off: somebody asked for it, everybody left, or the server stops."""


TextCheck: TypeAlias = Callable[[str, str, str], Awaitable[None]]
"""Called with a page's key, a region's name, and its finished text."""


INSIDE = "Something went wrong inside. The server's log says what."


@dataclass(eq=False)
class Subscriber:
    """Somebody who looks at pages. ``changed`` is set when there is something new to see; what it is, they ask.

    Nothing is queued for a watcher, so a slow one costs nothing and simply skips frames.
    """

    changed: asyncio.Event = field(default_factory=asyncio.Event)


class JobObserver:
    """Somebody who wants to know what happens to every page that is written. All methods are called in the event loop
    and must be quick; what they raise is logged and harms no page."""

    def on_start(self, job: PageJob) -> None:
        """A page is being written, or waits for its turn."""

    def on_promote(self, job: PageJob) -> None:
        """Somebody has come for a page that was being written ahead: it counts as a click from now on."""

    def on_frame(self, job: PageJob, region_job: RegionJob) -> None:
        """A region has its next frame."""

    def on_region_failed(self, job: PageJob, region_job: RegionJob, error: Exception) -> None:
        """A region cannot be written, or cannot be drawn."""

    def on_end(self, job: PageJob) -> None:
        """A page has come to its end: its state is final, and if it is written, it is kept."""


class PageJob:
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
        priority: who is waiting for it.
        rank: among pages that are written ahead, the lowest goes first.
        visitor: who began it; "" if nobody did, or the server does not know.
        change_of: what it changes of a page that is there, and how.
        before: that page, which stays if the change comes to nothing.
        undone: whether it came to nothing; the state is "written" again then.
        amends: whether it only adds to what is kept of the page.
        listeners: who is told of its frames.
        lost: tokens that were written and thrown away, about.
        check: asked for every finished text before anybody sees it; None if nobody asks. It raises to say no.
    """

    def __init__(
        self,
        key: str,
        page: Page,
        title: str,
        region_jobs: dict[str, RegionJob],
        linker: Linker,
        priority: Priority = Priority.CLICK,
        visitor: str = "",
        *,
        change: Change = WRITTEN,
        before: StoredPage | None = None,
    ) -> None:
        self.key = key
        self.page = page
        self.title = title
        self.regions = region_jobs
        self.linker = linker
        self.priority = priority
        self.rank = 0
        self.visitor = visitor
        self.change_of = change
        self.before = before
        self.undone = False
        self.is_amendment = False
        self.observers: Sequence[JobObserver] = ()
        self.check: TextCheck | None = None
        self.state: PageState = "queued"
        self.message = ""
        self.kept: StoredPage | None = None
        self.finished = asyncio.Event()
        self.change = 0
        self._subscribers: set[Subscriber] = set()
        self._task: asyncio.Task[None] | None = None
        self._ending: Ending | None = None
        self._at_work = False
        self._makes_way = False
        self._requests: list[Request] = []
        self._group: tuple[asyncio.TaskGroup, Engine] | None = None
        self._complete = False
        self._grace: asyncio.TimerHandle | None = None
        self._since: float | None = None
        self._seconds = 0.0
        self.lost = 0

    # -- who looks ----------------------------------------------------------------------------------------

    def subscribe(self, subscriber: Subscriber) -> None:
        """Somebody looks at the page from now on."""
        self._subscribers.add(subscriber)
        if self._grace:
            self._grace.cancel()
            self._grace = None

    def unsubscribe(self, subscriber: Subscriber, grace: float, leave: Callable[[PageJob], None]) -> None:
        """Somebody does not look any more. The last one starts the grace timer."""
        self._subscribers.discard(subscriber)
        self.start_grace_period(grace, leave)

    def start_grace_period(self, grace: float, leave: Callable[[PageJob], None]) -> None:
        """Give the page up if nobody looks at it for ``grace`` seconds."""
        if not self._subscribers and not self._grace and not self.finished.is_set():
            self._grace = asyncio.get_running_loop().call_later(grace, leave, self)

    @property
    def ending(self) -> Ending | None:
        """Why it was broken off; None if it was not."""
        return self._ending

    @property
    def seconds(self) -> float:
        """Seconds of work so far, from its start to its end; while it waits it stands still."""
        return self._seconds + (0.0 if self._since is None else time.monotonic() - self._since)

    def _stop_clock(self) -> None:
        self._seconds, self._since = self.seconds, None

    @property
    def subscribers(self) -> int:
        """How many look."""
        return len(self._subscribers)

    def notify(self) -> None:
        """Tell everybody who looks that something is new."""
        self.change += 1
        for subscriber in self._subscribers:
            subscriber.changed.set()

    def publish(self, what: Callable[[JobObserver], None]) -> None:
        """Tell the listeners."""
        for observer in self.observers:
            try:
                what(observer)
            except Exception:
                log.exception("%s: %s raised", self.key, type(observer).__name__)

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
            kept=self.undone,
            provenance=self.provenance() if self.state == "written" else None,
            message=self.message,
            change=kept.change if kept else self.change_of,
        )

    def provenance(self) -> Provenance | None:
        """By which model the page was written and at which cost; None while it is not finished."""
        return self.kept.provenance if self.kept else self._provenance

    _provenance: Provenance | None = None

    def region_views(self) -> dict[str, Region]:
        """Return the regions as templates see them."""
        return {name: region_job.region() for name, region_job in self.regions.items()}

    def fail_region(self, region_job: RegionJob, error: Exception, message: str = "") -> None:
        """One region cannot be written. The others go on.

        Args:
            writing: the region.
            error: why.
            message: what people are told, if not the error's own words.
        """
        message = message or str(error)
        log.warning("%s: the region %r failed: %s", self.key, region_job.name, message)
        region_job.state = "failed"
        region_job.count()
        self.message = message
        self.publish_failure(region_job, error)
        self.notify()

    def publish_failure(self, region_job: RegionJob, error: Exception) -> None:
        self.publish(lambda observer: observer.on_region_failed(self, region_job, error))

    # -- the work -----------------------------------------------------------------------------------------

    def start(self, run: Callable[[PageJob], asyncio.Task[None]]) -> None:
        """Begin."""
        self.state = "writing"
        self._since = time.monotonic()
        self._task = run(self)
        self.notify()

    def add_regions(self, page: Page, more: Mapping[str, RegionJob]) -> bool:
        """What the page needs has changed while it is written: ``more`` regions are written along with the others.

        Returns:
            Whether they could still join; if not, they are to be written when this is over.
        """
        self.page = page
        if self._complete or self.finished.is_set() or self._ending is not None:
            return not more
        for name, region_job in more.items():
            if self._group is not None and not self._makes_way and region_job.state != "written":
                group, engine = self._group
                work = self._write_region(engine, region_job)
                try:
                    group.create_task(work)
                except RuntimeError:  # the last region has just been finished
                    work.close()
                    return False
            self.regions[name] = region_job
        return True

    def end(self, ending: Ending) -> None:
        """Break the work off. Does nothing if all is written, kept or not yet."""
        if self.finished.is_set() or self._complete:
            return
        self._ending = ending
        if self._task is None:
            self.settle("stopped", "")
        elif self._at_work:
            self._task.cancel()
        # A task that is cancelled before its first step never runs at all: one that has not begun sees to it itself.

    def promote(self, engine: Engine) -> None:
        """Somebody waits for the page now: it counts as a click, and so do its requests at work."""
        self.priority = Priority.CLICK
        for request in self._requests:
            engine.promote(request)

    def preempt(self) -> None:
        """Stop working, and wait for another turn. Finished regions stay; the others will be written anew."""
        if self._task is None or self._complete or self.finished.is_set():
            return
        self._makes_way = True
        if self._at_work:
            self._task.cancel()

    def _drop(self) -> None:
        """Count what is thrown away. A token has about four characters; nobody knows more of an unfinished text."""
        unfinished = (region_job for region_job in self.regions.values() if region_job.state != "written")
        self.lost += sum(len(region_job.frame.text) for region_job in unfinished) // 4

    def _wait_again(self) -> None:
        self._drop()
        self._makes_way = self._at_work = False
        self._task = self._group = None
        self._stop_clock()
        self._requests.clear()
        self.state = "queued"
        self.message = ""
        for region_job in self.regions.values():
            region_job.restart()
        self.notify()

    async def write(self, engine: Engine, time_limit: float) -> None:
        """Write all regions at the same time, and come to a state that will not change, or to "queued"."""
        self._at_work = True
        try:
            if self._ending is not None or self._makes_way:
                raise asyncio.CancelledError
            async with asyncio.timeout(time_limit):
                async with asyncio.TaskGroup() as group:
                    self._group = group, engine
                    for region_job in self.regions.values():
                        if region_job.state != "written":
                            group.create_task(self._write_region(engine, region_job))
        except TimeoutError:
            error = TimedOut(f"The page was not finished after {time_limit:g} seconds, and was given up.")
            self.settle("failed", str(error))
        except asyncio.CancelledError:
            if self._ending is not None:
                left = "The page was left before it was finished."
                self.settle("stopped", "" if self._ending == "stopped" else left)
            elif self._makes_way:
                self._wait_again()
            else:
                raise
        else:
            self._group = None
            self._stop_clock()
            if all(region_job.state == "written" for region_job in self.regions.values()):
                about = engine.about
                self._complete = True
                self._provenance = self._sum(about.model, about.engine)
            else:
                self.settle("failed", self.message or "A part of the page could not be written.")

    async def _write_region(self, engine: Engine, region_job: RegionJob) -> None:
        try:
            while True:
                try:
                    await self._follow(engine, region_job)
                    break
                except SchemaMismatch as error:
                    if not region_job.retry(error):
                        raise SchemaMismatch(f"The model was asked twice. {error}") from None
                    log.warning("%s: the region %r is asked for again: %s", self.key, region_job.name, error)
            if region_job.state != "written":
                raise PageFailed("The engine ended without a last frame.")
            if region_job.repairs:
                log.info("%s: the region %r was repaired: %s", self.key, region_job.name, "; ".join(region_job.repairs))
        except (UnwrittenError, EngineError) as error:
            if region_job.state != "failed":  # it may have failed while it was drawn
                self.fail_region(region_job, error)
        except Exception as error:
            log.exception("%s: the region %r failed", self.key, region_job.name)
            self.fail_region(region_job, error, INSIDE)

    async def _follow(self, engine: Engine, region_job: RegionJob) -> None:
        """One attempt at a region, from its first frame to its last, over all the requests that it takes."""
        while True:
            done = region_job.requests
            request = region_job.request(self.priority)
            self._requests.append(request)
            async with contextlib.aclosing(engine.generate(request)) as frames:
                async for given in frames:
                    frame = region_job.fitted(given)
                    if self.check is not None:
                        if frame.usage is None:
                            continue  # nobody sees what nobody has checked
                        await self.check(self.key, region_job.name, region_job.final(frame))
                    region_job.apply_frame(frame)
                    self.notify()
                    self.publish(lambda observer: observer.on_frame(self, region_job))
            if region_job.requests == done:
                return

    def settle(self, state: PageState, message: str) -> None:
        """Come to the end: nothing changes after this."""
        if state != "written" and self.before is not None:
            state, message = self._put_back(self.before, state, message)
        self.state = state
        self.message = message
        self._stop_clock()
        if state != "written":
            self._drop()
            for region_job in self.regions.values():
                region_job.end("stopped" if state == "stopped" else "failed")
        if self._grace:
            self._grace.cancel()
            self._grace = None
        self.finished.set()
        self.notify()

    def _put_back(self, before: StoredPage, state: PageState, message: str) -> tuple[PageState, str]:
        """A change has come to nothing: what was there is there again."""
        for name, region_job in self.regions.items():
            if name not in before.canvases or (region_job.state == "written" and name not in self._changed()):
                continue
            try:
                region_job.roll_back(before.canvases[name])
            except PageFailed:  # the author has changed the shape since
                return state, message
        self.kept, self.undone = before, True
        log.info("%s: a change came to nothing: %s", self.key, message or state)
        why = "The change was stopped." if state == "stopped" and not message else message
        return "written", f"{why} The page is as it was."

    def is_kept(self, kept: StoredPage) -> None:
        """All is written and kept already: it is there to be shown."""
        self.kept = kept
        self.settle("written", "")

    def rebase(self, now: StoredPage | None) -> None:
        """The page has moved on since this change began: it goes on top of what is there now.

        Args:
            now: what is there; None if the page was deleted.
        """
        for name, region_job in self.regions.items():
            if now is not None and name not in self._changed() and name in now.canvases:
                with contextlib.suppress(PageFailed):
                    region_job.roll_back(now.canvases[name])
        self.before = now
        self.change_of = replace(self.change_of, base=now.version if now else None)

    def _changed(self) -> Collection[str]:
        return self.change_of.regions or self.regions.keys()

    def page_to_store(self) -> PageWrite:
        """The finished page for the store."""
        assert self._provenance is not None
        page = page_to_store(self.key, self.title, self.regions, self.linker, self._provenance, self.change_of)
        return replace(page, amends=self.is_amendment)

    def partial_results(self) -> dict[str, StoredCanvas]:
        """The regions that were finished. Those of a change are no beginning of anything."""
        if self.before is not None:
            return {}
        return {name: region_job.kept() for name, region_job in self.regions.items() if region_job.state == "written"}

    def _sum(self, model: str, engine: str) -> Provenance:
        kept = [self.regions[name].kept() for name in self._changed()]
        return Provenance(
            model=model,
            engine=engine,
            seed=kept[0].seed,
            tokens=sum(c.tokens for c in kept),
            steps=sum(c.steps for c in kept),
            canvases=sum(c.canvases for c in kept),
            seconds=round(self._seconds, 3),
            reason=next((c.reason for c in kept if c.reason != "end"), "end"),
            ahead=UNOPENED if self.priority is Priority.PREFETCH else None,
        )
