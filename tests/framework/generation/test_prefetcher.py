"""The prefetcher: which pages are prefetched, in which order, within which limits, and for how long."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import RedirectResponse, Response
from starlette.testclient import TestClient, WebSocketTestSession
from tests.support.apps import LIVE, TWO, browser, make_app, make_wiki, tables, templates, until, write
from tests.support.servers import wait_for

from unwritten import Canvas, Page
from unwritten.core.settings import Settings
from unwritten.generation.prefetcher import VIEWER_GRACE, LinkRank, Viewer, is_prefetch_enabled
from unwritten_engine import Priority, Request, scripted
from unwritten_engine.scripted import ABOUT, HANG, Script, ScriptedEngine

HUB = "/wiki/Hub"
LINKS = "A hub leads to [[A]], [[B]], [[C]], [[D]] and [[E]].\n"
PREFETCH = {"sec-purpose": "prefetch;prerender"}


def key(title: str) -> str:
    return f"/wiki/{title}"


def wiki_engine(others: Script = "Behind it lies [[F]].\n") -> ScriptedEngine:
    """Return an engine that writes a hub with five links, and the same script for all other pages."""
    return scripted(lambda request: LINKS if "Hub" in request.prompt.ask else others)


def asked(engine: ScriptedEngine, start: int = 1) -> list[str]:
    """Return the titles that the engine was asked for, in order."""
    return [request.prompt.ask.split(".")[0].split()[-1] for request in engine.requests[start:]]


def near(ws: WebSocketTestSession, page: str = HUB, links: Sequence[str] = (), **more: str) -> None:
    """Report the visible links of a page, as the browser's script does."""
    others = {name: key(title) for name, title in more.items()}
    ws.send_json(
        {"type": "view", "page": page, "links": [key(t) for t in links], "hover": None, "press": None, **others}
    )


def nothing_more(engine: ScriptedEngine, seconds: float = 0.2) -> None:
    """Assert that the engine gets no request for a while."""
    before = len(engine.requests)
    time.sleep(seconds)
    assert len(engine.requests) == before, asked(engine)


def test_links_in_view_come_first_and_a_limited_number_is_prefetched(tmp_path: Path) -> None:
    engine = wiki_engine()
    with browser(make_wiki(tmp_path, engine, prefetch="auto")) as client:
        write(client, HUB)
        with client.websocket_connect(LIVE) as ws:
            near(ws, links=["D"])
            heard = [until(ws, type="written")[-1] for _ in range(3)]
            nothing_more(engine)
            assert asked(engine) == ["D", "A", "B"]
            assert {request.priority for request in engine.requests[1:]} == {Priority.PREFETCH}
            assert {message["page"] for message in heard} == {HUB}
            assert sorted(link for message in heard for link in message["links"]) == [key("A"), key("B"), key("D")]
            near(ws, hover="E")  # three pages are prefetched; a hovered link may exceed the limit
            assert until(ws, type="written")[-1]["links"] == [key("E")]
            nothing_more(engine)
            client.get(key("A"))  # the visited page no longer counts towards the limit
            wait_for(lambda: asked(engine)[3:] == ["E"])
            near(ws, links=["C"])
            nothing_more(engine)  # B, D and E are prefetched
            client.get(key("B"))
            near(ws, links=["C", "D"])
            wait_for(lambda: asked(engine)[4:] == ["C"])


def test_the_first_visitor_of_a_prefetched_page_sees_a_note(tmp_path: Path) -> None:
    engine = wiki_engine()
    with browser(make_wiki(tmp_path, engine, prefetch="auto")) as client:
        write(client, HUB)
        with client.websocket_connect(LIVE) as ws:
            near(ws)
            until(ws, type="written", links=[key("A")])
        prefetched = client.get(key("A"), headers=PREFETCH)
        assert "before your visit" not in prefetched.text and client.head(key("A")).status_code == 200
        first = client.get(key("A"))
        assert re.search(r"Written in advance, \d+ seconds? before your visit, by <b>a script</b>", first.text)
        wait_for(lambda: tables(tmp_path / "pages.db")["versions"][1]["opened_after"] >= 0)
        again = client.get(key("A"))
        assert "before your visit" not in again.text and "Written on" in again.text
        assert client.get(key("A"), headers={"if-none-match": again.headers["etag"]}).status_code == 304
    versions = tables(tmp_path / "pages.db")["versions"]
    assert versions[0]["opened_after"] is None and versions[2]["opened_after"] == -1


def test_a_hovered_link_replaces_a_guess(tmp_path: Path) -> None:
    engine = wiki_engine(["One", HANG])
    with browser(make_wiki(tmp_path, engine, prefetch="auto")) as client:
        write(client, HUB)
        with client.websocket_connect(LIVE) as ws:
            near(ws)
            wait_for(lambda: engine.running == 2)
            assert asked(engine) == ["A", "B"]
            near(ws, hover="E")
            wait_for(lambda: asked(engine) == ["A", "B", "E"] and engine.running == 2)
            near(ws, hover="E", press="D")
            wait_for(lambda: asked(engine) == ["A", "B", "E", "D"] and engine.running == 2)
            assert {r.prompt.ask[-2] for r in engine.requests[3:]} == {"E", "D"}
            nothing_more(engine)


def test_a_click_promotes_its_prefetch_and_preempts_the_others(tmp_path: Path) -> None:
    engine = wiki_engine(["One two", HANG])
    with browser(make_wiki(tmp_path, engine, prefetch="auto")) as client:
        write(client, HUB)
        with client.websocket_connect(LIVE) as ws:
            near(ws)
            wait_for(lambda: engine.running == 2)
            time.sleep(0.1)
            assert "One <span" in client.get(key("A")).text  # the text so far
            wait_for(lambda: engine.running == 1)
            assert [request.prompt.ask for request in engine.promoted] == [engine.requests[1].prompt.ask]
            nothing_more(engine)
            assert asked(engine) == ["A", "B"]
            app: Any = client.app
            assert app.site.prefetcher.num_promoted == 1
            assert app.site.jobs.get(key("A")).priority is Priority.CLICK


def test_a_click_preempts_prefetches_which_go_on_afterwards(tmp_path: Path) -> None:
    def script(request: Request) -> Script:
        if "Hub" in request.prompt.ask:
            return LINKS
        return ["At", 0.3, "At once."] if "Z." in request.prompt.ask else ["One", HANG]

    engine = scripted(script)
    with browser(make_wiki(tmp_path, engine, prefetch="auto", jobs=2)) as client:
        write(client, HUB)
        with client.websocket_connect(LIVE) as ws:
            near(ws)
            wait_for(lambda: engine.running == 1)  # half of the two pages at the same time
            client.get(key("Z"))
            wait_for(lambda: engine.running == 1 and engine.stopped == 1)
            assert asked(engine) == ["A", "Z"]
            wait_for(lambda: asked(engine) == ["A", "Z", "A"])
            client.get(key("C"))
            client.get(key("D"))
            wait_for(lambda: asked(engine)[3:] == ["C", "D"] and engine.running == 2)


def test_a_preempted_prefetch_keeps_its_finished_regions(tmp_path: Path) -> None:
    def script(request: Request) -> Script:
        ask = request.prompt.ask
        return ["Slow", 0.4, "Slow."] if "Body" in ask else "To [[Two]]." if "Hub" in ask else "Words."

    engine = scripted(script)
    app = make_app(tmp_path, engine, prefetch="auto", folder=templates(tmp_path, two=TWO))

    @app.page("/wiki/Two", links="/wiki/{title}")
    def two() -> Page:
        return Page("two.html", title="Two", lead=Canvas("Lead."), body=Canvas("Body."))

    @app.page("/wiki/{title}")
    def article(title: str) -> str:
        return f"About {title}."

    with browser(app) as client:
        write(client, HUB)
        with client.websocket_connect(LIVE) as ws:
            near(ws)
            wait_for(lambda: engine.running == 1 and len(engine.requests) == 3)
            write(client, key("Other"))
            until(ws, type="written", links=[key("Two")])
    assert asked(engine) == ["Lead", "Body", "Other", "Body"] and engine.stopped == 1


def test_a_closed_tab_cancels_its_prefetches_but_a_reload_does_not(tmp_path: Path) -> None:
    engine = wiki_engine(["One", HANG])
    with browser(make_wiki(tmp_path, engine, prefetch="auto")) as client:
        write(client, HUB)
        with client.websocket_connect(LIVE) as ws:
            near(ws)
            wait_for(lambda: engine.running == 2)
        with client.websocket_connect(LIVE) as ws:
            near(ws)
            time.sleep(VIEWER_GRACE + 0.3)
            assert engine.running == 2 and asked(engine) == ["A", "B"]
            ws.send_json({"type": "hide", "page": HUB})
            time.sleep(0.1)
            assert engine.running == 2  # the tab may reconnect at once
            wait_for(lambda: engine.running == 0)  # nearly finished, compared with the usual number of tokens
            nothing_more(engine)
            assert engine.stopped == 2


def test_another_page_replaces_the_prefetches_of_the_one_before(tmp_path: Path) -> None:
    def script(request: Request) -> Script:
        ask = request.prompt.ask
        return LINKS if "Hub" in ask else "Leads to [[X]].\n" if "Two" in ask else ["One", HANG]

    engine = scripted(script)
    with browser(make_wiki(tmp_path, engine, prefetch="auto")) as client:
        write(client, HUB)
        write(client, key("Two"))
        with client.websocket_connect(LIVE) as ws:
            near(ws)
            wait_for(lambda: engine.running == 2)
            near(ws, page=key("Two"))
            wait_for(lambda: asked(engine, 4) == ["X"] and engine.running == 1)
            ws.send_json({"type": "hide", "page": HUB})  # a late report of the previous page
            nothing_more(engine)
            assert engine.running == 1


def test_links_of_a_prefetched_page_are_prefetched_when_it_is_opened(tmp_path: Path) -> None:
    engine = wiki_engine()
    with browser(make_wiki(tmp_path, engine, prefetch="auto")) as client:
        write(client, HUB)
        with client.websocket_connect(LIVE) as ws:
            near(ws)
            for _ in range(3):
                until(ws, type="written")
            near(ws, page=key("A"), hover="F")
            nothing_more(engine)
            client.get(key("A"))
            near(ws, page=key("A"))
            assert until(ws, type="written")[-1]["links"] == [key("F")]


def test_a_forged_report_starts_no_prefetch(tmp_path: Path) -> None:
    engine = wiki_engine()
    with browser(make_wiki(tmp_path, engine, prefetch="auto")) as client:
        write(client, key("Dead_end"))
        client.get(HUB, headers={"accept": "*/*"})
        with client.websocket_connect(LIVE) as ws:
            for page in ("/wiki/Nobody", "/", "//elsewhere/", LIVE):
                near(ws, page=page, links=["A", "B"], hover="C", press="D")
            ws.send_json(
                {"type": "view", "page": key("Dead_end"), "links": ["//x", "/_unwritten/rewrite"], "hover": "/x"}
            )
            near(ws, page=key("Dead_end"), links=["A"], hover="B", press="C")
            wait_for(lambda: asked(engine, 2) == ["F"])  # its only link
            nothing_more(engine)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({}, "The links in view are a list of up to 32 keys."),
        ({"links": "A"}, "The links in view are a list of up to 32 keys."),
        ({"links": [3]}, "The links in view are a list of up to 32 keys."),
        ({"links": ["/a"] * 33}, "The links in view are a list of up to 32 keys."),
        ({"links": [], "hover": 3}, "The link that is hovered or pressed is a key or null."),
        ({"links": [], "press": ["/a"]}, "The link that is hovered or pressed is a key or null."),
    ],
)
def test_an_invalid_report_is_refused(tmp_path: Path, wrong: dict[str, Any], reason: str) -> None:
    with browser(make_wiki(tmp_path, wiki_engine(), prefetch="auto")) as client, client.websocket_connect(LIVE) as ws:
        ws.send_json({"type": "view", "page": HUB, **wrong})
        assert until(ws, type="refused")[-1]["message"] == reason


def test_all_visitors_together_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten.generation.prefetcher.PREFETCH_LIMIT", 4)
    engine = wiki_engine(["One", HANG])
    app = make_wiki(tmp_path, engine, prefetch="auto", jobs=64)
    with browser(app) as client:
        write(client, HUB)
        with client.websocket_connect(LIVE) as one:
            near(one)
            wait_for(lambda: engine.running == 3)
            nothing_more(engine)  # the limit of one visitor
            other = TestClient(app, client=("192.0.2.7", 50000))
            other.portal = client.portal
            with other.websocket_connect(LIVE) as two:
                near(two, hover="D", press="E")
                wait_for(lambda: set(asked(engine)[3:]) == {"D", "E"} and engine.running == 4)
                nothing_more(engine)


def test_nothing_is_prefetched_for_clients_that_save_data(tmp_path: Path) -> None:
    engine = wiki_engine()
    with browser(make_wiki(tmp_path, engine, prefetch="auto")) as client:
        write(client, HUB)
        with client.websocket_connect(LIVE, headers={"save-data": "on"}) as ws:
            near(ws, hover="A")
            nothing_more(engine)
        assert client.get(key("A"), headers={**PREFETCH, "save-data": "on"}).status_code == 503


def test_a_prefetch_of_the_browser_counts_for_its_visitor(tmp_path: Path) -> None:
    engine = wiki_engine(["One", HANG])
    with browser(make_wiki(tmp_path, engine, prefetch="auto")) as client:
        write(client, HUB)
        for title in ("X", "Y", "Z"):
            assert client.get(key(title), headers=PREFETCH).status_code == 200
        assert client.get(key("X"), headers={"purpose": "prefetch"}).status_code == 200  # joins
        refused = client.get(key("W"), headers=PREFETCH)
        assert refused.status_code == 503 and "Click on the link to have the page written." in refused.text
        wait_for(lambda: engine.running == 2)
        assert {request.priority for request in engine.requests[1:]} == {Priority.PREFETCH}
        client.get(key("W"))  # a click
        assert client.get(key("V"), headers=PREFETCH).status_code == 503  # while it is written
        wait_for(lambda: asked(engine) == ["X", "Y", "W"] and engine.running == 1)


def test_a_prefetch_of_the_browser_is_cancelled_after_the_grace_period(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unwritten.generation.job_queue.GRACE_PERIOD", 0.3)
    engine = wiki_engine(["One", HANG])
    with browser(make_wiki(tmp_path, engine, prefetch="auto")) as client:
        client.get(key("X"), headers=PREFETCH)
        wait_for(lambda: engine.running == 1)
        wait_for(lambda: engine.running == 0 and engine.stopped == 1)


def test_if_prefetching_is_off_there_is_no_script_and_reports_are_ignored(tmp_path: Path) -> None:
    engine = wiki_engine()
    with browser(make_wiki(tmp_path, engine, prefetch="off")) as client:
        write(client, HUB)
        assert "/prefetch." not in client.get(HUB).text
        with client.websocket_connect(LIVE) as ws:
            near(ws, hover="A")
            ws.send_json({"type": "hide", "page": HUB})
            nothing_more(engine)
        assert client.get(key("A"), headers=PREFETCH).status_code == 503
    with browser(make_wiki(tmp_path, wiki_engine(), prefetch="auto")) as client:
        assert "/prefetch." in client.get(HUB).text


def test_auto_depends_on_the_cost_of_the_engine() -> None:
    from dataclasses import replace

    costly = replace(ABOUT, abilities=replace(ABOUT.abilities, prefetch=False))
    assert is_prefetch_enabled(Settings(), ABOUT) and not is_prefetch_enabled(Settings(), costly)
    assert is_prefetch_enabled(Settings(prefetch="on"), costly) and not is_prefetch_enabled(
        Settings(prefetch="off"), ABOUT
    )


def test_only_pages_with_canvases_that_allow_it_are_prefetched(tmp_path: Path) -> None:
    engine = scripted(lambda request: LINKS if "Hub" in request.prompt.ask else "Words.")
    app = make_app(tmp_path, engine, prefetch="auto")
    called: list[str] = []

    @app.page("/wiki/E", prefetch=False)
    def costly() -> str:
        called.append("E")
        return "About E."

    @app.page("/wiki/{title}")
    def article(title: str) -> str | Response:
        called.append(title)
        if title == "A":
            return RedirectResponse("/elsewhere")
        if title == "B":
            raise ValueError("B is broken")
        return f"About {title}."

    with browser(app) as client:
        write(client, HUB)
        called.clear()
        with client.websocket_connect(LIVE) as ws:
            near(ws)
            for _ in range(2):
                until(ws, type="written")
            near(ws, hover="A")
            near(ws, hover="B")
            near(ws, hover="E")
            nothing_more(engine)
    assert asked(engine) == ["C", "D"]
    assert sorted(called) == ["A", "B", "C", "D", "E"]  # no page function is called twice


def test_a_failed_prefetch_is_tried_again_only_by_a_click(tmp_path: Path) -> None:
    engine = wiki_engine([ValueError("no")])
    with browser(make_wiki(tmp_path, engine, prefetch="auto")) as client:
        write(client, HUB)
        with client.websocket_connect(LIVE) as ws:
            near(ws)
            wait_for(lambda: sorted(asked(engine)) == ["A", "B", "C", "D", "E"])
            near(ws, hover="A")
            nothing_more(engine)
            client.get(key("A"))
            wait_for(lambda: asked(engine)[5:] == ["A"])


def test_the_prompt_of_a_prefetch_is_that_of_a_click(tmp_path: Path) -> None:
    """The page that links to it counts as its referer."""
    engine = wiki_engine()
    with browser(make_wiki(tmp_path, engine, prefetch="auto")) as client:
        write(client, HUB)
        with client.websocket_connect(LIVE) as ws:
            near(ws)
            until(ws, type="written", links=[key("A")])
        client.get(key("E"), headers={"referer": f"http://testserver{HUB}"})
        wait_for(lambda: asked(engine)[-1] == "E")
    prefetched, clicked = engine.requests[1].prompt, engine.requests[-1].prompt
    assert prefetched.facts == clicked.facts and prefetched.facts


def test_pressed_links_precede_hovered_links_and_links_in_view() -> None:
    viewer = Viewer({"type": "websocket", "client": ("192.0.2.7", 5), "headers": []})
    viewer.visible_links, viewer.hovered_link, viewer.pressed_link = frozenset({"/a", "/b", "/c"}), "/b", "/c"
    ranks = [viewer.link_rank(key) for key in ("/c", "/b", "/a", "/d")]
    assert ranks == [LinkRank.PRESSED, LinkRank.HOVERED, LinkRank.IN_VIEW, LinkRank.OTHER] == sorted(ranks)
    assert viewer.client_id == "192.0.2.7"
