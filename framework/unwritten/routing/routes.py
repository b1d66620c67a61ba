"""Routing: from a URL to the call of a page function, with its parameters in their types."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Callable, Coroutine, Generator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, get_type_hints
from urllib.parse import unquote, urlencode

import anyio.to_thread
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import URLPath
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match, NoMatchFound, Route
from starlette.types import Scope

from ..core.errors import BadAddress, BadApp, TimedOut
from ..core.paths import ENCODED_SLASH
from ..formats.page import Page, as_page
from ..security.headers import frame_src
from ..security.signed_links import SIGNATURE
from .patterns import PagePattern
from .visit import Visit

PLAIN, VERSION = "plain", "version"


FRAMEWORK_QUERY = frozenset({PLAIN, VERSION, SIGNATURE})
"""Query parameters that are ours on every page."""


BLOCKING_SECONDS = 0.25
"""Seconds for which an async function may keep the event loop before a warning is logged."""

log = logging.getLogger("unwritten")

_EMPTY = inspect.Parameter.empty


class PageFunction:
    """An author's function with what its signature asks for.

    Args:
        function: sync or async. Parameters named in the pattern come from the path, one annotated ``Visit``
            or ``Request`` gets that, and every other one comes from the query.
        pattern: the path pattern.
        name: what it is called; None takes the function's own name.

    Raises:
        BadApp: if the signature and the pattern do not fit together.
    """

    def __init__(self, function: Callable[..., Any], pattern: PagePattern, name: str | None = None) -> None:
        self.function = function
        self.name = str(name or getattr(function, "__name__", repr(function)))
        # None for a plain string, which needs no reading.
        self.query: dict[str, TypeAdapter[Any] | None] = {}
        self._path: dict[str, TypeAdapter[Any] | None] = {}
        self._defaults: dict[str, Any] = {}
        self._visit: list[str] = []
        self._request: list[str] = []
        self._reported_blocking = False
        self.is_async = inspect.iscoroutinefunction(inspect.unwrap(function)) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - an object with an async __call__
        )
        try:
            hints = get_type_hints(function)
        except Exception as error:
            raise BadApp(f"The annotations of the page function {self.name!r} cannot be read: {error}.") from error
        takes_any = False
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind in {parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY}:
                raise BadApp(f"The page function {self.name!r} must take {name!r} as a keyword: remove the * or /.")
            if parameter.kind is parameter.VAR_KEYWORD:
                takes_any = True
                continue
            kind = hints.get(name, str)
            if kind is Visit:
                self._visit.append(name)
            elif kind is Request:
                self._request.append(name)
            else:
                try:
                    adapter = None if kind is str else TypeAdapter(kind)
                except Exception as error:
                    raise BadApp(
                        f"The page function {self.name!r} takes {name!r} as {kind!r}, which no URL can hold: {error}."
                    ) from error
                if name in pattern.parameters:
                    self._path[name] = adapter
                elif name in FRAMEWORK_QUERY:
                    raise BadApp(
                        f"The page function {self.name!r} takes {name!r} from the query, where every page has a "
                        f"parameter of this name already. Choose another name."
                    )
                else:
                    self.query[name] = adapter
                    if parameter.default is not _EMPTY:
                        self._defaults[name] = parameter.default
        for name in pattern.parameters:
            if name not in self._path:
                if not takes_any:
                    raise BadApp(
                        f"The pattern {pattern.path!r} has {{{name}}}, but the page function {self.name!r} has no "
                        f"parameter {name!r}. Add it: def {self.name}({name}: str)."
                    )
                self._path[name] = None

    @property
    def wants_visit(self) -> bool:
        """Whether the function asks for a ``Visit``."""
        return bool(self._visit)

    @property
    def wants_request(self) -> bool:
        """Whether the function asks for a ``Request``."""
        return bool(self._request)

    def declared_query(self, query: Mapping[str, str]) -> list[str]:
        """The parameters of a query that the function takes; the rest is none of its business."""
        return [name for name in self.query if name in query]

    def parse(self, path: Mapping[str, Any], query: Mapping[str, str]) -> dict[str, Any]:
        """The function's arguments from a URL, in their types.

        Raises:
            BadAddress: 404 for a path, 400 for a query, that does not fit.
        """
        arguments: dict[str, Any] = {}
        for name, adapter in self._path.items():
            try:
                arguments[name] = adapter.validate_python(path[name]) if adapter else path[name]
            except ValidationError as error:
                raise BadAddress(f"{path[name]!r} does not fit here: {_why(error)}.", 404) from None
        for name, adapter in self.query.items():
            if name in query:
                try:
                    arguments[name] = adapter.validate_python(query[name]) if adapter else query[name]
                except ValidationError as error:
                    raise BadAddress(f"The parameter {name}={query[name]!r} does not fit: {_why(error)}.") from None
            elif name not in self._defaults:
                raise BadAddress(f"This address needs a parameter: add ?{name}=… to it.")
        return arguments

    def canonical_query(self, arguments: Mapping[str, Any], query: Mapping[str, str]) -> str:
        """The canonical query: the declared parameters that differ from their defaults, in their order."""
        pairs = [
            (name, query[name])
            for name in self.query
            if name in query and arguments.get(name) != self._defaults.get(name, _EMPTY)
        ]
        return f"?{urlencode(pairs)}" if pairs else ""

    async def call(
        self, arguments: Mapping[str, Any], visit: Visit | None, request: Request | None, time_limit: float
    ) -> Page | Response:
        """Call the function of a page.

        Raises:
            TimedOut: if it takes longer than ``time_limit`` seconds.
            BadPage: if what it returns is not a page.
        """
        return as_page(await self.run(arguments, visit, request, time_limit), self.name)

    async def run(
        self, arguments: Mapping[str, Any], visit: Visit | None, request: Request | None, time_limit: float
    ) -> object:
        """Call the function, and return what it returns.

        A sync function runs in a thread, so that it may block; one that never returns keeps its thread.

        Raises:
            TimedOut: if it takes longer than ``time_limit`` seconds.
        """
        keywords = dict(arguments)
        keywords.update((name, visit) for name in self._visit)
        keywords.update((name, request) for name in self._request)
        timeout = asyncio.timeout(time_limit)
        try:
            async with timeout:
                if self.is_async:
                    return await _Watched(self.function(**keywords), self)
                return await anyio.to_thread.run_sync(partial(self.function, **keywords), abandon_on_cancel=True)
        except TimeoutError:
            if not timeout.expired():
                raise  # the author's own
            raise TimedOut(f"The function {self.name!r} did not return within {time_limit:g} seconds.") from None

    def report_blocking(self, seconds: float) -> None:
        """Log once that the async function blocks the event loop."""
        if not self._reported_blocking:
            self._reported_blocking = True
            log.warning(
                "The async function %r blocked the event loop for %.1f s: no other request was served meanwhile. "
                "Remove async from its definition, so that it runs in a thread, or await what takes time.",
                self.name,
                seconds,
            )


class _Watched:
    """Awaits a coroutine and logs a warning, once per function, if one of its steps blocks the event loop."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], function: PageFunction) -> None:
        self._coroutine = coroutine
        self._function = function

    def __await__(self) -> Generator[Any, Any, Any]:
        step: Callable[[], Any] = partial(self._coroutine.send, None)
        while True:
            started = time.perf_counter()
            try:
                waits_for = step()
            except StopIteration as done:
                return done.value
            finally:
                seconds = time.perf_counter() - started
                if seconds > BLOCKING_SECONDS:
                    self._function.report_blocking(seconds)
            try:
                value = yield waits_for
            except BaseException as error:
                step = partial(self._coroutine.throw, error)
            else:
                step = partial(self._coroutine.send, value)


class TextRoute(Route):
    """A Starlette route that reads the raw path, so that ``AC%2FDC`` is one name and not two."""

    def __init__(self, pattern: PagePattern, name: str, endpoint: Callable[[Request], Any], method: str) -> None:
        super().__init__(pattern.path, endpoint, methods=[method], name=name)
        self.pattern = pattern

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match, with encoded slashes kept inside their parameter."""
        raw = scope.get("raw_path")
        if scope["type"] == "http" and raw and b"%2f" in raw.lower():
            path = raw.decode("latin-1").split("?")[0]
            for slash in ("%2F", "%2f"):
                path = path.replace(slash, ENCODED_SLASH)
            scope = {**scope, "path": unquote(path)}
        return super().matches(scope)

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        """Return the canonical path for these parameters. Numbers and dates may be given as they are.

        Raises:
            NoMatchFound: If the route has another name or other parameters.
            BadAddress: If no page can have these parameters.
        """
        if name != self.name or path_params.keys() != self.pattern.parameters.keys():
            raise NoMatchFound(name, path_params)
        return URLPath(path=self.pattern.build(self.pattern.parse(path_params)), protocol="http")


class PageRoute(TextRoute):
    """A route of a page."""

    def __init__(
        self,
        pattern: PagePattern,
        function: PageFunction,
        endpoint: Callable[[Request], Any],
        links: PagePattern | None,
        *,
        prefetch: bool = True,
    ) -> None:
        super().__init__(pattern, function.name, endpoint, "GET")
        self.function = function
        self.links = links
        self.prefetch = prefetch

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match, and say which page it is."""
        match, child = super().matches(scope)
        return match, {**child, "page_route": self} if child else child


def _why(error: ValidationError) -> str:
    return "; ".join(str(entry["msg"]) for entry in error.errors()[:2]).lower()


@dataclass(frozen=True, slots=True)
class PageRequest:
    """One click: which page it wants, and what that page needs.

    Attributes:
        key: the page's key.
        route: the route that matched.
        page: what the page function asked for.
        title: the page's title.
        request: the request itself.
        tables: the tables that the page function has read.
        visitor: who clicked; see ``visitor_of``.
    """

    key: str
    route: PageRoute
    page: Page
    title: str
    request: Request
    tables: frozenset[str] = frozenset()
    visitor: str = ""

    @property
    def frames(self) -> str:
        """What the page's policy must allow to be shown in a frame; see ``frame_source``."""
        return frame_src(self.page.embeds, self.request.headers.get("host"))


class CanonicalRedirect(RedirectResponse):
    """Redirects another spelling of a page's address to the canonical one.

    Args:
        address: The key of the page, with its query.
        root_path: The prefix under which the app is served.
    """

    def __init__(self, address: str, root_path: str = "") -> None:
        super().__init__(root_path + address, 302)
        self.address = address
