"""Signed links: only links that a page displayed cause generation."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.testclient import TestClient
from tests.support.apps import browser, follow, make_app, make_wiki, tables, templates, write
from tests.support.servers import wait_for

from unwritten import App, Page, Visit
from unwritten.core.errors import BadURL
from unwritten.core.settings import Settings
from unwritten.security.exposure import Exposure
from unwritten.security.signed_links import SCOPE_KEY, SignedLinks, take_signature, unsigned, url_of
from unwritten.security.signer import Signer
from unwritten_engine import scripted
from unwritten_engine.scripted import HANG

TEXT = "A tower with a [[Lamp|bright lamp]], near [the sea](/wiki/Deep%20Sea)."
HERE = {"sec-fetch-site": "same-origin"}


def signed_links(secret: bytes = b"one world", **settings: Any) -> SignedLinks:
    loaded = Settings(**{"signed_links": "on", **settings})
    return SignedLinks(loaded.signed_links, Exposure(loaded), Signer(secret))


def signed_wiki(home: Path, engine: Any = None, **settings: Any) -> App:
    app = make_wiki(home, engine or scripted(TEXT), **{"signed_links": "on", **settings})

    @app.page("/")
    def front() -> Response:
        return RedirectResponse(app.link("/wiki/Lighthouse"), 302)

    return app


def links(html: str) -> list[str]:
    """Return the URLs of unwritten links."""
    return re.findall(r'<a href="([^"]+)" class="unwritten"', html)


# -- signatures ------------------------------------------------------------------------------------------------


def test_a_signature_is_short_and_belongs_to_one_target_of_one_world() -> None:
    one, other = signed_links(), signed_links(b"another world")
    assert re.fullmatch(r"/wiki/Tea\?_s=[\w-]{16}", one.sign("/wiki/Tea"))
    assert one.signature("/wiki/Tea") == one.signature("/wiki/Tea")
    signatures = {
        links.signature(key)
        for links in (one, other)
        for key in ("/wiki/Tea", "/wiki/tea", "/wiki/AC/DC", "/wiki/AC%2FDC")
    }
    assert len(signatures) == 8
    assert one.source(one.signature("/wiki/Tea"), "/wiki/Tea") == "link"
    assert one.source(one.signature("/wiki/Tea", "search"), "/wiki/Sea", "/wiki/Tea") == "search"
    for wrong in (
        other.signature("/wiki/Tea"),
        one.signature("/wiki/Sea"),
        one.signature("/wiki/Tea")[:-1],
        "",
        "é",
        "\udc80",
    ):
        assert one.source(wrong, "/wiki/Tea") is None


@pytest.mark.parametrize(
    ("url", "offered"),
    [
        ("/wiki/Tea", "/wiki/Tea?_s={}"),
        ("/list?by=name", "/list?by=name&_s={}"),
        ("/wiki/Tea#History", "/wiki/Tea?_s={}#History"),
    ],
)
def test_a_signature_is_added_to_the_query_and_removed(url: str, offered: str) -> None:
    signed = signed_links().sign(url)
    assert signed == offered.format(signed_links().signature(url.partition("#")[0]))
    assert unsigned(signed) == url
    path, _, query = signed.partition("#")[0].partition("?")
    scope = {"type": "http", "path": path, "raw_path": path.encode(), "query_string": query.encode(), "headers": []}
    taken = take_signature(scope)
    assert url_of(taken) == url.partition("#")[0]
    assert signed_links().source(taken[SCOPE_KEY], url_of(taken)) == "link"
    assert take_signature(taken) == taken


def test_a_signature_is_valid_for_other_spellings_of_the_url() -> None:
    assert signed_links().signature("/wiki/It's?q=it's a") == signed_links().signature("/wiki/It%27s?q=it%27s%20a")


def test_other_query_parameters_are_kept() -> None:
    assert unsigned("/x?a_s=1&b=2#c?_s=3") == "/x?a_s=1&b=2#c?_s=3"
    scope = {"type": "http", "path": "/x", "query_string": b"a_s=1", "headers": []}
    assert take_signature(scope) is scope


# -- when signatures are required ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "required"),
    [
        ({}, False),
        ({"host": "localhost"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": ""}, True),
        ({"host": "0.0.0.0", "signed_links": "off"}, False),
        ({"signed_links": "on"}, True),
        ({"hosts": "wiki.example"}, True),
        ({"hosts": "localhost, wiki.localhost"}, False),
        ({"trusted_proxies": "127.0.0.1"}, True),
    ],
)
def test_signatures_are_required_where_other_machines_can_reach_the_app(
    settings: dict[str, Any], required: bool
) -> None:
    assert signed_links(**{"signed_links": "auto", **settings}).required is required


def test_a_request_without_the_owners_token_requires_them_from_then_on(tmp_path: Path) -> None:
    """A proxy on this machine looks like the owner, except for the token."""
    app = make_wiki(tmp_path, scripted(TEXT))
    headers = {"accept": "text/html", "authorization": f"Bearer {app.owner.token}"}
    with TestClient(app, base_url="http://127.0.0.1", headers=headers, client=("127.0.0.1", 1)) as client:
        write(client, "/wiki/Tower")
        assert links(client.get("/wiki/Tower").text) == ["/wiki/Lamp", "/wiki/Deep%20Sea"]
        assert client.get("/wiki/Sea", headers={"authorization": ""}).status_code == 404
        assert all("?_s=" in link for link in links(client.get("/wiki/Tower").text))
        assert client.get("/wiki/Sea").status_code == 200  # the owner still needs none


# -- following links -------------------------------------------------------------------------------------------


def test_a_signed_link_starts_the_page_and_redirects_to_its_clean_url(tmp_path: Path) -> None:
    engine = scripted(TEXT, delay=0.05)
    with browser(signed_wiki(tmp_path, engine)) as client:
        signed = client.get("/").headers["location"]
        began = client.get(signed)
        assert (began.status_code, began.headers["location"]) == (303, "/wiki/Lighthouse")
        assert (began.headers["cache-control"], began.headers["x-robots-tag"]) == ("no-store", "noindex")
        shell = client.get("/wiki/Lighthouse")
        assert (shell.status_code, shell.headers["x-robots-tag"]) == (200, "noindex")
        frames = [m["html"] for m in follow(client, "/wiki/Lighthouse") if m["type"] == "frame"]
        lamp, sea = links(frames[-1])
        assert f'<a href="{lamp}" class="unwritten" rel="nofollow">bright lamp</a>' in frames[-1]
        assert re.fullmatch(r"/wiki/Lamp\?_s=[\w-]{16}", lamp)
        assert client.get(lamp).headers["location"] == "/wiki/Lamp"
        # A generated URL is signed in its own spelling, and redirects to the canonical one.
        assert client.get(sea).headers["location"] == "/wiki/Deep_Sea"
        follow(client, "/wiki/Lamp")
        stored = client.get("/wiki/Lighthouse")
        assert "x-robots-tag" not in stored.headers
        assert '<a href="/wiki/Lamp" class="written">' in stored.text, "the link to a written page has no signature"
        assert client.get(lamp).headers["location"] == "/wiki/Lamp", "an old signed link redirects to the page"
    assert len(engine.requests) == 3
    rows = tables(tmp_path / "pages.db")
    assert {row["target"] for row in rows["links"]} <= {"/wiki/Lamp", "/wiki/Deep%20Sea"}
    assert "_s=" not in str(rows)


def test_a_signed_link_works_without_a_browser(tmp_path: Path) -> None:
    with TestClient(signed_wiki(tmp_path)) as client:
        answer = client.get(client.get("/", follow_redirects=False).headers["location"])
        assert answer.status_code == 200 and "bright lamp" in answer.text
        assert urlsplit(str(answer.url)).query == ""
        sea = links(answer.text)[1]
        assert str(client.get(sea + "&plain=1").url) == "http://testserver/wiki/Deep_Sea?plain=1"


def test_a_typed_url_is_not_generated_but_has_a_button(tmp_path: Path) -> None:
    engine = scripted(TEXT)
    with browser(signed_wiki(tmp_path, engine)) as client:
        response = client.get("/wiki/Tea")
        assert (response.status_code, response.headers["x-robots-tag"]) == (404, "noindex")
        assert "This page has not been written yet." in response.text
        assert '<form class="actions" method="post" action="/_unwritten/write"' in response.text
        assert '<input type="hidden" name="page" value="/wiki/Tea">' in response.text
        assert client.head("/wiki/Tea").status_code == 404
        assert not engine.requests
        pressed = client.post("/_unwritten/write", data={"page": "/wiki/Tea"}, headers={"origin": "http://testserver"})
        assert (pressed.status_code, pressed.headers["location"]) == (303, "/wiki/Tea")
        assert client.get("/wiki/Tea").status_code == 200
        follow(client, "/wiki/Tea")
        assert client.get("/wiki/Tea").status_code == 200
        again = client.post("/_unwritten/write", data={"page": "/wiki/Tea"})
        assert again.headers["location"] == "/wiki/Tea" and len(engine.requests) == 1, "the page is written"


def test_a_page_without_parameters_needs_no_signature(tmp_path: Path) -> None:
    engine = scripted("Welcome to tea.")
    app = make_app(tmp_path, engine, signed_links="on")

    @app.page("/welcome")
    def welcome(tone: str = "dry") -> str:
        return f"A welcome in a {tone} tone."

    with browser(app) as client:
        assert client.get("/welcome?tone=loud").status_code == 404, "a query parameter allows any number of pages"
        assert not engine.requests
        assert client.get("/welcome").status_code == 200
        follow(client, "/welcome")
        assert "Welcome to" in client.get("/welcome").text
    assert len(engine.requests) == 1


def test_a_program_gets_plain_text(tmp_path: Path) -> None:
    with TestClient(signed_wiki(tmp_path)) as client:
        answer = client.get("/wiki/Tea", headers={"accept": "*/*"})
        assert answer.status_code == 404
        assert answer.text == (
            "'Tea' is not written yet.\n"
            "Follow a link to it, or POST page=/wiki/Tea to /_unwritten/write to have it written.\n"
        )


CUT = "The link that led here is incomplete: its signature was cut off or changed."
FOREIGN = "The link that led here was signed for another page, or by another app."


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s: s[:-3], CUT),
        (lambda s: s + "x", CUT),
        (lambda s: "", CUT),
        (lambda s: "%ff", CUT),
        (lambda s: signed_links(b"another world").signature("/wiki/Tea"), FOREIGN),
        (lambda s: s[::-1], FOREIGN),
    ],
)
def test_an_invalid_signature_is_explained(spoil: Callable[[str], str], words: str, tmp_path: Path) -> None:
    engine = scripted(TEXT)
    app = signed_wiki(tmp_path, engine)
    with browser(app) as client:
        signature = app.link("/wiki/Tea").partition("_s=")[2]
        response = client.get(f"/wiki/Tea?_s={spoil(signature)}")
        assert response.status_code == 403
        assert words in response.text and 'action="/_unwritten/write"' in response.text
        assert not engine.requests


def test_a_signature_for_another_page_generates_nothing(tmp_path: Path) -> None:
    app = signed_wiki(tmp_path)
    with browser(app) as client:
        sign = app.link("/wiki/Sea").partition("?")[2]
        assert FOREIGN in client.get(f"/wiki/Tea?{sign}").text
        client.post("/_unwritten/write", data={"page": "/wiki/Tea"})
        assert client.get(f"/wiki/Tea?{sign}").headers["location"] == "/wiki/Tea", "a running job can be joined"
        follow(client, "/wiki/Tea")
        assert client.get(f"/wiki/Tea?{sign}").headers["location"] == "/wiki/Tea"


def test_a_button_on_another_site_does_nothing(tmp_path: Path) -> None:
    engine = scripted(TEXT)
    with browser(signed_wiki(tmp_path, engine)) as client:
        foreign = client.post(
            "/_unwritten/write", data={"page": "/wiki/Tea"}, headers={"origin": "http://evil.example"}
        )
        assert foreign.status_code == 403
        assert client.post("/_unwritten/write", data={"page": "/nowhere"}).status_code == 404
        assert client.post("/_unwritten/write", data={"page": "/"}).status_code == 404
        assert client.post("/_unwritten/write", data={}).status_code == 400
        assert not engine.requests


def test_the_error_of_the_last_attempt_is_shown(tmp_path: Path) -> None:
    app = signed_wiki(tmp_path, scripted([ValueError("broken")]))
    with browser(app) as client:
        client.get(app.link("/wiki/Tea"))
        follow(client, "/wiki/Tea")
        assert "The last attempt failed: Something went wrong on the server." in client.get("/wiki/Tea").text


def test_a_running_page_needs_no_signature(tmp_path: Path) -> None:
    app = signed_wiki(tmp_path, scripted(["A", HANG]))
    with browser(app) as client:
        client.get(app.link("/wiki/Tea"))
        assert client.get("/wiki/Tea").status_code == 200
        assert client.head("/wiki/Tea").status_code == 200


# -- links of the app itself -----------------------------------------------------------------------------------


def search(app: App) -> None:
    @app.page("/search")
    def search(q: str) -> Response:
        return RedirectResponse(app.url_path_for("article", title=q), 303)


def test_a_search_box_leads_to_pages_within_its_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten.generation.budgets.SEARCH_PAGES", 1)
    engine = scripted(TEXT)
    app = signed_wiki(tmp_path, engine)
    search(app)
    with browser(app) as client:
        found = client.get("/search?q=Tea", headers=HERE).headers["location"]
        assert client.get(found).headers["location"] == "/wiki/Tea"
        follow(client, "/wiki/Tea")
        assert client.get("/search?q=Tea", headers=HERE).headers["location"] == "/wiki/Tea", "the page is written"
        second = client.get("/search?q=Sea", headers=HERE).headers["location"]
        refused = client.get(second)
        assert refused.status_code == 429
        assert "by search or by button" in refused.text
        assert client.get(app.link("/wiki/Sea")).status_code == 303, "a link on a page is not a search"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "cross-site", **{"referer": "http://testserver/"}},
        {"referer": "//["},
    ],
)
def test_searches_from_outside_a_page_are_not_signed(headers: dict[str, str], tmp_path: Path) -> None:
    app = signed_wiki(tmp_path)
    search(app)
    with browser(app) as client:
        assert client.get("/search?q=Tea", headers=headers).headers["location"] == "/wiki/Tea"
        old = client.get("/search?q=Tea", headers={"referer": "http://testserver/"})
        assert "_s=" in old.headers["location"], "browsers that send no Sec-Fetch-Site"


def test_templates_sign_links(tmp_path: Path) -> None:
    home = templates(tmp_path, front='<a href="{{ link("/wiki/Tea") }}">a</a><a href="{{ "/wiki/Sea"|link }}">b</a>')
    for setting, mark in (("on", "?_s="), ("off", '">')):
        app = make_app(tmp_path, scripted(TEXT), folder=home, signed_links=setting)

        @app.page("/")
        def front(app: str = "") -> Page:
            return Page("front.html")

        with browser(app) as client:
            assert client.get("/").text.count(mark) == 2


def test_only_a_key_can_be_signed(tmp_path: Path) -> None:
    app = signed_wiki(tmp_path)
    with browser(app):
        for wrong in ("https://evil.example", "//evil.example", "/\\evil.example", "Tea", ""):
            with pytest.raises(BadURL, match="is not the key of a page"):
                app.link(wrong)


def test_page_functions_see_no_signature(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted(TEXT), signed_links="on")
    seen: list[Any] = []

    @app.page("/a/{title}")
    def page(title: str, visit: Visit, request: Request, by: str = "") -> str:
        seen.append((visit.key, dict(visit.query), str(request.url.query)))
        return "Words."

    with browser(app) as client:
        assert client.get(app.link("/a/Tea?by=x")).headers["location"] == "/a/Tea?by=x"
    assert seen[-1] == ("/a/Tea?by=x", {"by": "x"}, "by=x")


# -- crawlers --------------------------------------------------------------------------------------------------


def crawl(client: TestClient, start: str, steps: int, may: Callable[[str, str], bool]) -> int:
    """Follow every link, breadth first. Return the number of requested pages."""
    queue, seen = [start], {start}
    for step in range(steps):
        if not queue:
            return step
        key = queue.pop(0)
        answer = client.get(key)
        if answer.status_code == 200 and key.startswith("/wiki/"):
            wait_for(lambda key=key: client.app.site.jobs.get(key) is None)  # type: ignore[attr-defined,misc]
            answer = client.get(key)
        found = [("", answer.headers["location"])] if answer.is_redirect else []
        for tag, href in found + re.findall(r'(<a [^>]*href="([^"]+)"[^>]*>)', answer.text):
            if href.startswith("/") and href not in seen and may(tag, href):
                seen.add(href)
                queue.append(href)
    return steps


def endless(request: Any) -> str:
    """Every page links to three new ones."""
    name = request.prompt.ask.rpartition(" ")[2].strip(".")
    return " ".join(f"[[{name}{letter}]]" for letter in "abc")


def test_a_crawler_that_follows_every_link_is_limited_by_its_budget(tmp_path: Path) -> None:
    engine = scripted(endless)
    app = signed_wiki(tmp_path, engine, visitor_pages=5)
    with browser(app) as client:
        crawl(client, "/", 40, lambda tag, href: True)
        assert len(engine.requests) == 5


def test_a_crawler_that_respects_robots_txt_causes_no_generation(tmp_path: Path) -> None:
    engine = scripted(endless)
    app = signed_wiki(tmp_path, engine)
    with browser(app) as client:
        client.get(app.link("/wiki/Here"))
        follow(client, "/wiki/Here")
        rules = [line.partition(": ")[2] for line in client.get("/robots.txt").text.splitlines() if "Disallow" in line]
        patterns = [re.compile(re.escape(rule).replace(r"\*", ".*")) for rule in rules]

        def may(tag: str, href: str) -> bool:
            return "nofollow" not in tag and not any(pattern.match(href) for pattern in patterns)

        crawl(client, "/wiki/Here", 40, may)
        assert len(engine.requests) == 1
        crawl(client, "/wiki/Here", 40, lambda tag, href: not any(pattern.match(href) for pattern in patterns))
        assert len(engine.requests) == 1, "robots.txt alone is enough"
