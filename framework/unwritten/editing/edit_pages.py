"""The endpoints of the edit page: show its forms, and handle them when they are submitted.

A visitor's input is never lost: if an edit fails, the form is shown again with the input and the reason.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from unwritten_engine.errors import RequestRefused, suggestion

from ..core.errors import BadEdit, BadForm, BadURL, Busy, Denied, EditConflict, StoreError
from ..core.incidents import report_to_visitor
from ..core.localization import gettext_lazy as _
from ..core.localization import join
from ..core.paths import url_of_key
from ..generation.page_job import PageJob
from ..generation.revisions import split_sentences
from ..routing.patterns import MAX_PARAMETER_LENGTH
from ..routing.redirects import PageRedirect
from ..routing.routes import PageRequest
from ..security.client_address import client_id
from ..security.headers import NO_STORE
from ..storage.records import StoredPage
from ..web.form_data import read_form
from ..web.site import GetSite, Site
from .diff import DiffChunk, word_diff
from .edit_forms import (
    MAX_FIELD_SIZE,
    MAX_INSTRUCTION_LENGTH,
    MAX_TEXT_LENGTH,
    EditInput,
    editable_text,
    find_stored_page,
    parse_base,
    parse_edit,
    parse_line,
    parse_seed,
    require_edits,
)
from .editor import Editor
from .links import region_label

log = logging.getLogger("unwritten")

_MAX_REVISIONS = 64
"""Maximum number of revisions whose input is remembered in case they fail."""


@dataclass(frozen=True, slots=True)
class RegionForm:
    """The forms of one region, as the template needs them.

    Attributes:
        name: The region's name.
        label: Its name for visitors.
        text: The text to edit: the visitor's input, or the stored text.
        sentences: Index, text and whether it is kept, of each sentence. Empty if the format is not prose.
        has_schema: True if the text is JSON.
        rows: The height of the text box, in lines.
        seed: The seed of the stored text.
        input: The visitor's previous input.
    """

    name: str
    label: str
    text: str
    sentences: tuple[tuple[int, str, bool], ...]
    has_schema: bool
    rows: int
    seed: int
    input: EditInput


class EditPages:
    """The endpoints of the edit page."""

    def __init__(self, get_site: GetSite) -> None:
        self._get_site = get_site
        self._revisions: LRUCache[str, tuple[PageJob, EditInput]] = LRUCache(_MAX_REVISIONS)

    # -- the page -----------------------------------------------------------------------------------------

    async def show(self, request: Request) -> Response:
        """Respond with the forms of a page, or of one region."""
        site = await self._get_site()
        require_edits(site, request)
        page_request, stored = await find_stored_page(site, request.query_params.get("page", ""), request)
        region = request.query_params.get("region", "")
        if region:
            _check_region(stored, page_request, region)
        edit, problem = self._failed_revision(page_request, region, site.exposure.owner.owns)
        version = request.query_params.get("version", "")
        if not problem and version.isdecimal() and version != str(stored.version):
            problem = _(
                "Version %(old)s is an old version. You are editing the current version, %(current)s.",
                old=version[:9],
                current=stored.version,
            )
        return self._page(site, page_request, stored, edit, problem=problem, selected=region)

    def _failed_revision(
        self, page_request: PageRequest, region: str, owns: Callable[[Scope], bool]
    ) -> tuple[EditInput, str]:
        """Return the input and message of the client's last revision, if it has failed."""
        job, edit = self._revisions.get(page_request.key, (None, EditInput()))
        is_own = job is not None and job.client_id == client_id(page_request.request.scope)
        if job is not None and is_own and job.reverted and region in {"", edit.region}:
            return edit, job.detail if job.detail and owns(page_request.request.scope) else job.message
        return EditInput(region=region), ""

    def _page(
        self,
        site: Site,
        page_request: PageRequest,
        stored: StoredPage,
        edit: EditInput,
        *,
        problem: str = "",
        status: int = 200,
        diff: tuple[DiffChunk, ...] = (),
        base: int | None = None,
        selected: str = "",
        alias: str = "",
    ) -> Response:
        names = [name for name in page_request.page.canvases if name in stored.canvases]
        values: dict[str, Any] = {
            "title": _("Edit: %(title)s", title=stored.title),
            "lang": page_request.page.lang,
            "stored": stored,
            "base": stored.version if base is None else base,
            "regions": [_region_form(page_request, stored, name, edit) for name in names if selected in {"", name}],
            "others": [(name, region_label(name)) for name in names if selected not in {"", name}],
            "selected": selected,
            "problem": problem,
            "conflict": status == 409,
            "diff": diff,
            "aliases": [] if selected else site.aliases.of(stored.key),
            "alias": alias,
            "can_replace": site.exposure.owner.owns(page_request.request.scope),
            "max_title_length": MAX_PARAMETER_LENGTH,
            "writing": site.jobs.is_active(page_request.key),
            "about": site.engine.about,
            "max_instruction_length": MAX_INSTRUCTION_LENGTH,
            "max_text_length": MAX_TEXT_LENGTH,
        }
        return site.renderer.render("edits/edit.html", values, status, NO_STORE)

    # -- its forms ----------------------------------------------------------------------------------------

    async def submit(self, request: Request) -> Response:
        """Edit a region, and redirect to the page."""
        site = await self._get_site()
        require_edits(site, request)
        form = await read_form(request, MAX_FIELD_SIZE)
        edit = parse_edit(form)
        page_request, stored = await find_stored_page(site, form.page_key(), request)
        base = parse_base(form, stored)
        _check_region(stored, page_request, edit.region)
        while True:
            conflict = self._conflict(site, page_request, stored, edit, base)
            if conflict is not None:
                return conflict
            try:
                await self._apply(site, page_request, stored, edit)
            except (BadEdit, RequestRefused, Denied, Busy) as error:
                status = 403 if isinstance(error, Denied) else 429 if isinstance(error, Busy) else 400
                message = _message(site, request, page_request, error)
                return self._failure(site, page_request, stored, edit, message, status)
            except StoreError as error:
                message = _message(site, request, page_request, error)
                message = join(message, _("Your text is still here: try again in a moment."))
                return self._failure(site, page_request, stored, edit, message, 503)
            except EditConflict:
                newest = site.store.get(page_request.key)
                if newest is None:
                    raise BadURL(_("This page was just deleted."), 404) from None
                stored = newest
                continue
            return PageRedirect(site.mount, f"{url_of_key(page_request.key)}#region-{edit.region}")

    async def _apply(self, site: Site, page_request: PageRequest, stored: StoredPage, edit: EditInput) -> None:
        editor = Editor(site)
        if edit.kind == "by hand":
            text = (edit.text or "").strip()
            if not text:
                raise BadEdit(_("The text is empty. A part of a page can be changed, but not removed."))
            if len(text) > MAX_TEXT_LENGTH:
                raise BadEdit(
                    _(
                        "The text has %(num)s characters. Up to %(limit)s are allowed.",
                        num=len(text),
                        limit=MAX_TEXT_LENGTH,
                    )
                )
            if text != editable_text(stored.canvases[edit.region]).strip():
                note = parse_line(edit.note)
                await editor.replace_text(page_request, stored, edit.region, text, note)
            return
        if edit.kind == "asked":
            instruction = parse_line(edit.ask)
            if not instruction:
                raise BadEdit(_("Describe the change in a few words, for example: make it shorter."))
            job = await editor.revise(page_request, stored, edit.region, instruction, edit.keep, edit.only)
        else:
            job = await editor.regenerate(page_request, stored, edit.region, parse_seed(edit.seed))
        self._revisions[page_request.key] = job, edit

    def _failure(
        self,
        site: Site,
        page_request: PageRequest,
        stored: StoredPage,
        edit: EditInput,
        problem: str,
        status: int,
        **values: Any,
    ) -> Response:
        """Show the form again, with the visitor's input and the reason."""
        return self._page(
            site, page_request, stored, edit, problem=problem, status=status, selected=edit.region, **values
        )

    def _conflict(
        self, site: Site, page_request: PageRequest, stored: StoredPage, edit: EditInput, base: int
    ) -> Response | None:
        """Return a response if the edit would overwrite another one, otherwise None."""
        job = site.jobs.get(page_request.key)
        regions = job.change.regions if job else ()
        is_other_region = edit.kind == "by hand" and regions and edit.region not in regions
        if site.jobs.is_active(page_request.key) and not is_other_region:
            problem = _("This page is being written. Send your changes again when it is finished.")
            return self._failure(site, page_request, stored, edit, problem, 409, base=base)
        if base == stored.version:
            return None
        before = site.store.get(page_request.key, base)
        theirs = before.canvases.get(edit.region) if before else None
        current = stored.canvases[edit.region]
        if theirs is not None and theirs.text == current.text:
            return None  # only other regions have changed
        diff = word_diff(editable_text(theirs), editable_text(current)) if theirs else []
        problem = _(
            "Another visitor has changed this part: you started from version %(base)s, and version %(current)s is the "
            "current one. Your changes are still here. Compare them with the changes below.",
            base=base,
            current=stored.version,
        )
        return self._failure(site, page_request, stored, edit, problem, 409, diff=tuple(diff))

    async def regenerate(self, request: Request) -> Response:
        """Regenerate a whole page as its next version, and redirect to it. A running job continues unchanged."""
        site = await self._get_site()
        require_edits(site, request)
        form = await read_form(request)
        form.require_only({"page", "seed"})
        page_request = await site.handler.find_page(form.page_key(), request)
        try:
            seed = parse_seed(form.one("seed"))
        except BadEdit as error:
            raise BadForm(str(error)) from None
        if not site.jobs.is_active(page_request.key):
            with contextlib.suppress(EditConflict):  # another request has started it
                await Editor(site).regenerate(page_request, site.store.get(page_request.key), seed=seed)
        return PageRedirect(site.mount, page_request.key)

    async def change_aliases(self, request: Request) -> Response:
        """Add or remove another name of a page, and redirect to its forms."""
        site = await self._get_site()
        require_edits(site, request)
        form = await read_form(request)
        form.require_only({"page", "alias", "remove", "replace"})
        page_request, stored = await find_stored_page(site, form.page_key(), request)
        name = form.one("alias")
        try:
            name = parse_line(name)
            if form.one("remove"):
                if name in site.aliases.of(stored.key):
                    await site.aliases.remove(name)
            else:
                alias = await _new_alias(site, page_request, name)
                if form.one("replace") and site.exposure.owner.owns(request.scope):
                    await site.store.replace_with_alias(alias, stored.key)
                await site.aliases.add(alias, stored.key)
        except (BadEdit, StoreError) as error:
            status = 503 if isinstance(error, StoreError) else 400
            message = str(error) if isinstance(error, BadEdit) else _message(site, request, page_request, error)
            return self._page(site, page_request, stored, EditInput(), problem=message, status=status, alias=name)
        return PageRedirect(site.mount, f"{page_request.key}")


async def _new_alias(site: Site, page_request: PageRequest, name: str) -> str:
    """Return the key of another name of a page, given as a title or as a path.

    Raises:
        BadEdit: If no page can have it, or the visitor may not read a page there or the page that it leads to.
    """
    request = page_request.request
    key: str | None
    try:
        if name.startswith("/"):
            key = site.resolver.canonical_key(name.replace(" ", "_"))
        else:
            key = page_request.route.pattern.link(
                name, known=page_request.route.pattern.parse_request(request.path_params)
            )
    except BadURL:
        key = None
    if key is None:
        path = url_of_key(page_request.key)
        raise BadEdit(
            _("No page can have the name '%(name)s'. Type a title, or a path such as %(path)s.", name=name, path=path)
        )
    target = site.aliases.target(key)
    for other in {key, target} - {None, page_request.key}:
        found = await _read(site, str(other), request)
        if not found:
            # The message does not reveal whether there is such a page.
            raise BadEdit(_("The name '%(name)s' cannot be used here.", name=name))
    return key


async def _read(site: Site, key: str, request: Request) -> bool:
    """True if a visitor may read what is at a key, which may be an alias."""
    try:
        return await site.access.resolve_key(key, request.scope) is not None
    except Exception:  # middleware and page functions refuse by any exception
        return False


def _message(site: Site, request: Request, page_request: PageRequest, error: Exception) -> str:
    """Return what the visitor sees of an error. The owner sees its own message."""
    message = report_to_visitor(log, f"An edit of {page_request.key}", error)
    return str(error) if site.exposure.owner.owns(request.scope) else message


def _region_form(page_request: PageRequest, stored: StoredPage, name: str, edit: EditInput) -> RegionForm:
    canvas, declared = stored.canvases[name], page_request.page.canvases[name]
    edit = edit if edit.region == name else EditInput(region=name)
    text = editable_text(canvas) if edit.text is None else edit.text
    spans = split_sentences(canvas.text) if declared.resolved_format.prose else []
    return RegionForm(
        name=name,
        label=region_label(name),
        text=text,
        sentences=tuple((n, canvas.text[start:end], n in edit.keep) for n, (start, end) in enumerate(spans)),
        has_schema=declared.schema is not None,
        rows=max(4, min(24, sum(1 + len(line) // 70 for line in text.split("\n")) + 1)),
        seed=canvas.seed,
        input=edit,
    )


def _check_region(stored: StoredPage, page_request: PageRequest, region: str) -> None:
    names = [name for name in page_request.page.canvases if name in stored.canvases]
    if region not in names:
        message = _("The page '%(title)s' has no written region '%(name)s'.", title=stored.title, name=region[:60])
        raise BadURL(join(message, suggestion(region, names).strip()), 404)
