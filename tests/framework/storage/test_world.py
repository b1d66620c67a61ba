"""The world store."""

from __future__ import annotations

import asyncio
from pathlib import Path

from unwritten.storage.database import Database
from unwritten.storage.world import WorldStore


def test_values_come_back_by_name(tmp_path: Path) -> None:
    database = Database(tmp_path / "pages.db")
    world = WorldStore(database)
    assert world.get("name") is None and world.get("name", "nothing") == "nothing"
    asyncio.run(world.set("name", {"title": "Atlas", "pages": [1, 2]}))
    asyncio.run(world.set("name", {"title": "Atlas", "pages": [1, 2, 3]}))
    assert world.get("name") == {"title": "Atlas", "pages": [1, 2, 3]}
    database.close()


def test_the_secret_is_created_once_per_database(tmp_path: Path) -> None:
    one, again, other = (Database(tmp_path / name) for name in ("a.db", "a.db", "b.db"))
    secret = WorldStore(one).secret
    assert len(secret) == 32
    assert WorldStore(again).secret == secret and WorldStore(one).secret == secret
    assert WorldStore(other).secret != secret
    for database in (one, again, other):
        database.close()
