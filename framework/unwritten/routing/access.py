"""Access to pages: one decision, by the same middleware, routes and functions that answer a GET of the page.

Pages are shown in more places than their URL: open tabs follow them over the live socket, and there are their history,
edit forms, boxes, search hits and the memory of later prompts. In all of these, the right to read a page is decided by
an internal GET request for it, with the cookies and headers of the visitor. It runs through all middleware. Instead of
responding with the page, the page handler records that the request has reached it, and what the page function returned.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import anyio.from_thread
from cachetools import TTLCache
from starlette.authentication import AuthCredentials, UnauthenticatedUser
from starlette.responses import Response
from starlette.routing import Match, Router
from starlette.types import ASGIApp, Message, Scope

from ..core.errors import BadApp, BadURL, PageFailed, StoreError
from ..core.localization import gettext_lazy as _
from ..core.mount import MountPoint
from ..core.paths import FRAMEWORK_PREFIX, page_key, url_of_key
from .audience import audience, current_audience, current_connection, is_limited
from .redirects import AliasRedirect, CanonicalRedirect
from .resolver import PageResolver
from .routes import PageRequest, PageRoute

ACCESS_CHECK = "unwritten.access_check"
"""The key of an ASGI scope that marks an internal request. Its value is an ``AccessCheck``. No client can set it."""

_GRANTED = 204
"""The status of the response to an internal request that has reached its page."""

_TEMPORARY = frozenset({429, 503, 504})
"""Statuses of responses that do not refuse the visitor: the server or the database is busy."""

_LIST_SECONDS = 5.0
"""Seconds for which a decision for a visitor is reused in lists of pages."""

_PUBLIC_SECONDS = 60.0
"""Seconds for which a decision for all visitors is reused, in lists of pages and in prompts."""

_MAX_DECISIONS = 8192

MAX_LISTED = 500
"""Maximum number of URLs of one list that are checked. The others are left out."""

MAX_READ = 20_000
"""Maximum number of entries of one list that are read to find those that may be shown: a URL may have many variants."""

Decisions: TypeAlias = MutableMapping[tuple[bytes, str], str]
"""What visitors may read, by the identity of the visitor and a URL: the key of the page that they get. "" if none."""

_NO_ADDRESS = ("192.0.2.1", 0)
"""The client's address of a request that no visitor has made. No machine has it."""

_REQUEST_HEADERS = frozenset(
    b"accept accept-encoding cache-control connection content-length content-type if-modified-since if-none-match "
    b"origin pragma priority purpose range referer te traceparent tracestate transfer-encoding upgrade "
    b"upgrade-insecure-requests x-request-id".split()
)
"""Headers that describe a request, and not the visitor who makes it."""

_REQUEST_PREFIXES = (b"sec-", b"hx-")
"""How the names of further such headers begin."""


@dataclass(eq=False)
class AccessCheck:
    """An internal request for a page.

    Attributes:
        result: What the resolver returned for it. None if the request has not reached the page.
    """

    result: PageRequest | Response | None = None

    def response(self, result: PageRequest | Response) -> Response:
        """Record what the page's URL leads to, and return the response that shows that the request has reached it."""
        self.result = result
        return Response(status_code=_GRANTED)


class KeyResolver(Protocol):
    """Resolves the keys of pages on behalf of visitors."""

    async def resolve_key(
        self, key: str, origin: Scope | None = None, *, referer: str | None = None
    ) -> PageRequest | Response | None:
        """See ``PageResolver.resolve_key``."""


class PageAccess:
    """Decides who may read the pages of one app.

    Args:
        resolver: Resolves pages where no middleware can object.
        pages: The routes of all pages, the fallback last.
        router: The app's router.
        mount: The prefix under which the app is served.
        dispatch: Handles a request as the outermost app does.
        has_middleware: True if there is middleware that may refuse a request.
    """

    def __init__(
        self,
        *,
        resolver: PageResolver,
        pages: Sequence[PageRoute],
        router: Router,
        mount: MountPoint,
        dispatch: ASGIApp,
        has_middleware: Callable[[], bool],
    ) -> None:
        self._resolver = resolver
        self._pages = pages
        self._router = router
        self._mount = mount
        self._dispatch = dispatch
        self._has_middleware = has_middleware
        self._decisions: Decisions = TTLCache[Any, Any](_MAX_DECISIONS, _LIST_SECONDS)
        self._public_decisions: Decisions = TTLCache[Any, Any](_MAX_DECISIONS, _PUBLIC_SECONDS)

    # -- one page -----------------------------------------------------------------------------------------

    def is_open(self, key: str) -> bool:
        """True if a page is the same for all visitors, and each of them may read it.

        That is so if no middleware can refuse a request, and the page function takes neither the request nor the visit.
        """
        if self._has_middleware():
            return False
        route = self._route_of(key)
        return route is not None and not route.depends_on_visitor

    def is_page(self, key: str) -> bool:
        """True if a GET of this key leads to a page, which the visitor may not be allowed to read."""
        return self._route_of(key) is not None

    async def resolve_key(
        self, key: str, origin: Scope | None = None, *, referer: str | None = None
    ) -> PageRequest | Response | None:
        """Resolve a key as a GET of the page by this visitor would.

        Args:
            key: The page's key.
            origin: A connection of the visitor, HTTP or WebSocket. None: a visitor about whom nothing is known.
            referer: The key of the page that leads to this one.

        Returns:
            The page request, or the response that the page function returned. None if the URL leads to no page. For an
            alias, a redirect to its page if the visitor may read that, and otherwise what a GET of that page leads to.

        Raises:
            BadURL: If the visitor may not read the page; its status is that of the response to a GET.
            PageFailed, StoreError: If that cannot be decided now.
            Exception: What the page function or the access rule of the page raises.
        """
        found = await self._resolve(key, origin, referer)
        if not isinstance(found, AliasRedirect):
            return found
        target = await self.follow_alias(found, origin)
        return found if isinstance(target, PageRequest) else target

    async def follow_alias(self, alias: AliasRedirect, origin: Scope | None) -> PageRequest | Response | None:
        """Resolve the page of an alias like ``resolve_key``. Visitors who may not read it must not learn its key."""
        found = await self._resolve(alias.key, origin)
        if isinstance(found, CanonicalRedirect):
            found = await self._resolve(found.key, origin)
        return found

    async def _resolve(
        self, key: str, origin: Scope | None, referer: str | None = None
    ) -> PageRequest | Response | None:
        """Resolve a key as a GET by this visitor would; see ``resolve_key``. An alias is not followed."""
        normalized = page_key(key)
        if normalized is None:
            return None
        key = normalized
        if not self._has_middleware():
            route = self._route_of(key)
            found = await self._resolver.resolve_key(key, origin, referer=referer) if route is not None else None
            return _own_variant(key, found)
        check = AccessCheck()
        status = await self._send(self._scope(key, origin or anonymous(None), referer, check))
        if status == _GRANTED and check.result is not None:
            return _own_variant(key, check.result)
        if status == 404:
            return None
        if status in _TEMPORARY:
            raise PageFailed(_("This page cannot be read at the moment. Try again."))
        raise BadURL(_("You may not read this page."), status if 400 <= status < 500 else 403)

    async def resolve_for_writing(self, key: str) -> PageRequest | Response | None:
        """Resolve a key to write its page, and not to show it: no middleware and no access rule is asked.

        A page function that takes the request gets that of a visitor about whom nothing is known. So does a vary rule.

        Returns:
            See ``resolve_key``.

        Raises:
            BadURL: If the key is that of a variant which this visitor does not get.
            Exception: What the page function raises, also because of the unknown visitor.
        """
        normalized = page_key(key)
        route = None if normalized is None else self._route_of(normalized)
        if route is None or normalized is None:
            return None
        origin = {**anonymous(None), "session": {}, "user": UnauthenticatedUser(), "auth": AuthCredentials()}
        found = await self._resolver.resolve_for_writing(route, normalized, origin)
        if "#" in normalized and isinstance(found, PageRequest) and found.key != normalized:
            raise BadURL(_("Only visitors with the value of this variant can have it written."), 403)
        return found

    async def find(self, key: str, origin: Scope | None) -> PageRequest | None:
        """Return the page request of a page that a visitor may read, and None for any other key."""
        try:
            page_request = await self.resolve_key(key, origin)
        except Exception:  # middleware and page functions refuse by any exception
            return None
        return page_request if isinstance(page_request, PageRequest) and page_request.key == key else None

    async def may_read(self, key: str, origin: Scope | None) -> bool:
        """True if a visitor may read a page. Nothing is remembered: sessions expire."""
        return self.is_open(key) or await self.find(key, origin) is not None

    async def is_refused(self, key: str, origin: Scope | None) -> bool:
        """True if a visitor who could read a page may not read it any more. False if that cannot be decided now."""
        if self.is_open(key):
            return False
        try:
            found = await self.resolve_key(key, origin)
            return not isinstance(found, PageRequest) or found.key != key
        except (PageFailed, StoreError):
            return False
        except Exception:
            return True

    # -- lists --------------------------------------------------------------------------------------------

    async def is_public(self, key: str, origin: Scope | None = None) -> bool:
        """True if a visitor without cookies may read a page, so that it may appear in what all visitors see.

        The decision may be a minute old.

        Args:
            key: The page's key.
            origin: A connection, whose host name is used.
        """
        return self.is_open(key) or await self._own_key(url_of_key(key), anonymous(origin)) == key

    async def readable(self, keys: Iterable[str], origin: Scope | None) -> set[str]:
        """Return those of these keys whose pages a visitor may read. At most the first 500 URLs are checked.

        Decisions may be five seconds old.
        """
        found: set[str] = set()
        checked = 0
        for url, keys_of_url in _by_url(keys).items():
            if self.is_open(url):
                found.update(keys_of_url)
            elif checked < MAX_LISTED:
                checked += 1
                found.update(keys_of_url & {await self._own_key(url, origin or anonymous(None))})
        return found

    async def _own_key(self, url: str, origin: Scope) -> str:
        """Return the key of the page that a visitor gets at a URL that is not open, or "". Decisions are reused."""
        decisions = self._decisions_for(origin)
        decision = identity(origin), url
        own = decisions.get(decision)
        if own is None:
            with audience("access_check"):
                own = decisions[decision] = await self._find_own_key(url, origin)
        return own

    async def _find_own_key(self, url: str, origin: Scope) -> str:
        try:
            page_request = await self.resolve_key(url, origin)
        except Exception:  # middleware and page functions refuse by any exception
            return ""
        # Another spelling, or another name of a page, leads elsewhere.
        return page_request.key if isinstance(page_request, PageRequest) and url_of_key(page_request.key) == url else ""

    def _decisions_for(self, origin: Scope) -> Decisions:
        return self._public_decisions if origin.get("client") == _NO_ADDRESS else self._decisions

    @property
    def is_restricted(self) -> bool:
        """True if not all pages are open; see ``is_open``."""
        return self._has_middleware() or any(route.depends_on_visitor for route in self._pages)

    @property
    def limits_lists(self) -> bool:
        """True if the running code may list only some of the pages; see ``routing.audience``."""
        return is_limited() and self.is_restricted

    def readable_now(self, keys: Sequence[str]) -> set[str]:
        """Return those of these keys whose pages the running code may list; see ``routing.audience``.

        Raises:
            BadApp: In an async function or a template, where the check cannot be awaited.
        """
        if not self.limits_lists:
            return set(keys)
        seen_by, connection = current_audience.get(), current_connection.get()
        if seen_by == "access_check":
            return set()
        origin = connection if seen_by == "visitor" and connection is not None else anonymous(connection)
        decisions, visitor = self._decisions_for(origin), identity(origin)
        by_url = _by_url(keys)
        closed = {url: decisions.get((visitor, url)) for url in by_url if not self.is_open(url)}
        if None not in closed.values():
            return {key for url, keys_of_url in by_url.items() for key in keys_of_url if closed.get(url, key) == key}
        try:
            return anyio.from_thread.run(self.readable, keys, origin)
        except RuntimeError:  # the function does not run in a thread of the server
            raise BadApp(
                "The pages of this list must be checked for access, and an async function or a template cannot wait "
                "for that. Make the list in a function without async and pass it to the template, or write: "
                "await run_in_threadpool(app.store.recent, 10)"
            ) from None

    # -- internal requests --------------------------------------------------------------------------------

    def _route_of(self, key: str) -> PageRoute | None:
        """Return the page that a GET of this key leads to, or None if it leads elsewhere."""
        if page_key(key) is None:
            return None
        scope = self._resolver.scope_for(key)
        for route in self._router.routes:
            if route.matches(scope)[0] is Match.FULL:
                return route if isinstance(route, PageRoute) else None
        if key.startswith(FRAMEWORK_PREFIX):
            return None
        return next((page for page in self._pages if page.matches(scope)[0] is Match.FULL), None)

    def _scope(self, key: str, origin: Scope, referer: str | None, check: AccessCheck) -> dict[str, Any]:
        scope = self._resolver.scope_for(key, origin, referer)
        for name in ("app", "app_root_path", "auth", "router", "session", "user", "path_params"):
            scope.pop(name, None)  # the middleware decides again
        return {
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "client": _NO_ADDRESS,
            **scope,
            "state": dict(scope.get("state") or {}),
            ACCESS_CHECK: check,
        }

    async def _send(self, scope: Scope) -> int:
        """Handle an internal request. Return the status of the response, or 500 if there is none."""
        status, was_received = 500, False

        async def receive() -> Message:
            nonlocal was_received
            if was_received:
                await asyncio.Event().wait()  # this client never disconnects
            was_received = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]

        try:
            await self._dispatch(scope, receive, send)
        except Exception:  # the error handler has logged it, and Starlette raises it again
            return 500
        return status


def _by_url(keys: Iterable[str]) -> dict[str, set[str]]:
    """Return keys by their URLs, in order."""
    found: dict[str, set[str]] = {}
    for key in keys:
        found.setdefault(url_of_key(key), set()).add(key)
    return found


def _own_variant(key: str, found: PageRequest | Response | None) -> PageRequest | Response | None:
    """Return what a key has led to for a visitor.

    Raises:
        BadURL: If the key is that of a variant which other visitors get.
    """
    if "#" in key and isinstance(found, PageRequest) and found.key != key:
        raise BadURL(_("You may not read this page."), 403)
    return found


def identity(scope: Scope) -> bytes:
    """Return a digest of what identifies a visitor. Connections with the same one may read the same pages.

    Any header may name the visitor, such as one that a proxy adds after a login. So all count, except those that differ
    between the requests of one visitor.
    """
    headers = sorted(
        pair
        for pair in scope.get("headers", ())
        if pair[0] not in _REQUEST_HEADERS and not pair[0].startswith(_REQUEST_PREFIXES)
    )
    client = scope.get("client")
    return hashlib.blake2b(repr((client[0] if client else "", headers)).encode(), digest_size=16).digest()


def anonymous(origin: Scope | None) -> dict[str, Any]:
    """Return a connection of a visitor about whom nothing is known, to the server that another one was made to."""
    host = next((value for name, value in (origin or {}).get("headers", ()) if name == b"host"), b"localhost")
    return {
        "type": "http",
        "scheme": (origin or {}).get("scheme", "http"),
        "server": (origin or {}).get("server"),
        "client": _NO_ADDRESS,
        "headers": [(b"host", host), (b"accept", b"text/html")],
    }
