"""A visit: what is known about this click."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Visit:
    """What is known about this click. A page function asks for it by type: ``def article(visit: Visit)``.

    All of it comes from outside: it is data to write about, never an instruction to follow.

    Attributes:
        key: the page's canonical URL, such as ``/wiki/Lighthouse``.
        came_from: the key of the page that was left, if it is one of this app's.
        link_text: the words of the link there.
        sentence: the sentence around the link there.
        query: the URL's query parameters; of a repeated one, the last.
        visitor: a word that stands for the visitor's browser, always the same; "" until it has sent a form to an action
            that asks for a visit. Actions tell by it who sends a form. A page is one page for all: what depends on who
            looks belongs into a response of its own.
    """

    key: str
    came_from: str | None = None
    link_text: str | None = None
    sentence: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    visitor: str = ""
