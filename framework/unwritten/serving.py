"""Serving: the life of a click, from the request to the response, read from top to bottom."""

from __future__ import annotations

import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from unwritten_engine import Engine

from .clicks import Click, Clicks
from .drawing import NONCE, Shell
from .errors import BadAddress, PageFailed
from .generations import Generation, Generations
from .links import Linker
from .pages import Page
from .plain import PlainResponse, wants_plain
from .regions import PageView
from .routing import PLAIN, VERSION, PageRoute
from .security import new_nonce, page_response, secure_headers
from .settings import Settings
from .store import KeptCanvas, KeptPage, Store
from .views import Views
from .writing import Writing

_DRAWN_PAGES = 512
"""Kept pages whose drawn HTML is held in memory."""


@dataclass(frozen=True, slots=True)
class _DrawnPage:
    """A kept page, drawn. It is sent again while nothing that it was drawn from has changed.

    Attributes:
        page: what the page function asked for.
        stamp: the store's stamp when it was drawn: links turn blue when their pages are written.
        pieces: the HTML between the places where the nonce belongs.
        tag: its ETag.
    """

    page: Page
    stamp: int
    pieces: tuple[bytes, ...]
    tag: str


class Serving:
    """Answers clicks for one app.

    Args:
        settings: see ``settings.TABLE``.
        clicks: reads requests.
        views: draws.
        store: keeps.
        engine: writes.
    """

    def __init__(self, settings: Settings, clicks: Clicks, views: Views, store: Store, engine: Engine) -> None:
        self._clicks = clicks
        self.views = views
        self.store = store
        self.engine = engine
        self.generations = Generations(engine, store, settings)
        self._drawn: OrderedDict[str, _DrawnPage] = OrderedDict()

    async def answer(self, request: Request, route: PageRoute) -> Response:
        """Answer a GET or HEAD of a page.

        Raises:
            BadAddress, Busy, PageFailed, BadApp, StoreError: as the case may be; the app turns them into pages.
        """
        click = await self._clicks.read(request, route)
        if isinstance(click, Response):
            return click
        if request.scope["query_string"] and VERSION in request.query_params:
            return self._old_version(click, request.query_params[VERSION])
        generation = self.generations.get(click.key)
        if generation is None:
            drawn = self._drawn_page(click)
            if drawn is not None:
                return _kept_response(drawn, request.headers.get("if-none-match"))
        if request.method == "HEAD":
            return page_response("")  # asking whether a page is there must not write it, nor wait for it
        if generation is None:
            generation = self._begin(click)
        if wants_plain(request):
            return PlainResponse(self.generations, self.views, generation)
        # Whoever comes first gets the shell that was drawn for the start, all others what is there by now.
        shell = generation.shell if generation.change <= 1 and generation.shell else self._shell(generation)
        return page_response(shell.html, headers={"cache-control": "no-store"})

    # -- a page that is not written -----------------------------------------------------------------------

    def _begin(self, click: Click, *, anew: bool = False) -> Generation:
        """Start to write a page. Regions that are there already, kept or left over, are not written again.

        Args:
            click: who asks for it.
            anew: write all of it, whatever is there.

        Raises:
            Busy: if too many pages wait.
            BadTemplate: if the page cannot be drawn.
        """
        self.generations.admit()
        if anew:
            self.generations.forget_remains(click.key)
        kept = None if anew else self.store.kept(click.key)
        finished = {**self.generations.remains(click.key), **(kept.canvases if kept else {})}
        linker = self._clicks.linker(click)
        writings = self._writings(click, linker, finished)
        generation = Generation(click.key, click.page, click.title, writings, linker)
        generation.shell = self._shell(generation)
        self.generations.add(generation)
        return generation

    def _writings(self, click: Click, linker: Linker, finished: Mapping[str, KeptCanvas]) -> dict[str, Writing]:
        prompts = self._clicks.prompts(click)
        length = self.engine.about.canvas_length
        writings: dict[str, Writing] = {}
        for name, canvas in click.page.canvases.items():
            writings[name] = Writing(name, canvas, prompts[name], linker, length)
            before = finished.get(name)
            if before is not None and before.format == canvas.format:
                with contextlib.suppress(PageFailed):  # its shape has changed since: it is written anew
                    writings[name].restore(before)
        return writings

    def _shell(self, generation: Generation) -> Shell:
        """The shell of a page that is being written, with whatever is there by now."""
        key = generation.key
        refresh = key + ("&" if "?" in key else "?") + urlencode({PLAIN: "1"})
        return self.views.generation(generation, refresh=refresh)

    async def rewrite(self, key: str, request: Request, routes: Sequence[PageRoute]) -> Response:
        """Write the page with this key anew, as its next version, and lead to it.

        A page that is being written is not begun twice.

        Raises:
            BadAddress: if no page has this key.
            Busy: if too many pages wait.
        """
        click = await self._clicks.at(key, routes, request.headers.raw)
        if not isinstance(click, Click) or not click.page.canvases:
            raise BadAddress(f"The page {key} is not one that is written, so it cannot be written anew.", 404)
        if self.generations.get(click.key) is None:
            self._begin(click, anew=True)
        return RedirectResponse(click.key, 303)

    # -- a page that is written ---------------------------------------------------------------------------

    def _drawn_page(self, click: Click) -> _DrawnPage | None:
        """A page that is written, or that needs no writing, drawn. None if a canvas of it is missing."""
        stamp = self.store.stamp()
        drawn = self._drawn.get(click.key)
        if drawn is not None and drawn.stamp == stamp and drawn.page == click.page:
            return drawn
        kept, writings = None, dict[str, Writing]()
        if click.page.canvases:
            kept = self.store.kept(click.key)
            if kept is None:
                return None
            writings = self._writings(click, self._clicks.linker(click), kept.canvases)
            if any(writing.state != "written" for writing in writings.values()):
                return None  # the author has changed the page since
        html = self._draw(click, kept, writings)
        tag = f'W/"{hashlib.blake2b(html.encode(), digest_size=12).hexdigest()}"'
        drawn = _DrawnPage(click.page, stamp, tuple(piece.encode() for piece in html.split(NONCE)), tag)
        self._drawn[click.key] = drawn
        if len(self._drawn) > _DRAWN_PAGES:
            self._drawn.popitem(last=False)
        return drawn

    def _old_version(self, click: Click, version: str) -> Response:
        kept = self.store.kept(click.key, int(version)) if version.isdecimal() and len(version) < 10 else None
        if kept is None:
            raise BadAddress(f"The page {click.title!r} has no version {version!r}.", 404)
        writings = self._writings(click, self._clicks.linker(click), kept.canvases)
        return page_response(self._draw(click, kept, writings), headers={"cache-control": "no-cache"})

    def _draw(self, click: Click, kept: KeptPage | None, writings: Mapping[str, Writing]) -> str:
        if kept is None:
            return self.views.shell(PageView(key=click.key, title=click.title), click.page, {}).html
        view = PageView(
            key=click.key,
            title=click.title,
            state="written",
            version=kept.version,
            versions=kept.versions,
            written_at=kept.written_at,
            kept=True,
            provenance=kept.provenance,
        )
        return self.views.shell(view, click.page, writings).html


def _kept_response(drawn: _DrawnPage, known_tag: str | None) -> Response:
    """A drawn page with a new nonce; or a word that the browser has it, if that is what ``known_tag`` says."""
    headers = {"cache-control": "no-cache", "etag": drawn.tag}
    if known_tag == drawn.tag:
        return Response(status_code=304, headers=headers)
    nonce = new_nonce()
    content = nonce.encode().join(drawn.pieces)
    return Response(content, headers={**secure_headers(nonce), **headers, "content-type": "text/html; charset=utf-8"})
