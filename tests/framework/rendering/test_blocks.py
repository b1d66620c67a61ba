"""Blocks: regions in their elements, state regions, and groups of canvases."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup
from tests.support.apps import templates
from tests.support.html_checks import inner, page_faults

from unwritten import Canvas, Page
from unwritten.core.errors import BadTemplate
from unwritten.rendering.blocks import RegionNumbers
from unwritten.rendering.regions import PageView, Region
from unwritten.rendering.templates import Placeholder, Shell, Templates

FORUM = """{% extends "bare.html" %}{% block main %}<h1>T</h1>
{% block posts %}{% for post in posts %}<p>{{ post }}</p>{% if post in replies %}{{ replies[post] }}{% endif %}
{% endfor %}{% endblock %}{% endblock %}"""
BARE = "<main>{% block main %}{% endblock %}</main>"
VIEW = PageView("/thread/1", "T")


def render(
    home: Path, source: str, page: Page, shown: dict[str, Region], app_templates: Templates | None = None
) -> Shell:
    app_templates = app_templates or Templates(templates(home, bare=BARE, forum=source) / "templates", {})
    regions = {name: shown.get(name, Region(name)) for name in page.canvases}
    return app_templates.render_page(
        "forum.html", VIEW, regions, page.context, groups=page.canvas_groups, state_names=page.context
    )


def written(name: str, text: str, number: int = 1) -> Region:
    return Region(name, state="written", number=number, html=Markup("<b>{}</b>").format(text), text=text)


def forum(*posts: Any, **more: Any) -> Page:
    return Page("forum.html", posts=list(posts), **more)


def test_a_value_with_a_block_of_its_name_is_a_state_region(tmp_path: Path) -> None:
    shell = render(tmp_path, FORUM, forum("a", "b"), {})
    assert inner(shell.html, "posts").split() == ["<p>a</p>", "<p>b</p>"]
    assert 'data-region="posts"' in shell.html and 'data-state="live"' in shell.html
    assert 'aria-busy="false"' in shell.html
    assert page_faults(shell.html) == []
    assert shell.state_regions["posts"].html == inner(shell.html, "posts")


def test_only_values_with_their_own_block_are_state_regions(tmp_path: Path) -> None:
    source = "{% block main %}{{ main }}{% endblock %}{% block title %}{{ title }}{% endblock %}{{ posts }}"
    shell = render(tmp_path, source, Page("forum.html", main="m", posts="p"), {})
    assert "data-region" not in shell.html and shell.state_regions == {}


def test_a_canvas_of_a_group_is_rendered_where_it_is_printed(tmp_path: Path) -> None:
    page = forum(1, 2, replies={2: Canvas("Reply.")})
    shell = render(tmp_path, FORUM, page, {"replies-2": written("replies-2", "yes", 7)})
    found = re.search(r'<p>2</p>(<div class="region" id="region-replies-2".*?</div>)', shell.html, re.DOTALL)
    assert found and 'data-page="/thread/1" data-frame="7" data-state="written"' in found[1]
    assert found[1].endswith("<b>yes</b></div>")
    assert page_faults(shell.html) == []


def test_canvases_do_not_change_the_number_of_a_state_region(tmp_path: Path) -> None:
    app_templates = Templates(templates(tmp_path, bare=BARE, forum=FORUM) / "templates", {})

    def number(page: Page, **shown: Region) -> int:
        return (
            render(tmp_path, FORUM, page, {r.name: r for r in shown.values()}, app_templates)
            .state_regions["posts"]
            .number
        )

    page = forum(1, 2, replies={2: Canvas("Reply.")})
    first = number(page)
    assert number(page, reply=written("replies-2", "yes", 7)) == first
    later = number(forum(1, 2, 3, replies={2: Canvas("Reply.")}))
    assert later > first
    assert number(page) > later, "a return to earlier content raises the number"


def test_a_list_of_canvases_is_iterated_like_a_list(tmp_path: Path) -> None:
    source = "{% for part in parts %}<p>{{ loop.index }}</p>{{ part }}{% endfor %}{{ parts|length }}"
    page = Page("forum.html", parts=[Canvas("One."), Canvas("Two.")])
    shell = render(tmp_path, source, page, {"parts-1": written("parts-1", "two")})
    assert list(page.canvases) == ["parts-0", "parts-1"]
    assert shell.html.index('id="region-parts-0"') < shell.html.index("<p>2</p>") < shell.html.index("<b>two</b>")


def test_a_template_sees_the_attributes_of_a_canvas_of_a_group(tmp_path: Path) -> None:
    source = "{{ replies['a'].text }}|{{ replies['a'].state }}|{{ replies['b'] }}|{{ replies['a'] }}"
    page = Page("forum.html", replies={"a": Canvas("Reply.")})
    html = render(tmp_path, source, page, {"replies-a": written("replies-a", "yes")}).html
    assert html.startswith("yes|written||<div")


def test_a_canvas_block_may_be_inside_a_state_region(tmp_path: Path) -> None:
    source = "{% block posts %}{{ posts|length }}{% block lead %}{{ lead }}{% endblock %}{% endblock %}"
    page = forum(1, lead=Canvas("Lead."))
    shell = render(tmp_path, source, page, {"lead": written("lead", "words")})
    assert inner(shell.html, "lead") == "<b>words</b>"
    assert 'id="region-lead"' in shell.state_regions["posts"].html


def test_groups_have_placeholders_too(tmp_path: Path) -> None:
    page = forum(1, replies={1: Canvas("Reply.")})
    app_templates = Templates(templates(tmp_path, bare=BARE, forum=FORUM) / "templates", {})
    regions = {"replies-1": Region("replies-1")}
    shell = app_templates.render_page(
        "forum.html",
        VIEW,
        regions,
        page.context,
        groups=page.canvas_groups,
        state_names=page.context,
        placeholders=True,
    )
    before, placeholder, after = shell.parts()
    assert placeholder == Placeholder("replies-1")
    assert str(before).endswith('aria-busy="false">') and str(after).startswith("</div>")
    assert shell.render_region(written("replies-1", "yes"), VIEW) == "<b>yes</b>"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "{% block posts %}{% endblock %}",
            r"does not render the canvas 'replies-1'. Put \{\{ replies\[1\] \}\} where",
        ),
        ("{{ replies[1] }}{{ replies[1] }}", "'replies-1' is rendered twice"),
        (
            "{% block lead %}{{ replies[1] }}{% endblock %}",
            "The canvas 'replies-1' is inside the block 'lead', which is a canvas itself: put them side by side",
        ),
        ("{% for x in [1, 2] %}{% block posts scoped %}{% endblock %}{% endfor %}", "'posts' is rendered twice"),
    ],
)
def test_an_invalid_template_is_an_error(tmp_path: Path, source: str, message: str) -> None:
    lead = {"lead": Canvas("Lead.")} if "lead" in source else {}
    with pytest.raises(BadTemplate, match=message):
        render(tmp_path, source, forum(1, replies={1: Canvas("Reply.")}, **lead), {})


def test_numbers_are_kept_for_each_region_of_each_page() -> None:
    numbers = RegionNumbers()
    first = numbers.get("/a", "posts", "x")
    assert numbers.get("/a", "posts", "x") == first
    assert numbers.get("/a", "posts", "y") > first
    assert numbers.get("/b", "posts", "x") >= first
    assert first > 1_700_000_000_000_000, "numbers start from the time, so that they rise across restarts"
