"""The app: it wires the parts together, and does no more."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, overload

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

from unwritten_engine import Engine, EngineError, Progress
from unwritten_engine.errors import suggestion

from ..core.assets import VersionedStaticFiles
from ..core.errors import BadAddress, BadApp, UnwrittenError
from ..core.paths import OWN
from ..core.settings import Settings
from ..devtools.toolbar import DevTools
from ..formats.registry import supports
from ..generation.hooks import Policies
from ..pictures.views import PictureTag
from ..rendering.templates import Templates
from ..routing.patterns import PagePattern
from ..routing.routes import PageFunction, PageRoute
from ..storage.pages import PageStore
from ..storage.values import Source
from ..web.error_pages import ErrorPages, describe_error
from ..web.middleware import Connections
from ..web.page_handler import PageHandler
from .framework_routes import framework_routes
from .lifespan import Lifetime
from .router import Router

log = logging.getLogger("unwritten")


F = TypeVar("F", bound=Callable[..., Any])


S = TypeVar("S")


class App(Router):
    """A web app whose pages are written when they are clicked. It is a Starlette app, with pages added.

    Args:
        name: the app's name, for people.
        world: what is true of everything in it: who writes, in which manner, about which world. It leads
            every prompt.
        folder: the app's folder, or a file in it: ``folder=__file__``. Its ``templates`` and ``static`` are looked
            into before ours. None means that the app has neither.
        links: the pattern of the pages that ``[[Title]]`` leads to, such as ``/wiki/{title}``. None takes the
            page's own pattern if it has one parameter, and the one of ``anywhere`` if there is one.
        engine: an engine, or what ``open_engine`` should open; None leaves it to the settings.
        routes: more Starlette routes. They come before the pages.
        settings: any setting by name; see ``unwritten.core.settings``. A flag or a variable wins over it.

    Raises:
        BadSetting: for an unknown setting, or a value that it cannot take.
        BadApp: if the folder is missing.
    """

    def __init__(
        self,
        name: str,
        *,
        world: str = "",
        folder: str | Path | None = None,
        links: str | None = None,
        engine: Engine | str | None = None,
        routes: list[Any] | None = None,
        **settings: Any,
    ) -> None:
        self.name = name
        self.world = world
        self.links = PagePattern(links) if links else None
        self._life = Lifetime(self, None if isinstance(engine, str) else engine)
        self._keywords = {**settings, **({"engine": engine} if isinstance(engine, str) else {})}
        self._flags: Mapping[str, object] = {}
        self.settings = Settings(self._keywords)
        self.connections = Connections(self.settings, lambda: self.handler.world.secret)
        self.pictures = PictureTag(lambda: self.handler.world.secret, self._life.painter_of)
        self.policies = Policies()
        self.own_templates = _inside(folder, "templates")
        static = _inside(folder, "static")
        self.static_files = VersionedStaticFiles([static] if static else [])
        self._failures = failures = ErrorPages(
            name,
            debug=lambda scope: self.devtools.sees(scope),
            draw=lambda status, values, headers: self.handler.renderer.error_page(status, values, headers),
        )
        self.devtools = DevTools(self)
        self._anywhere: PageRoute | None = None
        super().__init__(
            routes=[*framework_routes(self), *(routes or [])],
            lifespan=self._life,
            exception_handlers={
                HTTPException: failures.http,
                UnwrittenError: failures.known,
                EngineError: failures.known,
                Exception: failures.unknown,
            },
        )

    # -- what an author says ------------------------------------------------------------------------------

    def page(
        self,
        path: str,
        *,
        links: str | None = None,
        canonical: Callable[[str], str] | None = None,
        prefetch: bool = True,
        name: str | None = None,
    ) -> Callable[[F], F]:
        """Declare a page: ``@app.page("/wiki/{title}")`` above a function that says what it needs.

        Args:
            path: the pattern, in Starlette's syntax. ``{title}`` is read as words: underscores are spaces.
            links: the pattern that ``[[Title]]`` on this page leads to, if it is another one.
            canonical: applied to every parameter that is read as words, so that spellings meet in one page.
            ahead: whether such a page may be written before it is clicked.
            name: what ``app.key`` and messages call it; None takes the name of the function.

        Raises:
            BadApp: if the function's signature does not fit the pattern.
        """

        def declare(function: F) -> F:
            route = self._page_route(
                PagePattern(path, canonical), function, PagePattern(links) if links else None, name
            )
            route.prefetch = prefetch
            self.router.routes.append(route)
            return function

        return declare

    def fallback(self, function: F) -> F:
        """Declare the page for every URL that no route claims. The function takes ``path``, without its slash.

        Raises:
            BadApp: if the function takes no ``path``.
        """
        self._anywhere = self._page_route(PagePattern("/{path:path}"), function, None)
        for route in self.pages:
            route.links = route.links or self._anywhere.pattern
        return function

    def key(self, page: str, /, **parameters: Any) -> str:
        """The key of a page, by its name, which is that of its function: ``app.key("article", title="Tea")``.

        Raises:
            BadApp: if there is no page function of that name, or it takes other parameters.
            BadAddress: if no page can have these parameters.
        """
        routes = {route.name: route for route in self.pages}
        if page not in routes:
            raise BadApp(f"There is no page function {page!r}.{suggestion(page, routes)}")
        pattern = routes[page].pattern
        if parameters.keys() != pattern.parameters.keys():
            raise BadApp(f"The page {page!r} has the pattern {pattern.path!r}, but was given {sorted(parameters)}.")
        return pattern.build(pattern.parse(parameters, self.settings.title_length))

    def value(self, key: str, name: str, schema: type[Any] | None = None) -> Any:
        """The value that a canvas with a shape has on a written page: ``app.value("/wiki/Tea", "facts")``.

        Args:
            key: the page's key.
            name: the canvas.
            shape: what it must be an instance of; None takes what the canvas was declared with.

        Returns:
            An instance of the shape; None if there is none, or the shape has changed since.
        """
        return self.handler.values.one(key, name, schema)

    @overload
    def values(self, shape: type[S], limit: int = 100) -> list[tuple[Source, S]]: ...
    @overload
    def values(self, shape: str, limit: int = 100) -> list[tuple[Source, Any]]: ...
    def values(self, shape: type[Any] | str, limit: int = 100) -> list[tuple[Source, Any]]:
        """The values of a shape on all written pages, each with where it comes from, the newest first.

        Args:
            shape: a pydantic model or a dataclass; in a template, its name will do.
            limit: so many at most.
        """
        return self.handler.values.all(shape, limit)

    def link(self, key: str, *, searched: bool = False) -> str:
        """The address of a page, as a link to it needs it: where links are signed, that of an unwritten page carries a
        signature; see ``unwritten.security.signed_links``. In templates it is ``link(key)`` and ``key|link``.

        Args:
            key: the page's key.
            searched: whether a visitor chose it: then the budget of the search box pays.

        Raises:
            BadAddress: if it is no key, such as ``/wiki/Tea``.
        """
        if not key.startswith("/") or key.startswith("//"):
            raise BadAddress(f"{key!r} is not the key of a page, such as '/wiki/Tea'.")
        if not self.connections.gates.required or self.store.exists([key]):
            return key
        return self.connections.gates.sign(key, "search" if searched else "link")

    def allow_prompt(self, hook: F) -> F:
        """Declare what is asked before a page is written: ``hook(asked)`` gets its key, title, visitor and prompts.

        True or None allows; False, or a sentence for people, denies. A hook that raises denies.

        Raises:
            BadApp: if there is one already.
        """
        if self.policies.prompt is not None:
            raise BadApp("The app has an allow_prompt already: call the second from the first.")
        self.policies.prompt = hook
        return hook

    def allow_text(self, hook: F) -> F:
        """Declare what is asked about every finished text: ``hook(key, region, text)``.

        True or None allows; False, or a sentence for people, denies: then nothing of it is kept. A hook that raises
        denies. Drafts are held back until it has answered: nobody sees what was not let through.

        Raises:
            BadApp: if there is one already.
        """
        if self.policies.text is not None:
            raise BadApp("The app has an allow_text already: call the second from the first.")
        self.policies.text = hook
        return hook

    def render(self, template: str, **values: Any) -> HTMLResponse:
        """A template without canvases, as a response, for routes that are not pages.

        Raises:
            BadTemplate: if it cannot be drawn.
        """
        return self.handler.renderer.template(template, {"title": self.name, **values})

    def _page_route(
        self, pattern: PagePattern, function: Callable[..., Any], links: PagePattern | None, name: str | None = None
    ) -> PageRoute:
        async def endpoint(request: Request) -> Response:
            return await (await self.ready()).handle(request, route)

        own = pattern if len(pattern.parameters) == 1 else None
        anywhere = self._anywhere.pattern if self._anywhere else None
        asked = PageFunction(function, pattern, name)
        route = PageRoute(pattern, asked, endpoint, links or self.links or own or anywhere)
        return route

    def supports(self, format: str) -> bool:
        """Whether the engine can be trusted to write in a format: ``app.can("svg")``, in templates too.

        Every engine writes the formats of text. Drawings ("svg") and programs ("app") take a model that follows
        instructions: a model that only continues text, or has random weights, writes none that is worth showing. The
        setting ``markup`` (on, off) has the last word.

        Raises:
            BadPage: if there is no such format; the message suggests the nearest.
            BadApp: if the app has not been prepared, so that there is no engine yet. In page functions there is one.
        """
        return supports(format, self.engine.about, self.settings)

    # -- what it is made of -------------------------------------------------------------------------------

    @property
    def handler(self) -> PageHandler:
        """What answers clicks. The app must have been prepared.

        Raises:
            BadApp: if it has not.
        """
        return self._life.serving

    @property
    def store(self) -> PageStore:
        """The written pages."""
        return self.handler.store

    @property
    def engine(self) -> Engine:
        """The engine that writes."""
        return self.handler.engine

    @property
    def templates(self) -> Templates:
        """The app's templates, with ours behind them."""
        return self.handler.renderer.templates

    @property
    def pages(self) -> list[PageRoute]:
        """The declared pages, ``anywhere`` last."""
        found = [route for route in self.routes if isinstance(route, PageRoute)]
        return [*found, self._anywhere] if self._anywhere else found

    def configure(self, flags: Mapping[str, object]) -> None:
        """Resolve the settings again, with flags from a command line. Before the app is prepared.

        Raises:
            BadSetting: for an unknown flag, or a value that it cannot take.
        """
        self.settings = Settings(self._keywords, flags=flags)
        self.connections = Connections(self.settings, lambda: self.handler.world.secret)
        self._flags = flags

    def override(
        self, engine: Engine | None, flags: Mapping[str, object]
    ) -> tuple[Engine | None, Mapping[str, object]]:
        """Put another engine and other settings in place, for tests. Before the app is prepared.

        Args:
            engine: an open engine; None leaves it to the settings.
            flags: settings that win over all others.

        Returns:
            What was there before, to be put back the same way.

        Raises:
            BadSetting: for an unknown setting, or a value that it cannot take.
        """
        before = self._life.brought, self._flags
        self.configure(flags)
        self._life.brought = engine
        return before

    @property
    def brought_engine(self) -> Engine | None:
        """The open engine that the author gave: ``App(…, engine=an_engine)``."""
        return self._life.brought

    @property
    def folders(self) -> list[Path]:
        """The app's folders of templates and static files."""
        return [folder for folder in (self.own_templates, *self.static_files.folders[:-1]) if folder]

    @property
    def database(self) -> Path:
        """The file of the written pages."""
        if self.settings.database:
            return Path(self.settings.database).expanduser()
        return Path(re.sub(r"\W+", "-", self.name.lower()).strip("-") or "unwritten").with_suffix(".db")

    # -- its life -----------------------------------------------------------------------------------------

    def prepare(self, progress: Progress | None = None) -> None:
        """Open the store and the engine. Slow; does nothing if it was done.

        Raises:
            StoreError, EngineError: if one cannot be opened.
            BadSetting: if the engine's options cannot be read.
        """
        self._life.prepare(progress)

    async def check(self) -> None:
        """Ask every page function what a page of it needs, and make sure that the engine can write it. A page that has
        nothing to say of a subject of no importance is checked when it is first clicked. Does nothing if it was done.

        Raises:
            BadShape: if the engine cannot be held to a shape; the message names the page, the canvas and the place.
            StoreError, EngineError, BadSetting: see ``prepare``.
        """
        await self._life.check()

    async def close(self) -> None:
        """Break off what is being written, and close the store and an engine that the app opened itself."""
        await self._life.close()

    async def ready(self) -> PageHandler:
        """What answers clicks, prepared if need be: without a lifespan (mounted in another app, say) the first request
        opens what is needed.

        Raises:
            StoreError, EngineError, BadSetting: see ``prepare``.
        """
        return await self._life.ready()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection, as every ASGI app does."""
        if self._anywhere is not None:
            self.router.default = self._default
        if scope["type"] == "lifespan":
            send = describe_error(send)
        if scope["type"] in {"http", "websocket"}:
            try:
                scope = self.connections.enter(scope)
            except BadAddress as error:
                await self._failures.turn_away(error, scope, receive, send)
                return
        await self.devtools.answer(super().__call__, scope, receive, send)

    async def _default(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What no route claims: the page of ``anywhere``."""
        route = self._anywhere
        if route is not None and scope["type"] == "http":
            match, child = route.matches(scope)
            if match.value and not scope["path"].startswith(OWN):
                scope.update(child)
                await route.handle(scope, receive, send)
                return
        await self.router.not_found(scope, receive, send)


def _inside(folder: str | Path | None, name: str) -> Path | None:
    """The folder ``name`` inside an app's folder, if there is one."""
    if folder is None:
        return None
    home = Path(folder).resolve()
    home = home.parent if home.is_file() else home
    if not home.is_dir():
        raise BadApp(f"The app's folder {home} does not exist. Write App(…, folder=__file__).")
    return home / name if (home / name).is_dir() else None
