"""Page functions: their arguments, their calls, and what they may return."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Literal

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from tests.support.apps import browser, make_app, write

from unwritten import Canvas, Page, Visit
from unwritten.core.errors import BadApp, UnwrittenError
from unwritten.routing.page_function import PageFunction
from unwritten.routing.patterns import PagePattern
from unwritten_engine import scripted


class Mood(Enum):
    calm = "calm"
    wild = "wild"


def test_a_function_may_return_a_prompt_a_canvas_a_page_or_a_response(tmp_path: Path) -> None:
    engine = scripted("Words.")
    app = make_app(tmp_path, engine)

    @app.page("/prompt")
    def prompt() -> str:
        return "A prompt."

    @app.page("/canvas")
    async def canvas() -> Canvas:
        return Canvas("A canvas.", format="text")

    @app.page("/page")
    def page() -> Page:
        return Page("page.html", title="A page", body=Canvas("A page's canvas."))

    @app.page("/response")
    def response() -> Response:
        return PlainTextResponse("direct")

    @app.page("/moved")
    def moved() -> RedirectResponse:
        return RedirectResponse("/page")

    with browser(app) as client:
        for path in ("/prompt", "/canvas", "/page"):
            assert write(client, path)[-1]["state"] == "written"
        assert '<h1 dir="auto">A page</h1>' in client.get("/page").text
        assert client.get("/response").text == "direct"
        assert client.get("/moved").status_code == 307
    assert [request.prompt.ask.partition(" The subject")[0] for request in engine.requests] == [
        "A prompt.",
        "A canvas.",
        "A page's canvas.",
    ]


def test_parameters_are_converted_to_their_types(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("Words."))

    @app.page("/t/{name}/{n:int}")
    def typed(
        name: str,
        n: int,
        mood: Mood = Mood.calm,
        size: float = 1.5,
        sort: Literal["up", "down"] = "up",
        loud: bool = False,
    ) -> Response:
        return PlainTextResponse(repr((name, n, mood.value, size, sort, loud)))

    with browser(app) as client:
        assert client.get("/t/Great_Auk/7").text == "('Great Auk', 7, 'calm', 1.5, 'up', False)"
        answer = client.get("/t/A/7?mood=wild&size=2&sort=down&loud=yes&other=1")
        assert answer.text == "('A', 7, 'wild', 2.0, 'down', True)"
        assert client.get("/t/A/x").status_code == 404
        for query, name in (("size=big", "size"), ("mood=odd", "mood"), ("sort=x", "sort"), ("loud=maybe", "loud")):
            answer = client.get(f"/t/A/7?{query}")
            assert answer.status_code == 400
            assert f"is not a valid &#39;{name}&#39;." in answer.text


def test_an_invalid_path_parameter_is_a_404(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("Words."))

    @app.page("/mood/{mood}")
    def page(mood: Literal["calm", "wild"]) -> Response:
        return PlainTextResponse(mood)

    with browser(app) as client:
        assert client.get("/mood/calm").text == "calm"
        assert client.get("/mood/odd").status_code == 404


def test_a_query_parameter_without_a_default_is_required(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("Words."))

    @app.page("/search")
    def search(q: str) -> Response:
        return PlainTextResponse(q)

    with browser(app) as client:
        answer = client.get("/search")
        assert answer.status_code == 400 and "add ?q=… to it" in answer.text
        assert client.get("/search?q=a&q=b").text == "b"
        assert client.get("/search?q=").text == ""


def test_text_in_a_query_is_limited_and_normalized_like_that_in_a_path(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("Words."))

    @app.page("/search")
    def search(q: str = "") -> Response:
        return PlainTextResponse(repr(q))

    with browser(app) as client:
        assert client.get("/search?q=Cafe%CC%81%E2%80%AE%00_x").text == repr("Café_x")
        answer = client.get("/search?q=" + "x" * 121)
        assert answer.status_code == 414 and "121 characters" in answer.text
        assert client.get("/search?q=%FF").status_code == 400


def test_only_declared_query_parameters_are_part_of_the_key(tmp_path: Path) -> None:
    engine = scripted("Words.")
    app = make_app(tmp_path, engine)

    @app.page("/list")
    def listing(page: int = 1, sort: str = "up") -> str:
        return f"Page {page}, {sort}."

    with browser(app) as client:
        write(client, "/list")
        for same in ("/list?page=1", "/list?utm=x", "/list?sort=up&page=1"):
            assert client.get(same).headers.get("etag")
        write(client, "/list?page=2&sort=down")
        assert client.get("/list?sort=down&page=2&x=y").headers.get("etag")
    assert len(engine.requests) == 2


def test_query_parameters_of_the_framework_are_reserved(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("Words."))
    for name in ("plain", "version"):
        namespace: dict[str, object] = {}
        exec(f"def page({name}: str = ''): return 'x'", namespace)
        with pytest.raises(BadApp, match=f"takes {name!r} from the query.*Choose another name"):
            app.page("/x")(namespace["page"])  # type: ignore[type-var]


def test_a_sync_function_runs_in_a_thread_and_an_async_one_does_not(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("Words."))
    seen: dict[str, str] = {}

    @app.page("/sync")
    def sync() -> Response:
        seen["sync"] = threading.current_thread().name
        return PlainTextResponse("x")

    @app.page("/async")
    async def in_the_loop() -> Response:
        seen["async"] = threading.current_thread().name
        return PlainTextResponse("x")

    with browser(app) as client:
        client.get("/sync")
        client.get("/async")
    assert seen["sync"] != seen["async"]


def test_a_function_may_take_the_request_and_the_visit(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("Words."))

    @app.page("/who/{title}")
    def who(title: str, visit: Visit, request: Request) -> Response:
        return PlainTextResponse(f"{visit.key} {request.headers['x-name']} {dict(visit.query)}")

    with browser(app) as client:
        assert client.get("/who/A_b?x=1", headers={"x-name": "Ada"}).text == "/who/A_b Ada {'x': '1'}"


def test_a_function_may_take_all_parameters_as_keywords(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("Words."))

    @app.page("/any/{a}/{b}")
    def anything(**values: str) -> Response:
        return PlainTextResponse(repr(values))

    with browser(app) as client:
        assert client.get("/any/x/y").text == "{'a': 'x', 'b': 'y'}"


def test_partials_and_objects_with_a_call_method_are_functions_too(tmp_path: Path) -> None:
    class Author:
        async def __call__(self, number: int, book: str = "I") -> str:
            return f"Chapter {number + 1} of {book}."

    def verse(number: int, author: str) -> str:
        return f"Verse {number + 1} by {author}."

    engine = scripted("Words.")
    app = make_app(tmp_path, engine)
    app.page("/chapter/{number}", name="chapter")(Author())
    app.page("/verse/{number}", name="verse")(partial(verse, author="Ada"))
    app.page("/second/{number}", name="second")(partial(Author(), book="II"))
    with browser(app) as client:
        write(client, "/chapter/2")
        write(client, "/verse/2")
        write(client, "/second/2")
    chapter, by_ada, second = (request.prompt.ask for request in engine.requests)
    assert chapter.startswith("Chapter 3 of I.") and second.startswith("Chapter 3 of II.")
    assert by_ada.startswith("Verse 3 by Ada.")


def test_a_signature_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("Words."))

    def without_title() -> str:
        return "x"

    def with_object(title: str, thing: object = threading.Lock) -> str:
        return "x"

    def positional(title: str, /) -> str:
        return "x"

    def unknown(title: str, x: Nowhere) -> str:  # type: ignore[name-defined]  # noqa: F821
        return "x"

    with pytest.raises(BadApp, match=r"has no parameter 'title'. Add it: def without_title\(title: str\)"):
        app.page("/wiki/{title}")(without_title)
    with pytest.raises(BadApp, match="as a keyword"):
        app.page("/wiki/{title}")(positional)
    with pytest.raises(BadApp, match=r"annotations.*cannot be read"):
        app.page("/wiki/{title}")(unknown)
    with pytest.raises(BadApp, match="no parameter 'path'"):
        app.fallback(without_title)


def test_a_function_that_takes_too_long_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten.routing.page_function.FUNCTION_TIME_LIMIT", 0.1)
    app = make_app(tmp_path, scripted("Words."))
    freed = threading.Event()

    @app.page("/sync")
    def sync() -> str:
        freed.wait(10)
        return "x"

    @app.page("/async")
    async def in_the_loop() -> str:
        await asyncio.sleep(10)
        return "x"

    with browser(app) as client:
        for path, name in (("/sync", "sync"), ("/async", "in_the_loop")):
            answer = client.get(path)
            assert answer.status_code == 504
            assert f"The function &#39;{name}&#39; did not return within 0.1 seconds." in answer.text
        freed.set()


def test_a_timeout_error_of_the_function_itself_is_not_a_time_limit() -> None:
    def sync() -> str:
        raise TimeoutError("the weather service is slow")

    async def in_the_loop() -> str:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(10)
        return "x"

    for function in (sync, in_the_loop):
        page_function = PageFunction(function, PagePattern("/"))
        with pytest.raises(TimeoutError) as caught:
            asyncio.run(page_function.run({}, None, None))
        assert not isinstance(caught.value, UnwrittenError)


def test_an_async_function_that_blocks_the_event_loop_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("unwritten.routing.page_function.BLOCKING_SECONDS", 0.02)

    async def front() -> str:
        await asyncio.sleep(0.05)  # does not block
        time.sleep(0.05)
        return "x"

    async def quick() -> str:
        await asyncio.sleep(0.05)
        return "x"

    async def run(page_function: PageFunction) -> object:
        return await page_function.run({}, None, None)

    with caplog.at_level(logging.WARNING, "unwritten"):
        page_function = PageFunction(front, PagePattern("/"))
        assert [asyncio.run(run(page_function)) for _ in range(2)] == ["x", "x"]
        assert asyncio.run(run(PageFunction(quick, PagePattern("/")))) == "x"
    (message,) = caplog.messages
    assert message.startswith("The async function 'front' blocked the event loop for 0.")
    assert "Remove async from its definition" in message


def test_a_cancelled_async_function_can_clean_up() -> None:
    cleaned: list[str] = []

    async def front() -> str:
        try:
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(0)
            cleaned.append("front")
        return "x"

    async def run() -> None:
        task = asyncio.ensure_future(PageFunction(front, PagePattern("/")).run({}, None, None))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert cleaned == ["front"]
