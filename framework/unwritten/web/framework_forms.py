"""Our own forms: the fields of a POST to one of our own routes, or a plain word on what is wrong with it."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import parse_qsl

from starlette.requests import Request

from unwritten_engine.errors import suggestion

from ..core.errors import BadAddress
from ..security.headers import is_same_origin

LARGEST = 400_000
"""Bytes of a form."""


_FIELDS = 200


class FrameworkForm:
    """The fields of a form, each with the values that were sent for it, with plain line ends.

    Args:
        pairs: as they were sent.
    """

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            plain = value.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
            self._values.setdefault(name, []).append(plain)

    @property
    def names(self) -> Collection[str]:
        """Which fields were sent."""
        return self._values.keys()

    def all(self, name: str) -> list[str]:
        """All values of a field."""
        return self._values.get(name, [])

    def one(self, name: str) -> str:
        """The value of a field that may be sent once; "" if it was not.

        Raises:
            BadAddress: if it was sent more than once.
        """
        values = self.all(name)
        if len(values) > 1:
            raise BadAddress(f"The form has its field {name!r} {len(values)} times, and it belongs there once.")
        return values[0] if values else ""

    def only(self, names: Collection[str]) -> None:
        """Make sure that it has no other fields.

        Raises:
            BadAddress: if it has.
        """
        for name in self._values:
            if name not in names:
                raise BadAddress(f"The form has a field {name!r}, which nobody asked for.{suggestion(name, names)}")

    def key(self) -> str:
        """The page that it is about.

        Raises:
            BadAddress: if it does not say so.
        """
        key = self.one("page")
        if not key.startswith("/") or not key.isascii() or len(key) > 8000:
            raise BadAddress("The form does not say which page. Go back to the page and press its button again.")
        return key


async def read_form(request: Request) -> FrameworkForm:
    """The form of a POST.

    Raises:
        BadAddress: if it comes from a page of another server (403), is too large (413), or is no form.
    """
    if not is_same_origin(request.headers.get("origin"), request.headers.get("host")):
        raise BadAddress("This form was sent from a page elsewhere. A page is changed from its own pages only.", 403)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in {"", "application/x-www-form-urlencoded"}:
        raise BadAddress(f"This is no form of ours: it was sent as {kind[:60]!r}.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise BadAddress(f"The form is too large: up to {LARGEST // 1000} kB are taken. Send less at a time.", 413)
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_FIELDS)
    except ValueError:  # bytes that are no text, or hundreds of fields
        raise BadAddress("The form cannot be read. Go back to the page and press its button again.") from None
    return FrameworkForm(pairs)
