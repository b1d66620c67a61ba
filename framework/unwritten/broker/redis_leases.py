"""Leases: which pages this process generates, and the frames and outcomes that it publishes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from . import redis_scripts
from . import redis_timing as timing
from .base import RELEASED, JobSource, Listeners
from .other_processes import OUTCOME_LIFETIME, OtherPages
from .redis_connection import RedisConnection, decode, encode, milliseconds, unavailable
from .redis_messages import RedisMessages

log = logging.getLogger("unwritten")

_FRAMES_LIFETIME = 600.0
"""Seconds for which the finished regions of a failed page are remembered."""


class RedisLease:
    """The lease of one page. See ``Lease``.

    Attributes:
        key: The page.
        token: The value of the lease in Redis.
        source: The job whose frames are published. None: none yet.
        renewing: Held while the lease is renewed. Otherwise a late renewal could take it again after its end.
    """

    def __init__(self, leases: RedisLeases, key: str, token: str, partial: Mapping[str, Mapping[str, Any]]) -> None:
        self.key = key
        self.token = token
        self.partial_results = partial
        self.source: JobSource | None = None
        self.renewing = asyncio.Lock()
        self._leases = leases
        self._publisher: asyncio.Task[None] | None = None

    def attach(self, source: JobSource) -> None:
        """Publish the frames of a job from now on."""
        self.source = source
        source.changed.set()
        self._publisher = self._leases.publish(self, source)

    async def confirm(self) -> bool:
        """Return True if this process still has the lease, or the server is unavailable."""
        return await self._leases.confirm(self)

    def end(self, outcome: Mapping[str, Any], *, keep: bool = False) -> None:
        """Publish the outcome, and give the lease back. Does nothing if it was given back or lost before."""
        self._leases.end(self, outcome, keep=keep)

    def stop_publishing(self) -> None:
        """Publish no more frames."""
        if self._publisher is not None:
            self._publisher.cancel()

    def republish(self) -> None:
        """Publish the latest frames of all regions again, because the server may have lost them."""
        if self.source is not None:
            self.source.republish()
            self.source.changed.set()


class RedisLeases:
    """The leases of this process.

    Args:
        connection: The connection to Redis.
        messages: Sends announcements to all processes.
        others: The pages of other processes.
        listeners: Notified of what happens to the leases.
        heartbeat: Renews everything. It is called if the server has lost its data.
    """

    def __init__(
        self,
        connection: RedisConnection,
        messages: RedisMessages,
        others: OtherPages,
        listeners: Listeners,
        heartbeat: Callable[[], Awaitable[None]],
    ) -> None:
        self._connection = connection
        self._messages = messages
        self._others = others
        self._listeners = listeners
        self._heartbeat = heartbeat
        self._held: dict[str, RedisLease] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._epoch = ""
        self._ready_at = 0.0
        self._num_claims = 0

    def __contains__(self, key: str) -> bool:
        """True if this process has the lease of a page, or is giving it back."""
        return key in self._held or key in self._ending

    # -- claiming and ending ------------------------------------------------------------------------------

    async def claim(self, key: str) -> RedisLease | None:
        """Return the lease of a page, or None if another process has it.

        Raises:
            BrokerUnavailable: If the server is unavailable.
        """
        if key in self._ending:
            await asyncio.wait({self._ending[key]})
        self._num_claims += 1
        token = f"{self._connection.process}:{self._num_claims}"
        for _ in range(3):
            with self._connection.required():
                await asyncio.sleep(max(0.0, self._ready_at - time.monotonic()))
                state, *frames = await self._run_claim(key, token)
                if state == 1:
                    self._others.discard(key)
                    lease = self._held[key] = RedisLease(self, key, token, _finished_regions(frames[0]))
                    return lease
                if state == 0:
                    self._others.add(key)
                    return None
                await self._heartbeat()  # the server has lost its data: holders take their leases again first
        raise unavailable()

    async def _run_claim(self, key: str, token: str) -> Any:
        connection = self._connection
        keys = [*connection.names(key, "lease", "frames", "ended"), connection.name("active"), connection.name("epoch")]
        announcement = self._messages.encode("started", key=key)
        arguments = [token, milliseconds(timing.LEASE_LIFETIME), key, self._epoch, connection.name("all"), announcement]
        return await connection.run(redis_scripts.CLAIM, keys, arguments)

    def end(self, lease: RedisLease, outcome: Mapping[str, Any], *, keep: bool = False) -> None:
        """Publish an outcome, and give a lease back. See ``Lease.end``."""
        if self._drop(lease):
            key, work = lease.key, self._end(lease, outcome, keep)
            task = self._ending[key] = self._connection.start_sending(work, f"ending the lease of {key}")
            task.add_done_callback(lambda _: self._ending.get(key) is task and self._ending.pop(key))

    def end_all(self) -> None:
        """Give all leases back. Other processes continue the pages."""
        for lease in list(self._held.values()):
            self.end(lease, RELEASED)

    def _drop(self, lease: RedisLease) -> bool:
        """Forget a lease. Return False if it was given back or lost before."""
        lease.stop_publishing()
        if self._held.get(lease.key) is not lease:
            return False
        del self._held[lease.key]
        return True

    async def _end(self, lease: RedisLease, outcome: Mapping[str, Any], keep: bool) -> None:
        connection, key, is_released = self._connection, lease.key, outcome["state"] == "released"
        regions: Mapping[str, Any] = {}
        if lease.source is not None and outcome["state"] != "written":
            lease.source.republish()
            _, regions = lease.source.changes()
        kinds = ("lease", "frames", "ended", "subscribers", "commands")
        arguments = [
            lease.token,
            key,
            connection.name("page", key),
            self._messages.encode("end", **outcome, regions=regions),
            0 if is_released else milliseconds(OUTCOME_LIFETIME),
            int(keep or (is_released and bool(lease.partial_results))),
            connection.name("all"),
            self._messages.encode("ended", key=key, **outcome),
            milliseconds(_FRAMES_LIFETIME),
            *_pairs(regions),
        ]
        async with lease.renewing:
            await connection.run(
                redis_scripts.END, [*connection.names(key, *kinds), connection.name("active")], arguments
            )

    # -- renewing -----------------------------------------------------------------------------------------

    def set_epoch(self, epoch: str) -> bool:
        """Record the epoch of the server. Return True if the server has lost its data, because the epoch is another."""
        has_lost_data = self._epoch not in {"", epoch}
        if has_lost_data:
            log.warning("The broker %s has lost its data. Leases are taken again.", self._connection.address)
            self.wait_for_others()
        self._epoch = epoch
        return has_lost_data

    def wait_for_others(self) -> None:
        """Claim nothing for a while, so that other processes can take their leases again."""
        self._ready_at = time.monotonic() + timing.LEASE_REACQUISITION_TIME

    async def renew_all(self) -> None:
        """Renew all leases.

        Raises:
            RedisError, OSError, TimeoutError: If the server is unavailable.
        """
        await asyncio.gather(*map(self._renew, list(self._held.values())))

    def renew_soon(self, key: str) -> None:
        """Renew the lease of a page, because there is a command for it."""
        lease = self._held.get(key)
        if lease is not None:
            self._connection.start_task(self._renew(lease), f"reading the commands for {key}")

    async def confirm(self, lease: RedisLease) -> bool:
        """Return True if this process still has a lease, or the server is unavailable."""
        with self._connection.recording_errors():
            await self._renew(lease)
        return self._is_held(lease)

    async def _renew(self, lease: RedisLease) -> None:
        """Renew a lease, or find that another process has taken it over.

        Raises:
            RedisError, OSError, TimeoutError: If the server is unavailable.
        """
        connection, key, notify = self._connection, lease.key, self._listeners.notify
        keys = [*connection.names(key, "lease", "ended", "subscribers", "commands"), connection.name("active")]
        async with lease.renewing:
            if not self._is_held(lease):
                return
            subscribers = lease.source.num_subscribers() if lease.source else 0
            arguments = [lease.token, milliseconds(timing.LEASE_LIFETIME), key, connection.process, subscribers]
            state, others, commands = await connection.run(redis_scripts.RENEW, keys, arguments)
        if not self._is_held(lease):  # it is being given back
            return
        if not state:
            log.warning("%s was taken over by another process, because this one did not respond", key)
            self._drop(lease)
            self._others.add(key)
            notify(lambda listener: listener.on_lease_lost(key))
            return
        if state == 2:
            lease.republish()
        notify(lambda listener: listener.on_other_subscribers(key, others))
        for command in commands:
            notify(lambda listener, command=command: listener.on_command(key, command))  # type: ignore[misc]

    def _is_held(self, lease: RedisLease) -> bool:
        return self._held.get(lease.key) is lease

    # -- publishing ---------------------------------------------------------------------------------------

    def republish(self) -> None:
        """Publish the latest frames of all leases again."""
        for lease in self._held.values():
            lease.republish()

    def publish(self, lease: RedisLease, source: JobSource) -> asyncio.Task[None]:
        """Publish the frames of a job until its lease ends."""
        return self._connection.start_task(self._publish(lease, source), f"publishing {lease.key}")

    async def _publish(self, lease: RedisLease, source: JobSource) -> None:
        connection, key, lifetime = self._connection, lease.key, milliseconds(_FRAMES_LIFETIME)
        keys, channel = connection.names(key, "lease", "frames"), connection.name("page", key)
        while self._is_held(lease):
            await source.changed.wait()
            source.changed.clear()
            status, regions = source.changes()
            message = encode({"type": "frames", "status": status, "regions": regions})
            arguments = [lease.token, lifetime, channel, message, *_pairs({"": status, **regions})]
            is_sent = False
            with connection.recording_errors():
                is_sent = await connection.run(redis_scripts.PUBLISH, keys, arguments)
            if not is_sent:  # the next heartbeat says whether the lease is lost, and publishes everything again
                source.republish()
            await asyncio.sleep(timing.PUBLISH_INTERVAL)


def _pairs(values: Mapping[str, Any]) -> list[str]:
    """Return names and encoded values in turn, as scripts expect them."""
    return [text for name, value in values.items() for text in (name, encode(value))]


def _finished_regions(pairs: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Return the finished regions among frames, from a list of names and frames in turn."""
    regions = {name: decode(text) for name, text in zip(pairs[::2], pairs[1::2], strict=True)}
    return {name: region for name, region in regions.items() if region is not None and region.get("stored")}
