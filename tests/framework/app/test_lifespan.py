"""Tests of ``App.prepare`` and ``App.close``: the order, repeated calls and failures."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.support.apps import make_app, make_wiki
from tests.support.forum import Post

from unwritten import App
from unwritten.core.errors import BadApp, BadSetting, BadTable, StoreError
from unwritten.core.settings import Settings
from unwritten.storage.pages import PageStore
from unwritten.web.extension import Extension
from unwritten.web.site import Site
from unwritten_engine import Engine, Progress, scripted
from unwritten_engine.scripted import ScriptedEngine


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


class Resource(Extension):
    """An extension that records what happens to it, and may fail to connect."""

    def __init__(self, events: list[str], fails: bool = False) -> None:
        self.events = events
        self.fails = fails

    def prepare(self, settings: Settings, progress: Progress | None = None) -> None:
        self.events.append("extension opened")

    def connect(self, site: Site) -> None:
        if self.fails:
            raise BadSetting("It cannot be connected.")

    async def close(self) -> None:
        self.events.append("extension closed")
        if self.fails:
            raise RuntimeError("It cannot be closed either.")


STARTS = {
    "an engine that cannot be opened": ("engine", ["extension opened", "extension closed", "store closed"]),
    "an extension that cannot be connected": (
        "connect",
        ["extension opened", "engine opened", "engine closed", "extension closed", "store closed"],
    ),
    "a component that cannot be created": (
        "component",
        ["extension opened", "engine opened", "engine closed", "extension closed", "store closed"],
    ),
}


@pytest.mark.parametrize("in_a_loop", [False, True])
@pytest.mark.parametrize(("fault", "expected"), STARTS.values(), ids=STARTS)
def test_a_failed_start_closes_what_it_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, expected: list[str], in_a_loop: bool
) -> None:
    events: list[str] = []

    close_engine = ScriptedEngine.close

    async def record_close_of_engine(engine: ScriptedEngine) -> None:
        events.append("engine closed")
        await close_engine(engine)

    def open_recorded(*args: object, **options: object) -> Engine:
        if fault == "engine":
            raise BadSetting("There is no such engine.")
        events.append("engine opened")
        return scripted("Text.")

    def fail(*args: object, **options: object) -> None:
        raise BadSetting("It cannot be created.")

    monkeypatch.setattr("unwritten.app.build.open_engine", open_recorded)
    monkeypatch.setattr(ScriptedEngine, "close", record_close_of_engine)
    close_store = PageStore.close

    def record_close_of_store(store: PageStore) -> None:
        events.append("store closed")
        close_store(store)

    monkeypatch.setattr(PageStore, "close", record_close_of_store)
    if fault == "component":
        monkeypatch.setattr("unwritten.app.build.PageHandler", fail)
    app = App("Fake Wiki", database=str(tmp_path / "pages.db"))
    posts = app.table(Post)
    app.page("/")(lambda: "A front page.")
    app.extend(Resource(events, fails=fault == "connect"))

    async def prepare() -> None:
        app.prepare()

    with pytest.raises(BadSetting, match=r"no such engine|cannot be c(onnect|reat)ed"):
        asyncio.run(prepare()) if in_a_loop else app.prepare()
    assert events == expected
    with pytest.raises(BadTable, match="not open"):
        posts.count()


def test_the_database_is_opened_before_the_engine(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    app = App("Fake Wiki", engine="no-such-engine", database=str(tmp_path / "file" / "pages.db"))
    app.page("/")(lambda: "A front page.")
    with pytest.raises(StoreError, match="folder"):
        app.prepare()
