"""Vary rules: ``@app.page(…, vary=language)``, one stored page for each value of an author's function.

The variants of a page have one URL. Each has a key of its own: the URL's, with the value after it as a fragment, such
as ``/notes/Tea#vary=de``. A browser never sends a fragment, so no URL leads to the variant of another visitor. A
request reads only the variant with its own value; see ``routing.access``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request

from ..core.paths import is_variant_value
from .request_rule import RequestRule

MAX_VARIANTS = 10_000
"""Maximum number of stored variants of one page. No further ones are generated."""


class VaryRule(RequestRule):
    """An author's function that returns which variant of a page a request gets.

    Args:
        function: Sync or async. It takes the request, and returns a short text, or None for the shared variant.

    Raises:
        BadApp: If it cannot be called with a request.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function, "vary")

    async def value(self, request: Request) -> str | None:
        """Return the value for a request.

        Raises:
            BadApp: If it is not None or a short text.
            TimeoutError: If the function takes too long.
        """
        value = await self.call(request)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.error(
                f"The function given as vary=… returned {value!r}, but must return a text, or None for the variant "
                "that visitors without a value share. Write str(…)."
            )
        if not is_variant_value(value):
            raise self.error(
                f"The function given as vary=… returned {value[:80]!r}. A value has 1 to 64 letters (A to Z), digits "
                "and . _ - @ + ~ characters. Choose from a list, or use an id instead of a name."
            )
        return value
