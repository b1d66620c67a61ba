"""Edit pages: the page on which a visitor changes what is written, and what is said when it cannot be done.

What a visitor typed is never lost: whatever is in the way, their words stand in the form again.
"""

from __future__ import annotations

import contextlib
import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from unwritten_engine.errors import RequestRefused, suggestion

from ..core.errors import BadAddress, BadEdit, Busy, Denied, EditConflict, StoreError
from ..core.paths import FRAMEWORK_PREFIX
from ..formats.registry import get_format
from ..generation.page_job import PageJob
from ..generation.revisions import pieces_of
from ..routing.routes import PageRequest
from ..storage.records import StoredCanvas, StoredPage
from ..web.framework_forms import FrameworkForm, read_form
from ..web.site import GetSite, Site
from .diff import DiffChunk, word_diff
from .editor import Editor, may_edit

ASK_LENGTH = 400
"""Characters of an ask, or of a note about a change."""


TEXT_LENGTH = 60_000
"""Characters of a text by hand."""


_UNDONE = 64
"""Changes that came to nothing whose words are remembered."""


_FIELDS = {
    "by hand": ("text", "note"),
    "asked": ("ask", "keep", "only"),
    "again": ("seed",),
}
"""What a form has for each means, besides the page, the region, and the version that it was made for."""


@dataclass(frozen=True, slots=True)
class EditOutcome:
    """What a visitor typed into the form of a region."""

    region: str = ""
    text: str | None = None
    note: str = ""
    ask: str = ""
    keep: tuple[int, ...] = ()
    only: str = ""
    seed: str = ""


@dataclass(frozen=True, slots=True)
class EditRegion:
    """A region on the page of its forms.

    Attributes:
        name: the canvas's name.
        label: the same for people.
        text: what stands in the box: the visitor's own text, or the one that is kept.
        pieces: number, text and whether it is marked, of each sentence that can be kept; empty for what is no prose.
        typed: whether it is a record.
        rows: lines of the box.
        seed: the one that it was written with.
        said: what the visitor typed before.
    """

    name: str
    label: str
    text: str
    pieces: tuple[tuple[int, str, bool], ...]
    typed: bool
    rows: int
    seed: int
    said: EditOutcome


def shown_text(canvas: StoredCanvas) -> str:
    """A kept text for reading and for changing by hand: JSON with a line for each field."""
    if canvas.format != "typed":
        return canvas.text
    try:
        return json.dumps(json.loads(canvas.text), ensure_ascii=False, indent=2)
    except ValueError:
        return canvas.text


class EditPages:
    """The routes of one app."""

    def __init__(self, get_site: GetSite) -> None:
        self._get_site = get_site
        self._asked: OrderedDict[str, tuple[PageJob, EditOutcome]] = OrderedDict()

    # -- what a visitor sees ------------------------------------------------------------------------------

    async def show(self, request: Request) -> Response:
        """The forms of a page, or of one region."""
        site = await self._get_site()
        self._allow(site)
        page_request, kept = await self.written(site, request.query_params.get("page", ""), request)
        region = request.query_params.get("region", "")
        if region:
            self._check(kept, page_request, region)
        said, problem = EditOutcome(region), ""
        last = self._asked.get(page_request.key)
        mine = last is not None and last[0].visitor == page_request.visitor
        if last is not None and mine and last[0].undone and region in {"", last[1].region}:
            said, problem = last[1], last[0].message
        old = request.query_params.get("version", "")
        if not problem and old.isdecimal() and old != str(kept.version):
            problem = f"Version {old[:9]} is an old one. What you change here is the newest, version {kept.version}."
        return self._page(site, page_request, kept, said, problem=problem, only=region)

    def _page(
        self,
        site: Site,
        page_request: PageRequest,
        kept: StoredPage,
        said: EditOutcome,
        *,
        problem: str = "",
        status: int = 200,
        moved: tuple[DiffChunk, ...] = (),
        base: int | None = None,
        only: str = "",
    ) -> Response:
        names = [name for name in page_request.page.canvases if name in kept.canvases]
        regions = [self._region(page_request, kept, name, said) for name in names if only in {"", name}]
        values: dict[str, Any] = {
            "title": f"Edit: {kept.title}",
            "of": kept,
            "base": kept.version if base is None else base,
            "regions": regions,
            "others": [(name, label_of(name)) for name in names if only not in {"", name}],
            "only": only,
            "said": said,
            "problem": problem,
            "conflict": status == 409,
            "moved": moved,
            "writing": site.jobs.get(page_request.key) is not None,
            "about": site.engine.about,
            "ask_length": ASK_LENGTH,
            "text_length": TEXT_LENGTH,
        }
        response = site.renderer.template("edits/edit.html", values)
        response.status_code = status
        response.headers.update({"cache-control": "no-store", "x-robots-tag": "noindex"})
        return response

    def _region(self, page_request: PageRequest, kept: StoredPage, name: str, said: EditOutcome) -> EditRegion:
        canvas, words = kept.canvases[name], said if said.region == name else EditOutcome(name)
        text = shown_text(canvas) if words.text is None else words.text
        pieces = pieces_of(canvas.text) if get_format(page_request.page.canvases[name].format).prose else []
        return EditRegion(
            name=name,
            label=label_of(name),
            text=text,
            pieces=tuple((n, canvas.text[a:b], n in words.keep) for n, (a, b) in enumerate(pieces)),
            typed=page_request.page.canvases[name].schema is not None,
            rows=max(4, min(24, sum(1 + len(line) // 70 for line in text.split("\n")) + 1)),
            seed=canvas.seed,
            said=words,
        )

    # -- what a visitor does ------------------------------------------------------------------------------

    async def change(self, request: Request) -> Response:
        """Change a region, by the means that the form names."""
        site = await self._get_site()
        self._allow(site)
        form = await read_form(request)
        means = form.one("means")
        if means not in _FIELDS:
            raise BadAddress(f"The form asks for a change by {means[:40]!r}; there are {', '.join(_FIELDS)}.")
        form.only({"page", "region", "base", "means", *_FIELDS[means]})
        page_request, kept = await self.written(site, form.key(), request)
        said, base = _said(form), base_of(form, kept)
        self._check(kept, page_request, said.region)
        while True:
            refusal = self._in_the_way(site, page_request, kept, said, base, means)
            if refusal is not None:
                return refusal
            try:
                await self._do(site, page_request, kept, means, said)
            except (BadEdit, RequestRefused, Denied, Busy) as error:
                status = 403 if isinstance(error, Denied) else 429 if isinstance(error, Busy) else 400
                return self._page(site, page_request, kept, said, problem=str(error), status=status, only=said.region)
            except StoreError as error:
                problem = f"{error} Your text is still here: try again in a moment."
                return self._page(site, page_request, kept, said, problem=problem, status=503, only=said.region)
            except EditConflict:
                found = site.store.get(page_request.key)
                if found is None:
                    raise BadAddress("This page was deleted a moment ago.", 404) from None
                kept = found
                continue
            return RedirectResponse(f"{site.mount.url(page_request.key)}#region-{said.region}", 303)

    async def _do(self, site: Site, page_request: PageRequest, kept: StoredPage, means: str, said: EditOutcome) -> None:
        edits = Editor(site)
        if means == "by hand":
            text = (said.text or "").strip()
            if not text:
                raise BadEdit("The text is empty. A part of a page cannot be taken away, only changed.")
            if len(text) > TEXT_LENGTH:
                raise BadEdit(f"The text has {len(text):,} characters, and up to {TEXT_LENGTH:,} fit.")
            if text != shown_text(kept.canvases[said.region]).strip():
                await edits.by_hand(page_request, kept, said.region, text, _line(said.note, "note"))
            return
        if means == "asked":
            ask = _line(said.ask, "ask")
            if not ask:
                raise BadEdit("Say in a few words what is to change, such as: make it shorter.")
            job = await edits.ask(page_request, kept, said.region, ask, said.keep, said.only)
        else:
            job = await edits.again(page_request, kept, said.region, seed_of(said.seed))
        self._asked[page_request.key] = job, said
        self._asked.move_to_end(page_request.key)
        while len(self._asked) > _UNDONE:
            self._asked.popitem(last=False)

    def _in_the_way(
        self, site: Site, page_request: PageRequest, kept: StoredPage, said: EditOutcome, base: int, means: str
    ) -> Response | None:
        """What a visitor is told whose change would go over somebody else's; None if nothing is in the way."""
        job = site.jobs.get(page_request.key)
        regions = job.change_of.regions if job else ()
        if job is not None and (means != "by hand" or not regions or said.region in regions):
            problem = "This page is being written just now. Wait for its end, and then send what you have here again."
            return self._page(site, page_request, kept, said, problem=problem, status=409, base=base, only=said.region)
        if base == kept.version:
            return None
        before = site.store.get(page_request.key, base)
        theirs = before.canvases.get(said.region) if before else None
        if theirs is not None and theirs.text == kept.canvases[said.region].text:
            return None  # others changed other regions: the changes do not touch each other
        moved = word_diff(shown_text(theirs), shown_text(kept.canvases[said.region])) if theirs else []
        problem = (
            f"Somebody has changed this part since you began: you had version {base}, and it is version "
            f"{kept.version} now. Nothing of yours is lost; see below what was changed, and decide."
        )
        return self._page(
            site, page_request, kept, said, problem=problem, status=409, moved=tuple(moved), only=said.region
        )

    async def rewrite(self, request: Request) -> Response:
        """Write a page anew, as its next version, and lead back to it. One that is being written is not begun twice."""
        site = await self._get_site()
        self._allow(site)
        form = await read_form(request)
        form.only({"page", "seed"})
        page_request = await site.handler.find_page(form.key(), request)
        try:
            seed = seed_of(form.one("seed"))
        except BadEdit as error:
            raise BadAddress(str(error)) from None
        if site.jobs.get(page_request.key) is None:
            with contextlib.suppress(EditConflict):  # somebody else has begun it
                await Editor(site).again(page_request, site.store.get(page_request.key), seed=seed)
        return RedirectResponse(site.mount.url(page_request.key), 303)

    # -- what both need -----------------------------------------------------------------------------------

    async def written(self, site: Site, key: str, request: Request) -> tuple[PageRequest, StoredPage]:
        """A page and its newest version.

        Raises:
            BadAddress: if there is no such page, or nobody has written it.
        """
        if not key.startswith("/"):
            raise BadAddress("The address does not say which page: it needs ?page=/… .")
        page_request = await site.handler.find_page(key, request)
        kept = site.store.get(page_request.key)
        if kept is None:
            raise BadAddress(
                f"The page {page_request.title!r} is not written yet, so it cannot be changed. Open it first.", 404
            )
        return page_request, kept

    def _allow(self, site: Site) -> None:
        if not may_edit(site):
            raise BadAddress(
                "This app does not let its visitors change what is written. Whoever runs it can: --edits on.",
                403,
            )

    def _check(self, kept: StoredPage, page_request: PageRequest, region: str) -> None:
        known = [name for name in page_request.page.canvases if name in kept.canvases]
        if region not in known:
            hint = suggestion(region, known)
            raise BadAddress(f"The page {kept.title!r} has no written region {region[:60]!r}.{hint}", 404)


def base_of(form: FrameworkForm, kept: StoredPage) -> int:
    """The version that a form was made for.

    Raises:
        BadAddress: if it names none that can be.
    """
    base = form.one("base")
    if not base.isdecimal() or len(base) > 9 or not 1 <= int(base) <= kept.version:
        raise BadAddress(
            f"The form was made for a version of this page that is not there ({base[:20]!r}). Open the page again."
        )
    return int(base)


def seed_of(text: str) -> int | None:
    """A seed as a visitor types it; None for an empty field.

    Raises:
        BadEdit: if it is none.
    """
    text = text.strip()
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) < 2**32):
        raise BadEdit(f"The seed {text[:40]!r} is none: give a whole number from 0 to {2**32 - 1}, or leave it empty.")
    return int(text)


def _line(text: str, what: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if len(line) > ASK_LENGTH:
        raise BadEdit(f"The {what} has {len(line):,} characters, and up to {ASK_LENGTH} fit. Say it shorter.")
    return line


def _said(form: FrameworkForm) -> EditOutcome:
    try:
        keep = tuple(int(number) for number in form.all("keep") if len(number) < 10)
    except ValueError:
        raise BadAddress("The form does not say plainly what to keep. Open the page again.") from None
    return EditOutcome(
        region=form.one("region"),
        text=form.one("text") if "text" in form.names else None,
        note=form.one("note"),
        ask=form.one("ask"),
        keep=keep,
        only=form.one("only"),
        seed=form.one("seed"),
    )


def edit_address(key: str, **more: str) -> str:
    """The address of the edit page of a page."""
    return f"{FRAMEWORK_PREFIX}edit?{urlencode({'page': key, **more})}"


def label_of(region: str) -> str:
    """A region's name for people."""
    return " ".join(region.replace("-", " ").replace("_", " ").split()).capitalize()
