"""What is opened, checked and closed around the serving of an app."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.support.apps import browser, make_app, make_wiki

from unwritten import App
from unwritten.core.errors import BadApp, BadSetting, StoreError
from unwritten_engine import scripted

pytestmark = pytest.mark.timeout(30)


def test_an_app_that_is_not_prepared_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadApp, match=r"app\.prepare"):
        make_app(tmp_path, scripted("Text.")).store.count()


def test_it_can_be_opened_closed_and_opened_again(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("A tower."))
    for _ in range(2):
        app.prepare()
        first = app.site
        app.prepare()
        assert app.site is first, "a second time does nothing"
        asyncio.run(app.close())
        with pytest.raises(BadApp):
            app.site  # noqa: B018


def test_what_cannot_be_opened_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []

    def open_none(*args: object, **options: object) -> object:
        raise BadSetting("There is no such engine.")

    monkeypatch.setattr("unwritten.app.build.open_engine", open_none)
    monkeypatch.setattr("unwritten.app.build.PageStore.close", lambda store: opened.append(store))
    app = App("Fake Wiki", database=str(tmp_path / "pages.db"))
    app.page("/")(lambda: "A front page.")
    with pytest.raises(BadSetting):
        app.prepare()
    assert len(opened) == 1


def test_a_database_that_cannot_be_opened_is_told_before_the_engine_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    app = App("Fake Wiki", engine="no-such-engine", database=str(tmp_path / "file" / "pages.db"))
    app.page("/")(lambda: "A front page.")
    with pytest.raises(StoreError, match="folder"):
        app.prepare()


def test_the_engine_is_warmed_with_what_pages_share(tmp_path: Path) -> None:
    engine = scripted("A tower.")
    with browser(make_wiki(tmp_path, engine)) as client:
        client.get("/wiki/Lighthouse")
    assert [prompt.ask for prompt in engine.warmed] == ["An encyclopedia article about Lighthouse."]
