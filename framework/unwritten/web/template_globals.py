"""Template globals that need the app: ``link``, ``action``, ``url_for`` and ``file_url``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup
from starlette.routing import BaseRoute, Router

from ..core.errors import BadURL
from ..core.mount import MountPoint
from ..core.paths import UPLOADS_PREFIX, page_path, site_path, url_of_key, variant_of
from ..formats.uploads import Upload
from ..routing.routes import RAISE
from ..security.signed_links import SignedLinks
from ..storage.pages import PageStore
from .action_routes import FormTags, find_action


class PrefixedURL(str):
    """The URL of a page or a route, as browsers request it. ``link`` accepts it as it accepts a key.

    Attributes:
        key: The same without the prefix of the app.
    """

    key: str


class TemplateGlobals:
    """Template functions that depend on the components of the app."""

    def __init__(
        self,
        *,
        mount: MountPoint,
        signed_links: SignedLinks,
        store: PageStore,
        router: Router,
        forms: FormTags,
        routes: Sequence[BaseRoute],
    ) -> None:
        self._mount = mount
        self._signed_links = signed_links
        self._store = store
        self._router = router
        self._forms = forms
        self._routes = routes

    def functions(self) -> dict[str, Callable[..., Any]]:
        """Return the functions by their names in templates."""
        return {"link": self.link, "url_for": self.url_for, "action": self.action, "file_url": self.file_url}

    def link(self, key: Any, *, searched: bool = False, default: Any = RAISE) -> Any:
        """Return the URL for a link to a page. Where links are signed, that of an unwritten page has a signature.

        Args:
            key: The page's key, or what ``url_for`` has returned.
            searched: True if a visitor chose the page: their budget for searches is charged.
            default: Returned if it is not a key. Not given: an error is raised.

        Raises:
            BadURL: If it is not a key, such as ``/wiki/Tea``.
        """
        if isinstance(key, PrefixedURL):
            key = key.key
        path = page_path(key) if isinstance(key, str) else None
        if path is None:
            if default is not RAISE:
                return default
            raise BadURL(
                f"{key!r} is not the key of a page. A key looks like '/wiki/Tea', and app.url_path_for(…) returns one."
            )
        given, path = path, url_of_key(path)
        fragment = "" if variant_of(given) is not None else given.removeprefix(path)
        if self._signed_links.signs(path) and not self._store.exists([given.removesuffix(fragment)]):
            path = self._signed_links.sign(path, "search" if searched else "link")
        return self._mount.url(path + fragment)

    def url_for(self, name: str, /, *, default: Any = RAISE, **path_params: Any) -> Any:
        """Return the URL of a route or page, without scheme and host: rendered pages are shared by all visitors.

        Give a ``default`` if the model has written a parameter: a text that no page can have would make the template
        fail whenever the page is shown.

        Args:
            name: The name of the route.
            default: Returned if no page can have these parameters. Not given: an error is raised.
            path_params: The parameters of its path.

        Raises:
            NoMatchFound: If no route has this name and these parameters.
            BadURL: If no page can have these parameters.
        """
        try:
            path = site_path(str(self._router.url_path_for(name, **path_params)))
            if path is None:
                raise BadURL(f"The URL of {name!r} with these parameters leads to no path of this app.")
            url = PrefixedURL(self._mount.url(path))
            url.key = path
            return url
        except BadURL:
            if default is RAISE:
                raise
            return default

    @pass_context
    def action(self, context: Context, name: str, /, **parameters: Any) -> Markup:
        """Return the attributes of a form that is sent to an action.

        Raises:
            BadApp: If there is no action of that name, or it takes other parameters.
        """
        path, has_files = find_action(self._routes, name, parameters)
        return self._forms.attributes(path, context["page"].key, has_files=has_files)

    def file_url(self, upload: Upload) -> str:
        """Return the URL of an upload."""
        return self._mount.url(f"{UPLOADS_PREFIX}{upload.key}/{quote(upload.name)}")
