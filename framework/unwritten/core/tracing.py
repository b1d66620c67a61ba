"""Traces for developer tools: the steps and SQL statements of one request, and their durations.

A request is traced only if its client may see the developer tools. A context variable carries its trace into threads
and tasks that the request starts.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

MAX_STATEMENTS = 100
"""Statements of one request that are recorded. Further ones are only counted."""

_SQL_LENGTH = 2000
_WRITE_LENGTH = 300
_VALUE_LENGTH = 60


@dataclass(frozen=True, slots=True)
class SQLStatement:
    """One SQL statement.

    Attributes:
        sql: Its text, on one line.
        parameters: Its parameters, each shortened.
        milliseconds: How long it took.
        writes: True if it ran in the write thread.
    """

    sql: str
    parameters: tuple[str, ...]
    milliseconds: float
    writes: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """A named part of the work, and how many milliseconds it took."""

    name: str
    milliseconds: float


@dataclass(eq=False, slots=True)
class Trace:
    """The steps and SQL statements of one request so far.

    Attributes:
        path: Its path with the query.
        key: The key of the requested page. Empty if the request was not for a page.
        status: The HTTP status of the response.
        milliseconds: From its arrival to the end of the response.
        steps: The parts of the work, in order.
        statements: The SQL statements, in order.
        omitted: The number of statements beyond ``MAX_STATEMENTS``.
        cache: A description of where the page came from.
        etag: The ETag of the response. Empty if it had none.
        started: When it arrived, as ``time.perf_counter`` counts.
    """

    path: str
    key: str = ""
    status: int = 0
    milliseconds: float = 0.0
    steps: list[Step] = field(default_factory=list)
    statements: list[SQLStatement] = field(default_factory=list)
    omitted: int = 0
    cache: str = ""
    etag: str = ""
    started: float = field(default_factory=time.perf_counter)

    def add_statement(self, sql: str, parameters: Collection[object], seconds: float, *, writes: bool = False) -> None:
        """Record a statement that was executed."""
        if len(self.statements) >= MAX_STATEMENTS:
            self.omitted += 1
            return
        shortened = tuple(_shorten(repr(value), _VALUE_LENGTH) for value in parameters)
        # SQLite reports writes with their values in them, which may be a whole page.
        line = _shorten(" ".join(sql[: 4 * _SQL_LENGTH].split()), _WRITE_LENGTH if writes else _SQL_LENGTH)
        self.statements.append(SQLStatement(line, shortened, seconds * 1000, writes))

    def record_page(self, key: str, cache: str) -> None:
        """Record the requested page and where it came from."""
        self.key, self.cache = key, cache

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure a part of the work."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.steps.append(Step(name, (time.perf_counter() - started) * 1000))

    @property
    def elapsed(self) -> float:
        """Milliseconds from its arrival until now, or until the end of the response."""
        return self.milliseconds or (time.perf_counter() - self.started) * 1000

    @property
    def sql_milliseconds(self) -> float:
        """How long all recorded statements took together."""
        return sum(statement.milliseconds for statement in self.statements)


current_trace: ContextVar[Trace | None] = ContextVar("unwritten_trace", default=None)
"""The trace of the current request; None if it is not traced."""


@contextmanager
def tracing(path: str) -> Iterator[Trace]:
    """Trace the work inside this context."""
    trace = Trace(path)
    token = current_trace.set(trace)
    try:
        yield trace
    finally:
        trace.milliseconds = (time.perf_counter() - trace.started) * 1000
        current_trace.reset(token)


class SQLTimer:
    """Times the statements of one transaction in the write thread. SQLite reports only when each of them starts."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._sql = ""
        self._started = 0.0

    def start(self, sql: str) -> None:
        """Record the start of a statement, which ends the previous one."""
        self.stop()
        self._sql, self._started = sql, time.perf_counter()

    def stop(self) -> None:
        """Record the end of the last statement."""
        if self._sql:
            self._trace.add_statement(self._sql, (), time.perf_counter() - self._started, writes=True)
        self._sql = ""


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
