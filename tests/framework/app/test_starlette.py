"""An App is a Starlette app: routing by name, middleware, lifespan, exception handlers, sessions, users and mounts."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser, requires
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, NoMatchFound, Route
from starlette.testclient import TestClient
from tests.support.apps import BROWSER, browser, make_app, make_wiki, templates, until_over, watch

from unwritten import App, Canvas, Page, Router
from unwritten.core.errors import BadApp, BadSetting, BadURL
from unwritten_engine import scripted

# -- url_for ----------------------------------------------------------------------------------------------


def test_url_for_works_in_endpoints_page_functions_and_templates(tmp_path: Path) -> None:
    def endpoint(request: Request) -> Response:
        return JSONResponse([str(request.url_for("endpoint")), str(request.url_for("article", title="Great Auk"))])

    page = (
        "{% extends 'layout.html' %}{% block main %}{{ url_for('article', title='AC/DC') }} {{ there }}{% endblock %}"
    )
    app = make_app(
        tmp_path,
        scripted("x"),
        folder=templates(tmp_path, front=page),
        routes=[Route("/api", endpoint, name="endpoint")],
    )

    @app.page("/wiki/{title}")
    def article(title: str) -> str:
        return f"About {title}."

    @app.page("/")
    def front(request: Request) -> Page:
        return Page("front.html", there=str(request.url_for("article", title="Tea")))

    with browser(app) as client:
        assert client.get("/api").json() == ["http://testserver/api", "http://testserver/wiki/Great_Auk"]
        assert "/wiki/AC%2FDC http://testserver/wiki/Tea" in client.get("/").text


def test_url_path_for_converts_parameters_and_explains_errors(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("x"))

    @app.page("/day/{date}")
    def day(date: str) -> str:
        return date

    @app.page("/year/{year:int}")
    def year(year: int) -> str:
        return str(year)

    @app.fallback
    def elsewhere(path: str) -> str:
        return path

    assert app.url_path_for("day", date=datetime.date(2026, 11, 30)) == "/day/2026-11-30"
    assert app.url_path_for("year", year=2026) == "/year/2026"
    assert app.url_path_for("article", title=7) == "/wiki/7"
    assert app.url_path_for("elsewhere", path="a/b") == "/a/b"
    with pytest.raises(BadApp, match="Did you mean 'article'"):
        app.url_path_for("artikle", title="Tea")
    with pytest.raises(NoMatchFound, match=r"has the path '/wiki/\{title\}'"):
        app.url_path_for("article", name="Tea")
    with pytest.raises(BadURL):
        app.url_path_for("article", title="")


# -- arguments of Starlette -----------------------------------------------------------------------


def test_middleware_lifespan_and_exception_handlers_work(tmp_path: Path) -> None:
    seen: list[str] = []

    class Header(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            response: Response = await call_next(request)
            response.headers["x-header"] = "mine"
            return response

    @contextlib.asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[dict[str, Any]]:
        seen.append(f"{app.engine.about.engine} {app.store.count()}")
        yield {"greeting": "hello"}
        seen.append(f"closing {app.store.count()}")

    async def not_found(request: Request, error: Exception) -> Response:
        return PlainTextResponse("nothing here", 404)

    async def teapot(request: Request, error: Exception) -> Response:
        return PlainTextResponse("teapot", 418)

    app = make_wiki(
        tmp_path,
        scripted("x"),
        middleware=[Middleware(Header)],
        lifespan=lifespan,
        exception_handlers={404: not_found, KeyError: teapot},
        routes=[Route("/state", lambda request: PlainTextResponse(request.state.greeting))],
    )

    @app.page("/broken")
    def broken() -> str:
        raise KeyError("x")

    with browser(app) as client:
        assert client.get("/state").text == "hello"
        answer = client.get("/nowhere")
        assert (answer.status_code, answer.text, answer.headers["x-header"]) == (404, "nothing here", "mine")
        assert client.get("/broken").status_code == 418
    assert seen == ["scripted 0", "closing 0"]


def test_add_middleware_and_a_handler_of_every_exception_work(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def anything(request: Request, error: Exception) -> Response:
        return PlainTextResponse(f"sorry: {error}", 500)

    app = make_wiki(tmp_path, scripted("x"), exception_handlers={Exception: anything})
    app.add_middleware(SessionMiddleware, secret_key="key")

    @app.page("/broken")
    def broken(request: Request) -> str:
        request.session["count"] = 1
        raise ValueError("no")

    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.get("/broken").text == "sorry: no"


def test_a_lifespan_that_raises_stops_the_start_and_closes_everything(tmp_path: Path) -> None:
    @contextlib.asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[None]:
        raise RuntimeError("no database today")
        yield

    app = make_wiki(tmp_path, scripted("x"), lifespan=lifespan)
    with pytest.raises(RuntimeError, match="no database today"), browser(app):
        pass
    with pytest.raises(BadApp, match="not running"):
        _ = app.store

    async def start() -> str:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "lifespan.startup"}

        async def send(message: Any) -> None:
            sent.append(message)

        with pytest.raises(RuntimeError):
            await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
        return str(sent[-1]["message"])

    message = asyncio.run(start())
    assert 'raise RuntimeError("no database today")\nRuntimeError: no database today' in message
    assert "frames of the framework and its libraries are hidden" in message and "Traceback" not in message


def test_unknown_arguments_are_errors(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="Did you mean"):
        App("x", middlewares=[])
    with pytest.raises(BadSetting, match="jobs"):  # and not the valid engine_seconds, which is similar to engine
        App("x", engine_seconds=5, jobs="many")
    with pytest.raises(AttributeError, match="Did you mean 'fallback'"):
        _ = make_wiki(tmp_path, scripted("x")).falback  # type: ignore[attr-defined]


def test_starlettes_deprecated_arguments_are_errors_that_name_the_new_ones() -> None:
    with pytest.raises(BadSetting, match=r"no argument 'on_startup'\. Pass lifespan="):
        App("x", on_startup=[])


def test_a_limit_of_request_bodies_passes_through(tmp_path: Path) -> None:
    async def size(request: Request) -> Response:
        return PlainTextResponse(str(len(await request.body())))

    app = make_app(tmp_path, scripted("x"), max_body_size=10, routes=[Route("/size", size, methods=["POST"])])
    with browser(app) as client:
        assert client.post("/size", content=b"small").text == "5"
        assert client.post("/size", content=b"larger than ten").status_code == 413


def test_two_apps_in_one_process_share_nothing(tmp_path: Path) -> None:
    one, two = (make_wiki(tmp_path, scripted(text), database=str(tmp_path / text)) for text in ("One.", "Two."))
    with browser(one) as first, browser(two) as second:
        assert "One." in first.get("/wiki/A?plain=1").text
        assert "Two." in second.get("/wiki/A?plain=1").text


# -- invalid declarations ----------------------------------------------------------------


def test_invalid_declarations_are_errors_at_startup(tmp_path: Path) -> None:
    with pytest.raises(BadApp, match="has no pages"):
        make_app(tmp_path, scripted("x")).prepare()
    twice = make_wiki(tmp_path, scripted("x"))
    twice.page("/wiki/{name}", name="other")(lambda name: name)
    with pytest.raises(BadApp, match=r"same path .* needs another prefix"):
        twice.prepare()
    named = make_wiki(tmp_path, scripted("x"))
    named.page("/other/{name}", name="article")(lambda name: name)
    with pytest.raises(BadApp, match="Two pages are called 'article'"):
        named.prepare()
    raw = make_wiki(tmp_path, scripted("x"))
    raw.page("/wiki/{name:raw}", name="other")(lambda name: name)
    with pytest.raises(BadApp, match="same path"):
        raw.prepare()
    actions = make_wiki(tmp_path, scripted("x"))
    actions.action("/one", name="save")(lambda: None)
    actions.action("/two", name="save")(lambda: None)
    with pytest.raises(BadApp, match="Two actions are called 'save'"):
        actions.prepare()
    with pytest.raises(BadApp, match="leads to no page"):
        make_wiki(tmp_path, scripted("x"), links="/article/{title}").prepare()
    app: Any = make_app(tmp_path, scripted("x"))
    for decorator in (app.page, app.action, app.route, app.on_written):
        with pytest.raises(BadApp, match=r"Write @app\.\w+\(\"/path\"\)"):
            decorator(lambda: "x")
        with pytest.raises(BadApp, match="must begin with a slash"):
            decorator("wiki/{title}")


PATTERNS = {
    "/{n:integer}": "unknown type.*'int'",
    "/{n:tea}": "unknown type. Known: float",
    "/{a}/{b}/{a}": "two parameters 'a'",
    "/wiki/{title": "braces",
    "/wiki/title}": "braces",
    "/wiki/{}": "braces",
    "/wiki/{the title}": "braces",
    "/wiki/{title:}": "braces",
    "/wiki/{1}": "braces",
    "/wiki/{{title}}": "braces",
    "/wiki/<title>": r"angle brackets. Write a parameter as \{name\}",
    "/wiki/<int:number>": "angle brackets",
    "/search?q={q}": "query",
    "/wiki/{title}#top": "fragment",
    "wiki/{title}": "begin with a slash: '/wiki",
    "": "begin with a slash",
}


@pytest.mark.parametrize(("pattern", "message"), PATTERNS.items())
def test_invalid_path_patterns_are_errors_that_say_what_to_write(tmp_path: Path, pattern: str, message: str) -> None:
    app: Any = make_app(tmp_path, scripted("x"))

    def function(**parameters: Any) -> str:
        return "x"

    declarations: list[Callable[[], Any]] = [
        *(partial(decorator, pattern) for decorator in (app.page, app.action, app.route, app.on_written)),
        lambda: app.page("/{title}", links=pattern)(function),
        lambda: App("x", links=pattern or " "),
    ]
    if pattern.startswith("/"):
        for kind in ("page", "action", "route", "on_written"):
            router: Any = Router()
            getattr(router, kind)("/tea")(function)
            declarations.append(partial(app.include_router, router, prefix=pattern))
    for declare in declarations[: None if pattern else 4]:
        with pytest.raises(BadApp, match=message):
            declare()


def test_render_takes_a_status_code(tmp_path: Path) -> None:
    app = make_wiki(
        tmp_path, scripted("x"), folder=templates(tmp_path, lost="<h1>{{ title }}</h1>{{ url_for('home') }}")
    )

    @app.route("/home", name="home")
    def home(request: Request) -> Response:
        return app.render("lost.html", status_code=404, title="Lost")

    with browser(app) as client:
        answer = client.get("/home")
        assert (answer.status_code, answer.text) == (404, "<h1>Lost</h1>/home")


# -- sessions and users -----------------------------------------------------------------------------------


class Backend(AuthenticationBackend):
    """Sign in every visitor that has a name in the session."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser] | None:
        name = conn.session.get("name")
        return (AuthCredentials(["authenticated"]), SimpleUser(name)) if name else None


def make_club(home: Path, **options: Any) -> App:
    """Return an app with a login route and a members-only page that has a form."""
    page = (
        "{% extends 'layout.html' %}{% block main %}{% block body %}{{ body }}{% endblock %}"
        "<form {{ action('post') }}><input name='text'></form>{{ who }}{% endblock %}"
    )
    app = make_app(
        home,
        scripted("Welcome."),
        folder=templates(home, members=page),
        middleware=[
            Middleware(SessionMiddleware, secret_key="key"),
            Middleware(AuthenticationMiddleware, backend=Backend()),
        ],
        **options,
    )

    @app.route("/login", name="login")
    async def login(request: Request) -> Response:
        if name := request.query_params.get("name"):
            request.session["name"] = name
            return RedirectResponse(request.url_for("members"))
        return PlainTextResponse("who are you?")

    @app.page("/members")
    @requires("authenticated", redirect="login")
    async def members(request: Request) -> Page:
        return Page("members.html", body=Canvas("A welcome."), who=f"{request.user.display_name} is here")

    @app.action("/post")
    def post(text: str) -> None:
        return None

    return app


def test_requires_redirects_and_page_functions_see_the_user(tmp_path: Path) -> None:
    with browser(make_club(tmp_path)) as client:
        answer = client.get("/members")
        assert answer.status_code == 303 and answer.headers["location"].startswith("http://testserver/login?next=")
        assert client.get("/login?name=ada").headers["location"] == "http://testserver/members"
        assert "ada is here" in client.get("/members").text


def test_an_action_on_a_protected_page_sees_the_same_user(tmp_path: Path) -> None:
    with browser(make_club(tmp_path)) as client:
        client.get("/login?name=ada")
        html = client.get("/members?plain=1").text
        url = html.partition('<form method="post" action="')[2].partition('"')[0].replace("&amp;", "&")
        answer = client.post(url, data={"text": "hello"}, headers={"origin": "http://testserver"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/members")


def test_edits_and_history_of_a_protected_page_see_the_same_user(tmp_path: Path) -> None:
    with browser(make_club(tmp_path)) as client:
        client.get("/login?name=ada")
        client.get("/members?plain=1")
        assert client.get("/_unwritten/history?page=/members").status_code == 200
        assert client.get("/_unwritten/edit?page=/members").status_code == 200
        client.cookies.clear()
        assert client.get("/_unwritten/edit?page=/members").status_code != 200


# -- mounted ----------------------------------------------------------------------------------------------


def outer(app: App, prefix: str = "/guide") -> Starlette:
    return Starlette(routes=[Mount(prefix, app, name="guide"), Route("/", lambda request: PlainTextResponse("outer"))])


def test_everything_works_under_a_mount(tmp_path: Path) -> None:
    app = make_club(tmp_path)

    @app.page("/wiki/{title}")
    def article(title: str) -> Page:
        return Page("page.html", body=Canvas(f"About {title}. See [[Tea]]."))

    with TestClient(outer(app), headers=BROWSER, follow_redirects=False) as client:
        assert client.get("/").text == "outer"
        page = client.get("/guide/wiki/Great_Auk").text
        assert 'data-root="/guide"' in page and 'href="/guide/_unwritten/static/' in page
        assert 'url=/guide/wiki/Great_Auk?plain=1"' in page
        style = page.partition('<link rel="stylesheet" href="')[2].partition('"')[0]
        assert client.get(style).status_code == 200
        with client.websocket_connect("/guide/_unwritten/live") as ws:
            watch(ws, "/wiki/Great_Auk")
            assert until_over(ws)[-1]["state"] == "written"
        assert app.store.get("/wiki/Great_Auk") is not None, "keys are stored without the prefix"
        # redirects keep the prefix
        assert client.get("/guide/wiki/Great Auk").headers["location"] == "/guide/wiki/Great_Auk"
        answer = client.get("/guide/login?name=ada")
        assert answer.headers["location"] == "http://testserver/guide/members"
        html = client.get("/guide/members?plain=1").text
        url = html.partition('<form method="post" action="')[2].partition('"')[0].replace("&amp;", "&")
        assert url.startswith("/guide/post?")
        answer = client.post(url, data={"text": "hello"}, headers={"origin": "http://testserver"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/guide/members")
        assert client.get("/guide/health").json()["status"] == "ok"
        assert client.get("/wiki/Great_Auk").status_code == 404


@pytest.mark.parametrize("prefix", ["", "/gu%20ide"])
@pytest.mark.parametrize("signed", ["on", "off"])
@pytest.mark.parametrize("way", ["mount", "root_path"])
def test_link_takes_what_url_for_returns(tmp_path: Path, prefix: str, signed: str, way: str) -> None:
    template = (
        "{% extends 'layout.html' %}{% block main %}{{ link(url_for('article', title='Great Auk')) }} "
        "{{ url_for('article', title='Great Auk')|link }} {{ app.url_path_for('article', title='Great Auk')|link }} "
        "{{ url_for('article', title='Great Auk') }} "
        "{{ link(url_for('article', title='', default=none), default='none') }}{% endblock %}"
    )
    app = make_wiki(tmp_path, scripted("Words."), signed_links=signed, folder=templates(tmp_path, front=template))
    app.page("/")(lambda: Page("front.html"))
    path = unquote(prefix)
    asgi, root_path = (outer(app, path), "") if way == "mount" and prefix else (app, path)
    with TestClient(asgi, headers=BROWSER, follow_redirects=False, root_path=root_path) as client:
        html = client.get(f"{prefix}/").text
        *links, url, none = html.partition("<main")[2].partition("</main>")[0].partition(">")[2].split()[:5]
        assert (url, none) == (f"{prefix}/wiki/Great_Auk", "none") and len(set(links)) == 1
        assert links[0].partition("?_s=")[0] == url and ("?_s=" in links[0]) == (signed == "on")
        assert client.get(links[0]).status_code == (303 if signed == "on" else 200)
        assert client.get(url).status_code == 200, "the page has been started"


def test_links_have_the_prefix_and_are_stored_without_it(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("A [[Tower]] by the sea."), signed_links="on")
    with TestClient(outer(app, "/gu ide/{lang}"), headers=BROWSER, follow_redirects=False) as client:
        first = client.get("/gu ide/en/wiki/Lighthouse")
        assert first.status_code == 404, "the URL is not signed"
        signed = app.site.signed_links.sign("/wiki/Lighthouse")
        answer = client.get(f"/gu%20ide/en{signed}")
        assert answer.status_code == 303
        html = client.get("/gu%20ide/en/wiki/Lighthouse?plain=1").text
        link = html.partition('<a href="')[2].partition('"')[0]
        assert "/wiki/Tower?_s=" in html
        assert [link.key for link in app.store.links_to("/wiki/Tower")] == ["/wiki/Lighthouse"], link


def test_a_mounted_app_finds_names_of_the_app_around_it(tmp_path: Path) -> None:
    async def name(request: Request) -> Response:
        return JSONResponse(
            [str(request.url_for("login")), str(request.url_for("own")), str(request.url_for("in:own"))]
        )

    app = make_wiki(tmp_path, scripted("x"), routes=[Route("/own", name, name="own")])

    @app.page("/secret")
    @requires("authenticated", redirect="login")
    async def secret(request: Request) -> str:
        return "A secret."

    class NoUsers(AuthenticationBackend):
        async def authenticate(self, conn: HTTPConnection) -> None:
            return None

    outer = Starlette(
        routes=[Route("/login", name, name="login"), Mount("/wiki", app, name="in")],
        middleware=[Middleware(AuthenticationMiddleware, backend=NoUsers())],
    )
    with TestClient(outer, headers=BROWSER, follow_redirects=False, root_path="/site") as client:
        site = "http://testserver/site"
        assert client.get("/site/wiki/own").json() == [f"{site}/login", f"{site}/wiki/own", f"{site}/wiki/own"]
        assert client.get("/site/wiki/secret").headers["location"].startswith(f"{site}/login?")


def test_a_root_path_set_by_the_server(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("A [[Tower]]."))
    with TestClient(app, headers=BROWSER, root_path="/proxy", follow_redirects=False) as client:
        client.get("/proxy/wiki/Lighthouse?plain=1")
        assert 'href="/proxy/wiki/Tower"' in client.get("/proxy/wiki/Lighthouse").text
