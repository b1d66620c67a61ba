"""The SQLite database of an app: one thread writes, every thread reads.

All writes go through one thread and one connection, each in one transaction: it is committed as a whole or not at all.
Reads are short and run in the calling thread, which has a connection of its own. The modules above (``pages``,
``world``, ``values``, ``tables``) decide what is stored in which table.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import sqlite_utils

from ..core.errors import StoreError, StoreFull, StoreLocked, UnknownDatabase
from ..core.tracing import SQLTimer, Trace, current_trace
from .migrations import APPLICATION_ID, migrations

T = TypeVar("T")

LOCK_TIMEOUT = 5.0
"""Seconds to wait while another program holds the write lock."""


class Database:
    """A SQLite file. It is opened and migrated on creation; its folder is created if it does not exist.

    Raises:
        UnknownDatabase: If the file belongs to another program, is damaged, or comes from a newer version.
        StoreError: If it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._readers = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._closed = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"The folder {path.parent} for the database cannot be created: {error.strerror}."
            ) from error
        self._write_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="unwritten-store")
        try:
            self._write_database = self._write_thread.submit(self._open).result()
        except BaseException:
            self._write_thread.shutdown()
            raise

    def _open(self) -> sqlite_utils.Database:
        with self._translate_errors():
            connection = sqlite3.connect(self.path, timeout=LOCK_TIMEOUT, check_same_thread=False)
            try:
                database = sqlite_utils.Database(connection, execute_plugins=False)
                self._check_origin(connection)
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                with self._transaction(connection):
                    migrations.apply(database)
            except BaseException:
                connection.close()
                raise
            self._connections.append(connection)
            return database

    def _check_origin(self, connection: sqlite3.Connection) -> None:
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and application_id != APPLICATION_ID:
            raise UnknownDatabase(
                f"{self.path} is a database of another program (it has the table {min(tables)!r}). "
                "Name another file with --database."
            )
        known = {migration.name for migration in migrations.pending(sqlite_utils.Database(memory=True))}
        if "_sqlite_migrations" in tables:
            rows = connection.execute("SELECT name FROM _sqlite_migrations WHERE migration_set = 'unwritten'")
            newer = sorted({name for (name,) in rows} - known)
            if newer:
                raise UnknownDatabase(
                    f"{self.path} was created by a newer version of Unwritten ({newer[-1]}). "
                    "Update with: pip install --upgrade unwritten"
                )

    # -- writing ------------------------------------------------------------------------------------------

    async def write(self, work: Callable[[sqlite_utils.Database], T]) -> T:
        """Run a function in the write thread, in one transaction.

        Args:
            work: Gets the database. If it raises, the transaction is rolled back.

        Raises:
            StoreLocked, StoreFull, StoreError: Nothing was written. It can be tried again.
        """
        return await asyncio.wrap_future(self._submit(work))

    def write_sync(self, work: Callable[[sqlite_utils.Database], T]) -> T:
        """Run a function like ``write``, and block until it is done. For callers outside of the event loop.

        Raises:
            StoreLocked, StoreFull, StoreError: Nothing was written. It can be tried again.
        """
        return self._submit(work).result()

    def _submit(self, work: Callable[[sqlite_utils.Database], T]) -> Future[T]:
        trace = current_trace.get()

        def run() -> T:
            with self._translate_errors(), self._traced(trace), self._transaction(self._write_database.conn):
                return work(self._write_database)

        try:
            return self._write_thread.submit(run)
        except RuntimeError:
            raise StoreError(f"The database {self.path} has been closed.") from None

    @contextlib.contextmanager
    def _traced(self, trace: Trace | None) -> Iterator[None]:
        """Record the statements that are executed meanwhile."""
        if trace is None:
            yield
            return
        timer = SQLTimer(trace)
        self._write_database.conn.set_trace_callback(timer.start)
        try:
            yield
        finally:
            self._write_database.conn.set_trace_callback(None)
            timer.stop()

    @contextlib.contextmanager
    def _transaction(self, connection: sqlite3.Connection) -> Iterator[None]:
        # IMMEDIATE takes the write lock at once, so waiting for another program happens here, where the time-out
        # limits it, and not in the middle of the work.
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise

    @contextlib.contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise store_error(error, self.path) from error

    # -- reading ------------------------------------------------------------------------------------------

    def read(self, sql: str, parameters: Collection[object] = ()) -> list[Any]:
        """Return the rows of a query. It runs in the calling thread.

        Raises:
            StoreError: If the database cannot be read.
        """
        trace = current_trace.get()
        started = time.perf_counter() if trace else 0.0
        try:  # not the context manager: this runs several times per request
            return self._reader().execute(sql, tuple(parameters)).fetchall()
        except sqlite3.Error as error:
            raise store_error(error, self.path) from error
        finally:
            if trace:
                trace.add_statement(sql, parameters, time.perf_counter() - started)

    def _reader(self) -> sqlite3.Connection:
        """Return the calling thread's read-only connection."""
        connection: sqlite3.Connection | None = getattr(self._readers, "connection", None)
        if self._closed:
            raise StoreError(f"The database {self.path} has been closed.")
        if connection is None:
            connection = sqlite3.connect(self.path, timeout=LOCK_TIMEOUT, check_same_thread=False)
            connection.execute("PRAGMA query_only = 1")
            self._readers.connection = connection
            self._connections.append(connection)
        return connection

    def data_version(self) -> int:
        """Return a number that changes whenever this or another program has written to the database.

        It differs between threads: compare only numbers of the same thread.
        """
        (row,) = self.read("PRAGMA data_version")
        return int(row[0])

    def close(self) -> None:
        """Finish pending writes and close all connections."""
        if not self._closed:
            self._closed = True
            self._write_thread.shutdown()
            for connection in self._connections:
                connection.close()


def store_error(error: sqlite3.Error, path: Path) -> StoreError:
    """Convert an error of SQLite to a ``StoreError`` whose message says what to do."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return StoreLocked(
            f"The database {path} is locked by another program. It was not released within {LOCK_TIMEOUT:g} seconds."
        )
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(f"The disk is full: {path} cannot grow. Free some space; unsaved pages are tried again.")
    if code in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
        return UnknownDatabase(f"{path} is not a database, or is damaged ({error}). Name another file with --database.")
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}:
        return StoreError(f"The database {path} cannot be opened for writing ({error}). Check its permissions.")
    return StoreError(f"The database {path} could not be used: {error}.")
