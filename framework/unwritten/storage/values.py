"""Values of canvases with a schema: for templates, for other pages, and as facts of the world.

Only values of current versions are stored here, in the same transaction as their page. Older versions keep their text.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypeVar, overload

from pydantic import ValidationError

from ..formats.schema import partial_model, type_adapter
from .database import Connection, Database, insert_rows

S = TypeVar("S")

log = logging.getLogger("unwritten")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value comes from.

    Attributes:
        key: The page's canonical URL.
        title: The page's title.
        name: The canvas.
        written_at: When that version was stored, in UTC.
        version: The number of the version.
    """

    key: str
    title: str
    name: str
    written_at: datetime
    version: int


class ValueStore:
    """The values in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._schemas: dict[str, list[type[Any]]] = {}

    def register(self, schema: type[Any]) -> None:
        """Make stored values with this schema's name its instances."""
        known = self._schemas.setdefault(schema.__name__, [])
        if schema not in known:
            known.insert(0, schema)

    @overload
    def get(self, key: str, name: str, schema: type[S]) -> S | None: ...
    @overload
    def get(self, key: str, name: str, schema: None = None) -> Any: ...
    def get(self, key: str, name: str, schema: type[Any] | None = None) -> Any:
        """Return the value of one canvas.

        Args:
            key: The page's key.
            name: The canvas.
            schema: What the value must be an instance of. None: the registered schema with the name under which the
                value was stored. If there is none, the value is an object with the stored fields as attributes.

        Returns:
            An instance. None if there is no value, or the schema has changed since.
        """
        rows = self._database.read(
            """SELECT v.schema, v.value FROM canvas_values v JOIN pages p ON p.id = v.page
               WHERE p.key = ? AND v.name = ?""",
            (key, name),
        )
        if not rows:
            return None
        ((stored_schema, text),) = rows
        return self._parse(text, [schema] if schema is not None else self._schemas.get(stored_schema, ()))

    @overload
    def all(self, schema: type[S], limit: int = 100) -> list[tuple[Source, S]]: ...
    @overload
    def all(self, schema: str, limit: int = 100) -> list[tuple[Source, Any]]: ...
    def all(self, schema: type[Any] | str, limit: int = 100) -> list[tuple[Source, Any]]:
        """Return all values of a schema with their sources, the newest first.

        Values that do not fit the schema any more are left out.

        Args:
            schema: A schema, or the name of one.
            limit: The largest number of values to read.
        """
        name = schema if isinstance(schema, str) else schema.__name__
        schemas = self._schemas.get(name, ()) if isinstance(schema, str) else (schema,)
        rows = self._database.read(
            """SELECT p.key, p.title, v.name, v.written_at, v.version, v.value
               FROM canvas_values v JOIN pages p ON p.id = v.page
               WHERE v.schema = ? ORDER BY v.written_at DESC, v.page DESC, v.name LIMIT ?""",
            (name, limit),
        )
        found = []
        for key, title, canvas, written_at, version, text in rows:
            value = self._parse(text, schemas)
            if value is not None:
                found.append((Source(key, title, canvas, datetime.fromisoformat(written_at), version), value))
        return found

    def _parse(self, text: str, schemas: Iterable[type[Any]]) -> Any:
        """Return an instance of the first schema that the value fits, or None. Without schemas, accept any fields."""
        if not schemas:
            return partial_model(json.loads(text), {})
        for schema in schemas:
            try:
                return type_adapter(schema).validate_json(text)
            except ValidationError:
                log.debug("A stored value does not fit %s any more.", schema.__name__)
        return None


class Fact(NamedTuple):
    """A value that its author marked as a fact of the world: where it stands, and its fields."""

    key: str
    title: str
    canvas: str
    fields: dict[str, Any]


def facts(database: Database, limit: int = 100) -> list[Fact]:
    """Return the values that are marked as facts, the newest first."""
    rows = database.read(
        """SELECT p.key, p.title, v.name, v.value FROM canvas_values v JOIN pages p ON p.id = v.page
           WHERE v.fact ORDER BY v.written_at DESC, v.page DESC, v.name LIMIT ?""",
        (limit,),
    )
    found = (Fact(key, title, name, json.loads(text)) for key, title, name, text in rows)
    return [fact for fact in found if isinstance(fact.fields, dict)]


def save_values(connection: Connection, page: int, version: int) -> list[str]:
    """Replace the values of a page by those of one of its versions. Return them, as JSON.

    Args:
        connection: A connection in a transaction.
        page: The page's row.
        version: The version's row. Its canvases are stored already.
    """
    delete_values(connection, page)
    columns = ("page", "name", "schema", "value", "fact", "version", "written_at")
    rows = connection.execute(
        """SELECT v.page, c.name, c.schema, c.text, c.fact, v.number, v.written_at
           FROM canvases c JOIN versions v ON v.id = c.version WHERE v.id = ? AND c.schema <> ''
           ORDER BY c.position""",
        (version,),
    ).fetchall()
    found: list[dict[str, Any]] = [dict(zip(columns, row, strict=True)) for row in rows]
    values = [value for value in found if _is_json(value["value"])]
    insert_rows(connection, "canvas_values", values)
    return [value["value"] for value in values]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def delete_values(connection: Connection, page: int) -> None:
    """Delete the values of a page."""
    connection.execute("DELETE FROM canvas_values WHERE page = ?", (page,))
