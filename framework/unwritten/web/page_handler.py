"""The page handler: responds to requests for pages. ``PageHandler.handle`` reads from top to bottom.

Stored pages are served from the cache. Otherwise a job is started, or joined, and the response is the page's shell:
the template with placeholders, which the live socket fills. Without JavaScript the same page is streamed.
"""

from __future__ import annotations

import time
from dataclasses import replace
from urllib.parse import urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from ..core.errors import BadURL, Busy, Denied, StoreReadOnly
from ..core.localization import gettext_lazy as _
from ..core.mount import MountPoint
from ..core.paths import DATA_SUFFIX, page_key, url_of_key
from ..core.tracing import current_trace
from ..generation.job_queue import JobQueue
from ..generation.job_starter import JobStarter
from ..generation.metrics import Metrics
from ..generation.page_job import PageJob
from ..generation.prefetcher import Prefetcher
from ..generation.refresher import Refresher
from ..generation.unfinished_pages import UnfinishedPages
from ..rendering.document import page_response
from ..rendering.renderer import Renderer
from ..routing.access import ACCESS_CHECK, AccessCheck, PageAccess
from ..routing.form_fields import FormState
from ..routing.page_function import PLAIN, VERSION
from ..routing.redirects import AliasRedirect, CanonicalRedirect, PageRedirect
from ..routing.resolver import PageResolver
from ..routing.routes import PageRequest, PageRoute
from ..security.headers import (
    NO_STORE,
    accepts_html,
    is_prefetch,
    is_same_site_navigation,
    prefers_json,
    saves_data,
)
from ..security.signed_links import SCOPE_KEY, LinkSource, SignedLinks, explain_refusal, url_of
from ..security.signer import VisitorCookie
from ..storage.pages import PageStore
from .job_renderer import JobRenderer
from .page_cache import PageCache, stored_view
from .page_data import PageData
from .streaming import StreamingPage, accepts_stream

_INCOMPLETE = _("Some parts of this page are not written yet. They are written when someone follows a link to it.")


class PageHandler:
    """Responds to GET and HEAD requests for the pages of one app."""

    def __init__(
        self,
        *,
        mount: MountPoint,
        resolver: PageResolver,
        access: PageAccess,
        visitor_cookie: VisitorCookie,
        signed_links: SignedLinks,
        store: PageStore,
        cache: PageCache,
        data: PageData,
        jobs: JobQueue,
        starter: JobStarter,
        job_renderer: JobRenderer,
        prefetcher: Prefetcher | None,
        refresher: Refresher,
        renderer: Renderer,
        metrics: Metrics,
        unfinished: UnfinishedPages,
    ) -> None:
        self._mount = mount
        self._resolver = resolver
        self._access = access
        self._visitor_cookie = visitor_cookie
        self._signed_links = signed_links
        self._store = store
        self._cache = cache
        self._data = data
        self._jobs = jobs
        self._starter = starter
        self._job_renderer = job_renderer
        self._prefetcher = prefetcher  # None if prefetching is off
        self._refresher = refresher
        self._renderer = renderer
        self._metrics = metrics
        self._unfinished = unfinished

    async def handle(self, request: Request, route: PageRoute) -> Response:
        """Respond to a request for a page.

        Raises:
            BadURL, Busy, Denied, PageFailed, BadApp, StoreError: Handled by the app's error pages.
        """
        check: AccessCheck | None = request.scope.get(ACCESS_CHECK)
        signature: str | None = request.scope.get(SCOPE_KEY)
        if check is None and signature is None and request.scope["path"].endswith(DATA_SUFFIX):
            response = await self._data.respond_to_suffix(request, route, self._resolver.key_of(request, route))
            if response is not None:
                return response
        page_request = await self._resolver.resolve(request, route)
        if check is not None:
            return check.response(page_request)
        if prefers_json(request.scope) and isinstance(page_request, PageRequest):
            return self._data.respond(page_request, request)
        source = self._source_of(signature, page_request, request) if signature is not None else None
        if isinstance(page_request, AliasRedirect):
            # Visitors who may not read the page get the response to a GET of it, which does not name it.
            target = await self._access.follow_alias(page_request, request.scope)
            if target is None:
                raise BadURL(_("This page does not exist."), 404)
            if source is None and isinstance(target, PageRequest):
                return self.sign_redirect(page_request, request)
            page_request = target
        if source and isinstance(page_request, CanonicalRedirect):
            page_request = await self._resolver.resolve_key(page_request.key, request.scope) or page_request
        if isinstance(page_request, Response):
            return self.sign_redirect(page_request, request)
        key = page_request.key
        if request.scope["query_string"] and VERSION in request.query_params:
            return await self._cache.old_version(page_request, request.query_params[VERSION])

        job = self._jobs.get(key)
        if job is None and not self._jobs.is_elsewhere(key):
            rendered = await self._cache.rendered(page_request, is_visit=signature is None and request.method == "GET")
            if rendered is not None and signature is not None:
                return self._redirect_to_clean(key, request)
            if rendered is not None:
                self._metrics.stored_pages_served += 1
                if rendered.expires_at is not None and rendered.expires_at <= time.time():
                    self._refresh(page_request)
                return rendered.response(request.scope, page_request.frame_src)
            is_allowed = (
                source is not None or _is_declared(route, key) or not self._signed_links.requires(request.scope)
            )
            if not is_allowed and key not in self._unfinished:  # a visitor with a signed link had begun these
                if page_request.tables:
                    return await self._incomplete(page_request, _INCOMPLETE)
                return self._refuse(page_request, signature, accepts_html(request))
        if request.method == "HEAD":
            return page_response("", headers=NO_STORE)  # a HEAD request must not generate the page

        if trace := current_trace.get():
            trace.record_page(key, "being generated" if job else "not generated before")
        cookie, visitor = "", self._visitor_cookie.read(request)
        try:
            if not is_prefetch(request.headers):
                if job is None and not visitor:
                    cookie, visitor = self._visitor_cookie.new()
                job = await self._starter.join(page_request, searched=source == "search", visitor=visitor)
            elif job is None:
                job = await self._prefetch(page_request)
        except (Busy, Denied, StoreReadOnly) as error:
            if not page_request.tables or is_prefetch(request.headers):
                raise
            return await self._incomplete(page_request, str(error))
        page = None if self._access.is_open(key) else page_request.page
        if signature is not None:
            response = self._redirect_to_clean(key, request)
        elif accepts_stream(request):
            response = StreamingPage(self._jobs, self._job_renderer, self._renderer, job, page, page_request.frame_src)
        else:
            html = self._job_renderer.current_shell(job, page).html
            response = page_response(html, headers=NO_STORE, frame_src=page_request.frame_src)
        if cookie and job.visitor == visitor:  # this visitor has started the page, and may stop it
            self._visitor_cookie.set_on(response, cookie, request)
        return response

    def _source_of(self, signature: str, page_request: PageRequest | Response, request: Request) -> LinkSource | None:
        """Return where a signature was issued. None if it is not valid for the page, in any spelling of its URL."""
        spellings = [url_of(request.scope).removeprefix(self._mount.prefix)]
        if isinstance(page_request, PageRequest):
            spellings.append(url_of_key(page_request.key))
        return self._signed_links.source(signature, *spellings)

    async def _prefetch(self, page_request: PageRequest) -> PageJob:
        if self._prefetcher is None or saves_data(page_request.request.headers):
            raise Busy(_("Pages are not prefetched here. Click the link to have the page written."), 10)
        return await self._prefetcher.prefetch(page_request)

    def _refresh(self, page_request: PageRequest) -> None:
        """Have the next version of an old page generated in the background, if a visitor has opened it."""
        request = page_request.request
        if request.method == "GET" and not is_prefetch(request.headers) and not self._store.database.read_only:
            self._refresher.refresh_soon(page_request)

    def _refuse(self, page_request: PageRequest, signature: str | None, as_html: bool) -> Response:
        """Respond that a page is not written, with a button that generates it."""
        self._metrics.refused["unsigned" if signature is None else "signature"] += 1
        message = explain_refusal(signature)
        key = page_request.key
        previous = self._jobs.recent(key)
        if previous is not None and previous.message and not message:
            message = _("The last attempt failed: %(reason)s", reason=previous.message)
        status = 404 if signature is None else 403
        lang = page_request.page.lang
        return self._renderer.unwritten_page(key, page_request.title, message, status, as_html, lang)

    async def _incomplete(
        self, page_request: PageRequest, message: str, status: int = 200, form: FormState | None = None
    ) -> Response:
        """Respond with the existing parts of a page. Missing canvases are not generated now."""
        stored = self._store.get(page_request.key)
        region_jobs = await self._starter.region_jobs(page_request, stored.canvases if stored else {})
        view = stored_view(page_request.key, page_request.title, stored)
        if any(region_job.state != "written" for region_job in region_jobs.values()):
            view = replace(view, state="stopped", message=message, provenance=None)
        for region_job in region_jobs.values():
            region_job.abort("stopped")
        regions = {name: region_job.region() for name, region_job in region_jobs.items()}
        shell = self._renderer.shell(view, page_request.page, regions, form=form)
        return page_response(shell.html, status, NO_STORE, page_request.frame_src)

    def _redirect_to_clean(self, key: str, request: Request) -> Response:
        """Redirect to the URL without a signature, which can be stored and shared."""
        key, plain = url_of_key(key), request.query_params.get(PLAIN)
        if plain is not None:
            key += ("&" if "?" in key else "?") + urlencode({PLAIN: plain})
        return PageRedirect(self._mount, key, headers=NO_STORE)

    async def handle_unmatched(self, request: Request) -> Response | None:
        """Respond to a URL that no route matches if it is that of a page's data. None if it is not.

        Raises:
            BadURL: See ``PageData.respond_to_suffix``.
        """
        if request.method not in {"GET", "HEAD"} or not request.scope["path"].endswith(DATA_SUFFIX):
            return None
        return await self._data.respond_to_suffix(request, None, "")

    # -- for forms and extensions -------------------------------------------------------------------------

    async def write(self, key: str, request: Request) -> Response:
        """Generate the page with this key because a visitor pressed a button, and redirect to it.

        Raises:
            BadURL: If no page has this key.
            Busy, OverBudget, Denied: See ``JobStarter.start``.
        """
        page_request = await self.find_page(key, request)
        response = PageRedirect(self._mount, page_request.key)
        if (
            not self._jobs.is_active(page_request.key)
            and await self._cache.rendered(page_request, is_visit=False) is None
        ):
            cookie, visitor = "", self._visitor_cookie.read(request)
            if not visitor:
                cookie, visitor = self._visitor_cookie.new()
                self._visitor_cookie.set_on(response, cookie, request)
            await self._starter.start(page_request, searched=True, visitor=visitor)
        return response

    async def find_page(self, key: str, request: Request) -> PageRequest:
        """Resolve the page that one of the framework's forms is about.

        Raises:
            BadURL: If there is no such page, it has no canvases, or the visitor may not read it.
        """
        page_request = await self._access.resolve_key(key, request.scope)
        if isinstance(page_request, CanonicalRedirect):
            page_request = await self._access.resolve_key(page_request.key, request.scope)
        if not isinstance(page_request, PageRequest) or not page_request.page.canvases:
            raise BadURL(_("The page %(key)s does not exist, or is not a generated page.", key=key), 404)
        return page_request

    def sign_redirect(self, response: Response, request: Request) -> Response:
        """Sign the target of a redirect from a form of this app, as a search box needs it.

        The target page may then be generated, within the visitor's budget for searches.
        """
        if not 300 <= response.status_code < 400:
            return response
        try:
            location = urlsplit(response.headers.get("location", ""))
        except ValueError:  # for example an incomplete IPv6 address
            return response
        # ``request.url_for`` makes absolute URLs.
        if location.netloc not in {"", request.headers.get("host")} or not is_same_site_navigation(request.headers):
            return response
        key = page_key((self._mount.key(location.path) or "") + (f"?{location.query}" if location.query else ""))
        if key is None or not self._signed_links.signs(key):
            return response
        if not self._jobs.is_active(key) and not self._store.exists([key]):
            response.headers["location"] = self._mount.url(self._signed_links.sign(key, "search"))
        return response

    async def page_with_form(self, page_request: PageRequest, form: FormState) -> Response:
        """Respond with the page of a form that was not accepted, with the input and the errors."""
        job = self._jobs.get(page_request.key)
        if job is None:
            return await self._incomplete(page_request, "", 422, form)
        await self._starter.update(job, page_request)
        shell = self._renderer.shell(job.view(), page_request.page, job.region_views(), form=form)
        return page_response(shell.html, 422, NO_STORE, page_request.frame_src)


def _is_declared(route: PageRoute, key: str) -> bool:
    """True if a page has no parameters. The author declared its URL, which needs no signature."""
    return not route.param_convertors and "?" not in key
