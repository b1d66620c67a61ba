"""Views: everything that is drawn for people, from the state that it is in.

Pages and their shells, the colophon, messages. Nothing here starts work or changes anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup
from starlette.responses import HTMLResponse

from unwritten_engine import About

from .assets import Static
from .drawing import COLOPHON, NONCE, Shell, Templates
from .generations import Generation
from .pages import Page
from .regions import PageView
from .security import head_tags, page_response, refresh_tag
from .writing import Writing


class Views:
    """Draws for one app.

    Args:
        templates: the app's templates, with ours behind them.
        static: finds our style sheet and script.
        about: the engine that writes.
    """

    def __init__(self, templates: Templates, static: Static, about: About) -> None:
        self.templates = templates
        self._about = about
        # Files do not change under a running server (``unwritten run`` starts it anew), so this is found once.
        self._head = head_tags(static)

    def shell(
        self,
        view: PageView,
        page: Page,
        writings: Mapping[str, Writing],
        *,
        refresh: str | None = None,
        holes: bool = False,
    ) -> Shell:
        """A page with its regions as they are now.

        Args:
            view: what the template sees as ``page``.
            page: what the author's function asked for.
            writings: its regions by name.
            refresh: where a browser without JavaScript goes for the page's words.
            holes: leave the insides of regions and the colophon out, marked as holes.

        Raises:
            BadTemplate: if the template is missing, raises, or lacks the block of a region.
        """
        regions = {name: writing.region() for name, writing in writings.items()}
        values = {**page.context, **self._frame(view, refresh)}
        return self.templates.shell(page.template, view, regions, values, holes=holes)

    def generation(self, generation: Generation, *, refresh: str | None = None, holes: bool = False) -> Shell:
        """A page that is being written, as it is now; see ``shell``."""
        return self.shell(generation.view(), generation.page, generation.writings, refresh=refresh, holes=holes)

    def template(self, name: str, values: Mapping[str, Any]) -> HTMLResponse:
        """A template without canvases, as a response.

        Raises:
            BadTemplate: if it cannot be drawn.
        """
        view = PageView(key="", title=str(values.get("title", "")))
        return page_response(self.templates.render(name, {"page": view, **self._frame(view), **values}))

    def message(self, status: int, values: Mapping[str, Any], headers: Mapping[str, str]) -> HTMLResponse:
        """A page with a message for people, from ``message.html``."""
        response = self.template("message.html", values)
        response.status_code = status
        response.headers.update({"cache-control": "no-store", **headers})
        return response

    def colophon(self, view: PageView) -> str:
        """The inner HTML of the colophon."""
        return self.templates.render("colophon.html", {"page": view, "about": self._about})

    def colophon_element(self, view: PageView) -> Markup:
        """The colophon with the element that the browser finds it by."""
        return Markup('<footer class="colophon" data-colophon data-page="{}">{}</footer>').format(
            view.key, Markup(self.colophon(view))
        )

    def _frame(self, view: PageView, refresh: str | None = None) -> dict[str, Any]:
        """Our own parts of a page: ``{{ unwritten }}``, ``{{ colophon }}`` and ``{{ nonce }}``."""
        return {
            "unwritten": self._head + refresh_tag(refresh) if refresh else self._head,
            COLOPHON: self.colophon_element(view),
            "nonce": NONCE,
        }
