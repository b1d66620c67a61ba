"""What people and programs see when something goes wrong, and what a developer sees."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse
from tests.support.apps import browser, make_app, make_wiki, page_faults, templates

from unwritten import App, Page
from unwritten_engine import scripted

pytestmark = pytest.mark.timeout(30)

PROGRAM = {"accept": "*/*"}


def broken_app(home: Path, **given: object) -> App:
    """An app whose page functions go wrong in every way."""
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


def test_a_page_that_is_nowhere(tmp_path: Path) -> None:
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
def test_a_broken_page_has_a_number_that_the_log_has_too(
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


def test_a_wrong_return_is_explained_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with browser(broken_app(tmp_path), raise_server_exceptions=False) as client:
        client.get("/wrong")
        assert "The page function 'wrong' returned int ('7'), which is not a page. Return a prompt" in caplog.text
        client.get("/empty")
        assert "'empty' returned an empty prompt" in caplog.text
        client.get("/template")
        assert "There is no template 'nowhere.html'" in caplog.text


@pytest.mark.parametrize("headers", [None, PROGRAM])
def test_a_developer_sees_the_traceback_without_our_frames(tmp_path: Path, headers: dict[str, str] | None) -> None:
    with browser(broken_app(tmp_path, debug=True), raise_server_exceptions=False) as client:
        answer = client.get("/raises", headers=headers)
    assert answer.status_code == 500
    assert "KeyError" in answer.text
    assert headers or "<secret>" not in answer.text
    assert "helper_of_the_author" in answer.text and "in raises" in answer.text
    for ours in ("routes.py", "starlette", "anyio", "asyncio", "resolver.py"):
        assert ours not in answer.text


def test_a_function_that_never_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_broken_error_template_of_the_author(tmp_path: Path) -> None:
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
def test_every_failure_is_sent_securely(tmp_path: Path, path: str) -> None:
    app = broken_app(tmp_path)

    @app.page("/wiki/{title}")
    def article(title: str) -> str:
        return title

    with browser(app, raise_server_exceptions=False) as client:
        answer = client.get(path)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert client.get(path, headers=PROGRAM).headers["x-content-type-options"] == "nosniff"


def test_an_author_may_raise_what_starlette_knows(tmp_path: Path) -> None:
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


def test_a_request_with_broken_headers_is_answered_all_the_same(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("Words."))) as client:
        for referer in ("http://[", "http://testserver[/", "http://testserver/wiki/X?y=%FF", "x" * 5000):
            assert client.get("/wiki/A", headers={"referer": referer}).status_code == 200
