"""The developer tools: who sees them, and what they insert into pages."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Scope
from tests.support.apps import browser, make_app, make_wiki, templates, write
from tests.support.html_checks import faults, page_faults

from unwritten import App
from unwritten.devtools.gallery import CASES, render_case
from unwritten.testing import Visitor
from unwritten_engine import scripted

TOOLS = "devtools.js"
PANEL = "/_unwritten/developer?page=/wiki/Tea"


def scope(client: str = "127.0.0.1", server: str = "127.0.0.1", **headers: str) -> Scope:
    sent = {"host": "127.0.0.1:8000", **headers}
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in sent.items()]
    return {"type": "http", "client": (client, 1), "server": (server, 8000), "headers": pairs}


def test_the_owner_sees_the_tools_under_run() -> None:
    app = App("Tea")
    asked = scope(authorization=f"Bearer {app.owner.token}")
    assert not app.devtools.is_visible(asked)
    app.devtools.local = True
    assert app.devtools.is_visible(asked)


@pytest.mark.parametrize(
    "asked",
    [
        scope(),
        scope(authorization="Bearer another token of the owner"),
        scope(cookie="unwritten_owner_8000=" + "0" * 64),
        scope("10.0.0.7"),
        scope(host="example.org"),
        scope(x_forwarded_for="10.0.0.7"),
        scope(forwarded="for=10.0.0.7"),
        scope(via="1.1 proxy"),
        scope(x_real_ip="10.0.0.7"),
    ],
    ids=str,
)
def test_connections_without_the_token_do_not_see_the_tools(asked: Scope) -> None:
    app = App("Tea")
    app.devtools.local = True
    assert not app.devtools.is_visible(asked)


def test_visitors_do_not_see_the_tools(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("A drink."))) as client:
        write(client, "/wiki/Tea")
        assert TOOLS not in client.get("/wiki/Tea").text
        refused = client.get(PANEL)
        assert refused.status_code == 404 and "open the URL that the server printed" in refused.text
        refused = client.get("/wiki/Tea?_trace=1")
        assert refused.status_code == 404
        assert (
            refused.text == "?_trace=1 only works for the owner: open the URL that the server printed at its start.\n"
        )
        assert client.get("/wiki/Tea?not_trace=1").status_code == 200


def test_every_browser_sees_the_tools_with_debug(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("A drink."), debug=True)
    with browser(app) as client:
        write(client, "/wiki/Tea")
        page = client.get("/wiki/Tea")
        head = page.text.partition("</head>")[0]
        assert head.count(TOOLS) == 1 and "devtools.css" in head and page_faults(page.text) == []
        nonce = page.headers["content-security-policy"].partition("'nonce-")[2].partition("'")[0]
        assert f"{TOOLS}?v=" in head and f'nonce="{nonce}"' in head[head.index(TOOLS) :]
        assert client.get("/wiki/Tea", headers={"if-none-match": "*"}).status_code == 200
        assert client.get(PANEL).status_code == 200


def test_other_machines_do_not_see_the_tools_under_run(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("A drink."))
    app.devtools.local = True
    visitor = Visitor(app)
    stranger = visitor.another("10.0.0.7")
    assert TOOLS in visitor.visit("/wiki/Tea").html
    assert TOOLS not in stranger.visit("/wiki/Tea").html
    assert visitor.visit(PANEL).status == 200
    assert stranger.visit(PANEL).status == 404
    assert stranger.visit("/wiki/Tea?_trace=1").status == 404


def test_a_trace_is_appended_and_not_part_of_the_key(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("A drink with <b>leaves</b>."), debug=True)

    @app.page("/echo")
    def echo(request: Request) -> Response:
        return HTMLResponse(f"{sorted(request.query_params.items())}")

    with browser(app) as client:
        write(client, "/wiki/Tea")
        page = client.get("/wiki/Tea?_trace=1")
        before, _, after = page.text.partition('<section class="devtools-trace"')
        assert after.rstrip().endswith("</section></body>\n</html>") and page_faults(page.text) == []
        assert "<td>page function</td>" in after and "SELECT p.key, v.title" in after and "&#39;/wiki/Tea&#39;" in after
        assert "stored, rendered now" in after
        assert "stored, rendered before" in client.get("/wiki/Tea?_trace=1").text
        assert "devtools-trace" not in client.get("/wiki/Tea?_trace=0").text
        assert 'data-page="/wiki/Tea"' in before and app.store.count() == 1
        assert "_trace" not in client.get("/echo?a=1&_trace=1").text.partition("<section")[0]
        moved = client.get("/wiki/Green%20tea?_trace=1")
        assert (moved.status_code, moved.headers["location"]) == (302, "/wiki/Green_tea?_trace=1")


def test_the_trace_of_a_streamed_page_is_at_its_end(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("A drink."), debug=True)) as client:
        page = client.get("/wiki/Tea?plain=1&_trace=1").text
    assert "not generated before" in page and page.index("A drink.") < page.index("devtools-trace") < page.index(
        "</body>"
    )


def test_tags_that_are_split_between_messages_are_found(tmp_path: Path) -> None:
    async def parts(request: Request) -> Response:
        async def pieces() -> object:
            for piece in ("<html><head></he", "ad><bo", "dy>text</b", "od", "y></html>", "</hea"):
                yield piece

        return StreamingResponse(pieces(), media_type="text/html")  # type: ignore[arg-type]

    app = App("Parts", engine=scripted("x"), debug=True, database=str(tmp_path / "p.db"), routes=[Route("/", parts)])
    with browser(app) as client:
        text = client.get("/?_trace=1").text
    assert text.startswith("<html><head><link") and text.endswith("</section></body></html></hea")
    assert text.count(TOOLS) == 1 and "<body>text<section" in text.replace("\n", "")


def test_other_responses_are_not_changed(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("A drink."), debug=True)
    with browser(app) as client:
        style = client.get("/_unwritten/static/unwritten.css")
        assert "</head>" not in style.text and "content-length" in style.headers
        assert client.get("/_unwritten/static/morph.js").headers["cache-control"] == "no-cache"


def test_errors_of_the_authors_code_are_shown_in_the_page(tmp_path: Path) -> None:
    source = '{% extends "layout.html" %}{% block main %}\n{{ lamps / 0 }}\n{% endblock %}'
    app = make_app(tmp_path, scripted("x"), folder=templates(tmp_path, broken=source), debug=True)

    @app.page("/function")
    def function() -> str:
        lamps = {"red": 1}
        return str(lamps["<green>"])

    @app.page("/template")
    def template() -> Response:
        return app.render("broken.html", lamps=1)

    with browser(app, raise_server_exceptions=False) as client:
        page = client.get("/function").text
        assert page_faults(page) == [] and TOOLS in page
        assert "<h2>KeyError</h2>" in page and "in function" in page and "test_extension.py" in page
        assert "return str(lamps[&#34;&lt;green&gt;&#34;])" in page
        assert "routes.py" not in page and "starlette/" not in page
        page = client.get("/template").text
        assert "<h2>ZeroDivisionError</h2>" in page and "broken.html</b>, line 2" in page
        assert 'aria-current="true"><span class="devtools-number">2</span>{{ lamps / 0 }}' in page
        assert "KeyError" in client.get("/function", headers={"accept": "text/plain"}).text
    app.configure({"debug": False})
    with browser(app, raise_server_exceptions=False) as client:
        assert "KeyError" not in client.get("/function").text


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("", 400, "needs the page: ?page=/wiki/Lighthouse"),
        ("?page=wiki", 400, "needs the page"),
        ("?page=/&canvs=x", 400, "has no parameter &#39;canvs&#39;"),
        ("?page=/&canvas=lead", 404, "The page / has no canvas &#39;lead&#39;."),
        ("?page=/&bare=panl", 400, "has no part &#39;panl&#39;. Did you mean &#39;panel&#39;?"),
        ("?page=/&bare=frame", 400, "has no part &#39;frame&#39;"),
    ],
)
def test_invalid_queries_are_errors(query: str, status: int, words: str, tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("A drink."), debug=True)) as client:
        answer = client.get(f"/_unwritten/developer{query}")
    assert answer.status_code == status and words in answer.text


GALLERY = "/_unwritten/developer/gallery"


def test_the_gallery_shows_hard_texts_at_any_point_of_their_generation(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("A drink."), debug=True)) as client:
        page = client.get(GALLERY).text
        assert page_faults(page) == [] and '<html lang="en" dir="ltr">' in page
        assert all(f'data-canvas="{name}"' in page for name in CASES)
        assert "Sure!" not in page.replace("<pre", "<pre\0").partition("\0")[0]
        assert '<html lang="ar" dir="rtl">' in client.get(f"{GALLERY}?rtl=1").text
        part = client.get(f"{GALLERY}?case=headings&at=9&bare=frame").text
        assert "Level" in part and "Text." not in part and 'value="9"' in part
        assert client.get(f"{GALLERY}?case=moon").status_code == 404
        assert GALLERY in client.get(PANEL).text
    with browser(make_wiki(tmp_path, scripted("A drink."))) as client:
        assert client.get(GALLERY).status_code == 404


@pytest.mark.parametrize("name", CASES)
def test_every_text_of_the_gallery_can_be_shown_at_any_length(name: str) -> None:
    case = CASES[name]
    for at in range(0, len(case.text) + 1, 1 if len(case.text) < 300 else 7):
        render_case(case, str(at)).html.encode()
    assert faults(str(render_case(case).html)) == [] or case.format == "svg"
