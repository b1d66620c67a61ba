"""Aliases: keys that are other names of pages, in the database of the pages."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from ..core.errors import BadAlias, StoreError, StoreFull
from ..core.localization import gettext_lazy as _
from ..core.paths import url_of_key
from .database import Connection, Database
from .variants import variants_of

log = logging.getLogger("unwritten")

_CHECK_SECONDS = 1.0
"""Seconds after which it is checked whether another process has changed the aliases."""


class AliasStore:
    """The aliases of a world. They are held in memory, because they are looked up for every request.

    Aliases always lead to a page, and never to another alias.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._targets: dict[str, str] = {}
        self._version = -1
        self._next_check = 0.0

    def target(self, key: str) -> str | None:
        """Return the key of the page that this key is another name of, or None if it is not an alias."""
        if time.monotonic() >= self._next_check:
            self._refresh()
        return self._targets.get(key)

    def all(self) -> list[tuple[str, str]]:
        """Return all aliases with their targets, in order."""
        self._refresh()
        return sorted(self._targets.items())

    def of(self, key: str) -> list[str]:
        """Return the aliases of a page or of a variant of it, in order."""
        return [alias for alias, target in self.all() if target == url_of_key(key)]

    async def add(self, alias: str, target: str) -> str:
        """Make a key another name of a page, which need not be written. Return the key of that page.

        The variants of a page have its aliases in common. If the target is an alias itself, the new alias leads to its
        target. Aliases of the new alias do so too.

        Raises:
            BadAlias: If the alias is a stored page or leads elsewhere already, or if it would lead to itself.
            StoreLocked, StoreFull, StoreReadOnly, StoreError: Nothing was written.
        """
        await self._database.write(lambda connection: add_alias(connection, alias, target))
        self._refresh()
        return self._targets.get(url_of_key(alias), target)

    async def remove(self, alias: str) -> str:
        """Remove an alias, and return its former target.

        Raises:
            BadAlias: If there is none, or the app declares it.
            StoreLocked, StoreFull, StoreReadOnly, StoreError: Nothing was written.
        """
        removed = await self._database.write(lambda connection: _remove(connection, alias))
        self._refresh()
        return removed

    def declare(self, aliases: Mapping[str, str]) -> None:
        """Store the aliases that the app declares, instead of those that it declared before.

        A stored page keeps its key: its alias is left out, and a warning says so. If the disk is full or the database
        is only read, nothing changes.

        Raises:
            StoreError: If they could not be stored.
        """
        rows = self._database.read("SELECT alias, target FROM aliases WHERE declared")
        if dict(rows) == aliases or self._database.read_only:
            return
        try:
            self._database.write_sync(lambda connection: _declare(connection, aliases))
        except StoreFull as error:
            log.warning("The aliases of the app could not be stored: %s", error)

    def _refresh(self) -> None:
        self._next_check = time.monotonic() + _CHECK_SECONDS
        try:
            version = self._database.data_version()
            if version != self._version:
                self._targets = dict(self._database.read("SELECT alias, target FROM aliases"))
                self._version = version
        except StoreError as error:
            log.debug("The aliases cannot be read: %s", error)


def add_alias(connection: Connection, alias: str, target: str, *, declared: bool = False) -> bool:
    """Store an alias in a transaction; see ``AliasStore.add``. Return False if it is stored already."""
    alias, target = url_of_key(alias), url_of_key(target)
    if alias == target:
        raise BadAlias(_("%(alias)s cannot be another name of itself.", alias=alias))
    condition, parameters = variants_of(alias, connection.dialect)
    query = f"SELECT 1 FROM pages WHERE key = ? OR ({condition}) LIMIT 1"  # noqa: S608
    if connection.execute(query, (alias, *parameters)).fetchall():
        command = f"unwritten pages alias {alias} {target} --replace"
        raise BadAlias(
            _(
                "%(alias)s is a stored page, so it cannot be another name of %(target)s. The owner can delete it: "
                "%(command)s",
                alias=alias,
                target=target,
                command=command,
            )
        )
    end = _target(connection, target) or target
    if end == alias:
        raise BadAlias(
            _(
                "%(target)s is another name of %(alias)s, so %(alias)s cannot be another name of %(target)s.",
                target=target,
                alias=alias,
            )
        )
    current = _target(connection, alias)
    if current is not None and current != end:
        raise BadAlias(
            _("%(alias)s is another name of %(current)s already. Remove that first.", alias=alias, current=current)
        )
    if current is None:
        connection.execute("UPDATE aliases SET target = ? WHERE target = ?", (end, alias))
        connection.execute("INSERT INTO aliases (alias, target, declared) VALUES (?, ?, ?)", (alias, end, declared))
    return current is None


def _remove(connection: Connection, alias: str) -> str:
    target = _target(connection, alias)
    if target is None:
        raise BadAlias(_("%(alias)s is not another name of a page.", alias=alias))
    if connection.execute("SELECT 1 FROM aliases WHERE alias = ? AND declared", (alias,)).fetchall():
        raise BadAlias(
            _("%(alias)s is declared in the app's code: remove app.alias('%(alias)s', …) there.", alias=alias)
        )
    connection.execute("DELETE FROM aliases WHERE alias = ?", (alias,))
    return target


def _declare(connection: Connection, aliases: Mapping[str, str]) -> None:
    connection.execute("DELETE FROM aliases WHERE declared")
    for alias, target in aliases.items():
        try:
            add_alias(connection, alias, target, declared=True)
        except BadAlias as error:
            log.warning("An alias of the app is left out: %s", error)


def _target(connection: Connection, alias: str) -> str | None:
    rows = connection.execute("SELECT target FROM aliases WHERE alias = ?", (alias,)).fetchall()
    return str(rows[0][0]) if rows else None
