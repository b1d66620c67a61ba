"""Link targets: the pages that the titles in a page's text lead to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from ..formats.links import title_variants
from ..formats.page import Canvas
from .patterns import MAX_PARAMETER_LENGTH, PagePattern


class LinkTargets:
    """Decides where ``[[Title]]`` leads on one page.

    Args:
        pattern: The pattern of the pages that titles lead to. None: only the titles that a canvas names lead anywhere.
        known: The page's parameters by name. They fill all parameters of the pattern except the last.
        canvases: The page's canvases, some of which name pages to link to.
    """

    def __init__(
        self,
        pattern: PagePattern | None,
        known: Mapping[str, Any] = MappingProxyType({}),
        canvases: Iterable[Canvas] = (),
    ) -> None:
        self._pattern = pattern
        self._known = known
        self._named: dict[str, str] = {}
        for canvas in canvases:
            for title, key in canvas.named_links.items():
                target = key or (pattern.link(title, known=known) if pattern else None)
                if target is not None:
                    self._named.setdefault(title_variants(title)[0], target)
        for title, target in list(self._named.items()):
            for variant in title_variants(title):
                self._named.setdefault(variant, target)

    @property
    def lead_nowhere(self) -> bool:
        """True if no title leads anywhere."""
        return self._pattern is None and not self._named

    def key_for(self, title: str) -> str | None:
        """Return the key of the page that a title leads to, or None if no page can have it."""
        if self._named:
            for variant in title_variants(title):
                if variant in self._named:
                    return self._named[variant]
        return self._pattern.link(title, known=self._known) if self._pattern else None

    def problem(self, title: str) -> str:
        """Return why a title leads nowhere, for the author."""
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
