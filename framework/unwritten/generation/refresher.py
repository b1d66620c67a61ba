"""The refresher: generates the next version of a page whose texts are older than its author allows.

Visitors see the old version until the new one is stored. A refresh has low priority, runs once for all visitors and
processes, and is charged to the visitor whose visit has caused it. If it fails, the old version stays.
"""

from __future__ import annotations

import logging
import time

from cachetools import LRUCache

from ..core.background_tasks import BackgroundTasks
from ..core.errors import Busy, Denied, UnwrittenError
from ..core.tracebacks import log_error
from ..routing.routes import PageRequest
from ..storage.pages import PageStore
from .freshness import freshness_of
from .job_queue import JobQueue
from .job_starter import JobStarter
from .page_job import PageJob

log = logging.getLogger("unwritten")

MAX_REFRESHES = 8
"""Maximum number of pages that one process refreshes, or that wait for it. Others are tried at their next visit."""

RETRY_SECONDS = 60.0
"""Seconds after a failed refresh until the next attempt. They double with each failure in a row."""

MAX_RETRY_SECONDS = 6 * 3600.0
"""Maximum number of seconds until the next attempt."""

BUSY_SECONDS = 10.0
"""Seconds until the next attempt if the visitor's budget was spent, or the queue was full."""

_MAX_FAILURES = 1024
"""Maximum number of pages whose failures are remembered."""


class Refresher:
    """Refreshes the pages of one app."""

    def __init__(self, *, starter: JobStarter, jobs: JobQueue, store: PageStore) -> None:
        self._starter = starter
        self._jobs = jobs
        self._store = store
        self._tasks = BackgroundTasks()
        self._active: set[str] = set()
        self._retry_at: LRUCache[str, float] = LRUCache(_MAX_FAILURES)
        self._failures: LRUCache[str, int] = LRUCache(_MAX_FAILURES)

    @property
    def is_active(self) -> bool:
        """True if a page is refreshed, or will be in a moment."""
        return bool(self._active)

    def refresh_soon(self, page_request: PageRequest) -> None:
        """Refresh a page in the background because a visitor has seen its old version.

        Does nothing if it is refreshed already, the last attempt has failed a short time ago, or too many pages wait.
        """
        key = page_request.key
        if key in self._active or len(self._active) >= MAX_REFRESHES or self._jobs.draining:
            return
        if time.monotonic() < self._retry_at.get(key, 0.0):
            return
        self._active.add(key)
        self._tasks.start(self._refresh(page_request), f"refreshing {key}")

    async def _refresh(self, page_request: PageRequest) -> None:
        key = page_request.key
        try:
            job = await self.start(page_request)
            if job is None:  # another process refreshes it, or has done so
                self._retry_at[key] = time.monotonic() + BUSY_SECONDS
                return
            await job.finished.wait()
            if job.reverted and job.cancel_reason is None:
                self._failed(key, job.detail or job.message)
            else:
                self._failures.pop(key, None)
        except Busy as busy:
            log.debug("%s is not refreshed now: %s", key, busy)
            self._retry_at[key] = time.monotonic() + BUSY_SECONDS
        except (UnwrittenError, Denied) as error:
            self._failed(key, str(error))
        except Exception as error:
            log_error(log, f"{key} cannot be refreshed", error)
            self._failed(key, str(error))
        finally:
            self._active.discard(key)

    def _failed(self, key: str, reason: str) -> None:
        failures = self._failures.get(key, 0) + 1
        seconds = min(RETRY_SECONDS * 2 ** min(failures - 1, 16), MAX_RETRY_SECONDS)
        self._failures[key], self._retry_at[key] = failures, time.monotonic() + seconds
        log.warning("%s was not refreshed and stays as it is for %.0f s or more: %s", key, seconds, reason)

    async def start(self, page_request: PageRequest) -> PageJob | None:
        """Start to generate the stale texts of a page as its next version.

        Returns:
            The job. None if nothing is stale, or this or another process generates the page already.

        Raises:
            Busy, OverBudget, Denied, BadPage: See ``JobStarter.start``.
        """
        stored = self._store.get(page_request.key)
        freshness = freshness_of(page_request, stored, self._store) if stored is not None else None
        names = freshness.stale() if freshness is not None else set()
        if stored is None or not names:
            return None
        return await self._starter.refresh(page_request, stored, names)

    async def close(self) -> None:
        """Stop all attempts."""
        await self._tasks.close()
