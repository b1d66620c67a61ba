"""The forms of the edit page and the history: what they contain, and whether the visitor may submit them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request

from ..core.errors import BadEdit, BadForm, BadURL
from ..core.localization import gettext_lazy as _
from ..routing.routes import PageRequest
from ..storage.records import StoredCanvas, StoredPage
from ..web.form_data import SubmittedForm
from ..web.site import Site
from .editor import may_edit

MAX_INSTRUCTION_LENGTH = 400
"""Maximum length of an instruction for the model, or of a summary of a change."""

MAX_TEXT_LENGTH = 60_000
"""Maximum length of a text that was edited by hand."""

MAX_FIELD_SIZE = 4 * MAX_TEXT_LENGTH
"""Maximum size in bytes of one field of an edit form."""

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "by hand": ("text", "note"),
    "asked": ("ask", "keep", "only"),
    "again": ("seed",),
}
"""The fields of an edit form by its kind, besides those that all have."""


@dataclass(frozen=True, slots=True)
class EditInput:
    """The input of a visitor in the edit form of a region.

    Attributes:
        kind: "by hand", "asked" (the model revises the text) or "again" (the model regenerates it).
        region: The region.
        text: The text, by hand. None if the form has none.
        note: The summary of the change, by hand.
        ask: The instruction for the model.
        keep: Indexes of the sentences that stay.
        only: The passage outside of which all stays.
        seed: The seed, as typed.
    """

    kind: str = ""
    region: str = ""
    text: str | None = None
    note: str = ""
    ask: str = ""
    keep: tuple[int, ...] = ()
    only: str = ""
    seed: str = ""


def parse_edit(form: SubmittedForm) -> EditInput:
    """Return the input of an edit form.

    Raises:
        BadForm: If the form is of an unknown kind, or has invalid fields.
    """
    kind = form.one("means")
    if kind not in _FIELDS:
        raise BadForm(_("The form has an unknown kind '%(kind)s'. Reload the page.", kind=kind[:40]))
    form.require_only({"page", "region", "base", "means", *_FIELDS[kind]})
    try:
        keep = tuple(int(number) for number in form.all("keep") if len(number) < 10)
    except ValueError:
        raise BadForm(_("The field 'keep' must be a number. Reload the page.")) from None
    return EditInput(
        kind=kind,
        region=form.one("region"),
        text=form.one("text") if "text" in form else None,
        note=form.one("note"),
        ask=form.one("ask"),
        keep=keep,
        only=form.one("only"),
        seed=form.one("seed"),
    )


def parse_base(form: SubmittedForm, stored: StoredPage) -> int:
    """Return the number of the version that a form edits.

    Raises:
        BadForm: If there is no such version.
    """
    base = form.one("base")
    if not base.isdecimal() or len(base) > 9 or not 1 <= int(base) <= stored.version:
        message = _(
            "The form is for version '%(version)s' of this page, which does not exist. Reload the page.",
            version=base[:20],
        )
        raise BadForm(message)
    return int(base)


def parse_seed(text: str) -> int | None:
    """Return a seed as typed by a visitor, or None for an empty field.

    Raises:
        BadEdit: If it is not a seed.
    """
    text = text.strip()
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) < 2**32):
        message = _(
            "'%(text)s' is not a seed. Enter a whole number from 0 to %(limit)s, or leave it empty.",
            text=text[:40],
            limit=str(2**32 - 1),
        )
        raise BadEdit(message)
    return int(text)


def parse_line(text: str) -> str:
    """Return a text on one line, without characters that cannot be printed.

    Args:
        text: The text.

    Raises:
        BadEdit: If it is too long.
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if len(line) > MAX_INSTRUCTION_LENGTH:
        raise BadEdit(
            _(
                "This has %(num)s characters. Up to %(limit)s are allowed here.",
                num=len(line),
                limit=MAX_INSTRUCTION_LENGTH,
            )
        )
    return line


def editable_text(canvas: StoredCanvas) -> str:
    """Return a canvas's text for editing: JSON is indented."""
    if canvas.format != "typed":
        return canvas.text
    try:
        return json.dumps(json.loads(canvas.text), ensure_ascii=False, indent=2)
    except ValueError:
        return canvas.text


def require_edits(site: Site, request: Request) -> None:
    """Check that a visitor may edit.

    Raises:
        BadURL: With status 403 if not.
    """
    if not may_edit(site.settings, site.exposure, request.scope):
        raise BadURL(
            _(
                "Visitors may not edit pages of this app. Its owner can allow it with --edits on, or open the URL that "
                "the server printed at its start."
            ),
            403,
        )


async def find_stored_page(site: Site, key: str, request: Request) -> tuple[PageRequest, StoredPage]:
    """Return a page and its newest version.

    Raises:
        BadURL: If there is no such page, or it is not written.
    """
    if not key.startswith("/"):
        raise BadURL(_("The URL does not name a page. It needs ?page=/… ."))
    page_request = await site.handler.find_page(key, request)
    stored = site.store.get(page_request.key)
    if stored is None:
        raise BadURL(_("The page '%(title)s' is not written yet. Open it first.", title=page_request.title), 404)
    return page_request, stored
