"""A pool of connections that are borrowed for one use each."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from ..core.errors import StoreError

C = TypeVar("C")


class ConnectionPool(Generic[C]):
    """Connections of one kind, at most ``size`` at a time. Any thread may borrow one.

    The connection that was returned last is borrowed next, so a single thread always gets the same one.

    Args:
        connect: Opens a connection.
        disconnect: Closes a connection. It must not raise.
        size: The largest number of open connections.
        name: The database's name, for messages.
        timeout: Seconds to wait for a connection while all of them are borrowed.
    """

    def __init__(
        self, connect: Callable[[], C], disconnect: Callable[[C], None], size: int, name: str, timeout: float
    ) -> None:
        self._connect = connect
        self._disconnect = disconnect
        self._size = size
        self._name = name
        self._timeout = timeout
        self._idle: deque[C] = deque()  # its pop and append are atomic, so the fast path needs no lock
        self._reserved: deque[C] = deque()  # for threads that wait, which would otherwise never win against others
        self._changed = threading.Condition()
        self._open = 0
        self._waiting = 0
        self._closed = False

    @property
    def num_open(self) -> int:
        """The number of open connections."""
        return self._open

    def borrow(self) -> C:
        """Return a connection. ``give_back`` or ``discard`` must follow.

        Raises:
            StoreError: If the pool is closed, or no connection became free in time.
        """
        try:
            return self._idle.pop()
        except IndexError:
            return self._borrow_new()

    def _borrow_new(self) -> C:
        end = time.monotonic() + self._timeout
        has_waited = False
        with self._changed:
            self._waiting += 1
            try:
                while True:
                    if self._closed:
                        raise StoreError(f"The database {self._name} has been closed.")
                    if self._reserved and (has_waited or len(self._reserved) >= self._waiting):
                        return self._reserved.pop()
                    if self._idle:
                        return self._idle.pop()
                    if self._open < self._size:
                        self._open += 1
                        break
                    if not self._changed.wait(end - time.monotonic()):
                        raise StoreError(
                            f"All {self._size} connections to the database {self._name} are in use. Try again in a "
                            "moment."
                        )
                    has_waited = True
            finally:
                self._waiting -= 1
                while len(self._reserved) > self._waiting:
                    self._idle.append(self._reserved.pop())
                    self._changed.notify()
        try:
            return self._connect()
        except BaseException:
            self._forget()
            raise

    def give_back(self, connection: C) -> None:
        """Return a borrowed connection, for the next use."""
        self._idle.append(connection)
        # In this order: ``close`` either finds the connection among the idle ones, or has set the flag already.
        if self._closed:
            self.drop_idle()
        elif self._waiting:
            with self._changed:
                if self._waiting > len(self._reserved):
                    with contextlib.suppress(IndexError):
                        self._reserved.append(self._idle.pop())
                        self._changed.notify()

    def discard(self, connection: C) -> None:
        """Close a borrowed connection, because it is broken."""
        self._disconnect(connection)
        self._forget()

    def drop_idle(self) -> None:
        """Close the connections that are not borrowed."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return
            self.discard(connection)

    def close(self) -> None:
        """Close all connections. Borrowed ones are closed when they are given back."""
        with self._changed:
            self._closed = True
            self._idle.extend(self._reserved)
            self._reserved.clear()
            self._changed.notify_all()
        self.drop_idle()

    def _forget(self) -> None:
        with self._changed:
            self._open -= 1
            self._changed.notify()
