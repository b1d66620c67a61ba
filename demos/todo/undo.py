"""Undo and redo: every step is stored as the rows it changed, before and after."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel

MAX_STEPS = 200
"""Steps that are stored for each list."""


class Step(BaseModel):
    """One change of a list.

    Attributes:
        words: A description for people.
        rows: Table, id, and the fields before and after. None before an insert and after a delete.
        undone: True if it was undone and can be redone.
    """

    id: int | None = None
    sheet: int
    words: str
    rows: list[tuple[str, int, dict[str, Any] | None, dict[str, Any] | None]] = []
    undone: bool = False


class Recorder:
    """Changes rows and records their previous values."""

    def __init__(self, tables: dict[str, Any]) -> None:
        self.rows: list[tuple[str, int, dict[str, Any] | None, dict[str, Any] | None]] = []
        self._tables = tables

    def insert(self, table: str, row: Any) -> Any:
        """Insert a row."""
        added = self._tables[table].insert(row)
        self.rows.append((table, added.id, None, added.model_dump(mode="json")))
        return added

    def update(self, table: str, id: int, **changes: Any) -> None:
        """Update fields of a row."""
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
    """The history of all lists.

    Args:
        steps: The table of steps.
        tables: The tables that steps change, by name.
    """

    def __init__(self, steps: Any, **tables: Any) -> None:
        self._steps = steps
        self._tables = tables

    @contextmanager
    def step(self, sheet: int, words: str) -> Iterator[Recorder]:
        """Record changes as one step. Steps that were undone before can no longer be redone."""
        recorder = Recorder(self._tables)
        yield recorder
        if recorder.rows:
            for undone in self._steps.select(sheet=sheet, undone=True):
                self._steps.delete(undone.id)
            self._steps.insert(Step(sheet=sheet, words=words, rows=recorder.rows))
            for old in self._steps.select(sheet=sheet, order="-id", offset=MAX_STEPS):
                self._steps.delete(old.id)

    def last(self, sheet: int) -> Step | None:
        """Return the step that undo would revert, or None."""
        found = self._steps.select(sheet=sheet, undone=False, order="-id", limit=1)
        return found[0] if found else None

    def next(self, sheet: int) -> Step | None:
        """Return the step that redo would repeat, or None."""
        found = self._steps.select(sheet=sheet, undone=True, limit=1)
        return found[0] if found else None

    def undo(self, sheet: int) -> str:
        """Undo the last step. Return its description, or "" if there is none."""
        step = self.last(sheet)
        if step is None:
            return ""
        for table, id, before, _ in reversed(step.rows):
            self._put(table, id, before)
        self._steps.update(step.id, undone=True)
        return step.words

    def redo(self, sheet: int) -> str:
        """Redo the step that was undone last. Return its description, or "" if there is none."""
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
