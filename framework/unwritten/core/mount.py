"""The prefix under which an app is served: a Starlette ``Mount`` or a proxy's ``root_path``."""

from __future__ import annotations

import logging

log = logging.getLogger("unwritten")


class MountPoint:
    """Converts between keys, which never hold the prefix, and the paths that browsers see.

    Rendered pages are shared by all visitors, so an app has one prefix at a time.

    Attributes:
        root_path: The prefix, without a slash at its end. Empty if the app is served at the root.
    """

    def __init__(self) -> None:
        self.root_path = ""

    def update(self, root_path: str) -> bool:
        """Take the prefix of a request. Return True if it differs from the one before."""
        root_path = root_path.rstrip("/")
        if root_path == self.root_path:
            return False
        if self.root_path:
            log.warning(
                "The app is reached under %r and under %r. One app serves one prefix at a time: "
                "make a second App to serve both.",
                self.root_path,
                root_path,
            )
        self.root_path = root_path
        return True

    def url(self, key: str) -> str:
        """Return the path that browsers request for a key."""
        return self.root_path + key

    def key(self, path: str) -> str | None:
        """Return the key for a path that a browser requested, or None if it lies outside of the prefix."""
        if not self.root_path:
            return path
        rest = path.removeprefix(self.root_path)
        return rest if rest != path and rest.startswith("/") else None
