"""Serving: the life of a click, from the request to the response, read from top to bottom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from unwritten_engine import Engine

from ..asking.clicks import Click, Clicks, Moved
from ..asking.routing import PLAIN, VERSION, PageRoute
from ..developing.tracing import note_page
from ..errors import BadAddress, Busy, Denied
from ..generating.ahead import Ahead
from ..generating.generation import Generation
from ..generating.generations import Generations
from ..generating.launching import Launcher
from ..generating.painting import Studio
from ..generating.readers import is_prefetch, saves_data
from ..generating.shapes import Shapes
from ..guarding.budgets import Budgets
from ..guarding.gates import Gates, Source, address_of, problem, signature_of
from ..guarding.metrics import Metrics
from ..hooks import Hooks
from ..keeping.store import Store
from ..keeping.values import Values
from ..keeping.world import World
from ..settings import Settings
from ..showing.views import Views
from ..state.fields import Form
from .page_cache import PageCache
from .plain import PlainResponse, wants_plain
from .security import NOT_FOR_ROBOTS, from_here, page_response, wants_page

if TYPE_CHECKING:
    from .live import Live


_IN_PARTS = "Some parts of this page are not written yet. They are when somebody follows a link to it."


@dataclass(frozen=True, slots=True)
class _Offer:
    """What a request brings to show that its page was offered.

    Attributes:
        signature: as it came; None if there was none.
        source: what offered it; None if the signature is not ours, or for another page.
    """

    signature: str | None
    source: Source | None


class Serving:
    """Answers clicks for one app.

    Args:
        settings: see ``settings.TABLE``.
        clicks: reads requests.
        views: draws.
        store: keeps.
        engine: writes.
        gates: whether writing takes a signed link.
        hooks: the author's own say in what is written.

    Attributes:
        world: what is true of the app itself.
        budgets: how much a visitor may have written.
        launcher: begins to write pages.
        cache: written pages, drawn.
        ahead: writes pages before they are clicked; None if that is switched off.
        studio: paints pictures; None if nobody does.
        tabs: the sockets that are open.
        metrics: what was done, counted.
        sockets: open sockets, by visitor.
    """

    def __init__(
        self,
        settings: Settings,
        clicks: Clicks,
        views: Views,
        store: Store,
        engine: Engine,
        gates: Gates,
        hooks: Hooks,
    ) -> None:
        self.clicks = clicks
        self.gates = gates
        self.hooks = hooks
        self.world = World(store.database)
        self.budgets = Budgets(settings, lambda: gates.beyond)
        self.views = views
        self.store = store
        self.engine = engine
        self.values = Values(store.database)
        self.shapes = Shapes(engine, self.values)
        self.generations = Generations(engine, store, settings)
        self.metrics = Metrics()
        self.sockets: Counter[str] = Counter()
        self.generations.listeners += [self.budgets, self.metrics]
        self.launcher = Launcher(
            clicks=clicks,
            views=views,
            store=store,
            about=engine.about,
            generations=self.generations,
            shapes=self.shapes,
            values=self.values,
            budgets=self.budgets,
            hooks=hooks,
            metrics=self.metrics,
        )
        self.cache = PageCache(clicks=clicks, views=views, store=store, launcher=self.launcher, gates=gates)
        self.tabs: set[Live] = set()
        self.ahead: Ahead | None = None
        self.studio: Studio | None = None

    def refresh(self) -> None:
        """Take templates and static files as they are by now, and tell every tab that has a socket open."""
        self.cache.clear()
        self.views.refresh()
        for tab in self.tabs:
            tab.say({"type": "refresh"})

    async def answer(self, request: Request, route: PageRoute) -> Response:
        """Answer a GET or HEAD of a page.

        Raises:
            BadAddress, Busy, PageFailed, BadApp, StoreError: as the case may be; the app turns them into pages.
        """
        click, offer = await self._read(request, route)
        if isinstance(click, Response):
            return self.led(click, request)
        if request.scope["query_string"] and VERSION in request.query_params:
            return self.cache.old_version(click, request.query_params[VERSION])
        generation = self.generations.get(click.key)
        if generation is None:
            kept = self._kept(click, offer)
            if kept is not None:
                return kept
            if self.gates.closed and offer.source is None:
                return self._as_it_is(click, _IN_PARTS) if click.tables else self._not_written(click, offer)
        if request.method == "HEAD":
            # Asking whether a page is there must not write it, nor wait for it.
            return page_response("", headers=NOT_FOR_ROBOTS)
        note_page(click.key, "being written" if generation else "not written before")
        try:
            generation = await self._being_written(click, offer, generation)
        except (Busy, Denied) as refused:
            if not click.tables or is_prefetch(request.headers):
                raise
            return self._as_it_is(click, str(refused))
        if offer.signature is not None:
            return _clean(click.key, request)
        if wants_plain(request):
            return PlainResponse(self.generations, self.views, generation, click.frames)
        # Whoever comes first gets the shell that was drawn for the start, all others what is there by now.
        shell = generation.shell if generation.change <= 1 and generation.shell else self.launcher.shell(generation)
        headers = {"cache-control": "no-store", **NOT_FOR_ROBOTS}
        return page_response(shell.html, headers=headers, frames=click.frames)

    async def _read(self, request: Request, route: PageRoute) -> tuple[Click | Response, _Offer]:
        """What a request asks for, and whether something offered it."""
        click = await self.clicks.read(request, route)
        signature = signature_of(request.scope)
        if signature is None:
            # A page without parameters is one page, which the author has declared: that is an offer.
            declared = isinstance(click, Click) and not route.pattern.parameters and "?" not in click.key
            return click, _Offer(None, "link" if declared else None)
        known = [click.key] if isinstance(click, Click) else []
        source = self.gates.source(signature, address_of(request.scope), *known)
        if isinstance(click, Moved) and source:
            client = request.scope.get("client")
            click = await self.clicks.at(click.address, [route], request.headers.raw, client) or click
        return click, _Offer(signature, source)

    def _kept(self, click: Click, offer: _Offer) -> Response | None:
        """A page that is written, if it is."""
        request = click.request
        opened = request.method == "GET" and not is_prefetch(request.headers) and offer.signature is None
        drawn = self.cache.drawn(click, opened=opened)
        if drawn is None:
            return None
        if offer.signature is not None:
            return _clean(click.key, request)
        self.metrics.kept_served += 1
        return drawn.response(request.headers.get("if-none-match"), click.frames)

    async def _being_written(self, click: Click, offer: _Offer, generation: Generation | None) -> Generation:
        """The generation of a page: the one that runs, brought up to what the page is by now, or a new one."""
        if is_prefetch(click.request.headers):
            return generation or await self._prefetch(click)
        if generation is None:
            generation = await self.launcher.begin(click, searched=offer.source == "search")
        else:
            self.launcher.fit(generation, click)
        self.generations.prioritize(generation)
        return generation

    # -- a page that is not written -----------------------------------------------------------------------

    async def _prefetch(self, click: Click) -> Generation:
        if self.ahead is None or saves_data(click.request.headers):
            raise Busy("Nothing is written ahead here. Click on the link to have the page written.", 10)
        return await self.ahead.prefetch(click)

    async def write(self, key: str, request: Request, routes: Sequence[PageRoute]) -> Response:
        """Write the page with this key because somebody pressed a button, and lead to it.

        Raises:
            BadAddress: if no page has this key.
            Busy, OverBudget, Denied: see ``begin``.
        """
        click = await self.asked_for(key, request, routes)
        if self.generations.get(click.key) is None and self.cache.drawn(click, opened=False) is None:
            await self.launcher.begin(click, searched=True)
        return RedirectResponse(click.key, 303)

    async def asked_for(self, key: str, request: Request, routes: Sequence[PageRoute]) -> Click:
        """The click that a form of ours is about.

        Raises:
            BadAddress: if there is no such page, or it has nothing that is written.
        """
        # Where the form stood is no page that led here.
        headers = [(name, value) for name, value in request.headers.raw if name != b"referer"]
        click = await self.clicks.at(key, routes, headers, request.scope.get("client"))
        if isinstance(click, Moved):
            click = await self.clicks.at(click.address, routes, headers, request.scope.get("client"))
        if not isinstance(click, Click) or not click.page.canvases:
            raise BadAddress(f"The page {key} is not one that is written, so it cannot be written anew.", 404)
        return click

    def _not_written(self, click: Click, offer: _Offer) -> Response:
        """Say that a page is not written, and offer to write it."""
        unsigned = offer.signature is None
        self.metrics.refused["unsigned" if unsigned else "signature"] += 1
        message = problem(offer.signature)
        before = self.generations.recent(click.key)
        if before is not None and before.message and not message:
            message = f"The last attempt came to nothing: {before.message}"
        status = 404 if unsigned else 403
        return self.views.not_written(click.key, click.title, message, status, wants_page(click.request))

    def led(self, response: Response, request: Request) -> Response:
        """A response of a page function or an action. One that leads from a form of this app to a page that nobody has
        written is a search box: what it leads to may be written, within the budget for that."""
        target = response.headers.get("location", "")
        if not (self.gates.closed and 300 <= response.status_code < 400 and target.startswith("/")):
            return response
        if target.startswith("//") or not from_here(request.headers):
            return response
        if self.generations.get(target) is None and not self.store.exists([target]):
            response.headers["location"] = self.gates.offer(target, "search")
        return response

    async def with_form(self, click: Click, form: Form) -> Response:
        """A page with a form that could not be taken: what was typed in it, and what is wrong with it."""
        generation = self.generations.get(click.key)
        if generation is None:
            return self._as_it_is(click, "", 422, form)
        self.launcher.fit(generation, click)
        shell = self.views.shell(generation.view(), click.page, generation.writings, form=form)
        return page_response(shell.html, 422, {"cache-control": "no-store", **NOT_FOR_ROBOTS}, click.frames)

    def _as_it_is(self, click: Click, message: str, status: int = 200, form: Form | None = None) -> Response:
        """A page with what is there of it. What is not written of it is not written now, but its state is shown."""
        kept = self.store.kept(click.key)
        canvases = kept.canvases if kept else {}
        writings = self.launcher.writings(click, self.clicks.linker(click), canvases, remember=False)
        view = self.cache.view(click, kept)
        if any(writing.state != "written" for writing in writings.values()):
            view = replace(view, state="stopped", message=message, provenance=None)
        for writing in writings.values():
            writing.end("stopped")
        shell = self.views.shell(view, click.page, writings, form=form)
        return page_response(shell.html, status, {"cache-control": "no-store", **NOT_FOR_ROBOTS}, click.frames)


def _clean(key: str, request: Request) -> Response:
    """Lead to the clean address of a page, which is the one that may be kept and shared."""
    plain = request.query_params.get(PLAIN)
    if plain is not None:
        key += ("&" if "?" in key else "?") + urlencode({PLAIN: plain})
    return RedirectResponse(key, 303, {"cache-control": "no-store", **NOT_FOR_ROBOTS})
