"""The history of a page: its versions, their differences, and restoring one."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.support.apps import browser, follow, in_turn, make_two, make_wiki, write
from tests.support.html_checks import inner, page_faults, text_of_html

from unwritten.editing import history
from unwritten.storage.records import Change
from unwritten_engine import scripted
from unwritten_engine.scripted import HANG

KEY = "/wiki/Lighthouse"
HISTORY = "/_unwritten/history"
RESTORE = "/_unwritten/restore"


def by_hand(client: TestClient, text: str, base: int, region: str = "lead", **more: str) -> None:
    data = {"page": "/", "region": region, "base": str(base), "means": "by hand", "text": text, **more}
    assert client.post("/_unwritten/edit", data=data).status_code == 303


def write_versions(client: TestClient, count: int) -> None:
    """Generate a page until it has this many versions."""
    write(client, KEY)
    for _ in range(count - 1):
        client.post("/_unwritten/rewrite", data={"page": KEY})
        follow(client, KEY)


def test_the_history_lists_versions_with_their_kind_and_time(tmp_path: Path) -> None:
    engine = scripted(by_ask={"Lead": "A tower by the sea.", "Body": "A body.", "once more": "A white tower."})
    with browser(make_two(tmp_path, engine)) as client:
        write(client, "/")
        by_hand(client, "A tall tower by the sea.", 1, note="it is tall")
        ask = {"page": "/", "region": "lead", "base": "2", "means": "asked", "ask": "make it <white>"}
        client.post("/_unwritten/edit", data=ask)
        follow(client, "/")
        page = client.get(HISTORY + "?page=/")
        assert page.status_code == 200 and page_faults(page.text) == []
        words = text_of_html(page.text)
        three, two, one = (words.index(f"Version {number}") for number in (3, 2, 1))
        assert three < two < one
        assert "revised make it <white> · Lead" in words[three:two] and "a script" in words[three:two]
        assert "edited by hand it is tall · Lead" in words[two:one] and "by a visitor" in words[two:one]
        assert "written" in words[one:] and "tokens" in words[one:]
        assert re.search(r"\d+ \w+ \d{4}, \d\d:\d\d", words)


def test_any_two_versions_are_compared_by_words(tmp_path: Path) -> None:
    engine = scripted(by_ask={"Lead": "A tower by the sea.", "Body": "A body."})
    with browser(make_two(tmp_path, engine)) as client:
        write(client, "/")
        by_hand(client, "A tall tower by the <lake>.", 1)
        page = client.get(HISTORY + "?page=/&from=1&to=2")
        assert page_faults(page.text) == []
        assert re.search(r"<ins><span[^>]*>added: </span>tall ?<", page.text)
        assert re.search(r"<del><span[^>]*>removed: </span>sea<", page.text)
        assert "&lt;lake&gt;" in page.text and "<lake>" not in page.text
        assert "Unchanged: Body" in text_of_html(page.text)
        turned = client.get(HISTORY + "?page=/&from=2&to=1")
        assert "Changes from version 1 to version 2" in turned.text  # a restored version gets a new number
        assert "These versions have the same text." in client.get(HISTORY + "?page=/&from=2&to=2").text


def test_a_version_is_restored_as_a_new_one(tmp_path: Path) -> None:
    engine = scripted(in_turn("The first.", "The second.", "The third."))
    with browser(make_wiki(tmp_path, engine)) as client:
        write_versions(client, 3)
        answer = client.post(RESTORE, data={"page": KEY, "version": "1", "base": "3"})
        assert (answer.status_code, answer.headers["location"]) == (303, KEY)
        page = client.get(KEY).text
        assert "The first." in inner(page, "body") and "Restored from version 1" in text_of_html(page)
        app: Any = client.app
        versions = app.store.history(KEY)
        assert [version.number for version in versions] == [4, 3, 2, 1]
        assert versions[0].change == Change("restored", "version 1", 3)
        assert "The third." in client.get(KEY + "?version=3").text
        assert [entry.key for entry in app.store.search("first")] == [KEY]
    assert len(engine.requests) == 3


def test_restoring_conflicts_with_a_change_of_another_visitor(tmp_path: Path) -> None:
    engine = scripted(in_turn("The first.", "The second.", "The third."))
    with browser(make_wiki(tmp_path, engine)) as client:
        write_versions(client, 3)
        answer = client.post(RESTORE, data={"page": KEY, "version": "1", "base": "2"})
        assert answer.status_code == 409 and page_faults(answer.text) == []
        words = text_of_html(answer.text)
        assert "version 3 is the current one" in words and "Changes from version 2 to version 3" in words
        assert "The first." not in client.get(KEY).text


def test_a_page_that_is_being_written_cannot_be_restored(tmp_path: Path) -> None:
    engine = scripted(in_turn("The first.", "The second.", ["The", HANG]))
    with browser(make_wiki(tmp_path, engine)) as client:
        write(client, KEY)
        client.post("/_unwritten/rewrite", data={"page": KEY})
        follow(client, KEY)
        client.post("/_unwritten/rewrite", data={"page": KEY})
        answer = client.post(RESTORE, data={"page": KEY, "version": "1", "base": "2"})
        assert answer.status_code == 409 and "is being written" in answer.text


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        ({"version": "9"}, 400, "has no version 9"),
        ({"version": "2"}, 400, "has the same text as the current version"),
        ({"version": "x"}, 400, "is not the number of a version"),
        ({"version": ""}, 400, "is not the number of a version"),
        ({"base": "7"}, 400, "which does not exist"),
        ({"page": "/wiki/Other"}, 404, "not written yet"),
        ({"all": "1"}, 400, "unknown field"),
    ],
)
def test_invalid_restore_forms_are_refused(tmp_path: Path, data: dict[str, str], status: int, words: str) -> None:
    with browser(make_wiki(tmp_path, scripted(in_turn("One.", "Two.")))) as client:
        write(client, KEY)
        client.post("/_unwritten/rewrite", data={"page": KEY})
        follow(client, KEY)
        answer = client.post(RESTORE, data={"page": KEY, "version": "1", "base": "2", **data})
        assert answer.status_code == status and words in unescape(answer.text)
        assert page_faults(answer.text) == []
        evil = client.post(RESTORE, data={"page": KEY}, headers={"origin": "https://evil.example"})
        assert evil.status_code == 403


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("?page=/wiki/Other", 404),
        (f"?page={KEY}&from=1", 400),
        (f"?page={KEY}&from=1&to=9", 404),
        (f"?page={KEY}&from=x&to=1", 404),
        (f"?page={KEY}&from={'9' * 30}&to=1", 404),
        (f"?page={KEY}&before=-1", 404),
    ],
)
def test_invalid_history_urls_are_errors(tmp_path: Path, query: str, status: int) -> None:
    with browser(make_wiki(tmp_path, scripted("One."))) as client:
        write(client, KEY)
        answer = client.get(HISTORY + query)
        assert answer.status_code == status and page_faults(answer.text) == []


def test_a_long_history_is_paginated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "VERSIONS_PER_PAGE", 3)
    with browser(make_two(tmp_path, scripted("Words."))) as client:
        write(client, "/")
        for base in range(1, 6):
            by_hand(client, f"Text {base}.", base)
        first = client.get(HISTORY + "?page=/").text
        assert re.findall(r">Version (\d+)<", first) == ["6", "5", "4"]
        url = re.search(r'href="([^"]+)">Older versions', first)
        assert url is not None
        assert re.findall(r">Version (\d+)<", client.get(unescape(url[1])).text) == ["3", "2", "1"]
