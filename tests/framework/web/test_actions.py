"""Actions: tokens and keys of forms, types of fields, one transaction, and the response."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient
from tests.support.apps import browser, make_app, templates
from tests.support.forum import action_url, make_forum, query, send
from tests.support.html_checks import inner, page_faults
from tests.support.servers import PATIENCE, wait_for

from unwritten import App, Page, Redraw, Visit
from unwritten.core.errors import BadApp
from unwritten.security.signer import Signer
from unwritten_engine import scripted

PATH = "/thread/1/post"
FORM = """{% extends "layout.html" %}{% block main %}<form {{ action("act") }}></form>
{{ form.errors.n }}|{{ form.message }}{% endblock %}"""


class Row(BaseModel):
    id: int | None = None
    text: str


def one(home: Path, function: Any, template: str = FORM, **given: Any) -> App:
    """Return an app with a page ``/`` whose form is sent to the action ``/act``."""
    app = make_app(home, scripted("Words."), folder=templates(home, one=template), **given)

    @app.page("/")
    def front() -> Page:
        return Page("one.html", title="Front")

    function.__name__ = "act"
    app.action("/act")(function)
    return app


def test_a_form_is_accepted_and_redirects_to_its_page(tmp_path: Path) -> None:
    app, posts = make_forum(tmp_path, scripted("Words."))
    with browser(app) as client:
        answer = send(client, "/thread/1", PATH, text="Hello")
        assert (answer.status_code, answer.headers["location"]) == (303, "/thread/1")
        page = client.get("/thread/1").text
        assert "<p>Hello</p>" in inner(page, "posts") and page_faults(page) == []
        assert posts.select()[0].thread == 1


def test_a_new_canvas_is_generated_and_added_to_the_same_version(tmp_path: Path) -> None:
    engine = scripted(by_ask={"Why": "Because.", "How": "Like this."})
    app, _ = make_forum(tmp_path, engine)
    with browser(app) as client:
        send(client, "/thread/1", PATH, text="Why?")
        wait_for(lambda: app.store.get("/thread/1"))
        assert "Because." in inner(client.get("/thread/1").text, "replies-1")
        send(client, "/thread/1", PATH, text="How?")
        page = client.get("/thread/1?plain=1").text  # streamed while it is written
        assert "Because." in page and "Like this." in page
        wait_for(lambda: len(app.store.get("/thread/1").canvases) == 2)  # type: ignore[union-attr]
        kept = app.store.get("/thread/1")
        assert kept is not None and kept.version == 1, "the version is amended"
    assert len(engine.requests) == 2, "existing canvases are not generated again"


def test_a_post_without_a_canvas_starts_no_job(tmp_path: Path) -> None:
    engine = scripted("Words.")
    app, _ = make_forum(tmp_path, engine)
    with browser(app) as client:
        send(client, "/thread/1", PATH, text="No question")
        assert client.get("/thread/1").status_code == 200
    assert engine.requests == []


# -- input --------------------------------------------------------------------------------------------


def test_errors_are_shown_beside_the_fields_and_the_input_is_kept(tmp_path: Path) -> None:
    app, posts = make_forum(tmp_path, scripted("Words."))
    with browser(app) as client:
        answer = send(client, "/thread/1", PATH, text="<")
        assert answer.status_code == 422 and answer.headers["cache-control"] == "no-store"
        assert '<textarea id="text" name="text">&lt;</textarea>' in answer.text
        assert '<p class="error" id="error">At least 2 characters, please.</p>' in answer.text
        assert client.post(action_url(answer.text, PATH), data={"text": "<3"}).status_code == 303
        assert [post.text for post in posts.select()] == ["<3"]


def test_an_unknown_field_is_an_error(tmp_path: Path) -> None:
    app, posts = make_forum(tmp_path, scripted("Words."))
    with browser(app) as client:
        answer = send(client, "/thread/1", PATH, texd="Hello")
        assert answer.status_code == 400
        assert "The form has a field &#39;texd&#39;, which the action &#39;post&#39; does not take." in answer.text
        assert "&#39;text&#39;" in answer.text and posts.count() == 0


def test_forms_that_are_too_large_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten.web.actions.MAX_FIELD_SIZE", 1024)
    app, posts = make_forum(tmp_path, scripted("Words."))
    with browser(app) as client:
        answer = send(client, "/thread/1", PATH, text="x" * 1100)
        assert answer.status_code == 413 and "A field of this form is too large. It may have 1 kB." in answer.text
        answer = send(client, "/thread/1", PATH, text="x" * 9000)
        assert answer.status_code == 413 and "This form is too large. One field may have 1 kB" in answer.text
        assert send(client, "/thread/1", PATH, text="ß" * 500).status_code == 422, (
            "too long for the model, but not here"
        )
        to = action_url(client.get("/thread/1").text, PATH)
        assert client.post(to, files={"text": b"x"}).status_code == 400
        assert posts.count() == 0


def test_fields_are_converted_to_the_types_of_parameters(tmp_path: Path) -> None:
    seen: list[Any] = []

    def act(n: int, tick: bool, visit: Visit, request: Request, words: list[str], note: str = "none") -> None:
        seen.append((n, tick, visit.key, request.method, words, note))

    with browser(one(tmp_path, act)) as client:
        to = action_url(client.get("/").text, "/act")
        assert client.post(to, data={"n": "3", "tick": "on", "words": ["a", "b"]}).status_code == 303
        assert client.post(to, data={"n": "4", "note": ""}).status_code == 303
        answer = client.post(to, data={"n": "four"})
        assert answer.status_code == 422 and "A whole number, please." in answer.text
    assert seen == [(3, True, "/", "POST", ["a", "b"], "none"), (4, False, "/", "POST", [], "")]


def test_errors_of_a_form_without_a_page_have_their_own_page(tmp_path: Path) -> None:
    def act(n: int) -> None:
        raise AssertionError("not called")

    app = one(tmp_path, act)

    @app.page("/drawn")
    def drawn() -> Response:
        return app.render("one.html", title="Drawn")

    with browser(app) as client:
        answer = client.post(action_url(client.get("/drawn").text, "/act"), data={"n": "x"})
        assert answer.status_code == 422
        assert ">x</textarea>" in answer.text and "A whole number, please." in answer.text


class Note(BaseModel):
    """A model that an action creates from its fields."""

    text: Annotated[str, Field(min_length=3)]
    stars: Annotated[int, Field(le=5)] = 0


NOTE = """{% extends "layout.html" %}{% block main %}<form {{ action("pin") }}>
<input name="text" value="{{ form.value.text }}">
<p id="error">{{ form.errors.text }}</p><p id="message">{{ form.message }}</p></form>{% endblock %}"""


@pytest.mark.parametrize("is_async", [False, True])
def test_validation_errors_in_an_action_are_shown_beside_the_field(tmp_path: Path, is_async: bool) -> None:
    app = make_app(tmp_path, scripted("Words."), folder=templates(tmp_path, one=NOTE))
    rows = app.table(Row)

    @app.page("/")
    def front() -> Page:
        return Page("one.html", title="Front")

    def pin(text: str) -> None:
        rows.insert(Row(text="too early"))
        Note(text=text)
        if text == "many stars":
            Note(text=text, stars=9)

    async def pin_async(text: str) -> None:
        pin(text)

    app.action("/pin", name="pin")(pin_async if is_async else pin)
    with browser(app) as client:
        answer = client.post(action_url(client.get("/").text, "/pin"), data={"text": "<"})
        assert answer.status_code == 422
        assert '<p id="error">At least 3 characters, please.</p>' in answer.text and 'value="&lt;"' in answer.text
        assert rows.count() == 0, "the changes are rolled back"
        answer = client.post(action_url(answer.text, "/pin"), data={"text": "many stars"})
        assert answer.status_code == 422, "an error of something that is not a field is shown above the form"
        assert '<p id="message">stars: At most 5, please.</p>' in answer.text
        assert client.post(action_url(answer.text, "/pin"), data={"text": "Hello"}).status_code == 303
        assert rows.count() == 1


def test_a_text_that_an_action_has_not_awaited_is_an_error_of_the_author(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def generated() -> str:
        return "Words."

    def act(text: str) -> None:
        Note(text=coroutine)  # type: ignore[arg-type]

    coroutine = generated()
    with browser(one(tmp_path, act)) as client:
        to = action_url(client.get("/").text, "/act")
        assert client.post(to, data={"text": "tea"}).status_code == 500
    coroutine.close()
    assert "'act' passes the field 'text' a coroutine" in caplog.text and "anyio.from_thread.run" in caplog.text


# -- origins and tokens ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site", "origin": "http://testserver"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_cross_origin_form_is_refused(tmp_path: Path, headers: dict[str, str]) -> None:
    app, posts = make_forum(tmp_path, scripted("Words."))
    with browser(app) as client:
        answer = client.post(action_url(client.get("/thread/1").text, PATH), data={"text": "Hello"}, headers=headers)
        assert answer.status_code == 403
        assert "This form was sent from another site, so nothing was done." in answer.text
        assert "<form" not in inner_main(answer.text) and posts.count() == 0


def inner_main(html: str) -> str:
    return html.partition("<main")[2].partition("</main>")[0]


@pytest.mark.parametrize("headers", [{"origin": "http://testserver"}, {"sec-fetch-site": "same-origin"}, {}])
def test_a_same_origin_form_is_accepted(tmp_path: Path, headers: dict[str, str]) -> None:
    app, posts = make_forum(tmp_path, scripted("Words."))
    with browser(app) as client:
        client.post(action_url(client.get("/thread/1").text, PATH), data={"text": "Hello"}, headers=headers)
        assert posts.count() == 1


def forged(to: str) -> list[str]:
    """Return form URLs that the app never created."""
    given = query(to)
    token = given["_form"]
    cut = to.partition("?")[0]
    return [
        cut,
        to.replace(token, token[:-20]),
        to.replace(token, "0" + token[1:]),
        to.replace("/thread/1/post", "/thread/2/post"),
        to.replace("_page=%2Fthread%2F1", "_page=%2Fthread%2F2"),
        f"{cut}?_page=/thread/1&_form={Signer(b'another world').sign_form(PATH, '/thread/1')}.aaaaaaaaaaaa",
    ]


def test_a_forged_form_is_refused_and_the_input_is_kept(tmp_path: Path) -> None:
    app, posts = make_forum(tmp_path, scripted("Words."))
    with browser(app) as client:
        for to in forged(action_url(client.get("/thread/1").text, PATH)):
            answer = client.post(to, data={"text": "A long and precious text"})
            assert answer.status_code == 403, to
            assert (
                "does not belong to the current version of a page of this app, so nothing was done yet" in answer.text
            )
            assert "A long and precious text</textarea>" in answer.text and posts.count() == 0
        answer = client.post(PATH, data={"text": "A long text"})
        assert client.post(action_url(answer.text, PATH), data={"text": "A long text"}).status_code == 303
        assert posts.count() == 1


def test_forms_are_valid_in_a_copy_of_their_world_only(tmp_path: Path) -> None:
    app, _ = make_forum(tmp_path, scripted("Words."))
    with browser(app) as client:
        to = action_url(client.get("/thread/1").text, PATH)
    again, _ = make_forum(tmp_path, scripted("Words."))
    with browser(again) as client:
        assert client.post(to, data={"text": "Hello"}).status_code == 303, "the secret is kept with the world"
    (tmp_path / "other").mkdir()
    other, posts = make_forum(tmp_path / "other", scripted("Words."))
    with browser(other) as client:
        assert client.post(to, data={"text": "Hello"}).status_code == 403 and posts.count() == 0


def test_with_signed_links_an_action_generates_within_the_search_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unwritten.generation.budgets.SEARCH_PAGES", 1)
    engine = scripted(by_ask={"Why": "Because.", "How": "Like this."})
    app, posts = make_forum(tmp_path, engine, signed_links="on")
    with browser(app) as client:
        send(client, "/thread/1", PATH, text="Why?")
        wait_for(lambda: app.store.get("/thread/1"))
        send(client, "/thread/1", PATH, text="How?")  # over budget, but the post is stored
        page = client.get("/thread/1")
        assert page.status_code == 200 and "Because." in page.text and "<p>How?</p>" in page.text
        assert 'data-state="stopped"' in inner(page.text, "posts") and posts.count() == 2
    assert len(engine.requests) == 1


def test_a_stale_form_can_be_sent_again(tmp_path: Path) -> None:
    app, posts = make_forum(tmp_path, scripted("Words."))
    with browser(app) as client:
        client.get("/thread/1")
        for hours, status in ((23, 303), (26, 409)):
            token = app.site.signer.sign_form(PATH, "/thread/1", time.time() - hours * 3600)
            answer = client.post(f"{PATH}?_page=/thread/1&_form={token}.aaaaaaaaaaaa", data={"text": f"Old {hours}"})
            assert answer.status_code == status
        assert "This form was open for more than a day, so nothing was done yet." in answer.text
        assert "Old 26</textarea>" in answer.text
        answer = client.post(action_url(answer.text, PATH), data={"text": "Old 26"})
        assert answer.headers["location"] == "/thread/1"
        assert [post.text for post in posts.select()] == ["Old 23", "Old 26"]


# -- repeated forms -----------------------------------------------------------------------------------------------


def test_a_form_that_is_sent_twice_runs_once(tmp_path: Path) -> None:
    app, posts = make_forum(tmp_path, scripted("Words."))
    with browser(app) as client:
        to = action_url(client.get("/thread/1").text, PATH)
        first, second = (client.post(to, data={"text": "Hello"}) for _ in range(2))
        assert posts.count() == 1
        assert (second.status_code, second.headers["location"]) == (first.status_code, first.headers["location"])
        client.post(to, data={"text": "Something else"})
        assert posts.count() == 2, "other content with the same key is another form"
        client.post(action_url(client.get("/thread/1").text, PATH), data={"text": "Hello"})
        assert posts.count() == 3, "each page that is sent brings a new key"


def test_a_cached_page_gets_new_form_keys(tmp_path: Path) -> None:
    app, _ = make_forum(tmp_path, scripted("Words."))
    with browser(app) as client:
        pages = [client.get("/thread/1") for _ in range(3)]
        keys = {query(action_url(page.text, PATH))["_form"].rpartition(".")[2] for page in pages}
        assert len(keys) == 3 and all(len(key) == 16 for key in keys)
        assert all("etag" not in page.headers for page in pages), "browsers do not reuse a cached page with an old key"


def test_a_repeated_form_gets_the_first_response(tmp_path: Path) -> None:
    calls: list[int] = []

    def act() -> Response:
        calls.append(1)
        return PlainTextResponse(f"Call {len(calls)}", 201, {"x-note": "one"})

    with browser(one(tmp_path, act)) as client:
        to = action_url(client.get("/").text, "/act")
        answers = [client.post(to) for _ in range(2)]
    assert [(a.status_code, a.text, a.headers["x-note"]) for a in answers] == [(201, "Call 1", "one")] * 2


def test_responses_are_stored_for_a_day(tmp_path: Path) -> None:
    app, posts = make_forum(tmp_path, scripted("Words."))
    with browser(app) as client:
        to = action_url(client.get("/thread/1").text, PATH)
        client.post(to, data={"text": "Hello"})
        connection = sqlite3.connect(tmp_path / "pages.db")
        with connection:
            connection.execute("UPDATE actions SET at = at - 90000")
        client.post(to, data={"text": "Hello"})
        assert posts.count() == 2
        assert connection.execute("SELECT count(*) FROM actions").fetchone() == (1,)
        connection.close()


# -- transactions ------------------------------------------------------------------------------------------


def test_an_action_that_raises_is_rolled_back(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("Words."), folder=templates(tmp_path, one=FORM))
    rows = app.table(Row)

    @app.page("/")
    def front() -> Page:
        return Page("one.html")

    @app.action("/act")
    async def act() -> None:
        rows.insert(Row(text="x"))
        assert rows.count() == 1, "an action sees its own writes"
        raise RuntimeError("no")

    with browser(app, raise_server_exceptions=False) as client:
        to = action_url(client.get("/").text, "/act")
        assert client.post(to).status_code == 500
        assert client.post(to).status_code == 500, "failures are not stored as responses"
        assert rows.count() == 0
        rows.insert(Row(text="y"))  # the database is not locked


def test_an_action_that_hangs_is_cancelled_and_unlocks_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unwritten.routing.page_function.FUNCTION_TIME_LIMIT", 0.3)
    app = make_app(tmp_path, scripted("Words."), folder=templates(tmp_path, one=FORM))
    rows = app.table(Row)
    said: list[str] = []

    @app.page("/")
    def front() -> Page:
        return Page("one.html")

    @app.action("/act")
    def act() -> None:
        rows.insert(Row(text="x"))
        time.sleep(0.8)
        try:
            rows.insert(Row(text="y"))
        except Exception as error:
            said.append(str(error))

    with browser(app) as client:
        answer = client.post(action_url(client.get("/").text, "/act"))
        assert answer.status_code == 504
        assert (
            "The function &#39;act&#39; did not return within 0.3 seconds. All its changes were rolled back."
            in answer.text
        )
        rows.insert(Row(text="z"))
        wait_for(lambda: said)
        assert said == ["The function 'act' took too long, and all its changes were rolled back."]
        assert [row.text for row in rows.select()] == ["z"]


def test_waiting_async_actions_do_not_block_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten.storage.sqlite.LOCK_TIMEOUT", 2 * PATIENCE)
    app = make_app(tmp_path, scripted("Words."), folder=templates(tmp_path, one=FORM))
    rows = app.table(Row)

    @app.page("/")
    def front() -> Page:
        return Page("one.html")

    @app.action("/act")
    async def act() -> None:
        rows.insert(Row(text="x"))

    async def turn() -> None:
        async with asyncio.timeout(PATIENCE):
            for _ in range(50):
                await asyncio.sleep(0.01)

    with browser(app) as client, ThreadPoolExecutor() as pool:
        assert client.portal is not None
        to = action_url(client.get("/").text, "/act")
        other = sqlite3.connect(tmp_path / "pages.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        answer = pool.submit(client.post, to)
        client.portal.call(turn)
        assert not answer.done() and rows.count() == 0
        assert client.get("/").status_code == 200, "pages are served at the same time"
        other.rollback()
        other.close()
        assert answer.result(PATIENCE).status_code == 303 and rows.count() == 1


def test_an_async_action_is_refused_if_the_database_stays_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unwritten.storage.sqlite.LOCK_TIMEOUT", 0.2)
    app = make_app(tmp_path, scripted("Words."), folder=templates(tmp_path, one=FORM))
    calls: list[int] = []

    @app.page("/")
    def front() -> Page:
        return Page("one.html")

    @app.action("/act")
    async def act() -> None:
        calls.append(1)

    with browser(app) as client:
        to = action_url(client.get("/").text, "/act")
        other = sqlite3.connect(tmp_path / "pages.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        answer = client.post(to)
        assert answer.status_code == 503 and "locked" in answer.text and calls == []
        other.rollback()
        other.close()
        assert client.post(to).status_code == 303


def test_actions_run_one_after_another(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("Words."), folder=templates(tmp_path, one=FORM))
    rows = app.table(Row, initial=[Row(text="0")])

    @app.page("/")
    def front() -> Page:
        return Page("one.html")

    @app.action("/act")
    def act() -> str:
        last = rows.select()[0]
        time.sleep(0.02)
        rows.update(1, text=str(int(last.text) + 1))
        return "/"

    with browser(app) as client, ThreadPoolExecutor(8) as pool:
        urls = [action_url(client.get("/").text, "/act") for _ in range(8)]
        assert {answer.status_code for answer in pool.map(client.post, urls)} == {303}
        assert rows.select()[0].text == "8"


# -- responses --------------------------------------------------------------------------------------------------


def test_a_key_leads_to_another_page(tmp_path: Path) -> None:
    with browser(one(tmp_path, lambda: "/thread/3#last")) as client:
        answer = client.post(action_url(client.get("/").text, "/act"))
        assert (answer.status_code, answer.headers["location"]) == (303, "/thread/3#last")


@pytest.mark.parametrize("result", ["//evil.example", "/\\evil.example", "thread", 3])
def test_invalid_results_are_reported(tmp_path: Path, result: Any) -> None:
    app = one(tmp_path, lambda: result, debug=True)
    with browser(app) as client:
        answer = client.post(action_url(client.get("/").text, "/act"))
        assert answer.status_code == 500 and "which is not a response. Return None, Redraw" in answer.text


def test_an_unknown_region_is_reported(tmp_path: Path) -> None:
    with browser(one(tmp_path, lambda: Redraw("nothing"), debug=True)) as client:
        answer = client.post(action_url(client.get("/").text, "/act"))
        assert answer.status_code == 500 and "The page has no region &#39;nothing&#39;" in answer.text


def test_redraw_generates_a_canvas_again(tmp_path: Path) -> None:
    source = """{% extends "layout.html" %}{% block main %}{% block lead %}{{ lead }}{% endblock %}
    {% block body %}{{ body }}{% endblock %}<form {{ action("again") }}></form>{% endblock %}"""
    from unwritten import Canvas

    texts = iter(["First lead.", "Second lead."])
    engine = scripted(lambda request: next(texts) if "Lead" in request.prompt.ask else "A body.")
    app = make_app(tmp_path, engine, folder=templates(tmp_path, one=source))

    @app.page("/")
    def front() -> Page:
        return Page("one.html", lead=Canvas("Lead."), body=Canvas("Body."))

    @app.action("/again")
    def again() -> Redraw:
        return Redraw("lead")

    with browser(app) as client:
        client.get("/")
        wait_for(lambda: app.store.get("/"))
        send(client, "/", "/again")
        wait_for(lambda: app.store.get("/").version == 2)  # type: ignore[union-attr]
        page = client.get("/").text
        assert "Second lead." in page and "A body." in page
    assert len(engine.requests) == 3


def test_actions_do_not_respond_to_get(tmp_path: Path) -> None:
    with browser(one(tmp_path, lambda: None)) as client:
        assert client.get("/act").status_code == 405


def test_an_action_and_a_page_may_share_a_path(tmp_path: Path) -> None:
    app = one(tmp_path, lambda: None)

    @app.page("/act")
    def page() -> Response:
        return PlainTextResponse("The page.")

    with browser(app) as client:
        assert client.get("/act").text == "The page."
        assert client.post(action_url(client.get("/").text, "/act")).status_code == 303


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ action('pots', id=1) }}", "There is no action &#39;pots&#39;. Did you mean &#39;post&#39;?"),
        ("{{ action('post') }}", "has the pattern &#39;/thread/{id}/post&#39;, but was given []"),
    ],
)
def test_an_unknown_action_in_a_template_is_reported(tmp_path: Path, template: str, words: str) -> None:
    app, _ = make_forum(tmp_path, scripted("Words."), template, debug=True)
    with browser(app) as client:
        answer = client.get("/thread/1")
        assert answer.status_code == 500 and words in answer.text


def test_a_signature_that_does_not_fit_its_pattern_is_reported(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("Words."))
    with pytest.raises(BadApp, match=r"has \{id\}, but the page function 'reply' has no parameter"):

        @app.action("/thread/{id}/reply")
        def reply(text: str) -> None: ...


def test_actions_work_without_javascript(tmp_path: Path) -> None:
    app, _ = make_forum(tmp_path, scripted("Words."))
    with TestClient(app) as client:  # follows redirects, accepts any content type
        page = client.get("/thread/1").text
        answer = client.post(action_url(page, PATH), data={"text": "Hello"})
        assert answer.status_code == 200 and "<p>Hello</p>" in answer.text and str(answer.url).endswith("/thread/1")
