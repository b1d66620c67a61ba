"""The Unwritten Encyclopedia: every article exists, most are not written yet.

    unwritten demo wiki

An article has three canvases that are written at the same time: an opening paragraph, a box of facts, and
two sections. Its links lead to articles that nobody has written, until somebody clicks them.
"""

from pathlib import Path
from typing import Annotated
from zlib import crc32

from pydantic import BaseModel, Field
from starlette.responses import RedirectResponse, Response

from unwritten import App, Canvas, Page
from unwritten.addresses import Pattern
from unwritten.prompts import read_examples

HERE = Path(__file__).parent
EXAMPLES = {name: read_examples(HERE / "examples" / f"{name}.txt") for name in ("lead", "facts", "body")}
TITLES = (HERE / "titles.txt").read_text(encoding="utf-8").splitlines()
SEEDS = ("Lighthouse", "The Museum of Lost Keys", "Tea", "Ada Lovelace", "Cloud farming", "Loneliness")


def capital(title: str) -> str:
    """Articles begin with a capital letter: ``[[tea]]`` and ``[[Tea]]`` are one article."""
    return title[:1].upper() + title[1:]


SECTIONS = (
    "## History\n\nThe history of {} begins",
    "## Early accounts\n\nThe first person to write about {} was",
    "## In popular belief\n\nIt is widely believed that {}",
    "## In literature\n\nThe best-known book about {} is",
    "## In daily life\n\nMost people first hear of {} when",
)
"""How the sections begin: a few words keep a small model on its subject. Each article has its own beginning."""


def beginning(title: str) -> str:
    """The first heading and the first words under it, always the same for the same article."""
    name = title[:1].lower() + title[1:] if title.startswith(("The ", "A ", "An ")) else title
    return SECTIONS[crc32(title.encode()) % len(SECTIONS)].format(name)


ARTICLE = Pattern("/wiki/{title}", capital)

app = App(
    "The Unwritten Encyclopedia",
    world="The Unwritten Encyclopedia is a calm, exact encyclopedia of a world slightly to the left of ours.",
    folder=__file__,
)


class Facts(BaseModel):
    """What fits any subject, from a kitchen tool to a forgotten queen."""

    kind: str = Field(max_length=40)
    found_in: str = Field(max_length=60)
    first_known: str = Field(max_length=40)
    known_for: list[Annotated[str, Field(max_length=60)]] = Field(min_length=2, max_length=2)
    mistaken_for: str = Field(max_length=60)


@app.page("/wiki/{title}", canonical=capital)
def article(title: str) -> Page:
    return Page(
        "article.html",
        title=title,
        lead=Canvas(
            f"The opening paragraph of the article on {title}.",
            opening=f"**{title}**",
            examples=EXAMPLES["lead"],
            tokens=140,
        ),
        facts=Canvas(f"Quick facts about {title}.", shape=Facts, examples=EXAMPLES["facts"], tokens=160),
        body=Canvas(
            f"Two sections of the article on {title}.",
            opening=beginning(title),
            examples=EXAMPLES["body"],
            tokens=256,
        ),
        linked_from=app.store.links_to(key(title)),
    )


@app.page("/wiki/{title}/history", canonical=capital)
def history(title: str) -> Response:
    return app.render("history.html", title=title, key=key(title), versions=app.store.history(key(title)))


@app.page("/")
def front() -> Response:
    written = app.store.exists([key(title) for title in SEEDS])
    seeds = [{"title": title, "key": key(title), "written": key(title) in written} for title in SEEDS]
    return app.render("front.html", seeds=seeds, recent=app.store.recent(8), count=app.store.count())


@app.page("/search")
def search(q: str = "", write: str = "") -> Response:
    address = ARTICLE.link(capital(q), app.settings.title_length)
    if write and address:
        return RedirectResponse(address, 303)
    exists = bool(address and app.store.exists([address]))
    return app.render(
        "search.html", q=q, title=capital(q), key=address, exists=exists, results=app.store.search(q) if q else []
    )


@app.page("/random")
def anything() -> Response:
    entry = app.store.random()
    return RedirectResponse(entry.key if entry else key(SEEDS[0]), 307)


@app.page("/written")
def written() -> Response:
    return app.render("written.html", entries=app.store.all(), count=app.store.count())


def key(title: str) -> str:
    """Where an article is kept."""
    return ARTICLE.write({"title": title})
