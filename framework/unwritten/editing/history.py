"""History: the versions of a page, what was changed between any two of them, and the way back to each."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from ..core.errors import BadAddress, BadEdit, EditConflict
from ..core.paths import EDIT_PREFIX
from ..routing.routes import PageRequest
from ..storage.records import StoredPage
from ..web.framework_forms import read_form
from ..web.page_handler import PageHandler
from .diff import DiffChunk, word_diff
from .edit_pages import EditPages, base_of, label_of, shown_text
from .editor import Editor, may_edit

if TYPE_CHECKING:
    from ..app.application import App

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

    def __init__(self, app: App) -> None:
        self._app = app
        self._pages = EditPages(app)

    async def show(self, request: Request) -> Response:
        """The versions, and the difference between two of them if they are named."""
        serving = await self._app.ready()
        query = request.query_params
        click, kept = await self._pages.written(serving, query.get("page", ""), request)
        first, second = _number(query, "from"), _number(query, "to")
        if (first is None) != (second is None):
            raise BadAddress("To see what was changed, choose two versions.")
        if first is not None and second is not None:
            compare = min(first, second), max(first, second)
            return await self._page(serving, click, kept, compare=compare)
        return await self._page(serving, click, kept, before=_number(query, "before"))

    async def restore(self, request: Request) -> Response:
        """Bring a version back, as the newest, and lead to the page."""
        if not may_edit(self._app.settings, self._app.connections.gates):
            raise BadAddress("This app does not let its visitors change what is written.", 403)
        form = await read_form(request)
        form.only({"page", "version", "base"})
        serving = await self._app.ready()
        click, kept = await self._pages.written(serving, form.key(), request)
        base, version = base_of(form, kept), form.one("version")
        if not version.isdecimal() or len(version) > 9:
            raise BadAddress(f"The form does not say which version to bring back ({version[:20]!r}).")
        if serving.jobs.get(click.key) is not None:
            problem = "This page is being written just now. Wait for its end, and then bring the version back."
            return await self._page(serving, click, kept, problem=problem, status=409)
        try:
            if base != kept.version:
                raise EditConflict
            await Editor(serving, self._app.audience).restore(click, kept, int(version))
        except EditConflict:
            kept = serving.store.get(click.key) or kept
            problem = (
                f"Somebody has changed the page since you looked: it is version {kept.version} now. See what was "
                "changed, and bring the version back if you still want to."
            )
            compare = (base, kept.version) if base < kept.version else None
            return await self._page(serving, click, kept, problem=problem, status=409, compare=compare)
        except BadEdit as error:
            return await self._page(serving, click, kept, problem=str(error), status=400)
        return RedirectResponse(click.key, 303)

    async def _page(
        self,
        serving: PageHandler,
        click: PageRequest,
        kept: StoredPage,
        *,
        problem: str = "",
        status: int = 200,
        compare: tuple[int, int] | None = None,
        before: int | None = None,
    ) -> Response:
        versions = serving.store.history(click.key, LISTED + 1, before)
        values: dict[str, Any] = {
            "title": f"History: {kept.title}",
            "of": kept,
            "versions": versions[:LISTED],
            "older": versions[LISTED - 1].number if len(versions) > LISTED else None,
            "label_of": label_of,
            "edits": may_edit(self._app.settings, self._app.connections.gates),
            "problem": problem,
            "compare": compare,
        }
        if compare is not None:
            old, new = (serving.store.get(click.key, number) for number in compare)
            if old is None or new is None:
                missing = compare[0] if old is None else compare[1]
                raise BadAddress(f"The page {kept.title!r} has no version {missing}.", 404)
            values["regions"] = await asyncio.to_thread(region_differences, old, new)
        response = serving.renderer.template("edits/history.html", values)
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


def routes(app: App) -> list[BaseRoute]:
    """The history of a page, and the way back."""
    history = HistoryPages(app)
    return [
        Route(f"{EDIT_PREFIX}history", history.show, methods=["GET"]),
        Route(f"{EDIT_PREFIX}restore", history.restore, methods=["POST"]),
    ]
