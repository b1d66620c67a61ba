"""A mounted app in a browser: everything works, and no request leaves the prefix."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from tests.browser.tabs import OpenTab, Tab, until
from tests.support.apps import BROWSER, templates
from tests.support.servers import served, wait_for

from unwritten import App, Canvas, Page
from unwritten.cli.loading import load_app
from unwritten.testing import answers
from unwritten_engine import Request, scripted

DEMOS = Path(__file__).resolve().parents[2] / "demos"
PREFIXES = ["/gu ide", "/g%üi+d'e;x"]
"""Prefixes, decoded as in ASGI scopes."""


PAGE = """{% extends "layout.html" %}
{% block head %}<link rel="stylesheet" href="{{ static('own.css') }}">{% endblock %}
{% block main %}<h1>{{ page.title }}</h1><a id="home" href="{{ url_for('front') }}">Home</a>
<div>{% block lead %}{{ lead }}{% endblock %}{{ edit_link("lead") }}</div>
{% block notes %}<ul id="notes">{% for note in notes %}<li>{{ note.text }}</li>{% endfor %}</ul>{% endblock %}
<form {{ action("add") }}><input name="text" aria-label="Note" value="{{ form.value.text }}">
<p class="error" id="wrong">{{ form.errors.text }}</p><button>Add</button></form>
{% endblock %}"""

BOX = """<!doctype html><html><head><title>Counter</title></head><body><button id="b">Go</button><script>
box.load().then((state) => { document.getElementById("b").textContent = "was " + state; box.save(7); });
document.getElementById("b").onclick = () => box.ask("/wiki/Boxed");
</script></body></html>"""


class Note(BaseModel):
    id: int | None = None
    text: str


def script(request: Request) -> Any:
    """Return a boxed app or a text with links."""
    ask = request.prompt.ask
    if "counter" in ask:
        return BOX
    return ["It leads to ", "It leads to [[Tower]], [[Lamp]] and [[Sea]].\n"]


def make_guide(home: Path, **settings: Any) -> App:
    """Return an app with pages, a table, a form and a box."""
    folder = templates(home, article=PAGE)
    (folder / "static").mkdir(exist_ok=True)
    (folder / "static" / "own.css").write_text("h1 { color: rgb(1, 2, 3); }", encoding="utf-8")
    database = str(home / "pages.db")
    options = {"prefetch": "off", "database": database, **settings}
    app = App("Guide", engine=scripted(script, delay=0.02), folder=folder, links="/wiki/{title}", **options)
    notes = app.table(Note)

    @app.page("/")
    def front() -> str:
        return "The front page, with links."

    @app.page("/wiki/{title}")
    def article(title: str) -> Page:
        return Page("article.html", title=title, notes=notes.select(), lead=Canvas(f"About {title}."))

    @app.page("/box")
    def box() -> Canvas:
        return Canvas("A counter.", format="app")

    @app.action("/add")
    def add(text: str) -> None:
        notes.insert(Note(text=text))

    return app


def mounted(app: App, prefix: str) -> Starlette:
    """Return a Starlette app with a home page and the app mounted under the prefix."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with app.router.lifespan_context(app):
            yield

    routes = [Mount(prefix, app), Route("/", lambda request: PlainTextResponse("outer"))]
    return Starlette(routes=routes, lifespan=lifespan)


@pytest.fixture(params=PREFIXES)
def prefix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextlib.contextmanager
def guide(home: Path, prefix: str, **settings: Any) -> Iterator[tuple[str, App]]:
    """Serve the mounted app. Return its URL with the prefix, and the app."""
    app = make_guide(home, **settings)
    with served(mounted(app, prefix)) as address:
        yield f"http://{address}{quote(prefix)}", app


def requests_outside(tab: Tab, url: str) -> list[str]:
    """Return the requests outside the prefix."""
    urls = [line.partition(" ")[2] for line in tab.requests]
    urls = [requested for requested in urls if requested.startswith("http://127.0.0.1")]
    return [requested for requested in urls if not normalized(requested).startswith(f"{normalized(url)}/")]


def normalized(url: str) -> str:
    """Return a decoded URL, because browsers encode fewer characters than the framework."""
    return unquote(url)


def wait_for_path(tab: Tab, url: str, *paths: str) -> None:
    """Wait until the address bar shows one of these paths under the prefix."""
    expected = {normalized(url) + path for path in paths}
    tab.page.wait_for_url(lambda at: normalized(at) in expected, wait_until="commit")


@pytest.mark.browser
def test_pages_links_and_navigation(tmp_path: Path, open_tab: OpenTab, prefix: str) -> None:
    with guide(tmp_path, prefix) as (url, _):
        tab = open_tab()
        sockets: list[str] = []
        tab.page.on("websocket", lambda socket: sockets.append(socket.url))
        tab.goto(f"{url}/wiki/Hub")
        tab.finished()
        assert [event["page"] for event in tab.events("page")][-1] == "/wiki/Hub", "keys are without the prefix"
        assert len(sockets) == 1 and normalized(sockets[0]).endswith("/_unwritten/live")
        assert normalized(sockets[0].replace("ws:", "http:")).startswith(normalized(url))
        assert tab.js("() => getComputedStyle(document.querySelector('h1')).color") == "rgb(1, 2, 3)"
        tab.ready()
        tab.page.click("#region-lead a:text-is('Tower')")
        tab.page.wait_for_selector("h1:has-text('Tower')")
        wait_for_path(tab, url, "/wiki/Tower")
        until(lambda: tab.page.locator("#region-lead[data-state=written]").count())
        tab.page.go_back()
        tab.page.wait_for_selector("h1:has-text('Hub')")
        tab.page.click("#home")
        tab.page.wait_for_selector("h1:has-text('Guide')")
        wait_for_path(tab, url, "/")
        tab.page.click("a.brand")
        wait_for_path(tab, url, "/")
        tab.page.goto(f"{url}/wiki/tower?version=9")
        tab.page.wait_for_selector("text=Home")
        assert requests_outside(tab, url) == []


@pytest.mark.browser
@pytest.mark.parametrize("javascript", [True, False])
def test_forms(tmp_path: Path, open_tab: OpenTab, prefix: str, javascript: bool) -> None:
    with guide(tmp_path, prefix) as (url, _):
        tab = open_tab(java_script_enabled=javascript)
        tab.page.goto(f"{url}/wiki/Hub")
        tab.page.wait_for_selector(".colophon:has-text('Written')")
        if javascript:
            tab.ready()
        tab.page.fill("[name=text]", "Hello")
        tab.page.click("text=Add")
        tab.page.wait_for_selector("#notes li:has-text('Hello')")
        wait_for_path(tab, url, "/wiki/Hub", "/wiki/Hub?plain=1")
        if javascript:
            until(lambda: tab.page.input_value("[name=text]") == "")  # the live update may precede the response
            assert tab.loads(urlsplit(tab.page.url).path) == 2, "one document and one response to the form"
        assert requests_outside(tab, url) == []


@pytest.mark.browser
def test_edits_and_history(tmp_path: Path, open_tab: OpenTab, prefix: str) -> None:
    with guide(tmp_path, prefix, edits="on") as (url, _):
        tab = open_tab()
        tab.goto(f"{url}/wiki/Hub")
        tab.finished()
        tab.ready()
        tab.page.click("[data-edit-link=lead]")
        tab.page.fill(".inline-edit #text-lead", "Changed by hand.")
        tab.page.click(".inline-edit >> text=Save")
        tab.page.wait_for_selector("#region-lead:has-text('Changed by hand.')")
        wait_for_path(tab, url, "/wiki/Hub#region-lead")
        tab.page.click("text=History")
        tab.page.click("li:has-text('Version 1') >> text=Restore")
        tab.page.wait_for_selector(".colophon:has-text('Restored from version 1')")
        tab.ready()
        tab.page.get_by_role("button", name="Regenerate").click()
        tab.page.wait_for_selector(".colophon:has-text('Version 4 of 4')")
        tab.page.get_by_role("link", name="Previous version").click()
        tab.page.wait_for_selector("text=This is version 3 of 4")
        tab.page.click("text=Show the latest version")
        tab.page.wait_for_selector(".colophon:has-text('Version 4 of 4')")
        assert requests_outside(tab, url) == []


@pytest.mark.browser
@pytest.mark.parametrize("signed", ["off", "on"])
def test_prefetching(tmp_path: Path, open_tab: OpenTab, prefix: str, signed: str) -> None:
    with guide(tmp_path, prefix, prefetch="auto", signed_links=signed) as (url, app):
        tab = open_tab()
        tab.goto(f"{url}/")
        tab.finished()
        tab.page.hover("a:text-is('Sea')")
        until(lambda: tab.page.locator("#region-body a.written").count() == 3)
        assert app.store.exists(["/wiki/Sea"])
        tab.ready()
        tab.page.click("a:text-is('Sea')")
        tab.page.wait_for_selector("h1:has-text('Sea')")
        wait_for_path(tab, url, "/wiki/Sea")
        assert requests_outside(tab, url) == []


@pytest.mark.browser
def test_boxes(tmp_path: Path, open_tab: OpenTab, prefix: str) -> None:
    with guide(tmp_path, prefix, markup="on") as (url, _):
        tab = open_tab()
        tab.goto(f"{url}/box")
        tab.finished()
        frame = tab.page.frame_locator("iframe.box")
        frame.locator("text=was null").wait_for()
        tab.page.wait_for_timeout(600)  # saves are sent after a pause
        tab.goto(f"{url}/box")
        tab.page.frame_locator("iframe.box").locator("text=was 7").click()
        tab.page.wait_for_selector("h1:has-text('Boxed')")
        wait_for_path(tab, url, "/wiki/Boxed")
        assert requests_outside(tab, url) == []


@pytest.mark.browser
def test_developer_tools(tmp_path: Path, open_tab: OpenTab, prefix: str) -> None:
    with guide(tmp_path, prefix, debug="on") as (url, _):
        tab = open_tab()
        tab.goto(f"{url}/wiki/Hub")
        tab.finished()
        tab.page.keyboard.press("Backquote")
        tab.page.wait_for_selector(".devtools-content h3:has-text('/wiki/Hub')")
        tab.page.goto(f"{url}/_unwritten/developer?page=/wiki/Hub")
        tab.page.click("text=Back to the page")
        tab.page.wait_for_selector("#region-lead")
        assert requests_outside(tab, url) == []


# -- the demos ------------------------------------------------------------------------------------------------

URLS = re.compile(r'(?:(?<![\w-])(?:href|src|action)="|url=)(/[^"]*)"')
STARTS = {
    "wiki": ["/", "/wiki/Tea", "/child/Tea", "/written", "/categories", "/graph", "/search?q=tea&write=1", "/random"],
    "forum": ["/", "/b/Kettles", "/b/kettles", "/u/Victor_Pond", "/b/Kettles/My_kettle_sings", "/go?board=tea"],
    "todo": ["/", "/list/garden", "/list/garden/export"],
    "desktop": ["/", "/files", "/files/Bees", "/mail", "/web", "/web?to=tea", "/notes", "/note/1", "/terminal", "/new"],
}


@pytest.mark.parametrize("name", STARTS)
def test_demos_stay_under_the_prefix(tmp_path: Path, name: str, prefix: str) -> None:
    app = load_app(str(DEMOS / name))
    app.override(answers({}), {"database": str(tmp_path / "demo.db"), "prefetch": "off", "markup": "off"})
    try:
        with TestClient(mounted(app, prefix), headers=BROWSER) as client:
            paths, links = [quote(prefix) + start for start in STARTS[name]], set[str]()
            for path in paths:
                response = client.get(path)
                assert response.status_code == 200 and unquote(response.url.path).startswith(f"{prefix}/"), path
                wait_for(lambda: not app.site.jobs.unfinished())
                found = {unescape(found_url) for found_url in URLS.findall(client.get(path).text)}
                assert [found_url for found_url in found if not unquote(found_url).startswith(f"{prefix}/")] == []
                links |= {found_url for found_url in found if "/_unwritten/" not in found_url}
            for path in sorted(links)[:20]:
                response = client.get(path)
                assert response.status_code in {200, 405} and unquote(response.url.path).startswith(f"{prefix}/"), path
    finally:
        app.override(None, {})
