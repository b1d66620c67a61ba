"""The renderer: pages, their shells and colophons, and the framework's own pages. It starts no work."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from markupsafe import Markup
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from unwritten_engine import About

from ..core.assets import VersionedStaticFiles
from ..core.localization import Language, join
from ..core.localization import gettext_lazy as _
from ..core.mount import MountPoint
from ..core.paths import WRITE_PATH
from ..formats.page import Page
from ..routing.form_fields import FormState
from ..security.headers import NO_STORE, Embeds
from .document import COLOPHON, EMBEDS_TAG, NONCE, SCRIPTS, head_tags, page_response, refresh_tag
from .regions import PageView, Region
from .script_texts import texts_url
from .templates import Shell, Templates

_NO_FORM = FormState()


class Renderer:
    """Renders the pages of one app."""

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
        self._heads: dict[tuple[str, str], Markup] = {}  # by prefix and language
        self._static_urls = functools.cache(static.url)
        templates.environment.globals["static"] = self.static_url

    def refresh(self) -> None:
        """Reload templates and static files."""
        if self.templates.environment.cache is not None:
            self.templates.environment.cache.clear()
        self._static_urls = functools.cache(self._static.url)
        self._heads.clear()
        self.templates.localization.refresh()

    def static_url(self, path: str) -> str:
        """Return the URL of a static file, with its version.

        Raises:
            BadTemplate: If there is no such file.
        """
        return self._mount.prefix + self._static_urls(path)

    def language(self, tag: str = "") -> Language:
        """Return the language with a tag. Empty: that of the app."""
        return self.templates.localization.get(tag)

    # -- pages --------------------------------------------------------------------------------------------

    def shell(
        self,
        view: PageView,
        page: Page,
        regions: Mapping[str, Region],
        *,
        refresh: str | None = None,
        placeholders: bool = False,
        form: FormState | None = None,
    ) -> Shell:
        """Render a page with its regions as they are now.

        Args:
            view: What the template sees as ``page``.
            page: What the page function returned.
            regions: Its regions by name, as they are now. Missing ones are shown as waiting.
            refresh: The URL of the streamed page for browsers without JavaScript. None: they stay on this page.
            placeholders: Render placeholders in place of the colophon and the regions' content.
            form: A submitted form that was not accepted.

        Raises:
            BadTemplate: If the template is missing, raises, or does not render a region.
        """
        view = view if view.lang == page.lang else replace(view, lang=page.lang)
        values = {**page.context, **self._framework_values(view, refresh, page.embeds)}
        if form:
            values["form"] = form
        return self.templates.render_page(
            page.template,
            view,
            {name: regions[name] if name in regions else Region(name) for name in page.canvases},
            values,
            groups=page.canvas_groups,
            state_names=page.context.keys(),
            placeholders=placeholders,
        )

    def colophon(self, view: PageView) -> str:
        """Return the inner HTML of a page's colophon."""
        return self.templates.render(
            "colophon.html",
            {"page": view, "about": self._about, "root_path": self._mount.prefix, "lang": view.lang or None},
        )

    def colophon_element(self, view: PageView) -> Markup:
        """Return a page's colophon with its element, which scripts find by ``data-colophon``."""
        return Markup('<footer class="colophon" data-colophon data-page="{}">{}</footer>').format(
            view.key, Markup(self.colophon(view))
        )

    # -- other responses ----------------------------------------------------------------------------------

    def render(
        self, name: str, values: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
    ) -> HTMLResponse:
        """Return a template without regions as a response.

        Raises:
            BadTemplate: If it is missing or raises.
        """
        view = PageView(key="", title=str(values.get("title", "")), lang=str(values.get("lang") or ""))
        framework_values = self._framework_values(view)
        html = self.templates.render(
            name, {"page": view, **framework_values, **values, "lang": framework_values["lang"]}
        )
        return page_response(html, status, headers)

    def error_page(self, status: int, values: Mapping[str, Any], headers: Mapping[str, str]) -> HTMLResponse:
        """Return ``error.html`` as a response."""
        return self.render("error.html", values, status, {**NO_STORE, **headers})

    def unwritten_page(
        self, key: str, title: str, message: str, status: int, as_html: bool, lang: str = ""
    ) -> Response:
        """Return the response for an unwritten page: a notice, and a button that generates the page.

        Args:
            key: The page's key.
            title: The page's title.
            message: An additional sentence; "" for none.
            status: 404, or 403 for a link whose signature is not valid.
            as_html: False returns plain text, for clients that are not browsers.
            lang: The page's language tag. Empty: that of the app.
        """
        write = self._mount.url(WRITE_PATH)
        if not as_html:
            sentences = [_("'%(title)s' is not written yet.", title=title), *([message] if message else [])]
            how = _("Follow a link to it, or POST page=%(key)s to %(url)s to have it written.", key=key, url=write)
            language = self.language(lang)
            text = f"{language.text(join(*sentences))}\n{language.text(how)}\n"
            return PlainTextResponse(text, status, {"x-content-type-options": "nosniff", **NO_STORE})
        values = {"title": title, "key": key, "message": message, "write": write, "lang": lang}
        return self.render("unwritten.html", values, status, NO_STORE)

    def _framework_values(self, view: PageView, refresh: str | None = None, embeds: Embeds = "") -> dict[str, Any]:
        """Return what every template sees besides globals: ``unwritten``, ``colophon``, ``nonce``, ``form``."""
        root_path = self._mount.prefix
        lang = view.lang or self.templates.localization.language
        head = self._heads.get((root_path, lang))
        if head is None:
            texts = root_path + texts_url(self.language(lang))
            head = self._heads[root_path, lang] = head_tags(self.static_url, root_path, texts, self._scripts)
        if embeds:
            head += EMBEDS_TAG
        return {
            "root_path": root_path,
            "lang": lang,
            "unwritten": head + refresh_tag(refresh) if refresh else head,
            COLOPHON: self.colophon_element(view),
            "nonce": NONCE,
            "form": _NO_FORM,
        }
