"""Tracing: what one request did, and how long it took: the page function, the SQL, the drawing.

Nothing is traced unless somebody asks for it (see ``developer``); then a context variable carries the trace to
wherever the request goes, into threads and into the tasks that it starts.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

MOST_STATEMENTS = 100
"""Statements of one request that are remembered; the rest are counted."""


_LONGEST_SQL = 2000


_LONGEST_WRITE = 300


_LONGEST_VALUE = 60


_current: ContextVar[Trace | None] = ContextVar("unwritten_trace", default=None)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement that went to the database.

    Attributes:
        sql: its text, on one line.
        parameters: its parameters, each shortened.
        milliseconds: how long it took.
        writes: whether it went to the thread that writes.
    """

    sql: str
    parameters: tuple[str, ...]
    milliseconds: float
    writes: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """A part of the work, with how long it took in milliseconds."""

    name: str
    milliseconds: float


@dataclass(eq=False, slots=True)
class Trace:
    """What a request did so far.

    Attributes:
        path: its path with the query.
        key: the key of the page that it asked for; "" if it was none.
        status: the HTTP status of its answer.
        milliseconds: from its arrival to the end of its answer.
        steps: parts of the work, in order.
        statements: what went to the database, in order.
        left_out: statements beyond ``MOST_STATEMENTS``.
        cache: where the page came from, in words.
        etag: the ETag of the answer; "" if it had none.
    """

    path: str
    key: str = ""
    status: int = 0
    milliseconds: float = 0.0
    steps: list[Step] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    left_out: int = 0
    cache: str = ""
    etag: str = ""
    begun: float = field(default_factory=time.perf_counter)

    def ran(self, sql: str, parameters: Collection[object], seconds: float, *, writes: bool = False) -> None:
        """A statement has been run."""
        if len(self.statements) >= MOST_STATEMENTS:
            self.left_out += 1
            return
        shown = tuple(_shortened(repr(value), _LONGEST_VALUE) for value in parameters)
        # What is written is told with its values in it: a whole page, say.
        line = _shortened(" ".join(sql[: 4 * _LONGEST_SQL].split()), _LONGEST_WRITE if writes else _LONGEST_SQL)
        self.statements.append(Statement(line, shown, seconds * 1000, writes))

    @property
    def elapsed(self) -> float:
        """Milliseconds since its arrival, up to the end of its answer."""
        return self.milliseconds or (time.perf_counter() - self.begun) * 1000

    @property
    def sql_milliseconds(self) -> float:
        """How long all remembered statements took."""
        return sum(statement.milliseconds for statement in self.statements)


def current() -> Trace | None:
    """The trace of the request that is being answered; None if it is not traced."""
    return _current.get()


@contextmanager
def tracing(path: str) -> Iterator[Trace]:
    """Trace what is done inside."""
    trace = Trace(path)
    token = _current.set(trace)
    try:
        yield trace
    finally:
        trace.milliseconds = (time.perf_counter() - trace.begun) * 1000
        _current.reset(token)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Measure a part of the work, if the request is traced."""
    trace = _current.get()
    begun = time.perf_counter()
    try:
        yield
    finally:
        if trace is not None:
            trace.steps.append(Step(name, (time.perf_counter() - begun) * 1000))


def note_page(key: str, cache: str) -> None:
    """Say which page the request asked for, and where it comes from, if the request is traced."""
    trace = _current.get()
    if trace is not None:
        trace.key, trace.cache = key, cache


class SQLTimer:
    """Counts the statements of one piece of work in the thread that writes, where only their beginnings are told.

    Args:
        trace: gets them.
    """

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._sql = ""
        self._begun = 0.0

    def start(self, sql: str) -> None:
        """A statement begins, and so the one before has ended."""
        self.stop()
        self._sql, self._begun = sql, time.perf_counter()

    def stop(self) -> None:
        """The last one has ended."""
        if self._sql:
            self._trace.ran(self._sql, (), time.perf_counter() - self._begun, writes=True)
        self._sql = ""


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
