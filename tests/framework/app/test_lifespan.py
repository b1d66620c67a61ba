"""Tests of ``App.prepare`` and ``App.close``: the order, repeated calls and failures."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.support.apps import make_app, make_wiki

from unwritten import App
from unwritten.core.errors import BadApp, BadSetting, StoreError
from unwritten_engine import scripted

pytestmark = pytest.mark.timeout(30)


def test_the_store_of_an_unprepared_app_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadApp, match=r"app\.prepare"):
        make_app(tmp_path, scripted("Text.")).store.count()


def test_an_app_can_be_prepared_and_closed_repeatedly(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("A tower."))
    for _ in range(2):
        app.prepare()
        first = app.site
        app.prepare()
        assert app.site is first, "a second call has no effect"
        assert app.store.count() == 0
        for _ in range(2):
            asyncio.run(app.close())
        with pytest.raises(BadApp):
            app.site  # noqa: B018


def test_a_failed_start_closes_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[object] = []

    def fail(*args: object, **options: object) -> object:
        raise BadSetting("There is no such engine.")

    monkeypatch.setattr("unwritten.app.build.open_engine", fail)
    monkeypatch.setattr("unwritten.app.build.PageStore.close", lambda store: closed.append(store))
    app = App("Fake Wiki", database=str(tmp_path / "pages.db"))
    app.page("/")(lambda: "A front page.")
    with pytest.raises(BadSetting):
        app.prepare()
    assert len(closed) == 1


def test_the_database_is_opened_before_the_engine(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    app = App("Fake Wiki", engine="no-such-engine", database=str(tmp_path / "file" / "pages.db"))
    app.page("/")(lambda: "A front page.")
    with pytest.raises(StoreError, match="folder"):
        app.prepare()
