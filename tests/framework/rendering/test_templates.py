"""Templates and their blocks: a canvas is an ordinary block."""

from __future__ import annotations

from pathlib import Path

import pytest
from markupsafe import Markup
from pydantic import BaseModel
from tests.support.apps import TWO, browser, follow, make_app, make_two, make_wiki, templates, until_over, watch, write
from tests.support.html_checks import inner

from unwritten import Canvas, Page
from unwritten.core.errors import BadTemplate
from unwritten.rendering.regions import PageView, Region
from unwritten.rendering.templates import Placeholder, Shell, Templates
from unwritten_engine import Frame, scripted
from unwritten_engine.scripted import HANG


class Person(BaseModel):
    name: str


class Facts(BaseModel):
    founder: Person
    known_for: list[str]


PAGE = PageView(key="/x", title="X")


def region(name: str = "lead", text: str = "words", **given: object) -> Region:
    return Region(name, state="writing", number=3, html=Markup(f"<p>{text}</p>"), text=text, **given)  # type: ignore[arg-type]


def shell(home: Path, source: str, *, placeholders: bool = False, **more: str) -> Shell:
    app_templates = Templates(templates(home, page=source, **more) / "templates", {"app": None})
    regions = {name: region(name) for name in ("lead", "body")}
    values = {"colour": "red", "colophon": "", "n": 3}
    return app_templates.render_page("page.html", PAGE, regions, values, placeholders=placeholders)


BOTH = "{% block lead %}{{ lead }}{% endblock %}|{% block body %}{{ body }}{% endblock %}"


def test_a_canvas_is_a_block_in_its_own_element(tmp_path: Path) -> None:
    html = shell(tmp_path, BOTH).html
    assert html.startswith('<div class="region" id="region-lead" data-region="lead" data-page="/x" data-frame="3"')
    assert 'aria-busy="true"><p>words</p></div>|<div' in html


def test_a_region_is_rendered_again_in_the_context_of_its_page(tmp_path: Path) -> None:
    source = "{% set shade = 'dark' %}{% block lead %}{{ shade }} {{ colour }} {{ lead.text }} {{ lead }}{% endblock %}"
    rendered = shell(tmp_path, source + "{% block body %}{% endblock %}")
    assert rendered.render_region(region(text="more"), PAGE) == "dark red more <p>more</p>"


def test_blocks_of_a_parent_and_super(tmp_path: Path) -> None:
    parent = "<main>{% block main %}{% endblock %}</main>{% block lead %}from the parent {{ lead.text }}{% endblock %}"
    child = (
        "{% extends 'parent.html' %}{% set shade = 'dark' %}{% block lead %}({{ super() }}) {{ shade }}{% endblock %}"
        "{% block main %}{% block body %}{{ body }}{% endblock %}{% endblock %}"
    )
    rendered = shell(tmp_path, child, parent=parent)
    assert inner(rendered.html, "lead") == "(from the parent words) dark"
    assert rendered.render_region(region(text="again"), PAGE) == "(from the parent again) dark"
    assert rendered.html.startswith('<main><div class="region" id="region-body"')


def test_other_blocks_may_be_inside_and_around_a_canvas(tmp_path: Path) -> None:
    source = (
        "{% block outer %}{% block lead %}{% block inside %}{{ lead }}!{% endblock %}{% endblock %}{% endblock %}"
        "{% block body %}{% endblock %}"
    )
    rendered = shell(tmp_path, source)
    assert inner(rendered.html, "lead") == "<p>words</p>!"
    assert rendered.render_region(region(text="again"), PAGE) == "<p>again</p>!"


def test_printed_values_are_escaped(tmp_path: Path) -> None:
    rendered = shell(tmp_path, "{% block lead %}{{ lead.text }}{% endblock %}{% block body %}{% endblock %}")
    assert rendered.render_region(region(text="<script>"), PAGE) == "&lt;script&gt;"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "{% block lead %}{% endblock %}",
            r"does not render the canvas 'body'. Put {% block body %}{{ body }}{% endblock",
        ),
        ("", "does not render the canvas 'lead'"),
        (
            "{% block lead %}{% block body %}{% endblock %}{% endblock %}",
            "'body' is inside the block 'lead'.*side by side",
        ),
        (BOTH + "{{ self.lead() }}", "'lead' is rendered twice"),
        ("{% for i in [1, 2] %}{% block lead %}{% endblock %}{% endfor %}", "'lead' is rendered twice"),
        ("\n\n{{ 1 / 0 }}", r"'page.html' cannot be rendered \(line 3\): ZeroDivisionError"),
        ("{% block lead %}\n{{ nothing.at.all }}{% endblock %}", r"\(line 2\).*undefined"),
        ("{% block %}", "cannot be rendered"),
        ("{% extends 'nowhere.html' %}", "no template 'nowhere.html'"),
        ("{% include 'nowhere.html' %}" + BOTH, "nowhere.html"),
        ("{{ lead | dance }}", "dance"),
    ],
)
def test_an_invalid_template_is_an_error_with_the_place_and_the_fix(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(BadTemplate, match=message):
        shell(tmp_path, source)


def test_a_missing_template_without_a_folder_mentions_the_folder(tmp_path: Path) -> None:
    with pytest.raises(BadTemplate, match=r"no template 'tea.html'. Looked in .*templates. .*write folder=__file__.$"):
        Templates(None, {}).get("tea.html")
    with pytest.raises(BadTemplate, match=r"Looked in .*templates and .*templates.$"):
        Templates(templates(tmp_path, page="") / "templates", {}).get("tea.html")


def test_a_page_with_placeholders_is_split_into_parts(tmp_path: Path) -> None:
    parts = list(shell(tmp_path, "<a>" + BOTH + "<b>{{ colophon }}", placeholders=True).parts())
    assert [part.name for part in parts if isinstance(part, Placeholder)] == ["lead", "body", "colophon"]
    assert "words" not in "".join(part for part in parts if isinstance(part, str))


def test_templates_of_the_app_take_precedence(tmp_path: Path) -> None:
    layout = "<title>Mine</title>{{ unwritten }}{% block main %}{% endblock %}{{ colophon }}"
    with browser(make_wiki(tmp_path, scripted("Words."), folder=templates(tmp_path, layout=layout))) as client:
        page = client.get("/wiki/X").text
        assert page.startswith("<title>Mine</title>") and 'id="region-body"' in page
        assert "live.js" in page and "data-colophon" in page


def test_the_fields_of_a_schema_exist_before_its_first_word(tmp_path: Path) -> None:
    source = "{% block facts %}{{ facts.founder.name }}{% for x in facts.known_for %}<i>{{ x }}</i>{% endfor %}"
    source += "{% endblock %}"
    text = '{"founder":{"name":"Ada"},"known_for":["<light>"]}'
    steps = [Frame(text[:n]) for n in range(len(text))]
    app = make_app(tmp_path, scripted([*steps, Frame(text)]), folder=templates(tmp_path, facts=source))

    @app.page("/")
    def front() -> Page:
        return Page("facts.html", facts=Canvas("Facts.", schema=Facts))

    with browser(app) as client:
        assert client.get("/").status_code == 200
        frames = [m for m in follow(client, "/") if m["type"] == "frame"]
    assert frames[-1]["state"] == "written"
    assert frames[-1]["html"] == "Ada<i>&lt;light&gt;</i>"


def test_a_block_that_raises_in_the_shell_is_a_500(tmp_path: Path) -> None:
    two = "{% block lead %}{{ 1 / 0 }}{% endblock %}{% block body %}{{ body }}{% endblock %}"
    engine = scripted("Words.")
    with browser(make_two(tmp_path, engine, two, debug=True), raise_server_exceptions=False) as client:
        answer = client.get("/")
        assert answer.status_code == 500 and "division by zero" in answer.text
    assert engine.requests == []  # no job was started


def test_a_block_that_raises_later_fails_its_region(tmp_path: Path) -> None:
    two = (
        "{% block lead %}{% if lead.text == 'One two' %}{{ 1 / 0 }}{% endif %}{{ lead }}{% endblock %}"
        "{% block body %}{{ body }}{% endblock %}"
    )
    engine = scripted(
        by_ask={"Lead": ["One", 0.2, "One two", 0.2, "One two three", HANG], "Body": ["A", 0.8, "A body."]}
    )
    with browser(make_two(tmp_path, engine, two)) as client:
        client.get("/")
        with client.websocket_connect("/_unwritten/live") as ws:
            watch(ws, "/")
            heard = until_over(ws)
    lead = [m for m in heard if m["type"] == "frame" and m["region"] == "lead"]
    assert lead[-1]["state"] == "failed" and "the details under the number" in lead[-1]["html"]
    assert len([m for m in lead if m["state"] == "failed"]) == 1  # once, not for every frame
    assert [m["state"] for m in heard if m["type"] == "frame" and m["region"] == "body"][-1] == "written"
    assert heard[-1]["state"] == "failed" and "division by zero" in heard[-1]["message"]


def test_a_value_that_does_not_fit_its_schema_fails_its_region_alone(tmp_path: Path) -> None:
    engine = scripted(by_ask={"Facts": '{"colour":"red"}', "Body": ["A", 0.5, "A body."]})
    app = make_app(tmp_path, engine, folder=templates(tmp_path, two=TWO))

    @app.page("/")
    def front() -> Page:
        return Page("two.html", lead=Canvas("Facts.", schema=Facts), body=Canvas("Body."))

    with browser(app) as client:
        heard = write(client, "/")
        assert client.get("/").status_code == 200
    lead = [m for m in heard if m["type"] == "frame" and m["region"] == "lead"]
    assert [m["state"] for m in lead if m["state"] == "failed"] == ["failed"]
    assert "does not match the schema Facts" in heard[-1]["message"]


@pytest.mark.parametrize("name", ["Great Auk", "x" * 200, "..", "?"])
def test_a_url_with_text_of_the_model_has_a_default(tmp_path: Path, name: str) -> None:
    source = (
        "{% block facts %}{% set url = url_for('article', title=facts.founder.name, default=none) %}"
        "{% if url %}<a href='{{ url }}'>x</a>{% else %}no link{% endif %}"
        "|{{ app.url_path_for('article', title=facts.founder.name, default=none)|link(default='#') }}{% endblock %}"
    )
    text = Facts(founder=Person(name=name), known_for=[]).model_dump_json()
    app = make_app(
        tmp_path,
        scripted([Frame(text[:n]) for n in range(len(text))] + [text]),
        folder=templates(tmp_path, facts=source),
    )

    @app.page("/")
    def front() -> Page:
        return Page("facts.html", facts=Canvas("Facts.", schema=Facts))

    @app.page("/wiki/{title}")
    def article(title: str) -> str:
        return f"About {title}."

    with browser(app) as client:
        assert write(client, "/")[-1]["state"] == "written"
        stored = client.get("/")
    assert stored.status_code == 200
    expected = "<a href='/wiki/Great_Auk'>x</a>|/wiki/Great_Auk" if name == "Great Auk" else "no link|#"
    assert inner(stored.text, "facts") == (expected if name != "?" else "<a href='/wiki/%3F'>x</a>|/wiki/%3F")


def test_text_of_the_model_that_no_url_can_hold_fails_its_region_alone(tmp_path: Path) -> None:
    source = (
        "{% block facts %}{% if facts %}{{ url_for('article', title=facts.founder.name) }}{% endif %}{% endblock %}rest"
    )
    text = Facts(founder=Person(name="x" * 200), known_for=[]).model_dump_json()
    app = make_app(tmp_path, scripted(text), folder=templates(tmp_path, facts=source))

    @app.page("/")
    def front() -> Page:
        return Page("facts.html", facts=Canvas("Facts.", schema=Facts))

    @app.page("/wiki/{title}")
    def article(title: str) -> str:
        return title

    with browser(app) as client:
        write(client, "/")
        response = client.get("/")
        assert response.status_code == 200
        assert "region-error" in response.text and "The limit is 120" in response.text and "rest" in response.text


def test_a_template_of_the_app_extends_the_one_that_it_replaces(tmp_path: Path) -> None:
    layout = '{% extends "unwritten/layout.html" %}{% block header %}<b>Our header</b>{% endblock %}'
    app = make_app(tmp_path, scripted("Text."), folder=templates(tmp_path, layout=layout))

    @app.page("/{name}")
    def page(name: str) -> str:
        return f"A page about {name}."

    for path in ("/no/such/page", "/_unwritten/history?page=/tea"):
        html = browser(app).get(path).text
        assert "<b>Our header</b>" in html and 'class="masthead"' in html
