"""The world store: values of the app as a whole, by name, in the database of its pages."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Mapping
from typing import Any

from unwritten_engine import About

from ..core.errors import StoreFull
from .database import Connection, Database

log = logging.getLogger("unwritten")


class WorldStore:
    """Values of the app, by name. Each is stored as JSON."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._secret: bytes | None = None

    @property
    def secret(self) -> bytes:
        """32 random bytes that sign this world's links and forms. They are created on first use.

        Raises:
            StoreError: If they cannot be stored.
        """
        if self._secret is None:
            stored = self.get("secret")  # read first: the disk may be full
            if stored is None and self._database.read_only:
                stored = secrets.token_hex(32)  # a public copy has none; then links are signed until this process ends
            self._secret = bytes.fromhex(stored or self._database.write_sync(_create_secret))
        return self._secret

    def get(self, name: str, default: Any = None) -> Any:
        """Return a value, or ``default`` if there is none."""
        rows = self._database.read("SELECT value FROM world WHERE name = ?", (name,))
        return json.loads(rows[0][0]) if rows else default

    def update(self, name: str, world: str, links: str | None, about: About) -> None:
        """Store the app's description and the licences of its generated pages. Only changes are written.

        If the disk is full, or the database is only read, nothing is stored.

        The secret is created too, so that every copy of the file has the same one.

        Args:
            name: The app's name.
            world: The text that leads every prompt.
            links: The pattern that ``[[Title]]`` leads to.
            about: The engine that generates pages from now on.

        Raises:
            StoreError: If it could not be stored.
        """
        if self._database.read_only:
            return
        _ = self.secret
        licences = self.get("licences", {}) | ({about.model: about.licence} if about.licence else {})
        values = {"name": name, "world": world, "links": links, "licences": licences}
        changed = {key: value for key, value in values.items() if self.get(key) != value}
        if changed:
            try:
                self._database.write_sync(lambda connection: _set(connection, changed))
            except StoreFull as error:
                log.warning("The description of the app could not be stored: %s", error)


def _create_secret(connection: Connection) -> str:
    # In one transaction, so that two servers that open one database at the same time agree on the secret.
    rows = connection.execute("SELECT value FROM world WHERE name = 'secret'").fetchall()
    if rows:
        return str(json.loads(rows[0][0]))
    secret = secrets.token_hex(32)
    _set(connection, {"secret": secret})
    return secret


def _set(connection: Connection, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        connection.execute(
            "INSERT INTO world (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, json.dumps(value)),
        )
