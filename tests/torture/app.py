"""The app that is attacked: pages in every format, a form, a login, and pages that depend on the visitor.

The prompt of a page names the case that the hostile model server answers: ``/markdown/NAME`` asks for ``case NAME``.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from pydantic import BaseModel, Field
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from unwritten import App, Canvas, Page

CANVASES = 120
"""Length of a canvas: enough for texts of 100 kB, so that nothing but the text itself is tested."""

SECRET = "The safe opens with 7-3-9."
"""What the hostile server writes into protected pages."""


class LoginMiddleware(BaseHTTPMiddleware):
    """Protects pages as Starlette's documentation shows it, which covers HTTP requests only."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        if request.url.path.startswith("/secret/") and "name" not in request.session:
            return RedirectResponse("/login", 303)
        return await call_next(request)


async def login(request: Request) -> Response:
    if "as" in request.query_params:
        request.session["name"] = request.query_params["as"]
    return PlainTextResponse("Who is there?")


app = App(
    "Torture",
    folder=__file__,
    middleware=[Middleware(SessionMiddleware, secret_key="torture"), Middleware(LoginMiddleware)],
    routes=[Route("/login", login)],
)


class Card(BaseModel):
    name: Annotated[str, Field(max_length=200)]
    number: int
    ratio: float
    words: list[str]


class Note(BaseModel):
    id: int | None = None
    text: str = Field(min_length=1, max_length=50_000)


notes = app.table(Note)


@app.page("/")
def front() -> Canvas:
    return Canvas("The front page: case plain.", tokens=200)


@app.page("/short/{name:raw}")
def short(name: str) -> Canvas:
    return Canvas(f"A short text: case {name}.", tokens=100)


@app.page("/article/{name:raw}")
def article(name: str) -> Canvas:
    return Canvas(f"An article: case {name if name.startswith('long') else f'article-{name}'}.", tokens=800)


def _add_format(format: str) -> None:
    @app.page(f"/{format}/{{name:raw}}", name=format)
    def page(name: str) -> Page:
        return Page(title=name, body=Canvas(f"A text: case {name}.", format, canvases=CANVASES))


for format in ("markdown", "text", "html", "svg", "app"):
    _add_format(format)


@app.page("/schema/{name:raw}")
def schema(name: str) -> Page:
    return Page("schema.html", title=name, card=Canvas(f"A card: case {name}.", schema=Card, canvases=CANVASES))


@app.page("/titled/{name}", links="/titled/{name}")
def titled(name: str) -> Page:
    return Page(title=name, body=Canvas("A text: case plain.", tokens=200))


@app.page("/board/{name:raw}")
def board(name: str) -> Page:
    rows = notes.select(order="-id", limit=20)
    return Page("board.html", title=name, intro=Canvas("An introduction: case plain.", tokens=100), rows=rows)


@app.page("/slow/{seconds:int}/{name:raw}")
async def slow(seconds: int, name: str) -> Page:
    rows = notes.select(order="-id", limit=5)
    await asyncio.sleep(seconds)
    return Page("board.html", title=name, intro=Canvas("An introduction: case plain.", tokens=100), rows=rows)


@app.action("/board/{name:raw}/add")
def add(name: str, text: str) -> None:
    notes.insert(Note(text=text))


@app.page("/secret/{name:raw}")
def secret(name: str) -> Canvas:
    return Canvas("A secret: case secret.", tokens=200)


@app.page("/member/{name:raw}")
def member(name: str, request: Request) -> Page:
    rows = notes.select(order="-id", limit=5)
    who = request.session.get("name", "a stranger")
    return Page("member.html", title=name, intro=Canvas("A text: case plain.", tokens=100), rows=rows, who=who)
