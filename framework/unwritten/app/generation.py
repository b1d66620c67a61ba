"""The methods of ``App`` that generate: texts, values, and many pages in one run."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, cast, overload

from unwritten_engine import Progress

from ..formats.base import Format
from ..generation.page_writer import WriteResult
from ..generation.text_generator import CanvasOptions
from ..routing.audience import current_connection
from ..web.site import Site

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from .lifespan import Lifespan

S = TypeVar("S")


class Generation:
    """Adds ``generate``, ``stream``, ``write`` and ``async with`` to ``App``."""

    _lifespan: Lifespan

    @property
    def site(self) -> Site:
        """The components of the running app.

        Raises:
            BadApp: If the app is not running yet.
        """
        return self._lifespan.site

    @overload
    async def generate(self, prompt: str, *, schema: type[S], **canvas: Unpack[CanvasOptions]) -> S: ...
    @overload
    async def generate(
        self, prompt: str, *, format: str | Format | None = None, **canvas: Unpack[CanvasOptions]
    ) -> str: ...
    async def generate(
        self,
        prompt: str,
        *,
        schema: type[Any] | None = None,
        format: str | Format | None = None,
        **canvas: Unpack[CanvasOptions],
    ) -> Any:
        """Generate a text or a value for your own code: ``await app.generate("One line about tea.")``.

        For routes, actions, hooks, lifespans, scripts and tests. The app's world leads the prompt. While a request is
        handled, it waits in the queue of the pages as a click, and the visitor is charged as for a page. Otherwise it
        runs when no visitor waits. The result is cleaned and repaired like a page, and ``allow_prompt`` and
        ``allow_text`` check it. Nothing is stored. If the task is cancelled, or the visitor leaves, the engine stops.

        In an action or a hook, ask before the first write to a table.

        Args:
            prompt: What to write.
            schema: A pydantic model or a dataclass. The result is an instance of it.
            format: "text" (the default: plain text), "markdown", "html", "svg", "app", or a ``Format``. Templates print
                the safe HTML of the result.
            canvas: Further arguments of ``Canvas``: ``canvases``, ``tokens``, ``examples``, ``opening``, ``stop``,
                ``seed`` and ``options``.

        Returns:
            A string, or an instance of the schema.

        Raises:
            BadPage: If the prompt is empty, the format is unknown, or both a schema and a format are given.
            BadSchema: If the engine does not support the schema.
            BadApp: If the app is not running, in a page function, or after a write in an action.
            OverBudget: If the visitor's budget is spent. Unless it is caught, the response is 429.
            Busy: If the queue is full, or the server stops (503).
            Denied: If one of the author's checks denies it (403).
            PageFailed: If the model wrote nothing usable in two attempts (503). ``TimedOut``, a subclass, if it took
                too long (504).
            EngineError: If the engine has failed (503).
        """
        site = await self._running()
        return await site.generator.generate(prompt, schema, format, canvas)

    @overload
    def stream(
        self, prompt: str, *, schema: type[Any], **canvas: Unpack[CanvasOptions]
    ) -> AsyncGenerator[Any, None]: ...
    @overload
    def stream(
        self, prompt: str, *, format: str | Format | None = None, **canvas: Unpack[CanvasOptions]
    ) -> AsyncGenerator[str, None]: ...
    def stream(
        self,
        prompt: str,
        *,
        schema: type[Any] | None = None,
        format: str | Format | None = None,
        **canvas: Unpack[CanvasOptions],
    ) -> AsyncGenerator[Any, None]:
        """Generate like ``generate``, and show it on the way: ``async for text in app.stream("A poem about tea.")``.

        Each text is the whole text so far, because some engines change words that they have written. The last one is
        what ``generate`` returns. With a schema, the values before the last have the fields that have arrived. If the
        author checks texts, only the last one is shown.

        Args:
            prompt: See ``generate``; the other arguments and the errors too.
            schema: See ``generate``.
            format: See ``generate``.
            canvas: See ``generate``.
        """
        return self._stream(prompt, schema, format, canvas)

    async def _stream(
        self, prompt: str, schema: type[Any] | None, format: str | Format | None, canvas: CanvasOptions
    ) -> AsyncGenerator[Any, None]:
        site = await self._running()
        async with contextlib.aclosing(site.generator.stream(prompt, schema, format, canvas)) as values:
            async for value in values:
                yield value

    async def _running(self) -> Site:
        """Return the components of the app. A request starts an app without a lifespan, such as a mounted one.

        Raises:
            BadApp: If the app is not running yet.
        """
        return self.site if current_connection.get() is None else await self._lifespan.ready()

    async def write(self, paths: Iterable[str], *, progress: Progress | None = None) -> WriteResult:
        """Write many pages: ``await app.write(["/wiki/Tea", "/wiki/Salt"])``.

        Clicks and prefetches go first, and no budget is charged. Pages that are stored are skipped: a run that was
        interrupted is continued by repeating it. Other spellings and redirects are followed to their page. Access
        rules (``allow``) do not apply, because nothing is shown: they protect the written page. A page function that
        takes the request gets that of a visitor about whom nothing is known.

        In an action or a hook, write pages before the first write to a table.

        Args:
            paths: The paths of pages. ``[page.key for page in app.store.missing_pages(50)]`` are those that stored
                pages link to.
            progress: Called with the share done and a line about the last page.

        Returns:
            The keys that were ``written`` and ``skipped``, and the paths that ``failed`` with the reason of each.

        Raises:
            StoreReadOnly: If the app only reads its database.
            BadApp: If the app is not running, in a page function, or after a write in an action.
        """
        site = await self._running()
        return await site.writer.write(paths, progress)

    # -- scripts ------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Run the app in a script, without a server: its store, its engine and its lifespan."""
        await self._lifespan.start_script(cast("Starlette", self))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._lifespan.end_script()
