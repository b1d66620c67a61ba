"""The browser: any address is a page, which is written here. No other machine is ever asked."""

import re

from pydantic import BaseModel, Field
from starlette.responses import RedirectResponse, Response

from unwritten import Canvas, Page

from .desk import app, examples, fits, some, window


class Elsewhere(BaseModel):
    address: str = Field(min_length=4, max_length=40)
    words: str = Field(min_length=4, max_length=48)


class Site(BaseModel):
    title: str = Field(min_length=3, max_length=36)
    motto: str = Field(min_length=8, max_length=70)
    menu: list[str] = Field(min_length=3, max_length=3)
    elsewhere: list[Elsewhere] = Field(min_length=2, max_length=2)


class Found(BaseModel):
    results: list[Elsewhere] = Field(min_length=4, max_length=4)


SITE, TEXT, FOUND = (examples(name) for name in ("site", "webpage", "found"))
MENUS = "history, prices, visits, people, questions, news, courses, pictures, advice, opening hours, a shop, letters"
MAKERS = "a museum, a shop, a newspaper, a club, a teacher, a town, a collector, a doctor, a quarrel, a poet, a school"
SEEDS = ("www.gullwatch.org", "tea-museum.example/opening-hours", "slowtrains.net", "news.harbour/today")


def ideas(words: str, count: int, seed: str) -> str:
    *first, last = some(words, count, seed)
    return f"{', '.join(first)} and {last}"


def address_of(typed: str) -> str:
    """What was typed as an address without what only machines need; empty if it is no address but words."""
    text = re.sub(r"^(?:https?:)?/*", "", typed.strip(), flags=re.I).partition("#")[0].strip("/")
    host, _, rest = text.partition("/")
    if not re.fullmatch(r"(?=.*\.)[\w.:-]*\w", host) and not re.fullmatch(r"localhost(?::\d+)?", host):
        return ""
    parts = [part.strip() for part in rest.split("/")]
    return host.lower() + "".join(f"/{part}" for part in parts if part.strip(" ."))


def web_key(typed: str | None, host: str = "") -> str | None:
    """Where a link on a written page leads: to an address, or to a page of the same site."""
    typed = f"{host}/{typed.lower().replace(' ', '-').replace('/', '-')}" if host and typed else typed
    found = address_of(typed or "")
    return app.url_path_for("site", address=found) if found and fits(found) else None


@app.page("/web")
def browser(to: str = "") -> Page | Response:
    if to:
        return RedirectResponse(web_key(to) or app.url_path_for("search", words=to), 303)
    visited = [entry for entry in app.store.recent(60) if entry.key.startswith("/web/")][:8]
    return window("browser.html", "Browser", visited=visited, seeds=[(seed, web_key(seed)) for seed in SEEDS])


@app.page("/web/{address:path}")
def site(address: str) -> Page | Response:
    right = address_of(address)
    if right != address:
        return RedirectResponse(app.url_path_for("site", address=right) if right else app.url_path_for("search", words=address), 303)
    host, _, rest = address.partition("/")
    about = rest.replace("-", " ").replace("/", ", ") or "the front page"
    return window(
        "site.html",
        address,
        host=host,
        web_key=web_key,
        site=Canvas(
            f"The head of the web page {address}, with pages on {ideas(MENUS, 3, address)}.",
            schema=Site,
            canvases=3,
            examples=SITE,
            tokens=170,
        ),
        words=Canvas(f"The text of the web page {address}, about {about}.", examples=TEXT, tokens=170),
    )


@app.page("/search/{words}")
def search(words: str) -> Page:
    found = Canvas(
        f"Web pages about {words}, by {ideas(MAKERS, 4, words)}.",
        schema=Found,
        canvases=2,
        examples=FOUND,
        tokens=170,
    )
    return window("found.html", words, web_key=web_key, found=found)
