"""The reader: for whom the running code lists pages. A context variable holds it, also in the threads of functions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from starlette.types import Scope


@dataclass(frozen=True, slots=True)
class Reader:
    """Who sees the result of the running code.

    Attributes:
        scope: A connection of the visitor.
        loop: The event loop of the app, for code that runs in a thread. None: it cannot wait for the loop.
        is_shared: True if all visitors see the result, as in a page function or a page's template.
        is_deciding: True if nobody sees the result: the function is called to decide whether the visitor may read.
    """

    scope: Scope
    loop: asyncio.AbstractEventLoop | None = None
    is_shared: bool = False
    is_deciding: bool = False


current_reader: ContextVar[Reader | None] = ContextVar("unwritten_reader", default=None)
"""The reader. None: the code runs for no visitor, as in a script, a command or a hook, and may list all pages."""


@contextmanager
def reading(reader: Reader | None) -> Iterator[None]:
    """Run the code inside this context for a reader."""
    token = current_reader.set(reader)
    try:
        yield
    finally:
        current_reader.reset(token)


def page_reader(scope: Scope) -> Reader:
    """Return the reader of a page function. All visitors see the page, unless it is called to decide about access."""
    current = current_reader.get()
    if current is not None and current.is_deciding:
        return current
    return Reader(scope, asyncio.get_running_loop(), is_shared=True)


def template_reader() -> Reader:
    """Return the reader of a page's template. All visitors see the page."""
    current = current_reader.get()
    return Reader(current.scope if current is not None else {}, is_shared=True)
