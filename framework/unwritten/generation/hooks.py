"""Authors' functions around generation: policies before it, and hooks after it.

A policy allows or denies a page before it is generated, or a text before it is shown. A policy that raises or takes too
long denies. An ``on_written`` hook runs when a page has been stored.
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

from ..core.errors import BadApp, BadURL, Denied
from ..core.localization import gettext_lazy as _
from ..core.localization import join
from ..core.tracebacks import log_error
from ..routing import page_function
from ..routing.audience import no_visitor
from ..routing.page_function import PageFunction
from ..routing.patterns import PagePattern
from ..routing.routes import PatternRoute
from ..storage.database import Database
from ..storage.transactions import WriteLock, function_transaction
from .page_job import PageJob

log = logging.getLogger("unwritten")

PromptPolicy: TypeAlias = Callable[["PromptCheck"], Any]
"""``policy(check)``: allows or denies a page."""

TextPolicy: TypeAlias = Callable[[str, str, str], Any]
"""``policy(key, region, text)``: allows or denies a finished text."""

_PAGE_DENIED = _("This page is not written here.")
_TEXT_DENIED = _("The text that the model wrote was rejected, and is not stored.")


@dataclass(frozen=True, slots=True)
class PromptCheck:
    """A page, or a text for ``app.generate``, that is about to be generated.

    Attributes:
        key: The page's key. "" for ``app.generate``.
        title: The page's title. "" for ``app.generate``.
        client_id: The client that requests it: an IP address, or "" if unknown.
        prompts: The engine's prompts by the name of the canvas.
    """

    key: str
    title: str
    client_id: str
    prompts: Mapping[str, Prompt]


class Policies:
    """The author's policies. They may be async; others run in a thread.

    True and None allow. False, or a sentence for the visitor, denies.

    Attributes:
        prompt_policy: Called before a page is generated. None allows all.
        text_policy: Called with every finished text before it is shown. None allows all.
    """

    def __init__(self) -> None:
        self.prompt_policy: PromptPolicy | None = None
        self.text_policy: TextPolicy | None = None

    async def allow_prompt(self, check: PromptCheck) -> None:
        """Call the prompt policy.

        Raises:
            Denied: If the page may not be generated.
        """
        if self.prompt_policy is not None:
            await self._ask(self.prompt_policy, (check,), check.key, _PAGE_DENIED)

    async def allow_text(self, key: str, region: str, text: str) -> None:
        """Call the text policy.

        Raises:
            Denied: If the text may not be shown and stored.
        """
        if self.text_policy is not None:
            await self._ask(self.text_policy, (key, region, text), f"{key} ({region})", _TEXT_DENIED)

    async def _ask(self, policy: Callable[..., Any], arguments: tuple[Any, ...], subject: str, denied: str) -> None:
        try:
            async with asyncio.timeout(page_function.FUNCTION_TIME_LIMIT):
                if inspect.iscoroutinefunction(policy):
                    answer = await policy(*arguments)
                else:
                    answer = await anyio.to_thread.run_sync(lambda: policy(*arguments), abandon_on_cancel=True)
                    if inspect.isawaitable(answer):
                        answer = await answer
            if answer is not None and not isinstance(answer, (bool, str)):
                raise TypeError(f"the policy returned {answer!r}, but must return True, False, None or a sentence")
        except Exception as error:
            number = secrets.token_hex(4)
            log_error(log, f"{subject} is denied, because its policy failed ({number})", error)
            raise Denied(
                join(
                    denied,
                    _("Its check failed. The server's log has the reason under the number %(number)s.", number=number),
                )
            ) from error
        if isinstance(answer, str):
            raise Denied(answer.strip() or denied)
        if answer is False:
            raise Denied(denied)


class OnWritten:
    """An author's function that runs when a page of a pattern has been stored.

    Args:
        function: Sync or async. It takes the parameters of the pattern, and any parameters of the page's query.
        pattern: The pattern of the pages.

    Raises:
        BadApp: If the signature does not fit the pattern, or asks for a ``Visit`` or a ``Request``.
    """

    def __init__(self, function: Callable[..., Any], pattern: PagePattern) -> None:
        self.function = PageFunction(function, pattern)
        self.pattern = pattern
        self._route = PatternRoute(pattern, self.function.name, lambda request: None, "GET")
        if self.function.wants_visit or self.function.wants_request:
            raise BadApp(
                f"The on_written hook {self.function.name!r} cannot take a Visit or a Request: it runs when a page has "
                "been written, and not for one visitor."
            )

    def arguments(self, key: str) -> dict[str, Any] | None:
        """Return the function's arguments for the page with this key. None if the pattern does not match."""
        parts = urlsplit(key)
        scope = {"type": "http", "method": "GET", "path": unquote(parts.path), "raw_path": parts.path.encode()}
        match, child = self._route.matches(scope)
        if match is not Match.FULL:
            return None
        try:
            return self.function.parse(self.pattern.parse(child["path_params"], len(key)), dict(parse_qsl(parts.query)))
        except BadURL:
            return None


class OnWrittenRunner:
    """Runs the ``on_written`` hooks of one app.

    Args:
        database: The database of pages and tables.
        write_lock: Held by all functions that write to tables.
        on_table_written: Called with the name of each table that a hook has written to.
        hooks: The hooks.
    """

    def __init__(
        self,
        database: Database,
        write_lock: asyncio.Lock,
        on_table_written: Callable[[str], None],
        hooks: Sequence[OnWritten],
    ) -> None:
        self._database = database
        self._write_lock = write_lock
        self._on_table_written = on_table_written
        self._hooks = hooks

    async def run(self, job: PageJob) -> None:
        """Run the hooks of a page that has been stored. What they raise is logged."""
        for hook in self._hooks:
            arguments = hook.arguments(job.key)
            if arguments is not None:
                try:
                    await self._run(hook.function, arguments)
                except Exception as error:
                    title = f"{job.key} is written, but its on_written hook {hook.function.name!r} failed"
                    log_error(log, title, error)

    async def _run(self, function: PageFunction, arguments: dict[str, Any]) -> None:
        async with (
            WriteLock(self._write_lock) as write_lock,
            function_transaction(self._database, function.name, write_lock, is_async=function.is_async) as transaction,
        ):
            with no_visitor():  # a hook runs on behalf of the app, not of the visitor who opened the page
                await function.run(arguments, None, None, transaction.time_limit)
        for table in transaction.written:
            self._on_table_written(table)
