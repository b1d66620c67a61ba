"""Declarations: pages, actions, tables and routes, as authors write them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..core.errors import BadApp
from ..generation.hooks import OnWritten
from ..routing.patterns import PagePattern
from ..routing.routes import PageFunction, PageRoute
from ..storage.tables import Table, Tables
from ..web.forms import ActionFunction, ActionRoute

F = TypeVar("F", bound=Callable[..., Any])
M = TypeVar("M")


class Router:
    """Collects declarations. ``App`` is one; it adds what it takes to serve them."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.written_hooks: list[OnWritten] = []

    def add_route_object(self, route: BaseRoute) -> None:
        """Add a route."""
        raise NotImplementedError

    def page(
        self,
        path: str,
        *,
        links: str | None = None,
        canonical: Callable[[str], str] | None = None,
        prefetch: bool = True,
        name: str | None = None,
    ) -> Callable[[F], F]:
        """Declare a page: ``@app.page("/wiki/{title}")`` above a function that returns what the page needs.

        Args:
            path: The pattern, in Starlette's syntax. ``{title}`` reads underscores as spaces; ``{title:raw}`` keeps
                them.
            links: The pattern of the pages that ``[[Title]]`` on this page leads to. None: the app's.
            canonical: Applied to every parameter that is read as words, so that several spellings lead to one page.
            prefetch: True if the page may be generated before it is clicked.
            name: The name for ``url_for``. None: the function's name.

        Raises:
            BadApp: If the function's signature does not fit the pattern.
        """
        if not isinstance(path, str):
            raise BadApp('Write @app.page("/path") with the path of the page, not @app.page alone.')

        def declare(function: F) -> F:
            pattern = PagePattern(path, canonical)
            route = PageRoute(
                pattern,
                PageFunction(function, pattern, name),
                serve_page,
                PagePattern(links) if links else None,
                prefetch=prefetch,
            )
            self.add_route_object(route)
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
            BadApp: If the function's signature does not fit the pattern.
        """
        if not isinstance(path, str):
            raise BadApp('Write @app.action("/path") with the path of the form, not @app.action alone.')

        def declare(function: F) -> F:
            pattern = PagePattern(path)
            self.add_route_object(ActionRoute(pattern, ActionFunction(function, pattern, name), _serve_action))
            return function

        return declare

    def route(self, path: str, *, methods: Sequence[str] = ("GET",), name: str | None = None) -> Callable[[F], F]:
        """Declare a plain Starlette route: ``@app.route("/api/recipes")`` above a function that takes a request.

        Args:
            path: The pattern, in Starlette's syntax.
            methods: The HTTP methods it accepts.
            name: The name for ``url_for``. None: the function's name.
        """

        def declare(function: F) -> F:
            self.add_route_object(Route(path, function, methods=list(methods), name=name))
            return function

        return declare

    def on_written(self, path: str) -> Callable[[F], F]:
        """Declare a hook: ``@app.on_written("/list/{name}")`` above a function that runs when such a page is written.

        The function takes the parameters of the pattern, reads what was generated with ``app.value``, and may write to
        tables. It runs after the page is stored and before anyone is told that it is finished, and again whenever more
        of the page is written. All its writes are one transaction, and every open page shows them. If it raises, the
        error is logged and the page stays. If the server stops at that moment it may not have run: make it safe to
        repeat, and offer an action for it where that matters.

        Args:
            path: The pattern of the pages.

        Raises:
            BadApp: If the function's signature does not fit the pattern.
        """

        def declare(function: F) -> F:
            self.written_hooks.append(OnWritten(function, PagePattern(path)))
            return function

        return declare

    def table(
        self, model: type[M], name: str | None = None, *, index: Sequence[str] = (), first: Iterable[M] = ()
    ) -> Table[M]:
        """Declare a table: ``posts = app.table(Post)``. It is stored in the database of the pages.

        Args:
            model: A pydantic model or a dataclass with a field ``id: int | None = None``.
            name: The table's name. None: derived from the model's name.
            index: Fields by which rows are often selected.
            first: The rows of a new table.

        Raises:
            BadTable: If the model cannot be stored, or the name is taken.
        """
        return self.tables.add(Table(model, name, index=index, first=first))


async def serve_page(request: Request) -> Response:
    site = await request.app.ready()
    response: Response = await site.handler.handle(request, request.scope["page_route"])
    return response


async def _serve_action(request: Request) -> Response:
    site = await request.app.ready()
    response: Response = await site.actions.handle(request, request.scope["action_route"])
    return response
