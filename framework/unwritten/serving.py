"""Serving: from the click to the response. The life of a click is read here from top to bottom."""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

from markupsafe import Markup
from starlette.convertors import FloatConvertor, IntegerConvertor, UUIDConvertor
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Match

from unwritten_engine import Engine, Prompt

from .addresses import Pattern, safe_title
from .assets import Static
from .drawing import COLOPHON, NONCE, Shell, Templates
from .errors import BadAddress
from .generations import Generation, Generations
from .links import Linker, title_of
from .live import encoded
from .pages import Page
from .plain import PlainResponse, wants_plain
from .prompts import build_prompt
from .regions import PageView
from .routing import PageRoute
from .security import head_tags, page_response
from .settings import Settings
from .store import KeptCanvas, KeptPage, Store
from .visits import Visit
from .writing import Writing

log = logging.getLogger("unwritten")

PLAIN, VERSION = "plain", "version"
"""Query parameters that are ours on every page."""

_SAMPLES: Mapping[type, Any] = {
    IntegerConvertor: 1,
    FloatConvertor: 1.0,
    UUIDConvertor: uuid.UUID(int=1),
}

_DRAWN_PAGES = 512
"""Kept pages whose drawn HTML is held in memory."""


@dataclass(frozen=True, slots=True)
class Click:
    """One click on its way.

    Attributes:
        key: the page's key.
        route: the route that matched.
        page: what the page function asked for.
        title: the page's title.
        visit: what is known about the click.
    """

    key: str
    route: PageRoute
    page: Page
    title: str
    visit: Visit


@dataclass(frozen=True, slots=True)
class _DrawnPage:
    """A kept page, drawn. It may be sent again while nothing that it was drawn from has changed."""

    page: Page
    stamp: int
    html: str
    tag: str


class Serving:
    """Answers clicks for one app. See ``App`` for what the parts are.

    Args:
        world: the app's constitution, which leads every prompt.
        about_app: what templates see as ``app``.
    """

    def __init__(
        self,
        *,
        world: str,
        about_app: Any,
        settings: Settings,
        templates: Templates,
        static: Static,
        store: Store,
        engine: Engine,
    ) -> None:
        self._world = world
        self._about_app = about_app
        self._settings = settings
        self.templates = templates
        self._static = static
        self.store = store
        self.engine = engine
        self.generations = Generations(engine, store, settings)
        self._drawn: OrderedDict[str, _DrawnPage] = OrderedDict()

    # -- a click ------------------------------------------------------------------------------------------

    async def answer(self, request: Request, route: PageRoute) -> Response:
        """Answer a GET or HEAD of a page.

        Raises:
            BadAddress, Busy, PageFailed, BadApp, StoreError: as the case may be; the app turns them into pages.
        """
        click = await self._click(request, route)
        if isinstance(click, Response):
            return click
        query = request.query_params
        if VERSION in query:
            return self._old_version(click, query[VERSION])
        generation = self.generations.get(click.key)
        if generation is None:
            kept = self.store.kept(click.key) if click.page.canvases else None
            if (kept is not None and click.page.canvases.keys() <= kept.canvases.keys()) or not click.page.canvases:
                return self._kept(click, kept, request.headers.get("if-none-match"))
            if request.method == "HEAD":
                return page_response("")  # asking whether a page is there must not write it
            generation = self._begin(click, kept.canvases if kept else {})
        if wants_plain(request):
            return PlainResponse(self, generation)
        return self._unfinished(click, generation)

    async def _click(self, request: Request, route: PageRoute) -> Click | Response:
        query = request.query_params
        values = route.pattern.read(request.path_params, self._settings.title_length)
        arguments = route.function.read(values, query)
        path = route.pattern.write(values)
        key = path + route.function.query_of(arguments, query)
        if path != request.scope.get("raw_path", b"").decode("latin-1") and unquote(path) != request.scope["path"]:
            return RedirectResponse(path + (f"?{query}" if query else ""), 302)
        visit = self._visit(request, key) if route.function.wants_visit else None
        page = await route.function.call(arguments, visit, request, self._settings.function_time_limit)
        if isinstance(page, Response):
            return page
        title = safe_title(page.title if page.title is not None else _title(route.pattern, values, self._about_app))
        return Click(key, route, page, title, visit or self._visit(request, key))

    def _visit(self, request: Request, key: str) -> Visit:
        """What is known about a click: where it came from, and what that page says about it."""
        referer = urlsplit(request.headers.get("referer", ""))
        source = None
        if referer.netloc and referer.netloc == request.headers.get("host"):
            source = referer.path + (f"?{referer.query}" if referer.query else "")
        link = self.store.link(source, key) if source else None
        return Visit(
            key=key,
            came_from=source,
            link_text=link.text if link else None,
            sentence=link.sentence if link else None,
            query=dict(request.query_params),
        )

    # -- an unwritten page --------------------------------------------------------------------------------

    def _begin(self, click: Click, kept: Mapping[str, KeptCanvas]) -> Generation:
        """Start to write a page. Regions that are there already, kept or left over, are not written again."""
        self.generations.admit()
        linker = self._linker(click)
        finished = {**self.generations.remains(click.key), **kept}
        writings = {}
        for name in click.page.canvases:
            writing = writings[name] = self._writing(click, name, linker)
            before = finished.get(name)
            if before is not None and before.format == writing.canvas.format:
                writing.restore(before)
        generation = Generation(click.key, click.page, click.title, writings, linker)
        generation.shell = self._shell(generation.view(), click.page, writings)
        self.generations.add(generation)
        return generation

    def _unfinished(self, click: Click, generation: Generation) -> Response:
        """The shell of a page that is being written, with whatever is there by now."""
        refresh = click.key + ("&" if "?" in click.key else "?") + urlencode({PLAIN: "1"})
        shell = self._shell(generation.view(), generation.page, generation.writings, refresh=refresh)
        return page_response(shell.html, headers={"cache-control": "no-store"})

    def _writing(self, click: Click, name: str, linker: Linker) -> Writing:
        canvas = click.page.canvases[name]
        prompt = self._prompt(click, name)
        return Writing(name, canvas, prompt, linker, self.engine.about.canvas_length)

    def _prompt(self, click: Click, name: str) -> Prompt:
        facts = []
        if click.visit.sentence and click.visit.came_from:
            facts.append(f'The page "{title_of(click.visit.came_from)}" says: {click.visit.sentence}')
        return build_prompt(world=self._world, canvas=click.page.canvases[name], subject=click.title, facts=facts)

    def _linker(self, click: Click) -> Linker:
        return Linker(click.key, click.route.links, self._settings.title_length, self.store.exists)

    # -- a written page -----------------------------------------------------------------------------------

    def _kept(self, click: Click, kept: KeptPage | None, known_tag: str | None) -> Response:
        """A page that is written, or that needs no writing. ``known_tag`` is what the browser has already."""
        stamp = self.store.stamp()
        drawn = self._drawn.get(click.key)
        if drawn is None or drawn.stamp != stamp or drawn.page != click.page:
            html = self._draw_kept(click, kept)
            tag = f'W/"{hashlib.blake2b(html.encode(), digest_size=12).hexdigest()}"'
            drawn = self._drawn[click.key] = _DrawnPage(click.page, stamp, html, tag)
            if len(self._drawn) > _DRAWN_PAGES:
                self._drawn.popitem(last=False)
        headers = {"cache-control": "no-cache", "etag": drawn.tag}
        if known_tag == drawn.tag:
            return Response(status_code=304, headers=headers)
        return page_response(drawn.html, headers=headers)

    def _old_version(self, click: Click, version: str) -> Response:
        kept = self.store.kept(click.key, int(version)) if version.isdecimal() and len(version) < 10 else None
        if kept is None:
            raise BadAddress(f"The page {click.title!r} has no version {version!r}.", 404)
        return page_response(self._draw_kept(click, kept), headers={"cache-control": "no-cache"})

    def _draw_kept(self, click: Click, kept: KeptPage | None) -> str:
        linker = self._linker(click)
        writings: dict[str, Writing] = {}
        view = PageView(key=click.key, title=click.title)
        if kept is not None:
            for name, canvas in click.page.canvases.items():
                if name in kept.canvases and kept.canvases[name].format == canvas.format:
                    writings[name] = self._writing(click, name, linker)
                    writings[name].restore(kept.canvases[name])
            view = replace(
                view,
                state="written",
                version=kept.version,
                versions=kept.versions,
                written_at=kept.written_at,
                provenance=kept.provenance,
                kept=True,
            )
        return self._shell(view, click.page, writings).html

    # -- drawing ------------------------------------------------------------------------------------------

    def _shell(
        self,
        view: PageView,
        page: Page,
        writings: Mapping[str, Writing],
        *,
        refresh: str | None = None,
        holes: bool = False,
    ) -> Shell:
        regions = {name: writing.region() for name, writing in writings.items()}
        return self.templates.shell(
            page.template,
            view,
            regions,
            {**page.context, **self.frame_values(view, refresh=refresh)},
            holes=holes,
        )

    def shell_with_holes(self, generation: Generation) -> Shell:
        """The shell of a page with marks where its regions belong."""
        return self._shell(generation.view(), generation.page, generation.writings, holes=True)

    def frame_values(self, view: PageView, *, refresh: str | None = None) -> dict[str, Any]:
        """What our own parts of a page need: ``{{ unwritten }}``, ``{{ colophon }}`` and ``{{ nonce }}``."""
        return {
            "unwritten": head_tags(self._static, refresh),
            COLOPHON: Markup('<footer class="colophon" data-colophon data-page="{}">{}</footer>').format(
                view.key, Markup(self.colophon(view))
            ),
            "nonce": NONCE,
        }

    def colophon(self, view: PageView) -> str:
        """The inner HTML of the colophon."""
        return self.templates.render("colophon.html", {"page": view, "about": self.engine.about})

    def message(self, status: int, values: Mapping[str, Any], headers: Mapping[str, str]) -> HTMLResponse:
        """A page with a message for people, from ``message.html``."""
        view = PageView(key="", title=str(values["title"]))
        html = self.templates.render("message.html", {"page": view, **self.frame_values(view), **values})
        return page_response(html, status, {"cache-control": "no-store", **headers})

    # -- for the socket -----------------------------------------------------------------------------------

    def frame_text(self, generation: Generation, name: str) -> str:
        """The message with a region's latest frame, encoded once for all who watch."""
        writing = generation.writings[name]
        inner = generation.inner(name)
        key = (writing.number, writing.state)
        if writing.encoded is None or writing.encoded[0] != key:
            frame = writing.frame
            message = {
                "type": "frame",
                "page": generation.key,
                "region": name,
                "frame": writing.number,
                "state": writing.state,
                "html": inner,
                "canvas": frame.canvas,
                "canvases": frame.canvases,
                "step": frame.step,
                "steps": frame.steps,
            }
            writing.encoded = (key, encoded(message))
        return writing.encoded[1]

    def page_message(self, generation: Generation, message: str = "") -> dict[str, Any]:
        """The message that a page has come to another state."""
        view = replace(generation.view(), message=message)
        return {
            "type": "page",
            "page": view.key,
            "state": view.state,
            "message": message,
            "colophon": self.colophon(view),
            "title": "",
        }

    def settled_messages(self, key: str) -> list[dict[str, Any]]:
        """What a browser is told that watches a page which is not being written: it is there, or it is not."""
        state = "written" if self.store.exists([key]) else "unwritten"
        return [{"type": "page", "page": key, "state": state, "message": "", "colophon": "", "title": ""}]

    def queue_message(self, generation: Generation) -> str:
        """How long a page will wait, in words; "" if it does not."""
        if generation.state != "queued":
            return ""
        ahead = self.generations.ahead(generation)
        return "This page is next to be written." if ahead == 0 else f"{ahead} pages are written before this one."

    # -- without a visitor --------------------------------------------------------------------------------

    async def rewrite_at(self, key: str, request: Request, routes: Sequence[PageRoute]) -> Response:
        """Write the page with this key anew, and lead to it.

        Raises:
            BadAddress: if no page has this key.
        """
        click = await self._click_at(key, routes, request.headers.raw)
        if isinstance(click, Click) and click.page.canvases:
            if self.generations.get(click.key) is None:
                self.generations.forget_remains(click.key)
                self._begin(click, {})
            return RedirectResponse(click.key, 303)
        raise BadAddress(f"The page {key} is not one that is written, so it cannot be written anew.", 404)

    async def sample_prompts(self, routes: Sequence[PageRoute]) -> list[Prompt]:
        """One prompt of every canvas of every page, with a subject of no importance."""
        prompts: list[Prompt] = []
        for route in routes:
            values = {name: _SAMPLES.get(type(c), "Lighthouse") for name, c in route.pattern.parameters.items()}
            try:
                click = await self._click_at(route.pattern.write(values), [route], [])
                if isinstance(click, Click):
                    prompts += [self._prompt(click, name) for name in click.page.canvases]
            except Exception as error:  # a page that has no such subject is no reason not to start
                log.debug("%s has no sample: %s", route.path, error)
        return prompts

    async def _click_at(
        self, key: str, routes: Sequence[PageRoute], headers: list[tuple[bytes, bytes]]
    ) -> Click | Response | None:
        """What a GET of this key asks for; None if no route claims it."""
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
                return await self._click(Request({**scope, **child}), route)
        return None


def _title(pattern: Pattern, values: Mapping[str, Any], app: Any) -> str:
    texts = [value for name, value in values.items() if isinstance(value, str)]
    return texts[-1].strip("/").rsplit("/", 1)[-1] if texts and texts[-1].strip("/") else str(app.name)
