"""Personal values: finds what is known about a visitor in the title and prompts of a page, which everyone sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import unquote

from .routes import PageRequest

_MIN_LENGTH = 4
"""Shorter values, such as a language, appear in many texts by chance."""


def find_personal_value(page_request: PageRequest, visitor: str) -> tuple[str, str] | None:
    """Return what of a page contains a value of the visitor, a prompt or the title, and where the value comes from.

    A value that is also a part of the page's key is not counted.

    Args:
        page_request: The page, resolved for the visitor.
        visitor: The visitor's identifier; see ``VisitorCookie``.
    """
    known = unquote(page_request.key).replace("_", " ").replace("+", " ").casefold()
    values = [
        (source, value)
        for source, value in _values(page_request.request.scope, visitor)
        if value.casefold() not in known
    ]
    shared = {"title": [page_request.title]}
    for name, canvas in page_request.page.canvases.items():
        examples = [text for example in canvas.examples for text in (example.ask, example.answer)]
        shared[f"prompt of the canvas {name!r}"] = [canvas.prompt, canvas.opening, *examples]
    for place, texts in shared.items():
        for source, value in values:
            if any(value in text for text in texts):
                return place, source
    return None


def _values(scope: Mapping[str, Any], visitor: str) -> Iterator[tuple[str, str]]:
    for source, value in (("visit.visitor", visitor), *_raw_values(scope)):
        if isinstance(value, str) and len(value.strip()) >= _MIN_LENGTH:
            yield source, value.strip()


def _raw_values(scope: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    yield from _nested("request.session", scope.get("session"))
    user = scope.get("user")
    for name in ("display_name", "identity", "username", "name", "email"):
        try:
            yield f"request.user.{name}", getattr(user, name, None)
        except NotImplementedError:  # Starlette's BaseUser has abstract properties
            continue
    for header, value in scope.get("headers", ()):
        if header == b"cookie":
            try:
                cookies = SimpleCookie(value.decode("latin-1"))
            except CookieError:
                continue
            yield from ((f"the cookie {name!r}", cookie.value) for name, cookie in cookies.items())
        elif header in {b"user-agent", b"authorization"}:
            yield f"the header {header.decode()!r}", value.decode("latin-1")


def _nested(source: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _nested(f"{source}[{name!r}]", inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _nested(source, inner)
    else:
        yield source, value
