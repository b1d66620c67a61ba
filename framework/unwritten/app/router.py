"""The decorators with which authors declare pages, actions, tables and routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..core.errors import BadApp
from ..formats.page import check_fresh
from ..generation.hooks import OnWritten
from ..routing.access_rule import AccessRule
from ..routing.page_function import PageFunction
from ..routing.patterns import PagePattern, check_pattern
from ..routing.routes import PageRoute
from ..routing.vary_rule import VaryRule
from ..storage.tables import Table, Tables
from ..web.action_routes import ActionFunction, ActionRoute
from ..web.site import Site
from .running_app import RunningApp

F = TypeVar("F", bound=Callable[..., Any])
M = TypeVar("M")


class Router:
    """Collects the declarations of a part of an app, for ``app.include_router``. ``App`` is a router too.

    Checks of prompts and texts, the fallback and middleware belong to the app. Functions of a router find the app that
    includes it in ``router.app``.

    Args:
        folder: The folder of this part, or a file in it: ``folder=__file__``. Its ``templates``, ``static`` and
            ``locale`` take precedence over the framework's, and those of the app over both. None: the part has none.

    Attributes:
        template_folders: The folders with templates: its own, then those of included routers.
        static_folders: The folders with static files, in the same order.
        locale_folders: The folders with translations, in the same order.

    Raises:
        BadApp: If the folder does not exist.
    """

    def __init__(self, *, folder: str | Path | None = None) -> None:
        self.declared_routes: list[BaseRoute] = []
        self.written_hooks: list[OnWritten] = []
        self.tables = Tables()
        self.template_folders = _subfolders(folder, "templates")
        self.static_folders = _subfolders(folder, "static")
        self.locale_folders = _subfolders(folder, "locale")
        self._included_in: list[Router] = []
        self._includes: list[Router] = []

    def _add(self, route: BaseRoute) -> None:
        self.declared_routes.append(route)

    @property
    def app(self) -> RunningApp:
        """The app that includes the router, for its functions: ``router.app.value(…)``. Of several, the one that runs.

        Raises:
            BadApp: If no app includes the router yet.
        """
        apps = self._apps()
        if not apps:
            raise BadApp(
                "No app includes this router yet: app.include_router(router). Use router.app inside functions."
            )
        return next((app for app in apps if app.running_site is not None), apps[-1])

    def _apps(self) -> list[RunningApp]:
        return [app for router in self._included_in for app in router._apps()]

    def include_router(self, router: Router, prefix: str = "", *, name: str | None = None) -> None:
        """Add the declarations of another router, and its templates and static files.

        What is declared on the router later is an error. It may be included again under another prefix: its tables are
        shared. Then give one inclusion a name.

        Args:
            router: The router.
            prefix: Put before each of its paths, such as ``/recipes``. All its functions take the parameters of a
                prefix such as ``/{lang}``. A ``links`` pattern that leads to a page of the router gets it too.
            name: Put before the names of its pages, actions and routes: with "de", ``recipe`` becomes ``de:recipe``.

        Raises:
            BadApp: If it is not a router, the prefix is not a path pattern, or a function lacks a parameter of it.
            BadTable: If another table has the name of one of its tables.
        """
        if not isinstance(router, Router):
            raise BadApp(f"include_router takes a Router, but got {type(router).__name__} ({str(router)[:60]!r}).")
        if router is self or isinstance(router, Starlette):
            raise BadApp("A router cannot include itself or an App. An App is mounted: routes=[Mount('/more', app)].")
        if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
            raise BadApp(f"The prefix {prefix!r} must begin with a slash and not end with one, such as '/recipes'.")
        pages = [route.pattern for route in router.declared_routes if isinstance(route, PageRoute)]
        routes = [_with_prefix(route, prefix, name, pages) for route in router.declared_routes]
        hooks = [OnWritten(hook.function.function, hook.pattern.with_prefix(prefix)) for hook in router.written_hooks]
        for table in router.tables:
            self.tables.add(table)
        for route in routes:
            self._add(route)
        self.written_hooks += hooks
        self._add_folders(router)
        router._included_in.append(self)
        self._includes.append(router)

    def _check_alone(self, app: RunningApp) -> None:
        """Raise ``BadApp`` if a router of an app that starts is part of another app that runs.

        ``router.app`` and tables belong to one running app: the functions and rows of one would get into the other.
        """
        for router in self._includes:
            for other in router._apps():
                if other is not app and other.running_site is not None:
                    raise BadApp(
                        f"A router is included in this app and in the app {other.name!r}, which runs in this process. "
                        "A router belongs to one running app. Make the router in a function, and call it for each app."
                    )
            router._check_alone(app)

    def _add_folders(self, router: Router) -> None:
        self.template_folders += [path for path in router.template_folders if path not in self.template_folders]
        self.static_folders += [path for path in router.static_folders if path not in self.static_folders]
        self.locale_folders += [path for path in router.locale_folders if path not in self.locale_folders]

    def _check_open(self, declared: str) -> None:
        """Raise ``BadApp`` if the router was included, so that a declaration would have no effect."""
        if self._included_in:
            raise BadApp(f"{declared} is declared on a router that was included already. Call include_router after it.")

    def page(
        self,
        path: str,
        *,
        links: str | None = None,
        canonical: Callable[[str], str] | None = None,
        prefetch: bool = True,
        allow: Callable[[Request], bool | Awaitable[bool]] | None = None,
        vary: Callable[[Request], str | Awaitable[str | None] | None] | None = None,
        fresh: timedelta | None = None,
        name: str | None = None,
    ) -> Callable[[F], F]:
        """Declare a page: ``@app.page("/wiki/{title}")`` above a function that returns a prompt, a canvas or a page.

        Args:
            path: The pattern, in Starlette's syntax. ``{title}`` reads underscores as spaces; ``{title:raw}`` keeps
                them.
            links: The pattern of the pages that ``[[Title]]`` on this page leads to. None: the app's. The title is its
                last parameter; the others are this page's parameters of the same name.
            canonical: Applied to every parameter that is read as words, so that several spellings lead to one page.
            prefetch: True if the page may be generated before it is clicked.
            allow: A function of the request, sync or async, that decides who may read the page. True allows, False
                denies; it may raise an ``HTTPException`` instead. It protects the page wherever it appears: its
                history, edit forms, boxes, open tabs, lists of pages and the memory of prompts. None: everyone may.
            vary: A function of the request, sync or async, that returns which variant of the page the visitor gets: a
                short text, such as a language or the id of a user, or None for the variant that all others share. One
                page is stored for each value, under the same URL, and read only by requests with this value. The page
                function finds it in ``visit.vary``. None: all visitors get the same page.
            fresh: How old the page may become: ``timedelta(days=1)``. Once it is older, the next visit still shows the
                old version, and has its texts generated again in the background. A canvas can have a time of its own:
                ``Canvas(…, fresh=…)``. None: texts stay for good.
            name: The name for ``url_for``. None: the function's name.

        Raises:
            BadApp: If the path is not a pattern, the function's signature does not fit it, ``allow`` is not a
                function of the request, ``vary`` neither, or ``fresh`` is not a ``timedelta`` of at least a second.
        """
        _check_path("page", path)
        self._check_open(f"The page {path!r}")
        if fresh is not None:
            check_fresh(fresh, f"The page {path!r}")
        access_rule = AccessRule(allow) if allow is not None else None
        vary_rule = VaryRule(vary) if vary is not None else None

        def declare(function: F) -> F:
            pattern = PagePattern(path, canonical)
            route = PageRoute(
                pattern,
                PageFunction(function, pattern, name),
                serve_page,
                PagePattern(links) if links else None,
                prefetch=prefetch,
                allow=access_rule,
                vary=vary_rule,
                fresh=fresh,
            )
            self._add(route)
            return function

        return declare

    def action(self, path: str, *, name: str | None = None) -> Callable[[F], F]:
        """Declare an action: ``@app.action("/thread/{id}/reply")`` above a function that handles a form.

        Parameters that are not in the path come from the form: single fields by name and type, or one parameter that
        is a pydantic model or a dataclass. The function returns None or ``Redraw("region")`` (back to the page), the
        key of a page, or a Starlette response. All its writes to tables are one transaction.

        Args:
            path: The pattern, in Starlette's syntax.
            name: The name for ``action(…)`` in templates and for ``url_for``. None: the function's name.

        Raises:
            BadApp: If the path is not a pattern, or the function's signature does not fit it.
        """
        _check_path("action", path)
        self._check_open(f"The action {path!r}")

        def declare(function: F) -> F:
            pattern = PagePattern(path)
            self._add(ActionRoute(pattern, ActionFunction(function, pattern, name), _serve_action))
            return function

        return declare

    def route(self, path: str, *, methods: Sequence[str] = ("GET",), name: str | None = None) -> Callable[[F], F]:
        """Declare a plain Starlette route: ``@app.route("/api/recipes")`` above a function that takes a request.

        Args:
            path: The pattern, in Starlette's syntax.
            methods: The HTTP methods it accepts.
            name: The name for ``url_for``. None: the function's name.

        Raises:
            BadApp: If the path is not a pattern.
        """
        _check_path("route", path)
        self._check_open(f"The route {path!r}")

        def declare(function: F) -> F:
            self._add(Route(path, function, methods=list(methods), name=name))
            return function

        return declare

    def on_written(self, path: str) -> Callable[[F], F]:
        """Declare a hook: ``@app.on_written("/list/{name}")`` above a function that runs when such a page is written.

        The function takes the parameters of the pattern, reads what was generated with ``app.value``, and may write to
        tables. It runs after the page is stored and before subscribers are notified, and again whenever more of the
        page is written. All its writes are one transaction, and every open page shows them. If it raises, the error is
        logged and the page stays. If the server stops at that moment, it may not run: make it safe to repeat, and offer
        an action for it where that matters.

        Args:
            path: The pattern of the pages.

        Raises:
            BadApp: If the path is not a pattern, or the function's signature does not fit it.
        """
        _check_path("on_written", path)
        self._check_open(f"The hook for {path!r}")

        def declare(function: F) -> F:
            self.written_hooks.append(OnWritten(function, PagePattern(path)))
            return function

        return declare

    def table(
        self, model: type[M], name: str | None = None, *, index: Sequence[str] = (), initial: Iterable[M] = ()
    ) -> Table[M]:
        """Declare a table: ``posts = app.table(Post)``. It is stored in the database of the pages.

        Args:
            model: A pydantic model or a dataclass with a field ``id: int | None = None``.
            name: The table's name. None: derived from the model's name.
            index: Fields by which rows are often selected.
            initial: The rows of a new table.

        Raises:
            BadTable: If the model cannot be stored, or the name is taken.
        """
        table = Table(model, name, index=index, initial=initial)
        self._check_open(f"The table {table.name!r}")
        return self.tables.add(table)


def _check_path(decorator: str, path: object) -> None:
    """Raise ``BadApp`` if a decorator has no path, or one that is not a pattern."""
    if callable(path):
        raise BadApp(f'Write @app.{decorator}("/path") with a path, not @app.{decorator} alone.')
    check_pattern(path)


def _with_prefix(route: BaseRoute, prefix: str, name: str | None, pages: Sequence[PagePattern]) -> BaseRoute:
    """Return a route of an included router, whose pages have these patterns."""
    assert isinstance(route, Route)  # a router creates no others
    full_name = f"{name}:{route.name}" if name else route.name
    if isinstance(route, PageRoute):
        is_own = route.links is not None and any(map(route.links.leads_to, pages))
        links = route.links.with_prefix(prefix) if route.links is not None and is_own else route.links
        return route.with_prefix(prefix, full_name, links)
    if isinstance(route, ActionRoute):
        return route.with_prefix(prefix, full_name)
    check_pattern(prefix + route.path)
    return Route(prefix + route.path, route.endpoint, methods=list(route.methods or ()), name=full_name)


def _subfolders(folder: str | Path | None, name: str) -> list[Path]:
    """Return the folder ``name`` in the folder of an app or a router, if it exists."""
    if folder is None:
        return []
    home = Path(folder).resolve()
    home = home.parent if home.is_file() else home
    if not home.is_dir():
        raise BadApp(f"The folder {home} does not exist. Write folder=__file__.")
    return [home / name] if (home / name).is_dir() else []


async def serve_page(request: Request, route: PageRoute) -> Response:
    """Respond to a request for a page."""
    site: Site = request.app.running_site or await request.app.ready()
    return await site.handler.handle(request, route)


async def _serve_action(request: Request) -> Response:
    site: Site = await request.app.ready()
    return await site.actions.handle(request, request.scope["action_route"])
