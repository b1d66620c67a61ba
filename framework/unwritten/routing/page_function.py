"""Page functions: reads a function's arguments from a URL, and calls the function within a time limit."""

from __future__ import annotations

import functools
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from functools import partial
from typing import Any, get_type_hints
from urllib.parse import urlencode

import anyio.to_thread
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from ..core.errors import BadApp, BadPage, BadURL, TimedOut
from ..core.localization import Text, join
from ..core.localization import gettext_lazy as _
from ..core.time_limit import TimeLimit
from ..formats.page import Page, as_page
from ..security.signed_links import SIGNATURE
from .form_fields import error_message
from .patterns import PagePattern
from .visit import Visit

PLAIN, VERSION = "plain", "version"

FRAMEWORK_QUERY = frozenset({PLAIN, VERSION, SIGNATURE})
"""Query parameters that the framework uses on every page."""

FUNCTION_TIME_LIMIT = 10.0
"""Seconds within which a page function, an action or a hook must return."""

BLOCKING_SECONDS = 0.25
"""Seconds for which an async function may block the event loop before a warning is logged."""

log = logging.getLogger("unwritten")


class PageFunction:
    """An author's function and the parameters in its signature.

    Args:
        function: Sync or async. Parameters named in the pattern come from the path, those annotated with ``Visit`` or
            ``Request`` get one, and all others come from the query.
        pattern: The path pattern.
        name: The page's name. None: the function's name.

    Attributes:
        is_async: True if the function runs in the event loop, False if it runs in a thread.
        query: The query parameters by name, with what validates them. None stands for a plain string.

    Raises:
        BadApp: If the signature does not fit the pattern.
    """

    def __init__(self, function: Callable[..., Any], pattern: PagePattern, name: str | None = None) -> None:
        self.function = function
        self.name = str(name or getattr(function, "__name__", repr(function)))
        self.is_async = is_async(function)
        self.query: dict[str, TypeAdapter[Any] | None] = {}
        self._path: dict[str, TypeAdapter[Any] | None] = {}
        self._defaults: dict[str, Any] = {}
        self._visit: list[str] = []
        self._request: list[str] = []
        self._reported_blocking = False
        try:
            hints = get_type_hints(annotated(function))
        except Exception as error:
            raise BadApp(f"The annotations of the page function {self.name!r} cannot be read: {error}.") from error
        takes_all = False
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                takes_all = True
            else:
                self._add_parameter(parameter, hints.get(parameter.name, str), pattern)
        for name in pattern.parameters:
            if name not in self._path and not takes_all:
                raise BadApp(
                    f"The pattern {pattern.path!r} has {{{name}}}, but the page function {self.name!r} has no "
                    f"parameter {name!r}. Add it: def {self.name}({name}: str)."
                )
            self._path.setdefault(name, None)

    def _adapter(self, annotation: Any) -> TypeAdapter[Any] | None:
        return TypeAdapter(annotation)

    def _add_parameter(self, parameter: inspect.Parameter, annotation: Any, pattern: PagePattern) -> None:
        name = parameter.name
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY}:
            raise BadApp(f"The page function {self.name!r} must take {name!r} as a keyword: remove the * or /.")
        if annotation is Visit:
            self._visit.append(name)
            return
        if annotation is Request:
            self._request.append(name)
            return
        try:
            adapter = None if annotation is str else self._adapter(annotation)
        except Exception as error:
            raise BadApp(
                f"The page function {self.name!r} takes {name!r} as {annotation!r}, which no URL can contain: {error}."
            ) from error
        if name in pattern.parameters:
            self._path[name] = adapter
        elif name in FRAMEWORK_QUERY:
            raise BadApp(
                f"The page function {self.name!r} takes {name!r} from the query, but the framework uses this query "
                "parameter on every page. Choose another name."
            )
        else:
            self.query[name] = adapter
            if parameter.default is not parameter.empty:
                self._defaults[name] = parameter.default

    @property
    def wants_visit(self) -> bool:
        """True if the function takes a ``Visit``."""
        return bool(self._visit)

    @property
    def wants_request(self) -> bool:
        """True if the function takes a ``Request``."""
        return bool(self._request)

    # -- arguments ----------------------------------------------------------------------------------------

    def parse(self, path: Mapping[str, Any], query: Mapping[str, str]) -> dict[str, Any]:
        """Return the function's arguments, converted to their types.

        Args:
            path: The parameters of the path.
            query: The parameters of the query. Those that the function does not take are ignored.

        Raises:
            BadURL: 404 for an invalid path, 400 for an invalid query.
        """
        arguments = self.parse_path(path)
        for name, adapter in self.query.items():
            if name in query:
                try:
                    arguments[name] = adapter.validate_python(query[name]) if adapter else query[name]
                except ValidationError as error:
                    raise BadURL(_not_valid(query[name], name, error)) from None
            elif name not in self._defaults:
                raise BadURL(_("This URL needs a parameter: add ?%(name)s=… to it.", name=name))
        return arguments

    def parse_path(self, path: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments that come from the path, converted to their types.

        Raises:
            BadURL: 404 if one is not valid.
        """
        arguments: dict[str, Any] = {}
        for name, adapter in self._path.items():
            try:
                arguments[name] = adapter.validate_python(path[name]) if adapter else path[name]
            except ValidationError as error:
                raise BadURL(_not_valid(path[name], name, error), 404) from None
        return arguments

    def declared_query(self, query: Mapping[str, str]) -> list[str]:
        """Return the names of a query's parameters that the function takes."""
        return [name for name in self.query if name in query]

    def canonical_query(self, arguments: Mapping[str, Any], query: Mapping[str, str]) -> str:
        """Return the query of the page's key, with its "?": parameters that differ from their defaults, in order."""
        pairs = [
            (name, query[name])
            for name in self.query
            if name in query and (name not in self._defaults or arguments.get(name) != self._defaults[name])
        ]
        return f"?{urlencode(pairs)}" if pairs else ""

    # -- calls --------------------------------------------------------------------------------------------

    async def call(self, arguments: Mapping[str, Any], visit: Visit | None, request: Request | None) -> Page | Response:
        """Call the function of a page.

        Raises:
            TimedOut: If it takes longer than ``FUNCTION_TIME_LIMIT``.
            BadPage: If it returns something that is not a page or a response.
        """
        result = await self.run(arguments, visit, request)
        try:
            return _page_of_prompt(result, self.name) if type(result) is str else as_page(result, self.name)
        except BadPage as error:
            error.function = self.function
            raise

    async def run(
        self,
        arguments: Mapping[str, Any],
        visit: Visit | None,
        request: Request | None,
        time_limit: TimeLimit | None = None,
    ) -> object:
        """Call the function, and return what it returns.

        A sync function runs in a thread, so that it may block. If it never returns, the thread is not freed.

        Args:
            arguments: The arguments that come from the URL or the form.
            visit: Passed to parameters that take a ``Visit``.
            request: Passed to parameters that take a ``Request``.
            time_limit: A limit that the function may pause. None: it cannot.

        Raises:
            TimedOut: If it takes longer than ``FUNCTION_TIME_LIMIT``.
        """
        keywords = dict(arguments)
        if self._visit:
            keywords.update(dict.fromkeys(self._visit, visit))
        if self._request:
            keywords.update(dict.fromkeys(self._request, request))
        work: Awaitable[object]
        if self.is_async:
            coroutine = self.function(**keywords)
            started = time.perf_counter()
            try:
                awaited = coroutine.send(None)
            except StopIteration as done:
                return done.value  # most functions never wait, and need no timer
            finally:
                if time.perf_counter() - started > BLOCKING_SECONDS:
                    self._report_blocking(time.perf_counter() - started)
            work = _BlockingMonitor(coroutine, awaited, self._report_blocking)
        else:
            work = anyio.to_thread.run_sync(partial(self.function, **keywords), abandon_on_cancel=True)
        time_limit = time_limit or TimeLimit()
        try:
            async with time_limit.limit(FUNCTION_TIME_LIMIT):
                return await work
        except TimeoutError:
            if not time_limit.is_over:
                raise  # the function itself raised it
            raise TimedOut(
                _(
                    "The function '%(name)s' did not return within %(num)s seconds.",
                    name=self.name,
                    num=FUNCTION_TIME_LIMIT,
                )
            ) from None

    def _report_blocking(self, seconds: float) -> None:
        """Log a warning that the function has blocked the event loop. Only the first time is logged."""
        if not self._reported_blocking:
            self._reported_blocking = True
            log.warning(
                "The async function %r blocked the event loop for %.1f s: no other request was served in that time. "
                "Remove async from its definition, so that it runs in a thread, or await what takes time.",
                self.name,
                seconds,
            )


class _BlockingMonitor:
    """Awaits the rest of a coroutine that has begun to wait, and reports each step that blocks the event loop.

    Args:
        coroutine: The coroutine.
        awaited: What it waits for.
        report: Called with the seconds of a step that took longer than ``BLOCKING_SECONDS``.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], awaited: Any, report: Callable[[float], None]) -> None:
        self._coroutine = coroutine
        self._awaited = awaited
        self._report = report

    def __await__(self) -> Generator[Any, Any, Any]:
        awaited = self._awaited
        while True:
            try:
                value = yield awaited
            except BaseException as error:
                step: Callable[[], Any] = partial(self._coroutine.throw, error)
            else:
                step = partial(self._coroutine.send, value)
            started = time.perf_counter()
            try:
                awaited = step()
            except StopIteration as done:
                return done.value
            finally:
                seconds = time.perf_counter() - started
                if seconds > BLOCKING_SECONDS:
                    self._report(seconds)


@functools.lru_cache(512)
def _page_of_prompt(prompt: str, function: str) -> Page | Response:
    """Return the page of a prompt. A stored page is served again and again, with the same prompt each time."""
    return as_page(prompt, function)


def is_async(function: Callable[..., Any]) -> bool:
    """True if a function is async: also a decorated one, a ``partial``, or an object with an async ``__call__``."""
    function = annotated(function)
    return inspect.iscoroutinefunction(inspect.unwrap(function)) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - not a check, but the method
    )


def annotated(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that has the annotations: that of a ``partial``, or the ``__call__`` of an object."""
    while isinstance(function, partial):
        function = function.func
    if inspect.isroutine(function) or hasattr(function, "__wrapped__"):
        return function
    method: Callable[..., Any] = getattr(function, "__call__", function)  # noqa: B004 - not a check, but the method
    return method


def _not_valid(value: str, name: str, error: ValidationError) -> Text:
    reason = error_message(error.errors()[0])
    return join(_("'%(value)s' is not a valid '%(name)s'.", value=value, name=name), reason)
