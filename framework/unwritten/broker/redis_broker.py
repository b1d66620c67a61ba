"""The Redis broker: leases, frames, announcements and limits in Redis or Valkey.

Keys, all of which begin with the identity of the world:

* ``lease:PAGE``: the process that generates a page, the lease holder. It expires unless a heartbeat renews it.
* ``frames:PAGE``: the latest frame of each region, and the status under "", for processes that begin to follow later.
  Finished regions are also for the next attempt.
* ``ended:PAGE``: the outcome, for processes that have missed its message.
* ``subscribers:PAGE``: the number of subscribers in each process.
* ``commands:PAGE``: what visitors of other processes want of the lease holder.
* ``active``: the pages that have a lease. ``processes``: the last heartbeat of each process.
* ``epoch``: a random value. If it is missing, the server has lost its data, and lease holders take their leases again.
* ``sockets:CLIENT``, ``window:NAME:CLIENT``, ``batch:PROCESS``: limits.

Frames and outcomes are published on one channel per page, commands on one per process, announcements on one for all.
While the server is unavailable, nothing blocks: running pages continue and are stored, and new ones are refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal

from . import redis_scripts
from . import redis_timing as timing
from .base import BrokerListener, BrokerState, Command, Lease, Listeners, Subscription
from .other_processes import OtherClicks, OtherPages
from .redis_connection import ERRORS, RedisConnection, milliseconds
from .redis_leases import RedisLeases
from .redis_messages import RedisMessages
from .redis_sockets import RedisSockets
from .redis_subscriptions import RedisSubscriptions
from .redis_windows import RedisWindows

log = logging.getLogger("unwritten")

_COMMANDS_LIFETIME = 10.0
"""Seconds for which commands wait for the lease holder of a page."""


class RedisBroker:
    """Connects the processes of one world by a Redis server. See ``Broker``.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        address: The URL as it may be shown, without a password.
        world: The identity of the world.
    """

    def __init__(self, url: str, address: str, world: str) -> None:
        connection = self._connection = RedisConnection(url, address, world)
        self._listeners = Listeners()
        self._other_pages = OtherPages()
        self._other_clicks = OtherClicks()
        self._own_clicks = 0
        self._messages = RedisMessages(
            connection,
            on_message=self._on_message,
            on_page_message=lambda key, message: self._subscriptions.receive(key, message),
            on_page_subscribed=lambda key: self._subscriptions.load_soon(key),
            on_reconnected=lambda: self._listeners.notify(lambda listener: listener.on_reconnected()),
        )
        self._subscriptions = RedisSubscriptions(connection, self._messages, self._listeners)
        self._leases = RedisLeases(connection, self._messages, self._other_pages, self._listeners, self._heartbeat)
        self._sockets = RedisSockets(connection)
        self.windows = RedisWindows(connection)
        self._last_heartbeat = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def state(self) -> BrokerState:
        """Whether the server can be reached."""
        return self._connection.state

    # -- starting and closing -----------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect. Later calls do nothing. A server that is unavailable now is connected to later."""
        if self._starting is None:
            self._starting = asyncio.create_task(self._start(), name="starting the broker")
        if not self._starting.done():
            await asyncio.shield(self._starting)

    async def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection.open()
        try:
            await self._heartbeat()
            self._resume()
            await self._messages.wait_until_connected(timing.COMMAND_TIMEOUT)  # nothing is missed from now on
        except ERRORS as error:
            self._connection.report(error)
        self._connection.start_task(self._beat(), "broker heartbeat")

    async def close(self) -> None:
        """Disconnect. Outcomes that are not published yet are sent first."""
        self._is_closed = True
        if self._starting is None:
            return
        await asyncio.gather(self._starting, return_exceptions=True)
        self._leases.end_all()
        self._sockets.release_all()
        await self._connection.close()

    def listen(self, *listeners: BrokerListener) -> None:
        """Notify these listeners of events in other processes."""
        self._listeners.add(*listeners)

    # -- heartbeat ----------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while not self._is_closed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timing.HEARTBEAT):
                    await self._connection.failure.wait()
            self._connection.failure.clear()
            try:
                await self._heartbeat()
            except ERRORS as error:
                self._connection.record(error)
                self._subscriptions.report_unavailable()
                await asyncio.sleep(timing.HEARTBEAT / 4)
            except Exception:  # heartbeats must not stop
                log.exception("A heartbeat of the broker failed")
            else:
                if self.state != "ok":
                    log.warning("The broker %s is available again.", self._connection.address)
                    self._leases.wait_for_others()
                    self._resume()
                self._listeners.notify(lambda listener: listener.on_heartbeat())

    def _resume(self) -> None:
        """Use the server, which has just become available."""
        self._connection.state = "ok"
        self._sockets.report_again()
        self._leases.republish()
        self._messages.start()

    async def _heartbeat(self) -> None:
        """Renew everything that this process has, and read what the others have.

        Raises:
            RedisError, OSError, TimeoutError: If the server is unavailable.
        """
        connection, now = self._connection, time.monotonic()
        epoch, active = await connection.run(
            redis_scripts.HEARTBEAT,
            [connection.name("epoch"), connection.name("processes"), connection.name("active")],
            [connection.process, secrets.token_hex(8), milliseconds(timing.LEASE_LIFETIME)],
        )
        has_lost_data = self._leases.set_epoch(epoch)
        if has_lost_data or now - self._last_heartbeat > timing.LEASE_LIFETIME:  # or this process was paused
            self._sockets.report_again()
        self._last_heartbeat = now
        self._other_pages.update([key for key in active if key not in self._leases])
        self._sockets.report_if_due()
        if self._own_clicks:
            await self._messages.publish("clicks", number=self._own_clicks)
        await asyncio.gather(self._leases.renew_all(), self._subscriptions.check_all(), self.windows.flush())
        if self._other_clicks.forget_silent():
            self._listeners.notify(lambda listener: listener.on_other_clicks())

    # -- pages --------------------------------------------------------------------------------------------

    def is_elsewhere(self, key: str) -> bool:
        """True if another process generates this page. False while the broker is unavailable."""
        return key in self._other_pages and self.state == "ok"

    def outcome(self, key: str) -> Mapping[str, Any] | None:
        """Return the outcome of a page that another process has finished a short time ago, or None."""
        return self._other_pages.outcome(key)

    async def claim(self, key: str) -> Lease | None:
        """Return the lease of a page, or None if another process has it.

        Raises:
            BrokerUnavailable: If the broker cannot be reached.
        """
        await self.start()
        return await self._leases.claim(key)

    def follow(self, key: str, num_subscribers: Callable[[], int]) -> AbstractAsyncContextManager[Subscription]:
        """Receive what another process publishes of a page."""
        return self._subscriptions.follow(key, num_subscribers)

    def send(self, key: str, command: Command) -> None:
        """Send a command to the lease holder of a page, unless the broker is unavailable."""
        connection, message = self._connection, self._messages.encode("command", key=key)

        async def send() -> None:
            arguments = [command, milliseconds(_COMMANDS_LIFETIME), connection.name("process"), message]
            await connection.run(redis_scripts.COMMAND, connection.names(key, "lease", "commands"), arguments)

        connection.send_soon(send, f"sending {command} to the lease holder of {key}")

    @property
    def other_clicks(self) -> int:
        """The number of pages that visitors of other processes wait for."""
        return self._other_clicks.number

    def report_clicks(self, number: int) -> None:
        """Tell the others how many pages visitors wait for in this process. They pause prefetching."""
        if bool(number) != bool(self._own_clicks):
            self._messages.publish_soon("clicks", number=number)
        self._own_clicks = number

    # -- announcements ------------------------------------------------------------------------------------

    def announce(self, kind: Literal["edited", "data"], **values: Any) -> None:
        """Tell the other processes of a change. May be called from any thread, and does nothing while unavailable."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(lambda: self._messages.publish_soon(kind, **values))

    def _on_message(self, message: Mapping[str, Any]) -> None:
        """Handle a message of another process."""
        kind, key, notify = message["type"], message.get("key", ""), self._listeners.notify
        if kind == "started":
            self._other_pages.start(key)
            notify(lambda listener: listener.on_page_started(key))
        elif kind == "ended":
            self._other_pages.end(key, message)
            notify(lambda listener: listener.on_page_ended(key, message["state"]))
        elif kind == "edited":
            notify(lambda listener: listener.on_page_ended(key, "edited"))
        elif kind == "data":
            notify(lambda listener: listener.on_data_changed(message["tables"], message["pages"]))
        elif kind == "clicks":
            self._other_clicks.set(message["process"], message["number"])
            notify(lambda listener: listener.on_other_clicks())
        elif kind == "command":
            self._leases.renew_soon(key)

    # -- sockets ------------------------------------------------------------------------------------------

    async def admit_socket(self, client_id: str, own: int, limit: float) -> bool:
        """Return False if a client has more live sockets than allowed."""
        return await self._sockets.admit(client_id, own, limit)

    def release_socket(self, client_id: str, own: int) -> None:
        """Report that a client has ``own`` sockets left in this process."""
        self._sockets.release(client_id, own)
