"""The layout of the database."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sqlite_utils import Database

from unwritten.storage.migrations import APPLICATION_ID, migrations
from unwritten.storage.pages import PageStore


def test_a_new_database_is_ours_and_has_every_step(tmp_path: Path) -> None:
    PageStore(tmp_path / "pages.db").close()
    connection = sqlite3.connect(tmp_path / "pages.db")
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    names = [name for (name,) in connection.execute("SELECT name FROM _sqlite_migrations ORDER BY name")]
    connection.close()
    assert names[0] == "m001_pages" and names == [step.name for step in migrations.pending(Database(memory=True))]


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    def schema() -> list[tuple[str]]:
        connection = sqlite3.connect(tmp_path / "pages.db")
        rows = connection.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()
        connection.close()
        return rows

    PageStore(tmp_path / "pages.db").close()
    before = schema()
    PageStore(tmp_path / "pages.db").close()
    assert schema() == before


def test_the_steps_are_small_and_named_in_order() -> None:
    names = [step.name for step in migrations.pending(Database(memory=True))]
    assert names == sorted(names)
    assert all(name[:1] == "m" and name[1:4].isdigit() and name[4] == "_" for name in names)


def test_the_columns_that_others_rely_on() -> None:
    database = Database(memory=True)
    migrations.apply(database)
    assert {"pages", "versions", "canvases", "links", "search"} <= set(database.table_names())
    assert [column.name for column in database.table("pages").columns] == [
        "id",
        "key",
        "title",
        "snippet",
        "version",
        "written_at",
    ]
    assert database.table("canvases").pks == ["version", "name"]
    database.close()
