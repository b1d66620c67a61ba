"""Submitted forms: one parser and one CSRF policy for actions and for the framework's own forms."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from unwritten_engine.errors import suggestion

from ..core.errors import BadForm
from ..core.localization import gettext_lazy as _
from ..core.localization import join
from ..core.paths import page_key
from ..core.text import is_text
from ..routing.form_fields import FormPairs
from ..security.headers import is_cross_origin

MAX_FIELDS = 1000
"""Maximum number of fields of a form."""

MAX_FILES = 20
"""Maximum number of files of a form."""

MAX_FIELD_SIZE = 64 * 1024
"""Maximum size in bytes of one field of an action's form. Larger ones are refused."""

_CONTENT_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")


class SubmittedForm:
    """The fields of a submitted form. Line ends are ``\\n``, and NUL characters are removed.

    Attributes:
        pairs: Names and values, in their order.
        files: Names of fields and their files, in their order.
    """

    def __init__(self, pairs: FormPairs, files: Sequence[tuple[str, UploadFile]] = ()) -> None:
        self.pairs = [(name, _normalize(value)) for name, value in pairs]
        self.files = list(files)

    def __contains__(self, name: str) -> bool:
        return any(name == other for other, _ in self.pairs)

    def all(self, name: str) -> list[str]:
        """Return all values of a field."""
        return [value for other, value in self.pairs if other == name]

    def one(self, name: str) -> str:
        """Return the value of a field, or "" if it is missing.

        Raises:
            BadForm: If it was submitted more than once.
        """
        values = self.all(name)
        if len(values) > 1:
            raise BadForm(
                _("The form has %(num)s values for its field '%(name)s', which takes one.", num=len(values), name=name)
            )
        return values[0] if values else ""

    def require_only(self, names: Collection[str]) -> None:
        """Check that the form has no other fields.

        Raises:
            BadForm: If it has. The message suggests the nearest name.
        """
        for name, _value in self.pairs:
            if name not in names:
                unknown = _("The form has an unknown field '%(name)s'.", name=name)
                raise BadForm(join(unknown, suggestion(name, names).strip()))

    def page_key(self) -> str:
        """Return the key of the page that the form is about, from its field ``page``.

        Raises:
            BadForm: If there is none.
        """
        key = page_key(self.one("page"))
        if key is None:
            raise BadForm(_("The form does not name its page. Go back to the page and send the form again."))
        return key


async def read_form(
    request: Request, max_field_size: int = MAX_FIELD_SIZE, max_file_bytes: int | None = None
) -> SubmittedForm:
    """Read the form of a POST request, urlencoded or multipart.

    A form that is too large is refused as soon as that is known, before the rest of it is received.

    Args:
        request: The request.
        max_field_size: Maximum size in bytes of one field. The maximum for the whole form is about four times that.
        max_file_bytes: Maximum size in bytes of all files together. None: the form has no files.

    Raises:
        BadForm: 403 if a page of another origin sent it, 413 if it is too large, 415 for another content type, and 400
            if it contains a file where none is accepted, or something that is not text, or cannot be parsed.
    """
    if is_cross_origin(request.headers):
        raise BadForm(_("This form was sent from another site, so nothing was done."), 403)
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type and content_type not in _CONTENT_TYPES:
        message = _(
            "A form is not sent as %(type)s, but as: %(types)s.",
            type=content_type[:60],
            types=", ".join(_CONTENT_TYPES),
        )
        raise BadForm(message, 415)
    limit = f"{max_field_size // 1024} kB" if max_field_size >= 1024 else f"{max_field_size} B"
    received = 0
    too_large = BadForm(
        _("This form is too large. One field may have %(limit)s, all together about four times that.", limit=limit), 413
    )
    max_size = 4 * max_field_size + 4096  # percent-encoding takes three bytes for one
    if max_file_bytes is not None:
        max_size += max_file_bytes + MAX_FILES * 1024  # with the headers of each file
        too_large = BadForm(
            _(
                "This form is too large. Its files may have %(size)s MB together, a field %(limit)s.",
                size=max_file_bytes / 1e6,
                limit=limit,
            ),
            413,
        )
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdecimal() and int(declared[:20]) > max_size:
        raise too_large

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > max_size:
            raise too_large
        return message

    # Starlette raises HTTPException, and not an exception of its own, if the scope has an "app".
    counted = Request({**request.scope, "app": request.scope.get("app")}, receive)
    try:
        form = await counted.form(
            max_files=0 if max_file_bytes is None else MAX_FILES,
            max_fields=MAX_FIELDS,
            max_part_size=3 * max_field_size + 1024,
        )
    except HTTPException as error:
        detail = str(error.detail)
        if "files" in detail and max_file_bytes is not None:
            raise BadForm(_("This form has more than %(limit)s files.", limit=MAX_FILES), 413) from None
        if "files" in detail:
            raise BadForm(_("This form contains a file. Files are not accepted.")) from None
        if "fields" in detail:
            raise BadForm(_("This form has more than %(limit)s fields.", limit=MAX_FIELDS), 413) from None
        if "exceeded" in detail:
            raise BadForm(_("A field of this form is too large. It may have %(limit)s.", limit=limit), 413) from None
        raise BadForm(_("This form cannot be parsed. %(detail)s", detail=detail)) from None
    try:
        return _submitted(form, max_field_size, max_file_bytes or 0, limit, too_large)
    except BadForm:
        await form.close()
        raise


def _submitted(
    form: FormData, max_field_size: int, max_file_bytes: int, limit: str, too_large: BadForm
) -> SubmittedForm:
    pairs = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
    if any(len(value.encode("utf-8", "replace")) > max_field_size for _name, value in pairs):
        raise BadForm(_("A field of this form is too large. It may have %(limit)s.", limit=limit), 413)
    files = [(name, value) for name, value in form.multi_items() if isinstance(value, UploadFile)]
    if sum(file.size or 0 for _name, file in files) > max_file_bytes:
        raise too_large
    submitted = SubmittedForm(pairs, files)
    names = [name for name, _file in files]
    if not all(is_text(part) for part in (*names, *(part for pair in submitted.pairs for part in pair))):
        raise BadForm(_("A field of this form is not valid text. Send the form as UTF-8."))
    return submitted


def _normalize(value: str) -> str:
    return value.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
