"""Transactions: what one piece of code may do with the app's tables, and what it undoes.

Who is running is known by a context variable, which goes along into the thread of a ``def`` function:

* a *look*: a page function. It reads; a GET that writes is refused in words. Which tables it read is noted.
* a *transaction*: an action. All that it writes is there, or none of it; it holds the database from its first use of
  a table on, so that what it has read is still true when it writes.
* nobody: a script, or a route of another kind. Each write is a transaction of its own.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

from ..core.errors import BadTable
from .database import LOCK_TIMEOUT, Database, in_words

T = TypeVar("T")


class ReadTracker:
    """A page function that is running.

    Attributes:
        function: its name.
        tables: the tables that it has read.
    """

    def __init__(self, function: str) -> None:
        self.function = function
        self.tables: set[str] = set()


class Transaction:
    """All that one action does with tables.

    Args:
        database: the file.
        action: the name of the action, for messages.

    Attributes:
        written: the tables that it has written to.
    """

    def __init__(self, database: Database, action: str) -> None:
        self.action = action
        self.written: set[str] = set()
        self._database = database
        self._connection: sqlite3.Connection | None = None
        self._over = ""
        # The function may run in a thread, and be given up from another one.
        self._lock = threading.Lock()

    def use(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do something with the connection of this transaction. The first use begins it.

        Raises:
            BadTable: if the action is over.
            StoreLocked, StoreError: in words.
        """
        with self._lock:
            if self._over:
                raise BadTable(self._over)
            try:
                if self._connection is None:
                    self._connection = self._open()
                return work(self._connection)
            except sqlite3.Error as error:
                raise in_words(error, self._database.path) from error

    def begin(self) -> None:
        """Take the database's write lock now, and not with the first use. Blocks for up to ``LOCK_TIMEOUT`` seconds.

        Raises:
            StoreLocked, StoreError: If the lock cannot be taken.
        """
        self.use(lambda connection: None)

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._database.path, timeout=LOCK_TIMEOUT, check_same_thread=False, isolation_level=None
        )
        try:
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("BEGIN IMMEDIATE")
        except BaseException:
            connection.close()
            raise
        return connection

    def commit(self) -> None:
        """Keep all of it. It is over then.

        Raises:
            StoreError: nothing was kept.
        """
        self._end("COMMIT", f"The action {self.action!r} has answered already, so it cannot use tables any more.")

    def roll_back(self, why: str) -> None:
        """Undo all of it. ``why`` is what the function is told if it goes on."""
        self._over = why
        connection = self._connection
        if connection is not None:
            connection.interrupt()  # a long query in the function's thread lets go of the lock
        with contextlib.suppress(Exception):
            self._end("ROLLBACK", why)

    def _end(self, statement: str, why: str) -> None:
        with self._lock:
            self._over = why
            connection, self._connection = self._connection, None
            if connection is None:
                return
            try:
                connection.execute(statement)
            except sqlite3.Error as error:
                raise in_words(error, self._database.path) from error
            finally:
                connection.close()  # which undoes what was not committed


_active: ContextVar[ReadTracker | Transaction | None] = ContextVar("unwritten_running", default=None)


@contextlib.contextmanager
def active(who: ReadTracker | Transaction) -> Iterator[None]:
    """What is called inside is a page function, or an action."""
    token = _active.set(who)
    try:
        yield
    finally:
        _active.reset(token)


def exclusive() -> bool:
    """Whether neither a page function nor an action is running: each write stands for itself."""
    return _active.get() is None


def read(database: Database, table: str, sql: str, parameters: Collection[object] = ()) -> list[Any]:
    """Rows of a table, as the code that is running may see them.

    Raises:
        BadTable: if it is an action that is over.
        StoreError: in words.
    """
    who = _active.get()
    if isinstance(who, Transaction):
        return who.use(lambda connection: connection.execute(sql, tuple(parameters)).fetchall())
    if isinstance(who, ReadTracker):
        who.tables.add(table)
    return database.read(sql, parameters)


def write(database: Database, table: str, work: Callable[[sqlite3.Connection], T]) -> T:
    """Change a table, in the transaction of the code that is running, or in one of its own.

    Raises:
        BadTable: in a page function, or in an action that is over.
        StoreLocked, StoreFull, StoreError: nothing was written.
    """
    who = _active.get()
    if isinstance(who, ReadTracker):
        raise BadTable(
            f"The page function {who.function!r} writes to the table {table!r}, but a page is only looked at: browsers "
            "and robots open it as often as they like. Write in an action: @app.action('/path') above a function."
        )
    if isinstance(who, Transaction):
        who.written.add(table)
        return who.use(work)
    return database.write_now(lambda opened: work(opened.conn))
