"""Transactions: atomic commits, rollbacks and locks."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator

import pytest
from tests.support.servers import PATIENCE

from unwritten.core.errors import BadTable, StoreLocked
from unwritten.storage.database import Database
from unwritten.storage.location import Location
from unwritten.storage.open import open_database
from unwritten.storage.transactions import ReadTracker, Transaction, read_rows, table_access, write_rows


@pytest.fixture
def database(location: Location) -> Iterator[Database]:
    database = open_database(location)
    database.write_sync(lambda db: db.execute("CREATE TABLE t (x BIGINT)"))
    yield database
    database.close()


def add(database: Database, value: int) -> None:
    write_rows(database, "t", lambda connection: connection.execute("INSERT INTO t VALUES (?)", (value,)))


def rows(database: Database) -> list[int]:
    return [x for (x,) in read_rows(database, "t", "SELECT x FROM t ORDER BY x")]


def test_without_a_transaction_each_write_is_committed(database: Database) -> None:
    add(database, 1)
    assert rows(database) == [1]


def test_a_transaction_sees_its_own_writes_and_others_do_not(database: Database) -> None:
    transaction = Transaction(database, "post")
    with table_access(transaction):
        add(database, 1)
        assert rows(database) == [1]
    assert rows(database) == []
    assert transaction.written == {"t"}
    transaction.commit()
    assert rows(database) == [1]


def test_a_rollback_undoes_all_writes_and_ends_the_transaction(database: Database) -> None:
    transaction = Transaction(database, "post")
    with table_access(transaction):
        add(database, 1)
        transaction.rollback("The time of the action 'post' is up.")
        with pytest.raises(BadTable, match="The time of the action 'post' is up"):
            add(database, 2)
        with pytest.raises(BadTable, match="The time of the action 'post' is up"):
            rows(database)
    assert rows(database) == []
    add(database, 3)  # the lock is free
    assert rows(database) == [3]


def test_a_committed_transaction_cannot_be_used(database: Database) -> None:
    transaction = Transaction(database, "post")
    with table_access(transaction):
        context = contextvars.copy_context()
    transaction.commit()
    with pytest.raises(BadTable, match="The action 'post' has responded already"):
        context.run(add, database, 1)


def test_a_rollback_interrupts_a_long_query_in_another_thread(database: Database) -> None:
    transaction = Transaction(database, "post")
    said: list[str] = []
    begun = threading.Event()

    def hang() -> None:
        with table_access(transaction):
            add(database, 1)
            begun.set()
            try:
                endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
                transaction.execute(lambda connection: connection.execute(endless).fetchall())
            except Exception as error:
                said.append(str(error))

    thread = threading.Thread(target=hang)
    thread.start()
    begun.wait()
    threading.Event().wait(0.1)
    transaction.rollback("Too late.")
    thread.join(PATIENCE)
    assert not thread.is_alive() and "interrupted" in said[0]
    add(database, 2)
    assert rows(database) == [2]


def test_reads_of_a_transaction_stay_valid_until_its_write(database: Database) -> None:
    # Three actions count up: each waits with its first read until the one before has ended.
    add(database, 1)

    def count_up() -> None:
        transaction = Transaction(database, "count")
        with table_access(transaction):
            (last,) = rows(database)[-1:]
            threading.Event().wait(0.05)
            add(database, last + 1)
        transaction.commit()

    threads = [threading.Thread(target=count_up) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows(database) == [1, 2, 3, 4]


def test_a_page_function_is_tracked_and_must_not_write(database: Database) -> None:
    with ReadTracker("front") as tracker:
        assert rows(database) == []
        with pytest.raises(BadTable, match=r"The page function 'front' writes to the table 't'. A GET must not change"):
            add(database, 1)
    assert tracker.tables == {"t"}
    assert rows(database) == []


def test_a_locked_database_is_an_error(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten.storage.sqlite.LOCK_TIMEOUT", 0.05)
    monkeypatch.setattr("unwritten.storage.postgres.LOCK_TIMEOUT", 0.05)
    other = open_database(database.location)  # its connections have the short time-out
    held = database.begin()
    with table_access(Transaction(other, "post")), pytest.raises(StoreLocked, match="is locked by another pro"):
        add(other, 1)
    held.rollback()
    add(other, 1)
    assert rows(database) == [1]
    other.close()
