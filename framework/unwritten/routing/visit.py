"""A visit: what is known about one click."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Visit:
    """What is known about one click. A page function asks for it by type: ``def article(visit: Visit)``.

    All of it is untrusted input.

    Attributes:
        key: The page's key, such as ``/wiki/Lighthouse``.
        came_from: The key of the page with the link. None if it is not a page of this app.
        link_text: The text of the link there.
        sentence: The sentence around the link there.
        query: The query parameters. Of a repeated one the last value counts.
        visitor: A pseudonym of the visitor's browser. "" until the browser has sent a form to an action that takes a
            visit. Use it in actions, to know who sends a form. A page is the same for all visitors: return a response
            for what depends on the visitor.
    """

    key: str
    came_from: str | None = None
    link_text: str | None = None
    sentence: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    visitor: str = ""
