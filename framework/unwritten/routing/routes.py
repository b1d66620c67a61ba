"""Routes of pages, and ``PageRequest``, the resolved request for a page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

from starlette.datastructures import URLPath
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, NoMatchFound, Route, Router
from starlette.types import Receive, Scope, Send

from unwritten_engine.errors import suggestion

from ..core.errors import BadApp, BadURL
from ..core.paths import ENCODED_SLASH
from ..formats.links import Linker
from ..formats.page import Page
from .access_rule import AccessRule
from .page_function import PageFunction
from .patterns import PagePattern
from .vary_rule import VaryRule

RAISE: Final = object()
"""The value of a ``default`` argument that was not given: an error is raised."""


class PatternRoute(Route):
    """A Starlette route for a page pattern. An encoded slash stays in its parameter: ``AC%2FDC`` is one segment."""

    def __init__(self, pattern: PagePattern, name: str, endpoint: Callable[..., Any], method: str) -> None:
        super().__init__(pattern.path, endpoint, methods=[method], name=name)
        self.pattern = pattern

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match as Starlette does, with encoded slashes as ``ENCODED_SLASH``."""
        raw = scope.get("raw_path")
        if raw and b"%" in raw and b"%2f" in raw.lower() and scope["type"] == "http":
            path = raw.decode("latin-1").split("?")[0]
            for slash in ("%2F", "%2f"):
                path = path.replace(slash, ENCODED_SLASH)
            scope = {**scope, "path": unquote(path)}
        return super().matches(scope)

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        """Return the canonical path for these parameters. Numbers and dates may be given as they are.

        Raises:
            NoMatchFound: If the route has another name or other parameters.
            BadURL: If no page can have these parameters.
        """
        if name != self.name or path_params.keys() != self.pattern.parameters.keys():
            raise NoMatchFound(name, path_params)
        try:
            values = self.pattern.parse(path_params)
            path = self.pattern.build(values)
            self._validate(values)
        except BadURL as error:
            given = ", ".join(f"{key}={str(value)[:60]!r}" for key, value in path_params.items())
            raise BadURL(f"There is no URL of {name!r} for {given}. {error}", error.status) from None
        return URLPath(path=path, protocol="http")

    def _validate(self, values: Mapping[str, Any]) -> None:
        """Raise ``BadURL`` if no page can have these parameters, although the pattern allows them."""


PageEndpoint: TypeAlias = "Callable[[Request, PageRoute], Awaitable[Response]]"


class PageRoute(PatternRoute):
    """The route of a page.

    Args:
        pattern: The pattern of its path.
        function: The page function.
        endpoint: Takes a request and this route, and returns a response.
        links: The pattern of the pages that ``[[Title]]`` leads to. None: nowhere.
        prefetch: True if the page may be generated before it is clicked.
        allow: Decides who may read the page. None: everyone.
        vary: Decides which variant of the page a request gets. None: there is one for all.
        fresh: How old the texts of the page may become. None: those of canvases without a time of their own stay.
        links_to_itself: True if titles lead to pages of this route unless the author says where. None: if its pattern
            has one parameter.
    """

    def __init__(
        self,
        pattern: PagePattern,
        function: PageFunction,
        endpoint: PageEndpoint,
        links: PagePattern | None,
        *,
        prefetch: bool = True,
        allow: AccessRule | None = None,
        vary: VaryRule | None = None,
        fresh: timedelta | None = None,
        links_to_itself: bool | None = None,
    ) -> None:
        super().__init__(pattern, function.name, endpoint, "GET")
        self.endpoint: PageEndpoint = endpoint
        self.function = function
        self.links = links
        self.prefetch = prefetch
        self.allow = allow
        self.vary = vary
        self.fresh = fresh
        self.links_to_itself = len(pattern.parameters) == 1 if links_to_itself is None else links_to_itself

    @property
    def depends_on_visitor(self) -> bool:
        """True if the page may be different for another visitor, or refused."""
        return self.is_private or self.function.wants_request or self.function.wants_visit

    @property
    def is_private(self) -> bool:
        """True if what some visitors get at the page's URL must not be sent to others."""
        return self.allow is not None or self.vary is not None

    def with_prefix(self, prefix: str, name: str, links: PagePattern | None) -> PageRoute:
        """Return the same page below a prefix, with this name and these links."""
        pattern = self.pattern.with_prefix(prefix)
        return PageRoute(
            pattern,
            PageFunction(self.function.function, pattern, name),
            self.endpoint,
            links,
            prefetch=self.prefetch,
            allow=self.allow,
            vary=self.vary,
            fresh=self.fresh,
            links_to_itself=self.links_to_itself,  # the parameters of a prefix do not count
        )

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to a request, without the wrapper in which Starlette handles the exceptions of its endpoints."""
        if scope["method"] not in {"GET", "HEAD"}:
            await super().handle(scope, receive, send)  # 405
            return
        response = await self.endpoint(Request(scope, receive, send), self)
        await response(scope, receive, send)

    def _validate(self, values: Mapping[str, Any]) -> None:
        self.function.parse_path(values)


class URLOnlyRoute(BaseRoute):
    """Builds the URLs of another route, and matches no request. The fallback has one, for ``url_for``."""

    def __init__(self, route: PatternRoute) -> None:
        self.name = route.name
        self.path = route.path
        self._route = route

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match nothing."""
        return Match.NONE, {}

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        """Return the path of the other route; see ``PatternRoute.url_path_for``."""
        return self._route.url_path_for(name, **path_params)


class MountedNames:
    """Builds URLs by name in a mounted app: its own names come first, then those of the app around it.

    Args:
        own: The router of the mounted app.
        outer: The router of the app around it.
        prefix: The path of the mount in that app.
    """

    def __init__(self, own: Router, outer: Any, prefix: str) -> None:
        self._own = own
        self.outer = outer
        self._prefix = prefix

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        """Return a path in the outer app.

        Raises:
            NoMatchFound: If neither app has such a route.
            BadURL: If no page can have these parameters.
        """
        try:
            path = self._own.url_path_for(name, **path_params)
        except NoMatchFound:
            outer: URLPath = self.outer.url_path_for(name, **path_params)
            return outer
        return URLPath(path=self._prefix + path, protocol="http", host=path.host)


class UnknownRoute(BadApp, NoMatchFound):
    """There is no page or route with this name and these parameters."""

    def __init__(self, name: str, path_params: Mapping[str, Any], routes: Sequence[BaseRoute]) -> None:
        named = {str(label): route for route in routes if (label := getattr(route, "name", None))}
        if name in named:
            path = getattr(named[name], "path", "")
            message = f"The route {name!r} has the path {path!r}, but was given {sorted(path_params)}."
        else:
            message = f"There is no page or route {name!r}.{suggestion(name, named)}"
        Exception.__init__(self, message)


@dataclass(slots=True)  # not frozen, which would triple the cost of making one for every request
class PageRequest:
    """A request for a page, resolved once and passed down. It is never changed.

    Attributes:
        key: The page's key.
        title: The page's title.
        page: What the page function returned.
        route: The route that matched.
        request: Starlette's request.
        linker: Decides where the page's links lead.
        tables: The tables that the page function has read.
        frame_src: What the page's content security policy allows in frames; see ``security.headers.frame_src``.
    """

    key: str
    title: str
    page: Page
    route: PageRoute
    request: Request
    linker: Linker
    tables: frozenset[str] = frozenset()
    frame_src: str = ""
