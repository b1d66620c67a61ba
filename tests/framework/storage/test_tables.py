"""Tables: rows of a model, in the database of the pages."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field
from tests.support.apps import browser, make_app

from unwritten import App
from unwritten.core.errors import BadTable
from unwritten.storage.tables import Table
from unwritten_engine import scripted


class Mood(Enum):
    CALM = "calm"
    WILD = "wild"


class Post(BaseModel):
    id: int | None = None
    thread: int
    text: Annotated[str, Field(min_length=1, max_length=200)]
    mood: Mood = Mood.CALM
    pinned: bool = False
    tags: list[str] = []
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))


def make_one(setting: str) -> App:
    """Return an app with one page."""
    app = make_app(Path(), scripted("Words."), database=setting)

    @app.page("/")
    def front() -> str:
        return "A page."

    return app


@pytest.fixture
def app(setting: str) -> Iterator[App]:
    app = make_one(setting)
    yield app
    asyncio.run(app.close())


@pytest.fixture
def posts(app: App) -> Table[Post]:
    table = app.table(Post, index=["thread"])
    app.prepare()
    return table


def test_rows_come_back_as_they_were(posts: Table[Post]) -> None:
    row = posts.insert(Post(thread=1, text="Grüße", mood=Mood.WILD, pinned=True, tags=["a", "b"]))
    assert row.id == 1
    assert posts.get(1) == row
    assert posts.get(2) is None
    plain = posts.insert(Post(thread=2, text="x"))
    assert posts.select() == [row, plain]
    assert posts.select(order="-id") == [plain, row]
    assert list(posts) == [row, plain]
    assert posts.select(thread=2) == [plain]
    assert posts.select(mood=Mood.WILD, pinned=True) == [row]
    assert posts.select(tags=["a", "b"]) == [row]
    assert posts.count() == 2 and posts.count(thread=1) == 1


def test_rows_are_selected_with_order_limit_and_offset(posts: Table[Post]) -> None:
    for number in range(6):
        posts.insert(Post(thread=number % 2, text=f"{number}"))
    assert [row.text for row in posts.select(order="-thread, text", limit=4)] == ["1", "3", "5", "0"]
    assert [row.text for row in posts.select(order="-id", limit=2, offset=1)] == ["4", "3"]


def test_rows_are_updated_and_deleted(posts: Table[Post]) -> None:
    row = posts.insert(Post(thread=1, text="x"))
    assert row.id is not None
    changed = posts.update(row.id, text="y", tags=["z"])
    assert (changed.text, changed.tags, changed.thread) == ("y", ["z"], 1)
    assert posts.get(row.id) == changed
    assert posts.delete(row.id) and not posts.delete(row.id)
    assert posts.get(row.id) is None
    assert posts.insert(Post(thread=1, text="again")).id == 2, "ids are never reused"


def test_rows_are_stored_beside_the_pages(app: App, posts: Table[Post]) -> None:
    posts.insert(Post(thread=1, text="x"))
    database = app.site.store.database
    assert database.read("SELECT thread, text, mood FROM state_post") == [(1, "x", "calm")]
    assert "state_post__thread" in database.write_sync(lambda connection: connection.index_names("state_post"))


def test_text_from_visitors_never_becomes_sql(posts: Table[Post]) -> None:
    evil = "x'; DROP TABLE state_post; --"
    posts.insert(Post(thread=1, text=evil))
    assert [row.text for row in posts.select(text=evil)] == [evil]
    with pytest.raises(BadTable, match="has no field"):
        posts.select(order='id"; DROP TABLE state_post; --')
    with pytest.raises(BadTable, match="has no field"):
        posts.count(**{'text" = "text': 1})


def test_unknown_fields_are_errors_with_a_suggestion(posts: Table[Post]) -> None:
    row = posts.insert(Post(thread=1, text="x"))
    assert row.id is not None
    for call in (lambda: posts.select(thred=1), lambda: posts.count(thred=1), lambda: posts.update(1, thred=1)):
        with pytest.raises(BadTable, match=r"The table 'post' has no field 'thred'.*'thread'"):
            call()
    with pytest.raises(BadTable, match=r"has no field 'texd'.*'text'"):
        posts.select(order="-texd")


def test_values_are_validated_by_the_model(posts: Table[Post]) -> None:
    row = posts.insert(Post(thread=1, text="x"))
    assert row.id is not None
    with pytest.raises(BadTable, match=r"A row of 'post' does not fit Post: text: string should have at least 1"):
        posts.update(row.id, text="")
    with pytest.raises(BadTable, match="does not fit Post"):
        posts.insert(Post.model_construct(thread="no number", text="x"))
    with pytest.raises(BadTable, match="holds rows of Post, not 3"):
        posts.insert(3)  # type: ignore[arg-type]
    with pytest.raises(BadTable, match="has no row 99, so it cannot be changed"):
        posts.update(99, text="y")
    with pytest.raises(BadTable, match="has a row 1 already"):
        posts.insert(Post(id=1, thread=1, text="x"))
    with pytest.raises(BadTable, match="cannot be stored in the table 'post'"):
        posts.insert(Post(thread=2**70, text="x"))
    assert posts.count() == 1


def test_impossible_values_find_nothing_and_wrong_types_are_errors(posts: Table[Post]) -> None:
    posts.insert(Post(thread=1, text="x"))
    assert posts.select(text="x" * 300) == [] and posts.count(text="x" * 300) == 0
    assert posts.select(thread=2**70) == []
    with pytest.raises(BadTable, match="'thread' of the table 'post' cannot be 'one': the value has another type"):
        posts.select(thread="one")


def test_none_selects_rows_without_a_value(app: App) -> None:
    table = app.table(Loose)
    app.prepare()
    table.insert(Loose(note=None))
    table.insert(Loose(note="x"))
    assert [row.id for row in table.select(note=None)] == [1]


class Loose(BaseModel):
    id: int | None = None
    note: str | None


@dataclass
class Guest:
    name: str
    id: int | None = None


def test_a_dataclass_and_initial_rows(app: App, setting: str) -> None:
    guests = app.table(Guest, "visitors", initial=[Guest("Ada"), Guest("Bo")])
    app.prepare()
    assert guests.select(order="-id") == [Guest("Bo", 2), Guest("Ada", 1)]
    guests.delete(1)
    asyncio.run(app.close())
    again = make_one(setting)
    guests = again.table(Guest, "visitors", initial=[Guest("Ada"), Guest("Bo")])
    again.prepare()
    assert guests.select() == [Guest("Bo", 2)], "only a new table gets initial rows"
    asyncio.run(again.close())


class NoId(BaseModel):
    text: str


class Taken(BaseModel):
    id: int | None = None
    order: int = 0


def test_an_invalid_table_is_an_error_with_the_reason(app: App) -> None:
    def refused(*arguments: Any, **options: Any) -> str:
        with pytest.raises(BadTable) as caught:
            app.table(*arguments, **options)
        return str(caught.value)

    assert refused(NoId) == "The model NoId of a table needs this field: id: int | None = None"
    assert "A field of a table cannot be called 'order'" in refused(Taken)
    assert "A table cannot be called 'drop table'" in refused(Post, "drop table")
    assert "has no field 'thred'" in refused(Post, index=["thred"])
    assert "takes a list, but got the string 'thread'" in refused(Post, index="thread")
    app.table(Post)
    assert "There is a table 'post' already. Give this one another name" in refused(Post)


def test_a_table_of_an_unprepared_app_is_an_error(app: App) -> None:
    posts = app.table(Post)
    with pytest.raises(BadTable, match=r"The table 'post' is not open yet. In a script, call app.prepare\(\) first."):
        posts.count()


def test_data_version_changes_with_every_write(app: App, posts: Table[Post]) -> None:
    before = app.site.store.data_version()
    posts.insert(Post(thread=1, text="x"))
    assert app.site.store.data_version() != before


def test_a_page_function_reads_and_must_not_write(app: App) -> None:
    posts = app.table(Post)

    @app.page("/read")
    def reading() -> str:
        return f"A page about {posts.count()} posts."

    @app.page("/write")
    async def writing() -> str:
        posts.insert(Post(thread=1, text="x"))
        return "A page."

    app.configure({"debug": True})
    with browser(app) as client:
        assert client.get("/read").status_code == 200
        answer = client.get("/write")
        assert answer.status_code == 500
        assert "The page function &#39;writing&#39; writes to the table &#39;post&#39;" in answer.text
        assert posts.count() == 0
