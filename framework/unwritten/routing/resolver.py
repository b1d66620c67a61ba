"""The page resolver: calls the page function of a request, and builds what is needed to generate its page."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from cachetools import LRUCache
from starlette.convertors import FloatConvertor, IntegerConvertor, UUIDConvertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Router
from starlette.types import Scope

from unwritten_engine import Prompt

from ..core.errors import BadSchema
from ..core.mount import MountPoint
from ..core.paths import is_page_key
from ..core.tracing import step
from ..formats.links import Linker
from ..security.client_address import client_id
from ..security.headers import frame_src, is_prefetch
from ..security.signer import VisitorCookie
from ..storage.pages import PageStore
from ..storage.transactions import ReadTracker
from .memory import Memory
from .patterns import PagePattern, safe_title, single_line
from .prompts import build_prompt
from .routes import CanonicalRedirect, PageRequest, PageRoute
from .visit import Visit

log = logging.getLogger("unwritten")

SAMPLE_TIME_LIMIT = 3.0
"""Seconds after which the sample request of a page function is cancelled while the server starts."""

_INHERITED = frozenset(
    {
        "app",
        "app_root_path",
        "router",
        "session",
        "user",
        "auth",
        "state",
        "extensions",
        "client",
        "server",
        "asgi",
        "http_version",
    }
)
"""What a page function sees of the connection on whose behalf a page is resolved."""

_NOT_INHERITED = frozenset({b"referer", b"content-length", b"content-type", b"if-none-match", b"range", b"sec-purpose"})
"""Headers of that connection that it does not see."""

_SAMPLES: Mapping[type, Any] = {
    IntegerConvertor: 1,
    FloatConvertor: 1.0,
    UUIDConvertor: uuid.UUID(int=1),
}
"""Sample parameters by their convertor. Others are "Lighthouse"."""


@dataclass(frozen=True, slots=True)
class _Address:
    """What a URL says about a page.

    Attributes:
        key: The page's key.
        title: Its title, if the page function returns none.
        arguments: The page function's arguments.
        redirect: The key to redirect to, if the URL is another spelling of it.
        is_constant: True if the URL will always mean this.
    """

    key: str
    title: str
    arguments: Mapping[str, Any]
    redirect: str | None
    is_constant: bool


class PageResolver:
    """Resolves requests to page requests, for one app.

    Args:
        name: The app's name, which is the title of pages without one.
        world: What holds for everything in the app. It leads every prompt.
        pages: The routes of all pages, the fallback last.
        router: The app's router, for ``request.url_for`` in requests that no browser sent.
        mount: The prefix under which the app is served.
        store: The stored pages and their links.
        memory: Finds what earlier pages say about a subject.
        visitor_cookie: Recognizes visitors' browsers.
        sign: Returns the address of an unwritten page with a signature, where links are signed.
    """

    def __init__(
        self,
        *,
        name: str,
        world: str,
        pages: Sequence[PageRoute],
        router: Router,
        mount: MountPoint,
        store: PageStore,
        memory: Memory,
        visitor_cookie: VisitorCookie,
        sign: Callable[[str], str] = str,
    ) -> None:
        self._name = name
        self._world = world
        self._pages = pages
        self._router = router
        self._mount = mount
        self._store = store
        self._memory = memory
        self._visitor_cookie = visitor_cookie
        self._sign = sign
        self._addresses: LRUCache[tuple[str, bytes | str], _Address] = LRUCache(1024)

    async def resolve(self, request: Request, route: PageRoute) -> PageRequest | Response:
        """Call the page function of a request.

        Args:
            request: The request.
            route: The route that it matches.

        Returns:
            The page request, a redirect to the canonical URL, or the response that the page function returned.

        Raises:
            BadAddress: If no page can have the URL.
            TimedOut: If the page function takes too long.
            BadPage: If it returns something that is not a page or a response.
        """
        scope = request.scope
        address_key = route.path, scope.get("raw_path") or scope["path"]
        address = self._addresses.get(address_key)
        if address is None or scope["query_string"]:
            address = self._parse(request, route)
            if address.is_constant and not scope["query_string"]:
                self._addresses[address_key] = address
        if address.redirect is not None:
            return CanonicalRedirect(address.redirect, self._mount.prefix)
        visit = self.visit(request, address.key) if route.function.wants_visit else None
        with ReadTracker(route.name) as tracker, step("page function"):
            page = await route.function.call(address.arguments, visit, request)
        if isinstance(page, Response):
            return page
        title = address.title if page.title is None else safe_title(page.title)
        embedded = frame_src(page.embeds, request.headers.get("host"), self._mount.root_path) if page.embeds else ""
        return PageRequest(
            key=address.key,
            route=route,
            page=page,
            title=title,
            request=request,
            tables=frozenset(tracker.tables),
            client_id=client_id(scope),
            frame_src=embedded,
            is_prefetch=is_prefetch(request.headers),
        )

    def _parse(self, request: Request, route: PageRoute) -> _Address:
        values = route.pattern.parse_request(request.path_params)
        query: dict[str, str] = {}
        if request.scope["query_string"]:
            given = request.query_params
            query = {name: single_line(given[name]) for name in route.function.declared_query(given)}
        arguments = route.function.parse(values, query)
        path = route.pattern.build(values)
        requested = self._mount.route_path(request.scope["path"])
        redirect = None
        if path != requested and unquote(path) != requested:
            redirect = path + (f"?{request.query_params}" if request.query_params else "")
        return _Address(
            key=path + route.function.canonical_query(arguments, query),
            title=safe_title(_default_title(route.pattern, values) or self._name),
            arguments=arguments,
            redirect=redirect,
            is_constant=route.pattern.is_constant and all(isinstance(value, str) for value in arguments.values()),
        )

    def visit(self, request: Request, key: str) -> Visit:
        """Return what is known about a click: the page with the link, and the words around it.

        Args:
            request: The request.
            key: The key of the requested page.
        """
        source = None
        try:
            referer = urlsplit(request.headers.get("referer", ""))
        except ValueError:  # for example an incomplete IPv6 address
            referer = urlsplit("")
        if referer.netloc and referer.netloc == request.headers.get("host"):
            source = self._mount.key(referer.path)
            if source is not None and referer.query:
                source += f"?{referer.query}"
        link = self._store.link(source, key) if source else None
        return Visit(
            key=key,
            came_from=source,
            link_text=link.text if link else None,
            sentence=link.sentence if link else None,
            query=dict(request.query_params),
            visitor=self._visitor_cookie.read(request),
        )

    def prompts(self, page_request: PageRequest, *, recall: bool = True) -> dict[str, Prompt]:
        """Return the engine's prompts of a page, by the name of the canvas.

        Args:
            page_request: The page.
            recall: False leaves out the facts from earlier pages, if nothing will be generated.
        """
        facts = self._memory.facts(page_request, self.visit(page_request.request, page_request.key)) if recall else []
        return {
            name: build_prompt(world=self._world, canvas=canvas, subject=page_request.title, facts=facts)
            for name, canvas in page_request.page.canvases.items()
        }

    def linker(self, page_request: PageRequest) -> Linker:
        """Return the linker of a page, which decides where its links lead."""
        links = page_request.route.links
        key_for = links.link if links else None
        return Linker(page_request.key, key_for, self._store.exists, self._sign, self._mount.prefix)

    # -- pages without a request of their own -------------------------------------------------------------

    async def resolve_key(
        self, key: str, origin: Scope | None = None, *, referer: str | None = None
    ) -> PageRequest | Response | None:
        """Resolve a key as a GET of the page would.

        Args:
            key: The page's key.
            origin: The connection on whose behalf the page is resolved. The page function sees its client, session,
                user and state. None: there is none, as at start-up.
            referer: The key of the page that leads to this one.

        Returns:
            See ``resolve``. None if no route matches.

        Raises:
            BadAddress, TimedOut, BadPage: See ``resolve``.
        """
        return await self._resolve_on(self._pages, key, origin, referer)

    async def _resolve_on(
        self, routes: Sequence[PageRoute], key: str, origin: Scope | None = None, referer: str | None = None
    ) -> PageRequest | Response | None:
        if not is_page_key(key):
            return None
        scope = self._scope_for(key, origin or {}, referer)
        for route in routes:
            match, child = route.matches(scope)
            if match is Match.FULL:
                return await self.resolve(Request({**scope, **child}), route)
        return None

    def _scope_for(self, key: str, origin: Mapping[str, Any], referer: str | None) -> dict[str, Any]:
        """Return the ASGI scope of a GET for a key."""
        parts = urlsplit(key)
        path = self._mount.url(parts.path)
        headers = [pair for pair in origin.get("headers", ()) if pair[0] not in _NOT_INHERITED]
        if referer is not None:
            host = next((value for name, value in headers if name == b"host"), b"")
            headers.append((b"referer", b"http://" + host + self._mount.url(referer).encode("ascii", "replace")))
        return {
            "router": self._router,
            **{name: value for name, value in origin.items() if name in _INHERITED},
            "type": "http",
            "method": "GET",
            "scheme": str(origin.get("scheme", "http")).replace("ws", "http"),
            "root_path": self._mount.root_path,
            "path": unquote(path),
            "raw_path": path.encode("ascii", "replace"),
            "query_string": parts.query.encode("ascii", "replace"),
            "headers": headers,
            "path_params": {},
        }

    async def sample_requests(self) -> list[PageRequest]:
        """Resolve every page once with sample parameters, to check its schemas and warm the engine.

        Pages that reject the sample parameters are left out, and validated on first request.

        Raises:
            BadSchema: If the schema of a canvas is invalid.
        """
        found = await asyncio.gather(*map(self._sample_request, self._pages))
        return [page_request for page_request in found if page_request is not None]

    async def _sample_request(self, route: PageRoute) -> PageRequest | None:
        pattern = route.pattern
        samples = {name: _SAMPLES.get(type(c), "Lighthouse") for name, c in pattern.parameters.items()}
        try:
            async with asyncio.timeout(SAMPLE_TIME_LIMIT):
                page_request = await self._resolve_on([route], pattern.build(pattern.parse(samples)))
        except BadSchema:
            raise
        except Exception as error:
            log.debug("%s has no sample: %s", route.path, error)
            return None
        return page_request if isinstance(page_request, PageRequest) else None


def _default_title(pattern: PagePattern, values: Mapping[str, Any]) -> str:
    """Return the last text parameter, or the last part of a path parameter. "" if there is none."""
    texts = [(name, value) for name, value in values.items() if isinstance(value, str)]
    if not texts:
        return ""
    name, text = texts[-1]
    if pattern.is_text(name) or pattern.is_raw(name):
        return text
    return text.strip("/").rsplit("/", 1)[-1].replace("_", " ")
