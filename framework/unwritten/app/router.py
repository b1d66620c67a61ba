"""The decorators with which authors declare pages, actions, tables and routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..core.errors import BadApp
from ..generation.hooks import OnWritten
from ..routing.access_rule import AccessRule
from ..routing.page_function import PageFunction
from ..routing.patterns import PagePattern, check_pattern
from ..routing.routes import PageRoute
from ..storage.tables import Table, Tables
from ..web.action_routes import ActionFunction, ActionRoute
from ..web.site import Site

F = TypeVar("F", bound=Callable[..., Any])
M = TypeVar("M")


class Router:
    """Collects the declarations of a part of an app, for ``app.include_router``. ``App`` is a router too."""

    def __init__(self) -> None:
        self.declared_routes: list[BaseRoute] = []
        self.written_hooks: list[OnWritten] = []
        self.tables = Tables()

    def _add(self, route: BaseRoute) -> None:
        self.declared_routes.append(route)

    def include_router(self, router: Router, prefix: str = "") -> None:
        """Add the declarations of another router.

        Args:
            router: The router.
            prefix: Put before each of its paths, such as ``/recipes``.

        Raises:
            BadApp: If the prefix is not a path pattern, or a function lacks a parameter of it.
            BadTable: If a table's name is taken, as when a router is included twice.
        """
        if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
            raise BadApp(f"The prefix {prefix!r} must begin with a slash and not end with one, such as '/recipes'.")
        routes = [_with_prefix(route, prefix) for route in router.declared_routes]
        for table in router.tables:
            self.tables.add(table)
        for route in routes:
            self._add(route)
        for hook in router.written_hooks:
            self.written_hooks.append(OnWritten(hook.function.function, hook.pattern.with_prefix(prefix)))

    def page(
        self,
        path: str,
        *,
        links: str | None = None,
        canonical: Callable[[str], str] | None = None,
        prefetch: bool = True,
        allow: Callable[[Request], bool | Awaitable[bool]] | None = None,
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
            name: The name for ``url_for``. None: the function's name.

        Raises:
            BadApp: If the path is not a pattern, the function's signature does not fit it, or ``allow`` is not a
                function of the request.
        """
        _check_path("page", path)
        rule = AccessRule(allow) if allow is not None else None

        def declare(function: F) -> F:
            pattern = PagePattern(path, canonical)
            route = PageRoute(
                pattern,
                PageFunction(function, pattern, name),
                serve_page,
                PagePattern(links) if links else None,
                prefetch=prefetch,
                allow=rule,
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
        return self.tables.add(Table(model, name, index=index, initial=initial))


def _check_path(decorator: str, path: object) -> None:
    """Raise ``BadApp`` if a decorator has no path, or one that is not a pattern."""
    if callable(path):
        raise BadApp(f'Write @app.{decorator}("/path") with a path, not @app.{decorator} alone.')
    check_pattern(path)


def _with_prefix(route: BaseRoute, prefix: str) -> BaseRoute:
    if isinstance(route, (PageRoute, ActionRoute)):
        return route.with_prefix(prefix)
    assert isinstance(route, Route)  # a router creates no others
    check_pattern(prefix + route.path)
    return Route(prefix + route.path, route.endpoint, methods=list(route.methods or ()), name=route.name)


async def serve_page(request: Request, route: PageRoute) -> Response:
    """Respond to a request for a page."""
    site: Site = request.app.running_site or await request.app.ready()
    return await site.handler.handle(request, route)


async def _serve_action(request: Request) -> Response:
    site: Site = await request.app.ready()
    return await site.actions.handle(request, request.scope["action_route"])
