"""Training examples from the stored pages of a world."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from pydantic import BaseModel
from tests.support.apps import browser, database_file, follow, in_turn, make_app, make_two, make_wiki, templates, write

from unwritten import App, Canvas, Example, Page
from unwritten.core.errors import StoreError, UnknownDatabase
from unwritten.export.training_examples import (
    HAS_IMAGE,
    HAS_SCHEMA,
    INCOMPLETE,
    UNKNOWN_PROMPT,
    TrainingExamples,
    read_prompt,
    training_examples,
)
from unwritten.export.world_import import import_world
from unwritten.generation.region_job import prompt_text
from unwritten_engine import Prompt, scripted
from unwritten_engine.training.dataset import read_pages, write_pages

EDIT = "/_unwritten/edit"


class Tower(BaseModel):
    height: int


def examples(app: App) -> TrainingExamples:
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
def test_a_stored_prompt_is_parsed(prompt: Prompt) -> None:
    assert read_prompt(prompt_text(prompt)) == prompt


@pytest.mark.parametrize("text", ["A lead.", "[]", '{"ask": "x"}'])
def test_other_texts_are_not_prompts(text: str) -> None:
    with pytest.raises(ValueError):
        read_prompt(text)


def test_an_example_has_the_prompt_that_the_engine_got(tmp_path: Path) -> None:
    engine = scripted(" is a house of [[Stone]] by the sea.")
    app = make_wiki(tmp_path, engine, world="A calm book.", links="/wiki/{title}")
    with browser(app) as client:
        write(client, "/wiki/Tower")
        write(client, "/wiki/Stone")
    found = examples(app)
    assert [page.prompt for page in found.pages] == [request.prompt for request in engine.requests]
    assert found.pages[0].prompt.system.startswith("A calm book.") and found.pages[0].prompt.examples
    assert any(page.prompt.facts for page in found.pages), "prompts contain facts from earlier pages"
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


def test_an_edited_text_is_the_answer_to_the_first_prompt(tmp_path: Path) -> None:
    engine = scripted(in_turn("A lead.", "A body."))
    app = make_two(tmp_path, engine)
    with browser(app) as client:
        write(client, "/")
        assert client.post(EDIT, data=by_hand("My own lead.")).status_code == 303
    found = examples(app)
    assert [(page.prompt, page.text) for page in found.pages] == [
        (engine.requests[0].prompt, "My own lead."),
        (engine.requests[1].prompt, "A body."),
    ]
    assert found.by_hand == 1 and not found.left_out


def test_a_requested_change_is_the_answer_to_the_first_prompt(tmp_path: Path) -> None:
    engine = scripted(in_turn("A lead.", "A body.", "A shorter lead.", "A new lead."))
    app = make_two(tmp_path, engine)
    with browser(app) as client:
        write(client, "/")
        for base, means in ((1, asked("Shorter.")), (2, by_hand("Shortest.", 2)), (3, asked("Newer.", 3))):
            assert client.post(EDIT, data=means).status_code == 303, base
            follow(client, "/")
            found = examples(app)
            assert found.pages[0].prompt == engine.requests[0].prompt and found.pages[1].text == "A body."
            assert found.by_hand == (base == 2)
    assert found.pages[0].text == "A new lead." and engine.requests[-1].prompt.ask.endswith("Newer.")


def test_earlier_versions_are_no_examples(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted(in_turn(" First.", " Second.")))
    with browser(app) as client:
        write(client, "/wiki/Tower")
        client.post("/_unwritten/rewrite", data={"page": "/wiki/Tower"})
        follow(client, "/wiki/Tower")
        assert [page.text for page in examples(app).pages] == ["**Tower** Second."]
        restore = {"page": "/wiki/Tower", "version": "1", "base": "2"}
        assert client.post("/_unwritten/restore", data=restore).status_code == 303
    assert [page.text for page in examples(app).pages] == ["**Tower** First."]


def test_a_change_without_its_first_prompt_is_left_out(tmp_path: Path) -> None:
    app = make_two(tmp_path, scripted(in_turn("A lead.", "A body.", "A shorter lead.")))
    (tmp_path / "there").mkdir()
    other = make_two(tmp_path / "there", scripted("Other words."))
    with browser(app) as client, browser(other) as there:
        write(client, "/")
        client.post(EDIT, data=asked("Shorter."))
        follow(client, "/")
        write(there, "/")
    with sqlite3.connect(database_file(other)) as connection:
        connection.execute("DELETE FROM canvases")  # the first prompt is gone
    import_world(other.database, database_file(app), theirs=True)
    found = examples(other)
    assert [page.text for page in found.pages] == ["A body."] and found.left_out == {UNKNOWN_PROMPT: 1}


def test_a_text_with_another_beginning_has_no_opening(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted(" stands."))

    @app.page("/")
    def front() -> Canvas:
        return Canvas("A lead.", opening="The **tower**")

    with browser(app) as client:
        write(client, "/")
        (before,) = examples(app).pages
        client.post(EDIT, data=by_hand("A **tower** is high.", region="body"))
    (after,) = examples(app).pages
    assert before.prompt.opening == "The **tower**" and before.text == "The **tower** stands."
    assert after.prompt.opening == "" and after.prompt.ask == before.prompt.ask
    write_pages(tmp_path / "pages.jsonl", [after])  # a page must begin with its opening
    assert list(read_pages(tmp_path / "pages.jsonl")) == [after]


# -- what is left out ------------------------------------------------------------------------------------


def test_schemas_images_and_incomplete_texts_are_left_out_and_counted(tmp_path: Path) -> None:
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
    with sqlite3.connect(database_file(app)) as connection:
        connection.execute("UPDATE canvases SET reason = 'length' WHERE name IN ('art', 'more')")
        prompt = prompt_text(Prompt("What is this?", images=(b"picture",)))
        connection.execute("UPDATE canvases SET prompt = ? WHERE name = 'lead'", (prompt,))
    found = examples(app)
    assert [page.prompt.ask for page in found.pages] == ["More. The subject is Front."], "cut to complete sentences"
    assert found.left_out == {HAS_IMAGE: 1, HAS_SCHEMA: 1, INCOMPLETE: 1}


def test_a_missing_or_foreign_database_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"No pages are stored yet: there is no database .*none\.db"):
        training_examples(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()
    with sqlite3.connect(tmp_path / "foreign.db") as connection:
        connection.execute("CREATE TABLE birds (name)")
    connection.close()
    with pytest.raises(UnknownDatabase, match="another program"):
        training_examples(tmp_path / "foreign.db")


def test_an_empty_world_has_no_examples(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted())
    with browser(app):
        pass
    assert examples(app) == TrainingExamples("Fake Wiki", (), 0, {})
