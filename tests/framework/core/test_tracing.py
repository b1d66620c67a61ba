"""Traces of requests."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from unwritten.core.tracing import MAX_STATEMENTS, current_trace, tracing
from unwritten.storage.sqlite import SQLiteDatabase


def test_nothing_is_traced_by_default() -> None:
    assert current_trace.get() is None


def test_steps_and_statements_have_durations(tmp_path: Path) -> None:
    database = SQLiteDatabase(tmp_path / "pages.db")
    with tracing("/wiki/Tea") as trace:
        with trace.step("page function"):
            database.read("SELECT   1,\n ?", ("x" * 100,))
        database.write_sync(lambda db: db.execute("INSERT INTO world (name, value) VALUES ('a', x'00')"))
    database.read("SELECT 2")
    database.close()
    assert [s.name for s in trace.steps] == ["page function"] and trace.steps[0].milliseconds > 0
    read, *written = trace.statements
    assert read.sql == "SELECT 1, ?" and len(read.parameters[0]) == 60 and not read.writes
    assert [s.sql.split()[0] for s in written if s.writes] == ["BEGIN", "INSERT", "COMMIT"]
    assert trace.milliseconds >= trace.sql_milliseconds > 0
    assert trace.elapsed == trace.milliseconds


def test_statements_beyond_the_limit_are_counted(tmp_path: Path) -> None:
    database = SQLiteDatabase(tmp_path / "pages.db")
    with tracing("/") as trace:
        for _ in range(MAX_STATEMENTS + 7):
            database.read("SELECT 1")
    database.close()
    assert len(trace.statements) == MAX_STATEMENTS and trace.omitted == 7


def test_a_failed_statement_is_recorded(tmp_path: Path) -> None:
    database = SQLiteDatabase(tmp_path / "pages.db")
    with tracing("/") as trace:
        with pytest.raises(Exception, match="no such table"):
            database.read("SELECT * FROM nowhere")
        with pytest.raises(Exception, match="no such table"):
            database.write_sync(lambda db: db.execute("DELETE FROM nowhere"))
    database.close()
    assert trace.statements[0].sql == "SELECT * FROM nowhere"
    assert trace.statements[-1].sql == "ROLLBACK"


def test_concurrent_requests_have_separate_traces() -> None:
    def other() -> None:
        assert current_trace.get() is None

    with tracing("/") as trace:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert current_trace.get() is trace
