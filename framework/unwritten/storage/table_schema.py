"""Table schemas: columns from models, and migrations of an author's table when its model has changed.

The model's JSON schema is stored beside the rows. When the app starts, the table is changed to fit its model:

* Fields with a default or that may be None are added. Existing rows get the default.
* Fields that the model no longer has stay in the file, unused.
* Indexes are created and dropped.

A renamed field, another type, or a new field without a default is an error that says what to do.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import logging
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, TypeAdapter

from ..core.errors import BadTable
from .database import Connection, Database, shorten_identifier

log = logging.getLogger("unwritten")

_PREFIX = 50
"""Characters of the names of indexes that are compared: long names are shortened."""

_KINDS: Mapping[type, str] = {bool: "bool", int: "int", float: "float", str: "text"}
_TIMES = (datetime, date, time)


@dataclass(frozen=True)
class Column:
    """One field of a model.

    Attributes:
        name: The field's name.
        kind: int, bool, float, text, time or json.
        optional: True if the value may be None.
        adapter: Validates and serializes one value.
        default_factory: Returns the value for existing rows. None if the field has no default.
    """

    name: str
    kind: str
    optional: bool
    adapter: TypeAdapter[Any]
    default_factory: Callable[[], Any] | None = None

    @property
    def can_be_added(self) -> bool:
        """True if existing rows can be given a value."""
        return self.optional or self.default_factory is not None

    def default_sql(self) -> object:
        """Return the value for existing rows, as the database stores it."""
        return self.to_sql(self.default_factory()) if self.default_factory is not None else None

    def to_sql(self, value: object) -> object:
        """Convert a value of the model to what the database stores."""
        if value is None:
            return None
        plain = self.adapter.dump_python(value, mode="json", by_alias=False)
        return json.dumps(plain, ensure_ascii=False) if self.kind == "json" else plain

    def filter_to_sql(self, value: object) -> object:
        """Convert a value that rows are selected by to what the database stores.

        Raises:
            ValidationError: If no row can have it.
        """
        return self.to_sql(self.adapter.validate_python(value))

    def from_sql(self, value: object) -> object:
        """Convert what the database stores to what the model accepts."""
        if value is None:
            return None
        if self.kind == "json":
            return json.loads(str(value))
        return bool(value) if self.kind == "bool" else value


def model_columns(model: type[Any]) -> dict[str, Column]:
    """Return the columns of a pydantic model or a dataclass, by name.

    Raises:
        BadTable: If it is neither, or a field cannot be stored.
    """
    if isinstance(model, type) and issubclass(model, BaseModel):
        columns = {}
        for name, info in model.model_fields.items():
            if info.alias or info.validation_alias or info.serialization_alias:
                raise BadTable(
                    f"The field {name!r} of {model.__name__} has an alias. A field of a table has one name: "
                    "remove the alias."
                )
            default = None if info.is_required() else lambda info=info: info.get_default(call_default_factory=True)
            annotation = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
            columns[name] = _column(model, name, annotation, default)
        return columns
    if isinstance(model, type) and dataclasses.is_dataclass(model):
        hints = get_type_hints(model, include_extras=True)
        return {f.name: _column(model, f.name, hints[f.name], _default(f)) for f in dataclasses.fields(model) if f.init}
    raise BadTable(f"The model of a table is a pydantic model or a dataclass, not {model!r}.")


def _default(field: dataclasses.Field[Any]) -> Callable[[], Any] | None:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory
    return None if field.default is dataclasses.MISSING else lambda: field.default


def _column(model: type[Any], name: str, annotation: Any, default: Callable[[], Any] | None) -> Column:
    try:
        adapter = TypeAdapter(annotation)
    except Exception as error:
        raise BadTable(
            f"The field {name!r} of {model.__name__} cannot be stored as {annotation!r}: {error}."
        ) from error
    kind, optional = _kind(annotation)
    return Column(name, kind, optional, adapter, default)


def _kind(annotation: Any) -> tuple[str, bool]:
    """Return the kind of a column, and True if it may be None."""
    if get_origin(annotation) is Annotated:
        return _kind(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        members = [part for part in get_args(annotation) if part is not type(None)]
        optional = len(members) < len(get_args(annotation))
        kinds = {_kind(part)[0] for part in members}
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


# -- migrations -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TableDeclaration:
    """A table as its author declares it.

    Attributes:
        name: Its name.
        sql_name: Its name in the database.
        model: The model of its rows.
        columns: The fields, without ``id``.
        index: The fields with an index.
        parse_row: Converts a row of the database to the model. Raises BadTable if it does not fit.
    """

    name: str
    sql_name: str
    model: type[Any]
    columns: Mapping[str, Column]
    index: Sequence[str]
    parse_row: Callable[[Sequence[object]], Any]


def migrate_table(connection: Connection, declared: TableDeclaration) -> bool:
    """Create a table, or change it to fit its model. Return True if it is new.

    Args:
        connection: A connection in a transaction.
        declared: The table.

    Raises:
        BadTable: If the existing rows do not fit the model.
    """
    model = _model_text(declared)
    row = connection.execute("SELECT columns, model FROM tables WHERE name = ?", (declared.name,)).fetchone()
    before: dict[str, str] = json.loads(row[0]) if row else {}
    if row is None:
        _create_table(connection, declared)
    elif row[1] != model or not {*declared.columns} <= {*before}:
        (count,) = connection.execute(f'SELECT count(*) FROM "{declared.sql_name}"').fetchone()  # noqa: S608
        problem = _find_problem(declared, before, count)
        if problem and count == 0:
            before = {}
            _recreate_table(connection, declared)
        elif problem:
            raise _mismatch(declared, problem)
        else:
            _add_columns(connection, declared, before)
            _check_rows(connection, declared)
    _update_indexes(connection, declared)
    columns = json.dumps({**before, **{name: column.kind for name, column in declared.columns.items()}})
    if row is None or tuple(row) != (columns, model):
        connection.execute(
            "INSERT INTO tables (name, columns, model) VALUES (?, ?, ?) "
            "ON CONFLICT (name) DO UPDATE SET columns = excluded.columns, model = excluded.model",
            (declared.name, columns, model),
        )
    return row is None


def is_current(database: Database, declared: TableDeclaration) -> bool:
    """True if a table exists and fits its model."""
    rows = database.read("SELECT columns, model FROM tables WHERE name = ?", (declared.name,))
    return bool(rows) and rows[0][1] == _model_text(declared) and {*declared.columns} <= {*json.loads(rows[0][0])}


def _model_text(declared: TableDeclaration) -> str:
    return json.dumps(TypeAdapter(declared.model).json_schema(mode="serialization"), sort_keys=True)


def _create_table(connection: Connection, declared: TableDeclaration, last_id: int = 0) -> None:
    columns = {name: column.kind for name, column in declared.columns.items()}
    connection.create_table(declared.sql_name, columns, last_id)


def _recreate_table(connection: Connection, declared: TableDeclaration) -> None:
    """Replace a table without rows, which fits any model. Its ids continue."""
    last_id = connection.last_id(declared.sql_name)
    connection.execute(f'DROP TABLE "{declared.sql_name}"')
    _create_table(connection, declared, last_id)
    log.info("The table %r was empty, and was created again for its new model.", declared.name)


def _find_problem(declared: TableDeclaration, before: Mapping[str, str], count: int) -> str:
    """Describe why existing rows cannot fit the model. Empty if they may."""
    removed = [name for name in before if name not in declared.columns]
    for name, column in declared.columns.items():
        if name not in before and not column.can_be_added:
            renamed = f" (or was {removed[0]!r} renamed?)" if removed else ""
            return f"has {count} rows without a field {name!r}, which is new and has no default{renamed}"
        if before.get(name, column.kind) != column.kind:
            return f"has {count} rows whose {name!r} was stored as {before[name]}, which is now {column.kind}"
    return ""


def _mismatch(declared: TableDeclaration, problem: str) -> BadTable:
    model = declared.model.__name__
    return BadTable(
        f"The table {declared.name!r} {problem}. Either change {model} so that the existing rows fit: keep names and "
        f"types, and give new fields a default. Or declare a new table, app.table({model}, "
        f"name='{declared.name}_2'), and copy the rows in a script; the old ones stay in the file."
    )


def _add_columns(connection: Connection, declared: TableDeclaration, before: Mapping[str, str]) -> None:
    existing = connection.column_names(declared.sql_name)
    for name, column in declared.columns.items():
        if name in before and name in existing and (column.optional or column.default_factory is None):
            continue
        if name not in existing:
            connection.add_column(declared.sql_name, name, column.kind)
            log.info("The table %r has a new field %r.", declared.name, name)
        # Also for a field that was removed for a while: rows of that time have no value.
        connection.execute(
            f'UPDATE "{declared.sql_name}" SET "{name}" = ? WHERE "{name}" IS NULL',  # noqa: S608
            (column.default_sql(),),
        )
    removed = sorted(before.keys() - declared.columns.keys())
    if removed:
        log.info(
            "The model of the table %r lacks the fields %s. Their values stay in the file.", declared.name, removed
        )


def _check_rows(connection: Connection, declared: TableDeclaration) -> None:
    """Check that every row fits the changed model: a choice may be gone, or a text too long now."""
    names = ", ".join(f'"{name}"' for name in ("id", *declared.columns))
    for row in connection.execute(f'SELECT {names} FROM "{declared.sql_name}"'):  # noqa: S608
        try:
            declared.parse_row(row)
        except BadTable as error:
            raise _mismatch(declared, f"has a row {row[0]} that does not fit any more ({error})") from error


def _update_indexes(connection: Connection, declared: TableDeclaration) -> None:
    prefix = f"state_{declared.name}__"
    wanted = {shorten_identifier(prefix + name, connection.dialect): name for name in declared.index}
    existing = {name for name in connection.index_names(declared.sql_name) if name.startswith(prefix[:_PREFIX])}
    for name in existing - wanted.keys():
        connection.execute(f'DROP INDEX "{name}"')
    for name in wanted.keys() - existing:
        column = wanted[name]
        connection.create_index(name, declared.sql_name, column, declared.columns[column].kind)
