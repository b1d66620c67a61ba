"""Jobs that follow another process, with a broker that fails in particular ways."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from unwritten.broker.base import Subscription
from unwritten.broker.local import LocalBroker
from unwritten.generation.followers import Followers
from unwritten.generation.page_job import PageJob

pytestmark = [pytest.mark.timeout(30), pytest.mark.anyio]


class SilentSubscription:
    """A subscription without messages."""

    async def next(self) -> Mapping[str, Any]:
        """Wait forever."""
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]


class SwallowingBroker(LocalBroker):
    """A broker whose client swallows the cancellation of a task that subscribes."""

    @contextlib.asynccontextmanager
    async def follow(self, key: str, num_subscribers: Callable[[], int]) -> AsyncIterator[Subscription]:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        yield SilentSubscription()


async def test_a_job_ends_also_if_its_cancellation_is_swallowed() -> None:
    unused: Any = None
    ended: list[PageJob] = []
    job = PageJob("/wiki/Lighthouse", unused, "Lighthouse", {}, unused)
    followers = Followers(SwallowingBroker(), unused, 60, on_end=ended.append, on_lease=unused)
    followers.add(job)
    await asyncio.sleep(0)
    followers.cancel(job, "abandoned")
    async with asyncio.timeout(5):
        await job.finished.wait()
    assert ended == [job] and job.state == "stopped" and len(followers) == 0
