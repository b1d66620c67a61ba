"""The app: it wires the parts together, and does no more."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from unwritten_engine import Engine, EngineError, Progress, open_engine

from .addresses import Pattern
from .assets import PREFIX, Static
from .clicks import Clicks
from .drawing import Templates
from .engine_options import engine_options
from .errors import BadAddress, BadApp, BadSetting, UnwrittenError, suggestion
from .failures import Failures
from .live import Live
from .routing import PageFunction, PageRoute
from .security import same_origin
from .serving import Serving
from .settings import Settings
from .store import Store
from .views import Views

log = logging.getLogger("unwritten")

F = TypeVar("F", bound=Callable[..., Any])


class App(Starlette):
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
        settings: any setting by name; see ``unwritten.settings``. A flag or a variable wins over it.

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
        self._links = Pattern(links) if links else None
        self._engine_given = engine if engine is not None and not isinstance(engine, str) else None
        self._keywords = {**settings, **({"engine": engine} if isinstance(engine, str) else {})}
        self.settings = Settings(self._keywords)
        self._templates = _inside(folder, "templates")
        static = _inside(folder, "static")
        self.static_files = Static([static] if static else [])
        failures = Failures(
            name,
            debug=lambda: bool(self.settings.debug),
            draw=lambda status, values, headers: self.serving.views.message(status, values, headers),
        )
        self._serving: Serving | None = None
        self._owned: Engine | None = None
        self._preparing = asyncio.Lock()
        self._anywhere: PageRoute | None = None
        own = [
            WebSocketRoute("/_unwritten/live", self._live),
            Route("/_unwritten/rewrite", self._rewrite, methods=["POST"]),
            Mount(PREFIX, self.static_files),
        ]
        super().__init__(
            routes=[*own, *(routes or [])],
            lifespan=self._lifespan,
            exception_handlers={
                HTTPException: failures.http,
                UnwrittenError: failures.known,
                EngineError: failures.known,
                Exception: failures.unknown,
            },
        )

    # -- what an author says ------------------------------------------------------------------------------

    def page(
        self, path: str, *, links: str | None = None, canonical: Callable[[str], str] | None = None
    ) -> Callable[[F], F]:
        """Declare a page: ``@app.page("/wiki/{title}")`` above a function that says what it needs.

        Args:
            path: the pattern, in Starlette's syntax. ``{title}`` is read as words: underscores are spaces.
            links: the pattern that ``[[Title]]`` on this page leads to, if it is another one.
            canonical: applied to every parameter that is read as words, so that spellings meet in one page.

        Raises:
            BadApp: if the function's signature does not fit the pattern.
        """

        def declare(function: F) -> F:
            route = self._page_route(Pattern(path, canonical), function, Pattern(links) if links else None)
            self.router.routes.append(route)
            return function

        return declare

    def anywhere(self, function: F) -> F:
        """Declare the page for every URL that no route claims. The function takes ``path``, without its slash.

        Raises:
            BadApp: if the function takes no ``path``.
        """
        self._anywhere = self._page_route(Pattern("/{path:path}"), function, None)
        for route in self.pages:
            route.links = route.links or self._anywhere.pattern
        return function

    def key(self, page: str, /, **parameters: Any) -> str:
        """The key of a page, by the name of its function: ``app.key("article", title="Tea")``.

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
        return pattern.write(pattern.read(parameters, self.settings.title_length))

    def render(self, template: str, **values: Any) -> HTMLResponse:
        """A template without canvases, as a response, for routes that are not pages.

        Raises:
            BadTemplate: if it cannot be drawn.
        """
        return self.serving.views.template(template, {"title": self.name, **values})

    def _page_route(self, pattern: Pattern, function: Callable[..., Any], links: Pattern | None) -> PageRoute:
        async def endpoint(request: Request) -> Response:
            return await (await self._ready()).answer(request, route)

        own = pattern if len(pattern.parameters) == 1 else None
        anywhere = self._anywhere.pattern if self._anywhere else None
        route = PageRoute(pattern, PageFunction(function, pattern), endpoint, links or self._links or own or anywhere)
        return route

    # -- what it is made of -------------------------------------------------------------------------------

    @property
    def serving(self) -> Serving:
        """What answers clicks. The app must have been prepared.

        Raises:
            BadApp: if it has not.
        """
        if self._serving is None:
            raise BadApp("The app has not been prepared yet: call app.prepare(), or serve it.")
        return self._serving

    @property
    def store(self) -> Store:
        """The written pages."""
        return self.serving.store

    @property
    def engine(self) -> Engine:
        """The engine that writes."""
        return self.serving.engine

    @property
    def templates(self) -> Templates:
        """The app's templates, with ours behind them."""
        return self.serving.views.templates

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

    @property
    def folders(self) -> list[Path]:
        """The app's folders of templates and static files."""
        return [folder for folder in (self._templates, *self.static_files.folders[:-1]) if folder]

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
        if self._serving is not None:
            return
        options = engine_options(self.settings)
        if self._engine_given is not None and options:
            raise BadSetting(
                f"The app {self.name!r} brings its own engine, which is open already; it cannot be given "
                f"{sorted(options)}. Leave out --model and --engine-options, or write App(…, engine='a name')."
            )
        store = Store(self.database)
        try:
            engine = self._engine_given
            if engine is None:
                engine = self._owned = open_engine(self.settings.engine, progress=progress, **options)
        except BaseException:
            store.close()
            raise
        templates = Templates(self._templates, {"app": self, "static": functools.cache(self.static_files.url)})
        self._clicks = Clicks(name=self.name, world=self.world, settings=self.settings, store=store)
        views = Views(templates, self.static_files, engine.about)
        self._serving = Serving(self.settings, self._clicks, views, store, engine)

    async def close(self) -> None:
        """Break off what is being written, and close the store and an engine that the app opened itself."""
        serving, self._serving = self._serving, None
        if serving is not None:
            await serving.generations.close()
            serving.store.close()
        if self._owned is not None:
            await self._owned.close()
            self._owned = None

    async def _ready(self) -> Serving:
        # Without a lifespan (mounted in another app, say) the first request opens what is needed.
        if self._serving is None:
            async with self._preparing:
                await asyncio.to_thread(self.prepare)
        return self.serving

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        await self._ready()
        warming = asyncio.create_task(self._warm(), name="warming")
        try:
            yield
        finally:
            warming.cancel()
            await asyncio.gather(warming, return_exceptions=True)
            await self.close()

    async def _warm(self) -> None:
        """Let the engine evaluate what all pages share, so that the first click is as quick as the second."""
        try:
            await self.engine.warm(await self._clicks.sample_prompts(self.pages))
        except Exception:
            log.warning("The engine could not be warmed; the first page will take longer.", exc_info=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection, as every ASGI app does."""
        if self._anywhere is not None:
            self.router.default = self._default
        await super().__call__(scope, receive, send)

    async def _default(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What no route claims: the page of ``anywhere``."""
        route = self._anywhere
        if route is not None and scope["type"] == "http":
            match, child = route.matches(scope)
            if match.value and not scope["path"].startswith("/_unwritten/"):
                scope.update(child)
                await route.handle(scope, receive, send)
                return
        await self.router.not_found(scope, receive, send)

    # -- its own routes -----------------------------------------------------------------------------------

    async def _live(self, websocket: WebSocket) -> None:
        serving = await self._ready()
        await Live(serving, websocket, self.settings.frame_rate).run()

    async def _rewrite(self, request: Request) -> Response:
        """Write a page anew, as its next version, and lead back to it."""
        if not same_origin(request.headers.get("origin"), request.headers.get("host")):
            raise BadAddress("A page is written anew from its own page only.", 403)
        serving = await self._ready()
        form = await request.form(max_files=0, max_fields=8)
        unknown = sorted(set(form) - {"page"})
        key = form.get("page")
        if unknown or not isinstance(key, str) or not key.startswith("/"):
            problem = f"has a field {unknown[0]!r}, which nobody asked for" if unknown else "does not say which page"
            raise BadAddress(f"The form {problem}. Go back to the page and press its button again.")
        return await serving.rewrite(key, request, self.pages)


def _inside(folder: str | Path | None, name: str) -> Path | None:
    """The folder ``name`` inside an app's folder, if there is one."""
    if folder is None:
        return None
    home = Path(folder).resolve()
    home = home.parent if home.is_file() else home
    if not home.is_dir():
        raise BadApp(f"The app's folder {home} does not exist. Write App(…, folder=__file__).")
    return home / name if (home / name).is_dir() else None
