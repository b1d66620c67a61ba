"""``import`` of a file that somebody else made: no value, and nothing else in it, can harm this world."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlite_utils
from click.testing import CliRunner
from tests.support.apps import browser, database_file, make_wiki, tables, write
from tests.support.urls import url_vectors

from unwritten.cli.main import main
from unwritten.core.errors import TransferError
from unwritten.core.paths import page_key
from unwritten.export import untrusted_file
from unwritten.export.world_import import MAX_TEXT_LENGTH, ImportReport, import_world
from unwritten.storage.migrations import APPLICATION_ID, migrations
from unwritten_engine import scripted


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a world with two pages, one of which has two versions."""
    app = make_wiki(tmp_path_factory.mktemp("made"), scripted("A tower with a [[Lamp]]."))
    with browser(app) as client:
        write(client, "/wiki/Tower")
        client.post("/_unwritten/rewrite", data={"page": "/wiki/Tower"})
        write(client, "/wiki/Tower")
        write(client, "/wiki/Sea")
    return database_file(app)


@pytest.fixture
def theirs(made: Path, tmp_path: Path) -> Path:
    shutil.copy(made, tmp_path / "theirs.db")
    return tmp_path / "theirs.db"


def change(path: Path, *statements: str | tuple[str, tuple[object, ...]]) -> Path:
    """Change a database, without checks of its schema. Return its path."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("BEGIN")
    for statement in statements:
        sql, parameters = (statement, ()) if isinstance(statement, str) else statement
        connection.execute(sql, parameters)
    connection.execute("COMMIT")
    connection.close()
    return path


def imported(theirs: Path, **options: bool) -> ImportReport:
    return import_world(theirs.with_name("ours.db"), theirs, **options)


def shown(ours: Path) -> dict[str, int]:
    """Return the status of pages, lists and forms of an app with this database."""
    app = make_wiki(ours.parent, scripted(), database=str(ours))
    paths = ["/wiki/Tower", "/wiki/Sea", "/_unwritten/history?page=/wiki/Tower", "/wiki/Tower?version=1", "/health"]
    with browser(app, raise_server_exceptions=True) as client:
        assert len(app.store.recent()) == app.store.count()
        app.store.link_graph()
        app.store.search("tower")
        return {path: client.get(path).status_code for path in paths}


# -- rows -------------------------------------------------------------------------------------------------------------

SOON = (datetime.now(UTC) + timedelta(days=2)).isoformat()
DEEP = "[" * 100_000

BAD_ROWS: dict[str, list[object]] = {
    "pages.version": [0, -1, 3, "two", None, 2.5, 10**9],
    "versions.number": [0, 7, 1, -1],
    "versions.title": ["", "a\nb", "a\0b", "x" * 3000, None, b"\xff"],
    "versions.written_at": [
        *("yesterday", "2026-01-01", "2026-01-01T00:00:00", "2026-13-01T00:00:00+00:00", SOON, "", 5, None),
        *("0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59+00:00", "9999-12-31T23:59:59-23:59", "x" * 100_000),
    ],
    "versions.seconds": [-1.0, float("inf"), "fast", None, 1e300],
    "versions.tokens": [-1, 2**60, "many", None, 0.5],
    "versions.kind": ["hacked", "", None, 1],
    "versions.regions": ["{}", "[1]", "x", '["<script>"]', DEEP, None],
    "versions.base": ["x", 1.5],
    "versions.opened_after": [-5.0, float("inf"), "x"],
    "versions.note": ["x" * 3000, "a\nb", None],
    "versions.model": ["x" * 1000, "\ud800".encode("utf-8", "surrogatepass"), None],
    "canvases.name": ["../x", "", "a b", "x" * 500, None, '"onload='],
    "canvases.format": ["", "a/b", "x" * 100, None],
    "canvases.text": ["x" * (MAX_TEXT_LENGTH + 1), "a\0b", None, b"\xff\xfe"],
    "canvases.prompt": ["not json", DEEP, None, '{"x": NaN}'],
    "canvases.schema": ["Card", "x" * 1000],  # the text is not JSON
    "canvases.fact": [2, -1, "yes"],
    "canvases.seed": [-1, 2**63 - 1, "x"],
    "search_content.c1": [5, "x" * 3_000_000, "a\0b"],
}


def test_a_page_with_an_invalid_value_is_refused_and_the_others_are_imported(theirs: Path) -> None:
    loosen(theirs)
    connection = sqlite3.connect(theirs, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    newest = "(SELECT max(id) FROM versions WHERE page = 1)"
    conditions = {"pages": "id = 1", "versions": f"id = {newest}", "canvases": f"version = {newest}"}
    for column, values in BAD_ROWS.items():
        table, _, name = column.partition(".")
        where = conditions.get(table, "id = 1")
        ((valid,),) = connection.execute(f"SELECT {name} FROM {table} WHERE {where}").fetchall()
        for value in values:
            connection.execute(f"UPDATE {table} SET {name} = ? WHERE {where}", (value,))
            report = imported(theirs, dry_run=True)
            assert [key for key, _ in report.refused] == ["/wiki/Tower"], (column, value, report)
            assert report.new == ["/wiki/Sea"]
            assert report.refused[0][1].isprintable() and len(report.refused[0][1]) < 200
        connection.execute(f"UPDATE {table} SET {name} = ? WHERE {where}", (valid,))
    assert imported(theirs, dry_run=True).refused == []
    connection.execute("UPDATE versions SET written_at = 'yesterday' WHERE number = 2")
    connection.close()
    assert (imported(theirs).new, len(imported(theirs).refused)) == (["/wiki/Sea"], 1)
    assert shown(theirs.with_name("ours.db"))["/wiki/Sea"] == 200


def loosen(path: Path) -> None:
    """Remove NOT NULL and unique indexes, as the maker of a file can."""
    change(path, "UPDATE sqlite_master SET sql = replace(sql, ' NOT NULL', '')", "PRAGMA schema_version = 99")
    indexes = "SELECT name FROM sqlite_master WHERE type = 'index' AND sql LIKE 'CREATE UNIQUE%'"
    connection = sqlite3.connect(path)
    names = [name for (name,) in connection.execute(indexes)]
    connection.close()
    change(path, *(f'DROP INDEX "{name}"' for name in names))


def test_keys_that_are_not_of_pages_are_refused(theirs: Path) -> None:
    loosen(theirs)
    rows = [url for url in url_vectors() if url.encode("utf-8", "ignore").decode() == url and "\0" not in url]
    connection = sqlite3.connect(theirs)
    connection.executemany(
        "INSERT INTO pages (key, title, snippet, version, written_at) SELECT ?, title, snippet, version, written_at "
        "FROM pages WHERE key = '/wiki/Sea'",
        [(url,) for url in rows],
    )
    new = "SELECT id FROM pages WHERE key <> '/wiki/Sea' AND key <> '/wiki/Tower'"
    columns = "number, title, written_at, engine, model, prompt_hash, seed, tokens, steps, canvases, seconds, reason"
    connection.execute(
        f"INSERT INTO versions (page, {columns}) SELECT p.id, {columns} FROM ({new}) p, versions "
        "WHERE versions.id = (SELECT max(id) FROM versions)"
    )
    connection.commit()
    connection.close()
    report = imported(theirs)
    assert set(report.new) == {"/wiki/Tower", "/wiki/Sea"} | {url for url in rows if page_key(url) == url}
    assert len(report.refused) == len(rows) + 2 - len(report.new) > 300
    assert all(reason == "page key: it is not the key of a page" for _, reason in report.refused if "x" * 70 not in _)
    assert all(key.isprintable() for key, _ in report.refused)


def test_links_that_lead_elsewhere_are_left_out(theirs: Path) -> None:
    loosen(theirs)
    targets = [
        "javascript:alert(1)",
        "//evil.example",
        "/.//evil.example",
        "/_unwritten/edit?page=/",
        "https://x.example",
    ]
    for position, target in enumerate(targets):
        row = ("/wiki/Tower", target, "x", "A sentence.", position + 5)
        change(theirs, ("INSERT INTO links (source, target, text, sentence, position) VALUES (?, ?, ?, ?, ?)", row))
    report = imported(theirs)
    assert report.links == len(targets) and len(report.new) == 2
    assert {row["target"] for row in tables(theirs.with_name("ours.db"))["links"]} == {"/wiki/Lamp"}


def test_a_second_page_with_the_same_key_is_refused(theirs: Path) -> None:
    loosen(theirs)
    report = imported(change(theirs, "UPDATE pages SET key = '/wiki/Tower'"))
    assert (report.new, report.refused) == (["/wiki/Tower"], [("/wiki/Tower", "its key occurs twice")])


def test_numbers_of_rows_are_limited(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unwritten.export import world_import

    monkeypatch.setattr(world_import, "MAX_LINKS", 0)
    assert "more than 0 links" in imported(theirs, dry_run=True).refused[0][1]
    monkeypatch.setattr(world_import, "MAX_PAGE_LENGTH", 100)
    assert "more than 100 characters" in imported(theirs, dry_run=True).refused[0][1]
    monkeypatch.setattr(world_import, "MAX_CANVASES", 0)
    assert "more than 0 canvases" in imported(theirs, dry_run=True).refused[0][1]
    monkeypatch.setattr(world_import, "MAX_PAGES", 1)
    with pytest.raises(TransferError, match="more than 1 pages"):
        imported(theirs)
    assert tables(theirs.with_name("ours.db"))["pages"] == []


def test_dates_numbers_and_notes_are_kept(made: Path, theirs: Path) -> None:
    imported(theirs)
    before, after = tables(made), tables(theirs.with_name("ours.db"))
    assert before == after


def test_the_secret_and_settings_are_not_imported(theirs: Path) -> None:
    change(theirs, ("UPDATE world SET value = ? WHERE name = 'name'", (json.dumps("A\x1b[2J\nname" * 50),)))
    name = imported(theirs).name
    assert name.isprintable() and len(name) <= 120
    connection = sqlite3.connect(theirs.with_name("ours.db"))
    assert connection.execute("SELECT count(*) FROM world").fetchone() == (0,)
    connection.close()


@pytest.mark.parametrize(
    "last", [migration.name for migration in migrations.pending(sqlite_utils.Database(memory=True))]
)
def test_files_of_earlier_versions_are_imported_without_a_migration(tmp_path: Path, last: str) -> None:
    path = tmp_path / "theirs.db"
    database = sqlite_utils.Database(path)
    migrations.apply(database, stop_before=last)
    if not database["pages"].exists():
        return  # the first migration creates them
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    date = "2026-01-01T00:00:00+00:00"
    usage = {"seed": 1, "tokens": 5, "steps": 5, "canvases": 1, "seconds": 1.0, "reason": "end"}
    page = {"id": 1, "key": "/wiki/Tower", "title": "Tower", "snippet": "A tower.", "version": 1, "written_at": date}
    version = {"id": 1, "page": 1, "number": 1, "title": "Tower", "written_at": date, "engine": "e", "model": "m"}
    canvas = {"version": 1, "position": 0, "name": "body", "format": "markdown", "prompt": "{}", "text": "A tower."}
    database.table("pages").insert(page)
    database.table("versions").insert({**version, "prompt_hash": "x", **usage})
    database.table("canvases").insert({**canvas, **usage})
    database.execute("INSERT INTO search (rowid, title, text) VALUES (1, 'Tower', 'A tower.')")
    database.conn.commit()
    database.close()
    before = path.read_bytes()
    report = imported(path, dry_run=True)
    assert (report.new, report.refused) == (["/wiki/Tower"], [])
    assert path.read_bytes() == before


# -- files ------------------------------------------------------------------------------------------------------------

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT"

BAD_SCHEMAS: dict[str, tuple[str, ...]] = {
    "view": (f"CREATE VIEW v AS {ENDLESS} i FROM n",),
    "view in place of a table": (
        "DROP TABLE links",
        f"CREATE VIEW links AS {ENDLESS} '/a' source, '/b' target, '' text, '' sentence, 1 position FROM n",
    ),
    "view that says it is a table": (
        "DROP TABLE links",
        "INSERT INTO sqlite_master VALUES ('table', 'links', 'links', 0, "
        f"'CREATE VIEW links AS {ENDLESS.replace(chr(39), '')} i AS source, i AS target FROM n')",
    ),
    "trigger": ("CREATE TRIGGER t AFTER INSERT ON pages BEGIN DELETE FROM pages; END",),
    "changed trigger": (
        "DROP TRIGGER boxes_of_pages",
        "CREATE TRIGGER boxes_of_pages AFTER DELETE ON pages BEGIN DELETE FROM versions; END",
    ),
    "virtual table": ("CREATE VIRTUAL TABLE extra USING fts5(x)",),
    "virtual table in place of a table": ("DROP TABLE links", "CREATE VIRTUAL TABLE links USING fts5(source, target)"),
    "generated column": ("ALTER TABLE pages ADD COLUMN snippet2 TEXT GENERATED ALWAYS AS (hex(zeroblob(1000000)))",),
    "unknown column": ("ALTER TABLE pages ADD COLUMN extra TEXT",),
    "unknown table": ("CREATE TABLE extra (x)",),
    "table that controls a terminal": ('CREATE TABLE "\x1b]0;x\x07" (x)',),
    "column that controls a terminal": ('ALTER TABLE links ADD COLUMN "\x1b[2J" TEXT',),
    "version that controls a terminal": (
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('unwritten', 'z\x1b[2J', '')",
    ),
    "broken schema that controls a terminal": ("UPDATE sqlite_master SET sql = 'CREATE \x1b[2J' WHERE name = 'pages'",),
    "missing table": ("DROP TABLE canvases",),
    "missing column": ("ALTER TABLE pages DROP COLUMN title", "ALTER TABLE canvases DROP COLUMN text"),
    "many tables": tuple(f"CREATE TABLE state_{n} (x)" for n in range(1001)),
    "broken schema": ("UPDATE sqlite_master SET sql = 'CREATE TABLE pages (' WHERE name = 'pages'",),
    "wrong root page": ("UPDATE sqlite_master SET rootpage = 1 WHERE name = 'versions'",),
    "root page that does not exist": ("UPDATE sqlite_master SET rootpage = 99999 WHERE name = 'canvases'",),
}


@pytest.mark.parametrize("name", BAD_SCHEMAS)
def test_a_file_with_anything_else_in_it_is_refused(theirs: Path, name: str) -> None:
    started = time.monotonic()
    change(theirs, *BAD_SCHEMAS[name])
    before = theirs.read_bytes()
    try:
        report = imported(theirs)
    except TransferError as error:
        assert str(theirs) in str(error) and str(error).isprintable()
    else:
        assert name == "missing column" and len(report.refused) == 2
    assert theirs.read_bytes() == before
    ours = theirs.with_name("ours.db")
    assert not ours.exists() or tables(ours)["pages"] == []
    assert time.monotonic() - started < 20


def test_damaged_files_are_refused_or_lose_pages_but_harm_nothing(made: Path, tmp_path: Path) -> None:
    source = made.read_bytes()
    outcomes = set()
    for number in range(40):
        damaged = bytearray(source)
        for step in range(1 + number % 5):
            position = (number * 7919 + step * 104_729) * 31 % len(source)
            damaged[position : position + 1 + number % 40] = bytes([number * 37 % 256]) * (1 + number % 40)
        path = tmp_path / "damaged.db"
        path.write_bytes(damaged[: len(source) - (number % 3) * 4096])
        try:
            outcomes.add(len(import_world(tmp_path / "ours.db", path, dry_run=number % 4 > 0).new))
        except TransferError:
            outcomes.add(-1)
    assert -1 in outcomes
    assert set(shown(tmp_path / "ours.db").values()) <= {200, 404}


def test_what_is_no_regular_file_is_refused_at_once(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, big, link, nowhere = (tmp_path / name for name in ("pipe", "big.db", "link.db", "nowhere.db"))
    os.mkfifo(pipe)
    with big.open("wb") as file:
        file.write(theirs.read_bytes())
        file.truncate(untrusted_file.MAX_FILE_SIZE + 1)
    link.symlink_to(theirs)
    nowhere.symlink_to(tmp_path / "none")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # the name of a socket is limited to 107 bytes
        server.bind("socket")
    for path, message in {
        pipe: "is not a regular file",
        tmp_path / "socket": "is not a regular file",
        Path("/dev/zero"): "is not a regular file",
        tmp_path: "is not a regular file",
        big: r"has 1\.1 GB\. Up to 1\.1 GB can be imported",
        nowhere: "There is no file",
    }.items():
        with pytest.raises(TransferError, match=message):
            imported(path)
    assert len(imported(link).new) == 2, "a link to a regular file is the choice of whoever runs the command"
    (tmp_path / "theirs.db-wal").unlink(missing_ok=True)
    os.mkfifo(tmp_path / "theirs.db-wal")
    with pytest.raises(TransferError, match="is not a regular file"):
        imported(theirs)


def test_a_file_in_use_is_imported_as_it_was_committed(theirs: Path) -> None:
    writer = sqlite3.connect(theirs, isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("UPDATE versions SET title = 'Committed' WHERE number = 2")
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE versions SET title = 'Not committed'")
    report = imported(theirs)
    writer.close()
    assert len(report.new) == 2
    assert {row["title"] for row in tables(theirs.with_name("ours.db"))["versions"]} == {"Tower", "Sea", "Committed"}


def test_reading_has_a_deadline(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untrusted_file, "MAX_SECONDS", -1.0)
    with pytest.raises(TransferError, match="took more than"):
        imported(theirs)


def test_nothing_is_imported_if_it_fails_halfway(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = theirs.with_name("ours.db")
    rows: Callable[..., object] = getattr(untrusted_file.UntrustedWorld, "rows")  # noqa: B009 - of any type
    calls = 0

    def failing(self: object, *given: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 12:
            raise TransferError("The file is damaged.")
        return rows(self, *given)

    monkeypatch.setattr(untrusted_file.UntrustedWorld, "rows", failing)
    with pytest.raises(TransferError, match="The file is damaged"):
        imported(theirs)
    assert calls == 12 and tables(ours)["pages"] == []


def test_the_command_says_what_was_refused(theirs: Path) -> None:
    loosen(theirs)
    change(theirs, "UPDATE pages SET key = 'javascript:alert(1)' WHERE key = '/wiki/Sea'")
    change(theirs, "UPDATE links SET target = '//evil.example'")
    result = CliRunner().invoke(main, ["import", str(theirs), "--database", str(theirs.with_name("ours.db"))])
    assert result.exit_code == 0, result.output
    assert "Imported 1 page of Fake Wiki" in result.output
    assert "Refused: 1 page with invalid contents.\n  javascript:alert(1): page key: it is not the key" in result.output
    assert "Left out: 1 link that leads to no page of an app." in result.output
