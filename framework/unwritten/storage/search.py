"""Full-text search: an index of titles and texts, in which words match without case and accents.

SQLite has it built in (FTS5). For PostgreSQL, texts are split into words here, because its own parser depends on the
server's configuration. Both store the page's row as ``rowid``.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from .database import Connection, Database

_WORD = re.compile(r"\w+")
_MAX_TERMS = 16
_MAX_WORD_LENGTH = 200
_MAX_POSITION = 16383  # of PostgreSQL's text search vectors
_MAX_POSITIONS = 255
_SNIPPET_WORDS = 24


def index_page(connection: Connection, page: int, title: str, text: str) -> None:
    """Replace the entry of a page.

    Args:
        connection: A connection in a transaction.
        page: The page's row.
        title: Its title.
        text: Its text without markup.
    """
    unindex_page(connection, page)
    if connection.dialect == "sqlite":
        connection.execute("INSERT INTO search (rowid, title, text) VALUES (?, ?, ?)", (page, title, text))
        return
    connection.execute(
        "INSERT INTO search (rowid, title, text, words) VALUES (?, ?, ?, CAST(? AS tsvector))",
        (page, title, text, _vector(title, text)),
    )


def unindex_page(connection: Connection, page: int) -> None:
    """Delete the entry of a page."""
    connection.execute("DELETE FROM search WHERE rowid = ?", (page,))


def search_pages(database: Database, text: str, limit: int) -> list[tuple[Any, ...]]:
    """Return rows of pages that contain all these words, the best match first: key, title, snippet, time and version.

    The last word may be the beginning of a word. The snippet is the part of the text around the first match.
    """
    terms = _WORD.findall(text)[:_MAX_TERMS]
    if not terms:
        return []
    if database.dialect == "sqlite":
        query = " ".join(f'"{term}"' for term in terms[:-1]) + f' "{terms[-1]}"*'
        return database.read(
            """SELECT p.key, p.title, snippet(search, 1, '', '', '…', 24), p.written_at, p.version
               FROM search JOIN pages p ON p.id = search.rowid
               WHERE search MATCH ? ORDER BY bm25(search, 8.0, 1.0) LIMIT ?""",
            (query, limit),
        )
    words = [word for term in terms for word in _words(term)]
    if not words:
        return []
    query = " & ".join([*(f"'{word}'" for word in words[:-1]), f"'{words[-1]}':*"])
    rows = database.read(
        """SELECT p.key, p.title, s.text, p.written_at, p.version
           FROM search s JOIN pages p ON p.id = s.rowid CROSS JOIN CAST(? AS tsquery) AS query
           WHERE s.words @@ query
           ORDER BY ts_rank(ARRAY[0.0, 0.0, 0.125, 1.0]::real[], s.words, query, 1) DESC, p.id LIMIT ?""",
        (query, limit),
    )
    return [(key, title, _snippet(text, words), *rest) for key, title, text, *rest in rows]


def find_mentions(database: Database, names: Sequence[str], without: str, limit: int) -> list[tuple[int, str]]:
    """Return rows and keys of pages whose text has one of these names, in singular or plural, the best match first.

    Args:
        database: The database.
        names: Names of one or more words.
        without: The key of a page that is left out.
        limit: The largest number of pages.
    """
    phrases = [words for name in names if (words := _WORD.findall(name))]
    if not phrases:
        return []
    if database.dialect == "sqlite":
        terms = (f'"{" ".join(words)}" OR "{" ".join(words)}s"' for words in phrases)
        rows = database.read(
            """SELECT p.id, p.key FROM search JOIN pages p ON p.id = search.rowid
               WHERE search MATCH ? AND p.key <> ? ORDER BY bm25(search, 2.0, 1.0), p.id LIMIT ?""",
            ("{text} : (" + " OR ".join(terms) + ")", without, limit),
        )
    else:
        folded = [words for phrase in phrases if (words := _words(" ".join(phrase)))]
        folded += [[*words[:-1], f"{words[-1]}s"] for words in folded]
        terms = (" <-> ".join(f"'{word}':B" for word in words) for words in folded)
        rows = database.read(
            """SELECT p.id, p.key FROM search s JOIN pages p ON p.id = s.rowid CROSS JOIN CAST(? AS tsquery) AS query
               WHERE s.words @@ query AND p.key <> ? ORDER BY ts_rank(s.words, query, 1) DESC, p.id LIMIT ?""",
            (" | ".join(f"({term})" for term in terms), without, limit),
        )
    return [(page, key) for page, key in rows]


# -- words for PostgreSQL -----------------------------------------------------------------------------------------


def _words(text: str) -> list[str]:
    """Return the words of a text, without case and accents. They contain letters, digits and underscores only."""
    return [word[:_MAX_WORD_LENGTH] for word in _WORD.findall(_fold(text))]


def _fold(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(char for char in decomposed if not unicodedata.combining(char))


def _vector(title: str, text: str) -> str:
    """Return a text search vector: the words of the title have weight A, those of the text B."""
    positions: defaultdict[str, list[str]] = defaultdict(list)
    title_words = _words(title)
    for weight, start, words in (("A", 1, title_words), ("B", len(title_words) + 2, _words(text))):
        for position, word in enumerate(words, start):
            if len(positions[word]) < _MAX_POSITIONS:
                positions[word].append(f"{min(position, _MAX_POSITION)}{weight}")
    return " ".join(f"'{word}':{','.join(at)}" for word, at in positions.items())


def _snippet(text: str, words: Sequence[str]) -> str:
    """Return the part of a text around the first of these words. The last one may be the beginning of a word."""
    found = list(re.finditer(r"\S+", text))
    wanted = {*words[:-1]}

    def is_match(part: str) -> bool:
        return any(word in wanted or word.startswith(words[-1]) for word in _words(part))

    first = next((number for number, part in enumerate(found) if is_match(part[0])), 0)
    start = max(0, min(first - 4, len(found) - _SNIPPET_WORDS))
    shown = found[start : start + _SNIPPET_WORDS]
    if not shown:
        return ""
    snippet = text[shown[0].start() : shown[-1].end()]
    return f"{'…' if start else ''}{snippet}{'…' if start + len(shown) < len(found) else ''}"
