"""Clicks: from a request to what its page needs."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

from starlette.convertors import FloatConvertor, IntegerConvertor, UUIDConvertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from unwritten_engine import Prompt

from ..core.errors import BadSchema
from ..core.settings import Settings
from ..core.tracing import step
from ..formats.links import Linker
from ..security.client_address import client_id
from ..security.signer import VisitorCookie
from ..storage.pages import PageStore
from ..storage.transactions import ReadTracker, active
from .memory import Memory
from .patterns import PagePattern, safe_title, single_line
from .prompts import build_prompt
from .routes import CanonicalRedirect, PageRequest, PageRoute
from .visit import Visit

log = logging.getLogger("unwritten")


SAMPLE_SECONDS = 3.0
"""How long a page function may take for its sample, while the server starts."""


_RawHeaders: TypeAlias = list[tuple[bytes, bytes]]


_SAMPLES: Mapping[type, Any] = {
    IntegerConvertor: 1,
    FloatConvertor: 1.0,
    UUIDConvertor: uuid.UUID(int=1),
}


class PageResolver:
    """Reads clicks for one app.

    Args:
        name: the app's name, the title of pages that have none.
        world: the app's constitution, which leads every prompt.
        settings: ``title_length`` and ``function_time_limit``.
        store: knows what the page that was left says about a link, and which pages are written.
        memory: knows what earlier pages say about a subject.
        identity: knows the browsers of visitors again.
        offer: makes the address of an unwritten page one that may be followed; see ``Gates.offer``.
    """

    def __init__(
        self,
        *,
        name: str,
        world: str,
        settings: Settings,
        store: PageStore,
        memory: Memory,
        identity: VisitorCookie,
        offer: Callable[[str], str] = str,
    ) -> None:
        self._name = name
        self._world = world
        self._settings = settings
        self._store = store
        self._offer = offer
        self._memory = memory
        self._identity = identity

    async def resolve(self, request: Request, route: PageRoute) -> PageRequest | Response:
        """What a request asks for: a click, or the response that the page function gave, or a redirect to the
        page's canonical address.

        Raises:
            BadAddress: if the address cannot be a page.
            TimedOut, BadPage: if the page function takes too long, or returns something else.
        """
        limit = self._settings.title_length
        values = route.pattern.parse(request.path_params, limit)
        query: dict[str, str] = {}
        if request.scope["query_string"]:
            given = request.query_params
            query = {name: single_line(given[name], limit) for name in route.function.declared_query(given)}
        arguments = route.function.parse(values, query)
        path = route.pattern.build(values)
        asked = request.scope["path"]
        if path != asked and unquote(path) != asked:
            return CanonicalRedirect(path + (f"?{request.query_params}" if request.query_params else ""))
        key = path + route.function.canonical_query(arguments, query)
        visit = self.visit(request, key) if route.function.wants_visit else None
        look = ReadTracker(route.name)
        with active(look), step("page function"):
            page = await route.function.call(arguments, visit, request, self._settings.function_time_limit)
        if isinstance(page, Response):
            return page
        title = page.title if page.title is not None else _last_word(route.pattern, values) or self._name
        tables = frozenset(look.tables)
        return PageRequest(key, route, page, safe_title(title), request, tables, client_id(request.scope))

    def visit(self, request: Request, key: str) -> Visit:
        """What is known about a click: where it came from, and what that page says about it."""
        source = None
        try:
            referer = urlsplit(request.headers.get("referer", ""))
        except ValueError:  # half an IPv6 address, say
            referer = urlsplit("")
        if referer.netloc and referer.netloc == request.headers.get("host"):
            source = referer.path + (f"?{referer.query}" if referer.query else "")
        link = self._store.link(source, key) if source else None
        return Visit(
            key=key,
            came_from=source,
            link_text=link.text if link else None,
            sentence=link.sentence if link else None,
            query=dict(request.query_params),
            visitor=self._identity.read(request),
        )

    def prompts(self, click: PageRequest, *, remember: bool = True) -> dict[str, Prompt]:
        """The engine's prompts of a page, by the name of the canvas.

        Args:
            click: which page.
            remember: with what is known about its subject; without, where nothing is going to be written.
        """
        facts = self._memory.facts(click, self.visit(click.request, click.key)) if remember else []
        return {
            name: build_prompt(world=self._world, canvas=canvas, subject=click.title, facts=facts)
            for name, canvas in click.page.canvases.items()
        }

    def linker(self, click: PageRequest) -> Linker:
        """What decides where the links of a page lead."""
        links = click.route.links
        key_for = partial(links.link, limit=self._settings.title_length) if links else None
        return Linker(click.key, key_for, self._store.exists, self._offer)

    # -- without a visitor --------------------------------------------------------------------------------

    async def resolve_key(
        self, key: str, routes: Iterable[PageRoute], headers: _RawHeaders, client: tuple[str, int] | None = None
    ) -> PageRequest | Response | None:
        """What a GET of this key would ask for, from a visitor with these headers and this address; None if no route
        claims it."""
        if key.startswith("//"):
            return None
        parts = urlsplit(key)
        scope: dict[str, Any] = {
            "type": "http",
            "method": "GET",
            "scheme": "http",
            "path": unquote(parts.path),
            "raw_path": parts.path.encode("ascii", "replace"),
            "query_string": parts.query.encode("ascii", "replace"),
            "headers": headers,
            "client": client,
        }
        for route in routes:
            match, child = route.matches(scope)
            if match is Match.FULL:
                return await self.resolve(Request({**scope, **child}), route)
        return None

    async def sample_requests(self, routes: Sequence[PageRoute]) -> list[PageRequest]:
        """A click on every page, for a subject of no importance: to see what they need, and what they share.

        A page that has no such subject is left out.

        Raises:
            BadShape: if a page has something for a shape that is none.
        """
        return [click for click in await asyncio.gather(*map(self._sample_request, routes)) if click is not None]

    async def _sample_request(self, route: PageRoute) -> PageRequest | None:
        values = {name: _SAMPLES.get(type(c), "Lighthouse") for name, c in route.pattern.parameters.items()}
        try:
            async with asyncio.timeout(SAMPLE_SECONDS):
                click = await self.resolve_key(route.pattern.build(values), [route], [])
        except BadSchema:
            raise
        except Exception as error:  # a page that has no such subject is no reason not to start
            log.debug("%s has no sample: %s", route.path, error)
            return None
        return click if isinstance(click, PageRequest) else None


def _last_word(pattern: PagePattern, values: Mapping[str, Any]) -> str:
    """The last text among a path's parameters; of one that is a path itself, its last part."""
    texts = [(name, value) for name, value in values.items() if isinstance(value, str)]
    if not texts:
        return ""
    name, text = texts[-1]
    return text if pattern.is_words(name) else text.strip("/").rsplit("/", 1)[-1].replace("_", " ")
