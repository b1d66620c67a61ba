"""The database: one writer, many readers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from unwritten.core.errors import StoreError
from unwritten.storage.database import Connection, Database
from unwritten.storage.location import Location
from unwritten.storage.open import open_database


@pytest.fixture
def database(location: Location) -> Iterator[Database]:
    """Return an empty database with a table ``words``."""
    database = open_database(location)
    database.write_sync(lambda db: db.execute("CREATE TABLE words (word TEXT UNIQUE)"))
    yield database
    database.close()


def words(database: Database) -> list[str]:
    return [word for (word,) in database.read("SELECT word FROM words ORDER BY word")]


def add(*new: str) -> Callable[[Connection], int]:
    def work(db: Connection) -> int:
        for word in new:
            db.execute("INSERT INTO words VALUES (?)", (word,))
        return len(new)

    return work


def test_work_is_committed_as_a_whole_or_not_at_all(database: Database) -> None:
    assert asyncio.run(database.write(add("ash", "elm"))) == 2
    with pytest.raises(StoreError, match=r"(?i)unique"):
        database.write_sync(add("oak", "ash"))
    assert words(database) == ["ash", "elm"]


def test_an_exception_rolls_back_and_reaches_the_caller(database: Database) -> None:
    def work(db: Connection) -> None:
        db.execute("INSERT INTO words VALUES ('ash')")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        database.write_sync(work)
    assert words(database) == []


def test_readers_in_other_threads_see_commits_and_cannot_write(database: Database) -> None:
    database.write_sync(add("ash"))
    seen: list[object] = []

    def reader() -> None:
        seen.append(words(database))
        try:
            database.read("INSERT INTO words VALUES ('elm')")
        except StoreError as error:
            seen.append(str(error))

    thread = threading.Thread(target=reader)
    thread.start()
    thread.join()
    assert seen[0] == ["ash"] and "cannot be opened for writing" in str(seen[1])


def test_data_version_changes_with_every_write(database: Database) -> None:
    before = database.data_version()
    assert database.data_version() == before
    database.write_sync(add("ash"))
    assert database.data_version() != before


def test_a_closed_database_raises(location: Location) -> None:
    database = open_database(location)
    database.close()
    database.close()
    with pytest.raises(StoreError, match="has been closed"):
        database.read("SELECT 1")
    with pytest.raises(StoreError, match="has been closed"):
        asyncio.run(database.write(add("ash")))
