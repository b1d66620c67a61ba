"""Followers: jobs that show what another process generates, until it ends or this process has to continue."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from ..broker.base import RELEASED, Broker, Lease, Subscription
from ..core.errors import BrokerUnavailable, StoreError
from ..core.incidents import report_to_visitor
from ..core.localization import gettext_lazy as _
from ..core.localization import unpack_text
from ..storage.pages import PageStore
from .page_job import ABANDONED, SHUTDOWN, CancelReason, PageJob
from .shared_jobs import adopt, outcome_of, show_frames

log = logging.getLogger("unwritten")

_HOLDER_LOST = _("The server that made this change was stopped.")


class Followers:
    """The jobs of this process that follow others.

    Args:
        broker: Delivers the frames.
        store: Where other processes save finished pages.
        time_limit: Seconds for which a job waits while the broker is unavailable. Then it fails.
        on_end: Called with every job that has ended. It is finished.
        on_lease: Called with a job whose lease holder has disappeared, and the lease to continue it.
    """

    def __init__(
        self,
        broker: Broker,
        store: PageStore,
        time_limit: float,
        *,
        on_end: Callable[[PageJob], None],
        on_lease: Callable[[PageJob, Lease], None],
    ) -> None:
        self._broker = broker
        self._store = store
        self._time_limit = time_limit
        self._on_end = on_end
        self._on_lease = on_lease
        self._tasks: dict[PageJob, asyncio.Task[Lease | None]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, job: PageJob) -> bool:
        return job in self._tasks

    def add(self, job: PageJob) -> None:
        """Let a job follow the process that generates its page."""
        job.begin_following()
        task = self._tasks[job] = asyncio.create_task(self._follow(job), name=f"following {job.key}")
        task.add_done_callback(lambda task: self._on_done(job, task))

    def cancel(self, job: PageJob, reason: CancelReason) -> None:
        """Stop a job for all processes ("stopped"), or stop following."""
        if reason == "stopped":
            self._broker.send(job.slot, "stop")  # its outcome follows
        else:
            job.cancel_reason = reason
            self._tasks[job].cancel()

    async def close(self) -> None:
        """Stop following."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _on_done(self, job: PageJob, task: asyncio.Task[Lease | None]) -> None:
        del self._tasks[job]
        job.shown.set()
        lease = None if task.cancelled() or task.exception() else task.result()
        if lease is not None:
            self._on_lease(job, lease)
            return
        if not task.cancelled() and (error := task.exception()):
            job.finish("failed", report_to_visitor(log, f"Following {job.key}", error))
        elif not job.finished.is_set():
            job.finish("stopped", ABANDONED if job.cancel_reason == "abandoned" else SHUTDOWN)
        self._on_end(job)

    async def _follow(self, job: PageJob) -> Lease | None:
        async with self._broker.follow(job.slot, lambda: job.num_own_subscribers) as subscription:
            return await self._show(job, subscription)

    async def _show(self, job: PageJob, subscription: Subscription) -> Lease | None:
        """Show what another process generates. Return the lease if this process has to continue.

        Otherwise the job is finished on return.
        """
        clock = asyncio.get_running_loop().time
        heard_at = clock()
        while job.cancel_reason is None:  # the client of Redis may swallow a cancellation
            message = await subscription.next()
            kind, state = message["type"], message.get("state", "")
            if kind == "frames":
                heard_at = clock()
                await show_frames(job, message)
                if message["regions"]:
                    job.shown.set()
                continue
            if kind == "end" and state != "written":
                await show_frames(job, message)
            if kind == "end" and state in {"failed", "stopped"} and not message["left"]:
                job.finish(state, unpack_text(message["message"]))
                return None
            if self._adopt(job, message):
                return None
            if kind == "unavailable":
                if clock() - heard_at > self._time_limit:
                    job.finish("failed", _("The connection to the server that writes this page was lost."))
                    return None
                continue
            try:
                lease = await self._broker.claim(job.slot)
            except BrokerUnavailable:
                continue
            if lease is None:
                continue
            # The other process may have stored the page just before it disappeared.
            if job.cancel_reason is not None or self._adopt(job, {}):
                lease.end(RELEASED)
                return None
            if job.previous is None:
                return lease
            job.finish("failed", _HOLDER_LOST)  # a change, whose instruction only the other process has
            lease.end(outcome_of(job))
            return None
        return None

    def _adopt(self, job: PageJob, outcome: Mapping[str, Any]) -> bool:
        """Finish a job with the stored page, if another process has stored it. Return False if it has not."""
        is_written = outcome.get("state") == "written"
        try:
            stored = self._store.get(job.key)
        except StoreError as error:
            log.warning("%s: what another process has stored cannot be read yet: %s", job.key, error)
            return False
        is_older = job.previous is not None and stored is not None and stored.version <= job.previous.version
        if (is_older and not is_written) or not adopt(job, stored):
            return False
        job.reverted = bool(outcome.get("reverted"))
        job.finish("written", unpack_text(outcome["message"]) if is_written else "")
        return True
