"""Orders: a list is changed by saying so. What would be lost is asked about first."""

import re
from datetime import date
from typing import Annotated

from pydantic import Field

from . import changes, wishes
from .changes import Change
from .fields import Column
from .records import app, ledger, lists, mine, numbered, say, the
from .sheets import Sheet


@app.action("/list/{name}/change")
def change(name: str, order: Annotated[str, Field(min_length=2, max_length=2000)]) -> None:
    found = the(name)
    planned = plan(found, order)
    if planned.problem:
        say(found, planned.problem)
    elif planned.asks:
        number = found.asked.get("number", 0) + 1
        lists.update(
            found.number,
            asked={"column": planned.asks, "number": number},
            said=f"Choices for {planned.asks} are being written.",
        )
    elif planned.losses:
        lists.update(found.number, asked={**numbered(found), "order": order, "losses": planned.losses}, said="")
    else:
        apply(found, planned)


@app.action("/list/{name}/decide")
def decide(name: str, answer: str) -> None:
    """What would be lost was asked about first; this is the answer."""
    found = the(name)
    if "order" in found.asked and answer == "yes":
        apply(found, plan(found, found.asked["order"]))
    else:
        lists.update(found.number, asked=numbered(found), said="Nothing was changed.")


def plan(found: Sheet, order: str) -> Change:
    language = wishes.read(found.wish).language
    return changes.plan(order, found.columns, [(i.number, i.values) for i in mine(found)], language, date.today())


def add_column(found: Sheet, label: str, choices: list[str]) -> None:
    """Add a field for which the model has written choices. Some of them may be no words."""
    change = Change(list(found.columns))
    words = [choice.strip() for choice in dict.fromkeys(choices) if re.fullmatch(r"[\w][\w '’/-]*", choice.strip())]
    changes.add(change, Column(id="", label=label, kind="choice" if words else "text", choices=words))
    apply(found, change)


def apply(found: Sheet, change: Change) -> None:
    """Carry a change out as one step, which can be taken back whole."""
    words = ", ".join(f"{verb} {what}" for verb, what in change.news)
    with ledger.step(found.number, words) as pen:
        title, view = change.title or found.title, change.view or found.view
        pen.update("lists", found.number, columns=change.columns, title=title, view=view)
        for id, values in change.values.items():
            pen.update("items", id, values=values)
    lists.update(
        found.number,
        asked=numbered(found),
        said=f"{words[:1].upper()}{words[1:]}." if words else "Nothing was changed.",
    )
