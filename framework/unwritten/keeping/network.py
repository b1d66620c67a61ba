"""The network: which written pages there are, and where their links lead, written or not. For maps of what is written,
lists of what is wanted, and ways to the next page."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from ..showing.links import title_of
from .database import Database


@dataclass(frozen=True, slots=True)
class LinkNode:
    """A page that is written, or that a link leads to.

    Attributes:
        key: its canonical URL.
        title: its title; of an unwritten one, as its address says it.
        written: whether it is written.
        linked: how many other pages link to it.
        links: the keys of other nodes of the network to which it links, in order.
    """

    key: str
    title: str
    written: bool
    linked: int
    links: tuple[str, ...] = ()


def link_graph(database: Database, limit: int, under: str) -> list[LinkNode]:
    """Pages with the links between them: written ones first, and of each kind the most linked first.

    Args:
        database: the pages.
        limit: so many at most.
        under: only keys that begin with this.
    """
    titles = {key: title for key, title in database.read("SELECT key, title FROM pages") if key.startswith(under)}
    linked: Counter[str] = Counter()
    leads: defaultdict[str, list[str]] = defaultdict(list)
    for source, target in database.read("SELECT source, target FROM links ORDER BY source, position, target"):
        if source in titles and source != target and target.startswith(under):
            linked[target] += 1
            leads[source].append(target)
    ranked = sorted(titles.keys() | linked.keys(), key=lambda key: (key not in titles, -linked[key], key))[:limit]
    shown = set(ranked)
    return [
        LinkNode(
            key,
            titles.get(key) or title_of(key),
            key in titles,
            linked[key],
            tuple(target for target in leads[key] if target in shown),
        )
        for key in ranked
    ]


def missing_pages(database: Database, limit: int, under: str) -> list[LinkNode]:
    """Pages that nobody has written though links lead there, the most linked first; see ``network``."""
    rows = database.read(
        """SELECT l.target, count(*) FROM links l JOIN pages s ON s.key = l.source LEFT JOIN pages p ON p.key = l.target
           WHERE p.key IS NULL AND substr(l.target, 1, ?) = ?
           GROUP BY l.target ORDER BY count(*) DESC, l.target LIMIT ?""",
        (len(under), under, limit),
    )
    return [LinkNode(key, title_of(key), False, count) for key, count in rows]
