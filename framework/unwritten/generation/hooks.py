"""Hooks: an author's own say in what is written, before it is begun and before it is kept.

A hook that raises, or takes too long, denies: what nobody has checked is not written.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

import anyio.to_thread
from starlette.routing import Match

from unwritten_engine import Prompt

from ..core.errors import BadAddress, BadApp, Denied
from ..core.settings import Settings
from ..routing.patterns import PagePattern
from ..routing.routes import PageFunction, TextRoute
from ..storage.database import Database
from ..storage.transactions import Transaction, active
from .page_job import PageJob

log = logging.getLogger("unwritten")


PromptHook: TypeAlias = Callable[["PromptCheck"], Any]


TextHook: TypeAlias = Callable[[str, str, str], Any]


_NOT_THIS_PAGE = "This page is not written here."


_NOT_THIS_TEXT = "What the model wrote here was not let through, and is not kept."


@dataclass(frozen=True, slots=True)
class PromptCheck:
    """A page that somebody wants to have written.

    Attributes:
        key: the page's key.
        title: its title.
        visitor: who asks: an address, or "" if the server does not know it.
        prompts: what the engine would be asked for, by the name of the canvas.
    """

    key: str
    title: str
    visitor: str
    prompts: Mapping[str, Prompt]


class Policies:
    """What the author declared. Both may be sync (then they run in a thread) or async. True and None allow; False, or
    a sentence for people, denies.

    Attributes:
        prompt: ``prompt(asked)``, called before a page is begun.
        text: ``text(key, region, text)``, called with every finished text before anybody sees it.
        time_limit: seconds that a hook may take.
    """

    def __init__(self) -> None:
        self.prompt: PromptHook | None = None
        self.text: TextHook | None = None
        self.time_limit = 10.0

    async def allow_prompt(self, asked: PromptCheck) -> None:
        """Ask whether a page may be written.

        Raises:
            Denied: if it may not.
        """
        if self.prompt is not None:
            await self._ask(self.prompt, (asked,), asked.key, _NOT_THIS_PAGE)

    async def allow_text(self, key: str, region: str, text: str) -> None:
        """Ask whether a finished text may be shown and kept.

        Raises:
            Denied: if it may not.
        """
        if self.text is not None:
            await self._ask(self.text, (key, region, text), f"{key} ({region})", _NOT_THIS_TEXT)

    async def _ask(self, hook: Callable[..., Any], arguments: tuple[Any, ...], what: str, words: str) -> None:
        try:
            async with asyncio.timeout(self.time_limit):
                if inspect.iscoroutinefunction(hook):
                    answer = await hook(*arguments)
                else:
                    answer = await anyio.to_thread.run_sync(lambda: hook(*arguments), abandon_on_cancel=True)
                    if inspect.isawaitable(answer):
                        answer = await answer
            if answer is not None and not isinstance(answer, (bool, str)):
                raise TypeError(f"the hook returned {answer!r}, and not True, False, None or a sentence")
        except Exception as error:
            number = secrets.token_hex(4)
            log.error("%s: the check of it failed, so it is denied (%s)", what, number, exc_info=error)
            raise Denied(
                f"{words} The check of it broke off; the server's log has the reason under the number {number}."
            ) from error
        if isinstance(answer, str):
            raise Denied(answer.strip() or words)
        if answer is False:
            raise Denied(words)


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

    async def run(self, job: PageJob) -> None:
        """A page has been written and kept. What its sequels raise is logged, and harms no page."""
        for sequel in self._declared:
            arguments = sequel.arguments(job.key)
            if arguments is not None:
                try:
                    await self._run(sequel.function, arguments)
                except Exception:
                    log.exception("%s is written, but %r of it failed", job.key, sequel.function.name)

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
