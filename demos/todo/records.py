"""The app, its tables, and functions to find rows."""

from unwritten import App

from .sheets import Item, Sheet
from .undo import Ledger, Step

app = App("Say a List", folder=__file__, world="Every text is a list for people who have things to do.")

lists = app.table(Sheet, index=["name"])
items = app.table(Item, index=["sheet"])
steps = app.table(Step, index=["sheet"])
ledger = Ledger(steps, lists=lists, items=items)


def find(name: str, *, gone: bool = False) -> Sheet | None:
    """Return the list with this name; with ``gone``, also if it was deleted."""
    found = lists.select(name=name.casefold(), limit=1)
    return found[0] if found and (gone or not found[0].gone) else None


def get_or_create(name: str) -> Sheet:
    """Return the list with this name, which is created if it does not exist."""
    found = find(name, gone=True)
    return found or lists.insert(Sheet(name=name.casefold(), wish=name))


def items_of_list(found: Sheet) -> list[Item]:
    """Return the items of a list in their order."""
    return items.select(sheet=found.number, order="place, id")


def pending_number(found: Sheet) -> dict[str, int]:
    """Return the part of ``pending`` that stays when a question is answered: the number of the last new field."""
    return {"number": found.pending["number"]} if "number" in found.pending else {}


def say(found: Sheet, *words: str) -> None:
    """Set the message that the list shows."""
    lists.update(found.number, message=" ".join(words))


def shorten(text: str) -> str:
    """Return a text of at most 40 characters."""
    return text if len(text) <= 40 else f"{text[:39]}…"
