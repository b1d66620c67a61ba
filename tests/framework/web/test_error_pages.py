"""Error pages, for visitors, other clients and developers."""

from __future__ import annotations

import http.client
import re
import socket
import time
import urllib.error
import urllib.request
from html import escape
from pathlib import Path

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from tests.support.apps import browser, make_app, make_wiki, templates
from tests.support.forum import action_url
from tests.support.html_checks import page_faults
from tests.support.servers import served, wait_for

from unwritten import App, Page
from unwritten_engine import scripted

PROGRAM = {"accept": "*/*"}


def broken_app(home: Path, **given: object) -> App:
    """Return an app whose page functions fail in different ways."""
    app = make_app(home, scripted("Words."), **given)

    @app.page("/raises")
    def raises() -> str:
        return helper_of_the_author()

    @app.page("/wrong")
    def wrong() -> int:
        return 7

    @app.page("/empty")
    async def empty() -> str:
        return "  "

    @app.page("/template")
    def template() -> Page:
        return Page("nowhere.html")

    return app


def helper_of_the_author() -> str:
    raise KeyError("the <secret> lamp")


def test_unknown_urls_and_methods_have_error_pages(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("Words."))) as client:
        answer = client.get("/nowhere/<b>")
        assert answer.status_code == 404
        assert answer.headers["content-type"].startswith("text/html")
        assert "Fake Wiki has no page at /nowhere/" in answer.text and "<b>" not in answer.text
        assert page_faults(answer.text) == []
        answer = client.get("/nowhere", headers=PROGRAM)
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.text == "Page not found. Fake Wiki has no page at /nowhere.\n"
        assert client.post("/wiki/X").status_code == 405


@pytest.mark.parametrize("path", ["/raises", "/wrong", "/empty", "/template"])
def test_a_server_error_has_a_number_that_is_in_the_log(
    tmp_path: Path, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with browser(broken_app(tmp_path), raise_server_exceptions=False) as client:
        for headers in (None, PROGRAM):
            answer = client.get(path, headers=headers)
            assert answer.status_code == 500
            assert "secret" not in answer.text and "Traceback" not in answer.text
            number = re.search(r"under the number ([0-9a-f]{8})", answer.text)
            assert number and number[1] in caplog.text
        assert page_faults(client.get(path).text) == []


def test_a_wrong_return_value_is_explained_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with browser(broken_app(tmp_path), raise_server_exceptions=False) as client:
        client.get("/wrong")
        assert "The page function 'wrong' returned int ('7'), which is not a page. Return a prompt" in caplog.text
        client.get("/empty")
        assert "'empty' returned an empty prompt" in caplog.text
        client.get("/template")
        assert "There is no template 'nowhere.html'" in caplog.text


@pytest.mark.parametrize("headers", [None, PROGRAM])
def test_developers_see_the_traceback_without_framework_frames(tmp_path: Path, headers: dict[str, str] | None) -> None:
    with browser(broken_app(tmp_path, debug=True), raise_server_exceptions=False) as client:
        answer = client.get("/raises", headers=headers)
    assert answer.status_code == 500
    assert "KeyError" in answer.text
    assert headers or "<secret>" not in answer.text
    assert "helper_of_the_author" in answer.text and "in raises" in answer.text
    for ours in ("routes.py", "starlette", "anyio", "asyncio", "resolver.py"):
        assert ours not in answer.text


@pytest.mark.parametrize(
    ("path", "line"),
    [("/wrong", "    def wrong() -> int:"), ("/empty", "    async def empty() -> str:")],
)
def test_the_overlay_shows_the_function_with_the_wrong_result(tmp_path: Path, path: str, line: str) -> None:
    with browser(broken_app(tmp_path, debug=True)) as client:
        page = client.get(path).text
    number = Path(__file__).read_text(encoding="utf-8").split("\n").index(line) + 1
    assert f"<b>{Path(__file__).relative_to(Path.cwd())}</b>, line {number}, in {path[1:]}" in page
    current = f'aria-current="true"><span class="devtools-number">{number}</span>{escape(line)}'
    assert current in page and "returned" in page


def test_an_action_with_a_wrong_return_value_is_shown_at_its_definition(tmp_path: Path) -> None:
    form = """{% extends "layout.html" %}{% block main %}<form {{ action("act") }}></form>{% endblock %}"""
    app = make_app(tmp_path, scripted("Words."), folder=templates(tmp_path, form=form), debug=True)

    @app.page("/")
    def front() -> Page:
        return Page("form.html")

    @app.action("/act")
    def act() -> int:
        return 7

    with browser(app) as client:
        page = client.post(action_url(client.get("/").text, "/act")).text
    assert "</span>    def act() -&gt; int:" in page and "which is not a response" in page


def test_a_client_is_told_that_its_connection_is_closed_after_an_error(tmp_path: Path) -> None:
    """Otherwise its next request may be sent to a closed connection, which proxies report as status 502."""
    with served(broken_app(tmp_path)) as host:
        connection = http.client.HTTPConnection(host)
        for path, status, closed in (("/health", 200, None), ("/raises", 500, "close")):
            connection.request("GET", path)
            answer = connection.getresponse()
            assert (answer.status, answer.getheader("connection")) == (status, closed)
            answer.read()
        connection.close()


def test_a_client_that_leaves_before_its_body_has_arrived_is_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app, left = make_app(tmp_path, scripted("Words.")), []

    @app.route("/echo", methods=["POST"])
    async def echo(request: Request) -> PlainTextResponse:
        try:
            return PlainTextResponse(await request.body())
        except ClientDisconnect:
            left.append(request.url.path)
            raise

    with served(app) as address:
        host, port = address.split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"POST /echo HTTP/1.1\r\nhost: %s\r\ncontent-length: 9\r\n\r\nhalf" % address.encode())
            time.sleep(0.1)  # the request runs, and waits for the rest
        wait_for(lambda: bool(left))
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_traceback_is_logged_short_and_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with served(broken_app(tmp_path)) as host, pytest.raises(urllib.error.HTTPError, match="500"):
        urllib.request.urlopen(f"http://{host}/raises")
    records = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [record.name for record in records] == ["unwritten"], "the server does not log it again"
    text = records[0].getMessage()
    hidden = r"\(\d+ frames of the framework and its libraries are hidden\)"
    assert re.match(rf"/raises failed \([0-9a-f]{{8}}\):\n  {hidden}\n", text)
    assert [line.strip() for line in text.split("\n")[2:]] == [
        f'File "{Path(__file__).relative_to(Path.cwd())}", line {line_of("return helper_of_the_author()")}, in raises',
        "return helper_of_the_author()",
        f'File "{Path(__file__).relative_to(Path.cwd())}", line {line_of("raise KeyError(")}, in helper_of_the_author',
        'raise KeyError("the <secret> lamp")',
        "KeyError: 'the <secret> lamp'",
    ]
    assert records[0].exc_info is None


def line_of(text: str) -> int:
    """Return the number of the first line of this file that begins with a text."""
    lines = Path(__file__).read_text(encoding="utf-8").split("\n")
    return next(number for number, line in enumerate(lines, 1) if line.strip().startswith(text))


def test_a_page_function_that_hangs_is_a_504(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten.routing.page_function.FUNCTION_TIME_LIMIT", 0.2)
    import asyncio
    import threading

    app = make_app(tmp_path, scripted("Words."))
    gate = threading.Event()

    @app.page("/sync")
    def sync() -> str:
        gate.wait(10)
        return "x"

    @app.page("/async")
    async def never() -> str:
        await asyncio.sleep(60)
        return "x"

    with browser(app) as client:
        for path, name in (("/sync", "sync"), ("/async", "never")):
            answer = client.get(path)
            assert answer.status_code == 504
            assert f"The function &#39;{name}&#39; did not return within 0.2 seconds." in answer.text
        gate.set()


def test_a_broken_error_template_falls_back_to_plain_text(tmp_path: Path) -> None:
    home = templates(tmp_path, error="{{ 1 / 0 }}")
    with browser(make_wiki(tmp_path, scripted("Words."), folder=home)) as client:
        answer = client.get("/nowhere")
        assert answer.status_code == 404
        assert answer.headers["content-type"].startswith("text/plain")
        assert "Fake Wiki has no page" in answer.text


def test_the_authors_error_template_takes_precedence(tmp_path: Path) -> None:
    home = templates(tmp_path, error="<h1>{{ status }}: {{ title }}</h1>{{ message }}")
    with browser(make_wiki(tmp_path, scripted("Words."), folder=home)) as client:
        assert client.get("/nowhere").text.startswith("<h1>404: Page not found</h1>")


@pytest.mark.parametrize("path", ["/nowhere", "/raises", "/wiki/" + "x" * 500])
def test_error_pages_have_security_headers(tmp_path: Path, path: str) -> None:
    app = broken_app(tmp_path)

    @app.page("/wiki/{title}")
    def article(title: str) -> str:
        return title

    with browser(app, raise_server_exceptions=False) as client:
        answer = client.get(path)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert client.get(path, headers=PROGRAM).headers["x-content-type-options"] == "nosniff"


def test_authors_may_raise_http_exceptions(tmp_path: Path) -> None:
    from starlette.exceptions import HTTPException

    app = make_app(tmp_path, scripted("Words."))

    @app.page("/tea")
    def tea() -> str:
        raise HTTPException(418, "I am a <teapot>.")

    @app.page("/direct")
    def direct() -> PlainTextResponse:
        return PlainTextResponse("as it is", 202)

    with browser(app) as client:
        answer = client.get("/tea")
        assert answer.status_code == 418 and "I am a &lt;teapot&gt;." in answer.text
        answer = client.get("/direct")
        assert (answer.status_code, answer.text) == (202, "as it is")


def test_broken_referers_are_ignored(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("Words."))) as client:
        for referer in ("http://[", "http://testserver[/", "http://testserver/wiki/X?y=%FF", "x" * 5000):
            assert client.get("/wiki/A", headers={"referer": referer}).status_code == 200
