"""Open an untrusted database file so that reading it can only return rows.

A SQLite file can hold more than data: triggers, views that never end, virtual tables, generated columns, damaged
pages. So the file is copied page by page, the copy is opened read-only, with limits, a deadline, and an authorizer that
permits reading of a few tables, and its schema is compared with what Unwritten creates. No migration runs on it.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlite_utils

from ..core.errors import TransferError
from ..storage.migrations import APPLICATION_ID, migrations

MAX_FILE_SIZE = 1024**3
"""Maximum size in bytes of a file, with its write-ahead log."""

MAX_PRINTED = 120
"""Characters of a value from a file that a message shows."""

MAX_SECONDS = 900.0
"""Seconds after which reading a file is given up."""

_MAX_ROW_SIZE = 8 * 1024**2
_MAX_OBJECTS = 1000  # tables and indexes
_STEPS = 10_000  # of SQLite's virtual machine between two checks of the deadline

_TABLES: Mapping[str, str] = {
    "pages": "id key title snippet version written_at",
    "versions": "id page number title written_at engine model prompt_hash seed tokens steps canvases seconds reason "
    "kind note base regions opened_after",
    "canvases": "version position name format prompt text seed tokens steps canvases seconds reason schema fact "
    "repairs",
    "links": "source target text sentence gist position",
    "aliases": "alias target declared",
    "world": "name value",
    "tables": "name columns model",
    "search_content": "id c0 c1 c2",
    "_sqlite_migrations": "id migration_set name applied_at",
}
"""The tables that are read, with their columns. The text of the search index is a plain table inside of the index."""

_FORMER_NAMES: Mapping[tuple[str, str], str] = {
    ("versions", "kind"): "means",
    ("versions", "opened_after"): "ahead",
    ("canvases", "schema"): "shape",
}
"""Columns that had other names in earlier versions."""

_REQUIRED = ("pages", "versions", "canvases", "links", "search_content", "_sqlite_migrations")
_IGNORED_TABLES = {"search", "canvas_values", "shaped", "actions", "boxes", "pictures", "unfinished", "uploads"}
_IGNORED_PREFIXES = ("search_", "sqlite_", "state_")  # the search index, SQLite's own tables, and the author's
_TRIGGER = "create trigger boxes_of_pages after delete on pages begin delete from boxes where page = old.key; end"
_PLAIN_TABLE = re.compile(r"\s*create\s+table\s", re.I)
_SEARCH_INDEX = re.compile(r"\s*create\s+virtual\s+table\s+\W?search\W?\s+using\s+fts5\s*\(", re.I)
_INDEX = re.compile(r"\s*create\s+(?:unique\s+)?index\s", re.I)

_PRAGMAS = {"application_id", "table_xinfo", "quick_check"}
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: _MAX_ROW_SIZE,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_COLUMN: 200,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 50,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 2,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}


class UntrustedWorld:
    """The rows of a world's file. Their values are not checked, and may have any type.

    Args:
        connection: A connection to a copy of the file, whose schema is verified.
        path: The file, for messages.
        deadline: When reading is given up, on the monotonic clock.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, deadline: float) -> None:
        self._connection = connection
        self._path = path
        self._deadline = deadline
        self._selected: dict[str, str] = {}

    def rows(self, table: str, condition: str = "", value: object = None) -> Iterator[dict[str, Any]]:
        """Yield rows. Columns that the file does not have yet are missing.

        Args:
            table: One of the tables that are read.
            condition: What follows the name of the table, with at most one parameter.
            value: The parameter.

        Raises:
            TransferError: If the file is damaged, or takes too long to read.
        """
        if table not in self._selected:
            columns = _columns(self._connection, table)
            names = {name: (name, _FORMER_NAMES.get((table, name), name)) for name in _TABLES[table].split()}
            found = [(column, name) for name, both in names.items() for column in both if column in columns]
            self._selected[table] = ", ".join(f'"{column}" AS "{name}"' for column, name in dict.fromkeys(found))
        sql = f"SELECT {self._selected[table]} FROM {table} {condition}"  # noqa: S608
        with _explained(self._path):
            cursor = self._connection.execute(sql, (value,) if "?" in condition else ())
            labels = [column[0] for column in cursor.description]
            for row in cursor:
                if time.monotonic() > self._deadline:
                    raise _too_slow(self._path)
                yield dict(zip(labels, row, strict=True))

    def has(self, table: str) -> bool:
        """True if the file has one of the tables that are read."""
        return bool(_columns(self._connection, table))


@contextlib.contextmanager
def open_untrusted(path: Path) -> Iterator[UntrustedWorld]:
    """Open the file of another world. The file is not changed.

    Raises:
        TransferError: If it is missing, too large, damaged, from a newer version, or not a world, or if it contains
            anything besides the tables of one.
    """
    _check_file(path)
    deadline = time.monotonic() + MAX_SECONDS
    with tempfile.TemporaryDirectory(prefix="unwritten-") as folder, _explained(path):
        copy = Path(folder) / "world.db"
        _copy(path.resolve(), copy, path, deadline)
        with contextlib.closing(_connect(copy, deadline)) as connection:
            _check_schema(connection, path)
            yield UntrustedWorld(connection, path, deadline)


def _check_file(path: Path) -> None:
    """Check that a path names a regular file of a sensible size. A pipe or device might never end."""
    if not path.exists():
        raise TransferError(f"There is no file {path}. Name the database of another world.")
    target, size = path.resolve(), 0
    for part in (target, *(target.with_name(target.name + end) for end in ("-wal", "-shm", "-journal"))):
        try:
            status = part.lstat()
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(status.st_mode):
            raise TransferError(f"{part} is not a regular file. Name the database of another world.")
        size += status.st_size
    if size > MAX_FILE_SIZE:
        raise TransferError(f"{path} has {size / 1e9:.1f} GB. Up to {MAX_FILE_SIZE / 1e9:.1f} GB can be imported.")


def _copy(source: Path, target: Path, path: Path, deadline: float) -> None:
    """Copy a database page by page, without reading its schema. A consistent snapshot, also while it is in use."""

    def check(status: int, remaining: int, total: int) -> None:
        if time.monotonic() > deadline:
            raise _too_slow(path)

    uri = f"file:{quote(str(source))}?mode=ro"
    with (
        contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as original,
        contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copy,
    ):
        original.backup(copy, pages=2000, progress=check)


def _connect(copy: Path, deadline: float) -> sqlite3.Connection:
    uri = f"file:{quote(str(copy))}?mode=ro&immutable=1"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    for limit, value in _LIMITS.items():
        connection.setlimit(limit, value)
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")  # what is not text is refused later
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    for pragma in ("trusted_schema = OFF", "query_only = ON", "cell_size_check = ON", "mmap_size = 0"):
        connection.execute(f"PRAGMA {pragma}")
    connection.set_authorizer(_authorize)
    return connection


def _authorize(action: int, first: str | None, second: str | None, database: str | None, source: str | None) -> int:
    """Permit only plain reading of known tables. ``source`` is the view or trigger that an access comes from."""
    is_allowed = source is None and (
        action == sqlite3.SQLITE_SELECT
        or (action == sqlite3.SQLITE_READ and (first in _TABLES or first == "sqlite_master"))
        or (action == sqlite3.SQLITE_PRAGMA and first in _PRAGMAS)
    )
    return sqlite3.SQLITE_OK if is_allowed else sqlite3.SQLITE_DENY


# -- the schema -------------------------------------------------------------------------------------------------------


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    objects = connection.execute("SELECT type, name, sql FROM sqlite_master LIMIT ?", (_MAX_OBJECTS + 1,)).fetchall()
    if application_id != APPLICATION_ID:
        raise TransferError(f"{path} is not a world of Unwritten: it is a database of another program, or empty.")
    if len(objects) > _MAX_OBJECTS:
        raise _refused(path, f"more than {_MAX_OBJECTS} tables and indexes")
    _check_version(connection, path)
    for kind, name, sql in objects:
        if not _is_known(str(kind), str(name), str(sql or "")):
            raise _refused(path, f"the {printable(kind)[:20]} {printable(name)[:60]!r}")
    for table, names in _TABLES.items():
        columns = _columns(connection, table)
        if not columns and table in _REQUIRED:
            raise TransferError(f"{path} is not a world of Unwritten: it has no table {table!r}.")
        former = {old for (of, _), old in _FORMER_NAMES.items() if of == table}
        for column, is_hidden in columns.items():
            if is_hidden or column not in {*names.split(), *former}:
                raise _refused(path, f"the column {table}.{printable(column)[:60]}")
        if columns:
            ((result,),) = connection.execute(f"PRAGMA quick_check('{table}')").fetchmany(1)
            if result != "ok":
                raise TransferError(f"{path} is damaged: {printable(result)}. Get another copy of it.")


def _is_known(kind: str, name: str, sql: str) -> bool:
    """True if Unwritten creates such an object. SQLite reads the statement, whatever the kind and name say."""
    if kind == "table":
        if name == "search":
            return _SEARCH_INDEX.match(sql) is not None
        is_named = name in _TABLES or name in _IGNORED_TABLES or name.startswith(_IGNORED_PREFIXES)
        return is_named and _PLAIN_TABLE.match(sql) is not None
    if kind == "index":
        return not sql or _INDEX.match(sql) is not None
    return kind == "trigger" and " ".join(sql.lower().split()) == _TRIGGER


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    if not _columns(connection, "_sqlite_migrations"):
        return
    known = {migration.name for migration in migrations.pending(sqlite_utils.Database(memory=True))}
    rows = connection.execute("SELECT name FROM _sqlite_migrations WHERE migration_set = 'unwritten' LIMIT 1000")
    newer = sorted({str(name) for (name,) in rows} - known)
    if newer:
        raise TransferError(
            f"{path} was created by a newer version of Unwritten ({printable(newer[-1])[:60]}). "
            "Update with: pip install --upgrade unwritten"
        )


def _columns(connection: sqlite3.Connection, table: str) -> dict[str, bool]:
    """Return the columns of a table, and True for those that are hidden or generated. Empty if there is no table."""
    return {row[1]: bool(row[6]) for row in connection.execute(f"PRAGMA table_xinfo({table})")}


# -- errors -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Translate errors of SQLite."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_INTERRUPT:
            raise _too_slow(path) from error
        if code == sqlite3.SQLITE_AUTH:
            raise _refused(path, "a table that is not one of Unwritten's") from error
        if code == sqlite3.SQLITE_NOTADB:
            raise TransferError(f"{path} is not a world of Unwritten: it is not a database ({error}).") from error
        raise TransferError(f"{path} cannot be read: {printable(error)}. Nothing was imported.") from error


def printable(value: object) -> str:
    """Return the beginning of a value from a file for a message, without characters that control a terminal."""
    return "".join(c if c.isprintable() else "\ufffd" for c in str(value)[:MAX_PRINTED])


def _refused(path: Path, what: str) -> TransferError:
    return TransferError(f"{path} is not imported: it contains {what}, which no world of Unwritten has.")


def _too_slow(path: Path) -> TransferError:
    return TransferError(f"Reading {path} took more than {MAX_SECONDS:.0f} seconds. Nothing was imported.")
