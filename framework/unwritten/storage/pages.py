"""The page store: every generated page with its versions, canvases, links and search index.

A page is written in one transaction, so a reader sees a whole version or none of it.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import cast

from ..core.errors import BadAlias, EditConflict, StoreError
from ..core.localization import gettext_lazy as _
from ..core.paths import url_of_key, variant_key, variant_of
from ..formats.links import Link, title_from_key
from .aliases import add_alias
from .database import ALL_ROWS, Connection, insert_row_with_id, insert_rows
from .location import Location
from .open import open_database
from .records import UNOPENED, Change, ChangeKind, PageSummary, PageWrite, Provenance, StoredCanvas, StoredPage, Version
from .search import index_page, search_pages, unindex_page, value_text
from .values import delete_values, save_values
from .variants import variants_of

log = logging.getLogger("unwritten")

_MAX_PARAMETERS = 500
"""Maximum number of parameters in one query. SQLite has a limit."""

_SNIPPET_LENGTH = 240
"""Maximum length of a page's snippet."""


LEADS_TO = "(l.target = ? OR l.target IN (SELECT alias FROM aliases WHERE target = ?))"
"""The condition of a query that a link ``l`` leads to a page, or to another name of it.

Parameters: the page's key, and its URL, because the variants of a page have its other names in common."""


@dataclass(frozen=True, slots=True)
class LinkNode:
    """A page in the link graph, written or not.

    Attributes:
        key: Its canonical URL.
        title: Its title. If it is not written, the title that its URL implies.
        written: True if it is stored.
        backlinks: How many other pages link to it.
        links: The keys of the pages of the same graph that it links to, in order.
    """

    key: str
    title: str
    written: bool
    backlinks: int
    links: tuple[str, ...] = ()


class PageStore:
    """The pages in a database. The database is opened on creation; see ``open_database``.

    Attributes:
        database: The database, for the stores of other data.

    Raises:
        UnknownDatabase: If the database belongs to another program, is damaged, or comes from a newer version.
        StoreError: If it cannot be opened.
    """

    def __init__(self, location: Location, *, read_only: bool = False) -> None:
        self.database = open_database(location, read_only=read_only)
        self._read = self.database.read

    # -- writing ------------------------------------------------------------------------------------------

    async def save(self, page: PageWrite) -> StoredPage:
        """Store a page in one transaction: as a new version, or as an addition to the current one.

        Raises:
            StoreLocked, StoreFull, StoreError: Nothing was written. It can be tried again.
            EditConflict: The page has changed since the version that the change is based on. Nothing was written.
        """
        return await self.database.write(lambda connection: _save(connection, page))

    def save_all(self, pages: Iterable[PageWrite], aliases: Iterable[tuple[str, str]] = ()) -> list[str]:
        """Store many pages and aliases in one transaction, in order. It blocks: call it outside of the event loop.

        Args:
            pages: The pages. If it is a generator, it runs in the write thread. If it raises, nothing is written.
            aliases: Aliases with their targets. Those that cannot be added are left out.

        Returns:
            The new aliases.

        Raises:
            StoreLocked, StoreFull, StoreError: Nothing was written. It can be tried again.
        """

        def work(connection: Connection) -> list[str]:
            for page in pages:
                _save(connection, page)
            added = []
            for alias, target in aliases:
                with contextlib.suppress(BadAlias):
                    if add_alias(connection, alias, target):
                        added.append(alias)
            return added

        return self.database.write_sync(work)

    async def mark_opened(self, key: str, seconds: float) -> None:
        """Record that a visitor has opened a prefetched page for the first time. Later calls change nothing.

        Args:
            key: The page's key.
            seconds: How long after it was stored.

        Raises:
            StoreLocked, StoreFull, StoreError: Nothing was written.
        """

        def work(connection: Connection) -> None:
            connection.execute(
                "UPDATE versions SET opened_after = ? "
                "WHERE opened_after = ? AND page = (SELECT id FROM pages WHERE key = ?)",
                (seconds, UNOPENED, key),
            )

        await self.database.write(work)

    async def delete(self, key: str) -> bool:
        """Delete a page, or one variant, with all its versions. Return False if there was none."""
        return await self.database.write(lambda connection: _delete(connection, key))

    async def delete_with_variants(self, key: str) -> int:
        """Delete a page and all its variants, with their versions. Return their number. Of a variant, only this one."""
        return await self.database.write(lambda connection: _delete_with_variants(connection, key))

    async def replace_with_alias(self, key: str, target: str) -> None:
        """Delete a page with its variants, and make its key another name of another page, in one transaction.

        Raises:
            BadAlias: See ``AliasStore.add``. Nothing was deleted.
            StoreLocked, StoreFull, StoreReadOnly, StoreError: Nothing was deleted.
        """

        def work(connection: Connection) -> None:
            _delete_with_variants(connection, url_of_key(key))
            add_alias(connection, key, target)

        await self.database.write(work)

    # -- one page -----------------------------------------------------------------------------------------

    def get(self, key: str, version: int | None = None) -> StoredPage | None:
        """Return a page, or None if it is not stored.

        Args:
            key: The page's key.
            version: The number of a version. None: the current one.
        """
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
        opened_after, *change = rows[0][14:]
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
            provenance=Provenance(model, engine, seed, tokens, steps, count, seconds, reason, opened_after),
            canvases={values[0]: StoredCanvas(*values) for values in canvases},
            change=_change(*change),
        )

    def history(self, key: str, limit: int = 1000, before: int | None = None) -> list[Version]:
        """Return the versions of a page, the newest first.

        Args:
            key: The page's key.
            limit: The largest number of versions.
            before: Only versions with lower numbers. None: all.
        """
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

    # -- lists of pages -----------------------------------------------------------------------------------

    def exists(self, keys: Collection[str]) -> set[str]:
        """Return those of these keys whose pages are stored."""
        found: set[str] = set()
        ordered = list(keys)
        for start in range(0, len(ordered), _MAX_PARAMETERS):
            part = ordered[start : start + _MAX_PARAMETERS]
            marks = ",".join("?" * len(part))
            found.update(key for (key,) in self._read(f"SELECT key FROM pages WHERE key IN ({marks})", part))  # noqa: S608
        return found

    def count_variants(self, url: str) -> int:
        """Return the number of stored variants of the page at a URL; see ``routing.vary_rule``."""
        condition, parameters = variants_of(url, self.database.dialect)
        return int(self._read(f"SELECT count(*) FROM pages WHERE {condition}", parameters)[0][0])  # noqa: S608

    def known_to_exist(self, keys: Collection[str]) -> set[str]:
        """Return keys like ``exists``, or none while the database cannot be read.

        A page that is being generated must not fail because it is not known which of its links are written.
        """
        try:
            return self.exists(keys)
        except StoreError as error:
            log.debug("It is not known which pages are written: %s", error)
            return set()

    def count(self) -> int:
        """Return the number of stored pages."""
        return int(self._read("SELECT count(*) FROM pages")[0][0])

    def recent(self, limit: int = 10) -> list[PageSummary]:
        """Return the pages stored last, the newest first."""
        return self._summaries("ORDER BY written_at DESC, id DESC LIMIT ?", (limit,))

    def all(self, limit: int = 1000, offset: int = 0) -> list[PageSummary]:
        """Return pages ordered by title. A limit of -1 returns all."""
        return self._summaries("ORDER BY lower(title), id LIMIT ? OFFSET ?", (ALL_ROWS if limit < 0 else limit, offset))

    def random(self) -> PageSummary | None:
        """Return a random page, or None if there is none."""
        found = self._summaries("ORDER BY random() LIMIT 1", ())
        return found[0] if found else None

    def search(self, text: str, limit: int = 20) -> list[PageSummary]:
        """Return pages that contain all these words in title, text or values, the best match first.

        The last word may be the beginning of a word. The snippet is the match.
        """
        return [_summary(row) for row in search_pages(self.database, text, limit)]

    # -- links --------------------------------------------------------------------------------------------

    def link(self, source: str, target: str) -> Link | None:
        """Return the link from one page to another, or to an alias of it, or None if there is none."""
        rows = self._read(
            f"SELECT l.target, l.text, l.sentence, l.gist FROM links l WHERE l.source = ? AND {LEADS_TO} "  # noqa: S608
            "ORDER BY l.position LIMIT 1",
            (source, target, url_of_key(target)),
        )
        return Link(*rows[0]) if rows else None

    def links_from(self, key: str) -> list[Link]:
        """Return the links on a page, in order."""
        rows = self._read("SELECT target, text, sentence FROM links WHERE source = ? ORDER BY position, target", (key,))
        return [Link(*row) for row in rows]

    def links_to(self, key: str, limit: int = 50) -> list[PageSummary]:
        """Return the pages that link to this one ("what links here"). The snippet is the sentence of the link."""
        rows = self._read(
            f"""SELECT p.key, p.title, l.sentence, p.written_at, p.version
                FROM links l JOIN pages p ON p.key = l.source
                WHERE {LEADS_TO} AND l.source <> ? ORDER BY lower(p.title), p.id, l.position LIMIT ?""",  # noqa: S608
            (key, url_of_key(key), key, 2 * limit),
        )
        return list({row[0]: _summary(row) for row in reversed(rows)}.values())[::-1][:limit]

    def link_graph(self, limit: int = 150, prefix: str = "/") -> list[LinkNode]:
        """Return pages with the links between them: written ones first, then those with the most backlinks.

        Args:
            limit: The largest number of pages.
            prefix: Only keys that begin with this, such as ``/wiki/``.
        """
        titles = {key: title for key, title in self._read("SELECT key, title FROM pages") if key.startswith(prefix)}
        backlinks: Counter[str] = Counter()
        links: defaultdict[str, list[str]] = defaultdict(list)
        aliases = dict(self._read("SELECT alias, target FROM aliases"))
        for source, link in self._read("SELECT source, target FROM links ORDER BY source, position, target"):
            target = link
            if link in aliases and link not in titles:
                own_variant = variant_key(aliases[link], variant_of(source))
                target = own_variant if own_variant in titles else aliases[link]
            if target in links[source]:
                continue
            if source in titles and source != target and target.startswith(prefix):
                backlinks[target] += 1
                links[source].append(target)
        ranked = sorted(titles.keys() | backlinks.keys(), key=lambda key: (key not in titles, -backlinks[key], key))
        shown = set(ranked[:limit])
        return [
            LinkNode(
                key,
                titles.get(key) or title_from_key(key),
                key in titles,
                backlinks[key],
                tuple(target for target in links[key] if target in shown),
            )
            for key in ranked[:limit]
        ]

    def missing_pages(self, limit: int = 50, prefix: str = "/") -> list[LinkNode]:
        """Return pages that are linked to but not written, those with the most backlinks first.

        Args:
            limit: The largest number of pages.
            prefix: Only keys that begin with this, such as ``/wiki/``.
        """
        rows = self._read(
            """SELECT l.target, count(*)
               FROM links l JOIN pages s ON s.key = l.source LEFT JOIN pages p ON p.key = l.target
               LEFT JOIN aliases a ON a.alias = l.target
               WHERE p.key IS NULL AND a.alias IS NULL AND substr(l.target, 1, ?) = ?
               GROUP BY l.target ORDER BY count(*) DESC, l.target LIMIT ?""",
            (len(prefix), prefix, limit),
        )
        return [LinkNode(key, title_from_key(key), False, count) for key, count in rows]

    # -- the database -------------------------------------------------------------------------------------

    def data_version(self) -> int:
        """Return a number that changes whenever the database was written to; see ``Database.data_version``."""
        return self.database.data_version()

    def close(self) -> None:
        """Finish pending writes and close the database."""
        self.database.close()

    def _summaries(self, tail: str, parameters: Collection[object]) -> list[PageSummary]:
        rows = self._read(f"SELECT key, title, snippet, written_at, version FROM pages {tail}", parameters)  # noqa: S608
        return [_summary(row) for row in rows]


def _summary(row: tuple[str, str, str, str, int]) -> PageSummary:
    key, title, snippet, written_at, version = row
    return PageSummary(key, title, snippet, datetime.fromisoformat(written_at), version)


def _change(kind: str, note: str, base: int | None, regions: str) -> Change:
    return Change(cast("ChangeKind", kind), note, base, tuple(json.loads(regions)))


# -- in the write thread ------------------------------------------------------------------------------------------


def _save(connection: Connection, page: PageWrite) -> StoredPage:
    rows = connection.execute("SELECT id, version FROM pages WHERE key = ?", (page.key,)).fetchall()
    page_id, version = rows[0] if rows else (None, 0)
    if page_id is not None and page.amends:
        return _amend(connection, page, page_id, version)
    return _add_version(connection, page, page_id, version)


def _add_version(connection: Connection, page: PageWrite, page_id: int | None, current: int) -> StoredPage:
    """Add a version to a page, or create the page if ``page_id`` is None."""
    now = page.written_at or datetime.now(UTC)
    number = current + 1
    change = page.change
    if page.replaces is not None and page.replaces != current:
        raise EditConflict(
            _(
                "The page '%(title)s' was changed meanwhile: it is at version %(version)s now.",
                title=page.title,
                version=current,
            )
        )
    if change.base is not None and change.base != current:
        raise EditConflict(
            _(
                "The page '%(title)s' was changed meanwhile: it is at version %(version)s now.",
                title=page.title,
                version=current,
            )
            if page_id is not None
            else _("The page '%(title)s' does not exist any more.", title=page.title)
        )
    values = {
        "key": page.key,
        "title": page.title,
        "snippet": _snippet(page.text),
        "version": number,
        "written_at": now.isoformat(),
    }
    if page_id is not None:
        connection.execute(
            "UPDATE pages SET title = ?, snippet = ?, version = ?, written_at = ? WHERE id = ?",
            (page.title, values["snippet"], number, values["written_at"], page_id),
        )
        if change.regions:  # the other regions keep their links, and so the gists of these
            page = replace(page, links=_with_gists(connection, page))
        connection.execute("DELETE FROM links WHERE source = ?", (page.key,))
    else:
        page_id = insert_row_with_id(connection, "pages", values)
    provenance = page.provenance
    version = {
        "page": page_id,
        "number": number,
        "title": page.title,
        "written_at": now.isoformat(),
        "prompt_hash": page.prompt_hash,
        **asdict(provenance),
        "kind": change.kind,
        "note": change.note,
        "base": change.base,
        "regions": json.dumps(change.regions),
    }
    version_id = insert_row_with_id(connection, "versions", version)
    _insert_canvases(connection, version_id, page.canvases)
    if change.regions:  # also take over regions that were added to the base after it was read
        connection.execute(
            """INSERT INTO canvases (version, position, name, format, prompt, text, seed, tokens, steps,
                                     canvases, seconds, reason, schema, fact, repairs)
               SELECT ?, c.position, c.name, c.format, c.prompt, c.text, c.seed, c.tokens, c.steps, c.canvases,
                      c.seconds, c.reason, c.schema, c.fact, c.repairs
               FROM canvases c JOIN versions v ON v.id = c.version WHERE v.page = ? AND v.number = ?
               ON CONFLICT DO NOTHING""",
            (version_id, page_id, change.base),
        )
    _index(connection, page, page_id, version_id)
    canvases = {canvas.name: canvas for canvas in page.canvases}
    return StoredPage(page.key, page.title, number, number, now, provenance, canvases, change)


def _amend(connection: Connection, page: PageWrite, page_id: int, number: int) -> StoredPage:
    """Add new canvases to the current version. Its other canvases are those that ``page`` was made from, or newer."""
    version_id, written_at, seconds = connection.execute(
        "SELECT id, written_at, seconds FROM versions WHERE page = ? AND number = ?", (page_id, number)
    ).fetchone()
    stored = connection.execute("SELECT name, position FROM canvases WHERE version = ?", (version_id,)).fetchall()
    names = {name for name, _ in stored}
    next_position = max((position for _, position in stored), default=-1) + 1
    new = [canvas for canvas in page.canvases if canvas.name not in names]
    _insert_canvases(connection, version_id, new, next_position)
    provenance = replace(page.provenance, seconds=round(seconds + page.provenance.seconds, 3))
    connection.execute(
        "UPDATE versions SET prompt_hash = ?, tokens = ?, steps = ?, canvases = ?, seconds = ? WHERE id = ?",
        (page.prompt_hash, provenance.tokens, provenance.steps, provenance.canvases, provenance.seconds, version_id),
    )
    connection.execute("UPDATE pages SET snippet = ? WHERE id = ?", (_snippet(page.text), page_id))
    _index(connection, page, page_id, version_id)
    canvases = {canvas.name: canvas for canvas in page.canvases}
    at = datetime.fromisoformat(written_at)
    return StoredPage(page.key, page.title, number, number, at, provenance, canvases, page.change)


def _insert_canvases(
    connection: Connection, version_id: int, canvases: Collection[StoredCanvas], first_position: int = 0
) -> None:
    rows = [
        {"version": version_id, "position": position, **asdict(canvas)}
        for position, canvas in enumerate(canvases, first_position)
    ]
    insert_rows(connection, "canvases", rows)


def _index(connection: Connection, page: PageWrite, page_id: int, version_id: int) -> None:
    """Update the values, links and search index of a page's current version."""
    values = save_values(connection, page_id, version_id)
    if not page.text and values:
        connection.execute("UPDATE pages SET snippet = ? WHERE id = ?", (_snippet(value_text(values)), page_id))
    connection.executemany(
        "INSERT INTO links (source, target, text, sentence, gist, position) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT DO NOTHING",
        [(page.key, link.key, link.text, link.sentence, link.gist, i) for i, link in enumerate(page.links)],
    )
    index_page(connection, page_id, page.title, page.text, values)


def _with_gists(connection: Connection, page: PageWrite) -> tuple[Link, ...]:
    """Return the links of a page, with the stored gists of those that have none."""
    rows = connection.execute("SELECT target, gist FROM links WHERE source = ? AND gist <> ''", (page.key,)).fetchall()
    gists = dict(rows)
    return tuple(replace(link, gist=link.gist or gists.get(link.key, "")) for link in page.links)


def _snippet(text: str) -> str:
    """Return the beginning of a text, cut at a word."""
    return text if len(text) <= _SNIPPET_LENGTH else text[:_SNIPPET_LENGTH].rsplit(" ", 1)[0] + "…"


def _delete_with_variants(connection: Connection, key: str) -> int:
    keys = [key]
    if key == url_of_key(key):
        condition, parameters = variants_of(key, connection.dialect)
        rows = connection.execute(f"SELECT key FROM pages WHERE {condition}", parameters).fetchall()  # noqa: S608
        keys += [variant for (variant,) in rows]
    return sum(_delete(connection, each) for each in keys)


def _delete(connection: Connection, key: str) -> bool:
    rows = connection.execute("SELECT id FROM pages WHERE key = ?", (key,)).fetchall()
    for (page,) in rows:
        connection.execute("DELETE FROM canvases WHERE version IN (SELECT id FROM versions WHERE page = ?)", (page,))
        connection.execute("DELETE FROM versions WHERE page = ?", (page,))
        unindex_page(connection, page)
        connection.execute("DELETE FROM links WHERE source = ?", (key,))
        connection.execute("DELETE FROM boxes WHERE page = ?", (key,))
        delete_values(connection, page)
        connection.execute("DELETE FROM pages WHERE id = ?", (page,))
    return bool(rows)
