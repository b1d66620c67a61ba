"""Stored pages and values as authors see them: lists have only the pages that the audience may read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from ..storage.pages import LinkNode, PageStore
from ..storage.records import PageSummary
from ..storage.values import Source, ValueStore
from .access import MAX_LISTED, PageAccess


class ReadableStore(PageStore):
    """The stored pages, with lists for the audience of the running code; see ``routing.audience``.

    A page that is requested by its key is returned for every audience.
    """

    def __init__(self, store: PageStore, access: PageAccess) -> None:
        vars(self).update(vars(store))  # it shares the open database
        self._all = store
        self._access = access

    def recent(self, limit: int = 10) -> list[PageSummary]:
        """See ``PageStore.recent``."""
        return self._listed(self._all.recent, limit)

    def all(self, limit: int = 1000, offset: int = 0) -> list[PageSummary]:
        """See ``PageStore.all``."""
        found = self._readable(self._all.all(-1))[offset:]
        return found if limit < 0 else found[:limit]

    def random(self) -> PageSummary | None:
        """See ``PageStore.random``."""
        for _ in range(8):
            found = self._all.random()
            if found is None or self._readable([found]):
                return found
        return None

    def search(self, text: str, limit: int = 20) -> list[PageSummary]:
        """See ``PageStore.search``."""
        return self._listed(lambda number: self._all.search(text, number), limit)

    def links_to(self, key: str, limit: int = 50) -> list[PageSummary]:
        """See ``PageStore.links_to``."""
        return self._listed(lambda number: self._all.links_to(key, number), limit)

    def link_graph(self, limit: int = 150, prefix: str = "/") -> list[LinkNode]:
        """See ``PageStore.link_graph``. Links on pages that the audience may not read are left out."""
        nodes = self._all.link_graph(MAX_LISTED, prefix)
        readable = self._access.readable_now([node.key for node in nodes if node.written])
        shown = {node.key: node for node in nodes if node.key in readable}
        backlinks = Counter(target for node in shown.values() for target in node.links if target != node.key)
        unwritten = [node for node in nodes if not node.written and backlinks[node.key]]
        ranked = sorted(
            [*shown.values(), *unwritten], key=lambda node: (not node.written, -backlinks[node.key], node.key)
        )
        keys = {node.key for node in ranked[:limit]}
        return [
            replace(node, backlinks=backlinks[node.key], links=tuple(link for link in node.links if link in keys))
            for node in ranked[:limit]
        ]

    def missing_pages(self, limit: int = 50, prefix: str = "/") -> list[LinkNode]:
        """See ``PageStore.missing_pages``. Links on pages that the audience may not read are left out."""
        return [node for node in self.link_graph(MAX_LISTED, prefix) if not node.written][:limit]

    def _listed(self, read: Callable[[int], Sequence[PageSummary]], limit: int) -> list[PageSummary]:
        """Return the first entries that the audience may read."""
        number = max(limit, 1)
        while True:
            entries = read(min(number, MAX_LISTED))
            found = self._readable(entries)
            if len(found) >= limit or len(entries) < number or number >= MAX_LISTED:
                return found[:limit]
            number *= 4

    def _readable(self, entries: Sequence[PageSummary]) -> list[PageSummary]:
        readable = self._access.readable_now([entry.key for entry in entries])
        return [entry for entry in entries if entry.key in readable]


def readable_values(
    values: ValueStore, access: PageAccess, schema: type[Any] | str, limit: int
) -> list[tuple[Source, Any]]:
    """Return the newest values of a schema on pages that the audience may read; see ``ValueStore.all``."""
    if not access.limits_lists:
        return values.all(schema, limit)
    found = values.all(schema, MAX_LISTED)
    readable = access.readable_now([source.key for source, _ in found])
    return [(source, value) for source, value in found if source.key in readable][:limit]


class HasKey(Protocol):
    """An object with the key of a page, such as an entry of a list of ``app.store``."""

    @property
    def key(self) -> str:
        """The page's key."""
        raise NotImplementedError
