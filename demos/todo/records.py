"""Records: the app, its tables, and what is found in them."""

from unwritten import App

from .sheets import Item, Sheet
from .undo import Ledger, Step

app = App("Say a List", folder=__file__, world="Every text is a list for people who have things to do.")

lists = app.table(Sheet, index=["name"])
items = app.table(Item, index=["sheet"])
steps = app.table(Step, index=["sheet"])
ledger = Ledger(steps, lists=lists, items=items)


def find(name: str, *, gone: bool = False) -> Sheet | None:
    found = lists.select(name=name.casefold(), limit=1)
    return found[0] if found and (gone or not found[0].gone) else None


def the(name: str) -> Sheet:
    found = find(name, gone=True)
    return found or lists.insert(Sheet(name=name.casefold(), wish=name))


def mine(found: Sheet) -> list[Item]:
    return items.select(sheet=found.number, order="place, id")


def numbered(found: Sheet) -> dict[str, int]:
    return {"number": found.asked["number"]} if "number" in found.asked else {}


def say(found: Sheet, *words: str) -> None:
    lists.update(found.number, said=" ".join(words))


def short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"
