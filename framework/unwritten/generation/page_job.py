"""A page job: one page while it is generated, its regions, and its subscribers.

``job_queue`` decides when a job runs, and stores its result.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, TypeAlias

from unwritten_engine import Engine, EngineError, Priority, Request
from unwritten_engine.text_thread import in_text_thread

from ..core.errors import PageFailed, TimedOut, UnusableText, UnwrittenError
from ..core.incidents import report_to_visitor
from ..core.localization import gettext_lazy as _
from ..core.localization import join
from ..core.localization import ngettext_lazy as _n
from ..formats.links import Linker
from ..formats.page import Page
from ..formats.uploads import Upload
from ..rendering.regions import PageState, PageView, Region
from ..storage.records import UNOPENED, WRITTEN, Change, PageWrite, Provenance, StoredCanvas, StoredPage
from .frame_formatting import LONG_TEXT, FrameFormatter
from .region_job import RegionJob, page_to_store

log = logging.getLogger("unwritten")

CancelReason: TypeAlias = Literal["stopped", "abandoned", "shutdown"]
"""Why a job was cancelled: a visitor stopped it, its last subscriber left, or the server shuts down."""

TextCheck: TypeAlias = Callable[[str, str, str], Awaitable[None]]
"""Called with a page's key, a region's name and its finished text. Raises ``Denied`` to reject the text."""

ReadImages: TypeAlias = Callable[[Sequence[Upload | bytes]], tuple[bytes, ...]]
"""Returns the content of a canvas's images. Raises ``PageFailed`` if one is not stored any more. Blocks."""


def _no_images(images: Sequence[Upload | bytes]) -> tuple[bytes, ...]:
    raise PageFailed(_("The images of this page cannot be read."))


UNATTENDED_RANK = 9
"""The ``link_rank`` of pages that a script writes: after all prefetches; see ``prefetcher.LinkRank``."""

_REVERTED = _("The page is as it was.")
SHUTDOWN = _("The server is restarting. Reload this page in a moment to continue.")
ABANDONED = _("The page was left before it was finished.")

_CANCEL_MESSAGES: Mapping[CancelReason, str] = {
    "stopped": "",
    "abandoned": ABANDONED,
    "shutdown": SHUTDOWN,
}


@dataclass(eq=False)
class Subscriber:
    """Receives a notification whenever a job changes.

    Nothing is queued: a slow subscriber costs nothing, and skips frames.

    Attributes:
        changed: Set when a job has changed. The subscriber clears it, and reads the job.
    """

    changed: asyncio.Event = field(default_factory=asyncio.Event)


def refresh_slot(key: str) -> str:
    """Return the key under which the queue and the broker have the refresh of a page. No page can have it."""
    return f"{key} (refresh)"


class JobObserver:
    """Base class for observers, which are notified of events of every job. Override the methods that you need.

    All methods are called in the event loop and must return quickly. What they raise is logged, and does not affect
    the job.
    """

    def on_start(self, job: PageJob) -> None:
        """Called when a job was submitted: it runs, waits in the queue, or follows another process.

        Called again if this process takes over a job that it has followed.
        """

    def on_promote(self, job: PageJob) -> None:
        """Called when a visitor opens a page that is being prefetched. The job counts as a click from now on."""

    def on_frame(self, job: PageJob, region_job: RegionJob) -> None:
        """Called when a region has a new frame."""

    def on_region_failed(self, job: PageJob, region_job: RegionJob, error: Exception) -> None:
        """Called when a region cannot be generated or rendered."""

    def on_end(self, job: PageJob) -> None:
        """Called when a job has ended. Its state is final. If it is "written", the page is stored."""


class PageJob:
    """One page while it is generated.

    Args:
        key: The page's key.
        page: What the page function returned.
        title: The page's title.
        region_jobs: Its regions by name, in the order of the page. Finished ones are not regenerated.
        linker: Decides where links lead.
        priority: Whether a visitor waits for the page.
        client_id: The client that is charged; "" if unknown.
        change: What the job changes on the page, and how.
        previous: The stored page that the job changes. It stays if the job fails. None for a new page.

    Attributes:
        regions: The region jobs by name.
        visitor: The identifier of the visitor who has started the job and may stop it; see ``VisitorCookie``. "": none.
        detail: What the owner sees instead of ``message``: the text of an error. Empty: the same.
        link_rank: The rank of the link that is prefetched; see ``prefetcher.LinkRank``. The lowest runs first.
        is_amendment: True if the job only adds regions to a stored page.
        base_version: The version that the job replaces; 0 if the page must not exist. None: any.
        follows: True while another process generates the page, and this one shows its frames.
        shown: Set when it has followed long enough to show the current frames.
        position: While it follows, how many waiting jobs start before this one.
        other_subscribers: The number of subscribers in other processes.
        publisher: Notified of changes like a subscriber, but not counted. None: nothing is published.
        observers: Notified of every frame.
        check_text: Called with every finished text before it is shown. None: drafts are shown at once.
        read_images: Returns the content of images.
        state: queued, writing, written, stopped or failed.
        message: A sentence for visitors if something went wrong.
        stored: The page in the store, once it is saved.
        slot: The key under which the queue has the job: the page's key, or another one; see ``refresh_slot``.
        reverted: True if a change failed and the page is as it was before. The state is "written" then.
        cancel_reason: Why the job was cancelled; None if it was not.
        finished: Set when the job has reached its final state.
        num_updates: How often subscribers were notified.
        shows_age: True if texts of the page are generated again when they are old; see ``freshness``.
        as_of: When the oldest of them was generated. None: when the page was stored.
        discarded_tokens: About how many generated tokens were thrown away.
        is_attended: False if a script or a command has caused the job, and no visitor. Then no budget is charged, and
            it may use all places that clicks leave free.
    """

    is_page = True
    """False if the result is not a page, and is not stored; see ``text_generator.TextJob``."""

    def __init__(
        self,
        key: str,
        page: Page,
        title: str,
        region_jobs: dict[str, RegionJob],
        linker: Linker,
        priority: Priority = Priority.CLICK,
        client_id: str = "",
        *,
        change: Change = WRITTEN,
        previous: StoredPage | None = None,
    ) -> None:
        self.key = key
        self.slot = key
        self.page = page
        self.title = title
        self.regions = region_jobs
        self.linker = linker
        self.priority = priority
        self.client_id = client_id
        self.change = change
        self.previous = previous
        self.visitor = ""
        self.detail = ""
        self.link_rank = 0
        self.is_amendment = False
        self.base_version: int | None = None
        self.follows = False
        self.shown = asyncio.Event()
        self.position = 0
        self.other_subscribers = 0
        self.publisher: Subscriber | None = None
        self.observers: Sequence[JobObserver] = ()
        self.check_text: TextCheck | None = None
        self.read_images: ReadImages = _no_images
        self.state: PageState = "queued"
        self.message = ""
        self.stored: StoredPage | None = None
        self.reverted = False
        self.cancel_reason: CancelReason | None = None
        self.finished = asyncio.Event()
        self.num_updates = 0
        self.discarded_tokens = 0
        self.shows_age = False
        self.as_of: datetime | None = None
        self.is_attended = True
        self._subscribers: set[Subscriber] = set()
        self._grace_timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._task_entered = False
        self._preempted = False
        self._requests: list[Request] = []
        self._group: tuple[asyncio.TaskGroup, Engine] | None = None
        self._complete = False
        self._provenance: Provenance | None = None
        self._started_at: float | None = None
        self._seconds = 0.0

    # -- subscribers --------------------------------------------------------------------------------------

    @property
    def num_subscribers(self) -> int:
        """The number of subscribers, in all processes."""
        return len(self._subscribers) + self.other_subscribers

    @property
    def num_own_subscribers(self) -> int:
        """The number of subscribers in this process."""
        return len(self._subscribers)

    def subscribe(self, subscriber: Subscriber) -> None:
        """Notify a subscriber of changes from now on."""
        self._subscribers.add(subscriber)
        self._cancel_grace_timer()

    def unsubscribe(self, subscriber: Subscriber, grace: float, on_expired: Callable[[PageJob], None]) -> None:
        """Stop notifying a subscriber. If it was the last one, start the grace period."""
        self._subscribers.discard(subscriber)
        self.start_grace_period(grace, on_expired)

    def start_grace_period(self, grace: float, on_expired: Callable[[PageJob], None]) -> None:
        """Call ``on_expired`` in ``grace`` seconds if the job runs and has no subscriber until then."""
        if not self.num_subscribers and not self._grace_timer and not self.finished.is_set():
            self._grace_timer = asyncio.get_running_loop().call_later(grace, on_expired, self)

    def set_other_subscribers(self, number: int, grace: float, on_expired: Callable[[PageJob], None]) -> None:
        """Record the number of subscribers in other processes. If the last one has left, start the grace period."""
        had_others, self.other_subscribers = self.other_subscribers > 0, number
        if number:
            self._cancel_grace_timer()
        elif had_others:
            self.start_grace_period(grace, on_expired)

    def _cancel_grace_timer(self) -> None:
        if self._grace_timer:
            self._grace_timer.cancel()
            self._grace_timer = None

    def notify(self) -> None:
        """Notify all subscribers that the job has changed."""
        self.num_updates += 1
        for subscriber in self._subscribers:
            subscriber.changed.set()
        if self.publisher is not None:
            self.publisher.changed.set()

    def publish(self, event: Callable[[JobObserver], None]) -> None:
        """Call a method of every observer."""
        for observer in self.observers:
            try:
                event(observer)
            except Exception:
                log.exception("%s: the observer %s failed", self.key, type(observer).__name__)

    # -- what templates see -------------------------------------------------------------------------------

    def view(self) -> PageView:
        """Return the page as templates see it."""
        stored = self.stored
        return PageView(
            key=self.key,
            title=self.title,
            state=self.state,
            version=stored.version if stored else None,
            versions=stored.versions if stored else 0,
            written_at=stored.written_at if stored else None,
            stored=self.reverted,
            provenance=self.provenance() if self.state == "written" else None,
            message=self.message,
            change=stored.change if stored else self.change,
            lang=self.page.lang,
            as_of=self.as_of or (stored.written_at if stored and self.shows_age else None),
        )

    def region_views(self) -> dict[str, Region]:
        """Return the regions as templates see them."""
        return {name: region_job.region() for name, region_job in self.regions.items()}

    def provenance(self) -> Provenance | None:
        """Return which model generated the page, and at what cost. None if the page is not finished."""
        return self.stored.provenance if self.stored else self._provenance

    @property
    def is_refresh(self) -> bool:
        """True if the job makes the next version of a page in the background. Nothing of it is shown before."""
        return self.slot != self.key

    # -- control ------------------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Seconds for which the job has run. Time in the queue does not count."""
        return self._seconds + (0.0 if self._started_at is None else time.monotonic() - self._started_at)

    def start(self, create_task: Callable[[PageJob], asyncio.Task[None]]) -> None:
        """Start running. ``create_task`` returns a task that calls ``run``."""
        self.state = "writing"
        self._started_at = time.monotonic()
        self._task = create_task(self)
        self.notify()

    def begin_following(self) -> None:
        """Show what another process generates from now on. Call it while the job does not run."""
        self.follows = True
        self.publisher = None
        self._task = None
        self._task_entered = self._preempted = self._complete = False
        if not self.finished.is_set():
            self.state = "writing"
        self.notify()

    def set_base(self, stored: StoredPage | None) -> None:
        """Decide what the job's regions become: a new page, a new version, or an addition to the stored version.

        Args:
            stored: The page as it is stored now. Its regions that still fit are "written" in the job.
        """
        carried = [self.regions[name] for name in (stored.canvases if stored else ()) if name in self.regions]
        self.is_amendment = bool(carried) and all(region_job.state == "written" for region_job in carried)
        self.base_version = stored.version if stored else 0

    def add_regions(self, page: Page, more: Mapping[str, RegionJob]) -> bool:
        """Add regions to a running job, because the page's content has changed.

        Args:
            page: What the page function returns now.
            more: The new regions.

        Returns:
            True if the job generates them. False if they must be generated after the job has ended.
        """
        self.page = page
        if self._complete or self.finished.is_set() or self.cancel_reason is not None:
            return not more
        for name, region_job in more.items():
            if self._group is not None and not self._preempted and region_job.state != "written":
                group, engine = self._group
                work = self._run_region(engine, region_job)
                try:
                    group.create_task(work)
                except RuntimeError:  # the last region has just finished, and the group is closed
                    work.close()
                    return False
            self.regions[name] = region_job
        return True

    def promote(self, engine: Engine) -> None:
        """Turn a prefetch into a click: a visitor waits for the page now."""
        self.priority = Priority.CLICK
        for request in self._requests:
            engine.promote(request)

    def preempt(self) -> None:
        """Stop running and return to the queue. Finished regions stay, the others start over."""
        if self._task is None or self._complete or self.finished.is_set():
            return
        self._preempted = True
        self._cancel_task()

    def cancel(self, reason: CancelReason) -> None:
        """Stop the job permanently. Does nothing if all regions are written, even if they are not stored yet."""
        if self.finished.is_set() or self._complete:
            return
        self.cancel_reason = reason
        if self._task is None:
            self.finish("stopped", _CANCEL_MESSAGES[reason])
        else:
            self._cancel_task()

    def _cancel_task(self) -> None:
        # A task that is cancelled before its first step never runs at all, so that ``run`` could not clean up.
        # If it has not been entered, ``run`` notices the flag itself.
        if self._task_entered and self._task is not None:
            self._task.cancel()

    def finish(self, state: PageState, message: str) -> None:
        """Enter the final state.

        Args:
            state: written, stopped or failed. A change that is not "written" is reverted.
            message: A sentence for visitors; "" if there is nothing to say.
        """
        detail = self.detail if message == self.message else ""
        if state != "written" and self.previous is not None:
            state, message = self._revert(self.previous, state, message)
            detail = join(detail, _REVERTED) if detail and self.reverted else detail
        self.state, self.message, self.detail = state, message, detail
        self._stop_clock()
        if state != "written":
            self._count_discarded()
            for region_job in self.regions.values():
                region_job.abort("stopped" if state == "stopped" else "failed")
        self._cancel_grace_timer()
        self.finished.set()
        self.notify()

    def _revert(self, previous: StoredPage, state: PageState, message: str) -> tuple[PageState, str]:
        """Show the stored page again, because its change has failed. Return the final state and message."""
        for name, region_job in self.regions.items():
            if name not in previous.canvases or (region_job.state == "written" and name not in self._changed_regions()):
                continue
            try:
                region_job.roll_back(previous.canvases[name])
            except PageFailed:  # the author has changed the schema since
                return state, message
        self.stored, self.reverted = previous, True
        log.info("%s: a change was reverted: %s", self.key, message or state)
        reason = _("The change was stopped.") if state == "stopped" and not message else message
        return "written", join(reason, _REVERTED)

    # -- running ------------------------------------------------------------------------------------------

    async def run(self, engine: Engine, time_limit: float) -> None:
        """Generate all regions at the same time.

        Afterwards the job is finished, or queued again because it was preempted, or complete and not stored yet.

        Args:
            engine: The engine.
            time_limit: Seconds after which the job fails.
        """
        self._task_entered = True
        try:
            if self.cancel_reason is not None or self._preempted:
                raise asyncio.CancelledError
            async with asyncio.timeout(time_limit):
                async with asyncio.TaskGroup() as group:
                    self._group = group, engine
                    for region_job in self.regions.values():
                        if region_job.state != "written":
                            group.create_task(self._run_region(engine, region_job))
        except TimeoutError:
            error = TimedOut(
                _n(
                    "The page was not finished within %(num)s second.",
                    "The page was not finished within %(num)s seconds.",
                    time_limit,
                )
            )
            for region_job in self.regions.values():
                self._use_copy(region_job, error)
            self._end_run(engine, str(error))
        except asyncio.CancelledError:
            if self.cancel_reason is not None:
                self.finish("stopped", _CANCEL_MESSAGES[self.cancel_reason])
            elif self._preempted:
                self._requeue()
            else:  # the event loop ends
                self.finish("stopped", SHUTDOWN)
                raise
        else:
            self._end_run(engine, self.message or _("A part of the page could not be written."))

    def _end_run(self, engine: Engine, message: str) -> None:
        """Complete the job if all regions are written. Otherwise it has failed, with this message."""
        self._group = None
        self._stop_clock()
        if all(region_job.state == "written" for region_job in self.regions.values()):
            self._complete = True
            self._provenance = self._sum_provenance(engine.about.model, engine.about.engine)
        else:
            self.finish("failed", message)

    async def _run_region(self, engine: Engine, region_job: RegionJob) -> None:
        """Generate a region. An error fails the region, and not the others."""
        try:
            while True:
                try:
                    await self._generate(engine, region_job)
                    break
                except UnusableText as error:
                    if not region_job.retry(error):
                        raise type(error)(f"Two attempts failed. {error}") from None
                    log.warning("%s: the region %r is generated a second time: %s", self.key, region_job.name, error)
            if region_job.state != "written":
                raise PageFailed(_("The model stopped before the end of its text. Try again."))
            if region_job.repairs:
                log.info("%s: the region %r was repaired: %s", self.key, region_job.name, "; ".join(region_job.repairs))
        except (UnwrittenError, EngineError) as error:
            # Rendering may have marked it as failed.
            if region_job.state != "failed" and not self._use_copy(region_job, error):
                self.fail_region(region_job, error)
        except Exception as error:
            self.fail_region(region_job, error)

    async def _generate(self, engine: Engine, region_job: RegionJob) -> None:
        """Make one attempt at a region, over all the requests that it takes."""
        while True:
            completed = region_job.completed_requests
            request = region_job.request(self.priority)
            if region_job.canvas.images:
                images = await asyncio.to_thread(self.read_images, region_job.canvas.images)
                request = replace(request, prompt=replace(request.prompt, images=images))
            self._requests.append(request)
            formatter = FrameFormatter(region_job, lambda: self._publish_frame(region_job))
            async with contextlib.aclosing(formatter), contextlib.aclosing(engine.generate(request)) as frames:
                async for engine_frame in frames:
                    frame = region_job.merge(engine_frame)
                    if self.check_text is not None:
                        if frame.usage is None:
                            continue  # drafts are not shown before the finished text is checked
                        await self.check_text(
                            self.key if self.is_page else "", region_job.name, region_job.final_text(frame)
                        )
                    await formatter.show(frame)
            if region_job.completed_requests == completed:
                return

    def _use_copy(self, region_job: RegionJob, error: Exception) -> bool:
        """Show a first attempt that copied the prompt's example, because of an error. False if there is none."""
        if not region_job.use_copy():
            return False
        log.warning("%s: the region %r shows its first attempt: %s", self.key, region_job.name, error)
        self._publish_frame(region_job)
        return True

    def _publish_frame(self, region_job: RegionJob) -> None:
        self.notify()
        self.publish(lambda observer: observer.on_frame(self, region_job))

    def fail_region(self, region_job: RegionJob, error: Exception) -> None:
        """Mark a region as failed. The other regions continue.

        Args:
            region_job: The region.
            error: Why it failed.
        """
        self.message = report_to_visitor(log, f"{self.key}: the region {region_job.name!r}", error)
        self.detail = str(error)
        if self.message == self.detail:
            log.warning("%s: the region %r failed: %s", self.key, region_job.name, error)
        region_job.fail()
        self.publish_failure(region_job, error)
        self.notify()

    def publish_failure(self, region_job: RegionJob, error: Exception) -> None:
        """Notify the observers that a region failed."""
        self.publish(lambda observer: observer.on_region_failed(self, region_job, error))

    def _requeue(self) -> None:
        self._count_discarded()
        self._preempted = self._task_entered = False
        self._task = self._group = None
        self._stop_clock()
        self._requests.clear()
        self.state = "queued"
        self.message = ""
        for region_job in self.regions.values():
            region_job.reset()
        self.notify()

    def _count_discarded(self) -> None:
        """Add the text of unfinished regions to ``discarded_tokens``, at four characters per token."""
        unfinished = (region_job for region_job in self.regions.values() if region_job.state != "written")
        self.discarded_tokens += sum(len(region_job.frame.text) for region_job in unfinished) // 4

    def _stop_clock(self) -> None:
        self._seconds, self._started_at = self.seconds, None

    # -- the result ---------------------------------------------------------------------------------------

    def page_to_store(self) -> PageWrite:
        """Return the finished page for the store."""
        assert self._provenance is not None
        page = page_to_store(self.key, self.title, self.regions, self.linker, self._provenance, self.change)
        return replace(page, amends=self.is_amendment, replaces=self.base_version)

    async def prepare_to_store(self) -> PageWrite:
        """Return what ``page_to_store`` does. The links of long texts are looked for in a thread."""
        if sum(len(region_job.frame.text) for region_job in self.regions.values()) >= LONG_TEXT:
            return await in_text_thread(self.page_to_store)
        return self.page_to_store()

    def partial_results(self) -> dict[str, StoredCanvas]:
        """Return the finished regions, for the next attempt. Nothing if the job changes a stored page."""
        if self.previous is not None:
            return {}
        return {
            name: region_job.to_stored() for name, region_job in self.regions.items() if region_job.state == "written"
        }

    def rebase(self, current: StoredPage | None) -> None:
        """Apply the change to a newer version of the page, because that was stored meanwhile.

        Args:
            current: The current version. None if the page was deleted.
        """
        for name, region_job in self.regions.items():
            if current is not None and name not in self._changed_regions() and name in current.canvases:
                with contextlib.suppress(PageFailed):
                    region_job.roll_back(current.canvases[name])
        if self.change.base is None:  # the page is new, and another process has stored other regions of it
            self.is_amendment = self.is_amendment or (current is not None and self.base_version == 0)
            self.base_version = current.version if current else 0
            return
        self.previous = current
        self.change = replace(self.change, base=current.version if current else None)

    def _changed_regions(self) -> Collection[str]:
        return self.change.regions or self.regions.keys()

    def _sum_provenance(self, model: str, engine: str) -> Provenance:
        canvases = [self.regions[name].to_stored() for name in self._changed_regions()]
        return Provenance(
            model=model,
            engine=engine,
            seed=canvases[0].seed,
            tokens=sum(canvas.tokens for canvas in canvases),
            steps=sum(canvas.steps for canvas in canvases),
            canvases=sum(canvas.canvases for canvas in canvases),
            seconds=round(self._seconds, 3),
            reason=next((canvas.reason for canvas in canvases if canvas.reason != "end"), "end"),
            opened_after=UNOPENED if self.priority is Priority.PREFETCH and not self.is_refresh else None,
        )
