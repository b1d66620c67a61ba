"""Personal values: find titles and prompts of shared pages that depend on the visitor.

The title and the prompts of a page must be the same for all visitors of its variant. While an app is developed, the
page function is called again with changed requests: without the session, as another user, with another language, with
cookies that it has read and this visitor lacks, and so on. What it returns then must not differ in them. A page
function that refuses such a visitor says nothing about its prompts, so these are searched for the values of the
visitor, as they always are in production.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import unquote

from starlette.authentication import UnauthenticatedUser
from starlette.requests import Request
from starlette.types import Scope

from ..core.tracing import current_trace
from ..security.signer import VisitorCookie
from .resolver import PageResolver
from .routes import PageRequest

_MIN_LENGTH = 4
"""Shorter values, such as a language, appear in many texts by chance."""

_LANGUAGES = b"ja, ar;q=0.9, fr;q=0.8, de;q=0.7, es;q=0.6"
"""The languages of another visitor."""

_VALUES = ("fr", "de")
"""Cookies and session values of another visitor. Functions that choose from a list usually choose languages."""

_ADDRESS = ("192.0.2.1", 0)
"""The address of another visitor. No machine has it."""

_OTHER_HEADERS = frozenset({b"authorization", b"user-agent", b"dnt", b"x-forwarded-for", b"x-real-ip", b"forwarded"})
"""Headers that say something about a visitor, besides cookies and languages, and those of proxies after a login."""


class PersonalValues:
    """Finds what of a page depends on its visitor.

    Args:
        resolver: Calls the page function again.
        visitor_cookie: Recognizes visitors' browsers.
    """

    def __init__(self, resolver: PageResolver, visitor_cookie: VisitorCookie) -> None:
        self._resolver = resolver
        self._visitor_cookie = visitor_cookie

    async def find(self, page_request: PageRequest, *, compare: bool) -> tuple[str, str] | None:
        """Return what of a page depends on the visitor, a prompt or the title, and on which value. None if nothing.

        Args:
            page_request: The page, resolved for the visitor.
            compare: True to call the page function again, as if others asked.
        """
        function = page_request.route.function
        if compare and (function.wants_request or function.wants_visit):
            return await self._compare(page_request)
        return self._search(page_request)

    def _search(self, page_request: PageRequest) -> tuple[str, str] | None:
        if page_request.route.vary is not None:
            return None  # the values may be those that the variant depends on
        return find_personal_value(page_request, self._visitor_cookie.read(page_request.request))

    async def _compare(self, page_request: PageRequest) -> tuple[str, str] | None:
        scope = page_request.request.scope
        cookies, session = _Reads(page_request.request.cookies), _Reads(scope.get("session", {}))
        first = await self._resolve(page_request, scope, cookies, session)
        second = await self._resolve(page_request, scope)
        if first is None or second is None or _difference(first, second):
            return self._search(page_request)  # it is another one each time
        was_refused = False
        for source, other_scope in (*_others(scope), *_others_with(scope, cookies.missing, session.missing)):
            other = await self._resolve(page_request, other_scope)
            if other is None:
                was_refused = True
            elif other.key == first.key and (place := _difference(first, other)):
                return place, source
        return self._search(page_request) if was_refused else None

    async def _resolve(
        self, page_request: PageRequest, scope: Scope, cookies: _Reads | None = None, session: _Reads | None = None
    ) -> PageRequest | None:
        """Return the page for another visitor. None if that visitor is refused.

        Args:
            page_request: The page of this visitor.
            scope: The connection of the other one.
            cookies: The cookies, to note which are read. None: those of the connection.
            session: The same for the session.
        """
        if "session" in scope:
            scope = {**scope, "session": dict(scope["session"]) if session is None else session}
        request = Request(dict(scope)) if cookies is None else _WatchedRequest(dict(scope), cookies)
        token = current_trace.set(None)
        try:
            found = await self._resolver.resolve(request, page_request.route, purpose="compare")
        except Exception:  # page functions refuse by any exception
            return None
        finally:
            current_trace.reset(token)
        return found if isinstance(found, PageRequest) else None


class _Reads(dict[str, Any]):
    """A mapping that notes the names that were read and that it does not have.

    Attributes:
        missing: These names, in the order in which they were first read.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.missing: dict[str, None] = {}

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name, default) if name in self else default

    def __contains__(self, name: object) -> bool:
        found = super().__contains__(name)
        if not found:
            self.missing[str(name)] = None
        return found

    def __missing__(self, name: str) -> Any:
        self.missing[name] = None
        raise KeyError(name)


class _WatchedRequest(Request):
    """A request with other cookies."""

    def __init__(self, scope: Scope, cookies: dict[str, str]) -> None:
        super().__init__(scope)
        self._watched = cookies

    @property
    def cookies(self) -> dict[str, str]:
        return self._watched


def _others_with(scope: Scope, cookies: Iterable[str], session: Iterable[str]) -> Iterator[tuple[str, Scope]]:
    """Yield connections of visitors who have the cookies and session values that this one lacks."""
    headers = [pair for pair in scope.get("headers", ()) if pair[0] != b"cookie"]
    sent = b"".join(value + b"; " for name, value in scope.get("headers", ()) if name == b"cookie")
    for name in cookies:
        for value in _VALUES:
            cookie = sent + f"{name}={value}".encode("latin-1", "replace")
            yield f"the cookie {name!r}", {**scope, "headers": [*headers, (b"cookie", cookie)]}
    for name in session if "session" in scope else ():
        for value in _VALUES:
            yield f"request.session[{name!r}]", {**scope, "session": {**scope["session"], name: value}}


def _others(scope: Scope) -> Iterator[tuple[str, Scope]]:
    """Yield connections of other visitors, each different in one respect, which is named."""
    if getattr(scope.get("user"), "is_authenticated", False):
        yield "request.user", {**scope, "user": UnauthenticatedUser()}
    if scope.get("session"):
        yield "request.session", {**scope, "session": {}}
    headers = list(scope.get("headers", ()))
    without_languages = [pair for pair in headers if pair[0] != b"accept-language"]
    for languages in ([], [(b"accept-language", _LANGUAGES)]):
        yield "the header 'accept-language'", {**scope, "headers": [*without_languages, *languages]}
    without_cookies = [pair for pair in headers if pair[0] != b"cookie"]
    if len(without_cookies) < len(headers):
        yield "a cookie", {**scope, "headers": without_cookies}
    for name in dict.fromkeys(name for name, _ in headers if name in _OTHER_HEADERS or b"user" in name):
        yield f"the header {name.decode()!r}", {**scope, "headers": [pair for pair in headers if pair[0] != name]}
    if scope.get("client"):
        yield "request.client", {**scope, "client": _ADDRESS}


def _difference(one: PageRequest, other: PageRequest) -> str:
    """Return which stored part of two pages differs: the title or a prompt. Empty if none does.

    A canvas that only one of them has is not counted: its text may be the same for all who see it.
    """
    if one.title != other.title:
        return "title"
    canvases = other.page.canvases
    changed = (name for name, canvas in one.page.canvases.items() if canvases.get(name, canvas) != canvas)
    return next((f"prompt of the canvas {name!r}" for name in changed), "")


def find_personal_value(page_request: PageRequest, visitor: str) -> tuple[str, str] | None:
    """Return what of a page contains a value of the visitor, a prompt or the title, and where the value comes from.

    A value that is also a part of the page's key is not counted.

    Args:
        page_request: The page, resolved for the visitor.
        visitor: The visitor's identifier; see ``VisitorCookie``.
    """
    known = unquote(page_request.key).replace("_", " ").replace("+", " ").casefold()
    values = [
        (source, value)
        for source, value in _values(page_request.request.scope, visitor)
        if value.casefold() not in known
    ]
    shared = {"title": [page_request.title]}
    for name, canvas in page_request.page.canvases.items():
        examples = [text for example in canvas.examples for text in (example.ask, example.answer)]
        shared[f"prompt of the canvas {name!r}"] = [canvas.prompt, canvas.opening, *examples]
    for place, texts in shared.items():
        for source, value in values:
            if any(value in text for text in texts):
                return place, source
    return None


def _values(scope: Mapping[str, Any], visitor: str) -> Iterator[tuple[str, str]]:
    for source, value in (("visit.visitor", visitor), *_raw_values(scope)):
        if isinstance(value, str) and len(value.strip()) >= _MIN_LENGTH:
            yield source, value.strip()


def _raw_values(scope: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    yield from _nested("request.session", scope.get("session"))
    user = scope.get("user")
    for name in ("display_name", "identity", "username", "name", "email"):
        try:
            yield f"request.user.{name}", getattr(user, name, None)
        except NotImplementedError:  # Starlette's BaseUser has abstract properties
            continue
    for header, value in scope.get("headers", ()):
        if header == b"cookie":
            try:
                cookies = SimpleCookie(value.decode("latin-1"))
            except CookieError:
                continue
            yield from ((f"the cookie {name!r}", cookie.value) for name, cookie in cookies.items())
        elif header in {b"user-agent", b"authorization"}:
            yield f"the header {header.decode()!r}", value.decode("latin-1")


def _nested(source: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _nested(f"{source}[{name!r}]", inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _nested(source, inner)
    else:
        yield source, value
