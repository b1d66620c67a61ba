"""Undo: every change is kept as the rows it touched, before and after, so that it can be taken back and made again."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel

KEPT = 200
"""Steps that are kept of each list."""


class Step(BaseModel):
    """One change of a list.

    Attributes:
        words: what was done, for people.
        rows: table, number, and the fields before and after; None where there was no row, or is none.
        undone: whether it was taken back, and can be made again.
    """

    id: int | None = None
    sheet: int
    words: str
    rows: list[tuple[str, int, dict[str, Any] | None, dict[str, Any] | None]] = []
    undone: bool = False


class Pen:
    """Changes rows, and notes what they were."""

    def __init__(self, tables: dict[str, Any]) -> None:
        self.rows: list[tuple[str, int, dict[str, Any] | None, dict[str, Any] | None]] = []
        self._tables = tables

    def insert(self, table: str, row: Any) -> Any:
        """Add a row."""
        added = self._tables[table].insert(row)
        self.rows.append((table, added.id, None, added.model_dump(mode="json")))
        return added

    def update(self, table: str, id: int, **changes: Any) -> None:
        """Change fields of a row."""
        before = self._tables[table].get(id)
        after = self._tables[table].update(id, **changes)
        old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
        changed = [name for name in changes if old[name] != new[name]]
        if changed:
            self.rows.append((table, id, {name: old[name] for name in changed}, {name: new[name] for name in changed}))

    def delete(self, table: str, id: int) -> None:
        """Delete a row."""
        before = self._tables[table].get(id)
        if before is not None:
            self._tables[table].delete(id)
            self.rows.append((table, id, before.model_dump(mode="json"), None))


class Ledger:
    """The steps of all lists.

    Args:
        steps: the table of steps.
        tables: the tables that are changed, by name.
    """

    def __init__(self, steps: Any, **tables: Any) -> None:
        self._steps = steps
        self._tables = tables

    @contextmanager
    def step(self, sheet: int, words: str) -> Iterator[Pen]:
        """Do something that can be undone. What was undone before can then not be made again."""
        pen = Pen(self._tables)
        yield pen
        if pen.rows:
            for undone in self._steps.select(sheet=sheet, undone=True):
                self._steps.delete(undone.id)
            self._steps.insert(Step(sheet=sheet, words=words, rows=pen.rows))
            for old in self._steps.select(sheet=sheet, order="-id", offset=KEPT):
                self._steps.delete(old.id)

    def last(self, sheet: int) -> Step | None:
        """What would be undone now."""
        found = self._steps.select(sheet=sheet, undone=False, order="-id", limit=1)
        return found[0] if found else None

    def next(self, sheet: int) -> Step | None:
        """What would be made again now."""
        found = self._steps.select(sheet=sheet, undone=True, limit=1)
        return found[0] if found else None

    def undo(self, sheet: int) -> str:
        """Take the last step back. Returns what that was, or nothing."""
        step = self.last(sheet)
        if step is None:
            return ""
        for table, id, before, _ in reversed(step.rows):
            self._put(table, id, before)
        self._steps.update(step.id, undone=True)
        return step.words

    def redo(self, sheet: int) -> str:
        """Make the step again that was undone last. Returns what that is, or nothing."""
        step = self.next(sheet)
        if step is None:
            return ""
        for table, id, _, after in step.rows:
            self._put(table, id, after)
        self._steps.update(step.id, undone=False)
        return step.words

    def _put(self, name: str, id: int, values: dict[str, Any] | None) -> None:
        table = self._tables[name]
        if values is None:
            table.delete(id)
        elif table.get(id) is None:
            table.insert(table.model(**values))
        else:
            table.update(
                id,
                **table.model.model_validate({**table.get(id).model_dump(), **values}).model_dump(include=set(values)),
            )
