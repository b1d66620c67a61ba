"""The storage contract: tests that take ``location`` run with SQLite and with a real PostgreSQL server."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.postgres import PostgresServer

from unwritten.storage.location import Location, PostgresURL


@pytest.fixture(params=["sqlite", "postgres"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """Return where an empty database is."""
    if request.param == "sqlite":
        return tmp_path / "pages.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return PostgresURL(server.url(server.new_schema()))


@pytest.fixture
def setting(location: Location) -> str:
    """Return the location as the setting ``database``."""
    return location.secret if isinstance(location, PostgresURL) else str(location)
