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

from ..core.errors import BadAddress, Busy, Denied
from ..core.settings import Settings
from ..core.tracing import note_page
from ..generation.budgets import Budgets
from ..generation.hooks import Policies
from ..generation.job_queue import JobQueue
from ..generation.job_starter import JobStarter, SchemaChecker
from ..generation.metrics import Metrics
from ..generation.page_job import PageJob
from ..generation.prefetcher import Prefetcher
from ..pictures.painting import PaintQueue
from ..rendering.document import page_response
from ..rendering.renderer import Renderer
from ..routing.form_fields import FormState
from ..routing.resolver import PageResolver
from ..routing.routes import PLAIN, VERSION, CanonicalRedirect, PageRequest, PageRoute
from ..security.headers import NOT_FOR_ROBOTS, accepts_html, is_prefetch, is_same_site_navigation, saves_data
from ..security.signed_links import LinkSource, SignedLinks, address_of, explain_refusal, signature_of
from ..storage.pages import PageStore
from ..storage.values import ValueStore
from ..storage.world import WorldStore
from .page_cache import PageCache
from .streaming import StreamingPage, accepts_stream

if TYPE_CHECKING:
    from .live_socket import LiveSocket

_IN_PARTS = "Some parts of this page are not written yet. They are when somebody follows a link to it."


@dataclass(frozen=True, slots=True)
class _SignedTarget:
    """What a request brings to show that its page was offered.

    Attributes:
        signature: as it came; None if there was none.
        source: what offered it; None if the signature is not ours, or for another page.
    """

    signature: str | None
    source: LinkSource | None


class PageHandler:
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
        clicks: PageResolver,
        views: Renderer,
        store: PageStore,
        engine: Engine,
        gates: SignedLinks,
        hooks: Policies,
    ) -> None:
        self.resolver = clicks
        self.signed_links = gates
        self.policies = hooks
        self.world = WorldStore(store.database)
        self.budgets = Budgets(settings, lambda: gates.beyond)
        self.renderer = views
        self.store = store
        self.engine = engine
        self.values = ValueStore(store.database)
        self.schemas = SchemaChecker(engine, self.values)
        self.jobs = JobQueue(engine, store, settings)
        self.metrics = Metrics()
        self.sockets: Counter[str] = Counter()
        self.jobs.observers += [self.budgets, self.metrics]
        self.starter = JobStarter(
            clicks=clicks,
            views=views,
            store=store,
            about=engine.about,
            generations=self.jobs,
            shapes=self.schemas,
            values=self.values,
            budgets=self.budgets,
            hooks=hooks,
            metrics=self.metrics,
        )
        self.cache = PageCache(clicks=clicks, views=views, store=store, launcher=self.starter, gates=gates)
        self.tabs: set[LiveSocket] = set()
        self.prefetcher: Prefetcher | None = None
        self.paint_queue: PaintQueue | None = None

    def refresh(self) -> None:
        """Take templates and static files as they are by now, and tell every tab that has a socket open."""
        self.cache.clear()
        self.renderer.refresh()
        for tab in self.tabs:
            tab.say({"type": "refresh"})

    async def handle(self, request: Request, route: PageRoute) -> Response:
        """Answer a GET or HEAD of a page.

        Raises:
            BadAddress, Busy, PageFailed, BadApp, StoreError: as the case may be; the app turns them into pages.
        """
        click, offer = await self._read(request, route)
        if isinstance(click, Response):
            return self.sign_redirect(click, request)
        if request.scope["query_string"] and VERSION in request.query_params:
            return self.cache.old_version(click, request.query_params[VERSION])
        generation = self.jobs.get(click.key)
        if generation is None:
            kept = self._kept(click, offer)
            if kept is not None:
                return kept
            if self.signed_links.required and offer.source is None:
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
        if accepts_stream(request):
            return StreamingPage(self.jobs, self.renderer, generation, click.frames)
        # Whoever comes first gets the shell that was drawn for the start, all others what is there by now.
        shell = generation.shell if generation.change <= 1 and generation.shell else self.starter.shell(generation)
        headers = {"cache-control": "no-store", **NOT_FOR_ROBOTS}
        return page_response(shell.html, headers=headers, frames=click.frames)

    async def _read(self, request: Request, route: PageRoute) -> tuple[PageRequest | Response, _SignedTarget]:
        """What a request asks for, and whether something offered it."""
        click = await self.resolver.resolve(request, route)
        signature = signature_of(request.scope)
        if signature is None:
            # A page without parameters is one page, which the author has declared: that is an offer.
            declared = isinstance(click, PageRequest) and not route.pattern.parameters and "?" not in click.key
            return click, _SignedTarget(None, "link" if declared else None)
        known = [click.key] if isinstance(click, PageRequest) else []
        source = self.signed_links.source(signature, address_of(request.scope), *known)
        if isinstance(click, CanonicalRedirect) and source:
            client = request.scope.get("client")
            click = await self.resolver.resolve_key(click.address, [route], request.headers.raw, client) or click
        return click, _SignedTarget(signature, source)

    def _kept(self, click: PageRequest, offer: _SignedTarget) -> Response | None:
        """A page that is written, if it is."""
        request = click.request
        opened = request.method == "GET" and not is_prefetch(request.headers) and offer.signature is None
        drawn = self.cache.rendered(click, opened=opened)
        if drawn is None:
            return None
        if offer.signature is not None:
            return _clean(click.key, request)
        self.metrics.kept_served += 1
        return drawn.response(request.headers.get("if-none-match"), click.frames)

    async def _being_written(self, click: PageRequest, offer: _SignedTarget, generation: PageJob | None) -> PageJob:
        """The generation of a page: the one that runs, brought up to what the page is by now, or a new one."""
        if is_prefetch(click.request.headers):
            return generation or await self._prefetch(click)
        if generation is None:
            generation = await self.starter.start(click, searched=offer.source == "search")
        else:
            self.starter.update(generation, click)
        self.jobs.promote(generation)
        return generation

    # -- a page that is not written -----------------------------------------------------------------------

    async def _prefetch(self, click: PageRequest) -> PageJob:
        if self.prefetcher is None or saves_data(click.request.headers):
            raise Busy("Nothing is written ahead here. Click on the link to have the page written.", 10)
        return await self.prefetcher.prefetch(click)

    async def write(self, key: str, request: Request, routes: Sequence[PageRoute]) -> Response:
        """Write the page with this key because somebody pressed a button, and lead to it.

        Raises:
            BadAddress: if no page has this key.
            Busy, OverBudget, Denied: see ``begin``.
        """
        click = await self.page_request(key, request, routes)
        if self.jobs.get(click.key) is None and self.cache.rendered(click, opened=False) is None:
            await self.starter.start(click, searched=True)
        return RedirectResponse(click.key, 303)

    async def page_request(self, key: str, request: Request, routes: Sequence[PageRoute]) -> PageRequest:
        """The click that a form of ours is about.

        Raises:
            BadAddress: if there is no such page, or it has nothing that is written.
        """
        # Where the form stood is no page that led here.
        headers = [(name, value) for name, value in request.headers.raw if name != b"referer"]
        click = await self.resolver.resolve_key(key, routes, headers, request.scope.get("client"))
        if isinstance(click, CanonicalRedirect):
            click = await self.resolver.resolve_key(click.address, routes, headers, request.scope.get("client"))
        if not isinstance(click, PageRequest) or not click.page.canvases:
            raise BadAddress(f"The page {key} is not one that is written, so it cannot be written anew.", 404)
        return click

    def _not_written(self, click: PageRequest, offer: _SignedTarget) -> Response:
        """Say that a page is not written, and offer to write it."""
        unsigned = offer.signature is None
        self.metrics.refused["unsigned" if unsigned else "signature"] += 1
        message = explain_refusal(offer.signature)
        before = self.jobs.recent(click.key)
        if before is not None and before.message and not message:
            message = f"The last attempt came to nothing: {before.message}"
        status = 404 if unsigned else 403
        return self.renderer.unwritten_page(click.key, click.title, message, status, accepts_html(click.request))

    def sign_redirect(self, response: Response, request: Request) -> Response:
        """A response of a page function or an action. One that leads from a form of this app to a page that nobody has
        written is a search box: what it leads to may be written, within the budget for that."""
        target = response.headers.get("location", "")
        if not (self.signed_links.required and 300 <= response.status_code < 400 and target.startswith("/")):
            return response
        if target.startswith("//") or not is_same_site_navigation(request.headers):
            return response
        if self.jobs.get(target) is None and not self.store.exists([target]):
            response.headers["location"] = self.signed_links.sign(target, "search")
        return response

    async def page_with_form(self, click: PageRequest, form: FormState) -> Response:
        """A page with a form that could not be taken: what was typed in it, and what is wrong with it."""
        generation = self.jobs.get(click.key)
        if generation is None:
            return self._as_it_is(click, "", 422, form)
        self.starter.update(generation, click)
        shell = self.renderer.shell(generation.view(), click.page, generation.regions, form=form)
        return page_response(shell.html, 422, {"cache-control": "no-store", **NOT_FOR_ROBOTS}, click.frames)

    def _as_it_is(self, click: PageRequest, message: str, status: int = 200, form: FormState | None = None) -> Response:
        """A page with what is there of it. What is not written of it is not written now, but its state is shown."""
        kept = self.store.get(click.key)
        canvases = kept.canvases if kept else {}
        writings = self.starter.region_jobs(click, self.resolver.linker(click), canvases, remember=False)
        view = self.cache.view(click, kept)
        if any(writing.state != "written" for writing in writings.values()):
            view = replace(view, state="stopped", message=message, provenance=None)
        for writing in writings.values():
            writing.end("stopped")
        shell = self.renderer.shell(view, click.page, writings, form=form)
        return page_response(shell.html, status, {"cache-control": "no-store", **NOT_FOR_ROBOTS}, click.frames)


def _clean(key: str, request: Request) -> Response:
    """Lead to the clean address of a page, which is the one that may be kept and shared."""
    plain = request.query_params.get(PLAIN)
    if plain is not None:
        key += ("&" if "?" in key else "?") + urlencode({PLAIN: plain})
    return RedirectResponse(key, 303, {"cache-control": "no-store", **NOT_FOR_ROBOTS})
