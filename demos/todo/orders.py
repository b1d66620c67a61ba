"""Commands that change a list, such as "add a priority". Changes that would lose data are confirmed first."""

import re
from datetime import date
from typing import Annotated

from pydantic import Field

from . import changes, wishes
from .changes import Change
from .fields import Column
from .records import app, get_or_create, items_of_list, ledger, lists, pending_number, say
from .sheets import Sheet


@app.action("/list/{name}/change")
def change(name: str, order: Annotated[str, Field(min_length=2, max_length=2000)]) -> None:
    found = get_or_create(name)
    planned = plan(found, order)
    if planned.problem:
        say(found, planned.problem)
    elif planned.asks:
        number = found.pending.get("number", 0) + 1
        lists.update(
            found.number,
            pending={"column": planned.asks, "number": number},
            message=f"Choosing values for {planned.asks} …",
        )
    elif planned.losses:
        lists.update(
            found.number, pending={**pending_number(found), "order": order, "losses": planned.losses}, message=""
        )
    else:
        apply(found, planned)


@app.action("/list/{name}/decide")
def decide(name: str, answer: str) -> None:
    """Apply or discard a change that would lose data."""
    found = get_or_create(name)
    if "order" in found.pending and answer == "yes":
        apply(found, plan(found, found.pending["order"]))
    else:
        lists.update(found.number, pending=pending_number(found), message="Nothing was changed.")


def plan(found: Sheet, order: str) -> Change:
    """Return what a command would change."""
    language = wishes.read(found.wish).language
    return changes.plan(
        order, found.columns, [(i.number, i.values) for i in items_of_list(found)], language, date.today()
    )


def add_column(found: Sheet, label: str, choices: list[str]) -> None:
    """Add a field with choices that the model wrote. Choices that are not words are dropped."""
    change = Change(list(found.columns))
    words = [choice.strip() for choice in dict.fromkeys(choices) if re.fullmatch(r"[\w][\w '’/-]*", choice.strip())]
    changes.add(change, Column(id="", label=label, kind="choice" if words else "text", choices=words))
    apply(found, change)


def apply(found: Sheet, change: Change) -> None:
    """Apply a change as one step that can be undone."""
    words = ", ".join(f"{verb} {what}" for verb, what in change.news)
    with ledger.step(found.number, words) as changed:
        title, view = change.title or found.title, change.view or found.view
        changed.update("lists", found.number, columns=change.columns, title=title, view=view)
        for id, values in change.values.items():
            changed.update("items", id, values=values)
    lists.update(
        found.number,
        pending=pending_number(found),
        message=f"{words[:1].upper()}{words[1:]}." if words else "Nothing was changed.",
    )
