"""Access: a visitor who may not read a page does not receive it in any other way."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import itsdangerous
import pytest
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser, requires
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Router
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.support.apps import BROWSER, LIVE, make_app, until
from tests.support.servers import wait_for

from unwritten import App, Canvas, Visit
from unwritten.core.errors import BadApp
from unwritten.routing.access import identity
from unwritten.web import live_socket
from unwritten_engine import scripted

SECRET = "/secret/Plan"
KEY = "key of the sessions"
TEXT = "The secret word is xyzzy, as in [[Tower]]."

ANN = base64.b64encode(json.dumps({"user": "ann"}).encode())
COOKIE = "session=" + itsdangerous.TimestampSigner(KEY).sign(ANN).decode()
"""The cookie of a visitor who is signed in."""

LOGIN = Middleware(SessionMiddleware, secret_key=KEY)


def signed_in(request: HTTPConnection) -> bool:
    return "user" in request.session


class GateMiddleware(BaseHTTPMiddleware):
    """Redirects strangers to a login. It never sees a WebSocket."""

    async def dispatch(self, request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        if "/secret/" in request.url.path and not signed_in(request):
            return RedirectResponse("/login")
        return await call_next(request)


class PureGate:
    """Refuses strangers, for HTTP only."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and "/secret/" in scope["path"] and "user" not in scope["session"]:
            await PlainTextResponse("No.", 401)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class Backend(AuthenticationBackend):
    """Signs in who has a session."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser] | None:
        return (AuthCredentials(["reader"]), SimpleUser("ann")) if signed_in(conn) else None


def answer(request: Any) -> str:
    return "<!doctype html><title>xyzzy</title><p>A box." if "Box" in request.prompt.ask else TEXT


def canvas(title: str) -> Canvas:
    return Canvas(f"About {title}.", "app" if title == "Box" else "")


def with_gate(home: Path, **given: Any) -> App:
    app = make_app(home, scripted(answer), middleware=[LOGIN, Middleware(GateMiddleware)], **given)
    app.page("/secret/{title}")(secret)
    return app


def with_pure_gate(home: Path) -> App:
    app = make_app(home, scripted(answer), middleware=[LOGIN, Middleware(PureGate)])
    app.page("/secret/{title}")(secret)
    return app


def secret(title: str) -> Canvas:
    return canvas(title)


def with_rule(home: Path) -> App:
    app = make_app(home, scripted(answer), middleware=[LOGIN])
    app.page("/secret/{title}", allow=signed_in)(secret)
    return app


def with_requires(home: Path) -> App:
    middleware = [LOGIN, Middleware(AuthenticationMiddleware, backend=Backend())]
    app = make_app(home, scripted(answer), middleware=middleware)

    @app.page("/secret/{title}")
    @requires("reader")
    def page(request: Request, title: str) -> Canvas:
        return canvas(title)

    return app


def with_error(home: Path) -> App:
    app = make_app(home, scripted(answer), middleware=[LOGIN])

    @app.page("/secret/{title}")
    def page(request: Request, title: str) -> Canvas:
        if not signed_in(request):
            raise HTTPException(404)
        return canvas(title)

    return app


def with_login_response(home: Path) -> App:
    app = make_app(home, scripted(answer), middleware=[LOGIN])

    @app.page("/secret/{title}")
    async def page(request: Request, title: str) -> Canvas | Response:
        return canvas(title) if signed_in(request) else RedirectResponse("/login")

    return app


def without_gate(home: Path) -> App:
    app = make_app(home, scripted(answer))
    app.page("/secret/{title}")(secret)
    return public(app)


def with_mount(home: Path) -> ASGIApp:
    return Starlette(routes=[Mount("/", without_gate(home))], middleware=[LOGIN, Middleware(GateMiddleware)])


def with_nested_mounts(home: Path) -> ASGIApp:
    return Starlette(
        routes=[Mount("/", Starlette(routes=[Mount("/", without_gate(home))]))],
        middleware=[LOGIN, Middleware(GateMiddleware)],
    )


def with_router(home: Path) -> ASGIApp:
    return Router(routes=[Mount("/", without_gate(home))], middleware=[LOGIN, Middleware(GateMiddleware)])


def public(app: App) -> App:
    """Add what everyone may read, and the lists of pages that it shows."""

    @app.page("/open/{title}")
    def article(title: str) -> Canvas:
        return Canvas(f"On {title}.")

    @app.page("/recent")
    def recent() -> Response:
        return PlainTextResponse(" ".join(entry.key for entry in app.store.recent()))

    @app.route("/search")
    def search(request: Request) -> Response:
        return PlainTextResponse(" ".join(entry.key + entry.snippet for entry in app.store.search("xyzzy")))

    @app.route("/found")
    async def found(request: Request) -> Response:
        entries = await run_in_threadpool(app.store.search, "xyzzy")
        return PlainTextResponse(" ".join(entry.key for entry in entries))

    @app.page("/latest")
    async def latest() -> Response:
        entries = await run_in_threadpool(app.store.recent, 10)
        return PlainTextResponse(" ".join(entry.key for entry in entries))

    @app.route("/readable")
    async def readable(request: Request) -> Response:
        return PlainTextResponse(" ".join(await app.readable([SECRET, "/open/Tower"], request)))

    @app.route("/graph")
    def graph(request: Request) -> Response:
        return PlainTextResponse(" ".join(node.key for node in (*app.store.link_graph(), *app.store.missing_pages())))

    return app


MAKERS = [
    with_gate,
    with_pure_gate,
    with_rule,
    with_requires,
    with_error,
    with_login_response,
    with_mount,
    with_nested_mounts,
    with_router,
]


@pytest.fixture(params=MAKERS, ids=lambda maker: maker.__name__)
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestClient]:
    """A client of an app with a secret page that Ann has opened, and a box there."""
    made = request.param(tmp_path)
    app = public(made) if isinstance(made, App) else made
    with TestClient(app, headers=BROWSER, follow_redirects=False) as client:
        for key in (SECRET, "/secret/Box", "/open/Tower"):
            assert client.get(key, headers={"cookie": COOKIE}).status_code == 200
            wait_for(lambda key=key: site(app).store.exists([key]))  # type: ignore[misc]
        yield client


def site(app: Any) -> Any:
    return app.site if isinstance(app, App) else site(app.routes[0].app)


def hear(client: TestClient, kind: str, key: str, **headers: str) -> list[Any]:
    """Send a message about a page, and return the messages up to the end of one about an unknown page."""
    with client.websocket_connect(LIVE, headers=headers) as ws:
        ws.send_json({"type": kind, "page": key, "links": []})
        ws.send_json({"type": "watch", "page": "/nowhere"})
        return until(ws, page="/nowhere")


def test_a_stranger_gets_a_secret_page_in_no_way(client: TestClient) -> None:
    assert client.get(SECRET).status_code in {302, 303, 307, 401, 403, 404}
    for kind in ("watch", "follow", "view"):
        assert "xyzzy" not in json.dumps(hear(client, kind, SECRET))
    refused = {
        "history": client.get(f"/_unwritten/history?page={SECRET}"),
        "diff": client.get(f"/_unwritten/history?page={SECRET}&from=1&to=1"),
        "edit": client.get(f"/_unwritten/edit?page={SECRET}"),
        "write": client.post("/_unwritten/write", data={"page": SECRET}),
        "rewrite": client.post("/_unwritten/rewrite", data={"page": SECRET}),
        "restore": client.post("/_unwritten/restore", data={"page": SECRET, "version": "1", "base": "1"}),
        "version": client.get(f"{SECRET}?version=1"),
        "plain": client.get(f"{SECRET}?plain=1"),
        "data": client.get(f"{SECRET}.json"),
        "data of a version": client.get(f"{SECRET}.json?version=1"),
        "accept": client.get(SECRET, headers={"accept": "application/json"}),
        "copy": client.get(SECRET, headers={"if-none-match": "*"}),
        "copy of data": client.get(f"{SECRET}.json", headers={"if-none-match": "*"}),
        "head": client.head(SECRET),
        "prefetch": client.get(SECRET, headers={"sec-purpose": "prefetch"}),
        "alias": client.post("/_unwritten/alias", data={"page": SECRET, "alias": "/secret/Other"}),
        "box": client.get("/_unwritten/box?page=/secret/Box&region=body"),
        "state": client.get("/_unwritten/box/state?page=/secret/Box&region=body"),
        "save": client.post("/_unwritten/box/state", json={"page": "/secret/Box", "region": "body", "state": "1"}),
    }
    for name, answer in refused.items():
        assert answer.status_code in {302, 303, 307, 401, 403, 404}, name
        assert "xyzzy" not in answer.text and answer.headers.get("location") in {None, "/login"}, name
    for path in ("/recent", "/search", "/found", "/graph", "/latest", "/readable", "/feed.atom"):
        assert "/secret/" not in client.get(path).text, path
    for path in ("/recent", "/found", "/latest", "/readable"):
        assert "/open/Tower" in client.get(path).text, path


def test_who_is_signed_in_gets_it_in_all_of_them(client: TestClient) -> None:
    headers = {"cookie": COOKIE}
    heard = hear(client, "watch", SECRET, **headers)
    assert any("xyzzy" in message.get("html", "") for message in heard)
    for path in ("history", "edit"):
        answer = client.get(f"/_unwritten/{path}?page={SECRET}", headers=headers)
        assert answer.status_code == 200, answer.text
    assert client.get("/_unwritten/box/state?page=/secret/Box&region=body", headers=headers).status_code in {200, 404}
    assert SECRET in client.get("/search", headers=headers).text
    assert SECRET in client.get("/found", headers=headers).text
    assert SECRET in client.get("/readable", headers=headers).text
    for path in ("/recent", "/latest"):
        assert SECRET not in client.get(path, headers=headers).text, "a page is the same for all visitors"


def test_prompts_of_other_pages_use_only_what_everyone_may_read(client: TestClient) -> None:
    engine = site(client.app).engine

    def facts(title: str) -> str:
        wait_for(lambda: any(f"On {title}." in request.prompt.ask for request in engine.requests))
        return json.dumps([r.prompt.facts for r in engine.requests if f"On {title}." in r.prompt.ask])

    assert "xyzzy" not in facts("Tower"), "only secret pages had mentioned it"
    client.get("/open/Word", headers={"cookie": COOKIE, "referer": f"http://testserver{SECRET}"})
    assert "xyzzy, as in Tower" in facts("Word"), "the open page about the tower mentions it"


def test_an_open_app_needs_no_checks(tmp_path: Path) -> None:
    app = public(make_app(tmp_path, scripted(answer)))
    with TestClient(app, headers=BROWSER) as client:
        client.get("/open/Tower")
        access = app.site.access
        assert access.is_open("/open/Tower") and not access.is_restricted
        assert not access.is_open("/search") and not access.is_open("/nowhere") and not access.is_open("//x")


def test_a_session_that_ends_stops_the_open_tabs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_socket, "RECHECK_SECONDS", 0.1)
    banned: list[str] = []

    def not_banned(request: Request) -> bool:
        return signed_in(request) and not banned

    app = make_app(tmp_path, scripted(["A", 0.5, "A b", 60, "A b xyzzy"]), middleware=[LOGIN])
    app.page("/secret/{title}", allow=not_banned)(secret)
    with TestClient(app, headers={**BROWSER, "cookie": COOKIE}) as client:
        client.get(SECRET)
        with client.websocket_connect(LIVE, headers={"cookie": COOKIE}) as ws:
            ws.send_json({"type": "watch", "page": SECRET})
            until(ws, type="frame")
            banned.append("ann")
            assert until(ws, type="page", state="unwritten")
            assert not site(app).jobs.get(SECRET).num_subscribers


def test_pages_of_a_mounted_app_are_not_open_before_its_first_request(tmp_path: Path) -> None:
    """Pages that are continued at the start recall what earlier pages say, and nothing is known of the outer app."""
    app = make_app(tmp_path, scripted(answer))
    app.page("/secret/{title}")(secret)

    async def start() -> None:
        async with app.router.lifespan_context(app):
            access = app.site.access
            assert not access.is_open(SECRET) and not await access.may_read(SECRET, None)
            async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost") as client:
                await client.get("/health")
            assert access.is_open(SECRET), "the app is not mounted"

    asyncio.run(start())


class StateMiddleware:
    """Notes in the state of a connection who is signed in."""

    signed_in = True

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.signed_in and any(name == b"cookie" for name, _ in scope.get("headers", ())):
            scope.setdefault("state", {})["user"] = "ann"
        await self._app(scope, receive, send)


def test_what_middleware_has_noted_for_a_socket_counts_only_until_the_session_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = make_app(tmp_path, scripted(answer))
    inner.page(
        "/secret/{title}", allow=lambda request: request.state.home == "port" and hasattr(request.state, "user")
    )(secret)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
        async with inner.router.lifespan_context(inner):
            yield {"home": "port"}

    app = Starlette(routes=[Mount("/", inner)], middleware=[Middleware(StateMiddleware)], lifespan=lifespan)
    with TestClient(app, headers=BROWSER) as client:
        assert client.get(SECRET).status_code == 403
        assert client.get(SECRET, headers={"cookie": COOKIE}).status_code == 200
        wait_for(lambda: inner.site.store.exists([SECRET]))
        with client.websocket_connect(LIVE, headers={"cookie": COOKIE}) as ws:
            for state in ("written", "unwritten"):
                ws.send_json({"type": "watch", "page": SECRET})
                until(ws, type="page", state=state)
                monkeypatch.setattr(StateMiddleware, "signed_in", False)


@pytest.mark.parametrize("result", [None, "ann", 1])
def test_a_rule_that_returns_no_bool_denies(tmp_path: Path, result: Any) -> None:
    app = make_app(tmp_path, scripted(answer), middleware=[LOGIN])
    app.page("/secret/{title}", allow=lambda request: result)(secret)
    with TestClient(app, headers=BROWSER, raise_server_exceptions=False) as client:
        assert client.get(SECRET).status_code == 500
        assert client.get(f"/_unwritten/history?page={SECRET}").status_code == 403


def test_a_rule_must_be_a_function_of_the_request(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted(answer))
    with pytest.raises(BadApp, match="is not a function"):
        app.page("/a", allow=True)  # type: ignore[arg-type]
    with pytest.raises(BadApp, match="one argument, the request"):
        app.page("/b", allow=lambda: True)  # type: ignore[arg-type,misc]


def test_a_list_that_cannot_be_checked_in_an_async_function_is_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = with_rule(tmp_path)

    @app.route("/async")
    async def page(request: Request) -> Response:
        return PlainTextResponse(str(app.store.recent()))

    with TestClient(app, headers=BROWSER) as client:
        client.get(SECRET, headers={"cookie": COOKIE})
        wait_for(lambda: app.site.store.exists([SECRET]))
        assert client.get("/async").status_code == 500
    assert "await run_in_threadpool(app.store.recent, 10)" in caplog.text


def test_a_stranger_cannot_stop_a_page_before_its_visitor_connects(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted(["A", 60, "A b"]), signed_links="off")
    app.page("/open/{title}")(secret)
    visitor, stranger = (TestClient(app, headers=BROWSER, client=(f"192.0.2.{n}", 1)) for n in (1, 2))
    with visitor:
        stranger.portal = visitor.portal
        assert visitor.get("/open/Tea").status_code == 200
        for client, stops in ((stranger, False), (visitor, True)):
            with client.websocket_connect(LIVE) as ws:
                ws.send_json({"type": "watch", "page": "/open/Tea"})
                until(ws, type="frame")
                ws.send_json({"type": "stop", "page": "/open/Tea"})
                last = until(ws, type="page", state="stopped" if stops else "writing")
                if not stops and not last[-1]["message"]:
                    last = until(ws, type="page")
                assert stops or "Only the visitor who has opened" in last[-1]["message"]


def test_visits_are_read_without_the_check_of_the_page(tmp_path: Path) -> None:
    """A page function that takes a visit may refuse by it."""
    app = make_app(tmp_path, scripted(answer))

    @app.page("/mine/{title}")
    def mine(title: str, visit: Visit) -> Canvas:
        if not visit.visitor:
            raise HTTPException(403)
        return canvas(title)

    with TestClient(app, headers=BROWSER) as client:
        app_site = site(app)
        cookie, _ = app_site.visitor_cookie.new()
        headers = {"cookie": f"{app_site.visitor_cookie.name}={cookie}"}
        assert client.get("/mine/Plan", headers=headers).status_code == 200
        wait_for(lambda: app_site.store.exists(["/mine/Plan"]))
        assert "xyzzy" not in json.dumps(hear(client, "watch", "/mine/Plan"))
        assert client.get("/_unwritten/history?page=/mine/Plan").status_code == 403
        assert "xyzzy" in json.dumps(hear(client, "watch", "/mine/Plan", **headers))


def test_visitors_whom_a_proxy_names_in_a_header_are_told_apart(tmp_path: Path) -> None:
    """They may have one address and one browser, and no cookie."""
    app = public(make_app(tmp_path, scripted(answer)))
    app.page("/secret/{title}", allow=lambda request: request.headers.get("x-forwarded-user") == "ann")(secret)
    ann = {"x-forwarded-user": "ann"}
    with TestClient(app, headers=BROWSER) as client:
        assert client.get(SECRET, headers=ann).status_code == 200
        wait_for(lambda: app.site.store.exists([SECRET]))
        for path in ("/search", "/found"):
            assert SECRET in client.get(path, headers=ann).text
            assert SECRET not in client.get(path, headers={"x-forwarded-user": "bob"}).text
            assert SECRET not in client.get(path).text


def test_two_tabs_of_a_visitor_have_one_identity() -> None:
    def tab(**headers: str) -> Scope:
        common = {"host": "a", "cookie": "c=1", "user-agent": "b"}
        pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in (common | headers).items()]
        return {"type": "websocket", "client": ("192.0.2.1", 1), "headers": pairs}

    one = identity(tab(sec_websocket_key="x", origin="http://a", connection="Upgrade"))
    assert one == identity(tab(sec_websocket_key="y", accept="*/*"))
    assert one != identity(tab(cookie="c=2")) and one != identity(tab(remote_user="ann"))


def test_a_visit_has_no_words_of_a_page_that_the_visitor_may_not_read(tmp_path: Path) -> None:
    """The referer is a header, which a stranger can forge."""
    app = make_app(tmp_path, scripted(answer), middleware=[LOGIN], links="/{title}")
    app.page("/secret/{title}", allow=signed_in)(secret)
    visits: list[Visit] = []

    @app.page("/{title}")
    def article(title: str, visit: Visit) -> str:
        visits.append(visit)
        return f"About {title}."

    referer = {"referer": f"http://testserver{SECRET}"}
    with TestClient(app, headers=BROWSER) as client:
        client.get(SECRET, headers={"cookie": COOKIE})
        wait_for(lambda: app.site.store.exists([SECRET]))
        client.get("/Tower", headers={**referer, "cookie": COOKIE})
        assert visits[-1].came_from == SECRET and "xyzzy" in str(visits[-1].sentence)
        client.cookies.clear()
        client.get("/Tower", headers=referer)
        assert visits[-1].came_from == SECRET and visits[-1].sentence is None and visits[-1].link_text is None
