"""Stored pages and values as authors see them: lists have only the pages that the audience may read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from ..core.paths import url_of_key
from ..formats.links import Link
from ..storage.aliases import AliasStore
from ..storage.pages import LinkNode, PageStore
from ..storage.records import PageSummary, StoredPage, Version
from ..storage.values import Source, ValueStore
from .access import MAX_LISTED, MAX_READ, PageAccess

E = TypeVar("E")


class StoredPages:
    """The stored pages: ``app.store``.

    Where not everyone may read all pages, lists have only those that the reader may read: in page functions and
    templates the pages that everyone may read, in other routes and actions those of the visitor. Scripts and hooks see
    all pages. A page that is requested by its key is returned to everyone: check who asks.
    """

    def __init__(self, store: PageStore, access: PageAccess, aliases: AliasStore) -> None:
        self._store = store
        self._aliases = aliases
        self._access = access

    # -- one page -----------------------------------------------------------------------------------------

    def get(self, key: str, version: int | None = None) -> StoredPage | None:
        """Return a page with its texts, or None if it is not stored.

        Args:
            key: The page's key.
            version: The number of a version. None: the current one.
        """
        return self._store.get(key, version)

    def exists(self, keys: Collection[str]) -> set[str]:
        """Return those of these keys whose pages are stored."""
        return self._store.exists(keys)

    def history(self, key: str, limit: int = 1000, before: int | None = None) -> list[Version]:
        """Return the versions of a page, the newest first.

        Args:
            key: The page's key.
            limit: The largest number of versions.
            before: Only versions with lower numbers. None: all.
        """
        return self._store.history(key, limit, before)

    # -- lists of pages -----------------------------------------------------------------------------------

    def count(self) -> int:
        """Return the number of all stored pages."""
        return self._store.count()

    def recent(self, limit: int = 10) -> list[PageSummary]:
        """Return the pages stored last, the newest first."""
        return self._listed(self._store.recent, limit)

    def all(self, limit: int = 1000, offset: int = 0) -> list[PageSummary]:
        """Return pages ordered by title. A limit of -1 returns all."""
        if not self._access.limits_lists:
            return self._store.all(limit, offset)
        found = self._readable(self._store.all(-1))[offset:]
        return found if limit < 0 else found[:limit]

    def random(self) -> PageSummary | None:
        """Return a random page, or None if there is none."""
        for _ in range(8):
            found = self._store.random()
            if found is None or self._readable([found]):
                return found
        return None

    def search(self, text: str, limit: int = 20) -> list[PageSummary]:
        """Return pages that contain all these words in title, text or values, the best match first.

        The last word may be the beginning of a word. The snippet is the match.
        """
        return self._listed(lambda number: self._store.search(text, number), limit)

    # -- links --------------------------------------------------------------------------------------------

    def links_from(self, key: str) -> list[Link]:
        """Return the links on a page, in order: the key that each leads to, its text, and the sentence around it."""
        return self._store.links_from(key)

    def links_to(self, key: str, limit: int = 50) -> list[PageSummary]:
        """Return the pages that link to this one ("what links here"). The snippet is the sentence of the link."""
        return self._listed(lambda number: self._store.links_to(key, number), limit)

    def link_graph(self, limit: int = 150, prefix: str = "/") -> list[LinkNode]:
        """Return pages with the links between them: written ones first, then those with the most backlinks.

        Args:
            limit: The largest number of pages.
            prefix: Only keys that begin with this, such as ``/wiki/``.
        """
        if not self._access.limits_lists:
            return self._store.link_graph(limit, prefix)
        nodes = self._store.link_graph(MAX_LISTED, prefix)
        # A page names what it links to, written or not. But a link to an alias does not name the page behind it.
        targets = {target for _, target in self._aliases.all()}
        readable = self._access.readable_now([node.key for node in nodes if node.written or node.key in targets])
        shown = {node.key: node for node in nodes if node.written and node.key in readable}
        backlinks = Counter(target for node in shown.values() for target in node.links if target != node.key)
        unwritten = [
            node
            for node in nodes
            if not node.written and backlinks[node.key] and (node.key in readable or node.key not in targets)
        ]
        ranked = sorted(
            [*shown.values(), *unwritten], key=lambda node: (not node.written, -backlinks[node.key], node.key)
        )
        keys = {node.key for node in ranked[:limit]}
        return [
            replace(node, backlinks=backlinks[node.key], links=tuple(link for link in node.links if link in keys))
            for node in ranked[:limit]
        ]

    def missing_pages(self, limit: int = 50, prefix: str = "/") -> list[LinkNode]:
        """Return pages that are linked to but not written, those with the most backlinks first.

        Args:
            limit: The largest number of pages.
            prefix: Only keys that begin with this, such as ``/wiki/``.
        """
        if not self._access.limits_lists:
            return self._store.missing_pages(limit, prefix)
        return [node for node in self.link_graph(MAX_LISTED, prefix) if not node.written][:limit]

    def _listed(self, read: Callable[[int], Sequence[PageSummary]], limit: int) -> list[PageSummary]:
        """Return the first entries that the audience may read."""
        if not self._access.limits_lists:
            return [*read(limit)]
        return _first_readable(self._access, read, lambda entry: entry.key, limit)

    def _readable(self, entries: Sequence[PageSummary]) -> list[PageSummary]:
        readable = self._access.readable_now([entry.key for entry in entries])
        return [entry for entry in entries if entry.key in readable]


def readable_values(
    values: ValueStore, access: PageAccess, schema: type[Any] | str, limit: int
) -> list[tuple[Source, Any]]:
    """Return the newest values of a schema on pages that the audience may read; see ``ValueStore.all``."""
    if not access.limits_lists:
        return values.all(schema, limit)
    return _first_readable(access, lambda number: values.all(schema, number), lambda entry: entry[0].key, limit)


def _first_readable(
    access: PageAccess, read: Callable[[int], Sequence[E]], key_of: Callable[[E], str], limit: int
) -> list[E]:
    """Return the first entries of a list whose pages the audience may read.

    Args:
        access: Decides what the audience may read.
        read: Returns this many entries of the list.
        key_of: Returns the key of an entry's page.
        limit: The largest number of entries.
    """
    number = max(limit, 1)
    while True:
        entries = read(min(number, MAX_READ))
        keys = [key_of(entry) for entry in entries]
        readable = access.readable_now(keys)
        found = [entry for entry, key in zip(entries, keys, strict=True) if key in readable]
        if len(found) >= limit or len(entries) < number or not may_have_more(keys):
            return found[:limit]
        number *= 4


def may_have_more(keys: Sequence[str]) -> bool:
    """True if pages after these keys of a list may be shown: not all that are checked were among them."""
    return len(keys) < MAX_READ and len(set(map(url_of_key, keys))) < MAX_LISTED


class HasKey(Protocol):
    """An object with the key of a page, such as an entry of a list of ``app.store``."""

    @property
    def key(self) -> str:
        """The page's key."""
        raise NotImplementedError
