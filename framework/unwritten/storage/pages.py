"""The store: every page that was written, with its versions, links and provenance.

A page is written in one transaction: whatever happens in the middle, only whole pages are ever there.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import sqlite_utils

from ..core.errors import EditConflict
from ..formats.links import Link, title_of
from .database import Database
from .records import UNOPENED, Change, ChangeKind, PageSummary, PageWrite, Provenance, StoredCanvas, StoredPage, Version
from .values import delete_values, save_values


class PageStore:
    """Pages in a database. It is opened on creation; its folder is made if need be.

    Args:
        path: the file.

    Attributes:
        database: the file, for what is kept beside the pages.

    Raises:
        StoreForeign: if the file is not a database of ours, or comes from a newer version.
        StoreError: if it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = Database(path)
        self._read = self.database.read

    # -- writing ------------------------------------------------------------------------------------------

    async def save(self, page: PageWrite) -> StoredPage:
        """Write a page in one transaction, as a new version, or as an addition to the one that there is.

        Raises:
            StoreLocked, StoreFull, StoreError: nothing was written; it can be tried again.
            PageMoved: the page is not the version any more that was changed; nothing was written.
        """
        return await self.database.write(lambda database: _keep(database, page))

    async def mark_opened(self, key: str, seconds: float) -> None:
        """Remember that somebody has opened a page, so many seconds after it was written ahead. Only the first counts.

        Raises:
            StoreLocked, StoreFull, StoreError: nothing was written.
        """

        def work(database: sqlite_utils.Database) -> None:
            database.conn.execute(
                "UPDATE versions SET opened_after = ? WHERE opened_after = ? AND page = (SELECT id FROM pages WHERE key = ?)",
                (seconds, UNOPENED, key),
            )

        await self.database.write(work)

    async def delete(self, key: str) -> bool:
        """Delete a page with all its versions. Returns whether it was there."""
        return await self.database.write(lambda database: _delete(database, key))

    # -- reading ------------------------------------------------------------------------------------------

    def stamp(self) -> int:
        """A number that changes when anybody has written to the database; see ``Database.stamp``."""
        return self.database.stamp()

    def get(self, key: str, version: int | None = None) -> StoredPage | None:
        """A page as it was kept: its current version, or one by number. None if it is not there."""
        rows = self._read(
            """SELECT p.key, v.title, v.number, p.version, v.written_at, v.engine, v.model, v.seed, v.tokens,
                      v.steps, v.canvases, v.seconds, v.reason, v.id, v.opened_after, v.kind, v.note, v.base, v.regions
               FROM pages p JOIN versions v ON v.page = p.id AND v.number = coalesce(?, p.version)
               WHERE p.key = ?""",
            (version, key),
        )
        if not rows:
            return None
        key, title, number, versions, at, engine, model, seed, tokens, steps, count, seconds, reason, row = rows[0][:14]
        ahead, *change = rows[0][14:]
        canvases = self._read(
            """SELECT name, format, prompt, text, seed, tokens, steps, canvases, seconds, reason, schema, fact, repairs
               FROM canvases WHERE version = ? ORDER BY position""",
            (row,),
        )
        return StoredPage(
            key=key,
            title=title,
            version=number,
            versions=versions,
            written_at=datetime.fromisoformat(at),
            provenance=Provenance(model, engine, seed, tokens, steps, count, seconds, reason, ahead),
            canvases={values[0]: StoredCanvas(*values) for values in canvases},
            change=_change(*change),
        )

    def exists(self, keys: Collection[str]) -> set[str]:
        """Which of these keys are written."""
        found: set[str] = set()
        listed = list(keys)
        for start in range(0, len(listed), 500):  # SQLite bounds the number of parameters
            part = listed[start : start + 500]
            marks = ",".join("?" * len(part))
            found.update(key for (key,) in self._read(f"SELECT key FROM pages WHERE key IN ({marks})", part))  # noqa: S608
        return found

    def count(self) -> int:
        """How many pages are written."""
        return int(self._read("SELECT count(*) FROM pages")[0][0])

    def recent(self, limit: int = 10) -> list[PageSummary]:
        """The pages written last, the newest first."""
        return self._entries("ORDER BY written_at DESC, id DESC LIMIT ?", (limit,))

    def all(self, limit: int = 1000, offset: int = 0) -> list[PageSummary]:
        """Pages in the order of their titles."""
        return self._entries("ORDER BY title COLLATE NOCASE, id LIMIT ? OFFSET ?", (limit, offset))

    def random(self) -> PageSummary | None:
        """Any page, or None if there is none."""
        found = self._entries("ORDER BY random() LIMIT 1", ())
        return found[0] if found else None

    def links_to(self, key: str, limit: int = 50) -> list[PageSummary]:
        """The pages with a link to this one ("what links here"); the snippet is the sentence of the link."""
        rows = self._read(
            """SELECT p.key, p.title, l.sentence, p.written_at, p.version
               FROM links l JOIN pages p ON p.key = l.source
               WHERE l.target = ? AND l.source <> ? ORDER BY p.title COLLATE NOCASE LIMIT ?""",
            (key, key, limit),
        )
        return [_entry(row) for row in rows]

    def link_graph(self, limit: int = 150, under: str = "/") -> list[LinkNode]:
        """Pages, written or only linked to, with the links between them: written ones first, then the most linked.

        Args:
            limit: so many pages at most.
            under: only those whose keys begin with this, such as ``/wiki/``.
        """
        return link_graph(self.database, limit, under)

    def missing_pages(self, limit: int = 50, under: str = "/") -> list[LinkNode]:
        """Pages that nobody has written though links lead there, the most linked first; see ``network``."""
        return missing_pages(self.database, limit, under)

    def link(self, source: str, target: str) -> Link | None:
        """The link from one page to another, with the sentence around it."""
        rows = self._read("SELECT target, text, sentence FROM links WHERE source = ? AND target = ?", (source, target))
        return Link(*rows[0]) if rows else None

    def history(self, key: str, limit: int = 1000, before: int | None = None) -> list[Version]:
        """The versions of a page, the newest first; with ``before``, those with lower numbers."""
        rows = self._read(
            """SELECT v.number, v.written_at, v.model, v.engine, v.seed, v.tokens, v.steps, v.canvases, v.seconds,
                      v.reason, v.kind, v.note, v.base, v.regions
               FROM versions v JOIN pages p ON p.id = v.page
               WHERE p.key = ? AND v.number < coalesce(?, v.number + 1) ORDER BY v.number DESC LIMIT ?""",
            (key, before, limit),
        )
        return [
            Version(row[0], datetime.fromisoformat(row[1]), Provenance(*row[2:10]), _change(*row[10:])) for row in rows
        ]

    def search(self, text: str, limit: int = 20) -> list[PageSummary]:
        """Pages with all these words, in the title or in the text; the best first."""
        terms = re.findall(r"\w+", text)[:16]
        if not terms:
            return []
        query = " ".join(f'"{term}"' for term in terms[:-1]) + f' "{terms[-1]}"*'
        rows = self._read(
            """SELECT p.key, p.title, snippet(search, 1, '', '', '…', 24), p.written_at, p.version
               FROM search JOIN pages p ON p.id = search.rowid
               WHERE search MATCH ? ORDER BY bm25(search, 8.0, 1.0) LIMIT ?""",
            (query, limit),
        )
        return [_entry(row) for row in rows]

    def _entries(self, tail: str, parameters: Collection[object]) -> list[PageSummary]:
        rows = self._read(f"SELECT key, title, snippet, written_at, version FROM pages {tail}", parameters)  # noqa: S608
        return [_entry(row) for row in rows]

    def close(self) -> None:
        """Finish what is being written, and close the file."""
        self.database.close()


def _entry(row: tuple[str, str, str, str, int]) -> PageSummary:
    key, title, snippet, written_at, version = row
    return PageSummary(key, title, snippet, datetime.fromisoformat(written_at), version)


def _change(kind: str, note: str, base: int | None, regions: str) -> Change:
    return Change(cast("ChangeKind", kind), note, base, tuple(json.loads(regions)))


def _keep(database: sqlite_utils.Database, page: PageWrite) -> StoredPage:
    connection = database.conn
    now = datetime.now(UTC)
    at = now.isoformat()
    snippet = page.text[:240].rsplit(" ", 1)[0] + "…" if len(page.text) > 240 else page.text
    rows = connection.execute("SELECT id, version FROM pages WHERE key = ?", (page.key,)).fetchall()
    if rows and page.amends:
        return _amend(connection, page, rows[0][0], rows[0][1], snippet)
    number = rows[0][1] + 1 if rows else 1
    change = page.change
    if change.base is not None and change.base != number - 1:
        at_now = f"is at version {number - 1}" if rows else "is not there any more"
        raise EditConflict(f"The page {page.title!r} {at_now}, and this change was made from version {change.base}.")
    values = {
        "key": page.key,
        "title": page.title,
        "snippet": snippet,
        "version": number,
        "written_at": at,
    }
    if rows:
        page_id = rows[0][0]
        database.table("pages").update(page_id, values)
        connection.execute("DELETE FROM search WHERE rowid = ?", (page_id,))
        connection.execute("DELETE FROM links WHERE source = ?", (page.key,))
    else:
        page_id = cast(int, database.table("pages").insert(values).last_pk)
    p = page.provenance
    version_id = (
        database.table("versions")
        .insert(
            {
                "page": page_id,
                "number": number,
                "title": page.title,
                "written_at": at,
                "engine": p.engine,
                "model": p.model,
                "prompt_hash": page.prompt_hash,
                "seed": p.seed,
                "tokens": p.tokens,
                "steps": p.steps,
                "canvases": p.canvases,
                "seconds": p.seconds,
                "reason": p.reason,
                "opened_after": p.ahead,
                "kind": change.kind,
                "note": change.note,
                "base": change.base,
                "regions": json.dumps(change.regions),
            }
        )
        .last_pk
    )
    database.table("canvases").insert_all(
        {"version": version_id, "position": position, **asdict(canvas)} for position, canvas in enumerate(page.canvases)
    )
    if change.regions:  # what was added to the version since it was read goes along
        connection.execute(
            """INSERT OR IGNORE INTO canvases (version, position, name, format, prompt, text, seed, tokens, steps,
                                               canvases, seconds, reason, schema, fact, repairs)
               SELECT ?, c.position, c.name, c.format, c.prompt, c.text, c.seed, c.tokens, c.steps, c.canvases,
                      c.seconds, c.reason, c.schema, c.fact, c.repairs
               FROM canvases c JOIN versions v ON v.id = c.version WHERE v.page = ? AND v.number = ?""",
            (version_id, page_id, change.base),
        )
    save_values(connection, page_id, cast(int, version_id))
    _link_and_index(connection, page, page_id)
    canvases = {canvas.name: canvas for canvas in page.canvases}
    return StoredPage(page.key, page.title, number, number, now, page.provenance, canvases, change)


def _amend(connection: sqlite3.Connection, page: PageWrite, page_id: int, number: int, snippet: str) -> StoredPage:
    """Add what is new to the current version: the rest of it is what this page was made from, or newer."""
    p = page.provenance
    version_id, at, seconds = connection.execute(
        "SELECT id, written_at, seconds FROM versions WHERE page = ? AND number = ?", (page_id, number)
    ).fetchone()
    there = connection.execute("SELECT name, position FROM canvases WHERE version = ?", (version_id,)).fetchall()
    names = {name for name, _ in there}
    last = max((position for _, position in there), default=-1)
    new = [canvas for canvas in page.canvases if canvas.name not in names]
    sqlite_utils.Database(connection, execute_plugins=False).table("canvases").insert_all(
        {"version": version_id, "position": last + 1 + i, **asdict(canvas)} for i, canvas in enumerate(new)
    )
    p = replace(p, seconds=round(seconds + p.seconds, 3))
    connection.execute(
        "UPDATE versions SET prompt_hash = ?, tokens = ?, steps = ?, canvases = ?, seconds = ? WHERE id = ?",
        (page.prompt_hash, p.tokens, p.steps, p.canvases, p.seconds, version_id),
    )
    connection.execute("UPDATE pages SET snippet = ? WHERE id = ?", (snippet, page_id))
    connection.execute("DELETE FROM search WHERE rowid = ?", (page_id,))
    save_values(connection, page_id, version_id)
    _link_and_index(connection, page, page_id)
    canvases = {canvas.name: canvas for canvas in page.canvases}
    return StoredPage(page.key, page.title, number, number, datetime.fromisoformat(at), p, canvases, page.change)


def _link_and_index(connection: sqlite3.Connection, page: PageWrite, page_id: int) -> None:
    connection.executemany(
        "INSERT OR IGNORE INTO links (source, target, text, sentence, position) VALUES (?, ?, ?, ?, ?)",
        [(page.key, link.key, link.text, link.sentence, i) for i, link in enumerate(page.links)],
    )
    connection.execute("INSERT INTO search (rowid, title, text) VALUES (?, ?, ?)", (page_id, page.title, page.text))


def _delete(database: sqlite_utils.Database, key: str) -> bool:
    connection = database.conn
    rows = connection.execute("SELECT id FROM pages WHERE key = ?", (key,)).fetchall()
    for (page,) in rows:
        connection.execute("DELETE FROM canvases WHERE version IN (SELECT id FROM versions WHERE page = ?)", (page,))
        connection.execute("DELETE FROM versions WHERE page = ?", (page,))
        connection.execute("DELETE FROM search WHERE rowid = ?", (page,))
        connection.execute("DELETE FROM links WHERE source = ?", (key,))
        delete_values(connection, page)
        connection.execute("DELETE FROM pages WHERE id = ?", (page,))
    return bool(rows)


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
