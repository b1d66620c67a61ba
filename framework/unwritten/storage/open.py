"""Open the database at a location."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import StoreError
from .database import Database
from .location import Location
from .sqlite import SQLiteDatabase


def open_database(location: Location, *, read_only: bool = False) -> Database:
    """Open a database, and create or migrate its tables.

    Args:
        location: A SQLite file, which is created if it does not exist; or an existing PostgreSQL database.
        read_only: True never writes to it. Then it must exist, with the tables of this version.

    Raises:
        UnknownDatabase: If it belongs to another program, is damaged, or comes from a newer version.
        StoreError: If it cannot be opened.
    """
    if isinstance(location, Path):
        return SQLiteDatabase(location, read_only=read_only)
    try:
        from .postgres import PostgresDatabase
    except ImportError as error:
        raise StoreError(
            f"PostgreSQL databases need the package {error.name}, which is not installed: "
            'pip install "unwritten[postgres]"'
        ) from error
    return PostgresDatabase(location, read_only=read_only)


def check_exists(location: Location) -> None:
    """Check that there may be pages to read, before a command opens a database.

    Raises:
        StoreError: If the file does not exist.
    """
    if isinstance(location, Path) and not location.is_file():
        raise StoreError(f"No pages are stored yet: there is no database {location}.")
