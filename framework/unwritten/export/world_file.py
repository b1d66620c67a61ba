"""Copy a world's database while it is in use, and import the pages of another world."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..core.errors import StoreError, TransferError, UnknownDatabase
from ..storage.database import Connection, Database, insert_row, insert_row_with_id
from ..storage.location import Location
from ..storage.migrations import APPLICATION_ID
from ..storage.open import open_database
from ..storage.search import index_page
from ..storage.sqlite import SQLiteDatabase
from ..storage.values import save_values

_PRIVATE = (
    "DELETE FROM world WHERE name = 'secret'",
    "DELETE FROM actions",  # what visitors sent, stored so that no form is handled twice
)


# -- copying ----------------------------------------------------------------------------------------------------------


def copy_world(source: Location, target: Path, *, public: bool = False) -> None:
    """Copy a world's database: a consistent snapshot, while other programs read and write it.

    Args:
        source: The database.
        target: The file for the copy. It must not exist.
        public: True leaves out the secret that signs links, and the forms that were sent. Otherwise the copy accepts
            the links of the original.

    Raises:
        TransferError: If there is nothing to copy, or the target exists.
        StoreError: If the source is not a world, or the copy cannot be written.
    """
    if not isinstance(source, Path):
        raise TransferError(f"Only SQLite databases can be copied to a file. Copy this one with: pg_dump {source}")
    if not source.is_file():
        raise TransferError(f"No pages are stored yet: there is no database {source}.")
    if target.exists():
        raise TransferError(f"{target} exists already and is not replaced. Name another file.")
    if not target.parent.is_dir():
        raise TransferError(f"There is no folder {target.parent} for the copy. Create it first.")
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        with _open_read_only(source) as connection:
            connection.execute("VACUUM INTO ?", (str(part),))
        if public:
            _delete_private(part)
        part.rename(target)
    except sqlite3.Error as error:
        raise StoreError(f"{source} could not be copied to {target}: {error}.") from error
    finally:
        part.unlink(missing_ok=True)


def _delete_private(path: Path) -> None:
    """Delete private data, also from the free space of the file."""
    SQLiteDatabase(path).close()  # migrates it
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        for statement in _PRIVATE:
            connection.execute(statement)
        connection.execute("VACUUM")


@contextlib.contextmanager
def _open_read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a world's database.

    Raises:
        TransferError: If the file is not a world.
    """
    try:
        connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True, isolation_level=None)
    except sqlite3.Error as error:
        raise TransferError(f"{path} cannot be opened: {error}.") from error
    with contextlib.closing(connection):
        try:
            (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        except sqlite3.DatabaseError as error:
            raise TransferError(f"{path} is not a world of Unwritten: it is not a database ({error}).") from error
        if application_id != APPLICATION_ID:
            raise TransferError(f"{path} is not a world of Unwritten: it is a database of another program, or empty.")
        yield connection


# -- importing --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class ImportReport:
    """What an import did, or would do, as keys of pages.

    Attributes:
        name: The other world's name.
        new: Pages that this world did not have.
        same: Pages with the same text in both worlds.
        ours: Pages with another text here, which were left unchanged.
        theirs: Pages with another text here, which have a new version now.
        tables: Tables of the other world's app. They are not imported.
    """

    name: str = ""
    new: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    ours: list[str] = field(default_factory=list)
    theirs: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)


def import_world(ours: Location, path: Path, *, theirs: bool = False, dry_run: bool = False) -> ImportReport:
    """Import the pages of another world, with their versions, links and values, in one transaction.

    Args:
        ours: This world's database. It is created if it does not exist.
        path: The other world's database. It is only read, and may come from an earlier version of Unwritten.
        theirs: Where both worlds have a page with different texts, True adds theirs as a new version. Otherwise ours is
            left unchanged.
        dry_run: True changes nothing.

    Returns:
        What was done, or would be done.

    Raises:
        TransferError: If the file is missing, not a world, from a newer version, or this world itself.
        StoreError: If the import could not be written. Then nothing was imported.
    """
    if not path.is_file():
        raise TransferError(f"There is no file {path}. Name the database of another world.")
    if isinstance(ours, Path) and ours.exists() and path.samefile(ours):
        raise TransferError(f"{path} is this world itself. Name the database of another one.")
    with _migrated_copy(path) as other:
        if dry_run and isinstance(ours, Path) and not ours.exists():
            return _import(lambda sql, given: [], None, other, theirs)
        with contextlib.closing(open_database(ours)) as database:
            if dry_run:
                return _import(database.read, None, other, theirs)

            def work(connection: Connection) -> ImportReport:
                return _import(lambda sql, given: connection.execute(sql, given).fetchall(), connection, other, theirs)

            return database.write_sync(work)


@contextlib.contextmanager
def _migrated_copy(path: Path) -> Iterator[Database]:
    """Open a temporary copy of a world's database, with the schema of this version."""
    with tempfile.TemporaryDirectory(prefix="unwritten-") as folder:
        copy = Path(folder) / "world.db"
        try:
            with _open_read_only(path) as connection:
                connection.execute("VACUUM INTO ?", (str(copy),))
            database = SQLiteDatabase(copy)
        except sqlite3.Error as error:
            raise TransferError(f"{path} cannot be read: {error}.") from error
        except UnknownDatabase as error:
            raise TransferError(str(error).replace(str(copy), str(path))) from error
        with contextlib.closing(database):
            yield database


def _import(read: Any, connection: Connection | None, other: Database, theirs: bool) -> ImportReport:
    """Compare two worlds page by page, and copy pages unless ``connection`` is None.

    Args:
        read: Runs a query on this world.
        connection: Writes to this world.
        other: The other world.
        theirs: See ``import_world``.
    """
    names = other.read("SELECT value FROM world WHERE name = 'name'")
    report = ImportReport(name=json.loads(names[0][0]) if names else "")
    report.tables = [name for (name,) in other.read("SELECT name FROM tables ORDER BY name")]
    for page, key in other.read("SELECT id, key FROM pages ORDER BY id"):
        rows = read("SELECT id, version FROM pages WHERE key = ?", (key,))
        if not rows:
            report.new.append(key)
            if connection:
                _add_page(connection, other, page, key)
        elif _texts(read, rows[0][0]) == _texts(other.read, page):
            report.same.append(key)
        elif not theirs:
            report.ours.append(key)
        else:
            report.theirs.append(key)
            if connection:
                _add_version(connection, other, page, key, *rows[0])
    return report


_CURRENT = "SELECT v.id FROM pages p JOIN versions v ON v.page = p.id AND v.number = p.version WHERE p.id = ?"


def _texts(read: Any, page: int) -> list[tuple[str, str]]:
    """Return the names and texts of a page's current version."""
    rows: list[tuple[str, str]] = read(
        f"SELECT name, text FROM canvases WHERE version = ({_CURRENT}) ORDER BY name",  # noqa: S608
        (page,),
    )
    return rows


def _rows(other: Database, table: str, where: str, value: object) -> list[dict[str, Any]]:
    columns = [row[1] for row in other.read(f"PRAGMA table_info({table})")]
    rows = other.read(f"SELECT {', '.join(columns)} FROM {table} WHERE {where} = ? ORDER BY rowid", (value,))  # noqa: S608
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _insert(connection: Connection, table: str, row: dict[str, Any]) -> int:
    if table in {"pages", "versions"}:
        return insert_row_with_id(connection, table, row)
    insert_row(connection, table, row)
    return 0


def _add_page(connection: Connection, other: Database, page: int, key: str) -> None:
    """Copy a page with all its versions."""
    (row,) = _rows(other, "pages", "id", page)
    del row["id"]
    new_page = _insert(connection, "pages", row)
    newest = 0
    for version in _rows(other, "versions", "page", page):
        newest = _copy_version(connection, other, version, new_page)
    _copy_related(connection, other, page, key, new_page, newest)


def _add_version(connection: Connection, other: Database, page: int, key: str, our_page: int, our_newest: int) -> None:
    """Add the current version of a page as a new version of ours."""
    (row,) = _rows(other, "pages", "id", page)
    (current,) = _rows(other, "versions", "id", other.read(_CURRENT, (page,))[0][0])
    current |= {"number": our_newest + 1, "base": our_newest}
    version = _copy_version(connection, other, current, our_page)
    connection.execute(
        "UPDATE pages SET title = ?, snippet = ?, version = ?, written_at = ? WHERE id = ?",
        (row["title"], row["snippet"], our_newest + 1, row["written_at"], our_page),
    )
    connection.execute("DELETE FROM links WHERE source = ?", (key,))
    _copy_related(connection, other, page, key, our_page, version)


def _copy_version(connection: Connection, other: Database, version: dict[str, Any], our_page: int) -> int:
    """Copy a version with its canvases. Return its id here."""
    their_id = version.pop("id")
    our_id = _insert(connection, "versions", version | {"page": our_page})
    for canvas in _rows(other, "canvases", "version", their_id):
        _insert(connection, "canvases", canvas | {"version": our_id, "fact": bool(canvas["fact"])})
    return our_id


def _copy_related(connection: Connection, other: Database, page: int, key: str, our_page: int, version: int) -> None:
    """Copy what belongs to a page's current version: links, search text and values."""
    for link in _rows(other, "links", "source", key):
        _insert(connection, "links", link)
    for title, text in other.read("SELECT title, text FROM search WHERE rowid = ?", (page,)):
        index_page(connection, our_page, title, text)
    save_values(connection, our_page, version)
