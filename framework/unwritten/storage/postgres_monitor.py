"""The monitor of a PostgreSQL database: whether the server responds, what other processes write, and who serves it."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout

import psycopg

from ..core.errors import StoreError, StoreLocked
from .postgres_connection import PostgresConnection
from .server_lock import explain_second_server

log = logging.getLogger("unwritten")

PROCESS = f"unwritten {os.getpid()} {secrets.token_hex(4)} {socket.gethostname()}"[:63]
"""The application name of this process's connections, by which it recognizes its own."""

CHANNEL_SQL = "'unwritten_' || md5(current_schema())"
"""The channel on which commits are announced."""

RECONNECT_SECONDS = 0.25
"""Seconds between two attempts to reach a server that is away."""

_TICK = 0.1
_CHECK_TIMEOUT = 2.0
_LOCK_REQUEST_TIMEOUT = 5.0

_SERVER_LOCK = 0x556E7773
_TAKE_SERVER_LOCK = f"SELECT pg_try_advisory_lock({_SERVER_LOCK}, hashtext(current_schema()))".encode()
_SERVER_LOCK_OWNER = f"""
    SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.classid = {_SERVER_LOCK} AND l.objsubid = 2
        AND l.objid = CAST(CAST(hashtext(current_schema()) AS bigint) & 4294967295 AS oid)
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
""".encode()  # noqa: S608


class PostgresMonitor:
    """Two threads that watch a database, with a connection of their own.

    Args:
        connect: Opens a connection.
        disconnect: Closes a connection.
        open_connections: All open connections. Those whose statements take too long are broken.
        instance: Announced with the commits of this process, which are not reported.
        on_change: Called when another process has written, or may have.
        name: The database's name, for messages.

    Attributes:
        is_away: True if the server does not respond, as far as is known.

    Raises:
        psycopg.Error: If the server does not respond.
    """

    def __init__(
        self,
        *,
        connect: Callable[[], PostgresConnection],
        disconnect: Callable[[PostgresConnection], None],
        open_connections: Collection[PostgresConnection],
        instance: str,
        on_change: Callable[[], None],
        name: str,
    ) -> None:
        self._connect = connect
        self._disconnect = disconnect
        self._open_connections = open_connections
        self._instance = instance
        self._on_change = on_change
        self._name = name
        self.is_away = False
        self._is_check_due = threading.Event()
        self._closed = threading.Event()
        self._serves = False
        self._lock_request: Future[None] | None = None
        self._listener: PostgresConnection | None = self._start_listening()
        self._threads = [
            threading.Thread(target=target, name=f"unwritten-{target.__name__.strip('_')}", daemon=True)
            for target in (self._listen, self._watch)
        ]
        for thread in self._threads:
            thread.start()

    def report_lost(self) -> None:
        """Count the server as away, until it has been reached again."""
        if not self.is_away:
            log.warning("The database %s does not respond.", self._name)
        self.is_away = True
        self._is_check_due.set()

    def acquire_server_lock(self) -> None:
        """Become the only process that serves the database.

        Raises:
            StoreLocked: If another process does.
            StoreError: If the server does not respond.
        """
        request = self._lock_request = Future()
        try:
            request.result(_LOCK_REQUEST_TIMEOUT)
        except FutureTimeout:
            raise StoreError(f"The database {self._name} does not respond.") from None

    def close(self) -> None:
        """Stop the threads."""
        self._closed.set()
        for thread in self._threads:
            thread.join(2 * _CHECK_TIMEOUT)
        if self._listener is not None:
            self._disconnect(self._listener)

    # -- the thread that listens --------------------------------------------------------------------------

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                if self._listener is None:
                    self._listener = self._start_listening()
                    if self._serves:
                        self._take_server_lock_again(self._listener)
                    self._on_change()  # something may have been written meanwhile
                    self._note_response()
                for notification in self._listener.raw.notifies(timeout=_TICK, stop_after=1):
                    if notification.payload != self._instance:
                        self._on_change()
                if self._is_check_due.is_set():
                    self._is_check_due.clear()
                    self._listener.send(b"SELECT 1")
                    self._note_response()
                self._answer_lock_request(self._listener)
            except (psycopg.Error, OSError) as error:
                log.debug("The database %s was not reached: %s", self._name, error)
                if self._listener is not None:  # perhaps only this connection was lost: reconnect at once
                    self._disconnect(self._listener)
                    self._listener = None
                else:
                    self.report_lost()
                    self._closed.wait(RECONNECT_SECONDS)
            except Exception:
                log.exception("The monitor of the database %s has failed", self._name)
                self._closed.wait(RECONNECT_SECONDS)

    def _start_listening(self) -> PostgresConnection:
        listener = self._connect()
        listener.limit = _CHECK_TIMEOUT
        try:
            (channel,) = listener.send(f"SELECT {CHANNEL_SQL}".encode()).fetchone() or ("",)
            listener.send(f'LISTEN "{channel}"'.encode())
        except BaseException:
            self._disconnect(listener)
            raise
        return listener

    def _note_response(self) -> None:
        if self.is_away:
            log.warning("The database %s responds again.", self._name)
        self.is_away = False

    def _answer_lock_request(self, listener: PostgresConnection) -> None:
        request, self._lock_request = self._lock_request, None
        if request is None:
            return
        owner = "" if self._serves else self._take_server_lock(listener)
        if owner:
            request.set_exception(StoreLocked(explain_second_server(self._name, owner)))
        else:
            self._serves = True
            request.set_result(None)

    def _take_server_lock(self, listener: PostgresConnection) -> str:
        """Take the lock. Return the process that has it, in words; or "" if it is this one."""
        (taken,) = listener.send(_TAKE_SERVER_LOCK).fetchone() or (False,)
        owners = [name for (name,) in listener.send(_SERVER_LOCK_OWNER).fetchall()]
        if taken or PROCESS in owners:  # also another app of this process
            return ""
        _, process, _, host = owners[0].split(" ", 3) if owners and owners[0].count(" ") >= 3 else ("",) * 4
        return f"the process {process} on {host}" if process else "another process"

    def _take_server_lock_again(self, listener: PostgresConnection) -> None:
        owner = self._take_server_lock(listener)
        if owner:
            log.error("While %s was away, %s has started to serve it. Stop one of the servers.", self._name, owner)

    # -- the thread that watches --------------------------------------------------------------------------

    def _watch(self) -> None:
        """Break connections whose statements take too long. Their sockets may never report an error."""
        while not self._closed.wait(_TICK):
            now = time.monotonic()
            for connection in [*self._open_connections]:
                deadline = connection.deadline
                if deadline is not None and now > deadline:
                    connection.expire()
