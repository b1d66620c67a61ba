"""Tables: state of an app, declared by models, in SQLite beside the pages.

``posts = app.table(Post)`` is all that an author says. The table is ``state_post`` in the file of the pages; its
columns are the fields of the model, and only the model's own names ever become SQL. What may be written when is the
business of ``transactions``; what happens when a model has changed, that of ``models``.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import sqlite_utils
from pydantic import TypeAdapter, ValidationError

from unwritten_engine.errors import suggestion

from ..core.errors import BadTable
from .database import Database
from .table_schema import Column, TableDeclaration, columns_of, migrate
from .transactions import exclusive, read, write

M = TypeVar("M")


_ARGUMENTS = ("order", "limit", "offset")


class Table(Generic[M]):
    """Rows of one model. Made by ``app.table``.

    Args:
        model: a pydantic model or a dataclass with a field ``id: int | None = None``.
        name: the table's name; None makes it of the model's, ``GuestPost`` to ``guest_post``.
        index: fields that rows are often asked for by.
        first: the rows that a new table begins with.

    Attributes:
        wrote: told the table's name when it was written to outside an action.

    Raises:
        BadTable: if the model cannot be kept, or a name cannot be used.
    """

    def __init__(
        self, model: type[M], name: str | None = None, *, index: Sequence[str] = (), first: Iterable[M] = ()
    ) -> None:
        self.model = model
        self.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", model.__name__).lower() if name is None else name
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,59}", self.name):
            raise BadTable(
                f"A table cannot be named {self.name!r}. Use small letters: app.table({model.__name__}, 'post')."
            )
        self.columns = columns_of(model)
        key = self.columns.pop("id", None)
        if key is None or key.kind != "int" or not key.optional or key.make_default is None:
            raise BadTable(f"The model {model.__name__} of a table needs this field: id: int | None = None")
        taken = sorted({*_ARGUMENTS} & {*self.columns})
        if taken:
            raise BadTable(f"A field of a table cannot be named {taken[0]!r}: select() takes an argument of that name.")
        if isinstance(index, str):
            raise BadTable(f"app.table(index=…) takes a list, but got the string {index!r}.")
        self.index = tuple(self._known(field).name for field in index)
        self._adapter: TypeAdapter[M] = TypeAdapter(model)
        self._first = tuple(first)
        self._database: Database | None = None
        self.on_write: Callable[[str], None] | None = None
        self._names = ", ".join(f'"{field}"' for field in ("id", *self.columns))

    # -- reading ------------------------------------------------------------------------------------------

    def get(self, id: int) -> M | None:
        """The row with this number, or None.

        Raises:
            BadTable, StoreError: in words.
        """
        found = self.select(id=id, limit=1)
        return found[0] if found else None

    def select(self, *, order: str = "id", limit: int | None = None, offset: int = 0, **where: Any) -> list[M]:
        """The rows whose fields equal these values.

        Args:
            order: fields to sort by, with a minus for falling: ``"-id"``, ``"name, -id"``.
            limit: how many at most; None for all.
            offset: how many to leave out at the beginning.
            where: fields and values; None finds what has no value.

        Raises:
            BadTable: for a field that there is not, or a value of the wrong type.
            StoreError: in words.
        """
        condition, values = self._where(where)
        if condition is None:
            return []
        bounds = (-1 if limit is None else int(limit), int(offset))
        sql = f'SELECT {self._names} FROM "{self.table}"{condition} ORDER BY {self._order(order)} LIMIT ? OFFSET ?'  # noqa: S608
        return [self._row(row) for row in self._run(read, sql, (*values, *bounds))]

    def __iter__(self) -> Iterator[M]:
        """All rows, in the order of their numbers: ``for post in posts``."""
        return iter(self.select())

    def count(self, **where: Any) -> int:
        """How many rows have these values in their fields.

        Raises:
            BadTable: for a field that there is not, or a value of the wrong type.
            StoreError: in words.
        """
        condition, values = self._where(where)
        if condition is None:
            return 0
        return int(self._run(read, f'SELECT count(*) FROM "{self.table}"{condition}', values)[0][0])  # noqa: S608

    # -- writing ------------------------------------------------------------------------------------------

    def insert(self, row: M) -> M:
        """Add a row, and return it with its number. A row that brings a number of its own keeps it.

        Raises:
            BadTable: if it does not fit the model, in a page function, or if its number is taken.
            StoreError: nothing was written.
        """
        if not isinstance(row, self.model):
            raise BadTable(f"The table {self.name!r} holds rows of {self.model.__name__}, not {row!r}.")
        added: M = self._run(write, lambda connection: self._insert(connection, row))
        return added

    def update(self, id: int, **changes: Any) -> M:
        """Change fields of a row, and return it.

        Raises:
            BadTable: if there is no such row or field, or a value does not fit the model.
            StoreError: nothing was written.
        """
        for field in changes:
            self._known(field)

        def change(connection: sqlite3.Connection) -> M:
            sql = f'SELECT {self._names} FROM "{self.table}" WHERE id = ?'  # noqa: S608
            found = connection.execute(sql, (id,)).fetchone()
            if found is None:
                raise BadTable(f"The table {self.name!r} has no row {id}, so it cannot be changed.")
            row = self._valid({**self._values(self._row(found)), **changes, "id": id})
            if changes:
                sets = ", ".join(f'"{field}" = ?' for field in changes)
                kept = [self.columns[field].kept(getattr(row, field)) for field in changes]
                self._execute(connection, f'UPDATE "{self.table}" SET {sets} WHERE id = ?', (*kept, id))  # noqa: S608
            return row

        changed: M = self._run(write, change)
        return changed

    def delete(self, id: int) -> bool:
        """Delete a row. Returns whether it was there. Its number is never given to another row.

        Raises:
            BadTable: in a page function.
            StoreError: nothing was written.
        """
        sql = f'DELETE FROM "{self.table}" WHERE id = ?'  # noqa: S608
        return bool(self._run(write, lambda connection: connection.execute(sql, (id,)).rowcount))

    # -- inside -------------------------------------------------------------------------------------------

    @property
    def table(self) -> str:
        """Its name in the file."""
        return f"state_{self.name}"

    def open(self, database: Database, connection: sqlite3.Connection) -> None:
        """Make the table, or bring it up to its model, in a transaction of the caller's.

        Raises:
            BadTable: if the model has changed in a way that the rows do not allow.
        """
        declared = TableDeclaration(self.name, self.table, self.model, self.columns, self.index, self._row)
        if migrate(connection, declared):
            for row in self._first:
                self._insert(connection, row)
        self._database = database

    def close(self) -> None:
        """The database is closed."""
        self._database = None

    def _run(self, how: Callable[..., Any], *what: Any) -> Any:
        if self._database is None:
            raise BadTable(f"The table {self.name!r} is not open yet. In a script, call app.prepare() first.")
        result = how(self._database, self.name, *what)
        if how is write and exclusive() and self.on_write is not None:
            self.on_write(self.name)
        return result

    def _insert(self, connection: sqlite3.Connection, row: M) -> M:
        values = self._values(self._valid(self._values(row)))
        kept = [values["id"], *(column.kept(values[name]) for name, column in self.columns.items())]
        marks = ", ".join("?" * len(kept))
        number = self._execute(connection, f'INSERT INTO "{self.table}" ({self._names}) VALUES ({marks})', kept)  # noqa: S608
        return self._valid({**values, "id": number})

    def _execute(self, connection: sqlite3.Connection, sql: str, values: Sequence[object]) -> int | None:
        try:
            return connection.execute(sql, tuple(values)).lastrowid
        except sqlite3.IntegrityError as error:
            raise BadTable(f"The table {self.name!r} has a row with this number already: {values[0]}.") from error
        except (OverflowError, ValueError) as error:  # a number of more than 64 bits, or half a surrogate pair
            raise BadTable(f"A value cannot be kept in the table {self.name!r}: {error}.") from error

    def _values(self, row: M) -> dict[str, Any]:
        return {name: getattr(row, name) for name in ("id", *self.columns)}

    def _valid(self, values: Mapping[str, Any]) -> M:
        try:
            return self._adapter.validate_python(values, strict=False)
        except ValidationError as error:
            raise BadTable(f"A row of {self.name!r} does not fit {self.model.__name__}: {_why(error)}.") from error

    def _row(self, row: Sequence[object]) -> M:
        columns = zip(self.columns.items(), row[1:], strict=True)
        return self._valid({"id": row[0], **{name: column.found(value) for (name, column), value in columns}})

    def _known(self, field: str) -> Column:
        if field not in self.columns:
            raise BadTable(f"The table {self.name!r} has no field {field!r}.{suggestion(field, self.columns)}")
        return self.columns[field]

    def _where(self, where: Mapping[str, Any]) -> tuple[str | None, list[object]]:
        """A condition with its values; None if no row can fit."""
        parts: list[str] = []
        values: list[object] = []
        for field, value in where.items():
            if field != "id":
                self._known(field)
            if value is None:
                parts.append(f'"{field}" IS NULL')
                continue
            try:
                kept = int(value) if field == "id" else self.columns[field].sought(value)
            except (TypeError, ValueError, ValidationError) as error:
                if isinstance(error, ValidationError) and not _is_of_type(error):
                    return None, []  # too long, say: a text of a visitor's that no row can have
                raise BadTable(
                    f"No {field!r} in the table {self.name!r} can be {value!r}: it is of another type."
                ) from error
            if isinstance(kept, int) and abs(kept) >= 2**63:
                return None, []
            parts.append(f'"{field}" = ?')
            values.append(kept)
        return (" WHERE " + " AND ".join(parts) if parts else ""), values

    def _order(self, order: str) -> str:
        parts = []
        for part in order.split(","):
            field = part.strip().removeprefix("-")
            if field != "id":
                self._known(field)
            parts.append(f'"{field}" DESC' if part.strip().startswith("-") else f'"{field}"')
        return ", ".join(parts)


class Tables:
    """All tables of an app."""

    def __init__(self) -> None:
        self._by_name: dict[str, Table[Any]] = {}
        self._observer: Callable[[str], None] | None = None

    def add(self, table: Table[M]) -> Table[M]:
        """One more.

        Raises:
            BadTable: if its name is taken.
        """
        if table.name in self._by_name:
            raise BadTable(
                f"There is a table {table.name!r} already. Give this one another name: "
                f"app.table({table.model.__name__}, name='…')."
            )
        self._by_name[table.name] = table
        return table

    def open(self, database: Database) -> None:
        """Make the tables, or bring them up to their models: all of them, or none.

        Raises:
            BadTable: if a model has changed in a way that the rows do not allow; it says what to do.
            StoreError: in words.
        """
        if not self._by_name:
            return

        def work(opened: sqlite_utils.Database) -> None:
            for table in self._by_name.values():
                table.open(database, opened.conn)

        try:
            database.write_now(work)
        except BaseException:
            self.close()
            raise

    def observe(self, observer: Callable[[str], None]) -> None:
        """Call ``observer`` with the name of a table that was written to outside an action, from any thread."""
        self._observer = observer
        for table in self._by_name.values():
            table.on_write = observer

    def notify(self, table: str) -> None:
        """Tell the observer that a table was written to."""
        if self._observer is not None:
            self._observer(table)

    def close(self) -> None:
        """The database is closed."""
        for table in self._by_name.values():
            table.close()


def _is_of_type(error: ValidationError) -> bool:
    return any(str(entry["type"]).endswith(("_type", "_parsing", "_attributes")) for entry in error.errors())


def _why(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, entry['loc']))}: {str(entry['msg']).lower()}" for entry in error.errors()[:3])
