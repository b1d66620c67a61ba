"""Readers: who reads which page, as far as their browser says, and which of its links they may mean next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Scope

from ..guarding.visitors import client_id

PRESSED, HOVERED, IN_VIEW, GUESSED = range(4)
"""Ranks of links: under a pressed pointer, under one that rests, in view, and all others in the order of the page."""


def is_prefetch(headers: Headers) -> bool:
    """Whether a browser says that nobody has clicked yet."""
    purpose = headers.get("sec-purpose") or headers.get("purpose") or headers.get("x-moz") or ""
    return purpose.partition(";")[0].strip().lower() == "prefetch"


def saves_data(headers: Headers) -> bool:
    """Whether somebody asked for nothing that they have not asked for."""
    return headers.get("save-data", "").strip().lower() == "on"


@dataclass(eq=False)
class Viewer:
    """A tab, or a browser that prefetches.

    Args:
        scope: of its connection.
        tell: called with messages for the tab.
        fetched: a page that a browser has prefetched.

    Attributes:
        visitor: who it is; see ``visitor_of``.
        page: the page that is read; "" for none.
        view: its links that can be seen.
        hover: the link that the pointer rests on.
        press: the link that is pressed.
    """

    scope: Scope
    tell: Callable[[Mapping[str, Any]], None] = lambda message: None
    fetched: str = ""
    visitor: str = field(init=False)
    page: str = ""
    view: frozenset[str] = frozenset()
    hover: str = ""
    press: str = ""
    timer: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        self.visitor = client_id(self.scope)

    def rank(self, key: str) -> int:
        """How likely this link is the next."""
        if key == self.press:
            return PRESSED
        if key == self.hover:
            return HOVERED
        return IN_VIEW if key in self.view else GUESSED
