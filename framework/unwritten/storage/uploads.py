"""The store of uploads: files that visitors have sent, by the key of their content.

A file is stored as long as a row of an author's table refers to it. When rows are changed or deleted, the files to
which no row refers any more are deleted in the same transaction.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from .database import Connection, Database, insert_row, shorten_identifier

_KEY = re.compile(r'"key": ?"([0-9a-f]{32})"')


@dataclass(frozen=True, slots=True)
class StoredUpload:
    """A stored file: its media type, and its content."""

    media_type: str
    content: bytes


def get_upload(database: Database, key: str) -> StoredUpload | None:
    """Return a file, or None if it is not stored."""
    rows = database.read("SELECT media_type, content FROM uploads WHERE key = ?", (key,))
    return StoredUpload(rows[0][0], bytes(rows[0][1])) if rows else None


def has_upload(connection: Connection, key: str) -> bool:
    """True if a file is stored."""
    return bool(connection.execute("SELECT 1 FROM uploads WHERE key = ?", (key,)).fetchall())


def save_upload(connection: Connection, key: str, media_type: str, content: bytes) -> None:
    """Store a file, unless it is stored."""
    row = {
        "key": key,
        "media_type": media_type,
        "content": content,
        "uploaded_at": datetime.now(UTC).isoformat(),
    }
    insert_row(connection, "uploads", row, ignore_existing=True)


def upload_keys(values: Iterable[object]) -> set[str]:
    """Return the keys of uploads that values of a row mention, as the database stores them."""
    return {key for value in values if isinstance(value, str) for key in _KEY.findall(value)}


def delete_unreferenced(connection: Connection, keys: Collection[str]) -> None:
    """Delete those of these files to which no row refers."""
    for key in keys:
        if has_upload(connection, key) and not _is_referenced(connection, key):
            connection.execute("DELETE FROM uploads WHERE key = ?", (key,))


def _is_referenced(connection: Connection, key: str) -> bool:
    for name, columns in connection.execute("SELECT name, columns FROM tables").fetchall():
        table = shorten_identifier(f"state_{name}", connection.dialect)
        names = connection.column_names(table)  # a field that the model does not have any more may be gone
        for column in [column for column, kind in json.loads(columns).items() if kind == "json" and column in names]:
            sql = f'SELECT 1 FROM "{table}" WHERE "{column}" LIKE ? LIMIT 1'  # noqa: S608
            if connection.execute(sql, (f'%"{key}"%',)).fetchall():
                return True
    return False
