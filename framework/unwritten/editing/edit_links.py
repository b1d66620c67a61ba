"""Edit links: where the forms that change a page are, what its regions are called there, and the links to them.

With scripts, ``edits.js`` opens the forms of a region right under it.
"""

from __future__ import annotations

from urllib.parse import urlencode

from markupsafe import Markup

EDIT_PREFIX = "/_unwritten/"


def edit_address(key: str, **more: str) -> str:
    """The address of the edit page of a page."""
    return f"{EDIT_PREFIX}edit?{urlencode({'page': key, **more})}"


def label_of(region: str) -> str:
    """A region's name for people."""
    return " ".join(region.replace("-", " ").replace("_", " ").split()).capitalize()


def edit_link(key: str, region: str = "") -> Markup:
    """A link to the forms of a region, or to those of the whole page."""
    if not region:
        return Markup('<a href="{}">Edit</a>').format(edit_address(key))
    words = Markup('Edit<span class="visually-hidden"> {}</span>').format(label_of(region))
    address = edit_address(key, region=region)
    return Markup('<a class="edit-link" data-edit-link="{}" href="{}">{}</a>').format(region, address, words)
