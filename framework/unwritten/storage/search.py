"""Full-text search: an index of titles, texts and values, in which words match without case and accents.

SQLite has it built in (FTS5). For PostgreSQL, texts are split into words here, because its own parser depends on the
server's configuration. Both store the page's row as ``rowid``. Values have their own column: prompts of other pages get
them as facts, and not as sentences of a text.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from .database import Connection, Database

_WORD = re.compile(r"\w+")
_NOT_TEXT = re.compile("[\x00-\x08\ud800-\udfff]")
_MATCH = "\x02"  # marks a match in a snippet of SQLite; no text contains it
_MAX_TERMS = 16
_MAX_WORD_LENGTH = 200
_MAX_POSITION = 16383  # of PostgreSQL's text search vectors
_MAX_POSITIONS = 255
_SNIPPET_WORDS = 24


def index_page(connection: Connection, page: int, title: str, text: str, values: Iterable[str]) -> None:
    """Replace the entry of a page.

    Args:
        connection: A connection in a transaction.
        page: The page's row.
        title: Its title.
        text: Its text without markup.
        values: Its values, as JSON.
    """
    words = value_text(values)
    unindex_page(connection, page)
    if connection.dialect == "sqlite":
        connection.execute(
            "INSERT INTO search (rowid, title, text, value) VALUES (?, ?, ?, ?)", (page, title, text, words)
        )
        return
    connection.execute(
        "INSERT INTO search (rowid, title, text, value, words) VALUES (?, ?, ?, ?, CAST(? AS tsvector))",
        (page, title, text, words, search_vector(title, text, words)),
    )


def value_text(values: Iterable[str]) -> str:
    """Return what can be read in JSON values, without the names of fields: texts and numbers, separated by commas."""
    found: list[str] = []
    for value in values:
        waiting = [json.loads(value, parse_int=str, parse_float=str)]  # not recursive: a value may be nested deeply
        while waiting:
            part = waiting.pop()
            if isinstance(part, str):
                found.append(" ".join(_NOT_TEXT.sub(" ", part).split()))
            elif isinstance(part, dict | list):
                waiting += reversed([*part.values()] if isinstance(part, dict) else part)
    return ", ".join(filter(None, found))


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
        found = database.read(
            """SELECT p.key, p.title, snippet(search, 1, ?, '', '…', 24), snippet(search, 2, ?, '', '…', 24),
                      p.written_at, p.version
               FROM search JOIN pages p ON p.id = search.rowid
               WHERE search MATCH ? ORDER BY bm25(search, 8.0, 1.0, 1.0) LIMIT ?""",
            (_MATCH, _MATCH, query, limit),
        )
        return [
            (key, title, _better(text, value).replace(_MATCH, ""), *rest) for key, title, text, value, *rest in found
        ]
    words = [word for term in terms for word in _words(term)]
    if not words:
        return []
    query = " & ".join([*(f"'{word}'" for word in words[:-1]), f"'{words[-1]}':*"])
    rows = database.read(
        """SELECT p.key, p.title, s.text, s.value, p.written_at, p.version
           FROM search s JOIN pages p ON p.id = s.rowid CROSS JOIN CAST(? AS tsquery) AS query
           WHERE s.words @@ query
           ORDER BY ts_rank(ARRAY[0.0, 0.125, 0.125, 1.0]::real[], s.words, query, 1) DESC, p.id LIMIT ?""",
        (query, limit),
    )
    return [
        (key, title, _better(_snippet(text, words), _snippet(value, words)).replace(_MATCH, ""), *rest)
        for key, title, text, value, *rest in rows
    ]


def _better(text: str, value: str) -> str:
    """Return the snippet of a page's text, or that of its values if only they have a match."""
    return value if value and (not text or (_MATCH in value and _MATCH not in text)) else text


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


def search_vector(title: str, text: str, value: str) -> str:
    """Return a text search vector: the words of the title have weight A, those of the text B, and of values C."""
    positions: defaultdict[str, list[str]] = defaultdict(list)
    start = 1
    for weight, part in (("A", title), ("B", text), ("C", value)):
        words = _words(part)
        for position, word in enumerate(words, start):
            if len(positions[word]) < _MAX_POSITIONS:
                positions[word].append(f"{min(position, _MAX_POSITION)}{weight}")
        start += len(words) + 1
    return " ".join(f"'{word}':{','.join(at)}" for word, at in positions.items())


def _snippet(text: str, words: Sequence[str]) -> str:
    """Return the part of a text around the first of these words, with a mark if there is one.

    The last word may be the beginning of a word.
    """
    found = list(re.finditer(r"\S+", text))
    wanted = {*words[:-1]}

    def is_match(part: str) -> bool:
        return any(word in wanted or word.startswith(words[-1]) for word in _words(part))

    matches = (number for number, part in enumerate(found) if is_match(part[0]))
    first = next(matches, None)
    start = max(0, min((first or 0) - 4, len(found) - _SNIPPET_WORDS))
    shown = found[start : start + _SNIPPET_WORDS]
    if not shown:
        return ""
    snippet = text[shown[0].start() : shown[-1].end()]
    mark = "" if first is None else _MATCH
    return f"{mark}{'…' if start else ''}{snippet}{'…' if start + len(shown) < len(found) else ''}"
