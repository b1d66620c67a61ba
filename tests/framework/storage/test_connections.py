"""Connections: their number stays the same, however many threads read."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.support.servers import PATIENCE, wait_for

from unwritten.core.errors import StoreError
from unwritten.storage.connection_pool import ConnectionPool
from unwritten.storage.location import Location
from unwritten.storage.open import open_database


def num_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="this system does not list descriptors")
def test_reads_and_transactions_of_many_threads_leave_no_descriptors(location: Location) -> None:
    start = num_descriptors()
    database = open_database(location)
    counts: list[int] = []

    def visit(number: int) -> None:
        for _ in range(20):
            database.read("SELECT value FROM world WHERE name = ?", ("secret",))
        if number % 10 == 0:
            transaction = database.begin()
            transaction.connection.execute("DELETE FROM world WHERE name = 'nothing'")
            transaction.commit()
        counts.append(num_descriptors())

    for _ in range(3):
        with ThreadPoolExecutor(40) as pool:
            list(pool.map(visit, range(80)))
    for _ in range(5):  # short-lived threads, as a server starts them
        threads = [threading.Thread(target=visit, args=(1,)) for _ in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert max(counts) - start <= 60 and num_descriptors() - start <= 40, "each of 440 threads used to leave two"
    database.close()


def test_a_thread_gets_the_same_connection_again_and_waits_for_a_free_one() -> None:
    opened: list[int] = []
    closed: list[int] = []

    def connect() -> int:
        opened.append(len(opened))
        return opened[-1]

    pool = ConnectionPool(connect, closed.append, 2, "pages.db", timeout=PATIENCE)
    first = pool.borrow()
    pool.give_back(first)
    second, third = pool.borrow(), pool.borrow()
    assert (first, second, third) == (0, 0, 1)
    got: list[int] = []
    waiting = threading.Thread(target=lambda: got.append(pool.borrow()))
    waiting.start()
    waiting.join(0.05)
    assert got == []
    pool.give_back(third)
    waiting.join(PATIENCE)
    assert got == [1] and opened == [0, 1]
    pool.discard(got[0])
    assert closed == [1] and pool.borrow() == 2, "a broken connection makes room for another"
    pool.close()
    pool.give_back(second)
    assert closed == [1, 0]
    with pytest.raises(StoreError, match="has been closed"):
        pool.borrow()


def test_a_failed_connection_frees_its_place_and_a_full_pool_is_an_error() -> None:
    failures = [True, False]

    def connect() -> str:
        if failures.pop(0):
            raise ZeroDivisionError
        return "connection"

    pool = ConnectionPool(connect, lambda connection: None, 1, "pages.db", timeout=0.05)
    with pytest.raises(ZeroDivisionError):
        pool.borrow()
    assert pool.num_open == 0 and pool.borrow() == "connection"
    with pytest.raises(StoreError, match=r"All 1 connections to the database pages.db are in use"):
        pool.borrow()


def test_a_waiting_thread_gets_the_next_connection_before_busy_ones() -> None:
    pool = ConnectionPool(object, lambda connection: None, 1, "pages.db", timeout=PATIENCE)
    order: list[str] = []
    first = pool.borrow()

    def wait() -> None:
        connection = pool.borrow()
        order.append("the waiting thread")
        pool.give_back(connection)

    thread = threading.Thread(target=wait)
    thread.start()
    wait_for(lambda: pool._waiting == 1)
    pool.give_back(first)
    pool.borrow()
    order.append("this thread")
    thread.join(PATIENCE)
    assert order == ["the waiting thread", "this thread"]
