"""``/feed.atom``: the pages that were written last, as an Atom feed. It has only pages that everyone may read."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from xml.sax.saxutils import escape, quoteattr

from starlette.requests import Request
from starlette.responses import Response

from ..core.paths import FEED_PATH, url_of_key
from ..routing.access import MAX_READ, anonymous
from ..routing.stored_pages import may_have_more
from ..security.headers import is_cached_copy
from ..storage.records import PageSummary
from .site import GetSite, Site

MAX_ENTRIES = 50
"""Maximum number of pages in the feed."""

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
"""The time of a feed without pages. Atom requires one, and it must not change with every request."""

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Feed:
    """The endpoint ``/feed.atom``."""

    def __init__(self, get_site: GetSite) -> None:
        self._get_site = get_site

    async def respond(self, request: Request) -> Response:
        """Respond with the feed, or with 304 (Not Modified)."""
        site = await self._get_site()
        base = f"{request.url.scheme}://{request.url.netloc}{site.mount.prefix}"
        text = "\n".join(_feed(site, base, await _public_pages(site, request)))
        etag = f'W/"{hashlib.blake2b(text.encode(), digest_size=12).hexdigest()}"'
        headers = {"cache-control": "no-cache", "etag": etag, "x-content-type-options": "nosniff"}
        if is_cached_copy(request.scope, etag):
            return Response(status_code=304, headers=headers)
        return Response(text, 200, headers, "application/atom+xml")


async def _public_pages(site: Site, request: Request) -> list[PageSummary]:
    """Return the newest pages that a visitor without cookies may read."""
    number = MAX_ENTRIES
    while True:
        found = site.store.recent(min(number, MAX_READ))
        readable = await site.access.readable([page.key for page in found], anonymous(request.scope))
        pages = [page for page in found if page.key in readable][:MAX_ENTRIES]
        if len(pages) == MAX_ENTRIES or len(found) < number or not may_have_more([page.key for page in found]):
            return pages
        number *= 4


def _feed(site: Site, base: str, pages: Sequence[PageSummary]) -> Iterator[str]:
    # Identifiers do not depend on the host name, and are the same after a move: they come from the world's secret.
    namespace = uuid.UUID(bytes=hashlib.sha256(b"feed" + site.world.secret).digest()[:16], version=4)
    updated = max((page.written_at for page in pages), default=_NEVER)
    yield '<?xml version="1.0" encoding="utf-8"?>'
    yield '<feed xmlns="http://www.w3.org/2005/Atom">'
    yield f"<id>{namespace.urn}</id>"
    yield f"<title>{_text(site.name)}</title>"
    yield f"<updated>{updated.isoformat()}</updated>"
    yield f"<author><name>{_text(site.name)}</name></author>"
    yield f'<link rel="self" type="application/atom+xml" href={_attribute(base + FEED_PATH)}/>'
    yield f'<link rel="alternate" type="text/html" href={_attribute(base + "/")}/>'
    for page in pages:
        yield "<entry>"
        yield f"<id>{uuid.uuid5(namespace, page.key).urn}</id>"
        yield f"<title>{_text(page.title)}</title>"
        yield f"<updated>{page.written_at.isoformat()}</updated>"
        yield f'<link rel="alternate" type="text/html" href={_attribute(base + url_of_key(page.key))}/>'
        yield f"<summary>{_text(page.snippet)}</summary>"
        yield "</entry>"
    yield "</feed>\n"


def _text(text: str) -> str:
    """Return a text for XML, without characters that XML cannot contain."""
    return escape(_NOT_XML.sub("\ufffd", text))


def _attribute(text: str) -> str:
    return quoteattr(_NOT_XML.sub("\ufffd", text))
