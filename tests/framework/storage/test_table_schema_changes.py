"""Tables whose model has changed: migrations, and errors for ambiguous changes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from pydantic import BaseModel, create_model

from unwritten.core.errors import BadTable
from unwritten.storage.location import Location
from unwritten.storage.open import open_database
from unwritten.storage.tables import Table, Tables


def model(**fields: Any) -> type[BaseModel]:
    made: type[BaseModel] = create_model("Post", id=(int | None, None), **fields)
    return made


@contextlib.contextmanager
def opened(location: Location, post: type[BaseModel], **options: Any) -> Iterator[Table[Any]]:
    database = open_database(location)
    tables = Tables()
    table = tables.add(Table(post, **options))
    try:
        tables.open(database)
        yield table
    finally:
        tables.close()
        database.close()


FIRST = model(text=(str, ...), likes=(int, 0))


@pytest.fixture
def stored(location: Location) -> Location:
    """Return the location of a database with two rows of ``FIRST``."""
    with opened(location, FIRST) as posts:
        posts.insert(FIRST(text="a", likes=3))
        posts.insert(FIRST(text="b"))
    return location


def test_new_fields_with_a_default_are_added(stored: Location, caplog: pytest.LogCaptureFixture) -> None:
    second = model(text=(str, ...), likes=(int, 0), mood=(str, "calm"), tags=(list[str], []), note=(str | None, ...))
    with caplog.at_level(logging.INFO, "unwritten"), opened(stored, second) as posts:
        assert [(p.mood, p.tags, p.note) for p in posts.select()] == [("calm", [], None)] * 2
        posts.update(1, mood="wild")
    assert "The table 'post' has a new field 'mood'." in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, "unwritten"), opened(stored, second) as posts:
        assert [p.mood for p in posts.select()] == ["wild", "calm"]
    assert "post" not in caplog.text, "the second migration changes nothing"


def test_a_removed_field_keeps_its_values_and_may_come_back(stored: Location, caplog: pytest.LogCaptureFixture) -> None:
    less = model(text=(str, ...))
    with caplog.at_level(logging.INFO, "unwritten"), opened(stored, less) as posts:
        posts.insert(less(text="c"))
    assert "lacks the fields ['likes']. Their values stay in the file" in caplog.text
    with opened(stored, FIRST) as posts:
        assert [p.likes for p in posts.select()] == [3, 0, 0]


def test_indexes_are_added_and_removed(stored: Location) -> None:
    def indexes() -> list[str]:
        database = open_database(stored)
        names = database.write_sync(lambda connection: connection.index_names("state_post"))
        database.close()
        return sorted(name for name in names if "__" in name)

    with opened(stored, FIRST, index=["likes"]):
        assert indexes() == ["state_post__likes"]
    with opened(stored, FIRST, index=["text"]):
        assert indexes() == ["state_post__text"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            model(words=(str, ...), likes=(int, 0)),
            "has 2 rows without a field 'words', which is new and has no default (or was 'text' renamed?)",
        ),
        (model(text=(str, ...), likes=(float, 0)), "has 2 rows whose 'likes' was stored as int, which is now float"),
        (model(text=(str, ...), likes=(int, 0), by=(str, ...)), "has 2 rows without a field 'by'"),
        (model(text=(Literal["a"], ...), likes=(int, 0)), "has a row 2 that does not fit any more"),
    ],
    ids=["renamed", "retyped", "required", "narrower"],
)
def test_an_ambiguous_change_is_an_error_with_two_solutions(stored: Location, changed: Any, words: str) -> None:
    with pytest.raises(BadTable) as caught, opened(stored, changed):
        pass
    assert words in str(caught.value)
    assert "Either change Post so that the existing rows fit" in str(caught.value)
    assert "Or declare a new table, app.table(Post, name='post_2')" in str(caught.value)
    with opened(stored, FIRST) as posts:
        assert [(p.text, p.likes) for p in posts.select()] == [("a", 3), ("b", 0)], "all rows are kept"


def test_an_empty_table_fits_any_model_and_keeps_counting_ids(stored: Location) -> None:
    with opened(stored, FIRST) as posts:
        for row in posts.select():
            posts.delete(row.id)
    other = model(words=(list[str], ...), likes=(float, ...))
    with opened(stored, other) as posts:
        assert posts.insert(other(words=["x"], likes=0.5)).id == 3


def test_one_refused_table_leaves_the_others_as_they_were(stored: Location) -> None:
    database = open_database(stored)
    tables = Tables()
    tables.add(Table(model(text=(str, ...)), "another"))
    tables.add(Table(model(text=(int, ...)), "post"))
    with pytest.raises(BadTable, match="'text' was stored as text, which is now int"):
        tables.open(database)
    assert database.read("SELECT name FROM tables") == [("post",)]
    database.close()
