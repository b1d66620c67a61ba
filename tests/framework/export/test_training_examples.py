"""Lessons: what a model can learn from a world, whoever wrote it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from pydantic import BaseModel
from tests.support.apps import browser, follow, in_turn, make_app, make_two, make_wiki, templates, write

from unwritten import App, Canvas, Example, Page
from unwritten.core.errors import StoreError, UnknownDatabase
from unwritten.export.training_examples import (
    BROKEN,
    PICTURED,
    SHAPED,
    UNKNOWN,
    TrainingExamples,
    read_prompt,
    training_examples,
)
from unwritten.export.world_file import import_world
from unwritten.generation.region_job import prompt_text
from unwritten_engine import Prompt, scripted
from unwritten_engine.training.dataset import read_pages
from unwritten_engine.training.dataset import write_pages

pytestmark = pytest.mark.timeout(30)

EDIT = "/_unwritten/edit"


class Tower(BaseModel):
    height: int


def lessons(app: App) -> TrainingExamples:
    return training_examples(app.database)


def by_hand(text: str, base: int = 1, region: str = "lead") -> dict[str, str]:
    return {"page": "/", "region": region, "base": str(base), "means": "by hand", "text": text}


def asked(ask: str, base: int = 1, region: str = "lead") -> dict[str, str]:
    return {"page": "/", "region": region, "base": str(base), "means": "asked", "ask": ask}


# -- prompts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt("Say."),
        Prompt("Say “ü”.", "A calm\nbook.", (Example("One?", "Two."), Example("A", "B", ("c",))), ("f", "g"), "**Ü** "),
    ],
    ids=["bare", "full"],
)
def test_a_prompt_comes_back_as_it_was_kept(prompt: Prompt) -> None:
    assert read_prompt(prompt_text(prompt)) == prompt


@pytest.mark.parametrize("text", ["A lead.", "[]", '{"ask": "x"}'])
def test_what_is_no_prompt_is_told(text: str) -> None:
    with pytest.raises(ValueError):
        read_prompt(text)


def test_a_lesson_has_its_prompt_exactly_as_the_engine_got_it(tmp_path: Path) -> None:
    engine = scripted(" is a house of [[Stone]] by the sea.")
    app = make_wiki(tmp_path, engine, world="A calm book.", links="/wiki/{title}")
    with browser(app) as client:
        write(client, "/wiki/Tower")
        write(client, "/wiki/Stone")
    found = lessons(app)
    assert [page.prompt for page in found.pages] == [request.prompt for request in engine.requests]
    assert found.pages[0].prompt.system.startswith("A calm book.") and found.pages[0].prompt.examples
    assert any(page.prompt.facts for page in found.pages), "what one page said is told to the next"
    first = found.pages[0]
    assert (first.text, first.title, first.kind, first.source) == (
        "**Tower** is a house of [[Stone]] by the sea.",
        "Tower",
        "markdown",
        "Fake Wiki",
    )
    write_pages(tmp_path / "pages.jsonl", found.pages)
    assert tuple(read_pages(tmp_path / "pages.jsonl")) == found.pages


# -- changes ----------------------------------------------------------------------------------------------


def test_a_text_that_a_person_left_is_the_answer_to_the_prompt_as_it_was_sent(tmp_path: Path) -> None:
    engine = scripted(in_turn("A lead.", "A body."))
    app = make_two(tmp_path, engine)
    with browser(app) as client:
        write(client, "/")
        assert client.post(EDIT, data=by_hand("My own lead.")).status_code == 303
    found = lessons(app)
    assert [(page.prompt, page.text) for page in found.pages] == [
        (engine.requests[0].prompt, "My own lead."),
        (engine.requests[1].prompt, "A body."),
    ]
    assert found.by_hand == 1 and not found.left_out


def test_a_change_that_was_asked_for_answers_the_first_prompt_and_not_the_ask(tmp_path: Path) -> None:
    engine = scripted(in_turn("A lead.", "A body.", "A shorter lead.", "A new lead."))
    app = make_two(tmp_path, engine)
    with browser(app) as client:
        write(client, "/")
        for base, means in ((1, asked("Shorter.")), (2, by_hand("Shortest.", 2)), (3, asked("Newer.", 3))):
            assert client.post(EDIT, data=means).status_code == 303, base
            follow(client, "/")
            found = lessons(app)
            assert found.pages[0].prompt == engine.requests[0].prompt and found.pages[1].text == "A body."
            assert found.by_hand == (base == 2)
    assert found.pages[0].text == "A new lead." and engine.requests[-1].prompt.ask.endswith("Newer.")


def test_versions_before_the_current_one_are_not_learned(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted(in_turn(" First.", " Second.")))
    with browser(app) as client:
        write(client, "/wiki/Tower")
        client.post("/_unwritten/rewrite", data={"page": "/wiki/Tower"})
        follow(client, "/wiki/Tower")
        assert [page.text for page in lessons(app).pages] == ["**Tower** Second."]
        restore = {"page": "/wiki/Tower", "version": "1", "base": "2"}
        assert client.post("/_unwritten/restore", data=restore).status_code == 303
    assert [page.text for page in lessons(app).pages] == ["**Tower** First."]


def test_a_change_whose_first_prompt_did_not_come_along_is_left_out(tmp_path: Path) -> None:
    app = make_two(tmp_path, scripted(in_turn("A lead.", "A body.", "A shorter lead.")))
    (tmp_path / "there").mkdir()
    other = make_two(tmp_path / "there", scripted("Other words."))
    with browser(app) as client, browser(other) as there:
        write(client, "/")
        client.post(EDIT, data=asked("Shorter."))
        follow(client, "/")
        write(there, "/")
    with sqlite3.connect(other.database) as connection:
        connection.execute("DELETE FROM canvases")  # so that nothing of its own is left to answer to
    import_world(other.database, app.database, theirs=True)
    found = lessons(other)
    assert [page.text for page in found.pages] == ["A body."] and found.left_out == {UNKNOWN: 1}


def test_a_text_that_begins_otherwise_has_no_opening(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted(" stands."))

    @app.page("/")
    def front() -> Canvas:
        return Canvas("A lead.", opening="The **tower**")

    with browser(app) as client:
        write(client, "/")
        (before,) = lessons(app).pages
        client.post(EDIT, data=by_hand("A **tower** is high.", region="body"))
    (after,) = lessons(app).pages
    assert before.prompt.opening == "The **tower**" and before.text == "The **tower** stands."
    assert after.prompt.opening == "" and after.prompt.ask == before.prompt.ask
    write_pages(tmp_path / "pages.jsonl", [after])  # a page must begin with its opening
    assert list(read_pages(tmp_path / "pages.jsonl")) == [after]


# -- what is no lesson ------------------------------------------------------------------------------------


def test_shapes_pictures_and_what_broke_off_are_left_out_and_counted(tmp_path: Path) -> None:
    names = ("lead", "facts", "art", "more")
    shell = "".join(f"{{% block {name} %}}{{{{ {name} }}}}{{% endblock %}}" for name in names)
    folder = templates(tmp_path, four=f'{{% extends "layout.html" %}}{{% block main %}}{shell}{{% endblock %}}')
    app = make_app(
        tmp_path,
        scripted(by_ask={"facts": '{"height":9}', "drawing": "Tower</title><circle r='9'/>", "": "A lead."}),
        folder=folder,
    )

    @app.page("/")
    def front() -> Page:
        return Page(
            "four.html",
            title="Front",
            lead=Canvas("A lead."),
            facts=Canvas("The facts.", schema=Tower),
            art=Canvas("A drawing.", "svg"),
            more=Canvas("More."),
        )

    with browser(app) as client:
        write(client, "/")
    with sqlite3.connect(app.database) as connection:
        connection.execute("UPDATE canvases SET reason = 'length' WHERE name IN ('art', 'more')")
        prompt = prompt_text(Prompt("What is this?", images=(b"picture",)))
        connection.execute("UPDATE canvases SET prompt = ? WHERE name = 'lead'", (prompt,))
    found = lessons(app)
    assert [page.prompt.ask for page in found.pages] == ["More. The subject is Front."], "prose was cut to a sentence"
    assert found.left_out == {PICTURED: 1, SHAPED: 1, BROKEN: 1}


def test_a_world_that_is_not_there_or_no_world_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"Nothing is written yet: there is no database .*none\.db"):
        training_examples(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()
    with sqlite3.connect(tmp_path / "foreign.db") as connection:
        connection.execute("CREATE TABLE birds (name)")
    connection.close()
    with pytest.raises(UnknownDatabase, match="another program"):
        training_examples(tmp_path / "foreign.db")


def test_an_empty_world_has_no_lessons(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted())
    with browser(app):
        pass
    assert lessons(app) == TrainingExamples("Fake Wiki", (), 0, {})
