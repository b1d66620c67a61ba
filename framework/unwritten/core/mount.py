"""The prefix under which an app is served: a Starlette ``Mount`` or a proxy's ``root_path``."""

from __future__ import annotations

import logging
from urllib.parse import quote

log = logging.getLogger("unwritten")

IN_PROCESS = "unwritten.in_process"
"""An ASGI extension of lifespans that commands and tests run. No server accepts requests."""


class MountPoint:
    """Converts between page keys, which never contain the prefix, and the paths that browsers see.

    Rendered pages are shared by all visitors, so an app has one prefix at a time.

    Attributes:
        root_path: The prefix as in an ASGI scope: decoded, without a slash at its end. Empty at the root.
        prefix: The same as part of a URL: percent-encoded.
    """

    def __init__(self) -> None:
        self.root_path = ""
        self.prefix = ""
        self._warned = False

    def update(self, root_path: str) -> None:
        """Set the prefix from a request's ``scope["root_path"]``."""
        root_path = root_path.rstrip("/")
        if root_path == self.root_path:
            return
        if self.root_path and not self._warned:
            self._warned = True
            log.warning(
                "The app is reached under %r and under %r. One app serves one prefix at a time: "
                "make a second App to serve both.",
                self.root_path,
                root_path,
            )
        self.root_path = root_path
        self.prefix = quote(root_path, safe="/:@!$&()*+,;=-._~")

    def url(self, key: str) -> str:
        """Return the path that browsers request for a key."""
        return self.prefix + key

    def key(self, url_path: str) -> str | None:
        """Return the key for the path of a URL, or None if it lies outside of the prefix."""
        return _without_prefix(url_path, self.prefix)

    def route_path(self, scope_path: str) -> str | None:
        """Return the path of an ASGI scope without the prefix, decoded, or None if it lies outside of the prefix."""
        return _without_prefix(scope_path, self.root_path)


def _without_prefix(path: str, prefix: str) -> str | None:
    if not prefix:
        return path
    rest = path.removeprefix(prefix)
    return rest if rest != path and rest.startswith("/") else None
