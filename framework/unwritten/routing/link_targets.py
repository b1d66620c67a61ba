"""Link targets: the pages that the titles in a page's text lead to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any

from ..formats.links import title_spellings
from ..formats.page import Canvas
from .patterns import MAX_PARAMETER_LENGTH, PagePattern


class LinkTargets:
    """Decides where ``[[Title]]`` leads on one page. One is made for every request, and does nothing until it is asked.

    Args:
        pattern: The pattern of the pages that titles lead to. None: only the titles that a canvas names lead anywhere.
        known: The page's parameters by name. They fill all parameters of the pattern except the last.
        canvases: The page's canvases, some of which name pages to link to.
        report: Called with a title that leads nowhere and the reason.
    """

    __slots__ = ("_canvases", "_known", "_names", "_pattern", "_report")

    def __init__(
        self,
        pattern: PagePattern | None,
        known: Mapping[str, Any] = MappingProxyType({}),
        canvases: Collection[Canvas] = (),
        report: Callable[[str, str], None] | None = None,
    ) -> None:
        self._pattern = pattern
        self._known = known
        self._canvases = canvases
        self._report = report
        self._names: Mapping[str, str] | None = None

    @property
    def lead_nowhere(self) -> bool:
        """True if no title leads anywhere."""
        return self._pattern is None and not any(canvas.named_links for canvas in self._canvases)

    def _named(self) -> Mapping[str, str]:
        """Return the keys of the pages that the canvases name, by their titles in all spellings."""
        if self._names is None:
            names: dict[str, str] = {}
            for canvas in self._canvases:
                for title, key in canvas.named_links.items():
                    target = key or (self._pattern.link(title, known=self._known) if self._pattern else None)
                    if target is not None:
                        names.setdefault(title_spellings(title)[0], target)
            for title, target in list(names.items()):
                for spelling in title_spellings(title):
                    names.setdefault(spelling, target)
            self._names = names
        return self._names

    def key_for(self, title: str) -> str | None:
        """Return the key of the page that a title leads to, or None if no page can have it."""
        named = self._named()
        if named:
            for spelling in title_spellings(title):
                if spelling in named:
                    return named[spelling]
        return self._pattern.link(title, known=self._known) if self._pattern else None

    def explain(self, title: str) -> str:
        """Return why a title leads nowhere, for the author, and report it."""
        problem = self._problem(title)
        if self._report is not None:
            self._report(title, problem)
        return problem

    def _problem(self, title: str) -> str:
        if self._pattern is None:
            return "no pattern says where titles lead: declare the page, or the app, with links='/…/{title}'"
        problem = self._pattern.link_problem(self._known)
        if problem:
            return problem
        if len(title) > MAX_PARAMETER_LENGTH:
            return f"the title has more than {MAX_PARAMETER_LENGTH} characters"
        known = {name: self._known[name] for name in list(self._pattern.parameters)[:-1]}
        values = "".join(f", {name}={str(value)[:60]!r}" for name, value in known.items())
        return f"no page {self._pattern.path!r} can have this title{values}"
