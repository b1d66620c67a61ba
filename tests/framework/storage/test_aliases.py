"""Aliases in the database: keys that are other names of pages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest

from unwritten.core.errors import BadAlias
from unwritten.formats.links import Link
from unwritten.storage.aliases import AliasStore
from unwritten.storage.location import Location
from unwritten.storage.pages import PageStore
from unwritten.storage.records import PageWrite, Provenance, StoredCanvas

CAPTAIN, SARAH = "/wiki/The_Captain", "/wiki/Captain_Sarah"


@pytest.fixture
def store(location: Location) -> Iterator[PageStore]:
    """Return an empty store."""
    store = PageStore(location)
    yield store
    store.close()


@pytest.fixture
def aliases(store: PageStore) -> AliasStore:
    """Return the aliases of the store."""
    return AliasStore(store.database)


def save(store: PageStore, key: str, *links: Link) -> None:
    """Store a page with links."""
    canvas = StoredCanvas("body", "markdown", "{}", "A text.", 7, 5, 5, 1, 0.5, "end")
    provenance = Provenance("a script", "scripted", 7, 5, 5, 1, 0.5, "end")
    asyncio.run(store.save(PageWrite(key, key.rsplit("/")[-1], "A text.", "hash", provenance, (canvas,), links)))


def test_an_alias_leads_to_its_page_until_it_is_removed(aliases: AliasStore) -> None:
    assert aliases.target(CAPTAIN) is None
    assert asyncio.run(aliases.add(CAPTAIN, SARAH)) == SARAH
    assert asyncio.run(aliases.add(CAPTAIN, SARAH)) == SARAH  # again
    assert (aliases.target(CAPTAIN), aliases.of(SARAH), aliases.target(SARAH)) == (SARAH, [CAPTAIN], None)
    assert asyncio.run(aliases.remove(CAPTAIN)) == SARAH
    assert aliases.all() == []
    with pytest.raises(BadAlias, match="not another name"):
        asyncio.run(aliases.remove(CAPTAIN))


def test_a_page_with_variants_is_no_alias_until_they_are_deleted(store: PageStore, aliases: AliasStore) -> None:
    save(store, f"{CAPTAIN}#vary=de")
    with pytest.raises(BadAlias, match="is a stored page"):
        asyncio.run(aliases.add(CAPTAIN, SARAH))
    asyncio.run(store.replace_with_alias(CAPTAIN, SARAH))
    assert aliases.all() == [(CAPTAIN, SARAH)] and store.count() == 0


def test_another_process_sees_the_change(store: PageStore, aliases: AliasStore, location: Location) -> None:
    other = PageStore(location)
    try:
        assert aliases.all() == []
        asyncio.run(AliasStore(other.database).add(CAPTAIN, SARAH))
        assert aliases.all() == [(CAPTAIN, SARAH)]
    finally:
        other.close()


def test_aliases_never_lead_to_aliases(aliases: AliasStore) -> None:
    asyncio.run(aliases.add("/a", "/b"))
    assert asyncio.run(aliases.add("/b", "/c")) == "/c"
    assert asyncio.run(aliases.add("/z", "/a")) == "/c"
    assert dict(aliases.all()) == {"/a": "/c", "/b": "/c", "/z": "/c"}


@pytest.mark.parametrize(
    ("alias", "target", "message"),
    [
        ("/a", "/a", "itself"),
        ("/c", "/a", "is another name of /c, so"),
        ("/a", "/d", "already. Remove that first"),
        ("/stored", "/c", "is a stored page.*unwritten pages alias /stored /c --replace"),
    ],
)
def test_impossible_aliases_are_refused(
    store: PageStore, aliases: AliasStore, alias: str, target: str, message: str
) -> None:
    save(store, "/stored")
    asyncio.run(aliases.add("/a", "/b"))
    asyncio.run(aliases.add("/b", "/c"))
    before = aliases.all()
    with pytest.raises(BadAlias, match=message):
        asyncio.run(aliases.add(alias, target))
    assert aliases.all() == before


def test_a_page_is_replaced_as_a_whole_or_not_at_all(store: PageStore, aliases: AliasStore) -> None:
    save(store, "/stored", Link("/x", "x", "x"))
    with pytest.raises(BadAlias, match="itself"):
        asyncio.run(store.replace_with_alias("/stored", "/stored"))
    assert store.exists(["/stored"])
    asyncio.run(store.replace_with_alias("/stored", "/c"))
    assert not store.exists(["/stored"])
    assert aliases.all() == [("/stored", "/c")]


def test_declared_aliases_replace_those_declared_before(
    store: PageStore, aliases: AliasStore, caplog: pytest.LogCaptureFixture
) -> None:
    asyncio.run(aliases.add("/by/hand", "/c"))
    save(store, "/stored")
    aliases.declare({"/a": "/c", "/b": "/c"})
    with caplog.at_level(logging.WARNING, "unwritten"):
        aliases.declare({"/b": "/d", "/stored": "/c"})
    assert aliases.all() == [("/b", "/d"), ("/by/hand", "/c")]
    with pytest.raises(BadAlias, match="declared in the app's code"):
        asyncio.run(aliases.remove("/b"))
    assert "'/stored'" in caplog.text or "/stored is a stored page" in caplog.text


def test_links_to_an_alias_count_as_links_to_the_page(store: PageStore, aliases: AliasStore) -> None:
    save(store, "/home", Link(CAPTAIN, "the captain", "The captain sails."), Link("/x", "x", "x"))
    save(store, SARAH)
    asyncio.run(aliases.add(CAPTAIN, SARAH))
    assert [page.key for page in store.links_to(SARAH)] == ["/home"]
    assert store.link("/home", SARAH) == Link(CAPTAIN, "the captain", "The captain sails.")
    assert [page.key for page in store.missing_pages()] == ["/x"]
    graph = {node.key: node for node in store.link_graph()}
    assert CAPTAIN not in graph
    assert (graph[SARAH].backlinks, graph["/home"].links) == (1, (SARAH, "/x"))


def test_a_page_that_links_twice_is_listed_once(store: PageStore, aliases: AliasStore) -> None:
    save(store, "/home", Link(SARAH, "Sarah", "Sarah sails."), Link(CAPTAIN, "the captain", "The captain sails."))
    asyncio.run(aliases.add(CAPTAIN, SARAH))
    assert [(page.key, page.snippet) for page in store.links_to(SARAH)] == [("/home", "Sarah sails.")]
    assert {node.key: node.backlinks for node in store.link_graph()} == {"/home": 0, SARAH: 1}
