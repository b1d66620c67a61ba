"""The Atom feed: valid XML for hostile titles, only public pages, stable identifiers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from tests.support.apps import browser, make_app, make_wiki, write

from unwritten import App
from unwritten.storage.records import PageWrite, Provenance
from unwritten.web.feed import MAX_ENTRIES, _text
from unwritten_engine import scripted

ATOM = "{http://www.w3.org/2005/Atom}"
COST = Provenance("m", "e", 1, 1, 1, 1, 0.1, "end")


def feed(client: TestClient, path: str = "/feed.atom", **options: object) -> ElementTree.Element:
    answer = client.get(path, **options)  # type: ignore[arg-type]
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/atom+xml")
    root = ElementTree.fromstring(answer.content)
    for element in (root, *root.iter(f"{ATOM}entry")):  # what Atom requires
        assert all(element.find(ATOM + name) is not None for name in ("id", "title", "updated"))
        updated = datetime.fromisoformat(element.findtext(f"{ATOM}updated") or "")
        assert updated.tzinfo is not None
    return root


def store(app: App, key: str, title: str, text: str = "Words.", minutes: int = 0) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    page = PageWrite(key, title, text, "h", COST, (), (), written_at=at)
    asyncio.run(app.site.store.save(page))


def titles(root: ElementTree.Element) -> list[str | None]:
    return [entry.findtext(f"{ATOM}title") for entry in root.iter(f"{ATOM}entry")]


def test_an_empty_world_has_a_valid_feed(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("Words."))) as client:
        root = feed(client)
        assert titles(root) == [] and root.findtext(f"{ATOM}title") == "Fake Wiki"
        answer = client.get("/feed.atom")
        same = client.get("/feed.atom", headers={"if-none-match": answer.headers["etag"]})
        assert (same.status_code, same.content) == (304, b"")
        assert client.post("/feed.atom").status_code == 405


def test_the_newest_pages_come_first_and_pages_announce_the_feed(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted(" is a [[Lamp]] & more."))
    with browser(app, base_url="https://wiki.example") as client:
        write(client, "/wiki/Tea")
        write(client, "/wiki/Salt")
        assert '<link rel="alternate" type="application/atom+xml"' in client.get("/wiki/Tea").text
        root = feed(client)
        assert titles(root) == ["Salt", "Tea"]
        (entry, _) = root.iter(f"{ATOM}entry")
        assert entry.findtext(f"{ATOM}summary") == "Salt is a Lamp & more."
        link = entry.find(f"{ATOM}link")
        assert link is not None and link.get("href") == "https://wiki.example/wiki/Salt"
        ids = [found.findtext(f"{ATOM}id") for found in root.iter(f"{ATOM}entry")]
    with browser(make_wiki(tmp_path, scripted("More.")), base_url="http://127.0.0.1") as client:
        again = [found.findtext(f"{ATOM}id") for found in feed(client).iter(f"{ATOM}entry")]
        assert again == ids, "identifiers do not depend on the process or the host"


def test_a_feed_has_a_limited_number_of_pages(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("Words."))
    with browser(app) as client:
        for number in range(MAX_ENTRIES + 3):
            store(app, f"/wiki/{number}", str(number), minutes=number)
        found = titles(feed(client))
        assert (len(found), found[0]) == (MAX_ENTRIES, str(MAX_ENTRIES + 2))


def test_only_pages_that_everyone_may_read_are_in_the_feed(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("Words."))

    @app.page("/open/{title}")
    def open_page(title: str) -> str:
        return title

    @app.page("/notes/{name}", allow=lambda request: "key" in request.headers)
    def notes(name: str) -> str:
        return name

    with browser(app) as client:
        store(app, "/open/Tea", "Tea")
        for number in range(60):  # more than a feed has, and all newer
            store(app, f"/notes/{number}", f"Secret {number}", "The secret.", minutes=number)
        root = feed(client, headers={"key": "1"})
        assert titles(root) == ["Tea"] and "secret" not in ElementTree.tostring(root, "unicode").lower()


def test_hostile_titles_are_valid_xml(tmp_path: Path) -> None:
    assert _text("a\0\x08\x1b\ud800\ufffe]]>&<") == "a\ufffd\ufffd\ufffd\ufffd\ufffd]]&gt;&amp;&lt;"
    app = make_wiki(tmp_path, scripted("Words."))
    with browser(app) as client:
        store(app, "/wiki/%22%27%3C%26", "<b>\"&'\x0b\x1b[31m]]>\u202e\ufffe", "\x01<script>&amp;")
        (entry,) = feed(client).iter(f"{ATOM}entry")
        assert entry.findtext(f"{ATOM}title") == "<b>\"&'\ufffd\ufffd[31m]]>\u202e\ufffd"
        assert entry.findtext(f"{ATOM}summary") == "\ufffd<script>&amp;"


def test_the_feed_of_an_app_behind_a_prefix_has_the_prefix(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("Words."))
    with TestClient(app, root_path="/guide", headers={"accept": "text/html"}) as client:
        store(app, "/wiki/Tea", "Tea")
        links = [link.get("href") for link in feed(client, "/guide/feed.atom").iter(f"{ATOM}link")]
        assert links == [f"http://testserver/guide{path}" for path in ("/feed.atom", "/", "/wiki/Tea")]


def test_a_route_of_the_author_replaces_the_feed(tmp_path: Path) -> None:
    async def mine(request: Request) -> PlainTextResponse:
        return PlainTextResponse("mine")

    with browser(make_app(tmp_path, scripted("Words."), routes=[Route("/feed.atom", mine)])) as client:
        assert client.get("/feed.atom").text == "mine"


def test_a_page_with_variants_has_its_url_in_the_feed(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("Words."))

    @app.page("/guide/{city}", vary=lambda request: request.cookies.get("language", "en"))
    def guide(city: str) -> str:
        return f"A guide to {city}."

    with browser(app) as client:
        store(app, "/guide/Bergen#vary=en", "Bergen")
        store(app, "/guide/Bergen#vary=de", "Bergen in German")
        root = feed(client, headers={"cookie": "language=de"})
        (entry,) = root.iter(f"{ATOM}entry")
        link = entry.find(f"{ATOM}link")
        assert entry.findtext(f"{ATOM}title") == "Bergen"
        assert link is not None and link.get("href") == "http://testserver/guide/Bergen"
