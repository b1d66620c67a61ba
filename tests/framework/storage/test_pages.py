"""The page store: complete pages in a SQLite file, also after errors."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.apps import LIGHTHOUSE, browser, make_wiki, tables, until, watch, write
from tests.support.hostile import few_examples
from tests.support.html_checks import inner
from tests.support.servers import wait_for

from unwritten import Canvas, Page
from unwritten.core.errors import EditConflict, StoreError, StoreFull, StoreLocked, UnknownDatabase
from unwritten.formats.links import Link
from unwritten.generation.freshness import freshness_of
from unwritten.storage.location import Location
from unwritten.storage.pages import PageStore
from unwritten.storage.records import Change, PageWrite, Provenance, StoredCanvas, StoredPage
from unwritten_engine import scripted

KEY = "/wiki/Lighthouse"


@pytest.fixture
def store(location: Location) -> Iterator[PageStore]:
    """Return an empty store."""
    store = PageStore(location)
    yield store
    store.close()


def new_page(
    key: str = KEY, text: str = "A tower with a lamp.", title: str = "", links: tuple[Link, ...] = ()
) -> PageWrite:
    canvas = StoredCanvas("body", "markdown", "{}", text, 7, 5, 5, 1, 0.5, "end")
    provenance = Provenance("a script", "scripted", 7, 5, 5, 1, 0.5, "end")
    return PageWrite(key, title or key.rsplit("/")[-1], text, "hash", provenance, (canvas,), links)


def save(store: PageStore, page: PageWrite) -> None:
    asyncio.run(store.save(page))


def test_a_page_makes_the_round_trip(store: PageStore) -> None:
    page = new_page()
    save(store, page)
    stored = store.get(KEY)
    assert stored is not None
    assert (stored.key, stored.title, stored.version, stored.versions) == (KEY, "Lighthouse", 1, 1)
    assert tuple(stored.canvases.values()) == page.canvases
    assert stored.provenance == page.provenance
    assert stored.written_at.tzinfo is not None
    assert store.get("/wiki/Other") is None and store.get(KEY, 2) is None


_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)


@settings(few_examples, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(title=_text, text=_text.filter(bool), seed=st.integers(0, 2**32 - 1), seconds=st.floats(0, 1e6))
def test_any_text_makes_the_round_trip(store: PageStore, title: str, text: str, seed: int, seconds: float) -> None:
    canvas = StoredCanvas("body", "text", text, text, seed, 1, 1, 1, seconds, "length")
    provenance = Provenance(text, text, seed, 1, 1, 1, seconds, "end")
    save(store, PageWrite(f"/{title}", title, text, "h", provenance, (canvas,), (Link("/x", title, text),)))
    stored = store.get(f"/{title}")
    assert stored is not None
    assert (stored.title, stored.provenance, stored.canvases) == (title, provenance, {"body": canvas})
    assert store.link(f"/{title}", "/x") == Link("/x", title, text)
    store.search(text)
    store.search(title)


def test_a_regenerated_page_is_a_new_version(store: PageStore) -> None:
    save(store, new_page(text="The first.", links=(Link("/wiki/Sea", "sea", "The sea."),)))
    save(store, new_page(text="The second.", links=(Link("/wiki/Tower", "tower", "A tower."),)))
    stored, old = store.get(KEY), store.get(KEY, 1)
    assert stored is not None and old is not None
    assert (stored.version, stored.versions, stored.canvases["body"].text) == (2, 2, "The second.")
    assert (old.version, old.versions, old.canvases["body"].text) == (1, 2, "The first.")
    assert [version.number for version in store.history(KEY)] == [2, 1]
    assert store.links_to("/wiki/Sea") == []  # links and search are those of the current version
    assert [entry.key for entry in store.links_to("/wiki/Tower")] == [KEY]
    assert store.search("first") == [] and len(store.search("second")) == 1
    assert store.count() == 1


def test_an_amendment_adds_canvases_to_the_current_version(store: PageStore) -> None:
    first = new_page(links=(Link("/wiki/Tower", "Tower", "A Tower."),))
    save(store, first)
    reply = replace(first.canvases[0], name="replies-1", text="A new reply.")
    more = replace(
        first,
        text="A tower with a lamp. A new reply.",
        canvases=(*first.canvases, reply),
        links=(*first.links, Link("/wiki/Sea", "Sea", "The Sea.")),
        provenance=replace(first.provenance, tokens=10, seconds=2.0),
        amends=True,
    )
    before = store.get(KEY)
    save(store, more)
    stored = store.get(KEY)
    assert before is not None and stored is not None
    assert (stored.version, stored.versions, stored.written_at) == (1, 1, before.written_at)
    assert list(stored.canvases) == ["body", "replies-1"] and stored.canvases["replies-1"] == reply
    assert (stored.provenance.tokens, stored.provenance.seconds) == (10, 2.5)
    assert [entry.key for entry in store.search("reply")] == [KEY]
    assert {entry.key for target in ("/wiki/Tower", "/wiki/Sea") for entry in store.links_to(target)} == {KEY}


def test_an_amendment_does_not_overwrite_a_newer_version(store: PageStore) -> None:
    first = new_page()
    save(store, first)
    save(store, new_page(text="A newer text."))
    reply = replace(first.canvases[0], name="replies-1", text="A new reply.")
    save(store, replace(first, canvases=(*first.canvases, reply), amends=True))
    stored = store.get(KEY)
    assert stored is not None and stored.version == 2
    assert [canvas.text for canvas in stored.canvases.values()] == ["A newer text.", "A new reply."]
    old = store.get(KEY, 1)
    assert old is not None and list(old.canvases) == ["body"]


def test_an_amendment_of_a_deleted_page_creates_it(store: PageStore) -> None:
    save(store, replace(new_page(), amends=True))
    assert store.get(KEY) is not None


def changed(text: str, change: Change, region: str = "body") -> PageWrite:
    page = new_page(text=text)
    return replace(page, canvases=(replace(page.canvases[0], name=region),), change=change)


def test_a_version_records_its_change(store: PageStore) -> None:
    save(store, new_page())
    change = Change("asked", "make it shorter", 1, ("body",))
    save(store, changed("A lamp.", change))
    stored = store.get(KEY)
    assert stored is not None and stored.change == change
    assert [version.change for version in store.history(KEY)] == [change, Change()]
    assert [version.number for version in store.history(KEY, limit=1)] == [2]
    assert [version.number for version in store.history(KEY, before=2)] == [1]


def test_a_change_based_on_an_old_version_is_a_conflict(store: PageStore) -> None:
    save(store, new_page())
    save(store, new_page(text="The second."))
    with pytest.raises(EditConflict, match="'Lighthouse' was changed meanwhile: it is at version 2 now"):
        save(store, changed("Lost?", Change("by hand", base=1)))
    asyncio.run(store.delete(KEY))
    with pytest.raises(EditConflict, match="does not exist any more"):
        save(store, changed("Lost?", Change("by hand", base=2)))
    assert store.get(KEY) is None


def test_regions_added_meanwhile_are_taken_over_by_a_change(store: PageStore) -> None:
    page = new_page()
    reply = replace(page.canvases[0], name="replies-1", text="A reply.")
    save(store, replace(page, canvases=(*page.canvases, reply)))
    save(store, changed("By hand.", Change("by hand", base=1, regions=("body",))))
    stored = store.get(KEY)
    assert stored is not None
    assert {name: canvas.text for name, canvas in stored.canvases.items()} == {
        "body": "By hand.",
        "replies-1": "A reply.",
    }
    save(store, changed("All of it.", Change("rewritten", base=2)))
    stored = store.get(KEY)
    assert stored is not None and list(stored.canvases) == ["body"]


def test_backlinks_have_the_sentence_of_the_link(store: PageStore) -> None:
    save(store, new_page("/wiki/A", links=(Link("/wiki/B", "b", "See b."), Link("/wiki/A", "a", "Itself."))))
    assert [(e.key, e.snippet) for e in store.links_to("/wiki/B")] == [("/wiki/A", "See b.")]
    assert store.links_to("/wiki/A") == []
    assert store.link("/wiki/A", "/wiki/B") == Link("/wiki/B", "b", "See b.")


def test_search_finds_words_and_beginnings_in_title_and_text(store: PageStore) -> None:
    save(store, new_page("/wiki/Lighthouse", "A tower with a lamp by the sea."))
    save(store, new_page("/wiki/Café", "Coffee under the lighthouse."))
    assert [entry.key for entry in store.search("lighthouse")] == ["/wiki/Lighthouse", "/wiki/Café"]
    assert [entry.key for entry in store.search("cafe")] == ["/wiki/Café"]
    assert [entry.key for entry in store.search("lamp tow")] == ["/wiki/Lighthouse"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        '"',
        "'",
        "*",
        "a OR",
        "NEAR(",
        "title:",
        "(",
        "-",
        "^",
        "a AND NOT b",
        "灯台",
        "x" * 5000,
        "\0",
        "% _",
    ],
)
def test_any_text_can_be_searched_for(store: PageStore, text: str) -> None:
    save(store, new_page())
    assert isinstance(store.search(text), list)


def test_pages_are_listed_by_title_and_time(store: PageStore) -> None:
    assert store.random() is None and store.recent() == [] and store.count() == 0
    for name in ("b", "A", "c"):
        save(store, new_page(f"/wiki/{name}", title=name))
    assert [entry.title for entry in store.all()] == ["A", "b", "c"]
    assert [entry.title for entry in store.recent(2)] == ["c", "A"]
    assert store.random() is not None
    assert store.exists([f"/wiki/{i}" for i in range(1200)] + ["/wiki/A"]) == {"/wiki/A"}


def test_a_snippet_ends_at_a_word(store: PageStore) -> None:
    save(store, new_page(text="word " * 100))
    assert store.recent()[0].snippet.endswith("word…") and len(store.recent()[0].snippet) <= 240


def num_rows(store: PageStore, *tables: str) -> int:
    return sum(store.database.read(f"SELECT count(*) FROM {table}")[0][0] for table in tables)


def test_variants_of_a_page_are_counted_and_others_are_not(store: PageStore) -> None:
    for key in (KEY, f"{KEY}#vary=de", f"{KEY}#vary=fr", f"{KEY}2#vary=de", f"{KEY}%23vary=de", f"{KEY}?a=1#vary=de"):
        save(store, new_page(key))
    assert store.count_variants(KEY) == 2
    assert store.count_variants(f"{KEY}?a=1") == 1
    assert store.count_variants("/wiki") == 0


def test_the_age_of_a_text_is_that_of_its_last_change(store: PageStore) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)

    def add(days: int, change: Change) -> None:
        save(store, replace(new_page(), change=change, written_at=start + timedelta(days=days)))

    add(0, Change())
    for days in range(1, 40):  # more than are read at a time
        add(days, Change("refreshed", base=days, regions=("news",)))
    add(40, Change("by hand", base=40, regions=("lead",)))
    stored = store.get(KEY)
    assert stored is not None
    canvas = stored.canvases["body"]
    stored = replace(stored, canvases=dict.fromkeys(("body", "news", "lead", "facts"), canvas))
    canvases: dict[str, Any] = {
        name: Canvas("Words.", fresh=timedelta(days=5)) for name in ("body", "news", "lead", "new")
    }
    page_request = SimpleNamespace(route=SimpleNamespace(fresh=None), page=Page(**canvases, facts=Canvas("Words.")))
    freshness = freshness_of(page_request, stored, store)  # type: ignore[arg-type]
    assert freshness is not None
    assert freshness.as_of == start and freshness.expires_at == (start + timedelta(days=5)).timestamp()
    assert freshness.stale_at.keys() == {"body", "news"}
    assert freshness.stale_at["news"] == (start + timedelta(days=44)).timestamp()


def test_deleting_a_page_deletes_everything_of_it(store: PageStore) -> None:
    save(store, new_page(links=(Link("/wiki/Sea", "sea", "The sea."),)))
    save(store, new_page(text="Again."))
    assert asyncio.run(store.delete(KEY)) is True
    assert asyncio.run(store.delete(KEY)) is False
    assert num_rows(store, "pages", "versions", "canvases", "links", "search", "canvas_values") == 0


def test_a_page_is_deleted_with_its_variants(store: PageStore) -> None:
    others = [f"{KEY}2#vary=de", f"{KEY}-fr", "/wiki"]
    for key in (KEY, f"{KEY}#vary=de", f"{KEY}#vary=fr", f"{KEY}#vary=en", *others):
        save(store, new_page(key=key))
    assert asyncio.run(store.delete_with_variants(f"{KEY}#vary=fr")) == 1 and store.exists([KEY, f"{KEY}#vary=de"])
    assert store.count_variants(KEY) == 2
    assert asyncio.run(store.delete_with_variants(KEY)) == 3
    assert asyncio.run(store.delete_with_variants(KEY)) == 0
    assert {page.key for page in store.all(-1)} == set(others) and num_rows(store, "versions", "canvases") == 6


def test_data_version_changes_when_any_connection_writes(store: PageStore, location: Location) -> None:
    before = store.data_version()
    assert store.data_version() == before
    save(store, new_page())
    assert store.data_version() != before
    other = PageStore(location)
    before = store.data_version()
    save(other, new_page("/wiki/Other"))
    wait_for(lambda: store.data_version() != before)
    other.close()


def test_a_failed_save_writes_nothing(store: PageStore) -> None:
    save(store, new_page(text="The first."))
    twice = StoredCanvas("body", "text", "", "x", 1, 1, 1, 1, 0.1, "end")
    page = new_page(text="The second.")
    broken = PageWrite(page.key, page.title, page.text, "h", page.provenance, (twice, twice), ())
    with pytest.raises(StoreError):
        save(store, broken)
    stored = store.get(KEY)
    assert stored is not None and stored.canvases["body"].text == "The first." and stored.versions == 1
    save(store, page)  # and the next one is stored
    assert num_rows(store, "versions") == 2


def test_many_readers_and_a_writer(store: PageStore) -> None:
    def read(_: int) -> int:
        return sum(store.count() >= 0 and bool(store.data_version()) for _ in range(50))

    with ThreadPoolExecutor(4) as pool:
        readers = pool.map(read, range(4))
        for i in range(30):
            save(store, new_page(f"/wiki/{i}"))
        assert sum(readers) == 200
    assert store.count() == 30


# -- errors ------------------------------------------------------------------------------------------


def test_a_file_that_is_not_a_database_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "pages.db"
    file.write_bytes(b"This is a letter and not a database. " * 100)
    with pytest.raises(UnknownDatabase, match=r"is not a database, or is damaged.*--database"):
        PageStore(file)
    assert file.read_bytes().startswith(b"This is a letter")


def test_a_database_of_another_program_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "pages.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE invoices (id)")
    connection.close()
    with pytest.raises(UnknownDatabase, match=r"another program \(it has the table 'invoices'\).*--database"):
        PageStore(file)


def test_a_database_of_a_newer_version_is_an_error(tmp_path: Path) -> None:
    PageStore(tmp_path / "pages.db").close()
    with sqlite3.connect(tmp_path / "pages.db") as connection:
        connection.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('unwritten', 'm999_later', 'x')"
        )
    connection.close()
    with pytest.raises(UnknownDatabase, match=r"newer version of Unwritten \(m999_later\).*pip install --upgrade"):
        PageStore(tmp_path / "pages.db")


def test_a_folder_instead_of_the_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "pages.db").mkdir()
    with pytest.raises(StoreError, match="is a folder"):
        PageStore(tmp_path / "pages.db")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot be created"):
        PageStore(tmp_path / "file" / "pages.db")


def test_a_damaged_database_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "pages.db"
    store = PageStore(file)
    for i in range(50):
        save(store, new_page(f"/wiki/{i}", "words " * 200))
    store.close()
    content = bytearray(file.read_bytes())
    content[4096:] = b"\x55" * (len(content) - 4096)
    file.write_bytes(content)
    with pytest.raises(UnknownDatabase, match="damaged"):
        damaged = PageStore(file)
        try:
            damaged.recent()
        finally:
            damaged.close()


def test_a_closed_store_raises(store: PageStore) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreError, match="has been closed"):
        store.count()
    with pytest.raises(StoreError, match="has been closed"):
        save(store, new_page())


def test_many_programs_may_open_a_new_database_at_once(setting: str) -> None:
    code = (
        "import sys; from unwritten.storage.pages import PageStore; from unwritten.storage.location import *; "
        "sys.stdin.readline(); s = PageStore(parse_location(sys.argv[1])); print(s.count()); s.close()"
    )
    command = [sys.executable, "-c", code, setting]
    pipe = subprocess.PIPE
    programs = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(3)]
    for program in programs:
        assert program.stdin is not None
        program.stdin.write("\n")
        program.stdin.flush()
    said = [program.communicate(timeout=25) for program in programs]
    assert [out for out, _ in said] == ["0\n"] * 3, said


def test_a_locked_database_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten.storage.sqlite.LOCK_TIMEOUT", 0.1)
    store = PageStore(tmp_path / "pages.db")
    other = sqlite3.connect(tmp_path / "pages.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreLocked, match="is locked by another program"):
        save(store, new_page())
    assert store.count() == 0  # pages can still be read
    other.execute("ROLLBACK")
    save(store, new_page())
    other.close()
    store.close()


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    store = PageStore(tmp_path / "pages.db")
    save(store, new_page())
    (size,) = store.database.read("PRAGMA page_count")[0]
    store.database.write_sync(lambda connection: connection.execute(f"PRAGMA max_page_count = {size}"))
    with pytest.raises(StoreFull, match=r"disk is full.*Free some space"):
        save(store, new_page("/wiki/Big", "word " * 100_000))
    assert store.count() == 1 and store.get(KEY) is not None
    store.database.write_sync(lambda connection: connection.execute("PRAGMA max_page_count = 1000000"))
    save(store, new_page("/wiki/Big", "word " * 100_000))
    store.close()


def test_a_page_that_cannot_be_stored_yet_is_shown_and_stored_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unwritten.storage.sqlite.LOCK_TIMEOUT", 0.1)
    monkeypatch.setattr("unwritten.generation.job_queue._STORE_RETRY_SECONDS", (0.2,))
    engine = scripted(LIGHTHOUSE)
    with browser(make_wiki(tmp_path, engine)) as client:
        other = sqlite3.connect(tmp_path / "pages.db", isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        client.get(KEY)
        with client.websocket_connect("/_unwritten/live") as ws:
            watch(ws, KEY)
            message = until(ws, type="page", state="written")[-1]
            assert message["message"].startswith("Not saved yet. The database")
            page = client.get(KEY).text
            assert "bright lamp" in inner(page, "body") and "skeleton" not in page
            assert "Not saved yet" in page
            other.execute("ROLLBACK")
            until(ws, type="page", state="written", message="")
        wait_for(lambda: client.app.store.count() == 1)  # type: ignore[attr-defined]
        assert "Not saved yet" not in client.get(KEY).text
        other.close()
    assert len(engine.requests) == 1


def test_closing_the_server_retries_to_store_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten.storage.sqlite.LOCK_TIMEOUT", 0.3)
    monkeypatch.setattr("unwritten.generation.job_queue.LOCK_TIMEOUT", 0.0)
    with browser(make_wiki(tmp_path, scripted(LIGHTHOUSE))) as client:
        other = sqlite3.connect(tmp_path / "pages.db", isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        client.get(KEY)
        with client.websocket_connect("/_unwritten/live") as ws:
            watch(ws, KEY)
            until(ws, type="page", state="written")
        threading.Timer(0.5, lambda: other.execute("ROLLBACK")).start()
    other.close()
    assert [row["key"] for row in tables(tmp_path / "pages.db")["pages"]] == [KEY]


def test_a_page_is_generated_while_it_is_unknown_which_links_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(store: PageStore, keys: object) -> set[str]:
        raise StoreError("The database does not respond.")

    with browser(make_wiki(tmp_path, scripted(LIGHTHOUSE))) as client:
        monkeypatch.setattr(PageStore, "exists", fail)
        assert write(client, KEY)[-1]["state"] == "written"
        wait_for(lambda: client.app.store.count() == 1)  # type: ignore[attr-defined]


def test_a_conflict_while_the_database_fails_loses_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten.generation.job_queue._STORE_RETRY_SECONDS", (0.05,))
    problems: list[Exception] = [EditConflict("It has changed."), StoreError("It does not respond.")]
    save_page, get = PageStore.save, PageStore.get

    async def failing_save(store: PageStore, page: PageWrite) -> StoredPage:
        if len(problems) == 2:
            raise problems.pop(0)
        return await save_page(store, page)

    def failing_get(store: PageStore, key: str, version: int | None = None) -> StoredPage | None:
        if len(problems) == 1:
            raise problems.pop(0)
        return get(store, key, version)

    monkeypatch.setattr(PageStore, "save", failing_save)
    monkeypatch.setattr(PageStore, "get", failing_get)
    with browser(make_wiki(tmp_path, scripted(LIGHTHOUSE))) as client:
        client.get(KEY)
        wait_for(lambda: client.app.store.count() == 1)  # type: ignore[attr-defined]
    assert problems == []
