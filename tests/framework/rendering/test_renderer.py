"""Colophons and titles of rendered pages."""

from __future__ import annotations

from pathlib import Path

from tests.support.apps import browser, follow, make_wiki, write
from tests.support.html_checks import page_faults

from unwritten_engine import scripted
from unwritten_engine.scripted import HANG

KEY = "/wiki/Lighthouse"


def test_the_colophon_names_the_model_and_the_cost(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("A tower with a lamp."))) as client:
        told = write(client, KEY)[-1]["colophon"]
        page = client.get(KEY).text
    assert "Written just now by <b>a script</b>" in told
    assert "Written on" in page and "tokens/s" in page
    assert f'name="page" value="{KEY}"' in page


def test_the_colophon_of_an_unfinished_page_has_a_stop_button(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted([HANG]), jobs=1)) as client:
        client.get("/wiki/One")
        page = client.get(KEY).text
        assert "Waiting" in page and "data-stop" in page
        assert page_faults(page) == []


def test_a_rewritten_page_links_to_its_older_versions(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("Words."))) as client:
        write(client, KEY)
        client.post("/_unwritten/rewrite", data={"page": KEY})
        follow(client, KEY)
        page = client.get(KEY).text
        assert "Version 2 of 2" in page and f'href="{KEY}?version=1"' in page
        old = client.get(f"{KEY}?version=1").text
        assert "This is version 1 of 2" in old and f'href="{KEY}">Show the latest version' in old


def test_a_title_is_escaped_everywhere(tmp_path: Path) -> None:
    key = "/wiki/%3Cb%3E%22%26'"
    with browser(make_wiki(tmp_path, scripted("Words."))) as client:
        write(client, key)
        page = client.get(key).text
    assert "<title>&lt;b&gt;&#34;&amp;&#39; · Fake Wiki</title>" in page
    assert page_faults(page) == []
