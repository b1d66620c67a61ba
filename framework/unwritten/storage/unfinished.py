"""Pages that were not finished when a server stopped. The next server continues them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict

from .database import Connection, Database
from .records import StoredCanvas

MAX_AGE = 86400.0
"""Seconds after which an unfinished page is forgotten. Then it starts over when it is opened."""


class UnfinishedPageStore:
    """Saves unfinished pages with their finished canvases by name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, pages: Mapping[str, Mapping[str, StoredCanvas]]) -> None:
        """Save pages by key.

        Raises:
            StoreError: If they could not be saved.
        """
        now = time.time()
        rows = [
            (key, json.dumps({name: asdict(canvas) for name, canvas in canvases.items()}), now)
            for key, canvases in pages.items()
        ]

        def work(connection: Connection) -> None:
            for row in rows:
                connection.execute("DELETE FROM unfinished WHERE key = ?", row[:1])
                connection.execute("INSERT INTO unfinished (key, canvases, saved_at) VALUES (?, ?, ?)", row)

        if rows:
            await self._database.write(work)

    def exists(self, key: str) -> bool:
        """True if a page is saved.

        Raises:
            StoreError: If the database cannot be read.
        """
        return bool(self._database.read("SELECT 1 FROM unfinished WHERE key = ?", (key,)))

    async def take(self) -> dict[str, dict[str, StoredCanvas]]:
        """Return all saved pages, the oldest first, and remove them.

        Raises:
            StoreError: If they could not be removed.
        """
        if not self._database.read("SELECT 1 FROM unfinished LIMIT 1"):
            return {}

        def work(connection: Connection) -> list[tuple[str, str]]:
            rows: list[tuple[str, str]] = connection.execute(
                "SELECT key, canvases FROM unfinished WHERE saved_at > ? ORDER BY saved_at", (time.time() - MAX_AGE,)
            ).fetchall()
            connection.execute("DELETE FROM unfinished")
            return rows

        return {
            key: {name: StoredCanvas(**values) for name, values in json.loads(canvases).items()}
            for key, canvases in await self._database.write(work)
        }
