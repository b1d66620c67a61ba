"""The thread for long texts: work on them that would keep the event loop from everything else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# One thread: the interpreter runs one at a time, and each further one would delay the event loop.
_thread = ThreadPoolExecutor(1, thread_name_prefix="unwritten-text")


async def in_text_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in the thread for long texts, after the calls before it.

    If this is cancelled, it ends when the function has returned: the function never runs behind its caller's back.
    """
    future = _thread.submit(partial(function, *args, **kwargs))
    waiting = asyncio.wrap_future(future)
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        if not future.cancel():
            await asyncio.wait([waiting])
        with contextlib.suppress(BaseException):
            waiting.result()  # marks its error as seen
        raise
