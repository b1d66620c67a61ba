"""``copy`` and ``import``: copies of a world's database, and pages from another world."""

from __future__ import annotations

import re
import shutil
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pydantic import BaseModel
from tests.support.apps import browser, database_file, make_app, make_wiki, tables, write

from unwritten import App, Canvas
from unwritten.cli.main import main
from unwritten.core.errors import TransferError
from unwritten.export.world_file import copy_world
from unwritten.export.world_import import import_world
from unwritten_engine import scripted


def a_world(home: Path, text: str = "A tower with a [[Lamp]].", pages: tuple[str, ...] = ("Tower",)) -> Path:
    """Create a world with these pages, all with this text. Return its database."""
    home.mkdir(exist_ok=True)
    app = make_wiki(home, scripted(text))
    with browser(app) as client:
        for page in pages:
            write(client, f"/wiki/{page}")
    return database_file(app)


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def texts(home: Path) -> dict[str, str]:
    """Return the first generated word of each stored page."""
    app = make_wiki(home, scripted())
    with browser(app):
        kept = {entry.key: app.store.get(entry.key) for entry in app.store.all()}
        return {key: re.split(r"\W+", page.canvases["body"].text)[2] for key, page in kept.items() if page}


# -- copying --------------------------------------------------------------------------------------------------


def test_a_world_is_copied_while_it_is_in_use(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("A tower."))
    copy = tmp_path / "copy.db"
    with browser(app) as client:
        write(client, "/wiki/Tower")
        copy_world(app.database, copy)
        write(client, "/wiki/Lamp")
        secret = app.site.world.secret
    (tmp_path / "there").mkdir()
    shutil.copy(copy, tmp_path / "there" / "pages.db")
    assert list(texts(tmp_path / "there")) == ["/wiki/Tower"]
    assert _of_world(copy, "secret") == secret.hex()


def test_a_database_has_the_name_of_its_world(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("x"), world="A calm book.", links="/wiki/{title}")
    with browser(app):
        world = app.site.world
        assert (world.get("name"), world.get("world"), world.get("links")) == (
            "Fake Wiki",
            "A calm book.",
            "/wiki/{title}",
        )


def test_a_public_copy_has_no_secret_anywhere_in_its_file(tmp_path: Path) -> None:
    database = a_world(tmp_path / "a")
    secret = _of_world(database, "secret")
    assert secret
    copy_world(database, tmp_path / "public.db", public=True)
    assert _of_world(tmp_path / "public.db", "secret") is None
    assert secret.encode() not in (tmp_path / "public.db").read_bytes()
    assert import_world(tmp_path / "new.db", tmp_path / "public.db").new == ["/wiki/Tower"]


def test_a_copy_replaces_no_file(tmp_path: Path) -> None:
    database = a_world(tmp_path / "a")
    (tmp_path / "there.db").write_text("mine")
    result = cli("copy", tmp_path / "there.db", "--database", database)
    assert result.exit_code == 1
    assert "exists already and is not replaced. Name another file." in result.output
    assert (tmp_path / "there.db").read_text() == "mine"
    with pytest.raises(TransferError, match="There is no folder"):
        copy_world(database, tmp_path / "no" / "where.db")
    with pytest.raises(TransferError, match="No pages are stored yet"):
        copy_world(tmp_path / "none.db", tmp_path / "copy.db")


def test_the_command_copies(tmp_path: Path) -> None:
    database = a_world(tmp_path / "a")
    result = cli("copy", tmp_path / "copy.db", "--database", database)
    assert result.exit_code == 0, result.output
    assert "Copied" in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "copy.db"]


# -- importing ----------------------------------------------------------------------------------------------


def test_pages_are_imported_with_versions_links_and_values(tmp_path: Path) -> None:
    class Card(BaseModel):
        height: int

    def cards(home: Path, engine: object) -> App:
        home.mkdir()
        app = make_app(home, engine, links="/wiki/{title}")  # type: ignore[arg-type]

        @app.page("/wiki/{title}")
        def article(title: str) -> str:
            return f"About {title}."

        @app.page("/card/{title}")
        def card(title: str) -> Canvas:
            return Canvas("A card.", schema=Card)

        return app

    theirs = cards(tmp_path / "a", scripted("A [[Lamp]].", by_ask={"card": '{"height":40}'}))
    with browser(theirs) as client:
        write(client, "/wiki/Tower")
        client.post("/_unwritten/rewrite", data={"page": "/wiki/Tower"})
        write(client, "/wiki/Tower")
        write(client, "/card/Tower")
    ours = cards(tmp_path / "b", scripted())
    found = import_world(ours.database, database_file(theirs))
    assert (found.name, found.new) == ("Fake Wiki", ["/wiki/Tower", "/card/Tower"])
    with browser(ours) as client:
        assert "Lamp" in client.get("/wiki/Tower").text
        assert [version.number for version in ours.store.history("/wiki/Tower")] == [2, 1]
        assert [entry.key for entry in ours.store.links_to("/wiki/Lamp")] == ["/wiki/Tower"]
        assert [entry.key for entry in ours.store.search("lamp")] == ["/wiki/Tower"]
        value = ours.value("/card/Tower", "body")
        assert isinstance(value, Card) and value.height == 40


def test_where_both_have_a_page_ours_stays_or_theirs_is_added(tmp_path: Path) -> None:
    theirs = a_world(tmp_path / "a", "Theirs, with a [[Door]].", ("Tower", "Lamp"))
    ours = a_world(tmp_path / "b", "Ours, with a [[Stair]].")
    dry = import_world(ours, theirs, dry_run=True)
    assert (dry.new, dry.ours, dry.theirs) == (["/wiki/Lamp"], ["/wiki/Tower"], [])
    assert list(texts(tmp_path / "b")) == ["/wiki/Tower"]
    assert import_world(ours, theirs).ours == ["/wiki/Tower"]
    assert texts(tmp_path / "b") == {"/wiki/Lamp": "Theirs", "/wiki/Tower": "Ours"}
    assert import_world(ours, theirs, theirs=True).theirs == ["/wiki/Tower"]
    app = make_wiki(tmp_path / "b", scripted())
    with browser(app) as client:
        assert "Theirs" in client.get("/wiki/Tower").text
        assert "Ours" in client.get("/wiki/Tower?version=1").text
        assert app.store.links_to("/wiki/Stair") == []
        assert [entry.title for entry in app.store.links_to("/wiki/Door")] == ["Lamp", "Tower"]
    assert import_world(ours, theirs, theirs=True).same == ["/wiki/Tower", "/wiki/Lamp"]


def test_the_command_counts_before_and_after(tmp_path: Path) -> None:
    theirs = a_world(tmp_path / "a", "Theirs.", ("Tower", "Lamp"))
    ours = a_world(tmp_path / "b", "Ours.")
    dry = cli("import", theirs, "--database", ours, "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert f"Would import 1 page of Fake Wiki into {ours}." in dry.output
    assert "Left unchanged: 1 page with another text here: /wiki/Tower. To add theirs: --theirs" in dry.output
    assert "Imported 1 page" in cli("import", theirs, "--database", ours).output
    assert (
        "Added a new version of 1 page that had another text here."
        in cli("import", theirs, "--database", ours, "--theirs").output
    )


def test_a_dry_run_creates_no_file(tmp_path: Path) -> None:
    theirs = a_world(tmp_path / "a")
    assert import_world(tmp_path / "none.db", theirs, dry_run=True).new == ["/wiki/Tower"]
    assert not (tmp_path / "none.db").exists()


def test_a_file_that_is_not_a_world_is_refused(tmp_path: Path) -> None:
    ours = a_world(tmp_path / "a")
    before = tables(ours)
    foreign, text, empty, newer = (tmp_path / name for name in ("foreign.db", "text.db", "empty.db", "newer.db"))
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE bookmarks (url)")
    connection.close()
    text.write_text("This is a letter, and no database. " * 100)
    empty.touch()
    shutil.copy(ours, newer)
    with sqlite3.connect(newer) as connection:
        connection.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('unwritten', 'm999_dreams', '')"
        )
    connection.close()
    for path, words in {
        foreign: "is not a world of Unwritten: it is a database of another program, or empty.",
        text: "is not a world of Unwritten: it is not a database",
        empty: "is not a world of Unwritten: it is a database of another program, or empty.",
        newer: "was created by a newer version of Unwritten (m999_dreams). Update with: pip install --upgrade",
        tmp_path / "none.db": "There is no file",
        ours: "is this world itself",
    }.items():
        result = cli("import", path, "--database", ours)
        assert result.exit_code == 1
        assert words in result.output
        assert str(path) in result.output
    assert tables(ours) == before


def _of_world(database: Path, name: str) -> str | None:
    connection = sqlite3.connect(database)
    rows = connection.execute("SELECT value FROM world WHERE name = ?", (name,)).fetchall()
    connection.close()
    return rows[0][0].strip('"') if rows else None
