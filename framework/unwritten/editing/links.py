"""Links to the edit page, and labels of regions for visitors."""

from __future__ import annotations

from urllib.parse import urlencode

from markupsafe import Markup

from ..core.localization import Language, Text
from ..core.localization import gettext_lazy as _
from ..core.paths import FRAMEWORK_PREFIX


def edit_path(key: str, region: str = "") -> str:
    """Return the path of the edit page for a page, or for one of its regions."""
    query = {"page": key, "region": region} if region else {"page": key}
    return f"{FRAMEWORK_PREFIX}edit?{urlencode(query)}"


def edit_link(language: Language, prefix: str, key: str, region: str = "") -> Markup:
    """Return a link to the edit page.

    Args:
        language: The language of the link.
        prefix: The prefix under which the app is served.
        key: The page's key.
        region: The region to edit. Empty: the whole page.
    """
    url, word = prefix + edit_path(key, region), language.text(_("Edit"))
    if not region:
        return Markup('<a href="{}">{}</a>').format(url, word)
    text = Markup('{}<span class="visually-hidden"> {}</span>').format(word, language.text(region_label(region)))
    return Markup('<a class="edit-link" data-edit-link="{}" href="{}">{}</a>').format(region, url, text)


def region_label(region: str) -> Text:
    """Return a region's name for visitors: ``see_also-2`` is "See also 2". The app's catalogs may translate it."""
    return Text(" ".join(region.replace("-", " ").replace("_", " ").split()).capitalize())


_("Body")  # the label of the canvas of pages that return only a prompt
