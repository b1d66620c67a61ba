"""Values: what the shapes of the written pages hold, for templates, for other pages, and as facts of the world.

Only the values of current versions are here; older versions have their texts. They are written in the same
transaction as their page.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar, overload

from pydantic import ValidationError

from ..formats.schema import adapter, partial_model
from .database import Database

S = TypeVar("S")


log = logging.getLogger("unwritten")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value comes from.

    Attributes:
        key: its page's canonical URL.
        title: that page's title.
        name: the canvas.
        written_at: when that version was written, in UTC.
        version: the number of the version.
    """

    key: str
    title: str
    name: str
    written_at: datetime
    version: int


class ValueStore:
    """The values of one database.

    Args:
        database: where they are kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._shapes: dict[str, list[type[Any]]] = {}

    def register(self, shape: type[Any]) -> None:
        """Learn of a shape, so that values of its name become its instances."""
        known = self._shapes.setdefault(shape.__name__, [])
        if shape not in known:
            known.insert(0, shape)

    @overload
    def one(self, key: str, name: str, shape: type[S]) -> S | None: ...
    @overload
    def one(self, key: str, name: str, shape: None = None) -> Any: ...
    def one(self, key: str, name: str, shape: type[Any] | None = None) -> Any:
        """The value of one canvas.

        Args:
            key: the page's key.
            name: the canvas.
            shape: what it must be an instance of; None takes the shape that the app has under the name with which it
                was kept. If the app has shown none of that name yet, its fields can be read all the same.

        Returns:
            An instance; None if there is none, or the shape has changed since.
        """
        rows = self._database.read(
            "SELECT s.schema, s.value FROM canvas_values s JOIN pages p ON p.id = s.page WHERE p.key = ? AND s.name = ?",
            (key, name),
        )
        if not rows:
            return None
        ((kept, text),) = rows
        shapes = [shape] if shape is not None else self._shapes.get(kept, ())
        return self._instance(text, shapes) if shapes else partial_model(json.loads(text), {})

    @overload
    def all(self, shape: type[S], limit: int = 100) -> list[tuple[Source, S]]: ...
    @overload
    def all(self, shape: str, limit: int = 100) -> list[tuple[Source, Any]]: ...
    def all(self, shape: type[Any] | str, limit: int = 100) -> list[tuple[Source, Any]]:
        """All values of a shape with where they come from, the newest first, without those that do not fit any more.

        Args:
            shape: a shape, or the name of one that the app has.
            limit: so many at most.
        """
        name = shape if isinstance(shape, str) else shape.__name__
        shapes = self._shapes.get(name, ()) if isinstance(shape, str) else (shape,)
        rows = self._database.read(
            """SELECT p.key, p.title, s.name, s.written_at, s.version, s.value
               FROM canvas_values s JOIN pages p ON p.id = s.page
               WHERE s.schema = ? ORDER BY s.written_at DESC, s.page DESC, s.name LIMIT ?""",
            (name, limit),
        )
        found = []
        for key, title, canvas, at, version, text in rows:
            value = self._instance(text, shapes) if shapes else partial_model(json.loads(text), {})
            if value is not None:
                found.append((Source(key, title, canvas, datetime.fromisoformat(at), version), value))
        return found

    def _instance(self, text: str, shapes: Iterable[type[Any]]) -> Any:
        for shape in shapes:
            try:
                return adapter(shape).validate_json(text)
            except ValidationError:
                log.debug("A kept value does not fit %s any more.", shape.__name__)
        return None


# -- facts ----------------------------------------------------------------------------------------------------


def facts(database: Database, limit: int = 100) -> list[tuple[str, str, str, dict[str, Any]]]:
    """The values that authors marked as facts, the newest first: page key, page title, canvas, fields."""
    return _facts(
        database.read(
            """SELECT p.key, p.title, s.name, s.value FROM canvas_values s JOIN pages p ON p.id = s.page
               WHERE s.fact ORDER BY s.written_at DESC, s.page DESC, s.name LIMIT ?""",
            (limit,),
        )
    )


def facts_of(database: Database, keys: Collection[str]) -> list[tuple[str, str, str, dict[str, Any]]]:
    """The facts of these pages, as ``facts`` gives them, in the order of the keys."""
    listed = list(dict.fromkeys(keys))[:500]
    marks = ",".join("?" * len(listed))
    rows = database.read(
        f"""SELECT p.key, p.title, s.name, s.value FROM canvas_values s JOIN pages p ON p.id = s.page
            WHERE s.fact AND p.key IN ({marks}) ORDER BY s.name""",  # noqa: S608
        listed,
    )
    return _facts(sorted(rows, key=lambda row: listed.index(row[0])))


def _facts(rows: Iterable[tuple[str, str, str, str]]) -> list[tuple[str, str, str, dict[str, Any]]]:
    found = ((key, title, name, json.loads(text)) for key, title, name, text in rows)
    return [(key, title, name, value) for key, title, name, value in found if isinstance(value, dict)]


# -- written by the store ---------------------------------------------------------------------------------------


def save_values(connection: sqlite3.Connection, page: int, version: int) -> None:
    """Put the values of a page's newest version in the place of those that are there.

    Args:
        connection: in a transaction.
        page: the page's row.
        version: the row of its newest version, whose canvases are all there.
    """
    delete_values(connection, page)
    connection.execute(
        """INSERT INTO canvas_values (page, name, schema, value, fact, version, written_at)
           SELECT v.page, c.name, c.schema, c.text, c.fact, v.number, v.written_at
           FROM canvases c JOIN versions v ON v.id = c.version
           WHERE v.id = ? AND c.schema <> '' AND json_valid(c.text)""",
        (version,),
    )


def delete_values(connection: sqlite3.Connection, page: int) -> None:
    """Take the values of a page away."""
    connection.execute("DELETE FROM canvas_values WHERE page = ?", (page,))
