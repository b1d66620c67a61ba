"""Limits for the log."""

from __future__ import annotations

import logging

import pytest

from unwritten.cli.log_limits import MAX_REPEATS, PERIOD, RepeatLimit
from unwritten.core.tracebacks import log_error


class Log:
    """A handler behind the limit, and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lines: list[str] = []
        self._limit = RepeatLimit(lambda: self.now)

    def write(self, text: str, *values: object, name: str = "unwritten") -> None:
        record = logging.LogRecord(name, logging.WARNING, "", 0, text, values, None)
        if self._limit.filter(record):
            self.lines.append(record.getMessage())


def test_a_message_that_repeats_is_dropped_and_counted() -> None:
    log = Log()
    for number in range(5000):
        log.write("Page %s failed", number)
    log.write("Another message")
    assert len(log.lines) == MAX_REPEATS + 1
    assert log.lines[0] == "Page 0 failed" and log.lines[-1] == "Another message"
    assert log.lines[MAX_REPEATS - 1] == "Page 19 failed (no more like this are logged for up to 60 s)"
    log.now = PERIOD + 1
    log.write("Page %s failed", "last")
    assert log.lines[-1] == "Page last failed (4,980 like this were not logged in between)"


def test_messages_that_do_not_repeat_fast_are_all_logged() -> None:
    log = Log()
    for number in range(100):
        log.now = number * PERIOD / 10
        log.write("Page %s failed", number)
    assert len(log.lines) == 100 and "not logged" not in "".join(log.lines)


def test_texts_that_differ_each_time_are_limited_as_well() -> None:
    log = Log()
    for number in range(5000):
        log.write(f"Invalid request {number}")
    assert len(log.lines) < 300


def test_errors_are_counted_by_their_class_and_place(caplog: pytest.LogCaptureFixture) -> None:
    """One that repeats with another number each time must not hide a different one."""
    limit, log = RepeatLimit(), logging.getLogger("unwritten")
    for number in range(500):
        try:
            raise ValueError(number)
        except ValueError as error:
            log_error(log, f"/page/{number} failed ({number})", error)
    try:
        raise ValueError("another")
    except ValueError as error:
        log_error(log, "/other failed", error)
    passed = [record for record in caplog.records if limit.filter(record)]
    assert len(passed) == MAX_REPEATS + 1
    assert "/other failed" in passed[-1].getMessage()
