"""Databases that cannot be written: with --read-only, on a read-only disk, and on a full disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from starlette.testclient import TestClient
from tests.framework.storage.test_pages import KEY, new_page, save
from tests.support.apps import browser, make_app, templates, write

from unwritten import App, Canvas, Page
from unwritten.core.errors import BadTable, StoreError, StoreFull, StoreReadOnly
from unwritten.storage.location import Location
from unwritten.storage.open import open_database
from unwritten.storage.pages import PageStore
from unwritten_engine import scripted


class Wish(BaseModel):
    id: int | None = None
    text: str


FORM = """{% extends "layout.html" %}{% block main %}{% block body %}{{ body }}{% endblock %}
<form {{ action("wish") }}><input name="text"></form>{% endblock %}"""


def make_guestbook(home: Path, database: str, **given: object) -> App:
    """Return an app with pages, a table and a form."""
    app = make_app(home, scripted("Words of a page."), folder=templates(home, one=FORM), database=database, **given)
    wishes = app.table(Wish)

    @app.page("/wiki/{title}")
    def article(title: str) -> Page:
        return Page("one.html", body=Canvas(f"About {title}."))

    @app.action("/wish")
    def wish(text: str) -> None:
        wishes.insert(Wish(text=text))

    return app


def send_wish(client: TestClient, text: str, page: str = "/wiki/Tea") -> tuple[int, str]:
    found = re.search(r'<form method="post" action="([^"]+)"', client.get(page).text)
    assert found is not None
    return send(client, found[1].replace("&amp;", "&"), text)


def send(client: TestClient, url: str, text: str) -> tuple[int, str]:
    answer = client.post(url, data={"text": text}, headers={"sec-fetch-site": "same-origin"})
    return answer.status_code, answer.text


def wishes_in(app: App) -> list[str]:
    return [text for (text,) in app.site.store.database.read("SELECT text FROM state_wish ORDER BY id")]


def test_a_read_only_server_serves_stored_pages_and_refuses_the_rest(setting: str, tmp_path: Path) -> None:
    with browser(make_guestbook(tmp_path, setting)) as client:
        write(client, "/wiki/Tea")
        assert send_wish(client, "first")[0] == 303
    app = make_guestbook(tmp_path, setting, read_only=True, edits="on")
    with browser(app) as client:
        assert "Words of a page" in client.get("/wiki/Tea").text
        answer = client.get("/wiki/Salt")
        assert answer.status_code == 503 and "this server only reads its database" in answer.text
        assert "retry-after" not in answer.headers and 'http-equiv="refresh"' not in answer.text
        status, html = send_wish(client, "A long wish & more")
        assert status == 503 and "A long wish &amp; more" in html and "only reads its database" in html
        assert client.post("/_unwritten/edit", data={"page": "/wiki/Tea"}).status_code in {403, 404, 405}
        assert client.get("/health").json()["store"] == "read only" and client.get("/health").status_code == 200
        assert wishes_in(app) == ["first"] and app.store.count() == 1
        with pytest.raises(StoreReadOnly, match="--read-only"):
            app.site.store.database.begin()


def test_a_read_only_database_must_exist_with_the_tables_of_the_app(location: Location, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no database|no tables of this version"):
        open_database(location, read_only=True)
    assert not (tmp_path / "pages.db").exists()
    open_database(location).close()
    setting = getattr(location, "secret", str(location))
    with pytest.raises(BadTable, match=r"The table 'wish' does not exist yet.*without --read-only"):
        make_guestbook(tmp_path, setting, read_only=True).prepare()


def test_a_database_of_an_earlier_version_is_not_read_without_an_update(tmp_path: Path) -> None:
    open_database(tmp_path / "pages.db").close()
    with contextlib.closing(sqlite3.connect(tmp_path / "pages.db")) as connection, connection:
        connection.execute("DELETE FROM _sqlite_migrations WHERE name = 'm011_standard_names'")
    with pytest.raises(StoreError, match=r"by an earlier version of Unwritten. Start once without --read-only"):
        open_database(tmp_path / "pages.db", read_only=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a disk of 2 MB, with a world that has one page."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by root only")
    try:
        with browser(make_guestbook(tmp_path, str(folder / "pages.db"))) as client:
            write(client, "/wiki/Tea")
        yield folder
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=False)
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Fill the disk with a file, and return it."""
    filling = folder / "filling"
    with contextlib.suppress(OSError), filling.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    return filling


def test_a_database_on_a_read_only_disk_is_read(small_disk: Path) -> None:
    database = small_disk / "pages.db"
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreError, match="only read it: --read-only"):
        open_database(database)
    store = PageStore(database, read_only=True)
    assert [page.key for page in store.recent()] == ["/wiki/Tea"]
    with pytest.raises(StoreReadOnly):
        save(store, new_page())
    store.close()


def test_a_server_starts_on_a_full_disk_and_writes_when_there_is_room(
    small_disk: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filling = fill(small_disk)
    app = make_guestbook(tmp_path, str(small_disk / "pages.db"))
    with browser(app) as client:
        assert "The disk is full, so" in caplog.text
        assert "Words of a page" in client.get("/wiki/Tea").text
        before = app.site.store.data_version()
        status, html = send_wish(client, "A long wish")
        assert status == 503 and "A long wish" in html and "disk is full" in html
        filling.unlink()
        found = re.search(r'<form class="form" method="post" action="([^"]+)"', html)
        assert found is not None
        again = found[1].replace("&amp;", "&")
        assert send(client, again, "A long wish")[0] == send(client, again, "A long wish")[0] == 303
        assert wishes_in(app) == ["A long wish"], "a form that is sent twice is applied once"
        asyncio.run(app.site.store.save(new_page()))
        assert app.store.get(KEY) is not None and app.site.store.data_version() != before


def test_a_disk_that_fills_up_loses_no_form(small_disk: Path, tmp_path: Path) -> None:
    app = make_guestbook(tmp_path, str(small_disk / "pages.db"))
    with browser(app) as client:
        client.get("/wiki/Tea")
        filling = fill(small_disk)
        long = "Many words. " * 2000
        status, html = send_wish(client, long)
        assert status == 503 and long.strip() in html and "disk is full" in html
        assert "Words of a page" in client.get("/wiki/Tea").text
        with pytest.raises(StoreFull):
            asyncio.run(app.site.store.save(new_page(text=long)))
        filling.unlink()
        assert send_wish(client, "short")[0] == 303
        assert wishes_in(app) == ["short"]
