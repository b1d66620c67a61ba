"""``unwritten.testing``: visitors of an app in tests."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from tests.support.apps import LIGHTHOUSE, templates
from tests.support.forum import make_forum
from tests.support.servers import wait_for

from unwritten import App, Canvas, Page, Visit
from unwritten.core.errors import BadSetting, BadTemplate, BadURL, UnwrittenError
from unwritten.testing import Visitor, answers
from unwritten.testing.html_tree import parse_html
from unwritten_engine import scripted
from unwritten_engine.errors import GenerationFailed, ModelNotFound
from unwritten_engine.scripted import HANG


@pytest.fixture(autouse=True)
def no_database_is_created(home: Path) -> Iterator[None]:
    """Assert that the tests do not use the database of the app."""
    yield
    assert list(home.glob("*.db")) == []


def wiki(**given: object) -> App:
    app = App("Fake Wiki", **given)  # type: ignore[arg-type]

    @app.page("/wiki/{title}")
    def article(title: str) -> str:
        return f"An encyclopedia article about {title}."

    return app


def test_a_test_needs_no_model() -> None:
    visitor = Visitor(wiki())
    page = visitor.visit("/wiki/Tea")
    assert "Tea" in page.text and page.links and page.state == "written"


def test_a_visitor_clicks_links_and_waits_for_the_page() -> None:
    visitor = Visitor(wiki(), {"lighthouse": LIGHTHOUSE, "lamp": "A lamp is a light in a box."})
    page = visitor.visit("/wiki/Lighthouse")
    assert (page.status, page.key, page.heading) == (200, "/wiki/Lighthouse", "Lighthouse")
    assert page.title == "Lighthouse · Fake Wiki"
    assert page.text.splitlines()[1] == "LighthouseA lighthouse is a Tower with a bright lamp. It stands by the sea."
    assert page.links["bright lamp"] == "/wiki/Lamp"
    assert page.regions == ["body"] and "stands by the sea" in page.region("body")
    lamp = page.click("bright lamp")
    assert lamp.key == "/wiki/Lamp" and "a light in a box" in lamp
    assert "written" in visitor.visit("/wiki/Lighthouse").region("body").html, "the link has the class of written pages"


def test_a_click_passes_its_link_to_the_page() -> None:
    visits: list[Visit] = []
    app = App("Fake Wiki")

    @app.page("/wiki/{title}")
    async def article(title: str, visit: Visit) -> str:
        visits.append(visit)
        return f"About {title}."

    engine = answers({"about lighthouse": LIGHTHOUSE})
    visitor = Visitor(app, engine)
    visitor.visit("/wiki/Lighthouse").click("Tower")
    assert (visits[-1].came_from, visits[-1].link_text) == ("/wiki/Lighthouse", "Tower")
    assert any("A lighthouse is a Tower" in fact for fact in engine.requests[-1].prompt.facts)


def test_errors_list_existing_links_forms_and_regions() -> None:
    page = Visitor(wiki(), {"": LIGHTHOUSE}).visit("/wiki/Lighthouse")
    with pytest.raises(LookupError, match=r"has no link 'Towr'. Did you mean 'Tower'\? It has .*'bright lamp'"):
        page.click("Towr")
    with pytest.raises(LookupError, match=r"has no region 'lead'. It has 'body'."):
        page.region("lead")
    with pytest.raises(LookupError, match=r"no form with the button 'Reply'. It has 'Regenerate'."):
        page.submit("Reply")
    with pytest.raises(LookupError, match=r"has no field 'pag'. Did you mean 'page'\? It has 'page'."):
        page.submit("Regenerate", pag="/")
    with pytest.raises(BadURL, match="A path begins with a slash"):
        Visitor(wiki()).visit("wiki/Tea")


def test_a_link_is_found_by_its_text_its_beginning_or_its_key() -> None:
    text = "A [[Red lamp]] and a [[Red door]] and a [[Blue door|door]]."
    page = Visitor(wiki(), {"house": text}).visit("/wiki/House")
    assert page.click("red l").key == "/wiki/Red_lamp"
    assert page.click("/wiki/Blue_door").key == "/wiki/Blue_door"
    with pytest.raises(LookupError, match=r"'Red' leads to '/wiki/Red_lamp', '/wiki/Red_door'"):
        page.click("Red")


def test_the_form_to_regenerate_a_page_works() -> None:
    texts = iter(["The first.", "The second."])
    visitor = Visitor(wiki(), {"tea": lambda request: next(texts)})
    page = visitor.visit("/wiki/Tea")
    assert "The first." in page
    again = page.submit("Regenerate")
    assert again.key == "/wiki/Tea" and "The second." in again


FORM = """{% extends "layout.html" %}{% block main %}<form method="post" action="/order">
<input type="hidden" name="token" value="s&amp;t"><input name="name">
<select name="size"><option value="s">Small<option value="l" selected>Large</select>
<input type="checkbox" name="gift"><textarea name="note">As always</textarea>
<button name="do" value="send">Send</button>
<button name="do" value="try">Try</button></form>
<form action="/search"><input name="q"><input type="submit" value="Search"></form>{% endblock %}"""


def shop(home: Path) -> App:
    async def order(request: Request) -> Response:
        form = await request.form()
        origin = request.headers["origin"]
        return HTMLResponse(f"<p>{sorted(form.items())} {origin} {request.headers['referer']}</p>")

    async def enter(request: Request) -> Response:
        answer = RedirectResponse("/who", 303)
        answer.set_cookie("name", "Ada")
        return answer

    async def who(request: Request) -> Response:
        return HTMLResponse(f"You are {request.cookies.get('name')} from {request.client and request.client.host}")

    routes = [Route("/order", order, methods=["POST"]), Route("/enter", enter), Route("/who", who)]
    app = App("Shop", folder=templates(home, form=FORM), routes=routes)

    @app.page("/")
    def front() -> Response:
        return app.render("form.html")

    @app.page("/search")
    def search(q: str = "") -> str:
        return f"What is found for {q}."

    return app


def test_a_form_is_filled_in_by_name(tmp_path: Path) -> None:
    page = Visitor(shop(tmp_path)).visit("/")
    sent = page.submit("Send", {"name": "Ada"}, gift=True, size="s")
    for pair in ("('name', 'Ada')", "('gift', 'on')", "('size', 's')", "('token', 's&t')", "('do', 'send')"):
        assert pair in sent.text
    assert "http://127.0.0.1 http://127.0.0.1/" in sent.text
    assert "('do', 'try')" in page.submit("Try", note=None).text and "note" not in page.submit("Try", note=None).text
    assert page.submit("Search", q="tea").key == "/search?q=tea"
    with pytest.raises(LookupError, match=r"The field 'size' has no choice 'xl'. It has 's', 'l'."):
        page.submit("Send", size="xl")


def test_an_action_is_handled_and_its_reply_generated(tmp_path: Path) -> None:
    app, posts = make_forum(tmp_path, answers({"reply to: why": "Because of the [[sea]]."}))
    visitor = Visitor(app)
    other = visitor.another("10.0.0.7")
    before = other.visit("/thread/1")
    page = visitor.visit("/thread/1").submit("Post", text="Why?")
    assert (page.key, page.status, page.state) == ("/thread/1", 200, "written")
    assert "Because of the sea." in page.region("replies-1") and "Why?" in page.region("posts")
    assert before.submit("/thread/1/post", text="Aha").region("posts").text.endswith("Aha")
    assert [post.text for post in posts.select()] == ["Why?", "Aha"]
    refused = page.submit("Post", text="x")
    assert refused.status == 422 and "At least 2 characters" in refused.text


def test_every_visitor_has_its_own_cookies_and_address(tmp_path: Path) -> None:
    first = Visitor(shop(tmp_path))
    second = first.another("10.0.0.7")
    assert "You are Ada" in first.visit("/enter").text
    assert "You are None from 10.0.0.7" in second.visit("/who").text
    first.close()
    assert second.visit("/who").status == 200, "the app runs until the last visitor is closed"


def test_a_page_that_fails_is_not_generated_again() -> None:
    engine = answers({"tea": GenerationFailed("The lamp broke.")})
    page = Visitor(wiki(), engine).visit("/wiki/Tea")
    assert page.state == "failed" and "The lamp broke." in page.html
    assert len(engine.requests) == 1


def test_a_page_that_hangs_is_an_error_after_the_timeout() -> None:
    visitor = Visitor(wiki(), scripted([HANG]), timeout=2)  # enough for the response, which precedes the text
    with pytest.raises(TimeoutError, match=r"/wiki/Tea was not finished within 2 seconds"):
        visitor.visit("/wiki/Tea")


def test_a_page_can_be_seen_before_it_is_finished() -> None:
    visitor = Visitor(wiki(), {"tea": "Tea is a drink."})
    early = visitor.visit("/wiki/Tea", wait=False)
    assert early.state == "waiting" and "drink" not in early
    visitor.wait()
    assert "drink" in early.reload()


def test_exceptions_of_the_author_are_raised_in_the_test(tmp_path: Path) -> None:
    app = App("Broken", folder=templates(tmp_path, page="{% block body %}{{ body }}{% endblock %}{{ 1 / 0 }}"))

    @app.page("/a")
    def a() -> str:
        raise KeyError("the author's")

    @app.page("/b")
    def b() -> str:
        return "Anything."

    visitor = Visitor(app)
    with pytest.raises(KeyError, match="the author's"):
        visitor.visit("/a")
    with pytest.raises(BadTemplate, match=r"'page.html' cannot be rendered \(line 1\): ZeroDivisionError"):
        visitor.visit("/b")
    assert visitor.visit("/c").status == 404


class Kind(Enum):
    SEA = "sea"
    LAND = "land"


@dataclass
class Inner:
    name: str
    number: Annotated[int, Field(ge=3, le=9)]


class Everything(BaseModel):
    kind: Kind
    word: Annotated[str, Field(min_length=30, max_length=40)]
    share: Annotated[float, Field(gt=0, lt=1)]
    born: date
    inner: Inner
    others: Annotated[list[Inner], Field(min_length=2, max_length=3)]
    maybe: int | None
    sure: bool
    mode: Literal["fast", "slow"]


@pytest.mark.parametrize("given", [None, {"kind": "sea", "sure": False}], ids=["stand-in", "said"])
def test_a_schema_gets_a_valid_value(given: dict[str, object] | None, tmp_path: Path) -> None:
    block = "{% block facts %}{{ facts.kind.value }} {{ facts.sure }}{% endblock %}"
    source = f'{{% extends "layout.html" %}}{{% block main %}}{block}{{% endblock %}}'

    class Small(BaseModel):
        kind: Kind
        sure: bool

    app = App("Schemas", folder=templates(tmp_path, facts=source))

    @app.page("/")
    def front() -> Page:
        return Page("facts.html", facts=Canvas("The facts.", schema=Small if given else Everything))

    page = Visitor(app, {"facts": given} if given else None).visit("/")
    assert page.state == "written"
    assert page.region("facts").text == ("sea False" if given else "sea True")


def test_a_real_engine_can_be_named() -> None:
    with pytest.raises(ModelNotFound, match=r"no-such\.gguf"):
        Visitor(wiki(), "no-such.gguf")


def test_settings_override_those_of_the_app_and_are_restored() -> None:
    app = wiki(time_limit=20, model="a-name")
    with Visitor(app, time_limit=8) as visitor:
        assert app.settings.time_limit == 8
        assert visitor.visit("/wiki/Lighthouse").status == 200
    assert app.settings.time_limit == 20 and app.settings.model == "a-name"
    with pytest.raises(BadSetting, match=r"Did you mean 'time_limit'"):
        Visitor(app, time_limt=3)
    assert Visitor(app).visit("/wiki/Lighthouse").status == 200


def test_the_apps_own_engine_is_used() -> None:
    app = wiki(engine=scripted("What the app's engine says."))
    assert "What the app's engine says." in Visitor(app).visit("/wiki/Tea")
    assert "Other words." in Visitor(app, {"": "Other words."}).visit("/wiki/Tea")


def test_pages_can_be_stored_in_a_file(tmp_path: Path) -> None:
    app = wiki()
    with Visitor(app, {"": "The first."}, database=tmp_path / "kept.db") as visitor:
        visitor.visit("/wiki/Tea")
    with Visitor(app, {"": "The second."}, database=tmp_path / "kept.db") as visitor:
        assert "The first." in visitor.visit("/wiki/Tea")


def test_a_new_visitor_replaces_one_that_was_not_closed() -> None:
    app = wiki()
    forgotten = Visitor(app)
    with Visitor(app) as visitor:
        assert visitor.visit("/wiki/Tea").status == 200
        with pytest.raises(UnwrittenError, match="Another Visitor"):
            forgotten.visit("/wiki/Tea")
    with pytest.raises(UnwrittenError, match="was closed"):
        visitor.visit("/wiki/Tea")


def test_inside_an_event_loop_the_error_says_how_to_write_the_test() -> None:
    visitor = Visitor(wiki())

    async def inside() -> None:
        visitor.visit("/wiki/Tea")

    with pytest.raises(UnwrittenError, match="with `def` instead of `async def`"):
        asyncio.run(inside())


def test_a_visitor_can_be_collected_inside_an_event_loop() -> None:
    held = [Visitor(wiki())]

    async def inside() -> None:
        held.clear()

    asyncio.run(inside())


def test_a_visitor_leaves_no_thread_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(threading.enumerate())
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))  # where no other program writes

    def visit() -> None:
        page = Visitor(wiki()).visit("/wiki/Tea")
        assert page.click("concert hall").status == 200
        assert list(folder.glob("unwritten-test-*"))

    visit()
    assert list(folder.iterdir()) == []

    def left() -> list[str]:
        # "Dummies" are what Python remembers of threads that have ended.
        return [thread.name for thread in set(threading.enumerate()) - before if "Dummy" not in thread.name]

    wait_for(lambda: not left(), seconds=30)  # they end when they next look


def test_pytest_reports_no_warning_for_an_unclosed_visitor(tmp_path: Path) -> None:
    (tmp_path / "test_wiki.py").write_text(
        "from unwritten import App\nfrom unwritten.testing import Visitor\n\napp = App('Wiki')\n\n"
        "@app.page('/wiki/{title}')\ndef article(title: str) -> str:\n    return f'About {title}.'\n\n"
        "def test_tea() -> None:\n    assert 'written' == Visitor(app).visit('/wiki/Tea').state\n\n"
        "def test_fails() -> None:\n    visitor = Visitor(app)\n    assert visitor.visit('/wiki/Tea').status == 500\n\n"
        "def test_after() -> None:\n    visitor = Visitor(app)\n    assert visitor.visit('/wiki/Tea').status == 200\n"
    )
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "1 failed, 2 passed" in told.stdout and "warning" not in told.stdout.lower() + told.stderr.lower(), told


def test_html_is_parsed_as_in_a_browser() -> None:
    html = "<ul><li>One <b>two</b><li>Three</ul><p>A<p>B<script>no</script><div hidden>no</div><br>C &amp; D</P>"
    tree = parse_html(html)
    assert tree.text == "One two\nThree\nA\nB\nC & D"
    assert [node.text for node in tree.find_all("li")] == ["One two", "Three"]
    [bold] = tree.find_all("b")
    assert html[slice(*bold.span)] == "two" and bold.parent is tree.find("li")
