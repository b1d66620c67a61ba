"""Clicks: from a request to what its page needs."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

from starlette.convertors import FloatConvertor, IntegerConvertor, UUIDConvertor
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match

from unwritten_engine import Prompt

from .addresses import Pattern, line, safe_title
from .links import Linker, title_of
from .pages import Page
from .prompts import build_prompt
from .routing import PageRoute
from .settings import Settings
from .store import Store
from .visits import Visit

log = logging.getLogger("unwritten")

_RawHeaders: TypeAlias = list[tuple[bytes, bytes]]

_SAMPLES: Mapping[type, Any] = {
    IntegerConvertor: 1,
    FloatConvertor: 1.0,
    UUIDConvertor: uuid.UUID(int=1),
}


@dataclass(frozen=True, slots=True)
class Click:
    """One click: which page it wants, and what that page needs.

    Attributes:
        key: the page's key.
        route: the route that matched.
        page: what the page function asked for.
        title: the page's title.
        request: the request itself.
    """

    key: str
    route: PageRoute
    page: Page
    title: str
    request: Request


class Clicks:
    """Reads clicks for one app.

    Args:
        name: the app's name, the title of pages that have none.
        world: the app's constitution, which leads every prompt.
        settings: ``title_length`` and ``function_time_limit``.
        store: knows what the page that was left says about a link, and which pages are written.
    """

    def __init__(self, *, name: str, world: str, settings: Settings, store: Store) -> None:
        self._name = name
        self._world = world
        self._settings = settings
        self._store = store

    async def read(self, request: Request, route: PageRoute) -> Click | Response:
        """What a request asks for: a click, or the response that the page function gave, or a redirect to the
        page's canonical address.

        Raises:
            BadAddress: if the address cannot be a page.
            TimedOut, BadPage: if the page function takes too long, or returns something else.
        """
        limit = self._settings.title_length
        values = route.pattern.read(request.path_params, limit)
        query: dict[str, str] = {}
        if request.scope["query_string"]:
            given = request.query_params
            query = {name: line(given[name], limit) for name in route.function.asks(given)}
        arguments = route.function.read(values, query)
        path = route.pattern.write(values)
        asked = request.scope["path"]
        if path != asked and unquote(path) != asked:
            return RedirectResponse(path + (f"?{request.query_params}" if request.query_params else ""), 302)
        key = path + route.function.query_of(arguments, query)
        visit = self.visit(request, key) if route.function.wants_visit else None
        page = await route.function.call(arguments, visit, request, self._settings.function_time_limit)
        if isinstance(page, Response):
            return page
        title = page.title if page.title is not None else _last_word(route.pattern, values) or self._name
        return Click(key, route, page, safe_title(title), request)

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
        )

    def prompts(self, click: Click) -> dict[str, Prompt]:
        """The engine's prompts of a page, by the name of the canvas."""
        visit = self.visit(click.request, click.key)
        facts = []
        if visit.sentence and visit.came_from:
            facts.append(f'The page "{title_of(visit.came_from)}" says: {visit.sentence}')
        return {
            name: build_prompt(world=self._world, canvas=canvas, subject=click.title, facts=facts)
            for name, canvas in click.page.canvases.items()
        }

    def linker(self, click: Click) -> Linker:
        """What decides where the links of a page lead."""
        return Linker(click.key, click.route.links, self._settings.title_length, self._store.exists)

    # -- without a visitor --------------------------------------------------------------------------------

    async def at(self, key: str, routes: Iterable[PageRoute], headers: _RawHeaders) -> Click | Response | None:
        """What a GET of this key would ask for; None if no route claims it."""
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
        }
        for route in routes:
            match, child = route.matches(scope)
            if match is Match.FULL:
                return await self.read(Request({**scope, **child}), route)
        return None

    async def sample_prompts(self, routes: Sequence[PageRoute]) -> list[Prompt]:
        """The prompts of every page for a subject of no importance, so that an engine can see what they share."""
        prompts: list[Prompt] = []
        for route in routes:
            values = {name: _SAMPLES.get(type(c), "Lighthouse") for name, c in route.pattern.parameters.items()}
            try:
                click = await self.at(route.pattern.write(values), [route], [])
                if isinstance(click, Click):
                    prompts += self.prompts(click).values()
            except Exception as error:  # a page that has no such subject is no reason not to start
                log.debug("%s has no sample: %s", route.path, error)
        return prompts


def _last_word(pattern: Pattern, values: Mapping[str, Any]) -> str:
    """The last text among a path's parameters; of one that is a path itself, its last part."""
    texts = [(name, value) for name, value in values.items() if isinstance(value, str)]
    if not texts:
        return ""
    name, text = texts[-1]
    return text if pattern.is_words(name) else text.strip("/").rsplit("/", 1)[-1].replace("_", " ")
