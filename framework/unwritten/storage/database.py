"""The database of an app: one thread writes, every thread reads.

All writes go through one thread, each in one transaction: it is committed as a whole or not at all. Reads are short and
run in the calling thread. The modules above (``pages``, ``world``, ``values``, ``tables``) decide what is stored in
which table.

There are two implementations: ``sqlite`` and ``postgres``. The modules above write SQL that both understand, with ``?``
for parameters. What cannot be written that way is a method of ``Connection``, or in ``search``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, Protocol, TypeVar

from ..core.errors import StoreError, StoreReadOnly
from ..core.localization import gettext_lazy as _
from ..core.tracing import Trace, current_trace
from .location import Location

T = TypeVar("T")

LOCK_TIMEOUT = 5.0
"""Seconds to wait while another program holds the write lock."""

ALL_ROWS = 2**62
"""A LIMIT that no table reaches."""

_MAX_IDENTIFIER = 63


class Cursor(Protocol):
    """The result of a statement."""

    @property
    def rowcount(self) -> int:
        """The number of changed rows."""
        ...

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """Return all further rows."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the rows."""
        ...


class Connection(ABC):
    """A connection in a transaction."""

    dialect: Literal["sqlite", "postgres"]

    @abstractmethod
    def execute(self, sql: str, parameters: Sequence[object] = ()) -> Cursor:
        """Execute a statement with ``?`` for parameters."""

    @abstractmethod
    def executemany(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Execute a statement once for each row of parameters."""

    # -- tables of the app's author -----------------------------------------------------------------------

    @abstractmethod
    def create_table(self, table: str, columns: Mapping[str, str], last_id: int) -> None:
        """Create a table with an ``id`` that is never reused.

        Args:
            table: Its name.
            columns: The kinds of the further columns by name: int, bool, float, text, time or json.
            last_id: New ids are larger than this.
        """

    @abstractmethod
    def add_column(self, table: str, column: str, kind: str) -> None:
        """Add a column without values."""

    @abstractmethod
    def create_index(self, name: str, table: str, column: str, kind: str) -> None:
        """Create an index for equality with a column's values."""

    @abstractmethod
    def column_names(self, table: str) -> set[str]:
        """Return the names of a table's columns."""

    @abstractmethod
    def index_names(self, table: str) -> set[str]:
        """Return the names of a table's indexes."""

    @abstractmethod
    def last_id(self, table: str) -> int:
        """Return the largest id that a table ever had, or 0."""

    @abstractmethod
    def reserve_id(self, table: str, id: int) -> None:
        """Make later ids larger than this one, which was inserted explicitly."""


class WriteTransaction(ABC):
    """A transaction that holds the write lock, so what it has read is still current when it writes."""

    @property
    @abstractmethod
    def connection(self) -> Connection:
        """Executes the statements of the transaction."""

    @abstractmethod
    def commit(self) -> None:
        """Commit and end it.

        Raises:
            StoreError: If nothing was written, or if it is not known: the message says so.
        """

    @abstractmethod
    def rollback(self) -> None:
        """Undo its changes and end it. It never raises."""

    @abstractmethod
    def interrupt(self) -> None:
        """Interrupt the statement that another thread executes in it. It never raises."""


class Database(ABC):
    """A database. ``open_database`` opens one.

    Attributes:
        location: Where it is.
        name: Its name for messages, without passwords.
        read_only: True if it was opened to be read only.
    """

    dialect: Literal["sqlite", "postgres"]

    errors: tuple[type[Exception], ...]
    """What the driver raises."""

    def __init__(self, location: Location, *, read_only: bool) -> None:
        self.location = location
        self.name = str(location)
        self.read_only = read_only
        self._write_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="unwritten-store")

    # -- writing ------------------------------------------------------------------------------------------

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run a function in the write thread, in one transaction.

        Args:
            work: Gets the connection. If it raises, the transaction is rolled back.

        Raises:
            StoreLocked, StoreFull, StoreReadOnly, StoreError: Nothing was written. It can be tried again.
        """
        return await asyncio.wrap_future(self._submit(work))

    def write_sync(self, work: Callable[[Connection], T]) -> T:
        """Run a function like ``write``, and block until it is done. For callers outside of the event loop.

        Raises:
            StoreLocked, StoreFull, StoreReadOnly, StoreError: Nothing was written. It can be tried again.
        """
        return self._submit(work).result()

    def _submit(self, work: Callable[[Connection], T]) -> Future[T]:
        trace = current_trace.get()

        def run() -> T:
            with self.translated_errors():
                transaction = self._begin_write(trace)
                try:
                    result = work(transaction.connection)
                except BaseException:
                    transaction.rollback()
                    raise
                transaction.commit()
                return result

        self.check_writable()
        try:
            return self._write_thread.submit(run)
        except RuntimeError:
            raise StoreError(f"The database {self.name} has been closed.") from None

    def check_writable(self) -> None:
        """Raise an error if the database cannot be written at the moment, as far as is known without trying.

        Raises:
            StoreReadOnly: If it was opened to be read only.
            StoreError: If it is away.
        """
        if self.read_only:
            raise StoreReadOnly(_("This server only reads its database (--read-only), so nothing can be saved."))

    @abstractmethod
    def _begin_write(self, trace: Trace | None) -> WriteTransaction:
        """Begin a transaction in the write thread."""

    @abstractmethod
    def begin(self) -> WriteTransaction:
        """Begin a transaction that any thread may use. Blocks for up to ``LOCK_TIMEOUT`` seconds.

        Raises:
            StoreLocked, StoreReadOnly, StoreError: If it cannot begin.
        """

    @contextlib.contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Convert errors of the driver."""
        try:
            yield
        except self.errors as error:
            raise self.store_error(error) from error

    @abstractmethod
    def store_error(self, error: Exception) -> StoreError:
        """Convert an error of the driver to one whose message says what to do."""

    # -- reading ------------------------------------------------------------------------------------------

    @abstractmethod
    def read(self, sql: str, parameters: Collection[object] = ()) -> list[Any]:
        """Return the rows of a query. It runs in the calling thread.

        Raises:
            StoreError: If the database cannot be read.
        """

    @abstractmethod
    def data_version(self) -> int:
        """Return a number that changes whenever this or another program has written to the database."""

    # -- one server per database --------------------------------------------------------------------------

    @abstractmethod
    def acquire_server_lock(self) -> None:
        """Become the only process that serves this database, until it is closed. The lock ends with the process.

        Commands that write a few rows need no lock. A process that holds it already may call this again.

        Raises:
            StoreLocked: If another process serves this database. The message says which, and what to do.
        """

    def close(self) -> None:
        """Finish pending writes and close all connections."""
        self._write_thread.shutdown()


def shorten_identifier(name: str, dialect: str) -> str:
    """Return a table's or index's name as the database stores it. PostgreSQL cuts names at 63 bytes."""
    if dialect == "sqlite" or len(name.encode()) <= _MAX_IDENTIFIER:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name.encode()[: _MAX_IDENTIFIER - 9].decode(errors='ignore')}_{digest}"


def insert_row(
    connection: Connection, table: str, values: Mapping[str, object], *, ignore_existing: bool = False
) -> None:
    """Insert a row. Names of columns are trusted, values are not.

    Args:
        connection: A connection in a transaction.
        table: The table.
        values: The values by column.
        ignore_existing: True does nothing if the table has a row with this primary key.
    """
    end = " ON CONFLICT DO NOTHING" if ignore_existing else ""
    connection.execute(_insert_sql(table, values) + end, tuple(values.values()))


def insert_row_with_id(connection: Connection, table: str, values: Mapping[str, object]) -> int:
    """Insert a row, and return its new id."""
    ((new,),) = connection.execute(f"{_insert_sql(table, values)} RETURNING id", tuple(values.values())).fetchall()
    return int(new)


def insert_rows(connection: Connection, table: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Insert rows with the same columns."""
    if rows:
        connection.executemany(_insert_sql(table, rows[0]), [tuple(row.values()) for row in rows])


def _insert_sql(table: str, columns: Collection[str]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608
