"""Models that change: a table is brought up to its model when the app starts, or refused with what to do.

What the model was is kept beside the rows. New fields that have a default (or may be None), fields that are gone (their
values stay in the file), and indexes are seen to without a word but in the log. A field that was renamed, that has
another type, or that is new and has no default, cannot be guessed.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import logging
import sqlite3
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, TypeAdapter

from ..core.errors import BadTable

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


_KINDS: Mapping[type, str] = {bool: "bool", int: "int", float: "float", str: "text"}


_TIMES = (datetime, date, time)


_SQL: Mapping[str, str] = {"int": "INTEGER", "bool": "INTEGER", "float": "REAL", "text": "TEXT", "json": "TEXT"}


@dataclass(frozen=True)
class Column:
    """One field of a model.

    Attributes:
        name: the field's name.
        kind: int, bool, float, text, time or json.
        optional: whether None fits.
        adapter: reads and writes one value.
        make_default: makes the value of rows that were there before the field; None if it has no default.
    """

    name: str
    kind: str
    optional: bool
    adapter: TypeAdapter[Any]
    make_default: Any = None

    @property
    def sql(self) -> str:
        """Its type in SQLite."""
        return _SQL.get(self.kind, "TEXT")

    @property
    def can_be_added(self) -> bool:
        """Whether rows that were there before it can be given a value."""
        return self.optional or self.make_default is not None

    def added(self) -> object:
        """What SQLite keeps for rows that were there before the field."""
        return self.kept(self.make_default()) if self.make_default is not None else None

    def kept(self, value: object) -> object:
        """A value of the model as SQLite keeps it."""
        if value is None:
            return None
        plain = self.adapter.dump_python(value, mode="json", by_alias=False)
        return json.dumps(plain, ensure_ascii=False) if self.kind == "json" else plain

    def sought(self, value: object) -> object:
        """A value that rows are asked for by, as SQLite has kept it.

        Raises:
            ValidationError: if no row can have it.
        """
        return self.kept(self.adapter.validate_python(value))

    def found(self, value: object) -> object:
        """What SQLite has kept, as the model takes it."""
        if value is None:
            return None
        if self.kind == "json":
            return json.loads(str(value))
        return bool(value) if self.kind == "bool" else value


def columns_of(model: type[Any]) -> dict[str, Column]:
    """The columns of a pydantic model or a dataclass, by name.

    Raises:
        BadTable: if it is neither, or a field cannot be kept.
    """
    if isinstance(model, type) and issubclass(model, BaseModel):
        columns = {}
        for name, info in model.model_fields.items():
            if info.alias or info.validation_alias or info.serialization_alias:
                raise BadTable(f"The field {name!r} of {model.__name__} has an alias. In a table, call it by one name.")
            default = None if info.is_required() else lambda info=info: info.get_default(call_default_factory=True)
            annotation = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
            columns[name] = _column(model, name, annotation, default)
        return columns
    if isinstance(model, type) and dataclasses.is_dataclass(model):
        hints = get_type_hints(model, include_extras=True)
        return {f.name: _column(model, f.name, hints[f.name], _default(f)) for f in dataclasses.fields(model) if f.init}
    raise BadTable(f"A table is made from a pydantic model or a dataclass, but got {model!r}.")


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory
    return None if field.default is dataclasses.MISSING else lambda: field.default


def _column(model: type[Any], name: str, annotation: Any, default: Any) -> Column:
    try:
        adapter = TypeAdapter(annotation)
    except Exception as error:
        raise BadTable(f"The field {name!r} of {model.__name__} cannot be kept as {annotation!r}: {error}.") from error
    kind, optional = _kind(annotation)
    return Column(name, kind, optional, adapter, default)


def _kind(annotation: Any) -> tuple[str, bool]:
    """The kind of a column, and whether None fits."""
    if get_origin(annotation) is Annotated:
        return _kind(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        rest = [part for part in get_args(annotation) if part is not type(None)]
        optional = len(rest) < len(get_args(annotation))
        kinds = {_kind(part)[0] for part in rest}
        return (kinds.pop() if len(kinds) == 1 else "json"), optional
    values: list[Any] = []
    if get_origin(annotation) is Literal:
        values = list(get_args(annotation))
    elif isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        values = [member.value for member in annotation]
    if values:
        kinds = {_KINDS.get(type(value), "json") for value in values}
        return (kinds.pop() if len(kinds) == 1 else "json"), False
    if isinstance(annotation, type) and issubclass(annotation, _TIMES):
        return "time", False
    return _KINDS.get(annotation, "json") if isinstance(annotation, type) else "json", False
