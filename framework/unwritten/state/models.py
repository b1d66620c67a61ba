"""Models that change: a table is brought up to its model when the app starts, or refused with what to do.

What the model was is kept beside the rows. New fields that have a default (or may be None), fields that are gone (their
values stay in the file), and indexes are seen to without a word but in the log. A field that was renamed, that has
another type, or that is new and has no default, cannot be guessed.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from ..errors import BadTable
from .columns import Column

log = logging.getLogger("unwritten")


@dataclass(frozen=True)
class TableDeclaration:
    """A table as its author declares it.

    Attributes:
        name: its name.
        table: its name in the file.
        model: the model of its rows.
        columns: the fields, but for ``id``.
        index: the fields with an index.
        read: makes a row of the model of one of the file; raises BadTable if it does not fit.
    """

    name: str
    table: str
    model: type[Any]
    columns: Mapping[str, Column]
    index: Sequence[str]
    read: Callable[[Sequence[object]], Any]


def migrate(connection: sqlite3.Connection, declared: TableDeclaration) -> bool:
    """Make a table, or bring it up to its model. Returns whether it is new.

    Raises:
        BadTable: if the rows do not allow it.
    """
    model = json.dumps(TypeAdapter(declared.model).json_schema(mode="serialization"), sort_keys=True)
    row = connection.execute("SELECT columns, model FROM tables WHERE name = ?", (declared.name,)).fetchone()
    before: dict[str, str] = json.loads(row[0]) if row else {}
    if row is None:
        _create_table(connection, declared)
    elif row[1] != model or not {*declared.columns} <= {*before}:
        (count,) = connection.execute(f'SELECT count(*) FROM "{declared.table}"').fetchone()  # noqa: S608
        problem = _declaration_problem(declared, before, count)
        if problem and count == 0:
            before = {}
            _recreate(connection, declared)
        elif problem:
            raise _refused(declared, problem)
        else:
            _extend(connection, declared, before)
            _check(connection, declared)
    _index(connection, declared)
    columns = {**before, **{name: column.kind for name, column in declared.columns.items()}}
    connection.execute(
        "INSERT OR REPLACE INTO tables (name, columns, model) VALUES (?, ?, ?)",
        (declared.name, json.dumps(columns), model),
    )
    return row is None


def _create_table(connection: sqlite3.Connection, declared: TableDeclaration) -> None:
    # AUTOINCREMENT: a number that was deleted must not come back, for canvases are kept by it.
    columns = "".join(f', "{name}" {column.sql}' for name, column in declared.columns.items())
    connection.execute(f'CREATE TABLE "{declared.table}" (id INTEGER PRIMARY KEY AUTOINCREMENT{columns})')


def _recreate(connection: sqlite3.Connection, declared: TableDeclaration) -> None:
    """A table without rows takes any model."""
    last = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (declared.table,)).fetchone()
    connection.execute(f'DROP TABLE "{declared.table}"')
    _create_table(connection, declared)
    if last:
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (declared.table, last[0]))
    log.info("The table %r was empty, and has been made anew for its model.", declared.name)


def _declaration_problem(declared: TableDeclaration, before: Mapping[str, str], count: int) -> str:
    gone = [name for name in before if name not in declared.columns]
    for name, column in declared.columns.items():
        if name not in before and not column.can_be_added:
            renamed = f" (or is it {gone[0]!r} under another name?)" if gone else ""
            return f"has {count} rows without a field {name!r}, which is new and has no default{renamed}"
        if before.get(name, column.kind) != column.kind:
            return f"has {count} rows whose {name!r} was kept as {before[name]}, which is now {column.kind}"
    return ""


def _refused(declared: TableDeclaration, problem: str) -> BadTable:
    model = declared.model.__name__
    return BadTable(
        f"The table {declared.name!r} {problem}. Either change {model} so that the old rows fit: keep the old names "
        f"and types, and give new fields a default. Or begin a new table, app.table({model}, "
        f"name='{declared.name}_2'), and copy the rows over in a script; the old ones stay in the file."
    )


def _extend(connection: sqlite3.Connection, declared: TableDeclaration, before: Mapping[str, str]) -> None:
    there = {row[1] for row in connection.execute(f'PRAGMA table_info("{declared.table}")')}
    for name, column in declared.columns.items():
        if name in before and name in there and (column.optional or column.make_default is None):
            continue
        if name not in there:
            connection.execute(f'ALTER TABLE "{declared.table}" ADD COLUMN "{name}" {column.sql}')
            log.info("The table %r has a new field %r.", declared.name, name)
        # Also where a field comes back after a while in which rows were made without it.
        connection.execute(
            f'UPDATE "{declared.table}" SET "{name}" = ? WHERE "{name}" IS NULL',  # noqa: S608
            (column.added(),),
        )
    gone = sorted(before.keys() - declared.columns.keys())
    if gone:
        log.info(
            "The model of the table %r has no field %s any more; its values stay in the file.", declared.name, gone
        )


def _check(connection: sqlite3.Connection, declared: TableDeclaration) -> None:
    """Whether every row fits the model that has changed: a choice may be gone, or a text be too long now."""
    names = ", ".join(f'"{name}"' for name in ("id", *declared.columns))
    for row in connection.execute(f'SELECT {names} FROM "{declared.table}"'):  # noqa: S608
        try:
            declared.read(row)
        except BadTable as error:
            raise _refused(declared, f"has a row {row[0]} that does not fit any more ({error})") from error


def _index(connection: sqlite3.Connection, declared: TableDeclaration) -> None:
    prefix = f"{declared.table}__"
    wanted = {prefix + name: name for name in declared.index}
    sql = "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL"
    there = {name for (name,) in connection.execute(sql, (declared.table,)) if name.startswith(prefix)}
    for name in there - wanted.keys():
        connection.execute(f'DROP INDEX "{name}"')
    for name in wanted.keys() - there:
        connection.execute(f'CREATE INDEX "{name}" ON "{declared.table}" ("{wanted[name]}")')
