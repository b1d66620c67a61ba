"""TODO."""

from __future__ import annotations

STATIC_PREFIX = "/_unwritten/static"
"""The path under which static files are served."""


WRITE_PATH = "/_unwritten/write"
"""Where a button posts that has a page written."""


ENCODED_SLASH = "\ue02f"
"""Stands for an encoded slash (%2F) while a path is matched, so that it stays inside its parameter."""


BOX_PREFIX = "/_unwritten/box"
"""Where the documents of boxes are served."""


PICTURES_PREFIX = "/_unwritten/picture/"
"""Where pictures are."""


EDIT_PREFIX = "/_unwritten/"


OWN = "/_unwritten/"
"""Where our own addresses begin. No page is there."""
