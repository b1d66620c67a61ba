"""The history of a page: its versions, the differences between any two of them, and restoring one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from starlette.requests import Request
from starlette.responses import Response

from ..core.errors import BadEdit, BadForm, BadURL, EditConflict
from ..core.localization import gettext_lazy as _
from ..routing.redirects import PageRedirect
from ..routing.routes import PageRequest
from ..security.headers import NO_STORE
from ..storage.records import StoredPage
from ..web.form_data import read_form
from ..web.site import GetSite, Site
from .diff import DiffChunk, word_diff
from .edit_forms import editable_text, find_stored_page, parse_base, require_edits
from .editor import Editor
from .links import region_label

VERSIONS_PER_PAGE = 100
"""Number of versions listed on one page of the history."""

DiffState: TypeAlias = Literal["changed", "same", "added", "removed"]


@dataclass(frozen=True, slots=True)
class RegionDiff:
    """The difference between two versions of a region.

    Attributes:
        label: The region's name for visitors.
        chunks: The difference. Empty if the texts are the same.
        state: changed, same, added or removed.
    """

    label: str
    chunks: tuple[DiffChunk, ...]
    state: DiffState


def region_diffs(old: StoredPage, new: StoredPage) -> list[RegionDiff]:
    """Return the differences between two versions, in the order of the newer version's regions."""
    names = [*new.canvases, *(name for name in old.canvases if name not in new.canvases)]
    diffs = []
    for name in names:
        before, after = old.canvases.get(name), new.canvases.get(name)
        chunks = word_diff(editable_text(before) if before else "", editable_text(after) if after else "")
        state: DiffState = (
            "added" if before is None else "removed" if after is None else "changed" if chunks else "same"
        )
        diffs.append(RegionDiff(region_label(name), tuple(chunks), state))
    return diffs


class HistoryPages:
    """The endpoints of the history."""

    def __init__(self, get_site: GetSite) -> None:
        self._get_site = get_site

    async def show(self, request: Request) -> Response:
        """Respond with the versions of a page, and with the differences between two if the URL names them."""
        site = await self._get_site()
        query = request.query_params
        page_request, stored = await find_stored_page(site, query.get("page", ""), request)
        first, second = _version_number(query, "from"), _version_number(query, "to")
        if (first is None) != (second is None):
            raise BadURL(_("To compare versions, choose two of them."))
        if first is not None and second is not None:
            compare = min(first, second), max(first, second)
            return await self._page(site, page_request, stored, compare=compare)
        return await self._page(site, page_request, stored, before=_version_number(query, "before"))

    async def restore(self, request: Request) -> Response:
        """Save an old version as the newest, and redirect to the page."""
        site = await self._get_site()
        require_edits(site, request)
        form = await read_form(request)
        form.require_only({"page", "version", "base"})
        page_request, stored = await find_stored_page(site, form.page_key(), request)
        base, version = parse_base(form, stored), form.one("version")
        if not version.isdecimal() or len(version) > 9:
            raise BadForm(_("'%(text)s' is not the number of a version.", text=version[:20]))
        if site.jobs.is_active(page_request.key):
            problem: str = _("This page is being written. Restore the version when it is finished.")
            return await self._page(site, page_request, stored, problem=problem, status=409)
        try:
            if base != stored.version:
                raise EditConflict
            await Editor(site).restore(page_request, stored, int(version))
        except EditConflict:
            stored = site.store.get(page_request.key) or stored
            problem = _(
                "Another visitor has changed the page: version %(version)s is the current one. "
                "See the changes below, and restore the version if you still want to.",
                version=stored.version,
            )
            compare = (base, stored.version) if base < stored.version else None
            return await self._page(site, page_request, stored, problem=problem, status=409, compare=compare)
        except BadEdit as error:
            return await self._page(site, page_request, stored, problem=str(error), status=400)
        return PageRedirect(site.mount, page_request.key)

    async def _page(
        self,
        site: Site,
        page_request: PageRequest,
        stored: StoredPage,
        *,
        problem: str = "",
        status: int = 200,
        compare: tuple[int, int] | None = None,
        before: int | None = None,
    ) -> Response:
        versions = site.store.history(page_request.key, VERSIONS_PER_PAGE + 1, before)
        values: dict[str, Any] = {
            "title": _("History: %(title)s", title=stored.title),
            "lang": page_request.page.lang,
            "stored": stored,
            "versions": versions[:VERSIONS_PER_PAGE],
            "older": versions[VERSIONS_PER_PAGE - 1].number if len(versions) > VERSIONS_PER_PAGE else None,
            "region_label": region_label,
            "problem": problem,
            "compare": compare,
        }
        if compare is not None:
            old, new = (site.store.get(page_request.key, number) for number in compare)
            if old is None or new is None:
                missing = compare[0] if old is None else compare[1]
                message = _("The page '%(title)s' has no version %(version)s.", title=stored.title, version=missing)
                raise BadURL(message, 404)
            values["diffs"] = await asyncio.to_thread(region_diffs, old, new)
        return site.renderer.render("edits/history.html", values, status, NO_STORE)


def _version_number(query: Mapping[str, str], name: str) -> int | None:
    """Return the number of a version from the URL, or None if the URL does not name one.

    Raises:
        BadURL: If it is not a number.
    """
    text = query.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise BadURL(_("'%(text)s' is not the number of a version.", text=text[:20]), 404)
    return int(text)
