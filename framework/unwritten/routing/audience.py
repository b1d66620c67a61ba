"""The audience: who sees what the running code returns, and so which pages its lists may have.

Context variables hold it, so that functions that run in threads see it too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, TypeAlias

from starlette.types import Scope

Audience: TypeAlias = Literal["visitor", "everyone", "access_check"]
"""Who sees the result of the running code.

* "visitor": the visitor alone.
* "everyone": all visitors, as of a page function or a page's template.
* "access_check": no visitor. A page function is called only to decide whether a visitor may read the page."""

current_connection: ContextVar[Scope | None] = ContextVar("unwritten_connection", default=None)
"""The connection that is being handled. None: the code runs for no visitor, as in a script, a command or a hook."""

current_audience: ContextVar[Audience] = ContextVar("unwritten_audience", default="visitor")


@contextmanager
def audience(audience: Audience) -> Iterator[None]:
    """Run the code inside this context for an audience."""
    token = current_audience.set(audience)
    try:
        yield
    finally:
        current_audience.reset(token)


@contextmanager
def no_visitor() -> Iterator[None]:
    """Run the code inside this context for no visitor, so that it may list all pages."""
    token = current_connection.set(None)
    try:
        with audience("visitor"):
            yield
    finally:
        current_connection.reset(token)


def is_limited() -> bool:
    """True if the audience of the running code is limited to the pages that it may read."""
    return current_connection.get() is not None or current_audience.get() != "visitor"
