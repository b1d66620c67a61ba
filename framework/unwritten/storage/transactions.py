"""Transactions: which access to tables the running code has, and what is rolled back if it fails.

A context variable, which follows a ``def`` function into its thread, holds the current access:

* ``ReadTracker``: a page function is running. It may only read, and the tables that it reads are recorded.
* ``Transaction``: an action or a hook is running. Its writes are committed together or not at all. It holds the write
  lock from its first use of a table, so what it has read is still current when it writes. It gives the lock back while
  it waits for the model; see ``without_write_lock``.
* neither: a script, or another route. Each write is a transaction of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextvars import ContextVar
from typing import Any, TypeAlias, TypeVar

from ..core.errors import BadApp, BadTable, TimedOut
from ..core.time_limit import TimeLimit
from .database import Connection, Database, WriteTransaction

T = TypeVar("T")


class ReadTracker:
    """The table access of a page function: ``with ReadTracker(name) as tracker`` around its call.

    Attributes:
        tables: The tables that it has read.
        transaction: The transaction in which it is called. It sees the writes of that.
    """

    def __init__(self, function: str) -> None:
        self.function = function
        self.tables: set[str] = set()
        access = _access.get()
        self.transaction = access if isinstance(access, Transaction) else None

    def __enter__(self) -> ReadTracker:
        self._token = _access.set(self)
        return self

    def __exit__(self, *error: object) -> None:
        _access.reset(self._token)


class WriteLock:
    """The write lock of one function: ``async with WriteLock(lock)``. It can be released and acquired again meanwhile.

    Args:
        lock: Held by all functions that write to tables. SQLite allows one writer, and waiting here occupies no thread.
    """

    def __init__(self, lock: asyncio.Lock) -> None:
        self._lock = lock
        self._is_held = self._is_over = False

    async def acquire(self) -> None:
        """Wait for the lock. Does nothing after the end of the context."""
        await self._lock.acquire()
        if self._is_over:
            self._lock.release()
        else:
            self._is_held = True

    def release(self) -> None:
        """Let another function write."""
        if self._is_held:
            self._is_held = False
            self._lock.release()

    async def __aenter__(self) -> WriteLock:
        await self.acquire()
        return self

    async def __aexit__(self, *error: object) -> None:
        self._is_over = True
        self.release()


class Transaction:
    """The table access of an action or a hook: one transaction.

    Args:
        database: The database.
        action: The name of the action or hook, for messages.
        write_lock: Released while the function waits for the model. None: nothing else writes.
        begins_early: True if the transaction begins before the function uses a table.

    Attributes:
        written: The tables that it has written to.
        time_limit: The time limit of the function.
        is_suspended: True while the function waits for the model, and other functions may write.
    """

    def __init__(
        self, database: Database, action: str, write_lock: WriteLock | None = None, *, begins_early: bool = False
    ) -> None:
        self.action = action
        self.written: set[str] = set()
        self.time_limit = TimeLimit()
        self.is_suspended = False
        self._database = database
        self._write_lock = write_lock
        self._begins_early = begins_early
        self._num_waiting = 0
        self._switching = asyncio.Lock()
        self._open: WriteTransaction | None = None
        self._end_reason = ""
        # The function may run in one thread and be cancelled from another.
        self._lock = threading.Lock()

    def execute(self, work: Callable[[Connection], T]) -> T:
        """Call a function with the transaction's connection. The first call begins the transaction.

        Raises:
            BadTable: If the transaction has ended.
            StoreLocked, StoreError: If the database cannot be used.
        """
        with self._lock:
            if self._end_reason:
                raise BadTable(self._end_reason)
            if self.is_suspended:
                raise BadTable(
                    f"The function {self.action!r} uses tables while it waits for the model in another task. Use them "
                    "when the text is finished."
                )
            with self._database.translated_errors():
                if self._open is None:
                    self._open = self._database.begin()
                return work(self._open.connection)

    def begin(self) -> None:
        """Take the write lock now instead of on first use. Blocks for up to ``LOCK_TIMEOUT`` seconds.

        Raises:
            StoreLocked, StoreError: If the lock cannot be taken.
        """
        self.execute(lambda connection: None)

    def commit(self) -> None:
        """Commit all writes, and end the transaction.

        Raises:
            StoreError: If nothing was written, or if that is not known: the message says so.
        """
        with self._lock:
            self._end_reason = f"The action {self.action!r} has responded already, so it cannot use tables any more."
            transaction, self._open = self._open, None
            if transaction is not None:
                with self._database.translated_errors():
                    transaction.commit()

    def rollback(self, reason: str) -> None:
        """Undo all writes, and end the transaction. If the function continues, it gets an error with ``reason``."""
        self._end_reason = reason
        transaction = self._open
        if transaction is not None:
            transaction.interrupt()  # a long query in the function's thread stops, and releases the lock
        with self._lock:
            transaction, self._open = self._open, None
            if transaction is not None:
                transaction.rollback()

    # -- waiting for the model ----------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def suspended(self) -> AsyncIterator[None]:
        """Let other functions write while the code inside this context runs. The time limit does not count it.

        Raises:
            BadTable: If the function has written to a table, because its writes would hold the lock.
        """
        if self._end_reason:  # a task that the function has started, and that goes on after its end
            yield
            return
        if self.written:
            raise BadTable(
                f"The function {self.action!r} asks the model after it has written to the table "
                f"{min(self.written)!r}. All its writes are one transaction, and until that ends nothing else could be "
                "saved. Ask the model first, and write afterwards. Or write here, and let the model answer in a canvas "
                "of a page that reads the table."
            )
        self._num_waiting += 1
        with self.time_limit.paused():
            try:
                async with self._switching:
                    if not self.is_suspended:
                        await asyncio.to_thread(self._suspend)
                        if self._write_lock is not None:
                            self._write_lock.release()
                yield
            finally:
                self._num_waiting -= 1
                async with self._switching:
                    if self.is_suspended and not self._num_waiting:
                        await self._resume()

    def _suspend(self) -> None:
        with self._lock:
            self.is_suspended = True
            transaction, self._open = self._open, None
            if transaction is not None:
                transaction.rollback()

    async def _resume(self) -> None:
        if self._write_lock is not None:
            await self._write_lock.acquire()
        self.is_suspended = False
        if self._begins_early:
            try:
                await asyncio.to_thread(self.begin)
            except BadTable:
                if not self._end_reason:  # the function may have been cancelled meanwhile
                    raise


TableAccess: TypeAlias = ReadTracker | Transaction

_access: ContextVar[TableAccess | None] = ContextVar("unwritten_table_access", default=None)


@contextlib.contextmanager
def table_access(transaction: Transaction) -> Iterator[None]:
    """Let the code inside this context read and write tables in a transaction."""
    token = _access.set(transaction)
    try:
        yield
    finally:
        _access.reset(token)


@contextlib.asynccontextmanager
async def function_transaction(
    database: Database, name: str, write_lock: WriteLock, *, is_async: bool
) -> AsyncIterator[Transaction]:
    """Run an author's function in a transaction. It is committed at the end, and rolled back if anything raises.

    Args:
        database: The database.
        name: The name of the action or hook, for messages.
        write_lock: Released while the function waits for the model.
        is_async: True if the function runs on the event loop, where its first statement must not wait for the lock.
    """
    transaction = Transaction(database, name, write_lock, begins_early=is_async)
    try:
        if is_async:
            await asyncio.to_thread(transaction.begin)
        with table_access(transaction):
            yield transaction
        await asyncio.to_thread(transaction.commit)
    except BaseException as error:
        end = "took too long" if isinstance(error, TimedOut) else "has failed"
        reason = f"The function {name!r} {end}, and all its changes were rolled back."
        # In a thread, because the function's own thread may hold the transaction while it waits for the database.
        await asyncio.shield(asyncio.to_thread(transaction.rollback, reason))
        raise


@contextlib.asynccontextmanager
async def without_write_lock() -> AsyncIterator[None]:
    """Run code that waits for the model. An action or a hook lets other functions write meanwhile.

    Raises:
        BadApp: In a page function, which must not wait for the model.
        BadTable: In an action or a hook that has written to a table; see ``Transaction.suspended``.
    """
    access = _access.get()
    if isinstance(access, ReadTracker):
        raise BadApp(
            f"The page function {access.function!r} asks the model itself. It runs for every request of its page, also "
            "when that is stored. Return a prompt or a Canvas: it is generated once, and stored."
        )
    if access is None:
        yield
        return
    async with access.suspended():
        yield


@contextlib.contextmanager
def no_table_access() -> Iterator[None]:
    """Run the code inside this context, and the tasks that it starts, as neither an action nor a page function."""
    token = _access.set(None)
    try:
        yield
    finally:
        _access.reset(token)


def is_autocommit() -> bool:
    """True if each write is a transaction of its own: neither a page function nor an action is running."""
    return _access.get() is None


def read_rows(database: Database, table: str, sql: str, parameters: Collection[object] = ()) -> list[Any]:
    """Return the rows of a query, as the running code may see them.

    Raises:
        BadTable: If the action that is running has ended.
        StoreError: If the database cannot be read.
    """
    access = _access.get()
    transaction = access.transaction if isinstance(access, ReadTracker) else access
    if isinstance(access, ReadTracker):
        access.tables.add(table)
    if transaction is not None and not transaction.is_suspended:
        return transaction.execute(lambda connection: connection.execute(sql, tuple(parameters)).fetchall())
    return database.read(sql, parameters)


def write_rows(database: Database, table: str, work: Callable[[Connection], T]) -> T:
    """Change a table in the transaction of the running code, or in one of its own.

    Raises:
        BadTable: In a page function, or in an action that has ended.
        StoreLocked, StoreFull, StoreError: Nothing was written.
    """
    access = _access.get()
    if isinstance(access, ReadTracker):
        raise BadTable(
            f"The page function {access.function!r} writes to the table {table!r}. A GET must not change anything: "
            "browsers and crawlers repeat it. Write in an action: @app.action('/path') above a function."
        )
    if isinstance(access, Transaction):
        access.written.add(table)
        return access.execute(work)
    return database.write_sync(work)
