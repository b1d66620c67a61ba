"""The editing extension: its routes, and edit links in templates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup
from starlette.routing import BaseRoute, Route

from ..web.extension import Extension
from ..web.site import GetSite, Site
from .edit_pages import EditPages
from .editor import offers_edits
from .history import HistoryPages
from .links import edit_link


class Editing(Extension):
    """Lets visitors edit stored pages, see their history and restore versions."""

    def __init__(self) -> None:
        self._site: Site | None = None

    def connect(self, site: Site) -> None:
        """Store the site, whose settings decide who may edit."""
        self._site = site

    async def close(self) -> None:
        """Release the site."""
        self._site = None

    def scripts(self) -> list[str]:
        """Return the script that opens the forms inside the page."""
        return ["edits.js"]

    def routes(self, get_site: GetSite) -> list[BaseRoute]:
        """Return the routes of the edit page and the history."""
        pages, history = EditPages(get_site), HistoryPages(get_site)
        return [
            Route("/edit", pages.show, methods=["GET"], name="edit"),
            Route("/edit", pages.submit, methods=["POST"], name="change"),
            Route("/alias", pages.change_aliases, methods=["POST"], name="alias"),
            Route("/rewrite", pages.regenerate, methods=["POST"], name="rewrite"),
            Route("/history", history.show, methods=["GET"], name="history"),
            Route("/restore", history.restore, methods=["POST"], name="restore"),
        ]

    def template_globals(self) -> dict[str, Callable[..., Any]]:
        """Return ``edit_link`` and ``can_edit``."""
        return {"edit_link": self.edit_link, "can_edit": self.can_edit}

    def can_edit(self) -> bool:
        """True if pages offer to be edited."""
        return self._site is not None and offers_edits(self._site.settings, self._site.exposure)

    @pass_context
    def edit_link(self, context: Context, region: str = "") -> Markup:
        """Return a link to the edit page of a region, or of the whole page.

        It is empty if visitors may not edit, and on old versions.
        """
        page = context["page"]
        if self._site is None or not self.can_edit() or not page.key or page.is_old:
            return Markup("")
        language = self._site.renderer.language(str(context.get("lang") or ""))
        return edit_link(language, self._site.mount.prefix, page.key, region)
