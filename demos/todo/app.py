"""Lists built by voice: say what you want, and it becomes a working list.

    unwritten demo todo

A wish ("a list for the garden with due dates, and who does it") becomes a page whose one canvas has a shape: a name,
items, and a purpose. While it is written it is shown in the look of what it will be. As soon as it is written
(`@app.written`) its items are put into a table, and the page goes on as an ordinary app: actions, tables, no model.
wishes.py reads the sentence, specs.py has the shape, entries.py has what is done with items, orders.py changes the list
by saying so, undo.py takes anything back.
"""

from datetime import date
from typing import Annotated, Any

from pydantic import Field
from starlette.responses import PlainTextResponse, Response

from unwritten import Canvas, Page, Redraw

from . import entries, orders, sheets, specs, wishes
from .records import app, find, items, ledger, lists, mine, the
from .sheets import Item, Sheet

__all__ = ["app", "entries", "orders"]


@app.page("/")
def front() -> Page:
    known = [
        (sheet, items.count(sheet=sheet.number, done=False))
        for sheet in lists.select(gone=False, order="-id", limit=60)
    ]
    gone = lists.select(gone=True, order="-id", limit=3)
    return Page("front.html", title=app.name, known={"lists": known, "gone": gone})


@app.page("/list/{name}", canonical=str.casefold)
def sheet(name: str, show: str = "", sort: str = "", only: str = "") -> Page:
    """A list: while it is not made, the canvas that makes it. An address that nobody has asked for is a wish, too."""
    found = find(name, gone=True)
    wish = wishes.read(found.wish if found else name)
    if found is None or not found.made:
        shown, instruct = sheets.View(found or Sheet(name=name, wish=name)), app.engine.about.abilities.instruct
        return Page(
            "list.html",
            title=wish.topic,
            wish=wish,
            sheet=shown,
            items_of=so_far,
            spec=specs.canvas(wish, instruct=instruct),
        )
    shown = sheets.view(found, mine(found), date.today(), show, sort, only)
    last, following = ledger.last(found.number), ledger.next(found.number)
    shown.undo, shown.redo = last.words if last else "", following.words if following else ""
    shown.fresh = last is None and following is None
    asked = found.asked
    columns = {asked["number"]: specs.column(asked["column"], found.title)} if "column" in asked else {}
    return Page("list.html", title=found.title, wish=wish, sheet=shown, column=columns)


@app.page("/list/{name}/freeform")
def freeform(name: str) -> Page | Response:
    found = find(name)
    if found is None or not found.made or not app.supports("app"):
        words = "There is no free-form view of this list: it takes a model that can write whole programs."
        return PlainTextResponse(words, 404)
    text = sheets.as_text(found, mine(found), date.today())
    ask = f"An app that shows this list in an unusual, useful way, ticks things off and saves the state:\n{text[:2000]}"
    return Page("freeform.html", title=found.title, name=name, view=Canvas(ask, "app", canvases=8))


@app.page("/list/{name}/export", prefetch=False)
def export(name: str, form: str = "csv") -> Response:
    found = find(name)
    if found is None:
        return PlainTextResponse("There is no such list.", 404)
    csv = form == "csv"
    text = sheets.as_csv(found, mine(found)) if csv else sheets.as_text(found, mine(found), date.today())
    disposition = f'attachment; filename="list.{"csv" if csv else "txt"}"'
    return PlainTextResponse(
        text, headers={"content-disposition": disposition}, media_type="text/csv" if csv else "text/plain"
    )


# -- made from a wish -----------------------------------------------------------------------------------------


@app.action("/make")
def make(wish: Annotated[str, Field(min_length=2)]) -> str:
    """A wish becomes the row of a list; its page is written when it is opened, which is at once."""
    read = wishes.read(wish)
    base, number = read.topic.casefold(), 1
    while find(name := base if number == 1 else f"{base} {number}", gone=True):
        number += 1
    lists.insert(Sheet(name=name, wish=read.words or "things to do", cut=read.cut))
    return app.url_path_for("sheet", name=name)


@app.on_written("/list/{name}")
def settle(name: str) -> None:
    """What was written becomes state: a new list and its items, or the choices of a new field."""
    name = name.casefold()
    found, key, today = find(name, gone=True), app.url_path_for("sheet", name=name), date.today()
    if found is None:
        found = lists.insert(Sheet(name=name, wish=name))
    wish = wishes.read(found.wish)
    if not found.made:
        spec = app.value(key, "spec", specs.canvas(wish).schema)
        if spec is None:
            return
        title = specs.name(spec.name, wish)
        title = title[:1].upper() + title[1:]
        purpose = specs.sentence(spec.purpose, "")
        lists.update(found.number, made=True, title=title, purpose=purpose, columns=list(wish.columns))
        for place, (words, given) in enumerate(specs.cleaned(specs.items_of(spec, wish))):
            items.insert(
                Item(sheet=found.number, what=words, values=sheets.written(given, wish.columns, today), place=place)
            )
    elif "column" in found.asked and (new := app.value(key, f"column-{found.asked['number']}", specs.New)) is not None:
        orders.add_column(found, found.asked["column"], new.choices)


@app.action("/list/{name}/again")
def again(name: str) -> Redraw:
    """Another draft, as long as nobody has changed anything."""
    found = the(name)
    if found.made and ledger.last(found.number) is None and ledger.next(found.number) is None:
        for item in mine(found):
            items.delete(item.number)
        lists.update(found.number, made=False, said="", asked={})
    return Redraw("spec")


@app.action("/list/{name}/away")
def away(name: str) -> str:
    lists.update(the(name).number, gone=True)
    return "/"


@app.action("/list/{name}/back")
def back(name: str) -> str:
    found = the(name)
    lists.update(found.number, gone=False, said="The list is back.")
    return app.url_path_for("sheet", name=name)


def so_far(spec: Any, wish: wishes.Wish) -> list[tuple[str, list[Any]]]:
    """The items of a spec that is still growing, for the template."""
    today, found = date.today(), specs.cleaned(specs.items_of(spec, wish))
    return [
        (words, sheets.cells(sheets.written(given, wish.columns, today), wish.columns, today)) for words, given in found
    ]
