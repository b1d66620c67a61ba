"""Tables: an app's own state, declared by models and stored in the database of the pages.

``posts = app.table(Post)`` is all that an author writes. The table is called ``state_post`` in the database, and its
columns are the fields of the model; only names from the model become SQL. See ``transactions`` for what may be written
when, and ``table_schema`` for what happens when a model changes.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from unwritten_engine.errors import suggestion

from ..core.errors import BadTable, StoreFull
from .database import ALL_ROWS, Connection, Database, shorten_identifier
from .table_schema import Column, TableDeclaration, is_current, migrate_table, model_columns
from .transactions import is_autocommit, read_rows, write_rows
from .uploads import delete_unreferenced, upload_keys

M = TypeVar("M")

_ARGUMENTS = ("order", "limit", "offset")
"""Arguments of ``Table.select``, which no field can be called."""


class Table(Generic[M]):
    """The rows of one model. ``app.table`` creates it.

    Args:
        model: A pydantic model or a dataclass with a field ``id: int | None = None``.
        name: The table's name. None: derived from the model's name, ``guest_post`` for ``GuestPost``.
        index: Fields by which rows are often selected.
        initial: The rows of a new table.

    Raises:
        BadTable: If the model cannot be stored, or a name is not allowed.
    """

    def __init__(
        self, model: type[M], name: str | None = None, *, index: Sequence[str] = (), initial: Iterable[M] = ()
    ) -> None:
        self.model = model
        self.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", model.__name__).lower() if name is None else name
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,59}", self.name):
            raise BadTable(
                f"A table cannot be called {self.name!r}. Use lower-case letters, digits and underscores: "
                f"app.table({model.__name__}, 'post')."
            )
        self.columns = model_columns(model)
        key = self.columns.pop("id", None)
        if key is None or key.kind != "int" or not key.optional or key.default_factory is None:
            raise BadTable(f"The model {model.__name__} of a table needs this field: id: int | None = None")
        taken = sorted({*_ARGUMENTS} & {*self.columns})
        if taken:
            raise BadTable(
                f"A field of a table cannot be called {taken[0]!r}: select() takes an argument of that name."
            )
        if isinstance(index, str):
            raise BadTable(f"app.table(index=…) takes a list, but got the string {index!r}.")
        self.index = tuple(self._column(field).name for field in index)
        self._adapter: TypeAdapter[M] = TypeAdapter(model)
        self._initial = tuple(initial)
        self._sql_name = f"state_{self.name}"
        self._sql_columns = ", ".join(f'"{field}"' for field in ("id", *self.columns))
        self._database: Database | None = None
        self._observer: Callable[[str], None] | None = None

    # -- reading ------------------------------------------------------------------------------------------

    def get(self, id: int) -> M | None:
        """Return the row with this id, or None.

        Raises:
            BadTable, StoreError: If the table cannot be read.
        """
        found = self.select(id=id, limit=1)
        return found[0] if found else None

    def select(self, *, order: str = "id", limit: int | None = None, offset: int = 0, **where: Any) -> list[M]:
        """Return the rows whose fields have these values.

        Args:
            order: Fields to sort by, separated by commas. A minus sorts in descending order: ``"name, -id"``.
            limit: The largest number of rows. None: all.
            offset: How many rows to skip.
            where: Fields and values. None selects rows without a value.

        Raises:
            BadTable: For an unknown field, or a value of the wrong type.
            StoreError: If the table cannot be read.
        """
        condition, values = self._where(where)
        if condition is None:
            return []
        bounds = (ALL_ROWS if limit is None or limit < 0 else int(limit), int(offset))
        sql = (
            f'SELECT {self._sql_columns} FROM "{self._sql_name}"{condition} '  # noqa: S608
            f"ORDER BY {self._order(order)} LIMIT ? OFFSET ?"
        )
        return [self._parse_row(row) for row in self._run(read_rows, sql, (*values, *bounds))]

    def __iter__(self) -> Iterator[M]:
        """Iterate over all rows, ordered by id: ``for post in posts``."""
        return iter(self.select())

    def count(self, **where: Any) -> int:
        """Return how many rows have these values in their fields.

        Raises:
            BadTable: For an unknown field, or a value of the wrong type.
            StoreError: If the table cannot be read.
        """
        condition, values = self._where(where)
        if condition is None:
            return 0
        return int(self._run(read_rows, f'SELECT count(*) FROM "{self._sql_name}"{condition}', values)[0][0])  # noqa: S608

    # -- writing ------------------------------------------------------------------------------------------

    def insert(self, row: M) -> M:
        """Add a row, and return it with its id. If the row has an id already, it is used.

        Raises:
            BadTable: If the row does not fit the model or its id is taken, or in a page function.
            StoreError: Nothing was written.
        """
        if not isinstance(row, self.model):
            raise BadTable(f"The table {self.name!r} holds rows of {self.model.__name__}, not {row!r}.")
        added: M = self._run(write_rows, lambda connection: self._insert(connection, row))
        return added

    def update(self, id: int, **changes: Any) -> M:
        """Change fields of a row, and return it.

        Raises:
            BadTable: If there is no such row or field, if a value does not fit the model, or in a page function.
            StoreError: Nothing was written.
        """
        for field in changes:
            self._column(field)

        def change(connection: Connection) -> M:
            sql = f'SELECT {self._sql_columns} FROM "{self._sql_name}" WHERE id = ?'  # noqa: S608
            found = connection.execute(sql, (id,)).fetchone()
            if found is None:
                raise BadTable(f"The table {self.name!r} has no row {id}, so it cannot be changed.")
            row = self._validate({**self._values(self._parse_row(found)), **changes, "id": id})
            if changes:
                files = upload_keys(found)
                sets = ", ".join(f'"{field}" = ?' for field in changes)
                values = [self._to_sql(field, getattr(row, field)) for field in changes]
                with self._described_errors():
                    connection.execute(f'UPDATE "{self._sql_name}" SET {sets} WHERE id = ?', (*values, id))  # noqa: S608
                delete_unreferenced(connection, files)
            return row

        changed: M = self._run(write_rows, change)
        return changed

    def delete(self, id: int) -> bool:
        """Delete a row. Return False if there was none. Its id is never used again.

        Raises:
            BadTable: In a page function.
            StoreError: Nothing was written.
        """

        def remove(connection: Connection) -> bool:
            sql = f'DELETE FROM "{self._sql_name}" WHERE id = ? RETURNING {self._sql_columns}'  # noqa: S608
            rows = connection.execute(sql, (id,)).fetchall()
            for row in rows:
                delete_unreferenced(connection, upload_keys(row))
            return bool(rows)

        removed: bool = self._run(write_rows, remove)
        return removed

    # -- for Tables ---------------------------------------------------------------------------------------

    def open(self, database: Database, connection: Connection) -> None:
        """Create the table, or change it to fit its model.

        Args:
            database: The database.
            connection: A connection to it, in a transaction.

        Raises:
            BadTable: If the existing rows do not fit the model.
        """
        self._sql_name = shorten_identifier(f"state_{self.name}", connection.dialect)
        if migrate_table(connection, self._declaration()):
            for row in self._initial:
                self._insert(connection, row)
        self._database = database

    def attach(self, database: Database) -> bool:
        """Use the table as it is. Return False if it does not fit the model."""
        self._sql_name = shorten_identifier(f"state_{self.name}", database.dialect)
        self._database = database
        return is_current(database, self._declaration())

    def _declaration(self) -> TableDeclaration:
        return TableDeclaration(self.name, self._sql_name, self.model, self.columns, self.index, self._parse_row)

    def close(self) -> None:
        """Forget the database, which is being closed."""
        self._database = None

    def observe(self, observer: Callable[[str], None]) -> None:
        """Call ``observer`` with the table's name after each write outside an action."""
        self._observer = observer

    # -- internals ----------------------------------------------------------------------------------------

    def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if self._database is None:
            raise BadTable(f"The table {self.name!r} is not open yet. In a script, call app.prepare() first.")
        result = function(self._database, self.name, *arguments)
        if function is write_rows and self._observer is not None and is_autocommit():
            self._observer(self.name)
        return result

    def _insert(self, connection: Connection, row: M) -> M:
        fields = self._values(self._validate(self._values(row)))
        columns = {name: self._to_sql(name, fields[name]) for name in self.columns}
        if fields["id"] is not None:
            columns["id"] = self._check_size(fields["id"])
        names = ", ".join(f'"{name}"' for name in columns)
        # No error in the database: PostgreSQL would refuse the rest of the transaction.
        values = f"({names}) VALUES ({', '.join('?' * len(columns))}) ON CONFLICT DO NOTHING"
        sql = f'INSERT INTO "{self._sql_name}" {values if columns else "DEFAULT VALUES"} RETURNING id'
        with self._described_errors():
            rows = connection.execute(sql, tuple(columns.values())).fetchall()
        if not rows:
            raise BadTable(f"The table {self.name!r} has a row {fields['id']} already.")
        if fields["id"] is not None:
            connection.reserve_id(self._sql_name, fields["id"])
        return self._validate({**fields, "id": rows[0][0]})

    def _to_sql(self, field: str, value: object) -> object:
        return self._check_size(self.columns[field].to_sql(value))

    def _check_size(self, value: object) -> object:
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise BadTable(f"A value cannot be stored in the table {self.name!r}: {value} has more than 64 bits.")
        return value

    @contextlib.contextmanager
    def _described_errors(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:  # half a surrogate pair
            raise BadTable(f"A value cannot be stored in the table {self.name!r}: {error}.") from error

    def _values(self, row: M) -> dict[str, Any]:
        return {name: getattr(row, name) for name in ("id", *self.columns)}

    def _validate(self, values: Mapping[str, Any]) -> M:
        try:
            return self._adapter.validate_python(values, strict=False)
        except ValidationError as error:
            raise BadTable(f"A row of {self.name!r} does not fit {self.model.__name__}: {_why(error)}.") from error

    def _parse_row(self, row: Sequence[object]) -> M:
        columns = zip(self.columns.items(), row[1:], strict=True)
        return self._validate({"id": row[0], **{name: column.from_sql(value) for (name, column), value in columns}})

    def _column(self, field: str) -> Column:
        if field not in self.columns:
            raise BadTable(f"The table {self.name!r} has no field {field!r}.{suggestion(field, self.columns)}")
        return self.columns[field]

    def _where(self, where: Mapping[str, Any]) -> tuple[str | None, list[object]]:
        """Return a condition and its values. The condition is None if no row can fit."""
        parts: list[str] = []
        values: list[object] = []
        for field, value in where.items():
            if field != "id":
                self._column(field)
            if value is None:
                parts.append(f'"{field}" IS NULL')
                continue
            try:
                sql_value = int(value) if field == "id" else self.columns[field].filter_to_sql(value)
            except (TypeError, ValueError, ValidationError) as error:
                if isinstance(error, ValidationError) and not _is_type_error(error):
                    return None, []  # too long, for example: text from a visitor that no row can have
                raise BadTable(
                    f"{field!r} of the table {self.name!r} cannot be {value!r}: the value has another type."
                ) from error
            if isinstance(sql_value, int) and abs(sql_value) >= 2**63:
                return None, []
            parts.append(f'"{field}" = ?')
            values.append(sql_value)
        return (" WHERE " + " AND ".join(parts) if parts else ""), values

    def _order(self, order: str) -> str:
        parts = []
        for part in order.split(","):
            field = part.strip().removeprefix("-")
            if field != "id":
                self._column(field)
            parts.append(f'"{field}" DESC NULLS LAST' if part.strip().startswith("-") else f'"{field}" NULLS FIRST')
        return ", ".join(parts)


class Tables:
    """All tables of an app."""

    def __init__(self) -> None:
        self._by_name: dict[str, Table[Any]] = {}
        self._observer: Callable[[str], None] | None = None

    def __iter__(self) -> Iterator[Table[Any]]:
        return iter(self._by_name.values())

    def add(self, table: Table[M]) -> Table[M]:
        """Add a table, and return it. Adding it again does nothing.

        Raises:
            BadTable: If another one has its name.
        """
        if self._by_name.get(table.name, table) is not table:
            raise BadTable(
                f"There is a table {table.name!r} already. Give this one another name: "
                f"app.table({table.model.__name__}, name='…')."
            )
        self._by_name[table.name] = table
        return table

    def open(self, database: Database) -> None:
        """Create the tables, or change them to fit their models: all of them or none.

        Raises:
            BadTable: If existing rows do not fit a model. The message says what to do.
            StoreError: If the database cannot be written.
        """
        if not self._by_name:
            return

        def work(connection: Connection) -> None:
            for table in self._by_name.values():
                table.open(database, connection)

        try:
            if database.read_only:
                self._attach(database)
                return
            try:
                database.write_sync(work)
            except StoreFull:
                self._attach(database)
        except BaseException:
            self.close()
            raise

    def _attach(self, database: Database) -> None:
        """Use the tables as they are.

        Raises:
            BadTable: If one of them does not fit its model.
        """
        for table in self._by_name.values():
            if not table.attach(database):
                raise BadTable(
                    f"The table {table.name!r} does not exist yet, or its model has changed. Start the app once "
                    "without --read-only, with free space on the disk."
                )

    def observe(self, observer: Callable[[str], None]) -> None:
        """Call ``observer`` with the table's name after each write outside an action, from any thread."""
        self._observer = observer
        for table in self._by_name.values():
            table.observe(observer)

    def notify(self, table: str) -> None:
        """Tell the observer that a table was written to."""
        if self._observer is not None:
            self._observer(table)

    def close(self) -> None:
        """Forget the database, which is being closed."""
        for table in self._by_name.values():
            table.close()


def _is_type_error(error: ValidationError) -> bool:
    return any(str(entry["type"]).endswith(("_type", "_parsing", "_attributes")) for entry in error.errors())


def _why(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, entry['loc']))}: {str(entry['msg']).lower()}" for entry in error.errors()[:3])
