"""Texts and values for the author's own code: ``app.generate`` and ``app.stream``."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio.from_thread
import httpx2
import pytest
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount
from starlette.testclient import TestClient
from tests.support.apps import browser, make_app, make_wiki, templates, write
from tests.support.forum import action_url
from tests.support.servers import PATIENCE, served, wait_for

from unwritten import App, Denied, OverBudget, Page, PromptCheck
from unwritten.core.errors import BadApp, BadPage, Busy, PageFailed, TimedOut
from unwritten.storage.tables import Table
from unwritten.storage.transactions import is_autocommit
from unwritten.testing import Visitor
from unwritten_engine import Engine, Priority, scripted
from unwritten_engine import Request as EngineRequest
from unwritten_engine.errors import GenerationFailed
from unwritten_engine.scripted import HANG

FORM = '{% extends "layout.html" %}{% block main %}<form {{ action("act") }}><button>Go</button></form>{% endblock %}'
OTHER = (
    '{% extends "layout.html" %}{% block main %}<form {{ action("other") }}><button>Go</button></form>{% endblock %}'
)


class Line(BaseModel):
    title: str
    words: int


class Row(BaseModel):
    id: int | None = None
    text: str


def with_route(home: Path, engine: Engine, **given: Any) -> App:
    """Return an app with a route that generates the prompt of its query."""
    app = make_wiki(home, engine, **given)

    @app.route("/ask")
    async def ask(request: Request) -> Response:
        return PlainTextResponse(await app.generate(request.query_params["q"]))

    return app


# -- what is returned -------------------------------------------------------------------------------------


def test_a_route_generates_a_text_as_a_click(tmp_path: Path) -> None:
    engine = scripted("  It is [[warm]]. ")
    app = with_route(tmp_path, engine, world="A small harbour.")
    with browser(app) as client:
        assert client.get("/ask?q=One+line+about+tea.").text == "It is [[warm]]."
        assert app.store.count() == 0, "nothing is stored"
        assert not app.site.jobs.unfinished() and app.site.metrics.jobs_ended["written", "click"] == 1
    (request,) = engine.requests
    assert request.prompt.system.startswith("A small harbour.") and request.prompt.ask == "One line about tea."
    assert "no markup" in request.prompt.system and request.priority is Priority.CLICK


def test_a_script_gets_values_and_formats(tmp_path: Path) -> None:
    engine = scripted(
        by_ask={"line": '{"title": "Tea", "words": "3"}', "page": "See [[Salt]] and **this**.<script>x</script>"}
    )
    app = make_wiki(tmp_path, engine, links="/wiki/{title}")

    async def script() -> None:
        async with app:
            line = await app.generate("A line.", schema=Line, tokens=40, seed=7)
            assert line == Line(title="Tea", words=3), "it is repaired as on a page"
            text = await app.generate("A page.", format="markdown")
            assert text.startswith("See [[Salt]]")
            html = app.site.renderer.templates.environment.from_string("{{ text }}").render(text=text)
            assert 'href="/wiki/Salt"' in html and "<strong>this</strong>" in html and "<script" not in html
        with pytest.raises(BadApp, match=r"not running yet\. In a script, use it inside `async with app:`"):
            await app.generate("A line.")

    asyncio.run(script())
    assert (engine.requests[0].max_tokens, engine.requests[0].seed) == (40, 7)
    assert all(request.priority is Priority.PREFETCH for request in engine.requests), "no visitor waits"


def test_a_stream_yields_the_text_so_far_and_the_result_last(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted(["Warm", 0.2, "Warm water", 0.2, "Warm water."]))
    values = make_wiki(tmp_path, scripted(['{"title": "T', 0.2, '{"title": "Tea", "words": 3}']))

    async def script() -> None:
        async with app:
            texts = [text async for text in app.stream("A poem.")]
            assert texts[:2] == ["Warm", "Warm water"] and texts[-1] == "Warm water."
        async with values:
            titles = [(type(line) is Line, line.title) async for line in values.stream("A line.", schema=Line)]
            assert titles[0] == (False, "T") and titles[-1] == (True, "Tea")

    asyncio.run(script())


def test_a_request_starts_a_mounted_app(tmp_path: Path) -> None:
    app = with_route(tmp_path, scripted("It is warm."))
    with TestClient(Starlette(routes=[Mount("/guide", app)])) as client:
        assert client.get("/guide/ask?q=Why").text == "It is warm."
    asyncio.run(app.close())


def test_a_test_answers_it(tmp_path: Path) -> None:
    visitor = Visitor(with_route(tmp_path, scripted("x")), {"about tea": "It is warm."})
    assert visitor.visit("/ask?q=A+line+about+tea.").html == "It is warm."


# -- errors -----------------------------------------------------------------------------------------------


def test_arguments_that_do_not_fit_are_errors(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("x"))

    async def script() -> None:
        arguments: Any
        async with app:
            for arguments, message in [
                ({"format": "markdwn"}, "There is no format 'markdwn'. Did you mean 'markdown'"),
                ({"schema": Line, "format": "svg"}, "has schema= and format="),
                ({"schema": 3}, "schema"),
                ({"tokens": 0}, "at least 1"),
            ]:
                with pytest.raises(BadPage, match=message):
                    await app.generate("A line.", **arguments)
            for prompt in ("", "  ", None):
                with pytest.raises(BadPage, match="must be a string that says what to write"):
                    await app.generate(prompt)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match=r"There is no argument 'token'\. Did you mean 'tokens'"):
                await app.generate("A line.", token=3)  # type: ignore[call-overload]

    asyncio.run(script())


def test_failures_are_raised_where_the_text_is_awaited(tmp_path: Path) -> None:
    engine = scripted(by_ask={"nothing": "", "broken": [GenerationFailed("The lamp broke.")], "slow": [HANG]})
    app = make_wiki(tmp_path, engine, time_limit=1)

    async def script() -> None:
        async with app:
            with pytest.raises(GenerationFailed, match="The lamp broke"):
                await app.generate("A broken line.")
            with pytest.raises(PageFailed, match="wrote no"):
                await app.generate("Say nothing.")
            with pytest.raises(TimedOut, match="time_limit"):
                await app.generate("A slow line.")
            assert engine.stopped == 1 and not app.site.jobs.unfinished()

    asyncio.run(script())


def test_a_page_function_must_return_its_prompt(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("x"))

    @app.page("/")
    async def front() -> str:
        return await app.generate("A prompt.")

    with pytest.raises(BadApp, match="The page function 'front' asks the model itself"):
        Visitor(app).visit("/")


def test_a_full_queue_is_busy(tmp_path: Path) -> None:
    app = with_route(tmp_path, scripted([HANG]), jobs=1, queue_limit=1)
    with browser(app) as client:
        for title in ("Tea", "Salt"):
            client.get(f"/wiki/{title}")
        answer = client.get("/ask?q=Why")
        assert answer.status_code == 503 and "1 page already waits" in answer.text


# -- budgets and policies ---------------------------------------------------------------------------------


def test_a_visitor_is_charged_as_for_a_page(tmp_path: Path) -> None:
    engine = scripted("Words.")
    app = with_route(tmp_path, engine, visitor_pages=2)

    @app.route("/caught")
    async def caught(request: Request) -> Response:
        try:
            return PlainTextResponse(await app.generate("More."))
        except OverBudget as refused:
            return JSONResponse({"error": str(refused)}, 429, {"Retry-After": str(refused.retry_after)})

    with browser(app) as client:
        write(client, "/wiki/Tea")
        assert client.get("/ask?q=Why").status_code == 200
        refused = client.get("/ask?q=Why")
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) > 60
        own = client.get("/caught")
        assert own.status_code == 429 and "You have started 2 new pages" in own.json()["error"]
        assert app.site.metrics.refused["visitor_pages"] == 2
    assert len(engine.requests) == 2


def test_what_no_visitor_has_caused_is_not_charged(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted(["Words.", 0.1, "Words."]), engine_seconds=0.05)
    with browser(app) as client:
        assert client.portal is not None
        assert client.portal.call(app.generate, "A line.") == "Words."
        write(client, "/wiki/Tea")  # it is not refused
        assert client.get("/wiki/Salt").status_code == 429, "the visitor's own page is charged"


def test_policies_check_the_prompt_and_the_text(tmp_path: Path) -> None:
    app = with_route(tmp_path, scripted(by_ask={"tea": "It is warm.", "": "It is rude."}))
    checked: list[Any] = []

    @app.allow_prompt
    def prompts(check: PromptCheck) -> bool:
        checked.append((check.key, check.client_id, check.prompts["text"].ask))
        return "war" not in check.prompts["text"].ask

    @app.allow_text
    async def texts(key: str, region: str, text: str) -> str | None:
        assert (key, region) == ("", "text")
        return "That is rude." if "rude" in text else None

    @app.route("/stream")
    async def stream(request: Request) -> Response:
        return JSONResponse([text async for text in app.stream("About tea.")])

    with browser(app) as client:
        assert client.get("/ask?q=tea").text == "It is warm."
        assert checked == [("", "testclient", "tea")]
        assert client.get("/ask?q=war").status_code == 403
        denied = client.get("/ask?q=rain")
        assert denied.status_code == 403 and "That is rude." in denied.text
        assert client.get("/stream").json() == ["It is warm."], "drafts are not shown before they are checked"


def test_denied_texts_can_be_caught(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("Words."))
    app.allow_text(lambda key, region, text: False)

    async def script() -> None:
        async with app:
            with pytest.raises(Denied):
                await app.generate("A line.")

    asyncio.run(script())


# -- stopping ---------------------------------------------------------------------------------------------


def test_cancelling_stops_the_engine(tmp_path: Path) -> None:
    engine = scripted(["Warm", HANG])
    app = make_wiki(tmp_path, engine, time_limit=30)

    async def script() -> None:
        async with app:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await app.generate("A line.")
            async for _ in app.stream("A line."):
                break
            for _ in range(100):
                await asyncio.sleep(0.01)
                if engine.stopped == 2:
                    break
            assert (engine.running, engine.stopped) == (0, 2) and not app.site.jobs.unfinished()

    asyncio.run(script())


def test_a_client_that_leaves_stops_the_engine(tmp_path: Path) -> None:
    engine = scripted(["A", HANG])
    app = with_route(tmp_path, engine)
    with served(app) as address:
        host, port = address.split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(b"GET /ask?q=Why HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            wait_for(lambda: engine.running)
        wait_for(lambda: engine.stopped == 1)
        assert not app.site.jobs.unfinished()


# -- actions and hooks ------------------------------------------------------------------------------------


def with_actions(home: Path, engine: Engine) -> tuple[App, Table[Row], dict[str, Any]]:
    """Return an app with two forms, and what the first one does."""
    app = make_app(home, engine, folder=templates(home, act=FORM, other=OTHER))
    rows = app.table(Row)
    steps: dict[str, Any] = {}

    @app.page("/")
    def front() -> Page:
        return Page("act.html", title="Front")

    @app.page("/other")
    def elsewhere() -> Page:
        return Page("other.html", title="Other")

    @app.action("/act")
    async def act() -> None:
        await steps["act"]()

    @app.action("/save")
    def other() -> None:
        rows.insert(Row(text="other"))

    return app, rows, steps


@pytest.mark.parametrize("end", ["break", "raise", "use"])
def test_an_action_may_leave_a_stream_and_write(tmp_path: Path, end: str, caplog: pytest.LogCaptureFixture) -> None:
    engine = scripted(["Warm", 0.02, "Warm tea", *([HANG] if end == "break" else [])])
    app, rows, steps = with_actions(tmp_path, engine)

    async def act() -> None:
        latest = ""
        async for text in app.stream("A line."):
            latest = text
            rows.count()
            if end == "break":
                break
            if end == "raise":
                raise ValueError("inside the loop")
        rows.insert(Row(text=latest))

    steps["act"] = act
    with TestClient(app, raise_server_exceptions=False, headers={"accept": "text/html"}) as client:
        action = action_url(client.get("/").text, "/act")
        assert client.post(action).status_code == (500 if end == "raise" else 200)
        assert client.post(action_url(client.get("/other").text, "/save")).status_code == 200, "the lock is free"
        wait_for(lambda: not engine.running)
        assert not app.site.jobs.unfinished()
        written = [row.text for row in rows]
        assert written[:-1] == {"break": ["Warm"], "raise": [], "use": ["Warm tea"]}[end]
    gc.collect()
    assert not [record for record in caplog.records if record.name == "asyncio"], caplog.text


def test_a_client_that_leaves_ends_the_stream_of_an_action(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = scripted(["Warm", HANG])
    app, rows, steps = with_actions(tmp_path, engine)

    async def act() -> None:
        async for _ in app.stream("A line."):
            pass

    steps["act"] = act
    with served(app) as address, httpx2.Client(base_url=f"http://{address}", headers={"accept": "text/html"}) as client:
        action = action_url(client.get("/").text, "/act")
        with contextlib.suppress(httpx2.ReadTimeout):
            client.post(action, timeout=0.5)
        wait_for(lambda: engine.stopped == 1)
        saved = client.post(action_url(client.get("/other").text, "/save"))
        assert saved.status_code == 303 and [row.text for row in rows] == ["other"]
    gc.collect()
    assert not [record for record in caplog.records if record.levelname == "ERROR"], caplog.text


def test_an_action_asks_and_then_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten.routing.page_function.FUNCTION_TIME_LIMIT", 1.0)
    contexts: list[bool] = []

    def greet(request: EngineRequest) -> list[str | float]:
        contexts.append(is_autocommit())
        return ["Hi", 1.5, "Hi."]

    engine = scripted(greet)
    app, rows, steps = with_actions(tmp_path, engine)

    async def act() -> None:
        assert rows.count() == 0, "it may read before it asks"
        one, two = await asyncio.gather(app.generate("A greeting."), app.generate("A goodbye."))
        rows.insert(Row(text=one + two + str(rows.count())))

    steps["act"] = act
    with browser(app) as client, browser(app) as second:
        urls = [action_url(client.get(page).text, path) for page, path in (("/", "/act"), ("/other", "/save"))]
        with ThreadPoolExecutor(2) as threads:
            sent = [threads.submit(client.post, urls[0]) for _ in range(2)]  # a double click
            wait_for(lambda: engine.running == 2)
            started = time.monotonic()
            assert second.post(urls[1]).status_code == 303
            assert engine.running == 2 and time.monotonic() - started < PATIENCE, "the lock is free meanwhile"
            assert [answer.result().status_code for answer in sent] == [303, 303]
        assert [row.text for row in rows.select()] == ["other", "Hi.Hi.1"], "what it reads afterwards is current"
    assert len(engine.requests) == 2, "the second click gets the response to the first"
    assert contexts == [True, True], "what a job starts later does not belong to the action"


def test_a_function_without_async_asks_through_its_thread(tmp_path: Path) -> None:
    app, rows, _ = with_actions(tmp_path, scripted("Hi."))

    @app.action("/other")
    def sync() -> None:
        assert rows.count() == 0
        rows.insert(Row(text=anyio.from_thread.run(app.generate, "A greeting.")))

    template = FORM.replace('"act"', '"sync"')
    (tmp_path / "templates" / "act.html").write_text(template)
    visitor = Visitor(app)
    visitor.visit("/").submit("Go")
    assert [row.text for row in rows.select()] == ["Hi."]


def test_asking_after_a_write_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    app, rows, steps = with_actions(tmp_path, scripted("Hi."))

    async def act() -> None:
        rows.insert(Row(text="first"))
        await app.generate("A greeting.")

    steps["act"] = act
    visitor = Visitor(app)
    with pytest.raises(BadApp, match=r"'act' asks the model after it has written to the table 'row'.*first"):
        visitor.visit("/").submit("Go")
    assert rows.count() == 0, "the write is rolled back"


def test_a_failed_generation_rolls_an_action_back_and_frees_the_lock(tmp_path: Path) -> None:
    app, rows, steps = with_actions(tmp_path, scripted([GenerationFailed("The lamp broke.")]))

    async def act() -> None:
        await app.generate("A greeting.")

    steps["act"] = act
    visitor = Visitor(app)
    assert visitor.visit("/").submit("Go").status == 503
    visitor.visit("/other").submit("Go")
    assert rows.count() == 1


def test_a_task_that_an_action_leaves_behind_may_ask(tmp_path: Path) -> None:
    app, _, steps = with_actions(tmp_path, scripted("Hi."))
    tasks: list[asyncio.Task[str]] = []

    async def later() -> str:
        await asyncio.sleep(0.05)
        return await app.generate("A greeting.")

    async def act() -> None:
        tasks.append(asyncio.create_task(later()))

    steps["act"] = act
    with browser(app) as client:
        assert client.post(action_url(client.get("/").text, "/act")).status_code == 303
        wait_for(lambda: tasks[0].done())
        assert tasks[0].result() == "Hi."
        assert client.post(action_url(client.get("/other").text, "/save")).status_code == 303


def test_a_hook_asks_and_writes(tmp_path: Path) -> None:
    engine = scripted(by_ask={"article": "An article.", "summary": "A summary."})
    app = make_wiki(tmp_path, engine)
    rows = app.table(Row)

    @app.on_written("/wiki/{title}")
    async def summarize(title: str) -> None:
        rows.insert(Row(text=await app.generate(f"The summary of {title}.")))

    visitor = Visitor(app)
    visitor.visit("/wiki/Tea")
    assert [row.text for row in rows.select()] == ["A summary."]
    assert (engine.requests[-1].prompt.ask, engine.requests[-1].priority) == ("The summary of Tea.", Priority.PREFETCH)


def test_a_stopping_server_refuses_scripts(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("x"))

    async def script() -> None:
        async with app:
            app.site.jobs.draining = True
            with pytest.raises(Busy, match="restarting"):
                await app.generate("A line.")

    asyncio.run(script())
