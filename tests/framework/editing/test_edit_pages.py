"""The edit page: manual edits, revisions by instruction, rewrites, and conflicts."""

from __future__ import annotations

import re
from dataclasses import replace
from html import escape, unescape
from pathlib import Path
from typing import Any

import pytest
from httpx2 import Response
from pydantic import BaseModel, Field
from starlette.testclient import TestClient
from tests.support.apps import browser, follow, in_turn, make_app, make_two, make_wiki, until_over, write
from tests.support.html_checks import inner, page_faults, text_of_html
from tests.support.servers import wait_for

from unwritten import App, Canvas
from unwritten.formats.base import Format
from unwritten.storage.records import Change
from unwritten_engine import Abilities, scripted
from unwritten_engine.errors import GenerationFailed
from unwritten_engine.scripted import ABOUT, HANG

KEY = "/wiki/Lighthouse"
EDIT = "/_unwritten/edit"
PLAIN_ABOUT = replace(ABOUT, abilities=Abilities(instruct=True, schemas=True))
"""An engine that writes from left to right."""


def send(client: TestClient, key: str = "/", region: str = "lead", base: int = 1, **fields: Any) -> Response:
    """Send a form of the edit page."""
    return client.post(EDIT, data={"page": key, "region": region, "base": str(base), **fields})


def by_hand(client: TestClient, text: str, **more: Any) -> Response:
    return send(client, **{"means": "by hand", "text": text, **more})


def asked(client: TestClient, ask: str, **more: Any) -> Response:
    return send(client, **{"means": "asked", "ask": ask, **more})


def again(client: TestClient, seed: object = "", **more: Any) -> Response:
    return send(client, **{"means": "again", "seed": str(seed), **more})


def changes(client: TestClient, key: str = "/") -> list[Change]:
    app: Any = client.app
    return [version.change for version in app.store.history(key)]


def text_of(client: TestClient, region: str = "lead", key: str = "/") -> str:
    app: Any = client.app
    return str(app.store.get(key).canvases[region].text)


def test_a_manual_text_is_formatted_like_a_generated_one(tmp_path: Path) -> None:
    engine = scripted(by_ask={"Lead": "A lead.", "Body": "A body."})
    with browser(make_two(tmp_path, engine)) as client:
        write(client, "/")
        page = client.get(EDIT + "?page=/")
        assert page.status_code == 200 and page_faults(page.text) == [] and "noindex" in page.headers["x-robots-tag"]
        assert ">\nA lead.</textarea>" in page.text and ">\nA body.</textarea>" in page.text
        answer = by_hand(client, "My **own**.\r\n\r\n<script>alert(1)</script> [[Tower]]\r\n", note="  better \n so ")
        assert (answer.status_code, answer.headers["location"]) == (303, "/#region-lead")
        drawn = inner(client.get("/").text, "lead")
        assert ">My <strong>own</strong>.</p>" in drawn and "<script>" not in drawn
        assert changes(client)[0] == Change("by hand", "better so", 1, ("lead",))
        assert text_of(client, "body") == "A body." and text_of(client).startswith("My **own**.\n\n")
        assert "Edited by hand" in client.get("/").text
        app: Any = client.app
        assert app.store.exists(["/"]) and [entry.key for entry in app.store.search("own")] == ["/"]
    assert len(engine.requests) == 2  # no request to the engine


def test_an_unchanged_text_is_not_a_new_version(tmp_path: Path) -> None:
    with browser(make_two(tmp_path, scripted("The same."))) as client:
        write(client, "/")
        assert by_hand(client, "The same.").status_code == 303
        assert len(changes(client)) == 1


class Facts(BaseModel):
    kind: str = Field(max_length=10)
    height: int


def make_facts(home: Path, engine: Any) -> App:
    app = make_app(home, engine)

    @app.page("/")
    def front() -> Canvas:
        return Canvas("Facts.", schema=Facts)

    return app


def test_manual_json_must_fit_its_schema(tmp_path: Path) -> None:
    with browser(make_facts(tmp_path, scripted('{"kind":"tower","height":40}'))) as client:
        write(client, "/")
        assert '"height": 40' in unescape(client.get(EDIT + "?page=/").text)
        bad = by_hand(client, '{"kind": "tower", "height": "tall"}', region="body")
        assert bad.status_code == 400 and "not valid here" in bad.text and "tall" in bad.text
        assert page_faults(bad.text) == [] and len(changes(client)) == 1
        assert by_hand(client, '{"kind": "mast",\n "height": 41}', region="body").status_code == 303
        assert text_of(client, "body") == '{"kind":"mast","height":41}'
        app: Any = client.app
        assert app.value("/", "body", Facts).height == 41
        refused = asked(client, "make it taller", region="body", base=2, only="41")
        assert refused.status_code == 400 and "revised as a whole" in refused.text


def test_an_engine_that_edits_starts_from_the_old_text(tmp_path: Path) -> None:
    engine = scripted(
        lambda request: "A tall tower. It is white." if request.draft is None else "A tall tower. It is red."
    )
    with browser(make_two(tmp_path, engine)) as client:
        write(client, "/")
        answer = asked(client, " make it \n red", keep=["0"])
        assert answer.status_code == 303
        assert follow(client, "/")[-1]["state"] == "written"
        assert text_of(client) == "A tall tower. It is red." and text_of(client, "body").endswith("white.")
        assert changes(client)[0] == Change("asked", "make it red", 1, ("lead",))
    request = engine.requests[-1]
    assert request.draft is not None
    assert request.draft.text == "A tall tower. It is white." and request.draft.keep == ((0, 13),)
    assert request.draft.strength == 0.75
    # The instruction and the old text are data. The system prompt is the same as for all pages.
    assert request.prompt.system == engine.requests[0].prompt.system
    assert "make it red" in request.prompt.ask and request.prompt.examples[-1].answer == request.draft.text


def test_kept_sentences_stay_with_an_autoregressive_engine(tmp_path: Path) -> None:
    engine = scripted(
        lambda request: "# Red\n\nIt is red." if "red" in request.prompt.ask else "One. Two is white. Three.",
        about=PLAIN_ABOUT,
    )
    with browser(make_two(tmp_path, engine)) as client:
        write(client, "/")
        assert "One." in text_of_html(client.get(EDIT + "?page=/&region=lead").text)
        assert asked(client, "make it red", keep=["0", "2"]).status_code == 303
        heard = follow(client, "/")
        assert heard[-1]["state"] == "written"
        assert text_of(client) == "One. # Red  It is red. Three."
        assert asked(client, "make it red", base=2, only="One.").status_code == 303
        follow(client, "/")
        assert text_of(client) == "# Red  It is red. # Red  It is red. Three."
    assert engine.requests[-1].draft is None and engine.requests[-1].prompt.examples[-1].answer == "One."


def test_several_spans_are_generated_one_after_another(tmp_path: Path) -> None:
    answers = in_turn("One. Two. Three. Four.", "Body.", [1.0, "New", 0.1, "New two."], ["New", HANG])
    engine = scripted(answers, about=PLAIN_ABOUT)
    with browser(make_two(tmp_path, engine)) as client:
        write(client, "/")
        assert asked(client, "make it new", keep=["0", "2"]).status_code == 303
        assert "Two." in text_of_html(inner(client.get("/").text, "lead"))
        wait_for(lambda: len(engine.requests) == 4)
        wait_for(lambda: "New two. Three. New" in text_of_html(inner(client.get("/").text, "lead")))
        page = client.get("/").text
        assert 'data-region="lead" data-page="/"' in page and "Body." in inner(page, "body")
        assert re.search(r'id="region-body"[^>]*data-state="written"', page)


@pytest.mark.parametrize("about", [ABOUT, PLAIN_ABOUT])
def test_a_failed_revision_leaves_the_old_text_and_the_input(tmp_path: Path, about: Any) -> None:
    engine = scripted(in_turn("A lead.", "A body.", ["Half a", GenerationFailed("The lamp broke.")]), about=about)
    with browser(make_two(tmp_path, engine)) as client:
        write(client, "/")
        assert asked(client, "make it <b>bright</b>").status_code == 303
        *_, last = heard = follow(client, "/")
        assert last["state"] == "written" and last["message"] == "The lamp broke. The page is as it was."
        frames = [message for message in heard if message["type"] == "frame" and message["region"] == "lead"]
        assert frames[-1]["state"] == "written" and "A lead." in frames[-1]["html"]
        assert "The lamp broke. The page is as it was." in last["colophon"]
        assert "A lead." in client.get("/").text and len(changes(client)) == 1
        page = client.get(EDIT + "?page=/").text
        assert 'value="make it &lt;b&gt;bright&lt;/b&gt;"' in page and "The lamp broke." in page


def test_a_stopped_revision_leaves_the_page_as_it_was(tmp_path: Path) -> None:
    engine = scripted(in_turn("A lead.", "A body.", ["Half", HANG]))
    with browser(make_two(tmp_path, engine)) as client:
        write(client, "/")
        asked(client, "make it longer")
        with client.websocket_connect("/_unwritten/live") as ws:
            ws.send_json({"type": "watch", "page": "/", "seen": {}})
            while "Half" not in str(seen := ws.receive_json()):
                pass
            ws.send_json({"type": "stop", "page": "/"})
            back, message = until_over(ws)[-2:]
        assert back["region"] == "lead" and "A lead." in back["html"] and back["frame"] > seen["frame"]
        assert message["state"] == "written" and message["message"].startswith("The change was stopped.")
        assert "The change was stopped." in message["colophon"] and "Written on" in message["colophon"]
        assert text_of(client) == "A lead." and engine.stopped == 1


def seeded(request: Any) -> str:
    return f"Written with {request.seed}, knowing {len(request.prompt.facts)} facts."


def test_the_same_seed_generates_the_same_text(tmp_path: Path) -> None:
    engine = scripted(seeded)
    with browser(make_two(tmp_path, engine)) as client:
        write(client, "/")
        for base, seed in ((1, 7), (2, 8), (3, 7)):
            assert again(client, seed, base=base).status_code == 303
            follow(client, "/")
        app: Any = client.app
        texts = [app.store.get("/", version).canvases["lead"].text for version in (2, 3, 4)]
        assert texts[0] == texts[2] != texts[1] and "with 7" in texts[0]
        assert changes(client)[0] == Change("rewritten", "", 3, ("lead",))
        assert [version.provenance.seed for version in app.store.history("/")][:3] == [7, 8, 7]
        assert text_of(client, "body") == "Written with None, knowing 0 facts."
        client.post("/_unwritten/rewrite", data={"page": "/", "seed": "9"})
        follow(client, "/")
        assert text_of(client, "body") == text_of(client, "lead") == "Written with 9, knowing 0 facts."
        assert changes(client)[0] == Change("rewritten", "", 4)


@pytest.mark.parametrize("seeds", [True, False])
def test_only_engines_that_take_seeds_are_offered_one(tmp_path: Path, seeds: bool) -> None:
    about = replace(ABOUT, abilities=replace(ABOUT.abilities, seeds=seeds))
    app = make_two(tmp_path, scripted(seeded, about=about), edits="on")
    with browser(app) as client:
        write(client, "/")
        html = client.get("/_unwritten/edit?page=/").text
        assert html.count('name="seed"') == (3 if seeds else 0)
        assert client.post("/_unwritten/rewrite", data={"page": "/", "seed": ""}).status_code == 303
        wait_for(lambda: len(app.store.history("/")) == 2)
        assert again(client, region="lead", base=2).status_code == 303


def test_a_seed_keeps_the_facts_of_its_prompt(tmp_path: Path) -> None:
    """The prompt contains facts about the referring page. With other facts the seed would give another text."""
    engine = scripted(lambda request: f"{request.seed} {list(request.prompt.facts)}. It has a [[Lamp]].")
    with browser(make_wiki(tmp_path, engine)) as client:
        write(client, KEY)
        headers = {"referer": "http://testserver" + KEY}
        client.get("/wiki/Lamp", headers=headers)
        follow(client, "/wiki/Lamp")
        assert "It has a Lamp" in text_of(client, "body", "/wiki/Lamp")
        for base in (1, 2):
            assert again(client, 3, base=base, key="/wiki/Lamp", region="body").status_code == 303
            follow(client, "/wiki/Lamp")
        app: Any = client.app
        two, three = (app.store.get("/wiki/Lamp", number).canvases["body"].text for number in (2, 3))
        assert two == three and "It has a Lamp" in two


def test_edits_of_different_regions_do_not_conflict(tmp_path: Path) -> None:
    with browser(make_two(tmp_path, scripted(by_ask={"Lead": "A lead.", "Body": "A body."}))) as client:
        write(client, "/")
        assert by_hand(client, "My lead.", base=1).status_code == 303
        assert by_hand(client, "My body.", base=1, region="body").status_code == 303
        assert (text_of(client, "lead"), text_of(client, "body")) == ("My lead.", "My body.")


def test_a_conflict_shows_the_other_change_and_keeps_the_input(tmp_path: Path) -> None:
    with browser(make_two(tmp_path, scripted("A tower by the sea."))) as client:
        write(client, "/")
        assert by_hand(client, "A white tower by the sea.", base=1).status_code == 303
        answer = by_hand(client, "A tower <by> the lake.", base=1, note="no sea here")
        assert answer.status_code == 409 and page_faults(answer.text) == []
        assert "Another visitor has changed this part" in answer.text
        assert "added: white" in text_of_html(answer.text)
        assert "A tower &lt;by&gt; the lake.</textarea>" in answer.text and 'value="no sea here"' in answer.text
        assert text_of(client) == "A white tower by the sea."
        base = re.search(r'name="base" value="(\d+)"', answer.text)
        assert base is not None and base[1] == "2"
        assert by_hand(client, "A tower <by> the lake.", base=2).status_code == 303  # based on the newest version
        assert text_of(client) == "A tower <by> the lake." and len(changes(client)) == 3
        assert asked(client, "make it shorter", base=1).status_code == 409
        assert again(client, base=1).status_code == 409


def test_other_regions_can_be_edited_during_a_job(tmp_path: Path) -> None:
    engine = scripted(in_turn("A lead.", "A body.", ["New", 1.5, "New lead."]))
    with browser(make_two(tmp_path, engine)) as client:
        write(client, "/")
        assert asked(client, "make it new").status_code == 303
        for answer in (by_hand(client, "Mine."), asked(client, "mine"), again(client), again(client, region="body")):
            assert answer.status_code == 409 and "is being written" in answer.text
        assert "Mine.</textarea>" in by_hand(client, "Mine.").text
        # Another region can be edited. Its version comes first, and the running job is rebased on it.
        assert by_hand(client, "My body.", region="body").status_code == 303
        assert text_of(client, "body") == "My body."
        assert follow(client, "/")[-1]["state"] == "written"
        assert (text_of(client), text_of(client, "body")) == ("New lead.", "My body.")
        assert changes(client) == [
            Change("asked", "make it new", 2, ("lead",)),
            Change("by hand", "", 1, ("body",)),
            Change(),
        ]


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"means": "by hand", "text": "  \n "}, 400, "The text is empty"),
        ({"means": "by hand", "text": "x" * 60_001}, 400, "60,001 characters. Up to 60,000 are allowed"),
        ({"means": "by hand", "text": "Mine.", "note": "n" * 401}, 400, "This has 401 characters"),
        ({"means": "asked", "ask": " "}, 400, "for example: make it shorter"),
        ({"means": "asked", "ask": "a" * 401}, 400, "This has 401 characters"),
        ({"means": "asked", "ask": "shorter", "keep": ["0", "1"]}, 400, "The whole text is marked to be kept"),
        ({"means": "asked", "ask": "shorter", "keep": "7"}, 400, "no sentence 8 to keep"),
        ({"means": "asked", "ask": "shorter", "only": "not there"}, 400, "is not in the text"),
        ({"means": "asked", "ask": "shorter", "only": "lead"}, 400, "more than once"),
        ({"means": "again", "seed": "-1"}, 400, "'-1' is not a seed"),
        ({"means": "again", "seed": "4294967296"}, 400, "from 0 to 4294967295"),
        ({"means": "again", "seed": "٣"}, 400, "is not a seed"),
    ],
)
def test_invalid_input_is_shown_again_with_the_reason(
    tmp_path: Path, fields: dict[str, Any], status: int, words: str
) -> None:
    engine = scripted("A lead. The lead.")
    with browser(make_two(tmp_path, engine)) as client:
        write(client, "/")
        answer = send(client, **fields)
        assert answer.status_code == status and words in unescape(answer.text)
        assert page_faults(answer.text) == [] and 'class="page edits"' in answer.text
        typed = fields.get("text") or fields.get("ask") or fields["seed"]
        assert typed.strip() in unescape(answer.text)
        assert len(changes(client)) == 1
    assert len(engine.requests) == 2


@pytest.mark.parametrize(
    ("fields", "headers", "status", "words"),
    [
        ({"means": "by hand", "text": "x"}, {"origin": "https://evil.example"}, 403, "sent from another site"),
        ({"means": "by hand", "text": "x", "admin": "1"}, {}, 400, "an unknown field 'admin'"),
        ({"means": "asked", "ask": "x", "text": "y"}, {}, 400, "unknown field 'text'"),
        ({"means": "magic"}, {}, 400, "unknown kind 'magic'"),
        ({"means": "asked", "ask": "x", "keep": "first"}, {}, 400, "'keep' must be a number"),
        ({"means": "by hand", "text": "x", "base": "2"}, {}, 400, "version '2' of this page, which does not exist"),
        ({"means": "by hand", "text": "x", "base": ""}, {}, 400, "which does not exist"),
        ({"means": "by hand", "text": "x", "region": "leed"}, {}, 404, "no written region 'leed'. Did you mean 'lead'"),
        ({"means": "by hand", "text": "x", "page": "/nowhere"}, {}, 404, "The page /nowhere does not exist"),
        ({"means": "by hand", "text": "x", "page": "nowhere"}, {}, 400, "does not name its page"),
    ],
)
def test_forged_and_outdated_forms_are_refused(
    tmp_path: Path, fields: dict[str, str], headers: dict[str, str], status: int, words: str
) -> None:
    with browser(make_two(tmp_path, scripted("Words."))) as client:
        write(client, "/")
        data = {"page": "/", "region": "lead", "base": "1", **fields}
        answer = client.post(EDIT, data=data, headers=headers)
        assert answer.status_code == status and words in unescape(answer.text)
        assert page_faults(answer.text) == [] and len(changes(client)) == 1


def test_an_unwritten_page_cannot_be_edited(tmp_path: Path) -> None:
    engine = scripted("Words.")
    with browser(make_wiki(tmp_path, engine)) as client:
        answer = client.get(f"{EDIT}?page={KEY}")
        assert answer.status_code == 404 and "not written yet" in answer.text
        assert client.get(EDIT).status_code == 400
        assert client.get(f"{EDIT}?page=/nowhere").status_code == 404
    assert engine.requests == []


def test_the_edit_link_of_an_old_version_edits_the_newest(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted(in_turn("One.", "Two.")))) as client:
        write(client, KEY)
        client.post("/_unwritten/rewrite", data={"page": KEY})
        follow(client, KEY)
        old = client.get(f"{KEY}?version=1").text
        url = re.search(r'href="(/_unwritten/edit\?[^"]+)"', old)
        assert url is not None
        page = client.get(unescape(url[1])).text
        assert "Version 1 is an old version. You are editing the current version, 2." in page
        assert "Two.</textarea>" in page


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [({}, True), ({"host": "0.0.0.0"}, False), ({"host": "0.0.0.0", "edits": "on"}, True), ({"edits": "off"}, False)],
)
def test_other_machines_may_edit_only_if_the_app_allows_it(
    tmp_path: Path, settings: dict[str, Any], allowed: bool
) -> None:
    with browser(make_wiki(tmp_path, scripted("Words."), signed_links="off", **settings)) as client:
        write(client, KEY)
        page = client.get(KEY).text
        assert ("Regenerate" in page) == (EDIT in page) == allowed
        assert "/_unwritten/history" in page
        assert client.get(f"{EDIT}?page={KEY}").status_code == (200 if allowed else 403)
        answers = [
            by_hand(client, "Mine.", key=KEY, region="body"),
            client.post("/_unwritten/rewrite", data={"page": KEY}),
            client.post("/_unwritten/restore", data={"page": KEY, "version": "1", "base": "1"}),
        ]
        if not allowed:
            assert [answer.status_code for answer in answers] == [403, 403, 403]
            assert len(changes(client, KEY)) == 1


@pytest.mark.parametrize("format", ["html", Format("poem", render=lambda text: f"<p>{escape(text)}</p>")])
def test_formats_other_than_prose_are_revised_by_passage(tmp_path: Path, format: Any) -> None:
    engine = scripted(
        lambda request: "two" if "once more" in request.prompt.ask else "<p>One</p> <p>One more</p>", about=PLAIN_ABOUT
    )
    app = make_app(tmp_path, engine)

    @app.page("/")
    def front() -> Canvas:
        return Canvas("Words.", format=format)

    with browser(app) as client:
        write(client, "/")
        page = client.get(EDIT + "?page=/").text
        assert 'name="only"' in page and 'name="keep"' not in page
        assert asked(client, "make it two", region="body", only="One more").status_code == 303
        follow(client, "/")
        assert text_of(client, "body") == "<p>One</p> <p>two</p>"
        assert by_hand(client, "<p onclick=x>Mine</p><script>x</script>", region="body", base=2).status_code == 303
        drawn = inner(client.get("/").text, "body")
        assert "Mine" in drawn and "<script" not in drawn and "<p onclick" not in drawn
