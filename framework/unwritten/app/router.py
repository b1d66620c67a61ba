"""Stateful: what an app can do with state: its tables, its actions, and who looks at what they change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from ..core.settings import Settings
from ..generation.hooks import OnWritten, OnWrittenRunner
from ..routing.patterns import PagePattern
from ..routing.routes import PageRoute
from ..storage.tables import Table, Tables
from ..web.actions import ActionFunction, ActionHandler, ActionRoute, find_action
from ..web.live_updates import LiveUpdates
from ..web.page_handler import PageHandler

F = TypeVar("F", bound=Callable[..., Any])


M = TypeVar("M")


class Router(Starlette):
    """What ``App`` can do with state. It is not made by itself."""

    settings: Settings

    def __init__(self, **options: Any) -> None:
        self.tables = Tables()
        self._declared: list[OnWritten] = []
        self._audience: LiveUpdates | None = None
        self._actions: ActionHandler | None = None
        super().__init__(**options)

    def table(
        self, model: type[M], name: str | None = None, *, index: Sequence[str] = (), first: Iterable[M] = ()
    ) -> Table[M]:
        """Declare state: ``posts = app.table(Post)``. It is kept in the file of the pages.

        Args:
            model: a pydantic model or a dataclass with a field ``id: int | None = None``.
            name: the table's name; None makes it of the model's.
            index: fields that rows are often asked for by.
            first: the rows that a new table begins with.

        Raises:
            BadTable: if the model cannot be kept, or the name is taken.
        """
        return self.tables.add(Table(model, name, index=index, first=first))

    def action(self, path: str) -> Callable[[F], F]:
        """Declare an action: ``@app.action("/thread/{id}/reply")`` above a function that handles a form.

        What its signature asks for beyond the path comes from the form: single fields by name and type, or one
        parameter that is a pydantic model or a dataclass. It answers with nothing or ``Redraw("region")`` (back to the
        page), the key of a page, or any Starlette response. All that it writes to tables is one transaction.

        Args:
            path: the pattern, in Starlette's syntax.

        Raises:
            BadApp: if the function's signature does not fit.
        """
        pattern = PagePattern(path)

        def declare(function: F) -> F:
            async def endpoint(request: Request) -> Response:
                await self.ready()
                return await self.actions.handle(request, route)

            route = ActionRoute(pattern, ActionFunction(function, pattern), endpoint)
            self.router.routes.append(route)
            return function

        return declare

    def on_written(self, path: str) -> Callable[[F], F]:
        """Declare what is done with a page that has been written: ``@app.written("/list/{name}")`` above a function.

        It takes the parameters of the pattern, reads what was written (``app.value``), and may write to tables.

        It is called when the page is kept, before anybody is told that it is finished, and again whenever more of it
        has been written or it has been written anew. All that it writes is one transaction, and is shown to everybody
        who looks. If it raises, that is logged and the page stays. If the server is stopped right then, it may not have
        been called: let what it does be done twice without harm, and offer it by an action too where it matters.

        Args:
            path: the pattern of the pages.

        Raises:
            BadApp: if the function's signature does not fit.
        """
        pattern = PagePattern(path)

        def declare(function: F) -> F:
            self._declared.append(OnWritten(function, pattern))
            return function

        return declare

    @property
    def actions(self) -> ActionHandler:
        """What handles forms. The app must have been prepared."""
        assert self._actions is not None
        return self._actions

    @property
    def audience(self) -> LiveUpdates:
        """Who looks at its pages. The app must have been prepared."""
        assert self._audience is not None
        return self._audience

    @property
    def pages(self) -> list[PageRoute]:
        """The declared pages."""
        raise NotImplementedError

    async def ready(self) -> PageHandler:
        """What answers clicks, prepared if need be."""
        raise NotImplementedError

    def wire_state(self, serving: PageHandler) -> None:
        """Let the parts of state see what serves."""
        self._audience = LiveUpdates(serving, lambda: self.pages)
        self.tables.observe(self._audience.wrote)
        self._actions = ActionHandler(self.settings, serving, self._audience, lambda: self.pages)
        turn, wrote = self._actions.turn, self._audience.wrote
        serving.jobs.on_written = OnWrittenRunner(
            self.settings, serving.store.database, turn, wrote, self._declared
        ).run

    @pass_context
    def form_attributes(self, context: Context, name: str, /, **parameters: Any) -> Markup:
        """The attributes of a form, for templates."""
        path = find_action(self.routes, name, parameters, self.settings.title_length)
        return self.actions.attributes(path, context["page"].key)
