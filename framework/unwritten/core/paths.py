"""Paths of the framework's own routes, and names that several layers share."""

from __future__ import annotations

FRAMEWORK_PREFIX = "/_unwritten/"
"""Where the framework's own routes are mounted. No page can be there."""

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
