"""Paths of the framework's own routes, and the syntax of page keys."""

from __future__ import annotations

import re

FRAMEWORK_PREFIX = "/_unwritten/"
"""Where the framework's own routes are mounted. No page can be there."""

STATIC_PREFIX = "/_unwritten/static"
"""Where static files are served."""

WRITE_PATH = "/_unwritten/write"
"""Where the button of an unwritten page posts, to have the page generated."""

BOX_PREFIX = "/_unwritten/box"
"""Where the documents of boxes are served."""

PICTURES_PREFIX = "/_unwritten/picture/"
"""Where pictures are served."""

ENCODED_SLASH = "\ue02f"
"""Stands for an encoded slash (%2F) while a path is matched, so that it stays inside its parameter."""

_KEY = re.compile(r"/(?![/\\])[^\x00-\x1f\x7f]*")


def is_page_key(text: str) -> bool:
    r"""True if this can be the key of a page. ``//host`` and ``/\host`` cannot: they lead to other servers."""
    return _KEY.fullmatch(text) is not None
