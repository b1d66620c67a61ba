"""Columns: how the fields of a model are kept in a table, and read back.

Numbers, texts, truth values, dates and choices are columns of SQLite; everything else (lists, mappings, models in
models) is JSON in a column of text. The model itself says what fits: SQLite is given no rules of its own.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import types
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, TypeAdapter

from ..errors import BadTable

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
