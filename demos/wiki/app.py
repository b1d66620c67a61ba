"""The Unwritten Encyclopedia: every article exists, most are not written yet.

    unwritten demo wiki

An article has three canvases that are written at the same time: an opening paragraph, a box of facts, and
two sections. Its links lead to articles that nobody has written, until somebody clicks them. Editions for children, for
experts and in other languages are in ``editions.py``; here is what all of them do.
"""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from unwritten import App, Canvas, Page
from unwritten.core.errors import BadAddress

from .chart import chart_of
from .editions import EDITIONS, GENERAL, SHEETS, Edition
from .shapes import Facts, Senses
from .subjects import MEANINGS, capital, meaning_of, repeats

app = App(
    "The Unwritten Encyclopedia",
    world="The Unwritten Encyclopedia is a calm, exact encyclopedia of a world slightly to the left of ours.",
    folder=__file__,
)


def article(edition: Edition) -> Callable[[str], Page]:
    """The page function of an edition's articles."""

    def page(title: str) -> Page:
        word, meaning = meaning_of(title)
        if edition is GENERAL and meaning == MEANINGS:
            return meanings(title, word)
        here = key(title, edition)
        canvases, drawn = edition.canvases(title), app.supports("svg")
        if drawn:
            canvases["art"] = Canvas(f"A small line drawing of {title}.", "svg")
        return Page(
            "article.html",
            title=title,
            edition=edition,
            editions=[(other, key(title, other)) for other in EDITIONS.values()],
            word=word,
            meaning=meaning,
            meanings=address_of(f"{word} ({MEANINGS})"),
            address=address_of,
            repeats=repeats,
            drawn=drawn,
            linked_from=app.store.links_to(here),
            **canvases,
        )

    return page


def meanings(title: str, word: str) -> Page:
    """What a word can mean. Each meaning is a link to an article with a title of its own."""
    canvas = Canvas(
        f"Other meanings of the word {word}.", schema=Senses, examples=SHEETS["general", "senses"], tokens=200
    )
    return Page("meanings.html", title=title, word=word, address=address_of, meanings=canvas)


def front(edition: Edition) -> Callable[[], Response]:
    """The page function of an edition's front page."""

    def page() -> Response:
        seeds = [(title, key(title, edition)) for title in edition.seeds]
        return app.render(
            "front.html",
            edition=edition,
            editions=EDITIONS.values(),
            seeds=seeds,
            recent=app.store.recent(8),
            count=app.store.count(),
        )

    return page


for _edition in EDITIONS.values():
    app.page(f"/{_edition.code}/{{title}}", canonical=capital, name=_edition.code)(article(_edition))
    app.page(f"/{_edition.code}" if _edition is not GENERAL else "/", name=f"{_edition.code}-front")(front(_edition))


@app.page("/category/{name}", canonical=capital, links="/wiki/{title}")
def category(name: str) -> Page:
    canvas = Canvas(
        f"A short description of the category {name}.",
        opening=f"**{name}**",
        examples=SHEETS["general", "category"],
        tokens=100,
    )
    entries = [source for source, facts in categorised() if name in carried(facts, source.title)]
    return Page("category.html", title=name, description=canvas, entries=sorted(entries, key=lambda entry: entry.title))


@app.page("/categories")
def categories() -> Response:
    counts = Counter(name for source, facts in categorised() for name in carried(facts, source.title))
    return app.render("categories.html", counts=sorted(counts.items()))


def categorised() -> list[tuple[Any, Facts]]:
    """The facts of all general articles, with where they come from."""
    return [(source, facts) for source, facts in app.values(Facts, 2000) if source.key.startswith(f"/{GENERAL.code}/")]


def carried(facts: Facts, title: str) -> list[str]:
    """The categories of an article: two of ours, and the kind that the model found, unless that is its title."""
    kind = [] if repeats(facts.kind, title) else [capital(facts.kind)]
    return list(dict.fromkeys([*facts.categories, *kind]))


@app.page("/search")
def search(q: str = "", write: str = "", edition: str = GENERAL.code) -> Response:
    of = edition_of(edition)
    address = address_of(q, of)
    if write and address:
        return RedirectResponse(address, 303)
    exists = bool(address and app.store.exists([address]))
    results = app.store.search(q) if q else []
    return app.render("search.html", q=q, title=capital(q), key=address, exists=exists, results=results, edition=of)


@app.page("/random")
def anything() -> Response:
    entry = app.store.random()
    return RedirectResponse(entry.key if entry else key(GENERAL.seeds[0]), 307)


@app.page("/surprise")
def surprise() -> Response:
    """An article that some other one links to, and that nobody has written."""
    wanted = app.store.missing_pages(200, f"/{GENERAL.code}/")
    found = random.choice(wanted).key if wanted else key(random.choice(GENERAL.seeds))  # noqa: S311
    return RedirectResponse(app.link(found), 307)


@app.page("/graph")
def graph(edition: str = GENERAL.code) -> Response:
    of = edition_of(edition)
    chart = chart_of(app.store.link_graph(150, f"/{of.code}/"))
    return app.render("graph.html", chart=chart, edition=of, editions=EDITIONS.values())


@app.page("/written")
def written() -> Response:
    entries = app.store.all()
    shelves = [(of, [entry for entry in entries if entry.key.startswith(f"/{of.code}/")]) for of in EDITIONS.values()]
    return app.render("written.html", shelves=shelves, count=app.store.count())


def edition_of(code: str) -> Edition:
    """The edition with this code. Another one is not there."""
    if code not in EDITIONS:
        raise HTTPException(404, f"There is no edition {code!r}; there are {', '.join(EDITIONS)}.")
    return EDITIONS[code]


def key(title: str, edition: Edition = GENERAL) -> str:
    """Where an article is kept."""
    return app.url_path_for(edition.code, title=title)


def address_of(words: str, edition: Edition = GENERAL) -> str | None:
    """The same of anything that was typed; None if no article can have that name."""
    try:
        return key(words, edition)
    except BadAddress:
        return None
