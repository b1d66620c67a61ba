"""Transactions: all of an action or none, and nobody keeps the database for ever."""

from __future__ import annotations

import contextvars
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from unwritten.core.errors import BadTable
from unwritten.storage.database import Database
from unwritten.storage.transactions import ReadTracker, Transaction, active, read, write

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "pages.db")
    database.write_now(lambda db: db.execute("CREATE TABLE t (x)"))
    yield database
    database.close()


def add(database: Database, value: int) -> None:
    write(database, "t", lambda connection: connection.execute("INSERT INTO t VALUES (?)", (value,)))


def rows(database: Database) -> list[int]:
    return [x for (x,) in read(database, "t", "SELECT x FROM t ORDER BY x")]


def test_outside_each_write_stands_alone(database: Database) -> None:
    add(database, 1)
    assert rows(database) == [1]


def test_a_transaction_sees_its_own_writes_and_others_do_not(database: Database) -> None:
    transaction = Transaction(database, "post")
    with active(transaction):
        add(database, 1)
        assert rows(database) == [1]
    assert rows(database) == []
    assert transaction.written == {"t"}
    transaction.commit()
    assert rows(database) == [1]


def test_what_is_given_up_was_never_there(database: Database) -> None:
    transaction = Transaction(database, "post")
    with active(transaction):
        add(database, 1)
        transaction.roll_back("The time of the action 'post' is up.")
        with pytest.raises(BadTable, match="The time of the action 'post' is up"):
            add(database, 2)
        with pytest.raises(BadTable, match="The time of the action 'post' is up"):
            rows(database)
    assert rows(database) == []
    add(database, 3)  # nobody holds the lock
    assert rows(database) == [3]


def test_after_its_answer_an_action_cannot_go_on(database: Database) -> None:
    transaction = Transaction(database, "post")
    with active(transaction):
        context = contextvars.copy_context()
    transaction.commit()
    with pytest.raises(BadTable, match="The action 'post' has answered already"):
        context.run(add, database, 1)


def test_a_thread_that_hangs_in_a_query_lets_go(database: Database) -> None:
    transaction = Transaction(database, "post")
    said: list[str] = []
    begun = threading.Event()

    def hang() -> None:
        with active(transaction):
            add(database, 1)
            begun.set()
            try:
                endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
                transaction.use(lambda connection: connection.execute(endless).fetchall())
            except Exception as error:
                said.append(str(error))

    thread = threading.Thread(target=hang)
    thread.start()
    begun.wait()
    threading.Event().wait(0.1)
    transaction.roll_back("Too late.")
    thread.join(5)
    assert not thread.is_alive() and "interrupted" in said[0]
    add(database, 2)
    assert rows(database) == [2]


def test_what_was_read_is_still_true_when_it_is_written(database: Database) -> None:
    # Two actions count up: the second one waits with its first look until the first one is over.
    add(database, 1)

    def count_up() -> None:
        transaction = Transaction(database, "count")
        with active(transaction):
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


def test_a_look_notes_what_it_reads_and_does_not_write(database: Database) -> None:
    look = ReadTracker("front")
    with active(look):
        assert rows(database) == []
        with pytest.raises(
            BadTable, match=r"The page function 'front' writes to the table 't', but a page is only looked"
        ):
            add(database, 1)
    assert look.tables == {"t"}
    assert rows(database) == []


def test_a_database_that_another_program_holds_is_said(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten.storage.transactions.LOCK_TIMEOUT", 0.05)
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with active(Transaction(database, "post")), pytest.raises(Exception, match="is locked by another program"):
        add(database, 1)
    other.rollback()
    other.close()
