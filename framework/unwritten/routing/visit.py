"""A visit: what is known about one click."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import Scope

from ..core.mount import MountPoint
from ..core.paths import page_key, url_of_key, variant_key, variant_of
from ..security.signer import VisitorCookie
from ..storage.pages import PageStore


@dataclass(frozen=True, slots=True)
class Visit:
    """What is known about one click. A page function asks for it by type: ``def article(visit: Visit)``.

    All of it is untrusted input.

    Attributes:
        key: The page's key, such as ``/wiki/Lighthouse``. That of a variant has the value at its end.
        came_from: The key of the page with the link. None if it is not a page of this app.
        link_text: The text of the link there. None if there is none, or the visitor may not read that page.
        sentence: The sentence around the link there. None likewise.
        query: The query parameters. Of a repeated one the last value counts.
        visitor: A pseudonym of the visitor's browser. "" until the browser has started a page, or sent a form to an
            action that takes a visit. A template may show what depends on it; a prompt may not.
        vary: What the function given as ``vary=`` has returned. A prompt may depend on it.
    """

    key: str
    came_from: str | None = None
    link_text: str | None = None
    sentence: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    visitor: str = ""
    vary: str | None = None


class VisitReader:
    """Reads visits from requests.

    Args:
        mount: The prefix under which the app is served.
        store: The stored pages and their links.
        visitor_cookie: Recognizes visitors' browsers.
        may_read: Returns whether the visitor of a connection may read a page.
    """

    def __init__(
        self,
        mount: MountPoint,
        store: PageStore,
        visitor_cookie: VisitorCookie,
        may_read: Callable[[str, Scope], Awaitable[bool]],
    ) -> None:
        self._mount = mount
        self._store = store
        self._visitor_cookie = visitor_cookie
        self._may_read = may_read

    async def read_checked(self, request: Request, key: str) -> Visit:
        """Return a visit without words from a page that the visitor may not read: a client can forge its referer."""
        visit = self.read(request, key)
        if visit.came_from is None or visit.link_text is None or await self._may_read(visit.came_from, request.scope):
            return visit
        return replace(visit, link_text=None, sentence=None)

    def read(self, request: Request, key: str, *, with_visitor: bool = True) -> Visit:
        """Return what is known about a click: the page with the link, and the words around it.

        Args:
            request: The request.
            key: The key of the requested page.
            with_visitor: False leaves out the visitor.
        """
        source = None
        try:
            referer = urlsplit(request.headers.get("referer", ""))
        except ValueError:  # for example an incomplete IPv6 address
            referer = urlsplit("")
        if referer.netloc and referer.netloc == request.headers.get("host"):
            source = self._mount.key(referer.path)
            if source is not None:
                source = page_key(source + (f"?{referer.query}" if referer.query else ""))
        link, vary = None, variant_of(key)
        if source is not None and vary is not None:  # pages with the same variants link to each other's
            link = self._store.link(variant_key(source, vary), key)
            source = variant_key(source, vary) if link is not None else source
        if source is not None and link is None:
            link = self._store.link(source, url_of_key(key))
        return Visit(
            key=key,
            came_from=source,
            link_text=link.text if link else None,
            sentence=link.sentence if link else None,
            query=dict(request.query_params),
            visitor=self._visitor_cookie.read(request) if with_visitor else "",
            vary=vary,
        )
