"""The app: a Starlette app that collects declarations."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, ExceptionHandler, Receive, Scope, Send
from starlette.types import Lifespan as StarletteLifespan

from unwritten_engine import Engine, Progress
from unwritten_engine.errors import suggestion

from ..core.assets import VersionedStaticFiles
from ..core.errors import BadApp, BadSetting
from ..core.localization import Localization
from ..core.mount import IN_PROCESS, MountPoint
from ..core.paths import DATA_SUFFIX, FRAMEWORK_PREFIX, page_key
from ..core.settings import BY_NAME, load_settings
from ..devtools import DevTools
from ..editing import Editing
from ..generation.hooks import Policies
from ..pictures import Pictures
from ..routing.page_function import PageFunction
from ..routing.patterns import PagePattern
from ..routing.routes import PageRoute, URLOnlyRoute
from ..security.exposure import Exposure
from ..security.owner import Owner
from ..storage.location import Location, parse_location
from ..web.error_pages import ErrorPages, report_lifespan_errors
from ..web.extension import Extension
from ..web.middleware import ConnectionMiddleware
from ..web.site import Site
from ..web.watchdog import Watchdog
from .declarations import Declarations
from .framework_routes import WellKnownRoutes, framework_mount
from .lifespan import Lifespan
from .middleware_stack import build_stack, may_refuse
from .outer_app import OuterApp
from .router import Router, serve_page
from .running_app import RunningApp

F = TypeVar("F", bound=Callable[..., Any])


class App(Router, RunningApp):
    """A Starlette app whose pages are generated when they are clicked.

    Args:
        name: The app's name, shown to visitors.
        world: What holds for everything in the app: its setting, author and tone. It leads every prompt.
        language: The language of the pages as a language tag, such as ``ar``. It also decides the direction of the
            layout, and the language of the framework's texts. A page can have another one: ``Page(…, lang="de")``.
        folder: The app's folder, or a file in it: ``folder=__file__``. Its ``templates``, ``static`` and ``locale``
            take precedence over the framework's. None: the app has none of them.
        links: The pattern of the pages that ``[[Title]]`` leads to, such as ``/wiki/{title}``. The title is its last
            parameter; the others, as in ``/{country}/{city}``, are those of the page with the link. None: the page's
            own pattern if it has one parameter, otherwise that of the fallback.
        engine: An open engine, or the name of one for ``open_engine``. None: the settings decide.
        debug: True shows tracebacks and developer tools to every browser. The same as the setting ``debug``.
        routes: Starlette routes. They come before the pages.
        middleware: Starlette middleware.
        exception_handlers: Starlette exception handlers. They take precedence over the framework's error pages.
        lifespan: A Starlette lifespan. It runs while the engine and the store are open.
        max_body_size: The largest size of a request's body in bytes. None: no limit beyond those of forms.
        settings: Any setting by name; see ``unwritten.core.settings``. Flags and environment variables override them.

    Raises:
        BadSetting: For an unknown setting or an invalid value.
        BadApp: If the folder does not exist.
    """

    def __init__(
        self,
        name: str,
        *,
        world: str = "",
        language: str = "en",
        folder: str | Path | None = None,
        links: str | None = None,
        engine: Engine | str | None = None,
        debug: bool | None = None,
        routes: Sequence[BaseRoute] | None = None,
        middleware: Sequence[Middleware] | None = None,
        exception_handlers: Mapping[Any, ExceptionHandler] | None = None,
        lifespan: StarletteLifespan[Any] | None = None,
        max_body_size: int | None = None,
        **settings: Any,
    ) -> None:
        self.name = name
        self.world = world
        self.language = language
        self.links = PagePattern(links) if links else None
        self._aliases: dict[str, str] = {}
        self.policies = Policies()
        self.template_globals: dict[str, Any] = {"app": self}
        self._keywords = {
            **settings,
            **({"engine": engine} if isinstance(engine, str) else {}),
            **({"debug": debug} if debug is not None else {}),
        }
        self._engine = None if isinstance(engine, str) else engine
        self._flags: Mapping[str, object] = {}
        _check_arguments(settings)
        self.settings = load_settings(self._keywords)
        self._exposure = Exposure(self.settings)
        self._watchdog = Watchdog()
        self._mount = MountPoint()
        Router.__init__(self, folder=folder)
        self._own_templates = next(iter(self.template_folders), None)
        self._own_static = next(iter(self.static_folders), None)
        self.static_files = VersionedStaticFiles(self.static_folders)
        self.localization = Localization(language, self.locale_folders)
        self._fallback: PageRoute | None = None
        self.devtools = DevTools(self.settings, self._exposure)
        self.extensions: list[Extension] = [Editing(), Pictures(), self.devtools]
        self._outer = OuterApp(self)
        self._lifespan = Lifespan(self._declare, lifespan, self._outer)
        Starlette.__init__(
            self,
            debug=bool(self.settings.debug),
            routes=routes,
            middleware=middleware,
            exception_handlers=exception_handlers,
            lifespan=self._lifespan,
            **({} if max_body_size is None else {"max_body_size": max_body_size}),  # Starlette 1.0 has no such limit
        )
        self.router.default = self._serve_unmatched

    if not TYPE_CHECKING:  # otherwise type checkers would accept any attribute

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(f"App has no attribute {name!r}.{suggestion(name, _public_names(type(self)))}")

    # -- declarations -------------------------------------------------------------------------------------

    def _add(self, route: BaseRoute) -> None:
        self.router.routes.append(route)

    def _apps(self) -> list[RunningApp]:
        return [self]

    def _add_folders(self, router: Router) -> None:
        super()._add_folders(router)
        self.static_files.add(router.static_folders)
        self.localization.add(router.locale_folders)

    def fallback(self, function: F) -> F:
        """Declare the page for every URL that no route matches. The function takes ``path``, without its slash.

        Raises:
            BadApp: If the function takes no ``path``, or there is a fallback already.
        """
        if self._fallback is not None:
            raise BadApp("The app has a fallback already. An app has one.")
        pattern = PagePattern("/{path:path}")
        self._fallback = PageRoute(pattern, PageFunction(function, pattern), serve_page, None)
        self.router.routes.append(URLOnlyRoute(self._fallback))
        return function

    def alias(self, alias: str, target: str) -> None:
        """Declare an alias, another name of a page: ``app.alias("/wiki/The_Captain", "/wiki/Captain_Sarah")``.

        Links to the alias lead to the page, and its URL redirects there. A page that is stored under the alias stays
        until it is deleted.

        Args:
            alias: The key that is another name.
            target: The key of the page. It need not be written yet.

        Raises:
            BadApp: If one of them is not a key, or the alias leads elsewhere already.
        """
        for key in (alias, target):
            if not isinstance(key, str) or page_key(key) is None:
                raise BadApp(f"app.alias takes the keys of pages, such as '/wiki/Captain_Sarah', not {key!r}.")
        if self._aliases.setdefault(alias, target) != target:
            raise BadApp(f"{alias!r} is another name of {self._aliases[alias]!r} already. It has one target.")

    def allow_prompt(self, function: F) -> F:
        """Declare a check that runs before a page is generated: ``check(prompt_check)``.

        It gets the page's key and title, the visitor and the prompts. For ``app.generate`` the key is "". True or None
        allows; False, or a sentence for the visitor, denies. A check that raises denies.

        Raises:
            BadApp: If there is one already.
        """
        if self.policies.prompt_policy is not None:
            raise BadApp("The app has an allow_prompt check already. Call the second from the first.")
        self.policies.prompt_policy = function
        return function

    def allow_text(self, function: F) -> F:
        """Declare a check of every finished text: ``check(key, region, text)``.

        True or None allows; False, or a sentence for the visitor, denies, and then nothing of the text is stored. A
        check that raises denies. Drafts are not shown until the check has passed. For ``app.generate`` the key is ""
        and the region is "text".

        Raises:
            BadApp: If there is one already.
        """
        if self.policies.text_policy is not None:
            raise BadApp("The app has an allow_text check already. Call the second from the first.")
        self.policies.text_policy = function
        return function

    def extend(self, extension: Extension) -> None:
        """Install an extension. Call it before the app starts."""
        self.extensions.append(extension)

    # -- the running app ----------------------------------------------------------------------------------

    @property
    def owner(self) -> Owner:
        """Recognizes the person who runs the app."""
        return self._exposure.owner

    @property
    def pages(self) -> list[PageRoute]:
        """The declared pages, the fallback last."""
        pages = [route for route in self.routes if isinstance(route, PageRoute)]
        return [*pages, self._fallback] if self._fallback else pages

    @property
    def provided_engine(self) -> Engine | None:
        """The open engine that was passed as ``App(…, engine=an_engine)``."""
        return self._engine

    @property
    def folders(self) -> list[Path]:
        """The folders of templates, static files and translations, of the app and its routers."""
        return [*self.template_folders, *self.static_folders, *self.locale_folders]

    @property
    def database(self) -> Location:
        """The database: a SQLite file, or the URL of a PostgreSQL database.

        Raises:
            BadSetting: If the setting is the URL of another kind of database.
        """
        if self.settings.database:
            return parse_location(self.settings.database)
        return Path(re.sub(r"\W+", "-", self.name.lower()).strip("-") or "unwritten").with_suffix(".db")

    def configure(self, flags: Mapping[str, object]) -> None:
        """Resolve the settings again, with flags from a command line. Call it before the app starts.

        Raises:
            BadSetting: For an unknown flag or an invalid value.
        """
        self.settings = load_settings(self._keywords, flags=flags)
        self._exposure = Exposure(self.settings)
        self.devtools.configure(self.settings, self._exposure)
        self.debug = bool(self.settings.debug)
        self.middleware_stack = None
        self._flags = flags

    def override(
        self, engine: Engine | None, flags: Mapping[str, object]
    ) -> tuple[Engine | None, Mapping[str, object]]:
        """Replace the engine and settings, for tests. Call it before the app starts.

        Args:
            engine: An open engine. None: the settings decide.
            flags: Settings that override all others.

        Returns:
            The previous ones, to be restored the same way.

        Raises:
            BadSetting: For an unknown setting or an invalid value.
        """
        before = self._engine, self._flags
        self.configure(flags)
        self._engine = engine
        return before

    def prepare(self, progress: Progress | None = None, *, is_server: bool = False) -> None:
        """Open the store and the engine, unless they are open. Slow: it may load a model.

        Args:
            progress: Called while a model is loaded.
            is_server: True refuses to start if another process serves the same database.

        Raises:
            BadApp: If the declarations do not fit together.
            StoreError, EngineError, BadSetting: See ``build``.
        """
        self._lifespan.prepare(progress, is_server=is_server)

    async def check(self) -> None:
        """Check that the engine supports the schemas of all pages.

        Pages that reject sample parameters are validated on first request.

        Raises:
            BadSchema: If it does not; the message names the page, the canvas and the place.
            StoreError, EngineError, BadSetting: See ``prepare``.
        """
        await self._lifespan.check()

    async def ready(self) -> Site:
        """Return the running app's components. Without a lifespan the first request starts the app.

        Raises:
            StoreError, EngineError, BadSetting: See ``prepare``.
        """
        return await self._lifespan.ready()

    async def close(self) -> None:
        """Stop all work, and close the store and the engine if the app opened it."""
        await self._lifespan.close()

    # -- ASGI ---------------------------------------------------------------------------------------------

    def build_middleware_stack(self) -> ASGIApp:
        """Build the stack: connections, extensions, server errors, the author's middleware, exceptions, router."""
        connections = Middleware(
            ConnectionMiddleware,
            settings=self.settings,
            exposure=self._exposure,
            mount=self._mount,
            watchdog=self._watchdog,
        )
        extensions = (middleware for extension in self.extensions for middleware in extension.middleware(self.ready))
        self._add_framework_routes()
        return build_stack(
            self.router,
            first=[connections, *extensions],
            author=self.user_middleware,
            handlers=self.exception_handlers,
            error_pages=ErrorPages(self.name, self.ready, self.devtools.is_visible, self.owner.owns, self.localization),
            trusted_proxies=self.settings.trusted_proxies,
            max_body_size=getattr(self, "max_body_size", None),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] == "lifespan":
            self._outer.lifespan_state = scope.get("state")
            self._lifespan.is_server = IN_PROCESS not in scope.get("extensions", {})
            self._lifespan.is_own = True
            send = report_lifespan_errors(send)
        elif "router" in scope:  # the app is mounted
            scope = self._outer.enter(scope)
        else:
            self._outer.is_unknown = False
        await super().__call__(scope, receive, send)

    def _has_access_middleware(self) -> bool:
        """True if a request passes middleware that may refuse it, of this app or of those around it."""
        own = {Editing, Pictures, DevTools}
        return (
            self._outer.may_be_mounted
            or may_refuse(self.user_middleware)
            or any(type(ext) not in own and ext.middleware(self.ready) for ext in self.extensions)
        )

    async def _serve_unmatched(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the fallback, or the data of a page."""
        route = self._fallback
        if route is not None and scope["type"] == "http":
            match, child = route.matches(scope)
            path = self._mount.route_path(scope["path"]) or ""
            if match is not Match.NONE and not path.startswith(FRAMEWORK_PREFIX):
                scope.update(child)
                await route.handle(scope, receive, send)
                return
        if scope["type"] == "http" and scope["path"].endswith(DATA_SUFFIX):
            response = await (await self.ready()).handler.handle_unmatched(Request(scope, receive))
            if response is not None:
                await response(scope, receive, send)
                return
        await self.router.not_found(scope, receive, send)

    def _add_framework_routes(self) -> None:
        """Put the framework's routes first. They are added once, when all extensions are installed."""
        if not any(isinstance(route, WellKnownRoutes) for route in self.router.routes):
            mount = framework_mount(self.ready, self.static_files, self.extensions)
            self.router.routes[:0] = [mount, WellKnownRoutes(self.ready, self._mount, self.router.routes)]

    def _declare(self) -> Declarations:
        """Return what the author declared.

        Raises:
            BadApp: If the declarations do not fit together.
        """
        self._check_alone(self)
        self._add_framework_routes()
        declarations = Declarations(
            name=self.name,
            world=self.world,
            links=self.links,
            aliases=self._aliases,
            settings=self.settings,
            database=self.database,
            engine=self._engine,
            pages=self.pages,
            fallback=self._fallback,
            routes=self.routes,
            router=self.router,
            tables=self.tables,
            written_hooks=self.written_hooks,
            policies=self.policies,
            templates=self._own_templates,
            router_templates=[path for path in self.template_folders if path != self._own_templates],
            static=self._own_static,
            router_static=[path for path in self.static_folders if path != self._own_static],
            localization=self.localization,
            static_files=self.static_files,
            template_globals=self.template_globals,
            extensions=self.extensions,
            mount=self._mount,
            exposure=self._exposure,
            dispatch=self._outer.dispatch,
            has_middleware=self._has_access_middleware,
            is_developing=lambda: self.devtools.is_enabled,
            watchdog=self._watchdog,
        )
        declarations.check()
        return declarations


def _check_arguments(names: Iterable[str]) -> None:
    """Raise ``BadSetting`` for a name that is not a setting, but similar to an argument of ``App`` or Starlette."""
    arguments = [
        name for name, argument in inspect.signature(App).parameters.items() if argument.kind is argument.KEYWORD_ONLY
    ]
    for name in names:
        if name in {"on_startup", "on_shutdown"}:
            raise BadSetting(f"App takes no argument {name!r}. Pass lifespan=, as to Starlette.")
        if name not in BY_NAME and difflib.get_close_matches(name, arguments):
            raise BadSetting(f"App takes no argument {name!r}.{suggestion(name, arguments)}")


def _public_names(cls: type) -> list[str]:
    return [name for name in dir(cls) if not name.startswith("_")]
