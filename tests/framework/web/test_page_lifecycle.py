"""The life of a page: unwritten, generated, stored, changed, regenerated."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
from pydantic import BaseModel
from tests.support.apps import (
    LIGHTHOUSE,
    TWO,
    browser,
    follow,
    in_turn,
    make_app,
    make_two,
    make_wiki,
    tables,
    templates,
    write,
)
from tests.support.html_checks import inner, page_faults
from tests.support.servers import wait_for

from unwritten import App, Canvas, Page
from unwritten_engine import scripted
from unwritten_engine.errors import GenerationFailed
from unwritten_engine.scripted import HANG

KEY = "/wiki/Lighthouse"
REWRITE = "/_unwritten/rewrite"


def nonce_of(html: str) -> str:
    found = set(re.findall(r'nonce="([^"]+)"', html))
    assert len(found) == 1
    return str(found.pop())


def test_the_first_response_has_a_placeholder_for_every_region(tmp_path: Path) -> None:
    with browser(make_two(tmp_path, scripted([HANG]))) as client:
        answer = client.get("/")
    assert answer.headers["cache-control"] == "no-store"
    for name in ("lead", "body"):
        assert (
            f'id="region-{name}" data-region="{name}" data-page="/" data-frame="0" data-state="waiting"' in answer.text
        )
        assert 'class="skeleton"' in inner(answer.text, name)
    assert '<noscript><meta http-equiv="refresh" content="0; url=/?plain=1"></noscript>' in answer.text
    assert page_faults(answer.text) == []


def test_a_stored_page_only_differs_in_its_nonce(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted(LIGHTHOUSE))) as client:
        write(client, KEY)
        one, two = client.get(KEY), client.get(KEY)
    assert nonce_of(one.text) != nonce_of(two.text)
    assert one.text.replace(nonce_of(one.text), "") == two.text.replace(nonce_of(two.text), "")
    assert f"'nonce-{nonce_of(one.text)}'" in one.headers["content-security-policy"]
    engine = scripted("Something else.")
    with browser(make_wiki(tmp_path, engine)) as client:  # and after a restart
        again = client.get(KEY).text
    assert inner(again, "body") == inner(one.text, "body")
    assert engine.requests == []
    assert page_faults(again) == [] and "<noscript>" not in again


def test_an_unchanged_page_is_not_modified(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("Words."))) as client:
        write(client, KEY)
        tag = client.get(KEY).headers["etag"]
        answer = client.get(KEY, headers={"if-none-match": tag})
        assert (answer.status_code, answer.text) == (304, "")
        assert client.get(KEY, headers={"if-none-match": 'W/"old"'}).status_code == 200
        # The class of a link changes when its page is written, so the response changes too.
        write(client, "/wiki/Other")
        client.post(REWRITE, data={"page": KEY})
        follow(client, KEY)
        assert client.get(KEY, headers={"if-none-match": tag}).status_code == 200


def test_links_change_their_class_when_their_pages_are_written(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted(LIGHTHOUSE))) as client:
        write(client, KEY)
        assert '<a href="/wiki/Tower" class="unwritten">' in client.get(KEY).text
        write(client, "/wiki/Tower")
        assert '<a href="/wiki/Tower" class="written">' in client.get(KEY).text


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        ("/wiki/Great%20Auk", "/wiki/Great_Auk"),
        ("/wiki/Great__Auk_", "/wiki/Great_Auk"),
        ("/wiki/Cafe%CC%81", "/wiki/Caf%C3%A9"),
        ("/wiki/a%E2%80%AEb", "/wiki/ab"),
        ("/wiki/a%00%0Ab", "/wiki/a_b"),
        ("/wiki/Great%20Auk?plain=1", "/wiki/Great_Auk?plain=1"),
        ("/wiki/Lighthouse/", "http://testserver/wiki/Lighthouse"),
    ],
)
def test_other_spellings_redirect_to_the_canonical_url(tmp_path: Path, typed: str, key: str) -> None:
    engine = scripted("Words.")
    with browser(make_wiki(tmp_path, engine)) as client:
        answer = client.get(typed)
        assert answer.status_code in {302, 307}
        assert answer.headers["location"] == key
        assert engine.requests == []
        assert client.get(key).status_code == 200


@pytest.mark.parametrize("key", ["/wiki/AC%2FDC", "/wiki/AC%2fDC", "/wiki/Caf%c3%a9", "/wiki/100%25", "/wiki/What%3F"])
def test_canonical_urls_are_not_redirected(tmp_path: Path, key: str) -> None:
    with browser(make_wiki(tmp_path, scripted("Words."))) as client:
        assert client.get(key).status_code == 200


def test_an_encoded_slash_belongs_to_the_parameter(tmp_path: Path) -> None:
    engine = scripted("Words.")
    with browser(make_wiki(tmp_path, engine)) as client:
        write(client, "/wiki/AC%2FDC")
        assert ">AC/DC</h1>" in client.get("/wiki/AC%2FDC").text
        assert client.get("/wiki/AC/DC").status_code == 404
    assert "about AC/DC." in engine.requests[0].prompt.ask


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/wiki/", 404),
        ("/wiki/..", 404),
        ("/wiki/%2E%2E", 404),
        ("/wiki/..%2F..%2Fetc%2Fpasswd", 200),
        ("/wiki/%00", 404),
        ("/wiki/%E2%80%8B", 404),
        ("/wiki/%FF%FE", 400),
        ("/wiki/" + "x" * 500, 414),
        ("/wiki/" + "%20".join("x" * 300), 414),
    ],
)
def test_invalid_urls_are_errors(tmp_path: Path, path: str, status: int) -> None:
    engine = scripted("Words.")
    with browser(make_wiki(tmp_path, engine)) as client:
        answer = client.get(path)
        assert answer.status_code == status
        assert page_faults(answer.text) == []
    assert len(engine.requests) == (status == 200)


def test_a_script_in_a_url_is_escaped(tmp_path: Path) -> None:
    path = "/wiki/%3Cscript%3Ealert(1)%3C%2Fscript%3E%22%27onload=x"
    with browser(make_wiki(tmp_path, scripted("Words."))) as client:
        pages = [client.get(path), client.get(path + "?plain=1"), client.get("/wiki/%3Cscript%3E" + "x" * 200)]
        pages.append(client.get("/nowhere/%3Cscript%3Ealert(1)%3C%2Fscript%3E"))
    for answer in pages:
        assert "<script>" not in answer.text
        assert page_faults(answer.text) == []


def test_head_does_not_generate_a_page(tmp_path: Path) -> None:
    engine = scripted(["A", HANG])
    with browser(make_wiki(tmp_path, engine)) as client:
        assert client.head(KEY).status_code == 200
        assert engine.requests == []
        client.get(KEY)
        for path in (KEY, KEY + "?plain=1"):  # nor does it wait for the job
            answer = client.head(path)
            assert (answer.status_code, answer.text) == (200, "")


def test_a_page_is_regenerated_as_the_next_version(tmp_path: Path) -> None:
    engine = scripted(in_turn("The first.", "The second."))
    with browser(make_wiki(tmp_path, engine)) as client:
        write(client, KEY)
        answer = client.post(REWRITE, data={"page": KEY})
        assert (answer.status_code, answer.headers["location"]) == (303, KEY)
        assert follow(client, KEY)[-1]["state"] == "written"
        assert "The second." in client.get(KEY).text
        old = client.get(KEY + "?version=1").text
        assert "The first." in old and "version 1 of 2" in old
        assert "version 1 of 2" not in client.get(KEY + "?version=2").text
        assert [v.number for v in client.app.store.history(KEY)] == [2, 1]  # type: ignore[attr-defined]


def test_a_failed_rewrite_leaves_the_page_as_it_was(tmp_path: Path) -> None:
    engine = scripted(in_turn("The first.", ["The se", GenerationFailed("No.")]))
    with browser(make_wiki(tmp_path, engine)) as client:
        write(client, KEY)
        client.post(REWRITE, data={"page": KEY})
        *_, frame, last = follow(client, KEY)
        assert (last["state"], last["message"]) == ("written", "No. The page is as it was.")
        assert frame["state"] == "written" and "The first." in frame["html"]
        assert "The first." in client.get(KEY).text
    assert len(engine.requests) == 2


@pytest.mark.parametrize("version", ["0", "3", "-1", "x", "", "9" * 30, "1.0", "%00", "٣"])
def test_unknown_versions_are_not_found(tmp_path: Path, version: str) -> None:
    with browser(make_wiki(tmp_path, scripted("Words."))) as client:
        write(client, KEY)
        answer = client.get(f"{KEY}?version={version}")
        assert answer.status_code == 404
        assert "has no version" in answer.text


@pytest.mark.parametrize(
    ("data", "headers", "status"),
    [
        ({"page": KEY}, {"origin": "https://evil.example"}, 403),
        ({"page": KEY}, {"origin": "null"}, 403),
        ({"page": KEY}, {"origin": "http://["}, 403),
        ({}, {}, 400),
        ({"page": "wiki"}, {}, 400),
        ({"page": KEY, "admin": "1"}, {}, 400),
        ({"page": "/nowhere"}, {}, 404),
        ({"page": "//["}, {}, 400),
        ({"page": "//evil.example/x"}, {}, 400),
        ({"page": "/wiki/" + "x" * 500}, {}, 414),
        ({f"f{i}": "x" for i in range(20)}, {}, 400),
    ],
)
def test_invalid_forms_are_refused(tmp_path: Path, data: dict[str, str], headers: dict[str, str], status: int) -> None:
    engine = scripted("Words.")
    with browser(make_wiki(tmp_path, engine)) as client:
        answer = client.post(REWRITE, data=data, headers=headers)
        assert answer.status_code == status
        assert page_faults(answer.text) == []
        assert client.get(REWRITE).status_code == 405
    assert engine.requests == []


def test_files_and_other_content_types_are_refused(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("Words."))) as client:
        assert client.post(REWRITE, files={"page": ("x.txt", b"x")}).status_code == 400
        json = {"content-type": "application/json"}
        assert client.post(REWRITE, content=b"\xff\x00", headers=json).status_code == 415
        bad = {"content-type": "multipart/form-data; boundary=x"}
        assert client.post(REWRITE, content=b"nonsense", headers=bad).status_code == 400


def test_simultaneous_forms_start_one_rewrite(tmp_path: Path) -> None:
    engine = scripted(["A", HANG])
    with browser(make_wiki(tmp_path, engine)) as client:
        for _ in range(3):
            assert client.post(REWRITE, data={"page": KEY}).status_code == 303
        wait_for(lambda: engine.running)
    assert len(engine.requests) == 1


def test_a_new_region_of_a_stored_page_is_generated_and_the_others_stay(tmp_path: Path) -> None:
    engine = scripted(by_ask={"Lead": "A lead.", "Body": "A body."})
    app = make_app(
        tmp_path, engine, folder=templates(tmp_path, one=TWO.replace("{% block body %}{{ body }}{% endblock %}", ""))
    )

    @app.page("/")
    def old() -> Page:
        return Page("one.html", lead=Canvas("Lead."))

    with browser(app) as client:
        write(client, "/")
    with browser(make_two(tmp_path, engine)) as client:
        assert write(client, "/")[-1]["state"] == "written"
        page = client.get("/").text
        assert "A lead." in inner(page, "lead") and "A body." in inner(page, "body")
    assert [request.prompt.ask.partition(".")[0] for request in engine.requests] == ["Lead", "Body"]


def test_a_region_with_another_format_is_regenerated(tmp_path: Path) -> None:
    engine = scripted(in_turn("Words 1.", "Words 2."))

    def app_with(format: str) -> App:
        app = make_app(tmp_path, engine)

        @app.page("/")
        def front() -> Canvas:
            return Canvas("Words.", format=format)

        return app

    with browser(app_with("markdown")) as client:
        write(client, "/")
    with browser(app_with("text")) as client:
        write(client, "/")
        assert inner(client.get("/").text, "body") == '<p dir="auto">Words 2.</p>\n'


class OldFacts(BaseModel):
    kind: str


class NewFacts(BaseModel):
    kind: str
    height: int


def test_a_region_that_does_not_fit_its_new_schema_is_regenerated(tmp_path: Path) -> None:
    """A schema has a new field, which stored values lack."""
    engine = scripted(in_turn('{"kind":"tower"}', '{"kind":"tower","height":40}'))

    def app_with(schema: type) -> App:
        app = make_app(tmp_path, engine)

        @app.page("/")
        def front() -> Canvas:
            return Canvas("Facts.", schema=schema)

        return app

    with browser(app_with(OldFacts)) as client:
        write(client, "/")
    with browser(app_with(NewFacts)) as client:
        assert write(client, "/")[-1]["state"] == "written"
        assert ">40</dd>" in client.get("/").text
        assert client.get("/?version=1").status_code == 200


def test_a_page_without_canvases_needs_no_engine(tmp_path: Path) -> None:
    engine = scripted("Words.")
    app = make_app(
        tmp_path,
        engine,
        folder=templates(tmp_path, plain="{% extends 'layout.html' %}{% block main %}{{ n }}{% endblock %}"),
    )

    @app.page("/")
    def front(n: int = 1) -> Page:
        return Page("plain.html", n=n)

    with browser(app) as client:
        assert ">1<" in client.get("/").text.replace("\n", "")
        assert ">2<" in client.get("/?n=2").text.replace("\n", "")
        assert "Writing" not in client.get("/").text
    assert engine.requests == []


def test_two_servers_can_share_a_database(tmp_path: Path) -> None:
    one, two = scripted("From the first."), scripted("From the second.")
    with browser(make_wiki(tmp_path, one)) as first, browser(make_wiki(tmp_path, two)) as second:
        assert 'class="unwritten"' not in second.get("/wiki/Other?plain=1").text
        write(first, KEY)
        assert "From the first." in second.get(KEY).text
        second.post(REWRITE, data={"page": KEY})
        follow(second, KEY)
        assert "From the second." in first.get(KEY).text
        barrier = threading.Barrier(2)

        def both(client: object) -> None:
            barrier.wait()
            write(client, "/wiki/Same")  # type: ignore[arg-type]

        threads = [threading.Thread(target=both, args=(client,)) for client in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert first.get("/wiki/Same").status_code == second.get("/wiki/Same").status_code == 200
    assert [row["version"] for row in tables(tmp_path / "pages.db")["pages"] if row["key"] == KEY] == [2]
