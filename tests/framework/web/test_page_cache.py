"""The cache of rendered pages."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3
from pathlib import Path

import pytest
from tests.support.apps import browser, database_file, make_wiki, write
from tests.support.servers import wait_for

from unwritten.generation.region_job import RegionJob
from unwritten.routing.routes import PageRequest
from unwritten.storage.records import StoredCanvas
from unwritten_engine import scripted

KEY = "/wiki/Lighthouse"


def nonce(policy: str) -> str:
    found = re.search(r"'nonce-([\w-]+)'", policy)
    assert found
    return found[1]


def test_a_page_is_rendered_once_and_each_response_has_a_new_nonce(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("A tower with a lamp."))
    with browser(app) as client:
        write(client, KEY)
        one, two = client.get(KEY), client.get(KEY)
        assert one.headers["etag"] == two.headers["etag"]
        nonces = [nonce(answer.headers["content-security-policy"]) for answer in (one, two)]
        assert nonces[0] != nonces[1]
        assert one.text.replace(nonces[0], nonces[1]) == two.text
        assert client.get(KEY, headers={"if-none-match": one.headers["etag"]}).status_code == 304


def test_links_to_a_new_page_are_rendered_again(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted(by_ask={"Lighthouse": "A [[Tower]].", "Tower": "A tall house."}))
    with browser(app) as client:
        write(client, KEY)
        before = client.get(KEY)
        assert 'class="unwritten"' in before.text
        write(client, "/wiki/Tower")
        after = client.get(KEY, headers={"if-none-match": before.headers["etag"]})
        assert after.status_code == 200 and 'class="unwritten"' not in after.text


def test_old_versions_are_found_by_their_numbers(tmp_path: Path) -> None:
    texts = iter(("The first.", "The second."))
    app = make_wiki(tmp_path, scripted(lambda request: next(texts)))
    with browser(app) as client:
        write(client, KEY)
        app.site.cache.clear()
        client.post("/_unwritten/rewrite", data={"page": KEY})
        client.get(f"{KEY}?plain=1")
        assert "The first." in client.get(f"{KEY}?version=1").text
        assert "The second." in client.get(f"{KEY}?version=2").text
        for number in ("0", "3", "-1", "one", "9" * 30):
            assert client.get(f"{KEY}?version={number}").status_code == 404


def test_a_write_of_another_program_is_seen_by_the_next_request(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("A tower with a lamp."))
    with browser(app) as client:
        write(client, KEY)
        assert "A tower with a lamp." in client.get(KEY).text
        with contextlib.closing(sqlite3.connect(database_file(app))) as other, other:
            other.execute("UPDATE canvases SET text = 'A tower without one.'")
        assert "A tower without one." in client.get(KEY).text


def test_requests_of_one_iteration_of_the_event_loop_read_the_version_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_wiki(tmp_path, scripted("A tower with a lamp."))
    with browser(app) as client:
        write(client, KEY)
        reads: list[int] = []
        data_version = app.site.store.data_version

        def count() -> int:
            reads.append(data_version())
            return reads[-1]

        monkeypatch.setattr(app.site.store, "data_version", count)

        async def visit_at_once() -> None:
            page_request = await app.site.resolver.resolve_key(KEY)
            assert isinstance(page_request, PageRequest)
            for _ in range(2):
                for _ in range(3):
                    assert await app.site.cache.rendered(page_request, is_visit=True)
                await asyncio.sleep(0)

        asyncio.run(visit_at_once())
        assert len(reads) == 2


def test_pages_respond_to_get_and_head_only(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("A tower."))) as client:
        assert client.post(KEY).status_code == 405
        assert {*client.post(KEY).headers["allow"].split(", ")} == {"GET", "HEAD"}
        head = client.head(KEY)
        assert (head.status_code, head.text) == (200, "")


def test_a_long_page_is_formatted_once_for_all_who_open_it_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "\n\n".join(f"Paragraph {number * number} of a long text." for number in range(1000))
    app = make_wiki(tmp_path, scripted([text]))
    formatted: list[int] = []
    original = RegionJob.restore

    def restore(self: RegionJob, stored: StoredCanvas) -> None:
        formatted.append(len(stored.text))
        original(self, stored)

    with browser(app) as client:
        write(client, KEY)
        wait_for(lambda: app.site.jobs.get(KEY) is None)
        monkeypatch.setattr(RegionJob, "restore", restore)

        async def visit_at_once() -> None:
            page_request = await app.site.resolver.resolve_key(KEY)
            assert isinstance(page_request, PageRequest)
            cache = app.site.cache
            pages = await asyncio.gather(*(cache.rendered(page_request, is_visit=True) for _ in range(20)))
            assert all(page is pages[0] and page is not None for page in pages)

        app.site.cache.clear()
        assert client.portal is not None
        client.portal.call(visit_at_once)
    assert len(formatted) == 1
