"""The browser: every address is a page, which is generated here. No other machine is contacted."""

import re

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from unwritten import Canvas, Page, Router

from .desk import app, examples, is_short, pick, window

router = Router()


class Elsewhere(BaseModel):
    """A link to another site."""

    address: str = Field(min_length=4, max_length=40)
    words: str = Field(min_length=4, max_length=48)


class Site(BaseModel):
    title: str = Field(min_length=3, max_length=36)
    motto: str = Field(min_length=8, max_length=70)
    menu: list[str] = Field(min_length=3, max_length=3)
    elsewhere: list[Elsewhere] = Field(min_length=2, max_length=2)


class Found(BaseModel):
    """Search results."""

    results: list[Elsewhere] = Field(min_length=4, max_length=4)


SITE, TEXT, FOUND = (examples(name) for name in ("site", "webpage", "found"))
MENUS = "history, prices, visits, people, questions, news, courses, pictures, advice, opening hours, a shop, letters"
MAKERS = "a museum, a shop, a newspaper, a club, a teacher, a town, a collector, a doctor, a quarrel, a poet, a school"
SUGGESTIONS = ("www.gullwatch.org", "tea-museum.example/opening-hours", "slowtrains.net", "news.harbour/today")


def ideas(choices: str, count: int, seed: str) -> str:
    """Return a few suggestions for a prompt, as a list in words."""
    *first, last = pick(choices, count, seed)
    return f"{', '.join(first)} and {last}"


def parse_address(typed: str) -> str:
    """Return a typed address without scheme and fragment. Empty if it is not an address but search terms."""
    text = re.sub(r"^(?:https?:)?/*", "", typed.strip(), flags=re.I).partition("#")[0].strip("/")
    host, _, rest = text.partition("/")
    if not re.fullmatch(r"(?=.*\.)[\w.:-]*\w", host) and not re.fullmatch(r"localhost(?::\d+)?", host):
        return ""
    parts = [part.strip() for part in rest.split("/")]
    return host.lower() + "".join(f"/{part}" for part in parts if part.strip(" ."))


def web_key(typed: str | None, host: str = "") -> str | None:
    """Return the key of the page that a generated link leads to.

    Args:
        typed: An address, or with a host the words of a menu.
        host: The site whose menu it is.
    """
    typed = f"{host}/{typed.lower().replace(' ', '-').replace('/', '-')}" if host and typed else typed
    address = parse_address(typed or "")
    return app.url_path_for("site", address=address, default=None) if address else None


def go_to(request: Request, typed: str) -> Response:
    """Redirect to the page of an address, or to a search."""
    address = parse_address(typed)
    if address and is_short(address):
        return RedirectResponse(request.url_for("site", address=address), 303)
    return RedirectResponse(request.url_for("search", words=typed), 303)


@router.page("/web")
def browser(request: Request, to: str = "") -> Page | Response:
    if to:
        return go_to(request, to)
    visited = [entry for entry in app.store.recent(60) if entry.key.startswith("/web/")][:8]
    suggestions = [(address, web_key(address)) for address in SUGGESTIONS]
    return window("browser.html", "Browser", visited=visited, suggestions=suggestions)


@router.page("/web/{address:path}")
def site(address: str, request: Request) -> Page | Response:
    if parse_address(address) != address:
        return go_to(request, address)
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


@router.page("/search/{words}")
def search(words: str) -> Page:
    results = Canvas(
        f"Web pages about {words}, by {ideas(MAKERS, 4, words)}.",
        schema=Found,
        canvases=2,
        examples=FOUND,
        tokens=170,
    )
    return window("found.html", words, web_key=web_key, found=results)
