"""Sharing a world: one SQLite file, which can be copied while it is used, and its pages brought into another."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlite_utils

from ..core.errors import ShareError, StoreError, UnknownDatabase
from ..storage.database import Database
from ..storage.migrations import APPLICATION_ID
from ..storage.values import save_values

_PRIVATE = (
    "DELETE FROM world WHERE name = 'secret'",
    "DELETE FROM actions",  # what visitors have sent, kept only so that nothing is done twice
)


# -- copying --------------------------------------------------------------------------------------------------


def copy_world(source: Path, target: Path, *, public: bool = False) -> None:
    """Copy a world's file, as it is at one moment, while others read and write it.

    Args:
        source: the file.
        target: where the copy goes; nothing may be there.
        public: leave out what is not for others to know: the secret that links are signed with, and the forms that
            were sent. Without it, the copy is the same world, whose links the other one knows again.

    Raises:
        ShareError: if there is nothing to copy, or something is where the copy would go.
        StoreError: if the source is no world, or the copy cannot be written.
    """
    if not source.is_file():
        raise ShareError(f"Nothing is written yet: there is no database {source}.")
    if target.exists():
        raise ShareError(f"{target} is there already, and a copy replaces nothing. Name another file.")
    if not target.parent.is_dir():
        raise ShareError(f"There is no folder {target.parent} for the copy. Make it first.")
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        with _reading(source) as connection:
            connection.execute("VACUUM INTO ?", (str(part),))
        if public:
            _forget(part)
        part.rename(target)
    except sqlite3.Error as error:
        raise StoreError(f"{source} could not be copied to {target}: {error}.") from error
    finally:
        part.unlink(missing_ok=True)


def _forget(path: Path) -> None:
    """Take out what is private, so that it cannot be read from the file's free space either."""
    Database(path).close()  # brings its layout up to date
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = DELETE")
        for statement in _PRIVATE:
            connection.execute(statement)
        connection.execute("VACUUM")
    finally:
        connection.close()


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A world's file, only to read.

    Raises:
        ShareError: if it is not one of ours.
    """
    try:
        connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True, isolation_level=None)
    except sqlite3.Error as error:
        raise ShareError(f"{path} cannot be opened: {error}.") from error
    try:
        try:
            (visitor_cookie,) = connection.execute("PRAGMA application_id").fetchone()
        except sqlite3.DatabaseError as error:
            raise ShareError(f"{path} is not a world of Unwritten: it is no database ({error}).") from error
        if visitor_cookie != APPLICATION_ID:
            raise ShareError(f"{path} is not a world of Unwritten: it is a database of another program, or empty.")
        yield connection
    finally:
        connection.close()


# -- bringing in ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class ImportReport:
    """What an import did, or would do: keys of pages.

    Attributes:
        name: what the other world is called.
        new: pages that were not here.
        same: pages that say here what they say there.
        ours: pages that say something else here, and were left as they are.
        theirs: pages that said something else here, and have a new version now.
        tables: tables of state in the other world. They are not brought along.
    """

    name: str = ""
    new: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    ours: list[str] = field(default_factory=list)
    theirs: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)


def import_world(ours: Path, path: Path, *, theirs: bool = False, dry_run: bool = False) -> ImportReport:
    """Bring the pages of another world's file into this one, with their versions, links and values, in one transaction.

    Args:
        ours: this world's file. It is made if need be.
        path: the other world's file. It is only read, and may come from an older version of Unwritten.
        theirs: where both have a page and it says different things, add theirs as a new version. Otherwise ours stays.
        dry_run: change nothing, and tell what would be done.

    Raises:
        ShareError: if the file is missing, not a world, from a newer version, or this very world.
        StoreError: nothing was written.
    """
    if not path.is_file():
        raise ShareError(f"There is no file {path}. Name the database of another world.")
    if ours.exists() and path.samefile(ours):
        raise ShareError(f"{path} is this very world. Name the database of another one.")
    with _up_to_date(path) as other:
        if dry_run and not ours.exists():
            return _bring(lambda sql, given: [], None, other, theirs)
        with contextlib.closing(Database(ours)) as database:
            if dry_run:
                return _bring(database.read, None, other, theirs)

            def work(region_job: sqlite_utils.Database) -> ImportReport:
                connection = region_job.conn
                return _bring(lambda sql, given: connection.execute(sql, given).fetchall(), connection, other, theirs)

            return database.write_now(work)


@contextlib.contextmanager
def _up_to_date(path: Path) -> Iterator[Database]:
    """A copy of a world's file in a temporary folder, with the layout of this version."""
    with tempfile.TemporaryDirectory(prefix="unwritten-") as folder:
        copy = Path(folder) / "world.db"
        try:
            with _reading(path) as connection:
                connection.execute("VACUUM INTO ?", (str(copy),))
            database = Database(copy)
        except sqlite3.Error as error:
            raise ShareError(f"{path} cannot be read: {error}.") from error
        except UnknownDatabase as error:
            raise ShareError(str(error).replace(str(copy), str(path))) from error
        try:
            yield database
        finally:
            database.close()


def _bring(read: Any, connection: sqlite3.Connection | None, other: Database, theirs: bool) -> ImportReport:
    names = other.read("SELECT value FROM world WHERE name = 'name'")
    found = ImportReport(name=names[0][0].strip('"') if names else "")
    found.tables = [name for (name,) in other.read("SELECT name FROM tables ORDER BY name")]
    for page, key in other.read("SELECT id, key FROM pages ORDER BY id"):
        here = read("SELECT id, version FROM pages WHERE key = ?", (key,))
        if not here:
            found.new.append(key)
            if connection:
                _add_page(connection, other, page, key)
        elif _texts(read, here[0][0]) == _texts(other.read, page):
            found.same.append(key)
        elif not theirs:
            found.ours.append(key)
        else:
            found.theirs.append(key)
            if connection:
                _add_version(connection, other, page, key, *here[0])
    return found


_CURRENT = "SELECT v.id FROM pages p JOIN versions v ON v.page = p.id AND v.number = p.version WHERE p.id = ?"


def _texts(read: Any, page: int) -> list[tuple[str, str]]:
    """What a page says: the texts of its current version, by name."""
    rows: list[tuple[str, str]] = read(
        f"SELECT name, text FROM canvases WHERE version = ({_CURRENT}) ORDER BY name",  # noqa: S608
        (page,),
    )
    return rows


def _rows(other: Database, table: str, where: str, value: object) -> list[dict[str, Any]]:
    columns = [row[1] for row in other.read(f"PRAGMA table_info({table})")]
    rows = other.read(f"SELECT {', '.join(columns)} FROM {table} WHERE {where} = ? ORDER BY rowid", (value,))  # noqa: S608
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _insert(connection: sqlite3.Connection, table: str, row: dict[str, Any]) -> int:
    marks = ", ".join("?" * len(row))
    cursor = connection.execute(
        f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})",  # noqa: S608
        list(row.values()),
    )
    return cursor.lastrowid or 0


def _add_page(connection: sqlite3.Connection, other: Database, page: int, key: str) -> None:
    """A page that is not here, with all its versions."""
    (row,) = _rows(other, "pages", "id", page)
    del row["id"]
    here = _insert(connection, "pages", row)
    newest = 0
    for version in _rows(other, "versions", "page", page):
        newest = _copy_version(connection, other, version, here)
    _around(connection, other, page, key, here, newest)


def _add_version(connection: sqlite3.Connection, other: Database, page: int, key: str, here: int, newest: int) -> None:
    """The current version of their page on top of ours: nothing is lost."""
    (row,) = _rows(other, "pages", "id", page)
    (current,) = _rows(other, "versions", "id", other.read(_CURRENT, (page,))[0][0])
    current |= {"number": newest + 1, "base": newest}
    version = _copy_version(connection, other, current, here)
    connection.execute(
        "UPDATE pages SET title = ?, snippet = ?, version = ?, written_at = ? WHERE id = ?",
        (row["title"], row["snippet"], newest + 1, row["written_at"], here),
    )
    connection.execute("DELETE FROM search WHERE rowid = ?", (here,))
    connection.execute("DELETE FROM links WHERE source = ?", (key,))
    _around(connection, other, page, key, here, version)


def _copy_version(connection: sqlite3.Connection, other: Database, version: dict[str, Any], page: int) -> int:
    theirs = version.pop("id")
    ours = _insert(connection, "versions", version | {"page": page})
    for canvas in _rows(other, "canvases", "version", theirs):
        _insert(connection, "canvases", canvas | {"version": ours})
    return ours


def _around(connection: sqlite3.Connection, other: Database, page: int, key: str, here: int, version: int) -> None:
    """What goes with a page's current version: links, search, values."""
    for link in _rows(other, "links", "source", key):
        _insert(connection, "links", link)
    for title, text in other.read("SELECT title, text FROM search WHERE rowid = ?", (page,)):
        _insert(connection, "search", {"rowid": here, "title": title, "text": text})
    save_values(connection, here, version)
