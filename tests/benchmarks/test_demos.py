"""``python tests/benchmarks demos``: the journey of each demo, with scripted texts; forms as a browser sends them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click import ClickException
from click.testing import CliRunner
from tests.benchmarks.demos import JOURNEYS, Step, being_written, command, figures, find_form, measure, show, take
from tests.support.apps import make_app, templates
from tests.support.servers import served

from unwritten import Canvas, Page
from unwritten.cli.loading import all_demos, find_demo, load_app
from unwritten.testing import answers
from unwritten_engine import scripted

FORM = """{% extends "layout.html" %}{% block main %}
<form action="/other"><input name="q"></form>
<form {{ action("post") }}><input name="title"><textarea name="text">
</textarea><select name="kind"><option value="a">A</option><option value="b" selected>B</option></select>
<input type="checkbox" name="loud"><input type="checkbox" name="kept" checked><button>Post</button></form>
{% block posts %}{% for one in posts %}<p>{{ one }}</p>{{ said[loop.index] }}{% endfor %}{% endblock %}{% endblock %}"""


def test_every_demo_has_a_journey() -> None:
    assert set(all_demos()) == set(JOURNEYS)
    assert all(step.paths for steps in JOURNEYS.values() for step in steps)


@pytest.mark.parametrize("name", all_demos())
def test_the_journey_of_a_demo_is_measured(name: str, tmp_path: Path) -> None:
    app = load_app(str(find_demo(name)))
    before = app.override(answers(), {"database": str(tmp_path / "demo.db"), "prefetch": "off"})
    try:
        with served(app) as address:
            journey = measure(int(address.rpartition(":")[2]), name, 1)
            for step, taken in journey:
                row = figures(name, step, taken, app.site.store)
                assert 0 < row["shell_ms"] / 1000 <= row["first_words_s"] + 0.006 <= row["settled_s"] + 0.012
                assert row["model"]
    finally:
        app.override(*before)


def test_a_form_is_sent_and_its_page_is_watched(tmp_path: Path) -> None:
    app = make_app(
        tmp_path, scripted(["It ", "It is ", "It is so."], delay=0.02), folder=templates(tmp_path, board=FORM)
    )
    posts: list[tuple[str, str, str, bool, bool]] = []

    @app.page("/")
    def board() -> Page:
        said = {number: Canvas(f"An answer to {post[0]}.") for number, post in enumerate(posts, 1)}
        return Page("board.html", title="Board", posts=[post[0] for post in posts], said=said)

    @app.action("/post")
    def post(title: str, text: str, kind: str, loud: bool = False, kept: bool = False) -> None:
        posts.append((title, text, kind, loud, kept))

    with served(app) as address:
        step = Step("a post is answered", ("/",), {"title": "Rain", "text": "Again."})
        page, clicked = asyncio.run(take(int(address.rpartition(":")[2]), step, "/"))
        assert page == "/" and posts == [("Rain", "Again.", "b", False, True)]
        assert clicked.shell < clicked.first_words < clicked.settled
        with pytest.raises(ClickException, match="no form with the fields colour"):
            asyncio.run(take(int(address.rpartition(":")[2]), Step("x", ("/",), {"colour": "red"}), "/"))


def test_finished_regions_are_not_timed() -> None:
    one = '<div class="region" data-region="{0}" data-page="/a" data-frame="3" data-state="{1}"></div>'
    assert being_written(one.format("lead", "written") + one.format("posts-2", "waiting")) == ("/a", {"posts-2": 3})
    assert being_written(one.format("lead", "written")) == ("", {})


def test_a_form_without_an_action_is_sent_to_its_page() -> None:
    assert find_form("<form><input name=a value=1><input type=submit name=b></form>", {"a": "2"}, "/x") == (
        "/x",
        {"a": "2"},
    )


def test_an_unknown_demo_gets_a_suggestion() -> None:
    told = CliRunner().invoke(command, ["wikki"])
    assert told.exit_code == 2 and "There is no journey through a demo 'wikki'. Did you mean 'wiki'?" in told.output


def test_the_table_ends_with_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"demo": "wiki", "does": "it", "model": "m", "times": 1, "shell_ms": 3.1, "first_words_s": 0.5}
    row |= {"settled_s": 4.2, "settled_worst_s": 5.0, "tokens_per_s": 34.2, "tokens": 140, "reach_s": 15}
    show([row])
    printed = capsys.readouterr().out
    assert "≤ 15 s" in printed and "0.5 s" in printed
    assert json.loads(printed.strip().splitlines()[-1]) == {"demos": [row]}
