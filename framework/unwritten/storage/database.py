"""The database: one SQLite file for everything that an app keeps, one thread that writes, many that read.

Writes go through one thread and one connection, each piece of work in one transaction: whatever happens in the
middle, all of it is there or none. Reads are short and run where they are asked for, each thread with a connection
of its own. What is kept, and in which tables, is the business of the modules above: ``store``, ``world`` and others.
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
from ..core.tracing import SQLTimer, Trace, current
from .migrations import APPLICATION_ID, migrations

T = TypeVar("T")


LOCK_TIMEOUT = 5.0
"""Seconds that a write waits for another program to let go of the database."""


class Database:
    """A SQLite file of ours. It is opened on creation; its folder is made if need be.

    Args:
        path: the file.

    Raises:
        StoreForeign: if the file is not a database of ours, or comes from a newer version.
        StoreError: if it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._readers = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._closed = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"The folder {path.parent} for the database cannot be made: {error.strerror}.") from error
        # sqlite3 connections belong to the thread that made them, so the writer's is made in its thread.
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="unwritten-store")
        try:
            self._region_job = self._writer.submit(self._open).result()
        except BaseException:
            self._writer.shutdown()
            raise

    def _open(self) -> sqlite_utils.Database:
        with self._sentences():
            connection = sqlite3.connect(self.path, timeout=LOCK_TIMEOUT, check_same_thread=False)
            try:
                database = sqlite_utils.Database(connection, execute_plugins=False)
                self._check_ours(connection)
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

    def _check_ours(self, connection: sqlite3.Connection) -> None:
        (visitor_cookie,) = connection.execute("PRAGMA application_id").fetchone()
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and visitor_cookie != APPLICATION_ID:
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
                    f"{self.path} was made by a newer version of Unwritten ({newer[-1]}). "
                    "Update with: pip install --upgrade unwritten"
                )

    # -- writing ------------------------------------------------------------------------------------------

    async def write(self, work: Callable[[sqlite_utils.Database], T]) -> T:
        """Do some work in the writing thread, in one transaction.

        Args:
            work: gets the database; what it raises undoes all that it wrote.

        Raises:
            StoreLocked, StoreFull, StoreError: nothing was written; it can be tried again.
        """
        return await asyncio.wrap_future(self._submit(work))

    def write_now(self, work: Callable[[sqlite_utils.Database], T]) -> T:
        """The same for callers that can wait, in any thread: a command, a test, a function that runs in a thread.

        Raises:
            StoreLocked, StoreFull, StoreError: nothing was written; it can be tried again.
        """
        return self._submit(work).result()

    def _submit(self, work: Callable[[sqlite_utils.Database], T]) -> Future[T]:
        trace = current()

        def run() -> T:
            with self._sentences(), self._told(trace), self._transaction(self._region_job.conn):
                return work(self._region_job)

        try:
            return self._writer.submit(run)
        except RuntimeError:
            raise StoreError(f"The database {self.path} has been closed.") from None

    @contextlib.contextmanager
    def _told(self, trace: Trace | None) -> Iterator[None]:
        """Tell the trace of a request what is written for it."""
        if trace is None:
            yield
            return
        ticker = SQLTimer(trace)
        self._region_job.conn.set_trace_callback(ticker.start)
        try:
            yield
        finally:
            self._region_job.conn.set_trace_callback(None)
            ticker.stop()

    @contextlib.contextmanager
    def _transaction(self, connection: sqlite3.Connection) -> Iterator[None]:
        # IMMEDIATE takes the write lock at once, so that waiting for another program happens here, where it
        # is bounded by the time-out, and not in the middle.
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            connection.rollback()
            raise
        try:
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise

    @contextlib.contextmanager
    def _sentences(self) -> Iterator[None]:
        """Turn SQLite's errors into ours, in words."""
        try:
            yield
        except sqlite3.Error as error:
            raise in_words(error, self.path) from error

    # -- reading ------------------------------------------------------------------------------------------

    def read(self, sql: str, parameters: Collection[object] = ()) -> list[Any]:
        """The rows of a query.

        Raises:
            StoreError: in words.
        """
        trace = current()
        begun = time.perf_counter() if trace else 0.0
        try:  # not the context manager: this is done for every click
            return self._reader().execute(sql, tuple(parameters)).fetchall()
        except sqlite3.Error as error:
            raise in_words(error, self.path) from error
        finally:
            if trace:
                trace.ran(sql, parameters, time.perf_counter() - begun)

    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._readers, "connection", None)
        if self._closed:
            raise StoreError(f"The database {self.path} has been closed.")
        if connection is None:
            connection = sqlite3.connect(self.path, timeout=LOCK_TIMEOUT, check_same_thread=False)
            connection.execute("PRAGMA query_only = 1")
            self._readers.connection = connection
            self._connections.append(connection)
        return connection

    def stamp(self) -> int:
        """A number that changes when anybody, this program or another, has written to the database.

        It is told apart for each thread: compare stamps of one thread only.
        """
        (row,) = self.read("PRAGMA data_version")
        return int(row[0])

    def close(self) -> None:
        """Finish what is being written, and close the file."""
        if not self._closed:
            self._closed = True
            self._writer.shutdown()
            for connection in self._connections:
                connection.close()


def in_words(error: sqlite3.Error, path: Path) -> StoreError:
    """SQLite's error as ours, with what to do."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return StoreLocked(
            f"The database {path} is locked by another program, and did not come free in {LOCK_TIMEOUT:g} seconds."
        )
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(f"The disk is full: {path} cannot grow. Make room; what is not written yet is tried again.")
    if code in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
        return UnknownDatabase(f"{path} is not a database, or is damaged ({error}). Name another file with --database.")
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}:
        return StoreError(f"The database {path} cannot be opened for writing ({error}). Check its permissions.")
    return StoreError(f"The database {path} could not be used: {error}.")
