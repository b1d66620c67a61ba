"""The page resolver: parses the URL of a request and calls the page function. The result is a page request."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, TypeAlias
from urllib.parse import unquote, urlsplit

from starlette.convertors import FloatConvertor, IntegerConvertor, UUIDConvertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Router
from starlette.types import Scope

from ..core.errors import BadSchema, BadURL
from ..core.mount import MountPoint
from ..core.paths import WELL_KNOWN_PATHS, page_key, url_of_key, variant_key
from ..core.tracing import current_trace
from ..formats.links import Linker
from ..security.headers import frame_src
from ..storage.aliases import AliasStore
from ..storage.pages import PageStore
from ..storage.transactions import ReadTracker
from .audience import current_audience
from .link_targets import LinkTargets
from .patterns import PagePattern, safe_title, single_line
from .redirects import AliasRedirect, CanonicalRedirect
from .routes import PageRequest, PageRoute
from .vary_rule import VaryRule
from .visit import VisitReader

log = logging.getLogger("unwritten")

SAMPLE_TIME_LIMIT = 3.0
"""Seconds after which the sample request of a page function is cancelled while the server starts."""

Purpose: TypeAlias = Literal["read", "write", "compare", "sample"]
"""What a page is resolved for.

* "read": a visitor reads it.
* "write": it is generated, and not shown to anyone.
* "compare": it is compared with the page of another visitor; see ``personal_values``.
* "sample": its schemas are checked at the start, so that neither variant nor alias matters."""

_MAX_PARSED = 1024
"""Parsed URLs that are remembered."""

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
class _ParsedURL:
    """What a URL says about a page.

    Attributes:
        key: The page's key.
        title: Its title, if the page function returns none.
        parameters: The parameters of its path.
        arguments: The page function's arguments.
        redirect: The key to redirect to, if the URL is another spelling of it.
        is_constant: True if the URL will always mean this.
    """

    key: str
    title: str
    parameters: Mapping[str, Any]
    arguments: Mapping[str, Any]
    redirect: str | None
    is_constant: bool


class PageResolver:
    """Resolves requests to page requests, for one app.

    Args:
        name: The app's name, which is the title of the front page, and of pages with only numbers in their path.
        pages: The routes of all pages, the fallback last.
        router: The app's router, for ``request.url_for`` in requests that no browser sent.
        mount: The prefix under which the app is served.
        store: The stored pages and their links.
        visits: Reads the visit for page functions that take one.
        sign: Returns the URL of an unwritten page with a signature, where links are signed.
        aliases: Other names of pages.
        is_open: True if a page is the same for all visitors; see ``PageAccess.is_open``.
        is_developing: True if the author wants to know about titles that lead nowhere.
    """

    def __init__(
        self,
        *,
        name: str,
        pages: Sequence[PageRoute],
        router: Router,
        mount: MountPoint,
        store: PageStore,
        visits: VisitReader,
        sign: Callable[[str], str] = str,
        aliases: AliasStore,
        is_open: Callable[[str], bool],
        is_developing: Callable[[], bool] = bool,
    ) -> None:
        self._name = name
        self._pages = pages
        self._router = router
        self._mount = mount
        self._store = store
        self._visits = visits
        self._sign = sign
        self._aliases = aliases
        self._is_open = is_open
        self._is_developing = is_developing
        self._reported: set[tuple[str, str]] = set()
        self._reports = {route.path: partial(self._report_title, route.path) for route in pages}
        self._no_pages = frozenset(WELL_KNOWN_PATHS) - {getattr(route, "path", "") for route in router.routes}
        self._parsed: dict[tuple[str, bytes | str], _ParsedURL] = {}

    async def resolve(self, request: Request, route: PageRoute, *, purpose: Purpose = "read") -> PageRequest | Response:
        """Check the access rule of a page, and call its page function.

        Args:
            request: The request.
            route: The route that it matches.
            purpose: What for. The access rule is asked only for "read".

        Returns:
            The page request, a redirect from another spelling or another name of the page, or the response that the
            page function returned.

        Raises:
            BadURL: If no page can have the URL, or the page's access rule denies it.
            TimedOut: If the page function takes too long.
            BadPage: If it returns something that is not a page or a response.
        """
        scope, function = request.scope, route.function
        spelling = route.path, scope.get("raw_path") or scope["path"]
        url = None if scope["query_string"] else self._parsed.get(spelling)
        if url is None:
            url = self._parse(request, route)
            if url.is_constant and not scope["query_string"]:
                if len(self._parsed) >= _MAX_PARSED:
                    self._parsed.clear()
                self._parsed[spelling] = url
        if route.allow is not None and purpose == "read":
            await route.allow.check(request)
        if url.redirect is not None:
            return CanonicalRedirect(self._mount, url.redirect)
        key, vary = url.key, None
        if route.vary is not None and purpose != "sample":
            vary = await route.vary.value(request)
            key = variant_key(key, vary)
        target = self._aliases.target(url.key)
        if target is not None and purpose != "sample" and not self._store.exists([key]):
            return AliasRedirect(self._mount, target)
        visit = None
        if function.wants_visit:
            is_compared = purpose == "compare"
            visit = self._visits.read(request, key) if is_compared else await self._visits.read_checked(request, key)
        trace = current_trace.get()
        # Without the context manager ``audience``, because this runs for every stored page.
        token = current_audience.set("access_check" if current_audience.get() == "access_check" else "everyone")
        try:
            with ReadTracker(route.name) as tracker, trace.step("page function") if trace else nullcontext():
                page = await function.call(url.arguments, visit, request)
        finally:
            current_audience.reset(token)
        if isinstance(page, Response):
            return page
        targets = LinkTargets(route.links, url.parameters, page.canvases.values(), self._reports[route.path])
        variant = url_of_key if vary is None else partial(self._variant, route.vary, vary)
        return PageRequest(
            key,
            url.title if page.title is None else safe_title(page.title),
            page,
            route,
            request,
            self.linker(key, targets, variant),
            frozenset(tracker.tables),
            frame_src(page.embeds, request.headers.get("host"), self._mount.root_path) if page.embeds else "",
        )

    def _variant(self, rule: VaryRule | None, value: str, path: str) -> str:
        """Return the key of the page that a path leads to for visitors with this value of a vary rule."""
        url = url_of_key(path)
        scope = self.scope_for(url)
        target = next((route for route in self._pages if route.matches(scope)[0] is Match.FULL), None)
        target_rule = target.vary if target is not None else None
        is_same = target_rule is not None and rule is not None and target_rule.function == rule.function
        key = variant_key(url, value) if is_same else url
        return url if self._leads_elsewhere(key) else key  # the variants of a page have its aliases in common

    def _leads_elsewhere(self, key: str) -> bool:
        """True if a key is an alias. A stored page keeps its key."""
        return self._aliases.target(url_of_key(key)) is not None and not self._store.known_to_exist([key])

    def _find_written(self, variant: Callable[[str], str], keys: Collection[str]) -> set[str]:
        """Return those of these keys whose pages are written. That of an alias is the page that it leads to."""
        targets = {key: variant(target) for key in keys if (target := self._aliases.target(key)) is not None}
        found = self._store.known_to_exist([*keys, *targets.values()])
        return {key for key in keys if key in found or targets.get(key) in found}

    def key_of(self, request: Request, route: PageRoute) -> str:
        """Return the key of the page that a URL leads to, without calling the page function. "" if there is none."""
        try:
            return self._parse(request, route).key
        except BadURL:
            return ""

    def linker(self, key: str, targets: LinkTargets, variant: Callable[[str], str] = url_of_key) -> Linker:
        """Return what turns the links of a page into HTML.

        Args:
            key: The page's key.
            targets: Where its titles lead.
            variant: Returns the key of the page that a URL leads to for the page's visitors.
        """
        return Linker(
            key,
            None if targets.lead_nowhere else targets.key_for,
            partial(self._find_written, variant),
            self._sign,
            self._mount.prefix,
            self._no_pages,
            targets.explain,
            self._link_target,
            variant,
        )

    def _report_title(self, path: str, title: str, reason: str) -> None:
        """Log a title that leads nowhere, in development and once for each page function and reason."""
        if self._is_developing() and (path, reason) not in self._reported and len(self._reported) < 100:
            self._reported.add((path, reason))
            log.warning("The title %r on a page %s is no link: %s.", title, path, reason)

    def _link_target(self, key: str) -> str:
        """Return the page that a link to a key leads to: for an alias its target, if all visitors may read that."""
        target = self._aliases.target(key)
        return key if target is None or not self._is_open(target) or not self._leads_elsewhere(key) else target

    def canonical_key(self, key: str) -> str | None:
        """Return the key of the page that a path leads to, or None if it leads to no page.

        Raises:
            BadURL: If no page can have its parameters.
        """
        normalized = page_key(key)
        if normalized is None:
            return None
        scope = self.scope_for(normalized)
        for route in self._pages:
            match, child = route.matches(scope)
            if match is Match.FULL:
                return route.pattern.build(route.pattern.parse_request(child["path_params"]))
        return None

    def _parse(self, request: Request, route: PageRoute) -> _ParsedURL:
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
        return _ParsedURL(
            key=path + route.function.canonical_query(arguments, query),
            title=safe_title(_default_title(route.pattern, values) or self._name),
            parameters=values,
            arguments=arguments,
            redirect=redirect,
            is_constant=route.pattern.is_constant and all(isinstance(value, str) for value in arguments.values()),
        )

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
            BadURL, TimedOut, BadPage: See ``resolve``.
        """
        return await self._resolve_on(self._pages, key, origin, referer)

    async def resolve_without_visitor(self, key: str) -> PageRequest | None:
        """Resolve a key on behalf of no visitor, as after a restart.

        Returns:
            None if no route matches, if the URL has no page, or if the page function sees the visitor because it takes
            a ``Visit`` or the ``Request``, or has variants.

        Raises:
            BadURL, TimedOut, BadPage: See ``resolve``.
        """
        scope = self.scope_for(key, {}, None)
        route = next((route for route in self._pages if route.matches(scope)[0] is Match.FULL), None)
        if route is None or route.vary or route.function.wants_visit or route.function.wants_request:
            return None
        page_request = await self._resolve_on([route], key)
        return page_request if isinstance(page_request, PageRequest) else None

    async def resolve_for_writing(self, route: PageRoute, key: str, origin: Scope) -> PageRequest | Response | None:
        """Resolve a key on its route to write its page, and not to show it, so that no access rule is asked.

        Like a visit, it leads to the page of an alias, and to the variant that this origin gets.

        Raises:
            BadURL, TimedOut, BadPage: See ``resolve``.
        """
        return await self._resolve_on([route], key, origin, purpose="write")

    async def _resolve_on(
        self,
        routes: Sequence[PageRoute],
        key: str,
        origin: Scope | None = None,
        referer: str | None = None,
        *,
        purpose: Purpose = "read",
    ) -> PageRequest | Response | None:
        normalized = page_key(key)
        if normalized is None:
            return None
        scope = self.scope_for(normalized, origin or {}, referer)
        for route in routes:
            match, child = route.matches(scope)
            if match is Match.FULL:
                return await self.resolve(Request({**scope, **child}), route, purpose=purpose)
        return None

    def scope_for(
        self, key: str, origin: Mapping[str, Any] = MappingProxyType({}), referer: str | None = None
    ) -> dict[str, Any]:
        """Return the ASGI scope of a GET for a key; see ``resolve_key``."""
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
                page_request = await self._resolve_on([route], pattern.build(pattern.parse(samples)), purpose="sample")
        except BadSchema:
            raise
        except Exception as error:
            log.debug("%s has no sample: %s", route.path, error)
            return None
        return page_request if isinstance(page_request, PageRequest) else None


def _default_title(pattern: PagePattern, values: Mapping[str, Any]) -> str:
    """Return the last text parameter, or the last part of a path parameter.

    Without parameters, it is the last part of the path: "Opening hours" of ``/opening-hours``. "" if there is none.
    """
    texts = [(name, value) for name, value in values.items() if isinstance(value, str)]
    if not values:
        last = pattern.path.strip("/").rsplit("/", 1)[-1].replace("_", " ").replace("-", " ")
        return last[:1].upper() + last[1:]
    if not texts:
        return ""
    name, text = texts[-1]
    if pattern.is_text(name) or pattern.is_raw(name):
        return text
    return text.strip("/").rsplit("/", 1)[-1].replace("_", " ")
