"""The Unwritten Encyclopedia: every article exists, most are not written yet.

    unwritten demo wiki

An article has three canvases that are generated at the same time: an opening paragraph, facts and two sections. Its
links lead to more articles, which are generated when they are clicked. Editions for children, for experts and in other
languages are in ``editions.py``.
"""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from unwritten import App, Canvas, Page

from .chart import build_chart
from .editions import EDITIONS, EXAMPLES, GENERAL, Edition
from .schemas import Facts, Senses
from .subjects import MEANINGS, capitalize_first, repeats_title, split_title

app = App(
    "The Unwritten Encyclopedia",
    world="The Unwritten Encyclopedia is a calm, exact encyclopedia of a world slightly to the left of ours.",
    folder=__file__,
)


def article(edition: Edition) -> Callable[[str], Page]:
    """Return the page function of an edition's articles."""

    def page(title: str) -> Page:
        word, meaning = split_title(title)
        if edition is GENERAL and meaning == MEANINGS:
            return meanings(title, word)
        canvases, can_draw = edition.canvases(title), app.supports("svg")
        if can_draw:
            canvases["art"] = Canvas(f"A small line drawing of {title}.", "svg")
        return Page(
            "article.html",
            title=title,
            edition=edition,
            editions=[(other, article_key(title, other)) for other in EDITIONS.values()],
            word=word,
            meaning=meaning,
            meanings=find_key(f"{word} ({MEANINGS})"),
            find_key=find_key,
            repeats_title=repeats_title,
            can_draw=can_draw,
            linked_from=app.store.links_to(article_key(title, edition)),
            **canvases,
        )

    return page


def meanings(title: str, word: str) -> Page:
    """Return the page that lists what a word can mean. Each meaning is a link to an article of its own."""
    canvas = Canvas(
        f"Other meanings of the word {word}.", schema=Senses, examples=EXAMPLES["general", "senses"], tokens=200
    )
    return Page("meanings.html", title=title, word=word, find_key=find_key, meanings=canvas)


def front(edition: Edition) -> Callable[[], Response]:
    """Return the page function of an edition's home page."""

    def page() -> Response:
        seeds = [(title, article_key(title, edition)) for title in edition.seeds]
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
    app.page(f"/{_edition.code}/{{title}}", canonical=capitalize_first, name=_edition.code)(article(_edition))
    app.page(f"/{_edition.code}" if _edition is not GENERAL else "/", name=f"{_edition.code}-front")(front(_edition))


@app.page("/category/{name}", canonical=capitalize_first, links="/wiki/{title}")
def category(name: str) -> Page:
    canvas = Canvas(
        f"A short description of the category {name}.",
        opening=f"**{name}**",
        examples=EXAMPLES["general", "category"],
        tokens=100,
    )
    entries = [source for source, facts in all_facts() if name in categories_of(facts, source.title)]
    return Page("category.html", title=name, description=canvas, entries=sorted(entries, key=lambda entry: entry.title))


@app.page("/categories")
def categories() -> Response:
    counts = Counter(name for source, facts in all_facts() for name in categories_of(facts, source.title))
    return app.render("categories.html", counts=sorted(counts.items()))


def all_facts() -> list[tuple[Any, Facts]]:
    """Return the facts of all articles of the general edition, each with its source."""
    return [(source, facts) for source, facts in app.values(Facts, 2000) if source.key.startswith(f"/{GENERAL.code}/")]


def categories_of(facts: Facts, title: str) -> list[str]:
    """Return the categories of an article: two from the fixed list, and its kind, unless that repeats the title."""
    kind = [] if repeats_title(facts.kind, title) else [capitalize_first(facts.kind)]
    return list(dict.fromkeys([*facts.categories, *kind]))


@app.page("/search")
def search(request: Request, q: str = "", write: str = "", edition: str = GENERAL.code) -> Response:
    chosen = find_edition(edition)
    key = find_key(q, chosen)
    if write and key:
        return RedirectResponse(request.url_for(chosen.code, title=q), 303)
    exists = bool(key and app.store.exists([key]))
    results = app.store.search(q) if q else []
    return app.render(
        "search.html", q=q, title=capitalize_first(q), key=key, exists=exists, results=results, edition=chosen
    )


@app.page("/random")
def random_page(request: Request) -> Response:
    entry = app.store.random()
    url = app.link(entry.key) if entry else request.url_for(GENERAL.code, title=GENERAL.seeds[0])
    return RedirectResponse(url, 307)


@app.page("/surprise")
def surprise() -> Response:
    """Redirect to an article that is not written yet, and that another one links to."""
    wanted = app.store.missing_pages(200, f"/{GENERAL.code}/")
    found = random.choice(wanted).key if wanted else article_key(random.choice(GENERAL.seeds))  # noqa: S311
    return RedirectResponse(app.link(found), 307)


@app.page("/graph")
def graph(edition: str = GENERAL.code) -> Response:
    chosen = find_edition(edition)
    chart = build_chart(app.store.link_graph(150, f"/{chosen.code}/"))
    return app.render("graph.html", chart=chart, edition=chosen, editions=EDITIONS.values())


@app.page("/written")
def written() -> Response:
    entries = app.store.all()
    groups = [(e, [entry for entry in entries if entry.key.startswith(f"/{e.code}/")]) for e in EDITIONS.values()]
    return app.render("written.html", groups=groups, count=app.store.count())


def find_edition(code: str) -> Edition:
    """Return the edition with this code.

    Raises:
        HTTPException: 404 if there is none.
    """
    if code not in EDITIONS:
        raise HTTPException(404, f"There is no edition {code!r}. Editions: {', '.join(EDITIONS)}.")
    return EDITIONS[code]


def article_key(title: str, edition: Edition = GENERAL) -> str:
    """Return the key of an article."""
    return app.url_path_for(edition.code, title=title)


def find_key(title: str, edition: Edition = GENERAL) -> str | None:
    """Return the key of an article, or None if no article can have this title."""
    return app.url_path_for(edition.code, title=title, default=None)
