"""Lists built by voice: say what you want, and it becomes a working list.

    unwritten demo todo

A request ("a list for the garden with due dates, and who does it") becomes a page with one canvas, whose schema has a
name, items and a purpose. While it is written it already looks like the finished list. When it is written
(`@app.on_written`), its items are stored in a table, and from then on the page is an ordinary app with actions and
tables, without a model.

    wishes.py    parses the request
    specs.py     the schema and the examples
    entries.py   adding, ticking and editing items
    orders.py    changing the list by command
    undo.py      undo and redo
"""

from datetime import date
from typing import Annotated, Any

from pydantic import Field
from starlette.responses import PlainTextResponse, Response

from unwritten import Canvas, Page, Redraw

from . import entries, orders, sheets, specs, wishes
from .records import app, find, get_or_create, items, items_of_list, ledger, lists
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
    """A list, or the canvas that generates it. The name of a list that does not exist is read as a request."""
    found = find(name, gone=True)
    wish = wishes.read(found.wish if found else name)
    if found is None or not found.made:
        shown, instruct = sheets.View(found or Sheet(name=name, wish=name)), app.engine.about.abilities.instruct
        return Page(
            "list.html",
            title=wish.topic,
            wish=wish,
            sheet=shown,
            items_of=items_so_far,
            spec=specs.canvas(wish, instruct=instruct),
        )
    shown = sheets.view(found, items_of_list(found), date.today(), show, sort, only)
    last, following = ledger.last(found.number), ledger.next(found.number)
    shown.undo, shown.redo = last.words if last else "", following.words if following else ""
    shown.fresh = last is None and following is None
    pending = found.pending
    columns = {pending["number"]: specs.column(pending["column"], found.title)} if "column" in pending else {}
    return Page("list.html", title=found.title, wish=wish, sheet=shown, column=columns)


@app.page("/list/{name}/freeform")
def freeform(name: str) -> Page | Response:
    found = find(name)
    if found is None or not found.made or not app.supports("app"):
        return PlainTextResponse("The free-form view needs a model that can write programs.", 404)
    text = sheets.as_text(found, items_of_list(found), date.today())
    ask = f"An app that shows this list in an unusual, useful way, ticks things off and saves the state:\n{text[:2000]}"
    return Page("freeform.html", title=found.title, name=name, view=Canvas(ask, "app", canvases=8))


@app.page("/list/{name}/export", prefetch=False)
def export(name: str, form: str = "csv") -> Response:
    found = find(name)
    if found is None:
        return PlainTextResponse("There is no such list.", 404)
    csv = form == "csv"
    text = (
        sheets.as_csv(found, items_of_list(found)) if csv else sheets.as_text(found, items_of_list(found), date.today())
    )
    disposition = f'attachment; filename="list.{"csv" if csv else "txt"}"'
    return PlainTextResponse(
        text, headers={"content-disposition": disposition}, media_type="text/csv" if csv else "text/plain"
    )


# -- creating lists -------------------------------------------------------------------------------------------


@app.action("/make")
def make(wish: Annotated[str, Field(min_length=2)]) -> str:
    """Store a new list. Its page is generated when it is opened, which happens at once."""
    read = wishes.read(wish)
    base, number = read.topic.casefold(), 1
    while find(name := base if number == 1 else f"{base} {number}", gone=True):
        number += 1
    lists.insert(Sheet(name=name, wish=read.words or "things to do", cut=read.cut))
    return app.url_path_for("sheet", name=name)


@app.on_written("/list/{name}")
def store_result(name: str) -> None:
    """Store what was generated: the items of a new list, or the choices of a new field."""
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
                Item(
                    sheet=found.number, what=words, values=sheets.stored_values(given, wish.columns, today), place=place
                )
            )
    elif (
        "column" in found.pending
        and (new := app.value(key, f"column-{found.pending['number']}", specs.New)) is not None
    ):
        orders.add_column(found, found.pending["column"], new.choices)


@app.action("/list/{name}/again")
def regenerate(name: str) -> Redraw:
    """Generate the list again, as long as nothing was changed."""
    found = get_or_create(name)
    if found.made and ledger.last(found.number) is None and ledger.next(found.number) is None:
        for item in items_of_list(found):
            items.delete(item.number)
        lists.update(found.number, made=False, message="", pending={})
    return Redraw("spec")


@app.action("/list/{name}/away")
def remove(name: str) -> str:
    lists.update(get_or_create(name).number, gone=True)
    return app.url_path_for("front")


@app.action("/list/{name}/back")
def restore(name: str) -> str:
    found = get_or_create(name)
    lists.update(found.number, gone=False, message="The list was restored.")
    return app.url_path_for("sheet", name=name)


def items_so_far(spec: Any, wish: wishes.Wish) -> list[tuple[str, list[Any]]]:
    """Return the items of a list that is still being written, for the template."""
    today, found = date.today(), specs.cleaned(specs.items_of(spec, wish))
    return [
        (words, sheets.cells(sheets.stored_values(given, wish.columns, today), wish.columns, today))
        for words, given in found
    ]
