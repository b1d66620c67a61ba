"""Redirects to pages of this app: the only place where the framework chooses where a browser goes."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import RedirectResponse

from ..core.errors import BadURL
from ..core.mount import MountPoint
from ..core.paths import page_path, url_of_key, variant_of


class PageRedirect(RedirectResponse):
    """A redirect to a page of this app.

    Args:
        mount: The prefix under which the app is served.
        target: The page's key, which may be that of a variant, or a path with a fragment.
        status_code: 303, so that the browser requests the page with GET.
        headers: Further headers.

    Raises:
        BadURL: If no page of this app can be there.
    """

    def __init__(
        self, mount: MountPoint, target: str, status_code: int = 303, headers: Mapping[str, str] | None = None
    ) -> None:
        path = page_path(url_of_key(target) if variant_of(target) is not None else target)
        if path is None:
            raise BadURL(f"{target[:200]!r} is not the URL of a page of this app.")
        # Where an alias leads may depend on the visitor, and the canonical spelling may change.
        super().__init__(mount.url(path), status_code, {"cache-control": "private, no-cache", **(headers or {})})


class CanonicalRedirect(PageRedirect):
    """Redirects another spelling of a page's URL to the canonical one. It is temporary: ``canonical`` may change.

    Attributes:
        key: The page's key, with its query.
    """

    def __init__(self, mount: MountPoint, key: str) -> None:
        super().__init__(mount, key, 302)
        self.key = key


class AliasRedirect(CanonicalRedirect):
    """Redirects another name of a page to the page. The visitor may not be allowed to read it."""
