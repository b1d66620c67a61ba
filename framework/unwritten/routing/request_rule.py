"""Rules: authors' functions of a request, such as those given as ``allow=`` and ``vary=``."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any

import anyio.to_thread
from starlette.requests import Request

from ..core.errors import BadApp
from . import page_function
from .page_function import is_async


class RequestRule:
    """An author's function that takes a request.

    Args:
        function: Sync or async. A sync function runs in a thread.
        argument: The name of the argument that it was given as.

    Attributes:
        function: The function.

    Raises:
        BadApp: If it cannot be called with a request.
    """

    def __init__(self, function: Callable[..., Any], argument: str) -> None:
        if not callable(function):
            raise BadApp(f"{argument}={function!r} is not a function of the request.")
        try:
            inspect.signature(function).bind(None)
        except TypeError:
            name = getattr(function, "__name__", repr(function))
            raise BadApp(f"{argument}={name} must be a function that takes one argument, the request.") from None
        self.function = function
        self._is_async = is_async(function)

    async def call(self, request: Request) -> object:
        """Call the function.

        Raises:
            TimeoutError: If it takes too long.
        """
        async with asyncio.timeout(page_function.FUNCTION_TIME_LIMIT):
            if self._is_async:
                return await self.function(request)
            return await anyio.to_thread.run_sync(functools.partial(self.function, request), abandon_on_cancel=True)

    def error(self, message: str) -> BadApp:
        """Return an error about what the function has returned."""
        error = BadApp(message)
        error.function = self.function
        return error
