"""Copy a world's database while it is in use."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import quote

from ..core.errors import StoreError, TransferError
from ..storage.aliases import AliasStore
from ..storage.location import Location
from ..storage.migrations import APPLICATION_ID
from ..storage.pages import PageStore
from ..storage.sqlite import SQLiteDatabase

_PRIVATE = (
    "DELETE FROM world WHERE name = 'secret'",
    "DELETE FROM actions",  # what visitors sent; it is stored so that no form is handled twice
    "DELETE FROM unfinished",  # parts of pages that were being written when the server stopped
)


def copy_world(source: Location, target: Path, *, public: bool = False, only: Collection[str] | None = None) -> None:
    """Copy a world's database: a consistent snapshot, while other programs read and write it.

    Args:
        source: The database.
        target: The file for the copy. It must not exist.
        public: True leaves out the secret that signs links, and the forms that were sent. Otherwise the copy accepts
            the links of the original.
        only: The keys of the pages in a public copy. None: all.

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
            _delete_private(part, only)
        part.rename(target)
    except sqlite3.Error as error:
        raise StoreError(f"{source} could not be copied to {target}: {error}.") from error
    finally:
        part.unlink(missing_ok=True)


def _delete_private(path: Path, only: Collection[str] | None) -> None:
    """Delete private data and other pages than these, also from the free space of the file."""
    SQLiteDatabase(path).close()  # migrates it
    if only is not None:
        asyncio.run(_delete_pages(path, only))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        for statement in _PRIVATE:
            connection.execute(statement)
        connection.execute(
            "INSERT INTO search (search) VALUES ('optimize')"
        )  # deleted words stay in the index until then
        connection.execute("VACUUM")


async def _delete_pages(path: Path, only: Collection[str]) -> None:
    """Delete all other pages, their aliases, and all pictures: it is not stored to which page they belong."""
    store = PageStore(path)
    try:
        others = [page.key for page in store.all(limit=-1) if page.key not in only]
        for key in others:
            await store.delete(key)
        secret = [alias for alias, target in AliasStore(store.database).all() if target not in only]
        await store.database.write(
            lambda connection: connection.executemany("DELETE FROM aliases WHERE alias = ?", [(key,) for key in secret])
        )
        if others:
            await store.database.write(lambda connection: connection.execute("DELETE FROM pictures"))
    finally:
        store.close()


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
