"""Hooks: an author's own say in what is written, before it is begun and before it is kept.

A hook that raises, or takes too long, denies: what nobody has checked is not written.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import anyio.to_thread

from unwritten_engine import Prompt

from .errors import Denied

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
