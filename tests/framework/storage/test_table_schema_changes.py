"""Models that changed since their table was made: brought up to date, or refused with what to do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, create_model
from tests.support.apps import make_app

from unwritten.core.errors import BadTable
from unwritten.storage.tables import Table
from unwritten_engine import scripted


def model(**fields: Any) -> type[BaseModel]:
    made: type[BaseModel] = create_model("Post", id=(int | None, None), **fields)
    return made


@contextlib.contextmanager
def opened(home: Path, post: type[BaseModel], **options: Any) -> Iterator[Table[Any]]:
    app = make_app(home, scripted("Words."))
    table = app.table(post, **options)
    try:
        app.prepare()
        yield table
    finally:
        asyncio.run(app.close())


FIRST = model(text=(str, ...), likes=(int, 0))


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """An app with two rows of ``FIRST``."""
    with opened(tmp_path, FIRST) as posts:
        posts.insert(FIRST(text="a", likes=3))
        posts.insert(FIRST(text="b"))
    return tmp_path


def test_new_fields_with_a_default_are_added(kept: Path, caplog: pytest.LogCaptureFixture) -> None:
    second = model(text=(str, ...), likes=(int, 0), mood=(str, "calm"), tags=(list[str], []), note=(str | None, ...))
    with caplog.at_level(logging.INFO, "unwritten"), opened(kept, second) as posts:
        assert [(p.mood, p.tags, p.note) for p in posts.select()] == [("calm", [], None)] * 2
        posts.update(1, mood="wild")
    assert "The table 'post' has a new field 'mood'." in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, "unwritten"), opened(kept, second) as posts:
        assert [p.mood for p in posts.select()] == ["wild", "calm"]
    assert "post" not in caplog.text, "the second time there is nothing to do"


def test_a_field_that_is_gone_keeps_its_values_and_may_come_back(kept: Path, caplog: pytest.LogCaptureFixture) -> None:
    less = model(text=(str, ...))
    with caplog.at_level(logging.INFO, "unwritten"), opened(kept, less) as posts:
        posts.insert(less(text="c"))
    assert "has no field ['likes'] any more; its values stay in the file" in caplog.text
    with opened(kept, FIRST) as posts:
        assert [p.likes for p in posts.select()] == [3, 0, 0]


def test_indexes_come_and_go(kept: Path) -> None:
    def indexes() -> list[str]:
        connection = sqlite3.connect(kept / "pages.db")
        sql = "SELECT name FROM sqlite_master WHERE type = 'index' AND name LIKE 'state%'"
        names = [name for (name,) in connection.execute(sql)]
        connection.close()
        return names

    with opened(kept, FIRST, index=["likes"]):
        assert indexes() == ["state_post__likes"]
    with opened(kept, FIRST, index=["text"]):
        assert indexes() == ["state_post__text"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            model(words=(str, ...), likes=(int, 0)),
            "has 2 rows without a field 'words', which is new and has no default (or is it 'text' under another name?)",
        ),
        (model(text=(str, ...), likes=(float, 0)), "has 2 rows whose 'likes' was kept as int, which is now float"),
        (model(text=(str, ...), likes=(int, 0), by=(str, ...)), "has 2 rows without a field 'by'"),
        (model(text=(Literal["a"], ...), likes=(int, 0)), "has a row 2 that does not fit any more"),
    ],
    ids=["renamed", "retyped", "required", "narrower"],
)
def test_what_cannot_be_guessed_is_refused_with_two_ways_out(kept: Path, changed: Any, words: str) -> None:
    with pytest.raises(BadTable) as caught, opened(kept, changed):
        pass
    assert words in str(caught.value)
    assert "Either change Post so that the old rows fit" in str(caught.value)
    assert "Or begin a new table, app.table(Post, name='post_2')" in str(caught.value)
    with opened(kept, FIRST) as posts:
        assert [(p.text, p.likes) for p in posts.select()] == [("a", 3), ("b", 0)], "nothing was lost"


def test_an_empty_table_takes_any_model_and_counts_on(kept: Path) -> None:
    with opened(kept, FIRST) as posts:
        for row in posts.select():
            posts.delete(row.id)
    other = model(words=(list[str], ...), likes=(float, ...))
    with opened(kept, other) as posts:
        assert posts.insert(other(words=["x"], likes=0.5)).id == 3


def test_one_refused_table_leaves_the_others_as_they_were(kept: Path) -> None:
    app = make_app(kept, scripted("Words."))
    app.table(model(text=(str, ...)), "another")
    app.table(model(text=(int, ...)), "post")
    with pytest.raises(BadTable, match="'text' was kept as text, which is now int"):
        app.prepare()
    connection = sqlite3.connect(kept / "pages.db")
    assert connection.execute("SELECT name FROM tables").fetchall() == [("post",)]
    connection.close()
