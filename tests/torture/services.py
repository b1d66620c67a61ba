"""Where the attacked app keeps its pages: SQLite, or PostgreSQL with a broker. Real servers, started here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Service(Protocol):
    """A server that can be away."""

    def stop(self) -> None: ...

    def start(self) -> None: ...


class Database(Service, Protocol):
    """A database server."""

    def execute(self, statement: str) -> Sequence[tuple[object, ...]]: ...


@dataclass(frozen=True)
class Storage:
    """Where an app keeps its pages.

    Attributes:
        name: For the report.
        database: The database server. None: an SQLite file in the folder of each check.
        broker: The broker. None: there is none.
        new_database: Returns the URL of an empty database. None for SQLite.
        broker_url: The broker's URL.
    """

    name: str = "SQLite"
    database: Database | None = None
    broker: Service | None = None
    new_database: Callable[[], str] | None = None
    broker_url: str = ""

    def flags(self, folder: Path) -> dict[str, str]:
        """Return the flags of ``unwritten run``. The same folder has the same database."""
        if self.new_database is None:
            return {"--database": str(folder / "torture.db")}
        file = folder / "database-url"
        if not file.exists():
            file.write_text(self.new_database())
        return {"--database": file.read_text(), "--broker": self.broker_url}


@contextlib.contextmanager
def storages(*, short: bool, wanted: str | None) -> Iterator[list[Storage]]:
    """Return the kinds of storage to test on: SQLite, and in the long form PostgreSQL with a broker.

    Raises:
        RuntimeError: PostgreSQL is wanted, and not installed.
    """
    kinds = [] if wanted == "postgresql" else [Storage()]
    with contextlib.ExitStack() as stack:
        if wanted == "postgresql" or (not wanted and not short):
            from tests.support.postgres import running_postgres
            from tests.support.redis_server import MISSING, PROGRAM, redis_server

            if PROGRAM is None:
                raise RuntimeError(MISSING)
            postgres = stack.enter_context(running_postgres())
            redis = stack.enter_context(redis_server())
            kinds.append(
                Storage(
                    "PostgreSQL with a broker", postgres, redis, lambda: postgres.url(postgres.new_schema()), redis.url
                )
            )
        yield kinds
