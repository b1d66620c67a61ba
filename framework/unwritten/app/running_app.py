"""What the functions of an app and of its routers use while it runs: ``app.value``, ``app.store``, ``app.generate``.

``App`` adds the declarations and the start. Routers know their app as a ``RunningApp``.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

from starlette.applications import Starlette
from starlette.datastructures import URLPath
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse
from starlette.routing import NoMatchFound

from unwritten_engine import Engine, Progress

from ..core.errors import BadURL
from ..core.paths import site_path
from ..core.settings import Settings
from ..formats.base import Format
from ..formats.registry import supports
from ..generation.page_writer import WriteResult
from ..generation.text_generator import CanvasOptions
from ..rendering.templates import Templates
from ..routing.audience import current_connection
from ..routing.routes import RAISE, UnknownRoute
from ..routing.stored_pages import HasKey, StoredPages, readable_values
from ..storage.values import Source
from ..web.site import Site
from .lifespan import Lifespan

P = TypeVar("P", bound="str | HasKey")
D = TypeVar("D")
S = TypeVar("S")


class RunningApp(Starlette):
    """A Starlette app with stored pages and an engine that writes them. ``App`` is its only subclass.

    Attributes:
        name: The app's name, shown to visitors.
        settings: The settings by name.
    """

    name: str
    settings: Settings
    _lifespan: Lifespan

    @property
    def running_site(self) -> Site | None:
        """The components of the app while it runs, otherwise None."""
        return self._lifespan.running_site

    @property
    def site(self) -> Site:
        """The components of the running app.

        Raises:
            BadApp: If the app is not running yet.
        """
        return self._lifespan.site

    @property
    def store(self) -> StoredPages:
        """The stored pages, to be read.

        Where not everyone may read all pages, its lists have only those that the reader may read: in page functions and
        templates the pages that everyone may read, in other routes and actions those of the visitor. Scripts and hooks
        see all pages. In an async function make a list in a thread: ``await run_in_threadpool(app.store.recent, 10)``.
        """
        return self.site.stored_pages

    async def readable(self, pages: Iterable[P], request: HTTPConnection) -> list[P]:
        """Return those of these pages that a visitor may read, such as pages that a table of yours names.

        The lists of ``app.store`` are checked already.

        Args:
            pages: Keys, or objects with a key. At most 500 URLs are checked, and the pages of others are left out.
            request: The visitor's request.
        """
        given = list(pages)
        keys = [page if isinstance(page, str) else str(page.key) for page in given]
        found = await self.site.access.readable(keys, request.scope)
        return [page for page, key in zip(given, keys, strict=True) if key in found]

    @property
    def engine(self) -> Engine:
        """The engine that writes the pages."""
        return self.site.engine

    @property
    def templates(self) -> Templates:
        """The app's templates, with the framework's behind them."""
        return self.site.renderer.templates

    # -- in page functions, routes and templates ----------------------------------------------------------

    @overload
    def url_path_for(  # pyright: ignore[reportOverlappingOverload] - path_params has no "default"
        self, name: str, /, *, default: D, **path_params: Any
    ) -> URLPath | D: ...
    @overload
    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath: ...
    def url_path_for(self, name: str, /, *, default: Any = RAISE, **path_params: Any) -> Any:
        """Return the path of a page or route: ``app.url_path_for("article", title="Tea")``. Of a page it is the key.

        Args:
            name: The name of the page or route.
            default: Returned if no page can have these parameters, which may happen if the model or a visitor has
                written them. Not given: an error is raised.
            path_params: The parameters of its path. Numbers and dates may be given as they are.

        Raises:
            NoMatchFound: If there is no such route, or it takes other parameters. The message names the nearest.
            BadURL: If no page can have these parameters.
        """
        try:
            path = super().url_path_for(name, **path_params)
            if site_path(path) is None:
                raise BadURL(f"The URL of {name!r} with these parameters leads to no path of this app.")
            return path
        except NoMatchFound:
            raise UnknownRoute(name, path_params, self.routes) from None
        except BadURL:
            if default is RAISE:
                raise
            return default

    def value(self, key: str, name: str, schema: type[Any] | None = None) -> Any:
        """Return the value of a canvas with a schema on a written page: ``app.value("/wiki/Tea", "facts")``.

        Args:
            key: The page's key.
            name: The canvas.
            schema: What the value must be an instance of. None: the canvas's own schema.

        Returns:
            An instance of the schema. None if there is none, or the schema has changed since.
        """
        return self.site.values.get(key, name, schema)

    @overload
    def values(self, schema: type[S], limit: int = 100) -> list[tuple[Source, S]]: ...
    @overload
    def values(self, schema: str, limit: int = 100) -> list[tuple[Source, Any]]: ...
    def values(self, schema: type[Any] | str, limit: int = 100) -> list[tuple[Source, Any]]:
        """Return the values of a schema on all written pages, each with its source, the newest first.

        Args:
            schema: A pydantic model or a dataclass. In templates its name is enough.
            limit: The largest number of values.
        """
        return readable_values(self.site.values, self.site.access, schema, limit)

    def link(self, key: str, *, searched: bool = False, default: Any = RAISE) -> Any:
        """Return the URL for a link to a page. Where links are signed, that of an unwritten page has a signature.

        In templates it is ``link(key)`` and ``key|link``.

        Args:
            key: The page's key.
            searched: True if a visitor chose the page: their budget for searches is charged.
            default: Returned if it is not a key. Not given: an error is raised.

        Raises:
            BadURL: If it is not a key, such as ``/wiki/Tea``.
        """
        return self.site.template_globals.link(key, searched=searched, default=default)

    def render(self, template: str, /, status_code: int = 200, **values: Any) -> HTMLResponse:
        """Render a template without canvases as a response, for routes that are not pages.

        Raises:
            BadTemplate: If it cannot be rendered.
        """
        return self.site.renderer.render(template, {"title": self.name, **values}, status_code)

    def supports(self, format: str) -> bool:
        """True if the engine writes a format well enough to show: ``app.supports("svg")``, in templates too.

        ``app.supports("images")`` is true if it sees the images of a ``Canvas(…, images=[photo])``.

        Every engine writes text formats. Drawings ("svg") and programs ("app") need a model that follows instructions
        and has 2 billion parameters or more.
        The setting ``markup`` (on, off) overrides this.

        Raises:
            BadPage: If there is no such format; the message suggests the nearest.
            BadApp: If the app is not running yet, so that there is no engine.
        """
        return supports(format, self.site.engine.about, self.settings)

    # -- generating -------------------------------------------------------------------------------------

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
        await self._lifespan.start_script(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._lifespan.end_script()
