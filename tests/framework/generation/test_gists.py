"""Gists of links: asked for, hidden, stored, and given to the prompt of the page that they promise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from tests.support.apps import TWO, browser, database_file, make_app, make_wiki, templates, write

from unwritten import App, Canvas, Page
from unwritten.export.training_examples import training_examples
from unwritten.export.world_import import import_world
from unwritten.formats.gists import GIST_REQUEST
from unwritten_engine import scripted
from unwritten_engine.scripted import ABOUT, ScriptedEngine

INSTRUCT = replace(ABOUT, abilities=replace(ABOUT.abilities, drafts=False))
NOTE = "Odo Brask was born in 1743."
TEXT = f"The harbour was lit by [[Odo Brask|a lamp maker]]{{{NOTE}}} for years."


def make_engine(**by_ask: str) -> ScriptedEngine:
    """Return an engine that is good at following instructions."""
    return scripted(TEXT, by_ask=by_ask, about=INSTRUCT)


def test_a_gist_reaches_the_prompt_of_its_page_and_no_visitor(tmp_path: Path) -> None:
    engine = make_engine(**{"Odo Brask": "A lamp maker."})
    app = make_wiki(tmp_path, engine)
    with browser(app) as client:
        pages = [str(message) for message in write(client, "/wiki/Harbour")]
        pages += [client.get(path).text for path in ("/wiki/Harbour", "/_unwritten/history?page=/wiki/Harbour")]
        pages.append(client.get("/_unwritten/edit?page=/wiki/Harbour").text)
        assert all("1743" not in page and "{Odo" not in page for page in pages)
        assert not app.site.store.search("1743")
        stored = app.site.store.get("/wiki/Harbour")
        assert stored is not None and stored.canvases["body"].text.endswith(TEXT.replace(f"{{{NOTE}}}", ""))
        link = app.site.store.link("/wiki/Harbour", "/wiki/Odo_Brask")
        assert link is not None and link.gist == NOTE
        write(client, "/wiki/Odo_Brask")
    assert GIST_REQUEST in engine.requests[0].prompt.system
    assert any("]]{" in example.answer for example in engine.requests[0].prompt.examples)
    assert engine.requests[-1].prompt.facts[0] == NOTE


def test_engines_with_drafts_and_other_formats_are_not_asked(tmp_path: Path) -> None:
    for folder, about, prompt in (("a", ABOUT, {}), ("b", INSTRUCT, {"format": "html"})):
        (tmp_path / folder).mkdir()
        engine = scripted("Plain {text}.", about=about)
        with browser(make_wiki(tmp_path / folder, engine, **({} if not prompt else {"gists": "off"}))) as client:
            write(client, "/wiki/Harbour")
        (request,) = engine.requests
        assert GIST_REQUEST not in request.prompt.system
        assert not any("{" in example.answer for example in request.prompt.examples)


def test_only_canvases_that_are_asked_for_gists_lose_notes(tmp_path: Path) -> None:
    engine = scripted("Lit by [[Odo Brask]]{cup}.", about=INSTRUCT)
    app = make_app(tmp_path, engine, folder=templates(tmp_path, two=TWO))

    @app.page("/wiki/{title}")
    def page(title: str) -> Page:
        return Page("two.html", title=title, lead=Canvas("A note.", format="html"), body=Canvas("A text."))

    with browser(app) as client:
        write(client, "/wiki/Harbour")
        stored = app.site.store.get("/wiki/Harbour")
        assert stored is not None
        assert "{cup}" not in stored.canvases["body"].text and "{cup}" in stored.canvases["lead"].text
    asked = {request.prompt.ask.partition(".")[0]: request.prompt.system for request in engine.requests}
    assert GIST_REQUEST in asked["A text"] and GIST_REQUEST not in asked["A note"]


def test_a_world_with_the_same_sentence_asks_for_no_gists(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("Lit by [[Odo Brask]]{cup}.", about=INSTRUCT), world=GIST_REQUEST, gists="off")
    with browser(app) as client:
        write(client, "/wiki/Harbour")
        stored = app.site.store.get("/wiki/Harbour")
        assert stored is not None and "{cup}" in stored.canvases["body"].text


def test_an_edit_of_another_region_keeps_gists(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, make_engine(), edits="on")
    with browser(app) as client:
        write(client, "/wiki/Harbour")
        data = {"page": "/wiki/Harbour", "region": "body", "base": "1", "means": "by hand", "note": ""}
        text = "Lit by [[Odo Brask]] and [[Tea]]{cup}."
        assert client.post("/_unwritten/edit", data={**data, "text": text}).status_code == 303
        link = app.site.store.link("/wiki/Harbour", "/wiki/Odo_Brask")
        assert link is not None and (link.text, link.gist) == ("Odo Brask", NOTE)
        assert "{cup}" in client.get("/wiki/Harbour").text  # a visitor's own text is shown as it is


def make_protected(home: Path, engine: Any) -> App:
    """Return an app with protected pages that link to public ones."""
    app = make_app(home, engine, links="/wiki/{title}")

    @app.page("/secret/{title}", allow=lambda request: request.headers.get("x-user") == "sarah")
    def secret(title: str) -> str:
        return f"Secret {title}."

    @app.page("/wiki/{title}")
    def public(title: str, request: Request) -> str:
        return f"Public {title}."

    return app


def test_gists_of_protected_pages_stay_out_of_public_prompts(tmp_path: Path) -> None:
    engine = make_engine()
    with browser(make_protected(tmp_path, engine)) as client:
        headers = {"x-user": "sarah"}
        client.get("/secret/Plan", headers=headers)
        app: Any = client.app
        assert client.get("/secret/Plan", headers=headers).status_code == 200
        while app.site.jobs.unfinished():
            pass
        assert app.site.store.link("/secret/Plan", "/wiki/Odo_Brask").gist == NOTE
        client.get("/wiki/Odo_Brask", headers={**headers, "referer": "http://testserver/secret/Plan"})
        write(client, "/wiki/Odo_Brask")
    assert all("1743" not in str(request.prompt) for request in engine.requests)


def test_gists_are_imported_as_short_lines(tmp_path: Path) -> None:
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    theirs, ours = make_wiki(tmp_path / "theirs", make_engine()), make_wiki(tmp_path / "ours", make_engine())
    with browser(theirs) as client:
        write(client, "/wiki/Harbour")
    with browser(ours) as client:
        report = import_world(database_file(ours), database_file(theirs))
        assert report.new == ["/wiki/Harbour"]
        app: Any = client.app
        assert app.site.store.link("/wiki/Harbour", "/wiki/Odo_Brask").gist == NOTE
        app.site.store.database.write_sync(
            lambda connection: connection.execute("UPDATE links SET gist = 'a' || char(10)")
        )
    (tmp_path / "third").mkdir()
    third = make_wiki(tmp_path / "third", make_engine())
    report = import_world(database_file(third), database_file(ours))
    assert "gist" in report.refused[0][1]


def test_training_examples_have_no_gists(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, make_engine())
    with browser(app) as client:
        write(client, "/wiki/Harbour")
    (page,) = training_examples(database_file(app)).pages
    assert GIST_REQUEST not in page.prompt.system
    assert not any("{" in example.answer for example in page.prompt.examples)


@pytest.mark.parametrize("setting", ["on", "off"])
def test_the_setting_overrules_the_engine(tmp_path: Path, setting: str) -> None:
    engine = scripted("A text.")
    with browser(make_wiki(tmp_path, engine, gists=setting)) as client:
        write(client, "/wiki/Harbour")
    assert (GIST_REQUEST in engine.requests[0].prompt.system) is (setting == "on")
