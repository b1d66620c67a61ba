"""The PostgreSQL implementation of the database, for several processes or machines.

* Every transaction that writes holds one advisory lock of the world, so there is one writer at a time, as in SQLite.
  What an action has read is still current when it writes, and an author's code never has to be repeated.
* Connections are opened in background threads. While the server is away, reads and writes fail at once.
* ``LISTEN`` and ``NOTIFY`` tell every process of commits, so that rendered pages in memory become outdated.
* If a connection breaks during a commit, the server is asked afterwards whether the transaction was committed.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

import psycopg
from psycopg import conninfo, pq
from psycopg.errors import (
    DiskFull,
    InsufficientPrivilege,
    LockNotAvailable,
    QueryCanceled,
    ReadOnlySqlTransaction,
)

from ..core.errors import StoreError, StoreFull, StoreLocked, StoreReadOnly, UnknownDatabase
from ..core.tracing import Trace, current_trace
from .connection_pool import ConnectionPool
from .database import LOCK_TIMEOUT, Database, WriteTransaction
from .location import PostgresURL
from .postgres_connection import PostgresConnection, translated, without_nul
from .postgres_monitor import CHANNEL_SQL, PROCESS, PostgresMonitor
from .postgres_schema import MIGRATIONS, MIGRATIONS_TABLE, TABLES, apply_migration, create_migrations_table

MAX_READERS = 8
"""Connections of one process that read at the same time."""

LOOP_READ_TIMEOUT = 1.5
"""Seconds for a read on the event loop. A server that takes longer counts as away."""

READ_TIMEOUT = 60.0
"""Seconds for a read in another thread, such as an export."""

COMMIT_TIMEOUT = 10.0
"""Seconds to find out whether an action was committed, after the connection broke."""

_MAX_WRITERS = 4
_CONNECT_TIMEOUT = 5
_CLOSE_TIMEOUT = 5.0
_MIN_VERSION = 13
_LOCK_CLASS = 0x556E7772  # "Unwr" in ASCII
_DEFAULTS: Mapping[str, object] = {
    "connect_timeout": _CONNECT_TIMEOUT,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""Parameters of connections. Those in the URL override them."""

_SESSION = """
SET lock_timeout = {lock}; SET statement_timeout = {statement};
SET idle_in_transaction_session_timeout = 60000;
SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;
SET client_encoding = 'UTF8'; SET TimeZone = 'UTC'; SET default_transaction_read_only = {read_only}
"""
"""Settings of each connection. A suspended process, or a machine that is gone, must not hold the lock for ever."""

_BEGIN = f"BEGIN; SELECT pg_advisory_xact_lock({_LOCK_CLASS}, hashtext(current_schema()))".encode()
_ANNOUNCE = f"SELECT pg_notify({CHANNEL_SQL}, %s), CAST(pg_current_xact_id() AS text)".encode()


class PostgresDatabase(Database):
    """A PostgreSQL database, or one schema of it: the first one in the connection's search path.

    Args:
        url: Where it is.
        read_only: True never writes to it.

    Raises:
        UnknownDatabase: If it does not exist, its tables belong to another program, or it comes from a newer version.
        StoreError: If it cannot be opened.
    """

    dialect = "postgres"
    errors = (psycopg.Error,)

    def __init__(self, url: PostgresURL, *, read_only: bool = False) -> None:
        super().__init__(url, read_only=read_only)
        self._id = secrets.token_hex(8)
        self._closed = False
        self._version = 1
        self._version_lock = threading.Lock()
        self._open: set[PostgresConnection] = set()
        try:
            given = conninfo.conninfo_to_dict(url.secret) if url.is_valid else None
        except psycopg.Error:
            given = None
        if given is None:
            self._write_thread.shutdown()
            # The driver's message may show a part of the password.
            raise StoreError(
                f"The database URL {url} is not valid. It has this form: postgresql://USER:PASSWORD@HOST:5432/NAME. "
                "Write special characters of the password as percent codes, such as %40 for @."
            )
        self._parameters: dict[str, Any] = {**_DEFAULTS, **given, "application_name": PROCESS}
        self._connectors = ThreadPoolExecutor(max_workers=2, thread_name_prefix="unwritten-connect")
        self._readers = ConnectionPool(
            self._connect_reader, self._disconnect, MAX_READERS, self.name, timeout=LOOP_READ_TIMEOUT
        )
        self._writers = ConnectionPool(
            self._connect_writer, self._disconnect, _MAX_WRITERS, self.name, timeout=LOCK_TIMEOUT
        )
        self._monitor: PostgresMonitor | None = None
        try:
            with self.translated_errors():
                connection = self._connect(writes=not read_only)
                try:
                    self._check_server(connection)
                    self._migrate(connection)
                finally:
                    self._disconnect(connection)
            self._monitor = PostgresMonitor(
                connect=lambda: self._connect(writes=False),
                disconnect=self._disconnect,
                open_connections=self._open,
                instance=self._id,
                on_change=self._bump_version,
                name=self.name,
            )
        except BaseException:
            self._write_thread.shutdown()
            self._connectors.shutdown()
            raise

    # -- connections --------------------------------------------------------------------------------------

    def _connect(self, *, writes: bool) -> PostgresConnection:
        raw = psycopg.connect(conninfo.make_conninfo("", **self._parameters), autocommit=True)
        connection = PostgresConnection(raw)
        self._open.add(connection)
        try:
            limits = {"lock": round(LOCK_TIMEOUT * 1000), "statement": round(READ_TIMEOUT * 1000)}
            connection.send(_SESSION.format(**limits, read_only="off" if writes else "on").encode())
        except BaseException:
            self._disconnect(connection)
            raise
        return connection

    def _disconnect(self, connection: PostgresConnection) -> None:
        self._open.discard(connection)
        connection.close()

    def _connect_reader(self) -> PostgresConnection:
        return self._connect_in_background(self._readers, writes=False)

    def _connect_writer(self) -> PostgresConnection:
        return self._connect_in_background(self._writers, writes=True)

    def _connect_in_background(self, pool: ConnectionPool[PostgresConnection], *, writes: bool) -> PostgresConnection:
        """Open a connection in another thread: a lookup of the host may take long, and cannot be interrupted."""
        self._check_available()
        try:
            future = self._connectors.submit(self._connect, writes=writes)
        except RuntimeError:
            raise StoreError(f"The database {self.name} has been closed.") from None
        try:
            return future.result(LOOP_READ_TIMEOUT if is_event_loop() else _CONNECT_TIMEOUT + 1)
        except FutureTimeout:
            future.add_done_callback(lambda done: None if done.exception() else self._disconnect(done.result()))
            raise self._report_lost() from None
        except psycopg.OperationalError as error:
            raise self._report_lost() from error

    @property
    def _is_away(self) -> bool:
        return self._monitor is not None and self._monitor.is_away

    def _report_lost(self) -> StoreError:
        """Note that the server does not respond. The monitor finds out when it is back."""
        if self._monitor is not None:
            self._monitor.report_lost()
        return StoreError(f"The database {self.name} does not respond at the moment. Try again in a moment.")

    def _check_available(self) -> None:
        if self._closed:
            raise StoreError(f"The database {self.name} has been closed.")
        if self._is_away:
            raise StoreError(f"The database {self.name} does not respond at the moment. Try again in a moment.")

    # -- opening ------------------------------------------------------------------------------------------

    def _check_server(self, connection: PostgresConnection) -> None:
        version = connection.raw.info.server_version // 10000
        if version < _MIN_VERSION:
            raise StoreError(f"{self.name} is PostgreSQL {version}. Version {_MIN_VERSION} or newer is needed.")
        encoding, schema = connection.execute("SELECT current_setting('server_encoding'), current_schema()").fetchone()
        if encoding != "UTF8":
            raise StoreError(
                f"The database {self.name} has the encoding {encoding}, which cannot hold every text. Create one with: "
                "CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0"
            )
        if schema is None:
            raise StoreError(
                f"The database {self.name} has no schema for this user: the search path leads to none that exists. "
                "Run: CREATE SCHEMA name; ALTER ROLE user SET search_path = name"
            )

    def _migrate(self, connection: PostgresConnection) -> None:
        """Create or migrate the tables. Several processes may do it at the same time.

        Raises:
            UnknownDatabase: If tables belong to another program, or come from a newer version.
            StoreError: If that needs rights that the user does not have.
        """
        pending = self._pending_migrations(connection)
        if not pending:
            return
        if self.read_only:
            raise StoreError(
                f"The database {self.name} has no tables of this version of Unwritten yet. Start once without "
                "--read-only."
            )
        connection.send(_BEGIN)
        try:
            pending = self._pending_migrations(connection)  # another process may have been faster
            if pending and len(pending) == len(MIGRATIONS):
                create_migrations_table(connection)
            for name in pending:
                apply_migration(connection, name)
            connection.send(b"COMMIT")
        except InsufficientPrivilege as error:
            user = connection.raw.info.user
            raise StoreError(
                f"The user {user!r} may not create tables in {self.name} ({_first_line(error)}). As the owner of the "
                f'database, run: GRANT CREATE, USAGE ON SCHEMA public TO "{user}"'
            ) from error

    def _pending_migrations(self, connection: PostgresConnection) -> list[str]:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()").fetchall()
        tables = {name for (name,) in rows}
        if MIGRATIONS_TABLE not in tables:
            foreign = [name for name in TABLES if name in tables]
            if foreign:
                raise UnknownDatabase(
                    f"{self.name} has a table {foreign[0]!r} of another program. Name another database with "
                    "--database, or give Unwritten a schema of its own: ?options=-csearch_path%3Dunwritten"
                )
            return [*MIGRATIONS]
        applied = {name for (name,) in connection.execute(f"SELECT name FROM {MIGRATIONS_TABLE}")}  # noqa: S608
        newer = sorted(applied - MIGRATIONS.keys())
        if newer:
            raise UnknownDatabase(
                f"{self.name} was created by a newer version of Unwritten ({newer[-1]}). "
                "Update with: pip install --upgrade unwritten"
            )
        return [name for name in MIGRATIONS if name not in applied]

    # -- writing ------------------------------------------------------------------------------------------

    def check_writable(self) -> None:
        """Raise an error if the database is read only, closed or away."""
        super().check_writable()
        self._check_available()

    def _begin_write(self, trace: Trace | None) -> WriteTransaction:
        # The retry of a page must wait until it is known whether the page was stored.
        return self._begin(trace, commit_timeout=None)

    def begin(self) -> WriteTransaction:
        """Begin a transaction."""
        self.check_writable()
        with self.translated_errors():
            return self._begin(None, commit_timeout=COMMIT_TIMEOUT)

    def _begin(self, trace: Trace | None, commit_timeout: float | None) -> WriteTransaction:
        connection = self._writers.borrow()
        try:
            connection.send(_BEGIN)
        except psycopg.Error:
            is_lost = self._end(connection)
            if not is_lost or connection.expired:
                raise
            # It was idle while the server was restarted. Nothing was sent, so another one can be tried.
            self._writers.drop_idle()
            connection = self._writers.borrow()
            try:
                connection.send(_BEGIN)
            except BaseException:
                self._end(connection)
                raise
        except BaseException:
            self._end(connection)
            raise
        connection.trace = trace
        return _Transaction(self, connection, commit_timeout)

    def _end(self, connection: PostgresConnection) -> bool:
        """Roll back what is not committed, and give the connection back. Return True if it is lost."""
        connection.trace = None
        connection.changed = False
        if not connection.is_broken and connection.raw.info.transaction_status != pq.TransactionStatus.IDLE:
            with contextlib.suppress(psycopg.Error):
                connection.send(b"ROLLBACK")
        if connection.is_broken or connection.raw.info.transaction_status != pq.TransactionStatus.IDLE:
            self._writers.discard(connection)
            return True
        self._writers.give_back(connection)
        return False

    def _was_committed(self, transaction: str, timeout: float | None) -> bool:
        """Wait until the server says whether it has committed a transaction.

        Raises:
            StoreError: If it does not say so in time, or this database is closed.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while not self._closed and (end is None or time.monotonic() < end):
            with contextlib.suppress(StoreError):
                sql = "SELECT pg_xact_status(CAST(? AS xid8))"
                ((status,),) = self.read(sql, (transaction,))
                if status in {"committed", "aborted"}:
                    return bool(status == "committed")
                if status is None:
                    break
            time.sleep(0.1)
        raise StoreError(
            f"The connection to {self.name} broke while something was being saved, and it is not known whether it was "
            "saved."
        )

    # -- reading ------------------------------------------------------------------------------------------

    def read(self, sql: str, parameters: Collection[object] = ()) -> list[Any]:
        """Return the rows of a query."""
        trace = current_trace.get()
        started = time.perf_counter() if trace else 0.0
        try:
            return self._read(translated(sql), without_nul(parameters))
        finally:
            if trace:
                trace.add_statement(sql, parameters, time.perf_counter() - started)

    def _read(self, sql: bytes, parameters: Sequence[object]) -> list[Any]:
        for is_last in (False, True):
            self._check_available()
            connection = self._readers.borrow()
            connection.limit = LOOP_READ_TIMEOUT if is_event_loop() else READ_TIMEOUT
            try:
                rows = connection.send(sql, parameters).fetchall()
            except psycopg.Error as error:
                if not connection.is_broken:
                    self._readers.give_back(connection)
                    raise self.store_error(error) from error
                self._readers.discard(connection)
                self._readers.drop_idle()
                if is_last or connection.expired:
                    raise self._report_lost() from error
                # It was idle while the server was restarted. Try another one.
            except BaseException:
                self._readers.discard(connection)
                raise
            else:
                self._readers.give_back(connection)
                return rows
        raise AssertionError

    def data_version(self) -> int:
        """Return a number that changes with every commit that this process knows of."""
        return self._version

    def _bump_version(self) -> None:
        with self._version_lock:
            self._version += 1

    # -- the server ---------------------------------------------------------------------------------------

    def acquire_server_lock(self) -> None:
        """Take an advisory lock, and take it again after each reconnection."""
        assert self._monitor is not None
        self._monitor.acquire_server_lock()

    def close(self) -> None:
        """Finish pending writes, and close all connections."""
        if self._closed:
            return
        closing = threading.Timer(_CLOSE_TIMEOUT, self._expire_all)
        closing.daemon = True
        closing.start()  # a server that does not respond must not keep this process from ending
        try:
            if self._is_away:
                self._closed = True  # ends the wait for the outcome of a commit
            super().close()
        finally:
            closing.cancel()
        self._closed = True
        if self._monitor is not None:
            self._monitor.close()
        self._readers.close()
        self._writers.close()
        self._connectors.shutdown()

    def _expire_all(self) -> None:
        self._closed = True
        for connection in [*self._open]:
            connection.expire()

    def store_error(self, error: Exception) -> StoreError:
        """Convert an error of the driver."""
        text = _first_line(error)
        if isinstance(error, LockNotAvailable):
            return StoreLocked(
                f"The database {self.name} is locked by another process. It was not released within {LOCK_TIMEOUT:g} "
                "seconds."
            )
        if isinstance(error, DiskFull):
            return StoreFull(f"The disk of {self.name} is full. Free some space; unsaved pages are tried again.")
        if isinstance(error, ReadOnlySqlTransaction):
            return StoreReadOnly(
                f"The database {self.name} cannot be opened for writing ({text}). Name the primary server, or only "
                "read it: --read-only"
            )
        if isinstance(error, QueryCanceled):
            return StoreError(f"A query of {self.name} was interrupted or took too long: {text}.")
        if isinstance(error, InsufficientPrivilege):
            return StoreError(f"The user of {self.name} lacks a right: {text}. Its owner can grant it.")
        if isinstance(error, psycopg.OperationalError):
            return self._connection_error(text)
        return StoreError(f"The database {self.name} could not be used: {text}.")

    def _connection_error(self, text: str) -> StoreError:
        database = str(self._parameters.get("dbname", ""))
        if f'database "{database}" does not exist' in text:
            return UnknownDatabase(
                f"There is no database {database!r} on the server of {self.name}. Create it: createdb {database}"
            )
        if "password" in text or "role" in text or "pg_hba.conf" in text or "authentication" in text:
            return StoreError(
                f"{self.name} refuses this user: {text}. Check the name and the password in the URL, in PGPASSWORD or "
                "in ~/.pgpass."
            )
        if self._monitor is None:
            return StoreError(f"{self.name} cannot be reached: {text}. Check the host and port, and that it runs.")
        return self._report_lost()


class _Transaction(WriteTransaction):
    """A transaction of PostgreSQL.

    Args:
        database: The database.
        connection: A connection in a transaction.
        commit_timeout: Seconds to find out whether it was committed, if the connection breaks. None: no limit.
    """

    def __init__(
        self, database: PostgresDatabase, connection: PostgresConnection, commit_timeout: float | None
    ) -> None:
        self._connection = connection
        self._database = database
        self._commit_timeout = commit_timeout

    @property
    def connection(self) -> PostgresConnection:
        return self._connection

    def commit(self) -> None:
        database, connection = self._database, self._connection
        try:
            if connection.raw.info.transaction_status != pq.TransactionStatus.INTRANS:
                # The server would roll back without an error.
                raise StoreError("Nothing was saved, because a statement of this transaction has failed before.")
            if not connection.changed:
                connection.send(b"COMMIT")
                return
            _, number = connection.send(_ANNOUNCE, (database._id,)).fetchone() or ("", "")
            try:
                connection.send(b"COMMIT")
            except psycopg.Error:
                if not connection.is_broken:
                    raise  # the server has refused it
                database._report_lost()
                if not database._was_committed(number, self._commit_timeout):
                    raise
            database._bump_version()
        finally:
            database._end(connection)

    def rollback(self) -> None:
        self._database._end(self._connection)

    def interrupt(self) -> None:
        with contextlib.suppress(psycopg.Error):
            self._connection.raw.cancel_safe(timeout=2)


def is_event_loop() -> bool:
    """True if the calling thread runs an event loop, which must not wait."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")
