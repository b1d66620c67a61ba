"""`unwritten bench demos`: the journey of each demo works, over scripted answers; forms are sent as a browser does."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click import ClickException
from tests.benchmarks.demos import JOURNEYS, Step, being_written, figures, grammar_from_examples, measure, show, take
from tests.support.apps import make_app, served, templates
from tests.support.terminal import unwritten
from unwritten.cli.demos import all_demos

from unwritten import Canvas, Page
from unwritten.cli import demos
from unwritten.cli.loading import load_app
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
def test_the_journey_through_a_demo_leads_to_its_end(name: str, tmp_path: Path) -> None:
    app = load_app(str(demos.find_demo(name)))
    app.configure({"database": str(tmp_path / "demo.db"), "prefetch": "off"})
    app._life.brought = answers()
    try:
        with served(app) as address:
            journey = measure(int(address.rpartition(":")[2]), name, 1)
            for step, taken in journey:
                row = figures(name, step, taken, app.store)
                assert 0 < row["shell_ms"] / 1000 <= row["first_words_s"] + 0.006 <= row["settled_s"] + 0.012
                assert row["model"]
    finally:
        app._life.brought = None


def test_a_form_is_sent_and_its_answer_is_watched(tmp_path: Path) -> None:
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


def test_what_is_written_already_is_not_timed() -> None:
    one = '<div class="region" data-region="{0}" data-page="/a" data-frame="3" data-state="{1}"></div>'
    assert being_written(one.format("lead", "written") + one.format("posts-2", "waiting")) == ("/a", {"posts-2": 3})
    assert being_written(one.format("lead", "written")) == ("", {})


def test_a_form_without_an_address_goes_to_its_page() -> None:
    assert grammar_from_examples("<form><input name=a value=1><input type=submit name=b></form>", {"a": "2"}, "/x") == (
        "/x",
        {"a": "2"},
    )


def test_an_unknown_journey_gets_the_nearest() -> None:
    told = unwritten("bench", "demos", "wikki")
    assert told.exit_code == 2 and "There is no journey through a demo 'wikki'. Did you mean 'wiki'?" in told.output


def test_the_table_ends_with_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"demo": "wiki", "does": "it", "model": "m", "times": 1, "shell_ms": 3.1, "first_words_s": 0.5}
    row |= {"settled_s": 4.2, "settled_worst_s": 5.0, "tokens_per_s": 34.2, "tokens": 140, "reach_s": 15}
    show([row])
    printed = capsys.readouterr().out
    assert "≤ 15 s" in printed and "0.5 s" in printed
    assert json.loads(printed.strip().splitlines()[-1]) == {"demos": [row]}
