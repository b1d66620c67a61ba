"""PostgreSQL: faults of the server and of connections, and messages that say what to do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import BaseModel
from tests.framework.storage.test_pages import KEY, new_page, save
from tests.support.apps import LIGHTHOUSE, browser, make_wiki, write
from tests.support.postgres import PostgresServer, Proxy
from tests.support.servers import free_port, wait_for

from unwritten.core.errors import BadSetting, StoreError, StoreFull, UnknownDatabase
from unwritten.storage import postgres as module
from unwritten.storage.database import Database
from unwritten.storage.location import PostgresURL, parse_location
from unwritten.storage.open import open_database
from unwritten.storage.pages import PageStore
from unwritten.storage.tables import Table, Tables
from unwritten.storage.transactions import Transaction, table_access
from unwritten_engine import scripted


@pytest.fixture
def schema(postgres: PostgresServer) -> str:
    return postgres.new_schema()


@pytest.fixture
def url(postgres: PostgresServer, schema: str) -> PostgresURL:
    return PostgresURL(postgres.url(schema))


@contextlib.contextmanager
def opened(url: PostgresURL) -> Iterator[PageStore]:
    store = PageStore(url)
    try:
        yield store
    finally:
        store.close()


def refusal(url: str | PostgresURL) -> str:
    """Return the message with which a database is refused."""
    with pytest.raises(StoreError) as caught:
        open_database(PostgresURL(url) if isinstance(url, str) else url)
    return str(caught.value)


# -- opening ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://ada:s3cret@db.example:5432/wiki", "postgresql://ada@db.example:5432/wiki"),
        ("postgres://ada:s3cret@db.example/wiki?sslmode=require", "postgres://ada@db.example/wiki?sslmode=require"),
        ("postgresql:///wiki?host=/run/pg&password=s3cret", "postgresql:///wiki?host=/run/pg"),
        ("postgresql://ada:s3cret/x@db.example/wiki", "postgresql://…"),
        ("postgresql://ada:s3cret#x@db.example/wiki", "postgresql://…"),
        ("POSTGRESQL://ada:s3cret@db.example/wiki", "postgresql://ada@db.example/wiki"),
    ],
)
def test_a_password_is_never_shown(text: str, shown: str) -> None:
    location = parse_location(text)
    assert str(location) == shown and "s3cret" not in repr(location)


@pytest.mark.parametrize("password", ["s3cret", "s3cret@x", "s3cret/x", "s3cret#x", "s3cret:x", "s3cret?x", "s3cret[x"])
def test_an_error_never_shows_the_password(password: str, caplog: pytest.LogCaptureFixture) -> None:
    message = refusal(f"postgresql://ada:{password}@127.0.0.1:{free_port()}/wiki?connect_timeout=2")
    assert "s3cret" not in message + caplog.text


def test_other_databases_are_refused() -> None:
    with pytest.raises(BadSetting, match=r"'mysql' are not supported. Name a SQLite file, or postgresql://"):
        parse_location("mysql://host/wiki")
    with pytest.raises(BadSetting, match=r"named by its file, without sqlite://"):
        parse_location("sqlite:///pages.db")


def test_a_database_that_cannot_be_used_is_refused_with_the_reason(postgres: PostgresServer) -> None:
    assert "cannot be reached" in refusal(f"postgresql://ada@127.0.0.1:{free_port()}/wiki")
    assert "There is no database 'nowhere'" in refusal(postgres.url(database="nowhere"))
    assert "refuses this user" in refusal(postgres.url(user="nobody"))
    assert "is not valid. It has this form" in refusal("postgresql://127.0.0.1:port/wiki")
    assert "the search path leads to none" in refusal(postgres.url("missing"))


LATER_CHANGES = (
    "DROP INDEX pages_variants",
    "ALTER TABLE search DROP COLUMN value",
    "DROP TABLE uploads",
    "DROP TABLE aliases",
    "ALTER TABLE links DROP COLUMN gist",
)
"""Statements that take back the migrations after the first."""


def test_a_database_of_an_earlier_version_is_migrated(postgres: PostgresServer, schema: str, url: PostgresURL) -> None:
    with opened(url) as store:
        save(store, new_page())
    for statement in (
        *LATER_CHANGES,
        "INSERT INTO canvas_values SELECT id, 'facts', 'Facts', '{\"founded\":1720}', true, 1, '' FROM pages",
        "DELETE FROM unwritten_migrations WHERE name >= 'p002'",
    ):
        postgres.execute(f"SET search_path = {schema}; {statement}")
    with opened(url) as store:
        assert [page.key for page in store.search("1720")] == [KEY] and store.search("founded") == []


def test_tables_of_another_program_are_refused(postgres: PostgresServer, schema: str, url: PostgresURL) -> None:
    postgres.execute(f"CREATE TABLE {schema}.pages (id int)")
    assert "has a table 'pages' of another program" in refusal(url)
    postgres.execute(f"ALTER TABLE {schema}.pages RENAME TO invoices")
    with opened(url) as store:
        assert store.count() == 0, "tables with other names do no harm"


def test_a_database_of_an_earlier_version_gets_the_later_migrations(
    postgres: PostgresServer, schema: str, url: PostgresURL
) -> None:
    with opened(url) as store:
        save(store, new_page(f"{KEY}#vary=de"))
    for statement in (*LATER_CHANGES, "DELETE FROM unwritten_migrations WHERE name <> 'p001_initial'"):
        postgres.execute(f"SET search_path = {schema}; {statement}")
    with opened(url) as store:
        assert store.count_variants(KEY) == 1
        plan = store.database.read("SELECT indexname FROM pg_indexes WHERE schemaname = ?", (schema,))
    assert ("pages_variants",) in [tuple(row) for row in plan]


def test_a_newer_version_and_missing_rights_are_refused(
    postgres: PostgresServer, schema: str, url: PostgresURL
) -> None:
    postgres.execute("CREATE ROLE visitor LOGIN")
    postgres.execute(f"GRANT USAGE ON SCHEMA {schema} TO visitor")
    assert "GRANT CREATE, USAGE ON SCHEMA" in refusal(postgres.url(schema, user="visitor"))
    PageStore(url).close()
    postgres.execute(f"INSERT INTO {schema}.unwritten_migrations VALUES ('p999_later', 'x')")
    assert "newer version of Unwritten (p999_later)" in refusal(url)


# -- connections that break -------------------------------------------------------------------------------------------


def test_a_restart_of_the_server_between_requests_is_not_noticed(
    postgres: PostgresServer, schema: str, url: PostgresURL
) -> None:
    with opened(url) as store:
        save(store, new_page())
        for _ in range(2):
            postgres.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE 'unwritten%'"
            )
            wait_for(lambda: not store.database._is_away)  # type: ignore[attr-defined]
            assert store.count() == 1
            postgres.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE 'unwritten%'"
            )
            wait_for(lambda: not store.database._is_away)  # type: ignore[attr-defined]
            save(store, new_page(text="Again."))
        assert len(store.history(KEY)) == 3


def test_while_the_server_is_away_everything_fails_at_once_and_then_works_again(
    postgres: PostgresServer, url: PostgresURL
) -> None:
    with opened(url) as store:
        save(store, new_page())
        postgres.stop(crash=True)
        try:
            with pytest.raises(StoreError):
                store.count()
            started = time.monotonic()
            for _ in range(100):
                with pytest.raises(StoreError, match="does not respond"):
                    store.count()
                with pytest.raises(StoreError, match="does not respond"):
                    save(store, new_page("/wiki/Other"))
            assert time.monotonic() - started < 20
        finally:
            postgres.start()
        wait_for(lambda: not store.database._is_away)  # type: ignore[attr-defined]
        save(store, new_page("/wiki/Other"))
        assert store.count() == 2


def test_a_server_that_does_not_answer_delays_the_event_loop_once(
    postgres: PostgresServer, url: PostgresURL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOP_READ_TIMEOUT", 0.3)
    durations: list[float] = []

    async def read(store: PageStore) -> None:
        for _ in range(20):
            started = time.monotonic()
            with pytest.raises(StoreError, match="does not respond"):
                store.count()
            durations.append(time.monotonic() - started)

    with opened(url) as store:
        store.count()
        with postgres.paused():
            asyncio.run(read(store))
        wait_for(lambda: not store.database._is_away)  # type: ignore[attr-defined]
        assert store.count() == 0
    assert durations[0] > 0.2 and sum(durations[1:]) < 19 * 0.2, "only the first one waits"


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[Proxy]:
    proxy = Proxy(postgres.port)
    yield proxy
    proxy.close()


def test_a_page_is_stored_once_if_the_reply_to_its_commit_is_lost(
    postgres: PostgresServer, proxy: Proxy, schema: str
) -> None:
    with opened(PostgresURL(postgres.url(schema, port=proxy.port))) as store:
        proxy.lose_reply_to = b"COMMIT"
        save(store, new_page())
        assert proxy.num_lost == 1
        assert [version.number for version in store.history(KEY)] == [1]


def test_a_page_is_not_stored_if_the_connection_breaks_before_its_commit(
    postgres: PostgresServer, proxy: Proxy, schema: str
) -> None:
    with opened(PostgresURL(postgres.url(schema, port=proxy.port))) as store:
        proxy.lose_reply_to = b"INSERT INTO search"
        with pytest.raises(StoreError):
            save(store, new_page())
        wait_for(lambda: not store.database._is_away)  # type: ignore[attr-defined]
        save(store, new_page())
        assert proxy.num_lost == 1 and [version.number for version in store.history(KEY)] == [1]


def test_an_unknown_outcome_is_an_error_that_says_so(
    postgres: PostgresServer, proxy: Proxy, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMMIT_TIMEOUT", 0.3)
    with opened(PostgresURL(postgres.url(schema, port=proxy.port))) as store:
        store.count()
        transaction = store.database.begin()
        transaction.connection.execute("INSERT INTO world (name, value) VALUES ('a', '1')")
        proxy.lose_reply_to, proxy.is_open = b"COMMIT", False
        postgres.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE application_name LIKE 'unwritten%' AND state = 'idle'"
        )
        with pytest.raises(StoreError, match="it is not known whether it was saved"):
            transaction.commit()
        proxy.is_open = True


def test_a_page_that_is_generated_while_the_server_is_away_is_stored_later(
    postgres: PostgresServer, url: PostgresURL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unwritten.generation.job_queue._STORE_RETRY_SECONDS", (0.1,))
    engine = scripted(LIGHTHOUSE, delay=0.03)  # a second for a page
    with browser(make_wiki(tmp_path, engine, database=url.secret)) as client:
        write(client, "/wiki/Tower")
        wait_for(lambda: "bright" in client.get("/wiki/Tower").text and not client.app.site.jobs.get("/wiki/Tower"))  # type: ignore[attr-defined]
        assert client.get("/wiki/Tower").status_code == 200
        assert client.get(KEY).status_code == 200  # starts the page
        postgres.stop(crash=True)
        try:
            wait_for(lambda: client.get("/wiki/Unknown").status_code == 503)
            answer = client.get("/wiki/Unknown")
            assert answer.headers["retry-after"] and "Tower" not in answer.text
            assert client.get("/wiki/Tower").status_code == 200, "a page in memory is still served"
        finally:
            postgres.start()
        store = client.app.store  # type: ignore[attr-defined]

        def num_stored() -> int:
            with contextlib.suppress(StoreError):
                return len(store.history(KEY))
            return 0

        wait_for(lambda: num_stored() == 1)
        assert client.get(KEY).status_code == 200
        assert len(engine.requests) == 2 and num_stored() == 1


# -- several processes ------------------------------------------------------------------------------------------------


def test_two_processes_that_save_one_page_make_two_versions(url: PostgresURL) -> None:
    with opened(url) as one, opened(url) as two, ThreadPoolExecutor(2) as pool:
        for number in range(10):
            pages = [new_page(f"/wiki/{number}", text) for text in ("One.", "Two.")]
            list(pool.map(save, (one, two), pages))
            assert {version.number for version in one.history(f"/wiki/{number}")} == {1, 2}


def test_reads_are_outdated_when_another_process_writes_or_the_connection_was_lost(
    postgres: PostgresServer, url: PostgresURL
) -> None:
    with opened(url) as one, opened(url) as two:
        before = one.data_version()
        asyncio.run(two.database.write(lambda connection: None))
        two.database.write_sync(lambda connection: connection.execute("SELECT 1").fetchall())
        time.sleep(0.2)
        assert one.data_version() == before, "nothing was written"
        save(two, new_page())
        wait_for(lambda: one.data_version() != before)
        before = one.data_version()
        postgres.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE 'unwritten%'"
        )
        wait_for(lambda: one.data_version() != before)


# -- what PostgreSQL stores differently -------------------------------------------------------------------------------


def test_long_keys_and_texts_with_nul_are_stored(url: PostgresURL) -> None:
    key = "/wiki/" + "".join(f"%{number % 256:02X}" for number in range(0, 30_000, 7))
    with opened(url) as store:
        page = new_page(key, "A lamp\0.", title="A\0b")
        save(store, replace(page, links=(replace_target(key + "x"), replace_target(key + "x"))))
        stored = store.get(key)
        assert stored is not None and stored.title == "A\ufffdb" and stored.canvases["body"].text == "A lamp\ufffd."
        assert [found.key for found in store.links_to(key + "x")] == [key]
        assert store.search("\0") == [] and store.exists([key, "/\0"]) == {key}


def replace_target(target: str):  # type: ignore[no-untyped-def]
    from unwritten.formats.links import Link

    return Link(target, "text", "A sentence.")


class Note(BaseModel):
    id: int | None = None
    text: str
    a_field_with_a_long_name: str | None = None


def notes_of(database: Database, name: str) -> Table[Note]:
    tables = Tables()
    table = tables.add(Table(Note, name, index=["text", "a_field_with_a_long_name"]))
    tables.open(database)
    return table


def test_long_names_of_tables_and_long_texts_with_an_index(url: PostgresURL) -> None:
    with opened(url) as store:
        one, two = (notes_of(store.database, "n" * 58 + end) for end in "ab")
        text = "".join(map(chr, range(0x4E00, 0x4E00 + 9000)))
        one.insert(Note(text=text))
        assert (one.count(text=text), two.count()) == (1, 0)
        assert notes_of(store.database, "n" * 58 + "a").count() == 1


def test_explicit_ids_do_not_collide_with_later_ones(url: PostgresURL) -> None:
    with opened(url) as store:
        notes = notes_of(store.database, "note")
        ids = [notes.insert(Note(id=given, text="x")).id for given in (None, 2, None, 7, 5, None)]
        assert ids == [1, 2, 3, 7, 5, 8]


def test_a_failed_statement_is_never_followed_by_a_commit(url: PostgresURL) -> None:
    with opened(url) as store:
        notes = notes_of(store.database, "note")
        transaction = Transaction(store.database, "act")
        with table_access(transaction):
            notes.insert(Note(text="lost"))
            with contextlib.suppress(StoreError):
                transaction.execute(lambda connection: connection.execute("SELECT nothing"))
        with pytest.raises(StoreError, match="Nothing was saved"):
            transaction.commit()
        assert notes.count() == 0
        notes.insert(Note(text="kept"))
        assert notes.count() == 1


def test_a_full_disk_is_an_error(url: PostgresURL) -> None:
    from psycopg.errors import DiskFull

    with opened(url) as store:
        assert isinstance(store.database.store_error(DiskFull("could not extend file")), StoreFull)


def test_a_suspended_process_does_not_keep_the_lock(
    url: PostgresURL, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_SESSION", module._SESSION.replace("60000", "200"))
    with opened(url) as one, opened(url) as two, caplog.at_level(logging.ERROR):
        held = one.database.begin()
        save(two, new_page())  # waits until the server has ended the other session
        with pytest.raises(StoreError), one.database.translated_errors():
            held.connection.execute("SELECT 1")
        held.rollback()
        wait_for(lambda: not one.database._is_away)  # type: ignore[attr-defined]
        assert one.count() == 1


def test_a_read_only_server_and_an_unknown_database_are_told_apart(url: PostgresURL) -> None:
    with pytest.raises(StoreError, match="has no tables of this version"):
        open_database(url, read_only=True)
    PageStore(url).close()
    database = open_database(url, read_only=True)
    with pytest.raises(StoreError, match="--read-only"):
        database.write_sync(lambda connection: None)
    assert not isinstance(database, UnknownDatabase) and database.read("SELECT count(*) FROM pages") == [(0,)]
    database.close()
