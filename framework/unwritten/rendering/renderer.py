"""Views: everything that is drawn for people, from the state that it is in.

Pages and their shells, the colophon, messages. Nothing here starts work or changes anything.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from unwritten_engine import About

from ..core.assets import VersionedStaticFiles
from ..core.mount import MountPoint
from ..core.paths import WRITE_PATH
from ..formats.page import Page
from ..routing.form_fields import FormState
from ..security.headers import NOT_FOR_ROBOTS, Embeds
from .document import COLOPHON, EMBEDS_TAG, NONCE, SCRIPTS, head_tags, page_response, refresh_tag
from .regions import PageView, Region
from .templates import Shell, Templates

_NO_FORM = FormState()


class Renderer:
    """Draws for one app.

    Args:
        templates: the app's templates, with ours behind them.
        static: finds our style sheet and script.
        about: the engine that writes.
        mount: The prefix under which the app is served.
        scripts: The framework's scripts that pages load, in order.
    """

    def __init__(
        self,
        templates: Templates,
        static: VersionedStaticFiles,
        about: About,
        mount: MountPoint,
        scripts: Sequence[str] = SCRIPTS,
    ) -> None:
        self.templates = templates
        self._about = about
        self._static = static
        self._mount = mount
        self._scripts = scripts
        self._heads: dict[str, Markup] = {}
        self._static_urls = functools.cache(static.url)
        templates.environment.globals["static"] = self.static_url

    def refresh(self) -> None:
        """Reload templates and static files."""
        if self.templates.environment.cache is not None:
            self.templates.environment.cache.clear()
        self._static_urls = functools.cache(self._static.url)
        self._heads.clear()

    def static_url(self, path: str) -> str:
        """Return the URL of a static file, with its version.

        Raises:
            BadTemplate: If there is no such file.
        """
        return self._mount.url(self._static_urls(path))

    def shell(
        self,
        view: PageView,
        page: Page,
        regions: Mapping[str, Region],
        *,
        refresh: str | None = None,
        holes: bool = False,
        form: FormState | None = None,
    ) -> Shell:
        """A page with its regions as they are now.

        Args:
            view: what the template sees as ``page``.
            page: what the author's function asked for.
            regions: Its regions by name, as they are now. Missing ones are shown as waiting.
            refresh: where a browser without JavaScript goes for the page's words.
            holes: leave the insides of regions and the colophon out, marked as holes.
            form: a form that was sent and could not be taken.

        Raises:
            BadTemplate: if the template is missing, raises, or lacks the block of a region.
        """
        shown = {name: regions[name] if name in regions else Region(name) for name in page.canvases}
        values = {**page.context, **self._frame(view, refresh, page.embeds), **({"form": form} if form else {})}
        return self.templates.shell(
            page.template,
            view,
            shown,
            values,
            collections=page.collections,
            live=page.context.keys(),
            holes=holes,
        )

    def template(self, name: str, values: Mapping[str, Any]) -> HTMLResponse:
        """A template without canvases, as a response.

        Raises:
            BadTemplate: if it cannot be drawn.
        """
        view = PageView(key="", title=str(values.get("title", "")))
        return page_response(self.templates.render(name, {"page": view, **self._frame(view), **values}))

    def error_page(self, status: int, values: Mapping[str, Any], headers: Mapping[str, str]) -> HTMLResponse:
        """A page with a message for people, from ``error.html``."""
        response = self.template("error.html", values)
        response.status_code = status
        response.headers.update({"cache-control": "no-store", **NOT_FOR_ROBOTS, **headers})
        return response

    def unwritten_page(self, key: str, title: str, message: str, status: int, page: bool) -> Response:
        """Say that nobody has written a page yet, with a button that has it written.

        Args:
            key: the page's key.
            title: its title.
            message: what else there is to say.
            status: 404, or 403 for a link that is not in order.
            page: whether people read it; if not, it is a text for programs.
        """
        headers = {"cache-control": "no-store", **NOT_FOR_ROBOTS}
        if not page:
            words = f"Nobody has written {title!r} yet. {message}".strip()
            text = f"{words}\nFollow a link to it, or POST page={key} to {self._mount.url(WRITE_PATH)} to have it written.\n"
            return PlainTextResponse(text, status, {"x-content-type-options": "nosniff", **headers})
        response = self.template(
            "unwritten.html", {"title": title, "key": key, "message": message, "write": self._mount.url(WRITE_PATH)}
        )
        response.status_code = status
        response.headers.update(headers)
        return response

    def colophon(self, view: PageView) -> str:
        """The inner HTML of the colophon."""
        return self.templates.render(
            "colophon.html", {"page": view, "about": self._about, "root_path": self._mount.prefix}
        )

    def colophon_element(self, view: PageView) -> Markup:
        """The colophon with the element that the browser finds it by."""
        return Markup('<footer class="colophon" data-colophon data-page="{}">{}</footer>').format(
            view.key, Markup(self.colophon(view))
        )

    def _frame(self, view: PageView, refresh: str | None = None, frames: Embeds = "") -> dict[str, Any]:
        """Our own parts of a page: ``{{ unwritten }}``, ``{{ colophon }}`` and ``{{ nonce }}``."""
        root_path = self._mount.prefix
        if root_path not in self._heads:
            self._heads[root_path] = head_tags(self.static_url, root_path, self._scripts)
        head = self._heads[root_path]
        if frames:
            head += EMBEDS_TAG
        return {
            "root_path": root_path,
            "unwritten": head + refresh_tag(refresh) if refresh else head,
            COLOPHON: self.colophon_element(view),
            "nonce": NONCE,
            "form": _NO_FORM,
        }
