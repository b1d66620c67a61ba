"""Hostile output in a browser: no script runs, and no request is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.browser.tabs import OpenTab, Serve
from tests.support.hostile import VECTORS

from unwritten import App, Canvas, Page
from unwritten_engine import Request
from unwritten_engine.scripted import Step, scripted

pytestmark = pytest.mark.browser

FORBIDDEN = (
    "script, iframe, object, embed, img, svg, math, video, form, button, input, style, link, meta, base, template"
)
ATTRIBUTES = """() => [...document.querySelectorAll('.region *')].filter((e) => e.getAttributeNames().some(
  (name) => /^(on|hx-|ws-|sse-|style|data-(?!htmx-powered))/.test(name) || (name === 'id' && !e.id.startsWith('g-'))
)).map((e) => e.outerHTML.slice(0, 200))"""
FOREIGN_LINKS = """() => [...document.querySelectorAll('.region a[href]')].filter(
  (a) => a.origin !== location.origin).map((a) => a.href)"""

# Texts whose effect would be visible in the page if they ran or were swapped in.
MORE = [
    "<script>window.ran = 1</script>",
    "<img src=x onerror='window.ran = 1'>",
    "<svg onload='window.ran = 1'><script>window.ran = 1</script></svg>",
    "<iframe srcdoc='<script>parent.ran = 1</script>'></iframe>",
    "<button hx-get='/stolen' hx-trigger='load'>x</button>",
    "<div data-hx-get='/stolen' data-hx-trigger='load' hx-on:htmx:load='window.ran = 1'></div>",
    "<div hx-swap-oob='true' id='main'>stolen</div><hx-partial hx-target='body'>stolen</hx-partial>",
    "<template hx type='partial' hx-target='body'>stolen</template>",
    "<link rel=stylesheet href=https://evil.example/x.css><style>@import '//evil.example/y.css'</style>",
    "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
    "<base href='https://evil.example/'><form action='/_unwritten/rewrite' method=post><input name=page></form>",
    "<img src='https://evil.example/beacon.png'><video src='//evil.example/v'></video>",
    "<p style='background:url(https://evil.example/s.png)'>x</p>",
    "<div class='region' data-region='body' data-page='/p/html' data-state='writing' id='region-body'>stolen</div>",
    "<button data-stop>Stop</button><footer data-colophon data-page='/p/html'>stolen</footer>",
    "<a href='javascript:window.ran = 1' onclick='window.ran = 1'>x</a>",
    "![x](https://evil.example/m.png) [x](javascript:window.ran=1) <https://evil.example/>",
]

OWN_SCRIPTS = ("/_unwritten/static/", "/_unwritten/texts.js")


@pytest.mark.parametrize("form", ["html", "markdown"])
def test_hostile_output_executes_nothing_and_sends_no_requests(
    serve: Serve, open_tab: OpenTab, tmp_path: Path, form: str
) -> None:
    pieces = [*MORE, *(vector.replace("alert(1)", "window.ran=1") for vector in VECTORS)]
    names = [f"c{number}" for number in range(len(pieces))]
    (tmp_path / "templates").mkdir()
    blocks = "".join(f"<section>{{% block {name} %}}{{{{ {name} }}}}{{% endblock %}}</section>" for name in names)
    (tmp_path / "templates" / "many.html").write_text(
        f'{{% extends "layout.html" %}}{{% block main %}}<h1>{{{{ page.title }}}}</h1>{blocks}{{% endblock %}}'
    )

    def script(request: Request) -> list[Step]:
        piece = pieces[int(request.prompt.ask.split("number ")[1].split(".")[0])]
        # Prefixes must be as safe as the whole text.
        return [f"See [[Tower]]. {piece[:end]}" for end in (len(piece) // 2, len(piece) - 1, len(piece))]

    app = App("Hostile", engine=scripted(script, delay=0.3), folder=tmp_path, database=str(tmp_path / "pages.db"))

    @app.page("/p/{title}")
    def page(title: str) -> Page:
        canvases: dict[str, Any] = {name: Canvas(f"Piece number {name[1:]}.", format=form) for name in names}
        return Page("many.html", title=title, **canvases)

    tab = open_tab()
    url = serve(app)
    tab.goto(f"{url}/p/Hostile")
    tab.finished(60)
    tab.ready()
    for page_url in (f"{url}/p/Hostile", f"{url}/p/Hostile?plain=1"):
        assert tab.js("() => window.ran === undefined")
        regions = tab.page.locator(".region")
        assert regions.count() == len(pieces)
        assert tab.page.locator("[data-colophon]").count() == tab.page.locator("main#main").count() == 1
        assert tab.page.inner_text("h1") == "Hostile"
        assert tab.page.locator(f".region :is({FORBIDDEN})").count() == 0
        assert tab.js(ATTRIBUTES) == []
        assert tab.js(FOREIGN_LINKS) == []
        assert tab.page.locator(".region a[href='/p/Tower'].unwritten").count() >= len(pieces) * 0.9
        tab.goto(page_url)
    paths = {urlsplit(line.split(" ")[1]).path for line in tab.requests if line.split(" ")[1].startswith(url)}
    assert {path for path in paths if not path.startswith(OWN_SCRIPTS)} == {"/p/Hostile"}
    # open_tab checks for errors, policy violations and requests to other origins.
