"""Sequels: what an app does with a page that has just been written, in one transaction, before anybody is told so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from starlette.routing import Match

from ..asking.addresses import PagePattern
from ..asking.routing import PageFunction, TextRoute
from ..errors import BadAddress, BadApp
from ..generating.generation import PageJob
from ..keeping.database import Database
from ..settings import Settings
from .transactions import Transaction, active

log = logging.getLogger("unwritten")


class OnWritten:
    """An author's function that is called when a page of a pattern has been written.

    Args:
        function: sync or async. It takes the parameters of the pattern, and no others but of the page's query.
        pattern: which pages.

    Raises:
        BadApp: if the function's signature does not fit, or asks for a visit or a request, which there is not.
    """

    def __init__(self, function: Callable[..., Any], pattern: PagePattern) -> None:
        self.function = PageFunction(function, pattern)
        self.pattern = pattern
        self._route = TextRoute(pattern, self.function.name, lambda request: None, "GET")
        if self.function.wants_visit or self.function.wants_request:
            raise BadApp(
                f"{self.function.name!r} is called when a page is written, whoever looks: it cannot take a Visit or a "
                "Request."
            )

    def arguments(self, key: str) -> dict[str, Any] | None:
        """What it is called with for the page of this key; None if it is none of its pages."""
        parts = urlsplit(key)
        scope = {"type": "http", "method": "GET", "path": unquote(parts.path), "raw_path": parts.path.encode()}
        match, child = self._route.matches(scope)
        if match is not Match.FULL:
            return None
        try:
            return self.function.parse(self.pattern.parse(child["path_params"], len(key)), dict(parse_qsl(parts.query)))
        except BadAddress:
            return None


class OnWrittenRunner:
    """The sequels of one app.

    Args:
        settings: ``function_time_limit``.
        database: the file of the pages and tables.
        turn: held by whoever writes to tables.
        wrote: told the name of each table that was written to.
        declared: the sequels.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        turn: asyncio.Lock,
        wrote: Callable[[str], None],
        declared: Sequence[OnWritten],
    ) -> None:
        self._settings = settings
        self._database = database
        self._turn = turn
        self._wrote = wrote
        self._declared = declared

    async def run(self, generation: PageJob) -> None:
        """A page has been written and kept. What its sequels raise is logged, and harms no page."""
        for sequel in self._declared:
            arguments = sequel.arguments(generation.key)
            if arguments is not None:
                try:
                    await self._run(sequel.function, arguments)
                except Exception:
                    log.exception("%s is written, but %r of it failed", generation.key, sequel.function.name)

    async def _run(self, function: PageFunction, arguments: dict[str, Any]) -> None:
        async with self._turn:
            transaction = Transaction(self._database, function.name)
            try:
                with active(transaction):
                    await function.run(arguments, None, None, self._settings.function_time_limit)
                await asyncio.to_thread(transaction.commit)
            except BaseException:
                transaction.roll_back(f"{function.name!r} has failed, and all that it wrote was taken back.")
                raise
        for table in transaction.written:
            self._wrote(table)
