"""Entries: what people do with the items of a list. Each is one step, which can be taken back."""

from datetime import date

from .records import app, items, ledger, mine, say, short, the
from .sheets import Entry, Item


@app.action("/list/{name}/add")
def add(name: str, entry: Entry) -> None:
    found = the(name)
    values, wrong = entry.read(found.columns, {}, date.today())
    place = max((item.place for item in mine(found)), default=0) + 1
    with ledger.step(found.number, f"added “{short(entry.what)}”") as pen:
        pen.insert("items", Item(sheet=found.number, what=entry.what.strip(), values=values, place=place))
    say(found, f"Added “{short(entry.what)}”.", *wrong)


@app.action("/list/{name}/tick/{item}")
def tick(name: str, item: int) -> None:
    found, thing = the(name), items.get(item)
    if thing is not None and thing.sheet == found.number:
        words = f"{'not done' if thing.done else 'done'}: “{short(thing.what)}”"
        with ledger.step(found.number, words) as pen:
            pen.update("items", item, done=not thing.done)
        say(found, f"{words[:1].upper()}{words[1:]}.")


@app.action("/list/{name}/edit/{item}")
def edit(name: str, item: int, entry: Entry) -> None:
    found, thing = the(name), items.get(item)
    if thing is None or thing.sheet != found.number:
        return say(found, "That item is gone: somebody has deleted it.")
    values, wrong = entry.read(found.columns, thing.values, date.today())
    words = {"save": "changed", "delete": "deleted", "up": "moved up", "down": "moved down"}[entry.way]
    with ledger.step(found.number, f"{words} “{short(thing.what)}”") as pen:
        if entry.way == "save":
            pen.update("items", item, what=entry.what.strip() or thing.what, values=values)
        elif entry.way == "delete":
            pen.delete("items", item)
        else:
            order = mine(found)
            at = [other.number for other in order].index(item)
            other = order[max(0, min(len(order) - 1, at + (1 if entry.way == "down" else -1)))]
            pen.update("items", item, place=other.place)
            pen.update("items", other.number, place=thing.place)
    say(found, f"{words[:1].upper()}{words[1:]} “{short(thing.what)}”.", *wrong)


@app.action("/list/{name}/undo")
def undo(name: str) -> None:
    found = the(name)
    words = ledger.undo(found.number)
    say(found, f"Taken back: {words}." if words else "There is nothing to take back.")


@app.action("/list/{name}/redo")
def redo(name: str) -> None:
    found = the(name)
    words = ledger.redo(found.number)
    say(found, f"Done again: {words}." if words else "There is nothing to do again.")
