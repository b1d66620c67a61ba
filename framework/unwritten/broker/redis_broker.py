"""The Redis broker: leases, frames, announcements and limits in Redis or Valkey.

Keys, all of which begin with the identity of the world:

* ``lease:PAGE``: the process that generates a page. It expires unless the owner renews it with its heartbeat.
* ``frames:PAGE``: the latest frame of each region, and the status under "", for processes that begin to follow later.
  Finished regions are also for the next attempt.
* ``ended:PAGE``: the outcome, for processes that have missed its message.
* ``readers:PAGE``: the number of subscribers in each process.
* ``commands:PAGE``: what visitors of other processes want of the owner.
* ``active``: the pages that have a lease. ``processes``: the last heartbeat of each process.
* ``epoch``: a random value. If it is missing, the server has lost its data, and owners take their leases again.
* ``sockets:CLIENT``, ``window:NAME:CLIENT``: limits.

Frames and outcomes are published on one channel per page, commands on one per process, announcements on one for all.
While the server is away, nothing blocks: running pages continue and are stored, and new ones are refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Literal

from cachetools import TTLCache
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from ..core.errors import BrokerAway
from . import redis_scripts
from .base import RELEASED, BrokerListener, BrokerState, Command, JobSource, Lease
from .redis_connection import AWAY, ERRORS, decode, encode
from .redis_feed import RedisFeed
from .redis_sockets import REPORT_INTERVAL, RedisSockets
from .redis_windows import RedisWindows

log = logging.getLogger("unwritten")

HEARTBEAT = 1.0
"""Seconds between two heartbeats of a process."""

LEASE_LIFETIME = 3.0
"""Seconds after its owner's last heartbeat until another process may take over a page."""

SETTLE_TIME = 1.5
"""Seconds for which no lease is given after the server was away, so that owners can take theirs again."""

PUBLISH_INTERVAL = 0.04
"""Seconds between two frames of a page."""

COMMAND_TIMEOUT = 2.0
"""Seconds after which a server that does not respond counts as away."""

_FRAMES_LIFETIME = 600.0
"""Seconds for which the finished regions of a failed page are remembered."""

_COMMANDS_LIFETIME = 10_000
"""Milliseconds for which commands wait for the owner of a page."""

_OUTCOME_LIFETIME = 60.0
"""Seconds for which outcomes are remembered."""

_MAX_CONNECTIONS = 16


class RedisLease:
    """The lease of one page. See ``Lease``."""

    def __init__(self, broker: RedisBroker, key: str, token: str, partial: Mapping[str, Mapping[str, Any]]) -> None:
        self.key = key
        self.token = token
        self.partial_results = partial
        self.source: JobSource | None = None
        self._broker = broker
        self._publisher: asyncio.Task[None] | None = None

    def attach(self, source: JobSource) -> None:
        """Publish the frames of a job from now on."""
        self.source = source
        source.changed.set()
        self._publisher = self._broker.create_task(self._publish(source), f"publishing {self.key}")

    async def confirm(self) -> bool:
        """Return True if this process still has the lease, or the server is away."""
        try:
            await self._broker.renew(self)
        except ERRORS as error:
            self._broker.failed(error)
        return self._broker.leases.get(self.key) is self

    def end(self, outcome: Mapping[str, Any], *, keep: bool = False) -> None:
        """Publish the outcome, and give the lease back."""
        if self.detach():
            self._broker.end(self, outcome, keep)

    def detach(self) -> bool:
        """Stop publishing. Return False if the lease was given back or lost before."""
        if self._publisher is not None:
            self._publisher.cancel()
        if self._broker.leases.get(self.key) is not self:
            return False
        del self._broker.leases[self.key]
        return True

    async def _publish(self, source: JobSource) -> None:
        broker = self._broker
        while broker.leases.get(self.key) is self:
            await source.changed.wait()
            source.changed.clear()
            status, regions = source.changes()
            message = {"type": "frames", "status": status, "regions": regions}
            pairs = [text for name, value in {"": status, **regions}.items() for text in (name, encode(value))]
            lifetime = round(_FRAMES_LIFETIME * 1000)
            try:
                is_sent = await broker.run(
                    redis_scripts.PUBLISH,
                    [broker.name("lease", self.key), broker.name("frames", self.key)],
                    [self.token, lifetime, broker.name("page", self.key), encode(message), *pairs],
                )
            except ERRORS as error:
                broker.failed(error)
                is_sent = 0
            if not is_sent:  # the next heartbeat says whether the lease is lost, and publishes everything again
                source.repeat()
            await asyncio.sleep(PUBLISH_INTERVAL)


class RedisBroker:
    """Connects the processes of one world by a Redis server. See ``Broker``.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        address: The URL as it may be shown, without a password.
        world: The identity of the world.

    Attributes:
        process: The identity of this process.
        leases: The leases of this process by page.
    """

    def __init__(self, url: str, address: str, world: str) -> None:
        self.state: BrokerState = "away"
        self.process = secrets.token_hex(6)
        self.leases: dict[str, RedisLease] = {}
        self.windows = RedisWindows(self)
        self._url = url
        self._address = address
        self._world = world
        self._prefix = f"unwritten:{world}:"
        self._listeners: list[BrokerListener] = []
        self._feeds: dict[str, RedisFeed] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._outcomes: TTLCache[str, Mapping[str, Any]] = TTLCache[str, Mapping[str, Any]](1024, _OUTCOME_LIFETIME)
        self._elsewhere: dict[str, float] = {}  # when each page of another process was heard of
        self._clicks: dict[str, tuple[int, float]] = {}
        self._own_clicks = 0
        self._sockets = RedisSockets(self, 2 * LEASE_LIFETIME)
        self._sockets_at = float("-inf")
        self._beat_at = 0.0
        self._epoch = ""
        self._ready_at = 0.0
        self._num_claims = 0
        self._tasks: set[asyncio.Task[None]] = set()  # asyncio itself holds only weak references to tasks
        self._reader: asyncio.Task[None] | None = None
        self._pubsub: Any = None  # None while its connection is broken
        self._wake = asyncio.Event()
        self._listening = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting: asyncio.Task[None] | None = None
        self._closed = False

    # -- connecting ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect. Later calls do nothing. A server that is away now is connected to later."""
        if self._starting is None:
            self._starting = asyncio.create_task(self._start(), name="starting the broker")
        if not self._starting.done():
            await asyncio.shield(self._starting)

    async def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        retry = Retry(ExponentialBackoff(cap=0.1, base=0.01), 2, supported_errors=(RedisConnectionError,))
        options: dict[str, Any] = {
            "decode_responses": True,
            "socket_timeout": COMMAND_TIMEOUT,
            "socket_connect_timeout": COMMAND_TIMEOUT,
        }
        pool = BlockingConnectionPool.from_url(
            self._url, max_connections=_MAX_CONNECTIONS, timeout=COMMAND_TIMEOUT, retry=retry, **options
        )
        self._prefix = f"unwritten:{self._world}:{pool.connection_kwargs.get('db') or 0}:"
        self._redis: Redis = Redis(connection_pool=pool)
        self._scripts = {
            text: self._redis.register_script(text)
            for name, text in vars(redis_scripts).items()
            if name.isupper() and not name.startswith("_")
        }
        # Its connection is repaired by ``_read``, which also fetches what was missed.
        never = Retry(ExponentialBackoff(), 0)
        self._subscriber: Redis = Redis.from_url(self._url, retry=never, **options)
        try:
            await self._heartbeat()
            self._recovered(first=True)
            with contextlib.suppress(TimeoutError):  # so that nothing is missed from now on
                async with asyncio.timeout(COMMAND_TIMEOUT):
                    await self._listening.wait()
        except ERRORS as error:
            self._report(error)
        self.create_task(self._beat(), "broker heartbeat")

    async def close(self) -> None:
        """Disconnect. Outcomes that are not published yet are sent first."""
        self._closed = True
        if self._starting is None:
            return
        await asyncio.gather(self._starting, return_exceptions=True)
        for lease in list(self.leases.values()):
            lease.end(RELEASED)
        self._sockets.release_all()
        ending = [task for task in self._tasks if task in self._ending.values() or task.get_name().startswith("send")]
        if ending:
            await asyncio.wait(ending, timeout=COMMAND_TIMEOUT)
        tasks = {*self._tasks, *([self._reader] if self._reader else [])}
        while tasks:  # the client of Redis may swallow a cancellation
            for task in tasks:
                task.cancel()
            _, tasks = await asyncio.wait(tasks, timeout=0.1)
        with contextlib.suppress(*ERRORS):
            await self._subscriber.aclose()
            await self._redis.aclose()
            await self._redis.connection_pool.disconnect()

    def listen(self, *listeners: BrokerListener) -> None:
        """Notify these listeners of events in other processes."""
        self._listeners.extend(listeners)

    def name(self, kind: str, key: str = "") -> str:
        """Return the name of a key or channel, of a page for example."""
        return f"{self._prefix}{kind}:{key}"

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run a script of ``redis_scripts``.

        Raises:
            RedisError, OSError, TimeoutError: If the server is away, or refuses it.
        """
        return await self._scripts[script](keys=keys, args=arguments)

    def create_task(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run a coroutine until it ends or the broker is closed."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        return task

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("The task %r failed", task.get_name(), exc_info=error)

    def failed(self, error: BaseException) -> None:
        """Record that the server could not be used. The next heartbeat, which is due at once, tries again."""
        if self.state == "ok":
            self.state = "away"
            self._report(error)
            self._wake.set()

    def check_state(self) -> None:
        """Raise BrokerAway if the server is away."""
        if self.state == "away":
            raise BrokerAway(AWAY, 5)

    def send_soon(self, send: Callable[[], Awaitable[None]]) -> None:
        """Call ``send`` soon, unless the server is away. Its errors are recorded."""
        if self.state == "ok":
            self.create_task(self._send_now(send), "sending")

    async def _send_now(self, send: Callable[[], Awaitable[None]]) -> None:
        try:
            await send()
        except ERRORS as error:
            self.failed(error)

    def hashed(self, client_id: str) -> str:
        """Return a client as a part of a key. Addresses are not stored as they are."""
        return hashlib.sha256(f"{self._world} {client_id}".encode()).hexdigest()[:24]

    async def admit_socket(self, client_id: str, own: int, limit: float) -> bool:
        """Return False if a client has more live sockets than allowed."""
        return await self._sockets.admit(client_id, own, limit)

    def release_socket(self, client_id: str, own: int) -> None:
        """Report that a client has ``own`` sockets left in this process."""
        self._sockets.release(client_id, own)

    def _report(self, error: BaseException) -> None:
        reason = str(error).rstrip(".") or "it does not respond"
        log.warning(
            "The broker %s is away: %s. Pages that are being written are finished and stored, stored pages are served, "
            "and new pages are refused until it is back.",
            self._address,
            reason,
        )

    def _recovered(self, *, first: bool = False) -> None:
        self.state = "ok"
        self._sockets_at = float("-inf")
        if not first:
            log.warning("The broker %s is back.", self._address)
            self._ready_at = time.monotonic() + SETTLE_TIME
        self._publish_again()
        if self._reader is not None:
            self._reader.cancel()
        self._reader = asyncio.create_task(self._read(), name="broker reader")

    def _publish_again(self) -> None:
        for lease in self.leases.values():
            if lease.source is not None:
                lease.source.repeat()
                lease.source.changed.set()

    def _tell(self, event: Callable[[BrokerListener], None]) -> None:
        for listener in self._listeners:
            try:
                event(listener)
            except Exception:
                log.exception("The broker's listener %s failed", type(listener).__name__)

    # -- heartbeat ----------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while not self._closed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._heartbeat()
            except ERRORS as error:
                self.failed(error)
                for feed in self._feeds.values():
                    feed.add({"type": "away"})
                await asyncio.sleep(HEARTBEAT / 4)
                continue
            except Exception:  # the heart must not stop
                log.exception("A heartbeat of the broker failed")
                continue
            if self.state != "ok":
                self._recovered()
            self._tell(lambda listener: listener.on_heartbeat())

    async def _heartbeat(self) -> None:
        """Renew everything that this process has, and read what the others have.

        Raises:
            RedisError, OSError, TimeoutError: If the server is away.
        """
        now = time.monotonic()
        epoch, active = await self.run(
            redis_scripts.HEARTBEAT,
            [self.name("epoch"), self.name("processes"), self.name("active")],
            [self.process, secrets.token_hex(8), round(1000 * LEASE_LIFETIME)],
        )
        if epoch != self._epoch:
            if self._epoch:
                log.warning("The broker %s has lost its data. Leases are taken again.", self._address)
                self._ready_at = time.monotonic() + SETTLE_TIME
                self._sockets_at = float("-inf")
            self._epoch = epoch
        if now - self._beat_at > LEASE_LIFETIME:  # this process was paused, or the server was away
            self._sockets_at = float("-inf")
        self._beat_at = now
        known = {key for key, heard in self._elsewhere.items() if heard > now - 2 * HEARTBEAT}
        found = {key for key in active if key not in self.leases and key not in self._ending}
        fresh = {key for key in found if key not in self._outcomes or key in self._elsewhere}
        self._elsewhere = {key: self._elsewhere.get(key, 0.0) for key in known | fresh}
        if now - self._sockets_at > REPORT_INTERVAL and self.state == "ok":
            self._sockets_at = now
            self._sockets.report_soon()
        if self._own_clicks:
            await self._redis.publish(self.name("all"), self._message("clicks", number=self._own_clicks))
        await asyncio.gather(
            *(self.renew(lease) for lease in list(self.leases.values())),
            *(self._watch(feed) for feed in list(self._feeds.values())),
            self.windows.flush(),
        )
        self._forget_clicks()

    async def renew(self, lease: RedisLease) -> None:
        """Renew a lease, or find that another process has taken it over.

        Raises:
            RedisError, OSError, TimeoutError: If the server is away.
        """
        key = lease.key
        names = [self.name(kind, key) for kind in ("lease", "ended", "readers")]
        state, others, commands = await self.run(
            redis_scripts.RENEW,
            [*names, self.name("active"), self.name("commands", key)],
            [
                lease.token,
                round(1000 * LEASE_LIFETIME),
                key,
                self.process,
                lease.source.num_readers() if lease.source else 0,
            ],
        )
        if self.leases.get(key) is not lease:
            if state and key not in self._ending:  # it was given back meanwhile, and must not be held again
                await self._redis.delete(self.name("lease", key))
        elif not state:
            log.warning("%s was taken over by another process, because this one did not respond", key)
            lease.detach()
            self._elsewhere[key] = time.monotonic()
            self._tell(lambda listener: listener.on_lease_lost(key))
        else:
            if state == 2 and lease.source is not None:
                lease.source.repeat()
                lease.source.changed.set()
            self._tell(lambda listener: listener.on_readers(key, others))
            for command in commands:
                self._tell(lambda listener, command=command: listener.on_command(key, command))  # type: ignore[misc]

    async def _watch(self, feed: RedisFeed) -> None:
        key = feed.key
        owner, outcome, others = await self.run(
            redis_scripts.WATCH,
            [self.name("lease", key), self.name("ended", key), self.name("readers", key)],
            [self.process, feed.num_readers(), round(1000 * LEASE_LIFETIME)],
        )
        feed.others = others
        self._tell(lambda listener: listener.on_readers(key, others))
        if not owner:
            message = decode(outcome) if outcome else None
            feed.add(message or {"type": "orphaned"})

    # -- pages --------------------------------------------------------------------------------------------

    def is_elsewhere(self, key: str) -> bool:
        """True if another process generates this page. False while the broker is away."""
        return key in self._elsewhere and self.state == "ok"

    def outcome(self, key: str) -> Mapping[str, Any] | None:
        """Return the outcome of a page that another process has finished a short time ago, or None."""
        outcome: Mapping[str, Any] | None = self._outcomes.get(key)
        return outcome

    async def claim(self, key: str) -> Lease | None:
        """Return the lease of a page, or None if another process has it.

        Raises:
            BrokerAway: If the broker cannot be reached.
        """
        await self.start()
        if key in self._ending:
            await asyncio.wait({self._ending[key]})
        self._num_claims += 1
        token = f"{self.process}:{self._num_claims}"
        names = [self.name(kind, key) for kind in ("lease", "frames", "ended")]
        try:
            for _ in range(3):
                if self.state == "away":
                    break
                await asyncio.sleep(max(0.0, self._ready_at - time.monotonic()))
                state, *rest = await self.run(
                    redis_scripts.CLAIM,
                    [self.name("epoch"), *names, self.name("active")],
                    [
                        self._epoch,
                        token,
                        round(1000 * LEASE_LIFETIME),
                        key,
                        self.name("all"),
                        self._message("started", key=key),
                    ],
                )
                if state == 0:
                    self._elsewhere[key] = time.monotonic()
                    return None
                if state == 1:
                    self._elsewhere.pop(key, None)
                    lease = self.leases[key] = RedisLease(self, key, token, _finished_regions(rest[0]))
                    return lease
                await self._heartbeat()  # the server has lost its data: owners take their leases again first
        except ERRORS as error:
            self.failed(error)
        raise BrokerAway(AWAY, 5)

    def end(self, lease: RedisLease, outcome: Mapping[str, Any], keep: bool) -> None:
        """Publish an outcome, and delete a lease of this process."""
        task = self.create_task(self._end(lease, outcome, keep), f"ending {lease.key}")
        self._ending[lease.key] = task
        task.add_done_callback(lambda _: self._ending.get(lease.key) is task and self._ending.pop(lease.key))

    async def _end(self, lease: RedisLease, outcome: Mapping[str, Any], keep: bool) -> None:
        key, released = lease.key, outcome["state"] == "released"
        regions: Mapping[str, Any] = {}
        if lease.source is not None and outcome["state"] != "written":
            lease.source.repeat()
            _, regions = lease.source.changes()
        message = encode({"type": "end", "process": self.process, **outcome, "regions": regions})
        announcement = {"key": key, **outcome}
        kinds = ("lease", "frames", "ended", "readers", "commands")
        try:
            await self.run(
                redis_scripts.END,
                [*(self.name(kind, key) for kind in kinds), self.name("active")],
                [
                    lease.token,
                    key,
                    self.name("page", key),
                    message,
                    0 if released else round(1000 * _OUTCOME_LIFETIME),
                    int(keep or (released and bool(lease.partial_results))),
                    self.name("all"),
                    self._message("ended", **announcement),
                    round(1000 * _FRAMES_LIFETIME),
                    *(text for name, region in regions.items() for text in (name, encode(region))),
                ],
            )
        except ERRORS as error:
            self.failed(error)

    @contextlib.asynccontextmanager
    async def follow(self, key: str, num_readers: Callable[[], int]) -> AsyncIterator[RedisFeed]:
        """Receive what another process publishes of a page."""
        feed = self._feeds[key] = RedisFeed(key, num_readers)
        try:
            await self._subscribe(self.name("page", key))
            yield feed
        finally:
            if self._feeds.get(key) is feed:
                del self._feeds[key]
            self.create_task(self._unfollow(key), f"leaving {key}")

    async def _unfollow(self, key: str) -> None:
        with contextlib.suppress(*ERRORS):
            if key not in self._feeds:
                if self._pubsub is not None:
                    await self._pubsub.unsubscribe(self.name("page", key))
                await self._redis.hdel(self.name("readers", key), self.process)

    def send(self, key: str, command: Command) -> None:
        """Send a command to the process that generates a page."""
        self.create_task(self._send(key, command), f"sending {command} to {key}")

    async def _send(self, key: str, command: Command) -> None:
        try:
            await self.run(
                redis_scripts.COMMAND,
                [self.name("lease", key), self.name("commands", key)],
                [command, _COMMANDS_LIFETIME, self.name("process", ""), self._message("command", key=key)],
            )
        except ERRORS as error:
            self.failed(error)

    @property
    def clicks_elsewhere(self) -> int:
        """The number of pages that visitors wait for in other processes."""
        return sum(number for number, _ in self._clicks.values())

    def set_clicks(self, number: int) -> None:
        """Tell the others how many pages visitors wait for in this process. Their prefetches make way."""
        if bool(number) != bool(self._own_clicks):
            self._publish("clicks", number=number)
        self._own_clicks = number

    def _forget_clicks(self) -> None:
        """Forget the clicks of processes that have disappeared."""
        now = time.monotonic()
        gone = [process for process, (_, heard) in self._clicks.items() if heard < now - LEASE_LIFETIME]
        for process in gone:
            del self._clicks[process]
        if gone:
            self._tell(lambda listener: listener.on_clicks())

    # -- messages -----------------------------------------------------------------------------------------

    def announce(self, kind: Literal["edited", "data"], **values: Any) -> None:
        """Tell the other processes of a change. May be called from any thread, and does nothing while away."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(lambda: self._publish(kind, **values))

    def _publish(self, kind: str, **values: Any) -> None:
        if self._starting is not None and not self._closed:
            self.create_task(self._publish_to_all(self._message(kind, **values)), f"sending {kind}")

    async def _publish_to_all(self, message: str) -> None:
        try:
            await self._redis.publish(self.name("all"), message)
        except ERRORS as error:
            self.failed(error)

    def _message(self, kind: str, **values: Any) -> str:
        return encode({"type": kind, "process": self.process, **values})

    async def _subscribe(self, channel: str) -> None:
        pubsub = self._pubsub
        if pubsub is not None:  # otherwise ``_read`` subscribes as soon as it is connected
            with contextlib.suppress(*ERRORS):
                await pubsub.subscribe(channel)

    async def _read(self) -> None:
        """Receive messages. A broken connection is opened again, and what was missed is fetched."""
        while self._reader is asyncio.current_task():
            pubsub = self._subscriber.pubsub()
            try:
                await pubsub.subscribe(self.name("all"), self.name("process", self.process))
                self._pubsub = pubsub
                self._listening.set()
                if self._feeds:
                    await pubsub.subscribe(*(self.name("page", key) for key in self._feeds))
                while self._reader is asyncio.current_task():
                    message = await pubsub.get_message(timeout=5.0)
                    if message is not None:
                        self._receive(message)
            except ERRORS as error:
                log.debug("The broker's messages are interrupted: %s", error)
                self._wake.set()
            except Exception:  # the process must go on listening
                log.exception("A message of the broker could not be read")
            finally:
                if self._pubsub is pubsub:
                    self._pubsub = None
                with contextlib.suppress(*ERRORS):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]
            await asyncio.sleep(HEARTBEAT / 4)

    def _receive(self, received: Mapping[str, Any]) -> None:
        kind, channel = received["type"], received["channel"]
        page = self.name("page")
        if channel.startswith(page):
            feed = self._feeds.get(channel.removeprefix(page))
            if feed is not None and kind == "subscribe":
                self.create_task(self._load(feed), f"loading {feed.key}")
            elif feed is not None and kind == "message" and (message := decode(received["data"])):
                feed.add(message)
        elif kind == "message":
            message = decode(received["data"])
            if message is not None and message.get("process") != self.process:
                self._dispatch(message)

    async def _load(self, feed: RedisFeed) -> None:
        """Fetch the latest frames of a page that is followed from now on, and report its readers."""
        try:
            frames = await self._redis.hgetall(self.name("frames", feed.key))
            regions = {name: value for name, text in frames.items() if (value := decode(text)) is not None}
            feed.add({"type": "frames", "status": regions.pop("", None), "regions": regions})
            await self._watch(feed)
        except ERRORS as error:
            self.failed(error)

    def _dispatch(self, message: Mapping[str, Any]) -> None:
        """Handle a message of another process."""
        kind, key = message["type"], message.get("key", "")
        if kind == "started":
            self._elsewhere[key] = time.monotonic()
            self._outcomes.pop(key, None)
            self._tell(lambda listener: listener.on_page_started(key))
        elif kind == "ended":
            self._elsewhere.pop(key, None)
            if message["state"] != "released":
                self._outcomes[key] = message
            self._tell(lambda listener: listener.on_page_ended(key, message["state"]))
        elif kind == "edited":
            self._tell(lambda listener: listener.on_page_ended(key, "edited"))
        elif kind == "data":
            self._tell(lambda listener: listener.on_data_changed(message["tables"], message["pages"]))
        elif kind == "clicks":
            self._clicks[message["process"]] = message["number"], time.monotonic()
            self._tell(lambda listener: listener.on_clicks())
        elif kind == "command" and (lease := self.leases.get(key)) is not None:
            self.create_task(self._renew_soon(lease), f"reading the commands for {key}")

    async def _renew_soon(self, lease: RedisLease) -> None:
        try:
            await self.renew(lease)
        except ERRORS as error:
            self.failed(error)


def _finished_regions(pairs: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Return the finished regions among frames, from a list of names and frames in turn."""
    regions = {name: decode(text) for name, text in zip(pairs[::2], pairs[1::2], strict=True)}
    return {name: region for name, region in regions.items() if region is not None and region.get("stored")}
