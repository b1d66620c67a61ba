"""Edits with a locked database, a second server, and pages whose declaration has changed."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from tests.support.apps import TWO, browser, follow, in_turn, make_app, make_two, make_wiki, templates, write
from tests.support.html_checks import inner
from tests.support.servers import wait_for

from unwritten import App, Canvas, Page
from unwritten.core.settings import Settings
from unwritten.editing.editor import may_edit
from unwritten.security.exposure import Exposure
from unwritten.storage.records import Change
from unwritten_engine import scripted

KEY = "/wiki/Lighthouse"
EDIT = "/_unwritten/edit"


def form(text: str, base: int = 1, region: str = "lead", key: str = "/") -> dict[str, str]:
    return {"page": key, "region": region, "base": str(base), "means": "by hand", "text": text}


def test_a_locked_store_leaves_the_input_in_the_form(tmp_path: Path) -> None:
    with browser(make_two(tmp_path, scripted("Words."))) as client:
        write(client, "/")
        other = sqlite3.connect(tmp_path / "pages.db")
        other.execute("BEGIN IMMEDIATE")
        answer = client.post(EDIT, data=form("Mine, and not lost."))
        assert answer.status_code == 503 and "locked by another program" in answer.text
        assert "Mine, and not lost.</textarea>" in answer.text
        other.rollback()
        other.close()
        assert client.post(EDIT, data=form("Mine, and not lost.")).status_code == 303
        assert "Mine, and not lost." in client.get("/").text


def test_a_change_is_rebased_on_a_version_of_another_server(tmp_path: Path) -> None:
    slow = scripted(in_turn("A lead.", "A body.", [1.0, "New lead."]))
    with browser(make_two(tmp_path, slow)) as first, browser(make_two(tmp_path, scripted("Words."))) as second:
        write(first, "/")
        ask = {"page": "/", "region": "lead", "base": "1", "means": "asked", "ask": "new"}
        assert first.post(EDIT, data=ask).status_code == 303
        wait_for(lambda: slow.running)
        assert second.post(EDIT, data=form("My body.", region="body")).status_code == 303
        heard = follow(first, "/")
        assert heard[-1]["state"] == "written"
        app: Any = first.app
        kept = app.store.get("/")
        assert {name: canvas.text for name, canvas in kept.canvases.items()} == {
            "lead": "New lead.",
            "body": "My body.",
        }
        assert kept.version == 3 and kept.change == Change("asked", "new", 2, ("lead",))
        assert "My body." in inner(first.get("/").text, "body")


def test_a_page_that_is_deleted_during_a_change_is_stored_again(tmp_path: Path) -> None:
    engine = scripted(in_turn("One.", [0.8, "Two."]))
    with browser(make_wiki(tmp_path, engine)) as client:
        write(client, KEY)
        client.post("/_unwritten/rewrite", data={"page": KEY})
        wait_for(lambda: engine.running)
        app: Any = client.app
        client.portal.call(app.site.store.delete, KEY)  # type: ignore[union-attr]
        assert follow(client, KEY)[-1]["state"] == "written"
        assert [(version.number, version.change.base) for version in app.store.history(KEY)] == [(1, None)]


class Old(BaseModel):
    kind: str


class New(BaseModel):
    kind: str
    height: int


def test_an_old_version_is_restored_as_far_as_it_still_fits(tmp_path: Path) -> None:
    taller = '{"kind":"a","height":1}'
    facts = in_turn('{"kind":"a"}', taller, taller)
    engine = scripted(by_ask={"Lead": in_turn("Lead 1.", "Lead 2.", "Lead 3."), "Facts": facts})

    def app_with(schema: type) -> App:
        app = make_app(tmp_path, engine, folder=templates(tmp_path, two=TWO))

        @app.page("/")
        def front() -> Page:
            return Page("two.html", title="Front", lead=Canvas("Lead."), body=Canvas("Facts.", schema=schema))

        return app

    with browser(app_with(Old)) as client:
        write(client, "/")
    with browser(app_with(New)) as client:
        # A region is missing until the page is opened, so it cannot be edited yet.
        answer = client.post(EDIT, data=form("Mine."))
        assert answer.status_code == 400 and "The part &#39;body&#39; of this page is not written yet" in answer.text
        write(client, "/")
        client.post("/_unwritten/rewrite", data={"page": "/"})
        follow(client, "/")
        app: Any = client.app
        now = app.store.get("/").version
        data = {"page": "/", "version": "1", "base": str(now)}
        assert client.post("/_unwritten/restore", data=data).status_code == 303
        kept = app.store.get("/")
        assert kept.canvases["lead"].text == "Lead 1." and '"height"' in kept.canvases["body"].text
        assert kept.change == Change("restored", "version 1", now, ("lead",))
        again = client.post("/_unwritten/restore", data={**data, "base": str(now + 1)})
        assert again.status_code == 400 and "has the same text as the current version" in again.text


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        ({}, True),
        ({"host": "localhost"}, True),
        ({"host": "::1"}, True),
        ({"host": "192.168.0.7"}, False),
        ({"host": "0.0.0.0", "edits": "on"}, True),
        ({"edits": "off"}, False),
    ],
)
def test_edits_are_allowed_to_the_owner_by_setting(given: dict[str, Any], allowed: bool) -> None:
    settings = Settings(**given)
    exposure = Exposure(settings)
    stranger = {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000), "headers": []}
    owner = {**stranger, "headers": [(b"authorization", b"Bearer " + exposure.owner.token.encode())]}
    assert may_edit(settings, exposure, owner) is allowed
    assert may_edit(settings, exposure, stranger) is (given.get("edits") == "on")


def test_links_of_an_edited_text_replace_the_old_ones(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("It has a [[Lamp]]."))) as client:
        write(client, KEY)
        assert client.post(EDIT, data=form("It has a [[Bell]].", region="body", key=KEY)).status_code == 303
        app: Any = client.app
        assert app.site.store.link(KEY, "/wiki/Lamp") is None
        assert app.site.store.link(KEY, "/wiki/Bell").sentence == "It has a Bell."
        assert "/wiki/Bell" in client.get(KEY).text


def test_the_authors_policies_see_instructions_and_texts_of_visitors(tmp_path: Path) -> None:
    engine = scripted(by_ask={"Lead": "A lead.", "Body": "A body.", "once more": "A rude lead."})
    app = make_two(tmp_path, engine)

    @app.allow_prompt
    def polite(asked: Any) -> str | None:
        return "Not like that." if any("stupid" in prompt.ask for prompt in asked.prompts.values()) else None

    @app.allow_text
    def clean(key: str, region: str, text: str) -> bool:
        return "rude" not in text

    with browser(app) as client:
        write(client, "/")
        ask = {"page": "/", "region": "lead", "base": "1", "means": "asked"}
        answers = [
            client.post(EDIT, data={**ask, "ask": "make it stupid"}),
            client.post(EDIT, data=form("My rude words.")),
        ]
        assert [answer.status_code for answer in answers] == [403, 403]
        assert "Not like that." in answers[0].text and 'value="make it stupid"' in answers[0].text
        assert "My rude words.</textarea>" in answers[1].text
        assert client.post(EDIT, data={**ask, "ask": "make it longer"}).status_code == 303
        last = follow(client, "/")[-1]
        assert last["state"] == "written" and last["message"].endswith("The page is as it was.")
        assert "A lead." in inner(client.get("/").text, "lead")
        assert len(app.store.history("/")) == 1


def test_an_edit_that_cannot_be_rendered_is_not_saved(tmp_path: Path) -> None:
    block = "{% if 'Mine' in body.text %}{{ 1 / 0 }}{% endif %}{{ body }}"
    home = templates(tmp_path, page=f"{{% block body %}}{block}{{% endblock %}}")
    app = make_app(tmp_path, scripted("A drink."), folder=home)

    @app.page("/")
    def front() -> Page:
        return Page("page.html", body=Canvas("A page."))

    with browser(app, raise_server_exceptions=False) as client:
        write(client, "/")
        assert client.post(EDIT, data=form("Mine.", region="body")).status_code == 500
        assert app.store.get("/").version == 1  # type: ignore[union-attr]
