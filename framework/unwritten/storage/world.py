"""The world: what is true of the app itself, kept in the file of its pages, by name."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any

import sqlite_utils

from unwritten_engine import About

from .database import Database


class WorldStore:
    """Values of the app, by name, as JSON.

    Args:
        database: where they are kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._secret: bytes | None = None

    @property
    def secret(self) -> bytes:
        """32 random bytes of this world, made when they are first asked for: what it signs, it knows again.

        Raises:
            StoreError: if they cannot be kept.
        """
        if self._secret is None:
            self._secret = bytes.fromhex(self._database.write_now(_secret))
        return self._secret

    def get(self, name: str, otherwise: Any = None) -> Any:
        """A value, or ``otherwise`` if there is none."""
        rows = self._database.read("SELECT value FROM world WHERE name = ?", (name,))
        return json.loads(rows[0][0]) if rows else otherwise

    async def set(self, name: str, value: Any) -> None:
        """Keep a value that JSON can hold.

        Raises:
            StoreError: it was not kept.
        """
        await self._database.write(lambda database: _set(database, name, value))

    def update(self, name: str, world: str, links: str | None, about: About) -> None:
        """Let the file say what it is, and under which terms its pages were written, and make its secret, so that every
        copy has the same. Writes only what is new.

        Args:
            name: the app's name.
            world: what leads every prompt.
            links: the pattern that ``[[Title]]`` leads to.
            about: the engine that writes from now on.

        Raises:
            StoreError: it was not kept.
        """
        _ = self.secret
        licences = self.get("licences", {}) | ({about.model: about.licence} if about.licence else {})
        values = {"name": name, "world": world, "links": links, "licences": licences}
        changed = {key: value for key, value in values.items() if self.get(key) != value}
        if changed:
            self._database.write_now(lambda database: _set_all(database, changed))


def _secret(database: sqlite_utils.Database) -> str:
    # In one transaction: two servers on one file must not each have a secret of their own.
    rows = database.execute("SELECT value FROM world WHERE name = 'secret'").fetchall()
    if rows:
        return str(json.loads(rows[0][0]))
    secret = secrets.token_hex(32)
    _set(database, "secret", secret)
    return secret


def _set_all(database: sqlite_utils.Database, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        _set(database, name, value)


def _set(database: sqlite_utils.Database, name: str, value: Any) -> None:
    database.execute("INSERT OR REPLACE INTO world (name, value) VALUES (?, ?)", (name, json.dumps(value)))
