"""Access rules: ``@app.page(…, allow=signed_in)``, an author's function that decides who may read a page."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any

import anyio.to_thread
from starlette.requests import Request

from ..core.errors import BadApp, BadURL
from ..core.localization import gettext_lazy as _
from . import page_function
from .page_function import is_async


class AccessRule:
    """An author's function that decides who may read a page.

    Args:
        function: Sync or async. It takes the request. True allows, False denies. It may raise instead, such as an
            ``HTTPException`` that redirects to a login.

    Raises:
        BadApp: If it cannot be called with a request.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        if not callable(function):
            raise BadApp(f"allow={function!r} is not a function. Write allow=signed_in: a function of the request.")
        try:
            inspect.signature(function).bind(None)
        except TypeError:
            name = getattr(function, "__name__", repr(function))
            raise BadApp(f"allow={name} must be a function that takes one argument, the request.") from None
        self._function = function
        self._is_async = is_async(function)

    async def check(self, request: Request) -> None:
        """Call the function.

        Raises:
            BadURL: With status 403 if the visitor may not read the page.
            BadApp: If the function returns something else than True or False.
            TimeoutError: If it takes too long.
        """
        async with asyncio.timeout(page_function.FUNCTION_TIME_LIMIT):
            if self._is_async:
                answer = await self._function(request)
            else:
                answer = await anyio.to_thread.run_sync(
                    functools.partial(self._function, request), abandon_on_cancel=True
                )
        if not isinstance(answer, bool):
            error = BadApp(f"The access rule returned {answer!r}, but must return True or False. Write bool(…).")
            error.function = self._function
            raise error
        if not answer:
            raise BadURL(_("You may not read this page."), 403)
