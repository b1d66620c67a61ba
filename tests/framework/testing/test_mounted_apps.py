"""``Visitor`` with sessions, lifespans, and apps that are mounted in a Starlette app."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from unwritten import App, BadApp
from unwritten.testing import Visitor

pytestmark = pytest.mark.usefixtures("home")

SESSIONS = Middleware(SessionMiddleware, secret_key="not a secret")


async def log_in(request: Request) -> Response:
    request.session["name"] = request.query_params["name"]
    return RedirectResponse("who", 303)


async def log_out(request: Request) -> Response:
    request.session.clear()
    return RedirectResponse("who", 303)


async def who(request: Request) -> Response:
    return PlainTextResponse(f"You are {request.session.get('name')}.")


LOGIN = [Route("/login", log_in), Route("/logout", log_out), Route("/who", who)]


def wiki(**options: object) -> App:
    app = App("Fake Wiki", links="/wiki/{title}", **options)  # type: ignore[arg-type]

    @app.page("/wiki/{title}")
    def article(title: str) -> str:
        return f"An article about {title}."

    return app


def test_sessions_last_from_login_to_logout() -> None:
    visitor = Visitor(wiki(routes=LOGIN, middleware=[SESSIONS]))
    assert "You are None." in visitor.visit("/who").text
    assert "You are Ada." in visitor.visit("/login?name=Ada").text
    assert "You are Ada." in visitor.visit("/who").text
    assert "You are None." in visitor.another().visit("/who").text
    assert "You are None." in visitor.visit("/logout").text


@pytest.mark.parametrize("wrapped", [False, True], ids=["mounted", "mounted behind middleware"])
def test_a_mounted_app_is_visited_through_the_outer_app(wrapped: bool) -> None:
    app: ASGIApp = wiki()
    if wrapped:
        app = SessionMiddleware(app, "not a secret")
    outer = Starlette(routes=[*LOGIN, Mount("/guide", app)], middleware=[SESSIONS])
    visitor = Visitor(outer, {"tea": "Tea is a [[drink]].", "drink": "A drink is wet."})
    page = visitor.visit("/guide/wiki/Tea")
    assert (page.key, page.state) == ("/guide/wiki/Tea", "written")
    assert page.links["drink"] == "/guide/wiki/drink"
    drink = page.click("drink")
    assert drink.key == "/guide/wiki/drink" and "A drink is wet." in drink
    assert drink.submit("Regenerate").key == "/guide/wiki/drink"
    assert "You are Ada." in visitor.visit("/login?name=Ada").text
    assert visitor.visit("/wiki/Tea").status == 404


def test_an_outer_app_must_contain_exactly_one_app() -> None:
    with pytest.raises(BadApp, match=r"A Visitor needs an App, or an ASGI app that mounts one"):
        Visitor(Starlette(routes=LOGIN))
    with pytest.raises(BadApp, match=r"mounts 2 Apps: 'Fake Wiki', 'Fake Wiki'. A Visitor visits one"):
        Visitor(Starlette(routes=[Mount("/a", wiki()), Mount("/b", wiki())]))


def test_the_state_of_a_lifespan_reaches_requests() -> None:
    events: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[dict[str, str]]:
        events.append("start")
        yield {"greeting": "Hello."}
        events.append("stop")

    async def greet(request: Request) -> Response:
        return PlainTextResponse(request.state.greeting)

    with Visitor(wiki(lifespan=lifespan, routes=[Route("/greet", greet)])) as visitor:
        assert visitor.visit("/greet").text == visitor.visit("/greet").text == "Hello."
    with Visitor(Starlette(lifespan=lifespan, routes=[Route("/greet", greet), Mount("/wiki", wiki())])) as visitor:
        assert visitor.visit("/greet").text == "Hello."
    assert events == ["start", "stop"] * 2


def test_exceptions_of_the_outer_app_are_raised_in_the_test() -> None:
    async def fail(request: Request) -> Response:
        raise KeyError("the author's")

    visitor = Visitor(Starlette(routes=[Route("/fail", fail), Mount("/", wiki())]))
    with pytest.raises(KeyError, match="the author's"):
        visitor.visit("/fail")
