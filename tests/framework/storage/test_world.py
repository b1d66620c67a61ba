"""The world store."""

from __future__ import annotations

from pathlib import Path

from unwritten.storage.location import Location
from unwritten.storage.open import open_database
from unwritten.storage.world import WorldStore
from unwritten_engine.scripted import ABOUT


def test_values_come_back_by_name(location: Location) -> None:
    database = open_database(location)
    world = WorldStore(database)
    assert world.get("name") is None and world.get("name", "nothing") == "nothing"
    world.update("Atlas", "A world of maps.", None, ABOUT)
    world.update("Atlas", "A world of maps.", "/map/{title}", ABOUT)
    assert (world.get("name"), world.get("links")) == ("Atlas", "/map/{title}")
    database.close()


def test_the_secret_is_created_once_per_database(location: Location, tmp_path: Path) -> None:
    one, again, other = open_database(location), open_database(location), open_database(tmp_path / "b.db")
    secret = WorldStore(one).secret
    assert len(secret) == 32
    assert WorldStore(again).secret == secret and WorldStore(one).secret == secret
    assert WorldStore(other).secret != secret
    for database in (one, again, other):
        database.close()
