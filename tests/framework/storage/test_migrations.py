"""The schema of new databases, and migrations of databases of earlier versions."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlite_utils import Database

from unwritten import App, Page
from unwritten.export.world_file import copy_world
from unwritten.export.world_import import import_world
from unwritten.storage.migrations import APPLICATION_ID, migrations
from unwritten.storage.pages import PageStore
from unwritten.storage.records import UNOPENED, Change, Provenance, StoredCanvas
from unwritten.storage.values import Fact, ValueStore, facts
from unwritten.storage.world import WorldStore
from unwritten_engine import scripted


def test_a_new_database_is_ours_and_has_every_migration(tmp_path: Path) -> None:
    PageStore(tmp_path / "pages.db").close()
    connection = sqlite3.connect(tmp_path / "pages.db")
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    names = [name for (name,) in connection.execute("SELECT name FROM _sqlite_migrations ORDER BY name")]
    connection.close()
    assert names[0] == "m001_pages" and names == [step.name for step in migrations.pending(Database(memory=True))]


def schema(path: Path) -> list[tuple[str, str]]:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql NOT NULL ORDER BY name").fetchall()
    connection.close()
    return rows


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    PageStore(tmp_path / "pages.db").close()
    before = schema(tmp_path / "pages.db")
    PageStore(tmp_path / "pages.db").close()
    assert schema(tmp_path / "pages.db") == before


def test_migrations_are_named_in_order() -> None:
    names = [step.name for step in migrations.pending(Database(memory=True))]
    assert names == sorted(names)
    assert all(name[:1] == "m" and name[1:4].isdigit() and name[4] == "_" for name in names)


def test_public_columns_exist() -> None:
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


# -- a database of an earlier version -----------------------------------------------------------------------------

OLD_SCHEMA = """
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY, "migration_set" TEXT, "name" TEXT, "applied_at" TEXT
);
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE TABLE "pages" (
   "id" INTEGER PRIMARY KEY, "key" TEXT NOT NULL, "title" TEXT NOT NULL, "snippet" TEXT NOT NULL,
   "version" INTEGER NOT NULL, "written_at" TEXT NOT NULL
);
CREATE UNIQUE INDEX "idx_pages_key" ON "pages" ("key");
CREATE INDEX "idx_pages_written_at" ON "pages" ("written_at");
CREATE TABLE "versions" (
   "id" INTEGER PRIMARY KEY, "page" INTEGER REFERENCES "pages"("id"), "number" INTEGER, "title" TEXT,
   "written_at" TEXT, "engine" TEXT, "model" TEXT, "prompt_hash" TEXT, "seed" INTEGER, "tokens" INTEGER,
   "steps" INTEGER, "canvases" INTEGER, "seconds" REAL, "reason" TEXT,
   "means" TEXT NOT NULL DEFAULT 'written', "note" TEXT NOT NULL DEFAULT '', "base" INTEGER,
   "regions" TEXT NOT NULL DEFAULT '[]', "ahead" REAL
);
CREATE UNIQUE INDEX "idx_versions_page_number" ON "versions" ("page", "number");
CREATE TABLE "canvases" (
   "version" INTEGER REFERENCES "versions"("id"), "position" INTEGER, "name" TEXT, "format" TEXT, "prompt" TEXT,
   "text" TEXT, "seed" INTEGER, "tokens" INTEGER, "steps" INTEGER, "canvases" INTEGER, "seconds" REAL, "reason" TEXT,
   "shape" TEXT NOT NULL DEFAULT '', "fact" INTEGER NOT NULL DEFAULT 0, "repairs" TEXT NOT NULL DEFAULT '',
   PRIMARY KEY ("version", "name")
);
CREATE TABLE "links" (
   "source" TEXT, "target" TEXT, "text" TEXT, "sentence" TEXT, "position" INTEGER, PRIMARY KEY ("source", "target")
);
CREATE INDEX "idx_links_target" ON "links" ("target");
CREATE VIRTUAL TABLE search USING fts5(title, text, tokenize = 'unicode61 remove_diacritics 2');
CREATE TABLE "world" ("name" TEXT PRIMARY KEY, "value" TEXT NOT NULL);
CREATE TABLE "shaped" (
   "page" INTEGER REFERENCES "pages"("id"), "name" TEXT, "shape" TEXT NOT NULL, "value" TEXT NOT NULL,
   "fact" INTEGER NOT NULL, "version" INTEGER NOT NULL, "written_at" TEXT NOT NULL, PRIMARY KEY ("page", "name")
);
CREATE INDEX "idx_shaped_shape_written_at" ON "shaped" ("shape", "written_at");
CREATE INDEX shaped_facts ON shaped (written_at) WHERE fact;
CREATE TABLE "tables" ("name" TEXT PRIMARY KEY, "columns" TEXT NOT NULL, "model" TEXT NOT NULL);
CREATE TABLE "actions" (
   "action" TEXT, "key" TEXT, "content" TEXT, "answer" TEXT NOT NULL, "at" REAL NOT NULL,
   PRIMARY KEY ("action", "key", "content")
);
CREATE INDEX "idx_actions_at" ON "actions" ("at");
CREATE TABLE "boxes" (
   "page" TEXT, "region" TEXT, "state" TEXT NOT NULL, "saved_at" TEXT NOT NULL, PRIMARY KEY ("page", "region")
);
CREATE TRIGGER boxes_of_pages AFTER DELETE ON pages BEGIN DELETE FROM boxes WHERE page = OLD.key; END;
CREATE TABLE "pictures" (
   "key" TEXT PRIMARY KEY, "prompt" TEXT, "width" INTEGER, "height" INTEGER, "media_type" TEXT NOT NULL,
   "content" BLOB NOT NULL, "model" TEXT NOT NULL, "seed" INTEGER NOT NULL, "steps" INTEGER, "seconds" REAL,
   "painted_at" TEXT NOT NULL
);
CREATE TABLE "state_note" (id INTEGER PRIMARY KEY AUTOINCREMENT, "text" TEXT);
"""
"""The schema of the last version before columns were renamed, as SQLite printed it."""

OLD_MIGRATIONS = "m001_pages m002_world m003_values m004_state m005_history m008_ahead m009_boxes m010_pictures".split()
THEN = "2026-11-01T12:00:00+00:00"
FACTS = '{"kind":"tower","founded":1720}'
SECRET = "5e" * 32


@dataclass
class Note:
    id: int | None = None
    text: str = ""


@dataclass
class Facts:
    kind: str
    founded: int


NOTE_SCHEMA = {
    "properties": {
        "id": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None, "title": "Id"},
        "text": {"default": "", "title": "Text", "type": "string"},
    },
    "title": "Note",
    "type": "object",
}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Return a database of an earlier version with two pages, four versions, a table, a box and a picture."""
    path = tmp_path / "old.db"
    connection = sqlite3.connect(path)
    connection.executescript(OLD_SCHEMA)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.executemany(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('unwritten', ?, ?)",
        [(name, THEN) for name in OLD_MIGRATIONS],
    )
    connection.executemany(
        "INSERT INTO pages VALUES (?, ?, ?, ?, ?, ?)",
        [(1, "/wiki/Tower", "Tower", "A short tower.", 3, THEN), (2, "/wiki/Lamp", "Lamp", "A lamp.", 1, THEN)],
    )
    written = (THEN, "embedded", "gemma", "hash", 7, 12, 12, 2, 1.5, "end")
    connection.executemany(
        "INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (1, 1, 1, "Tower", *written, "written", "", None, "[]", 90.0),
            (2, 1, 2, "Tower", *written, "asked", "make it short", 1, '["lead"]', None),
            (3, 1, 3, "Tower", *written, "by hand", "typo", 2, '["lead"]', None),
            (4, 2, 1, "Lamp", *written, "written", "", None, "[]", -1.0),
        ],
    )
    cost = (7, 6, 6, 1, 0.75, "end")
    connection.executemany(
        "INSERT INTO canvases VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            *[
                (version, position, name, format, "{}", text, *cost, shape, fact, repairs)
                for version, lead in ((1, "A tall tower."), (2, "A tower."), (3, "A short tower."))
                for position, name, format, text, shape, fact, repairs in (
                    (0, "lead", "markdown", lead, "", 0, ""),
                    (1, "facts", "typed", FACTS, "Facts", 1, "closed a bracket"),
                )
            ],
            (4, 0, "body", "markdown", "{}", "A lamp.", *cost, "", 0, ""),
        ],
    )
    connection.execute("INSERT INTO shaped VALUES (1, 'facts', 'Facts', ?, 1, 3, ?)", (FACTS, THEN))
    connection.execute("INSERT INTO links VALUES ('/wiki/Tower', '/wiki/Lamp', 'lamp', 'It has a lamp.', 0)")
    connection.execute("INSERT INTO search (rowid, title, text) VALUES (1, 'Tower', 'A short tower.')")
    connection.execute("INSERT INTO search (rowid, title, text) VALUES (2, 'Lamp', 'A lamp.')")
    connection.executemany(
        "INSERT INTO world VALUES (?, ?)",
        [("secret", json.dumps(SECRET)), ("name", '"Old Wiki"'), ("licences", '{"gemma": "Gemma terms"}')],
    )
    connection.execute(
        "INSERT INTO tables VALUES ('note', ?, ?)",
        (json.dumps({"text": "text"}), json.dumps(NOTE_SCHEMA, sort_keys=True)),
    )
    connection.execute("INSERT INTO state_note VALUES (3, 'Remember the lamp.')")
    connection.execute("INSERT INTO actions VALUES ('/wish', 'k', 'c', '{}', 1.0)")
    connection.execute("INSERT INTO boxes VALUES ('/wiki/Lamp', 'body', '{\"on\":true}', ?)", (THEN,))
    connection.execute(
        "INSERT INTO pictures VALUES ('p', 'A lamp.', 32, 32, 'image/webp', x'00', 'm', 1, 2, 0.1, ?)", (THEN,)
    )
    connection.commit()
    connection.close()
    return path


def test_a_database_of_an_earlier_version_opens_without_loss(old: Path) -> None:
    store = PageStore(old)
    tower, lamp = store.get("/wiki/Tower"), store.get("/wiki/Lamp")
    assert tower is not None and lamp is not None
    assert (tower.version, tower.versions, tower.written_at) == (3, 3, datetime(2026, 11, 1, 12, tzinfo=UTC))
    assert tower.change == Change("by hand", "typo", 2, ("lead",))
    assert list(tower.canvases) == ["lead", "facts"] and tower.canvases["lead"].text == "A short tower."
    assert tower.canvases["facts"] == StoredCanvas(
        "facts", "typed", "{}", FACTS, 7, 6, 6, 1, 0.75, "end", "Facts", True, "closed a bracket"
    )
    assert tower.provenance == Provenance("gemma", "embedded", 7, 12, 12, 2, 1.5, "end")
    assert lamp.provenance.opened_after == UNOPENED
    first = store.get("/wiki/Tower", 1)
    assert first is not None and first.provenance.opened_after == 90
    assert [version.change.kind for version in store.history("/wiki/Tower")] == ["by hand", "asked", "written"]
    assert [page.key for page in store.search("short")] == ["/wiki/Tower"]
    assert [page.key for page in store.search("short tower 1720")] == ["/wiki/Tower"], "values are indexed"
    assert store.search("founded") == []
    assert [page.key for page in store.links_to("/wiki/Lamp")] == ["/wiki/Tower"]
    assert facts(store.database) == [Fact("/wiki/Tower", "Tower", "facts", {"kind": "tower", "founded": 1720})]
    values = ValueStore(store.database)
    assert values.get("/wiki/Tower", "facts", Facts) == Facts("tower", 1720)
    assert [source.version for source, _ in values.all(Facts)] == [3]
    world = WorldStore(store.database)
    assert (world.secret.hex(), world.get("name"), world.get("licences")) == (
        SECRET,
        "Old Wiki",
        {"gemma": "Gemma terms"},
    )
    assert store.database.read("SELECT state FROM boxes") == [('{"on":true}',)]
    assert len(store.database.read("SELECT * FROM pictures")) == len(store.database.read("SELECT * FROM actions")) == 1
    store.close()


def test_a_migrated_database_has_the_schema_of_a_new_one(old: Path, tmp_path: Path) -> None:
    PageStore(old).close()
    PageStore(tmp_path / "new.db").close()
    migrated, new = Database(old), Database(tmp_path / "new.db")
    assert {table: migrated.table(table).columns_dict for table in new.table_names()} == {
        table: new.table(table).columns_dict for table in new.table_names()
    }
    names = "SELECT name FROM sqlite_master WHERE name NOT LIKE 'state%' AND name NOT LIKE 'sqlite_seq%' ORDER BY name"
    assert migrated.execute(names).fetchall() == new.execute(names).fetchall()
    migrated.close()
    new.close()


def test_an_app_works_with_a_database_of_an_earlier_version(old: Path) -> None:
    app = App("Old Wiki", engine=scripted("Words."), database=str(old), prefetch="off")
    notes = app.table(Note)

    @app.page("/wiki/{title}")
    def article(title: str) -> Page:
        return Page("page.html", title=title)

    app.prepare()
    assert notes.select() == [Note(3, "Remember the lamp.")]
    assert notes.insert(Note(text="Another.")).id == 4
    assert app.value("/wiki/Tower", "facts", Facts) == Facts("tower", 1720)
    app.site.tables.close()
    app.site.store.close()


def test_a_world_of_an_earlier_version_can_be_copied_and_imported(old: Path, tmp_path: Path) -> None:
    copy_world(old, tmp_path / "copy.db")
    report = import_world(tmp_path / "ours.db", tmp_path / "copy.db")
    assert (report.name, report.new) == ("Old Wiki", ["/wiki/Tower", "/wiki/Lamp"])
    store = PageStore(tmp_path / "ours.db")
    assert [version.change.kind for version in store.history("/wiki/Tower")] == ["by hand", "asked", "written"]
    assert ValueStore(store.database).get("/wiki/Tower", "facts", Facts) == Facts("tower", 1720)
    store.close()
    assert "shaped" in dict(schema(tmp_path / "copy.db")), "the imported file is only read"
