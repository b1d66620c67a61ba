"""History: the versions of a page, what was changed between any two of them, and the way back to each."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ..core.errors import BadAddress, BadEdit, EditConflict
from ..routing.routes import PageRequest
from ..storage.records import StoredPage
from ..web.framework_forms import read_form
from ..web.site import GetSite, Site
from .diff import DiffChunk, word_diff
from .edit_pages import EditPages, base_of, label_of, shown_text
from .editor import Editor, may_edit

LISTED = 100
"""Versions on one page."""


@dataclass(frozen=True, slots=True)
class RegionDifference:
    """What was changed in one region.

    Attributes:
        label: its name for people.
        pieces: the way from the old text to the new one; empty if they are the same.
        state: "changed", "same", "added" or "removed".
    """

    label: str
    pieces: tuple[DiffChunk, ...]
    state: str


def region_differences(old: StoredPage, new: StoredPage) -> list[RegionDifference]:
    """What was changed between two versions, region by region, in the order of the newer one."""
    names = [*new.canvases, *(name for name in old.canvases if name not in new.canvases)]
    found = []
    for name in names:
        before, after = old.canvases.get(name), new.canvases.get(name)
        pieces = word_diff(shown_text(before) if before else "", shown_text(after) if after else "")
        state = "added" if before is None else "removed" if after is None else "changed" if pieces else "same"
        found.append(RegionDifference(label_of(name), tuple(pieces), state))
    return found


class HistoryPages:
    """The routes of one app."""

    def __init__(self, get_site: GetSite) -> None:
        self._get_site = get_site
        self._pages = EditPages(get_site)

    async def show(self, request: Request) -> Response:
        """The versions, and the difference between two of them if they are named."""
        site = await self._get_site()
        query = request.query_params
        page_request, kept = await self._pages.written(site, query.get("page", ""), request)
        first, second = _number(query, "from"), _number(query, "to")
        if (first is None) != (second is None):
            raise BadAddress("To see what was changed, choose two versions.")
        if first is not None and second is not None:
            compare = min(first, second), max(first, second)
            return await self._page(site, page_request, kept, compare=compare)
        return await self._page(site, page_request, kept, before=_number(query, "before"))

    async def restore(self, request: Request) -> Response:
        """Bring a version back, as the newest, and lead to the page."""
        site = await self._get_site()
        if not may_edit(site):
            raise BadAddress("Visitors may not change pages of this app.", 403)
        form = await read_form(request)
        form.only({"page", "version", "base"})
        page_request, kept = await self._pages.written(site, form.key(), request)
        base, version = base_of(form, kept), form.one("version")
        if not version.isdecimal() or len(version) > 9:
            raise BadAddress(f"The form does not say which version to bring back ({version[:20]!r}).")
        if site.jobs.get(page_request.key) is not None:
            problem = "This page is being written just now. Wait for its end, and then bring the version back."
            return await self._page(site, page_request, kept, problem=problem, status=409)
        try:
            if base != kept.version:
                raise EditConflict
            await Editor(site).restore(page_request, kept, int(version))
        except EditConflict:
            kept = site.store.get(page_request.key) or kept
            problem = (
                f"Somebody has changed the page since you looked: it is version {kept.version} now. See what was "
                "changed, and bring the version back if you still want to."
            )
            compare = (base, kept.version) if base < kept.version else None
            return await self._page(site, page_request, kept, problem=problem, status=409, compare=compare)
        except BadEdit as error:
            return await self._page(site, page_request, kept, problem=str(error), status=400)
        return RedirectResponse(site.mount.url(page_request.key), 303)

    async def _page(
        self,
        site: Site,
        page_request: PageRequest,
        kept: StoredPage,
        *,
        problem: str = "",
        status: int = 200,
        compare: tuple[int, int] | None = None,
        before: int | None = None,
    ) -> Response:
        versions = site.store.history(page_request.key, LISTED + 1, before)
        values: dict[str, Any] = {
            "title": f"History: {kept.title}",
            "of": kept,
            "versions": versions[:LISTED],
            "older": versions[LISTED - 1].number if len(versions) > LISTED else None,
            "label_of": label_of,
            "problem": problem,
            "compare": compare,
        }
        if compare is not None:
            old, new = (site.store.get(page_request.key, number) for number in compare)
            if old is None or new is None:
                missing = compare[0] if old is None else compare[1]
                raise BadAddress(f"The page {kept.title!r} has no version {missing}.", 404)
            values["regions"] = await asyncio.to_thread(region_differences, old, new)
        response = site.renderer.template("edits/history.html", values)
        response.status_code = status
        response.headers.update({"cache-control": "no-store", "x-robots-tag": "noindex"})
        return response


def _number(query: Any, name: str) -> int | None:
    """A version in the address; None if it names none.

    Raises:
        BadAddress: if it is no number.
    """
    text = str(query.get(name, ""))
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise BadAddress(f"The address asks for the version {text[:20]!r}, which is none.", 404)
    return int(text)
