"""The SQLite implementation of the database: the default, in one file, without other services."""

from __future__ import annotations

import contextlib
import functools
import logging
import shutil
import sqlite3
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlite_utils

from ..core.errors import StoreError, StoreFull, StoreLocked, UnknownDatabase
from ..core.tracing import SQLTimer, Trace, current_trace
from .connection_pool import ConnectionPool
from .database import LOCK_TIMEOUT, Connection, Cursor, Database, WriteTransaction
from .migrations import APPLICATION_ID, migrations
from .server_lock import ServerLock

log = logging.getLogger("unwritten")

MAX_READERS = 8
"""Connections that read at the same time. Reads are short; further threads wait."""

_SQL_TYPES: Mapping[str, str] = {"int": "INTEGER", "bool": "INTEGER", "float": "REAL"}

_MIN_FREE = 64 * 1024
"""Bytes. With less free space, an input/output error means that the disk is full."""


class SQLiteConnection(Connection):
    """A connection to a SQLite file."""

    dialect = "sqlite"

    def __init__(self, raw: sqlite3.Connection) -> None:
        self.raw = raw

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> Cursor:
        """Execute a statement."""
        return self.raw.execute(sql, parameters)

    def executemany(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Execute a statement once for each row."""
        self.raw.executemany(sql, rows)

    def create_table(self, table: str, columns: Mapping[str, str], last_id: int) -> None:
        """Create a table."""
        # AUTOINCREMENT: ids of deleted rows are not reused, because canvases are stored under them.
        names = "".join(f', "{name}" {_SQL_TYPES.get(kind, "TEXT")}' for name, kind in columns.items())
        self.execute(f'CREATE TABLE "{table}" (id INTEGER PRIMARY KEY AUTOINCREMENT{names})')
        if last_id:
            self.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, last_id))

    def add_column(self, table: str, column: str, kind: str) -> None:
        """Add a column."""
        self.execute(f'ALTER TABLE "{table}" ADD COLUMN "{column}" {_SQL_TYPES.get(kind, "TEXT")}')

    def create_index(self, name: str, table: str, column: str, kind: str) -> None:
        """Create an index."""
        self.execute(f'CREATE INDEX "{name}" ON "{table}" ("{column}")')

    def column_names(self, table: str) -> set[str]:
        """Return the names of columns."""
        return {row[1] for row in self.execute(f'PRAGMA table_info("{table}")')}

    def index_names(self, table: str) -> set[str]:
        """Return the names of indexes."""
        sql = "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL"
        return {name for (name,) in self.execute(sql, (table,))}

    def last_id(self, table: str) -> int:
        """Return the largest id so far."""
        row = self.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
        return row[0] if row else 0

    def reserve_id(self, table: str, id: int) -> None:
        """Do nothing: AUTOINCREMENT does it."""


class _Transaction(WriteTransaction):
    """A transaction of SQLite.

    Args:
        raw: A connection in a transaction.
        timer: Times the statements.
        owned: True to close the connection at the end.
    """

    def __init__(self, raw: sqlite3.Connection, timer: SQLTimer | None, *, owned: bool) -> None:
        self._connection = SQLiteConnection(raw)
        self._raw = raw
        self._timer = timer
        self._owned = owned

    @property
    def connection(self) -> SQLiteConnection:
        return self._connection

    def commit(self) -> None:
        try:
            self._raw.execute("COMMIT")
        except BaseException:
            self._raw.rollback()
            raise
        finally:
            self._end()

    def rollback(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._raw.rollback()
        self._end()

    def interrupt(self) -> None:
        with contextlib.suppress(sqlite3.Error):  # it may have ended
            self._raw.interrupt()

    def _end(self) -> None:
        if self._timer:
            self._raw.set_trace_callback(None)
            self._timer.stop()
        if self._owned:
            self._raw.close()


class SQLiteDatabase(Database):
    """A SQLite file. It is opened and migrated on creation; its folder is created if it does not exist.

    On a full disk it can be read, and writing is tried again with each write.

    Args:
        path: The file.
        read_only: True never writes to it. The file may be on a read-only disk.

    Raises:
        UnknownDatabase: If the file belongs to another program, is damaged, or comes from a newer version.
        StoreError: If it cannot be opened.
    """

    dialect = "sqlite"
    errors = (sqlite3.Error,)

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        super().__init__(path, read_only=read_only)
        self.path = path
        self._closed = False
        self._query = ""  # of the URI with which readers open the file; empty for its path
        self._writer: sqlite3.Connection | None = None
        self._server_lock: ServerLock | None = None
        self._version_lock = threading.Lock()
        self._version_reader: sqlite3.Connection | None = None
        self._version_base = 0
        try:
            if read_only:
                self._open_read_only()
            else:
                self._open_writable()
        except BaseException:
            self._write_thread.shutdown()
            raise
        self._readers = self._make_readers()

    # -- opening ------------------------------------------------------------------------------------------

    def _open_writable(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"The folder {self.path.parent} for the database cannot be created: {error.strerror}."
            ) from error
        try:
            self._writer = self._write_thread.submit(self._open_writer).result()
        except StoreFull as full:
            try:
                self._open_read_only()
            except StoreError:
                raise full from None
            log.warning("The disk is full, so %s can only be read. Free some space: no restart is needed.", self.path)

    def _open_writer(self) -> sqlite3.Connection:
        with self.translated_errors():
            connection = sqlite3.connect(self.path, timeout=LOCK_TIMEOUT, check_same_thread=False)
            try:
                database = sqlite_utils.Database(connection, execute_plugins=False)
                is_ours = self._check_origin(connection)
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                if not is_ours:
                    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute("BEGIN IMMEDIATE")
                migrations.apply(database)
                connection.execute("COMMIT")
            except BaseException:
                connection.close()
                raise
            return connection

    def _open_read_only(self) -> None:
        """Find out how the file can be read without writing to its folder.

        Raises:
            StoreError: If it cannot be read, or must be migrated first.
        """
        if not self.path.is_file():
            raise StoreError(f"No pages are stored yet: there is no database {self.path}.")
        self._query = "?mode=ro"
        with self.translated_errors():
            try:
                self._check_readable()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR}:
                    raise
                # SQLite cannot create the files beside it. Without a log of changes, they are not needed.
                log_file = self.path.with_name(f"{self.path.name}-wal")
                if log_file.exists() and log_file.stat().st_size:
                    raise
                self._query = "?mode=ro&immutable=1"
                self._check_readable()

    def _check_readable(self) -> None:
        with contextlib.closing(self._connect_reader()) as connection:
            self._check_origin(connection)
            applied = _migration_names(connection)
        if _known_migrations() - applied:
            raise StoreError(
                f"{self.path} was created by an earlier version of Unwritten. Start once without --read-only, with "
                "free space on the disk, to update it."
            )

    def _check_origin(self, connection: sqlite3.Connection) -> bool:
        """Return False for a new file.

        Raises:
            UnknownDatabase: If the file is not ours, or comes from a newer version.
        """
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        if tables and application_id != APPLICATION_ID:
            raise UnknownDatabase(
                f"{self.path} is a database of another program (it has the table {min(tables)!r}). "
                "Name another file with --database."
            )
        newer = sorted(_migration_names(connection) - _known_migrations())
        if newer:
            raise UnknownDatabase(
                f"{self.path} was created by a newer version of Unwritten ({newer[-1]}). "
                "Update with: pip install --upgrade unwritten"
            )
        return bool(application_id == APPLICATION_ID)

    # -- writing ------------------------------------------------------------------------------------------

    def _begin_write(self, trace: Trace | None) -> WriteTransaction:
        writer = self._writer or self._open_writer_again()
        timer = SQLTimer(trace) if trace else None
        if timer:
            writer.set_trace_callback(timer.start)
        try:
            # IMMEDIATE takes the write lock at once, so waiting for another program happens here, where the time-out
            # limits it, and not in the middle of the work.
            writer.execute("BEGIN IMMEDIATE")
        except BaseException:
            writer.set_trace_callback(None)
            raise
        return _Transaction(writer, timer, owned=False)

    def begin(self) -> WriteTransaction:
        """Begin a transaction on a connection of its own."""
        self.check_writable()
        if self._writer is None:
            self.write_sync(lambda connection: None)
        with self.translated_errors():
            raw = sqlite3.connect(self.path, timeout=LOCK_TIMEOUT, check_same_thread=False, isolation_level=None)
            try:
                raw.execute("PRAGMA synchronous = NORMAL")
                raw.execute("BEGIN IMMEDIATE")
            except BaseException:
                raw.close()
                raise
        return _Transaction(raw, None, owned=True)

    def _open_writer_again(self) -> sqlite3.Connection:
        """Open the writer after the disk was full, and readers that see what it writes."""
        self._writer = self._open_writer()
        log.warning("There is free space on the disk again: %s can be written.", self.path)
        old, self._query = self._readers, ""
        self._readers = self._make_readers()
        old.close()
        with self._version_lock:
            self._version_base += 1 << 40  # numbers of another connection are not comparable
            if self._version_reader is not None:
                self._version_reader.close()
            self._version_reader = None
        return self._writer

    # -- reading ------------------------------------------------------------------------------------------

    def read(self, sql: str, parameters: Collection[object] = ()) -> list[Any]:
        """Return the rows of a query."""
        trace = current_trace.get()
        started = time.perf_counter() if trace else 0.0
        readers = self._readers
        connection = readers.borrow()
        try:  # not the context manager: this runs several times per request
            return connection.execute(sql, tuple(parameters)).fetchall()
        except sqlite3.Error as error:
            raise self.store_error(error) from error
        finally:
            readers.give_back(connection)
            if trace:
                trace.add_statement(sql, parameters, time.perf_counter() - started)

    def _make_readers(self) -> ConnectionPool[sqlite3.Connection]:
        return ConnectionPool(
            self._connect_reader, sqlite3.Connection.close, MAX_READERS, self.name, timeout=LOCK_TIMEOUT
        )

    def _connect_reader(self) -> sqlite3.Connection:
        name = self.path.absolute().as_uri() + self._query if self._query else str(self.path)
        with self.translated_errors() if not self._query else contextlib.nullcontext():
            connection = sqlite3.connect(name, uri=bool(self._query), timeout=LOCK_TIMEOUT, check_same_thread=False)
            connection.execute("PRAGMA query_only = 1")
            return connection

    def data_version(self) -> int:
        """Return a number that changes with every commit."""
        # SQLite counts the commits of other connections, so the number always comes from the same connection.
        with self._version_lock:
            reader = self._version_reader
            if reader is None:
                if self._closed:
                    raise StoreError(f"The database {self.path} has been closed.")
                reader = self._version_reader = self._connect_reader()
            try:
                return self._version_base + int(reader.execute("PRAGMA data_version").fetchone()[0])
            except sqlite3.Error as error:
                raise self.store_error(error) from error

    # -- the file -----------------------------------------------------------------------------------------

    def acquire_server_lock(self) -> None:
        """Lock a file beside the database."""
        if self._server_lock is None:
            self._server_lock = ServerLock(self.path)

    def close(self) -> None:
        """Finish pending writes, and close all connections."""
        super().close()
        with self._version_lock:
            if self._closed:
                return
            self._closed = True
            if self._version_reader is not None:
                self._version_reader.close()
                self._version_reader = None
        self._readers.close()
        if self._writer is not None:
            self._writer.close()
        if self._server_lock is not None:
            self._server_lock.release()

    def store_error(self, error: Exception) -> StoreError:
        """Convert an error of SQLite."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return StoreLocked(
                f"The database {self.path} is locked by another program. It was not released within "
                f"{LOCK_TIMEOUT:g} seconds."
            )
        if code == sqlite3.SQLITE_FULL or (code in _FULL_DISK_ERRORS and _is_disk_full(self.path)):
            return StoreFull(
                f"The disk is full: {self.path} cannot grow. Free some space; unsaved pages are tried again."
            )
        if code in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
            return UnknownDatabase(
                f"{self.path} is not a database, or is damaged ({error}). Name another file with --database."
            )
        if self.path.is_dir():
            return UnknownDatabase(f"{self.path} is a folder. Name a file in it: --database {self.path / 'pages.db'}")
        if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}:
            return StoreError(
                f"The database {self.path} cannot be opened for writing ({error}). Check its permissions, or only read "
                "it: --read-only"
            )
        return StoreError(f"The database {self.path} could not be used: {error}.")


_FULL_DISK_ERRORS = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})


def _is_disk_full(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free < _MIN_FREE
    except OSError:
        return False


@functools.cache
def _known_migrations() -> frozenset[str]:
    with contextlib.closing(sqlite3.connect(":memory:")) as empty:
        return frozenset(migration.name for migration in migrations.pending(sqlite_utils.Database(empty)))


def _migration_names(connection: sqlite3.Connection) -> set[str]:
    """Return the names of the migrations that were applied to a database."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = '_sqlite_migrations'").fetchone():
        return set()
    rows = connection.execute("SELECT name FROM _sqlite_migrations WHERE migration_set = 'unwritten'")
    return {name for (name,) in rows}
