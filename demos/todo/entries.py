"""Actions on the items of a list. Each one is a step that can be undone."""

from datetime import date

from .records import app, get_or_create, items, items_of_list, ledger, say, shorten
from .sheets import Entry, Item


@app.action("/list/{name}/add")
def add(name: str, entry: Entry) -> None:
    found = get_or_create(name)
    values, wrong = entry.read(found.columns, {}, date.today())
    place = max((item.place for item in items_of_list(found)), default=0) + 1
    with ledger.step(found.number, f"added “{shorten(entry.what)}”") as changes:
        changes.insert("items", Item(sheet=found.number, what=entry.what.strip(), values=values, place=place))
    say(found, f"Added “{shorten(entry.what)}”.", *wrong)


@app.action("/list/{name}/tick/{item}")
def tick(name: str, item: int) -> None:
    found, thing = get_or_create(name), items.get(item)
    if thing is not None and thing.sheet == found.number:
        words = f"{'not done' if thing.done else 'done'}: “{shorten(thing.what)}”"
        with ledger.step(found.number, words) as changes:
            changes.update("items", item, done=not thing.done)
        say(found, f"{words[:1].upper()}{words[1:]}.")


@app.action("/list/{name}/edit/{item}")
def edit(name: str, item: int, entry: Entry) -> None:
    found, thing = get_or_create(name), items.get(item)
    if thing is None or thing.sheet != found.number:
        return say(found, "This item was deleted.")
    values, wrong = entry.read(found.columns, thing.values, date.today())
    words = {"save": "changed", "delete": "deleted", "up": "moved up", "down": "moved down"}[entry.way]
    with ledger.step(found.number, f"{words} “{shorten(thing.what)}”") as changes:
        if entry.way == "save":
            changes.update("items", item, what=entry.what.strip() or thing.what, values=values)
        elif entry.way == "delete":
            changes.delete("items", item)
        else:
            order = items_of_list(found)
            at = [other.number for other in order].index(item)
            other = order[max(0, min(len(order) - 1, at + (1 if entry.way == "down" else -1)))]
            changes.update("items", item, place=other.place)
            changes.update("items", other.number, place=thing.place)
    say(found, f"{words[:1].upper()}{words[1:]} “{shorten(thing.what)}”.", *wrong)


@app.action("/list/{name}/undo")
def undo(name: str) -> None:
    found = get_or_create(name)
    words = ledger.undo(found.number)
    say(found, f"Undone: {words}." if words else "Nothing to undo.")


@app.action("/list/{name}/redo")
def redo(name: str) -> None:
    found = get_or_create(name)
    words = ledger.redo(found.number)
    say(found, f"Redone: {words}." if words else "Nothing to redo.")
