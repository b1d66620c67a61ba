"""The store: every page that was written, with its versions, links and provenance, in one SQLite file.

Writes go through one thread and one connection, a page in one transaction: whatever happens in the middle,
only whole pages are ever there. Reads are short and run where they are asked for, each thread with a
connection of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlite_utils import Database

from .errors import StoreError, StoreForeign, StoreFull, StoreLocked
from .links import Link
from .migrations import APPLICATION_ID, migrations
from .regions import Provenance

T = TypeVar("T")

LOCK_TIMEOUT = 5.0
"""Seconds that a write waits for another program to let go of the database."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A written page in a list.

    Attributes:
        key: its canonical URL.
        title: its title.
        snippet: the beginning of its text, or, for a search, the part that was found; plain text.
        written_at: when its current version was written, in UTC.
        version: the number of its current version.
    """

    key: str
    title: str
    snippet: str
    written_at: datetime
    version: int


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a page: its number, when it was written, and its provenance."""

    number: int
    written_at: datetime
    provenance: Provenance

    @property
    def model(self) -> str:
        """The model that wrote it."""
        return self.provenance.model


@dataclass(frozen=True, slots=True)
class KeptCanvas:
    """A finished canvas: its text, its prompt as it was sent, and what it took."""

    name: str
    format: str
    prompt: str
    text: str
    seed: int
    tokens: int
    steps: int
    canvases: int
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class KeptPage:
    """A version of a page, whole.

    Attributes:
        versions: the number of the newest version.
    """

    key: str
    title: str
    version: int
    versions: int
    written_at: datetime
    provenance: Provenance
    canvases: dict[str, KeptCanvas]


@dataclass(frozen=True, slots=True)
class NewPage:
    """A finished page, ready to be kept.

    Attributes:
        text: its words, for search.
        links: where it leads.
    """

    key: str
    title: str
    text: str
    prompt_hash: str
    provenance: Provenance
    canvases: tuple[KeptCanvas, ...]
    links: tuple[Link, ...]


class Store:
    """Pages in a SQLite file. It is opened on creation; its folder is made if need be.

    Args:
        path: the file.

    Raises:
        StoreForeign: if the file is not a database of ours, or comes from a newer version.
        StoreError: if it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._readers = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._closed = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"The folder {path.parent} for the database cannot be made: {error.strerror}.") from error
        # sqlite3 connections belong to the thread that made them, so the writer's is made in its thread.
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="unwritten-store")
        try:
            self._database = self._writer.submit(self._open).result()
        except BaseException:
            self._writer.shutdown()
            raise

    def _open(self) -> Database:
        with self._sentences():
            connection = sqlite3.connect(self.path, timeout=LOCK_TIMEOUT, check_same_thread=False)
            try:
                database = Database(connection, execute_plugins=False)
                self._check_ours(connection)
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                with self._transaction(connection):
                    migrations.apply(database)
            except BaseException:
                connection.close()
                raise
            self._connections.append(connection)
            return database

    def _check_ours(self, connection: sqlite3.Connection) -> None:
        (identity,) = connection.execute("PRAGMA application_id").fetchone()
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and identity != APPLICATION_ID:
            raise StoreForeign(
                f"{self.path} is a database of another program (it has the table {min(tables)!r}). "
                "Name another file with --database."
            )
        known = {migration.name for migration in migrations.pending(Database(memory=True))}
        if "_sqlite_migrations" in tables:
            rows = connection.execute("SELECT name FROM _sqlite_migrations WHERE migration_set = 'unwritten'")
            newer = sorted({name for (name,) in rows} - known)
            if newer:
                raise StoreForeign(
                    f"{self.path} was made by a newer version of Unwritten ({newer[-1]}). "
                    "Update with: pip install --upgrade unwritten"
                )

    # -- writing ------------------------------------------------------------------------------------------

    async def keep(self, page: NewPage) -> KeptPage:
        """Write a page in one transaction, as a new version.

        Raises:
            StoreLocked, StoreFull, StoreError: nothing was written; it can be tried again.
        """
        return await self._write(lambda database: _keep(database, page))

    async def delete(self, key: str) -> bool:
        """Delete a page with all its versions. Returns whether it was there."""
        return await self._write(lambda database: _delete(database, key))

    async def _write(self, work: Callable[[Database], T]) -> T:
        def run() -> T:
            with self._sentences(), self._transaction(self._database.conn):
                return work(self._database)

        try:
            writing = self._writer.submit(run)
        except RuntimeError:
            raise StoreError(f"The database {self.path} has been closed.") from None
        return await asyncio.wrap_future(writing)

    @contextlib.contextmanager
    def _transaction(self, connection: sqlite3.Connection) -> Iterator[None]:
        # IMMEDIATE takes the write lock at once, so that waiting for another program happens here, where it
        # is bounded by the time-out, and not in the middle.
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            connection.rollback()
            raise
        try:
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise

    @contextlib.contextmanager
    def _sentences(self) -> Iterator[None]:
        """Turn SQLite's errors into ours, in words."""
        try:
            yield
        except sqlite3.Error as error:
            raise _in_words(error, self.path) from error

    # -- reading ------------------------------------------------------------------------------------------

    def _read(self, sql: str, parameters: Collection[object] = ()) -> list[Any]:
        try:  # not the context manager: this is done for every click
            return self._reader().execute(sql, tuple(parameters)).fetchall()
        except sqlite3.Error as error:
            raise _in_words(error, self.path) from error

    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._readers, "connection", None)
        if self._closed:
            raise StoreError(f"The database {self.path} has been closed.")
        if connection is None:
            connection = sqlite3.connect(self.path, timeout=LOCK_TIMEOUT, check_same_thread=False)
            connection.execute("PRAGMA query_only = 1")
            self._readers.connection = connection
            self._connections.append(connection)
        return connection

    def stamp(self) -> int:
        """A number that changes when anybody, this program or another, has written to the database.

        It is told apart for each thread: compare stamps of one thread only.
        """
        (row,) = self._read("PRAGMA data_version")
        return int(row[0])

    def kept(self, key: str, version: int | None = None) -> KeptPage | None:
        """A page as it was kept: its current version, or one by number. None if it is not there."""
        rows = self._read(
            """SELECT p.key, v.title, v.number, p.version, v.written_at, v.engine, v.model, v.seed, v.tokens,
                      v.steps, v.canvases, v.seconds, v.reason, v.id
               FROM pages p JOIN versions v ON v.page = p.id AND v.number = coalesce(?, p.version)
               WHERE p.key = ?""",
            (version, key),
        )
        if not rows:
            return None
        ((key, title, number, versions, at, engine, model, seed, tokens, steps, count, seconds, reason, row),) = rows
        canvases = self._read(
            """SELECT name, format, prompt, text, seed, tokens, steps, canvases, seconds, reason
               FROM canvases WHERE version = ? ORDER BY position""",
            (row,),
        )
        return KeptPage(
            key=key,
            title=title,
            version=number,
            versions=versions,
            written_at=datetime.fromisoformat(at),
            provenance=Provenance(model, engine, seed, tokens, steps, count, seconds, reason),
            canvases={values[0]: KeptCanvas(*values) for values in canvases},
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

    def recent(self, limit: int = 10) -> list[Entry]:
        """The pages written last, the newest first."""
        return self._entries("ORDER BY written_at DESC, id DESC LIMIT ?", (limit,))

    def all(self, limit: int = 1000, offset: int = 0) -> list[Entry]:
        """Pages in the order of their titles."""
        return self._entries("ORDER BY title COLLATE NOCASE, id LIMIT ? OFFSET ?", (limit, offset))

    def random(self) -> Entry | None:
        """Any page, or None if there is none."""
        found = self._entries("ORDER BY random() LIMIT 1", ())
        return found[0] if found else None

    def links_to(self, key: str, limit: int = 50) -> list[Entry]:
        """The pages with a link to this one ("what links here"); the snippet is the sentence of the link."""
        rows = self._read(
            """SELECT p.key, p.title, l.sentence, p.written_at, p.version
               FROM links l JOIN pages p ON p.key = l.source
               WHERE l.target = ? AND l.source <> ? ORDER BY p.title COLLATE NOCASE LIMIT ?""",
            (key, key, limit),
        )
        return [_entry(row) for row in rows]

    def link(self, source: str, target: str) -> Link | None:
        """The link from one page to another, with the sentence around it."""
        rows = self._read("SELECT target, text, sentence FROM links WHERE source = ? AND target = ?", (source, target))
        return Link(*rows[0]) if rows else None

    def history(self, key: str) -> list[Version]:
        """The versions of a page, the newest first."""
        rows = self._read(
            """SELECT v.number, v.written_at, v.model, v.engine, v.seed, v.tokens, v.steps, v.canvases, v.seconds,
                      v.reason
               FROM versions v JOIN pages p ON p.id = v.page WHERE p.key = ? ORDER BY v.number DESC""",
            (key,),
        )
        return [Version(row[0], datetime.fromisoformat(row[1]), Provenance(*row[2:])) for row in rows]

    def search(self, text: str, limit: int = 20) -> list[Entry]:
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

    def _entries(self, tail: str, parameters: Collection[object]) -> list[Entry]:
        rows = self._read(f"SELECT key, title, snippet, written_at, version FROM pages {tail}", parameters)  # noqa: S608
        return [_entry(row) for row in rows]

    def close(self) -> None:
        """Finish what is being written, and close the file."""
        if not self._closed:
            self._closed = True
            self._writer.shutdown()
            for connection in self._connections:
                connection.close()


def _entry(row: tuple[str, str, str, str, int]) -> Entry:
    key, title, snippet, written_at, version = row
    return Entry(key, title, snippet, datetime.fromisoformat(written_at), version)


def _keep(database: Database, page: NewPage) -> KeptPage:
    connection = database.conn
    now = datetime.now(UTC)
    at = now.isoformat()
    snippet = page.text[:240].rsplit(" ", 1)[0] + "…" if len(page.text) > 240 else page.text
    rows = connection.execute("SELECT id, version FROM pages WHERE key = ?", (page.key,)).fetchall()
    number = rows[0][1] + 1 if rows else 1
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
        page_id = database.table("pages").insert(values).last_pk
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
            }
        )
        .last_pk
    )
    database.table("canvases").insert_all(
        {"version": version_id, "position": position, **asdict(canvas)} for position, canvas in enumerate(page.canvases)
    )
    connection.executemany(
        "INSERT OR IGNORE INTO links (source, target, text, sentence, position) VALUES (?, ?, ?, ?, ?)",
        [(page.key, link.key, link.text, link.sentence, i) for i, link in enumerate(page.links)],
    )
    connection.execute("INSERT INTO search (rowid, title, text) VALUES (?, ?, ?)", (page_id, page.title, page.text))
    canvases = {canvas.name: canvas for canvas in page.canvases}
    return KeptPage(page.key, page.title, number, number, now, page.provenance, canvases)


def _delete(database: Database, key: str) -> bool:
    connection = database.conn
    rows = connection.execute("SELECT id FROM pages WHERE key = ?", (key,)).fetchall()
    for (page,) in rows:
        connection.execute("DELETE FROM canvases WHERE version IN (SELECT id FROM versions WHERE page = ?)", (page,))
        connection.execute("DELETE FROM versions WHERE page = ?", (page,))
        connection.execute("DELETE FROM search WHERE rowid = ?", (page,))
        connection.execute("DELETE FROM links WHERE source = ?", (key,))
        connection.execute("DELETE FROM pages WHERE id = ?", (page,))
    return bool(rows)


def _in_words(error: sqlite3.Error, path: Path) -> StoreError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return StoreLocked(
            f"The database {path} is locked by another program, and did not come free in {LOCK_TIMEOUT:g} seconds."
        )
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(f"The disk is full: {path} cannot grow. Make room; what is not written yet is tried again.")
    if code in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
        return StoreForeign(f"{path} is not a database, or is damaged ({error}). Name another file with --database.")
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}:
        return StoreError(f"The database {path} cannot be opened for writing ({error}). Check its permissions.")
    return StoreError(f"The database {path} could not be used: {error}.")
