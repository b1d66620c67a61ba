"""The allow-list for generated HTML: what is not listed is removed.

It removes scripts, styles, forms, frames, images, foreign URLs, ``on*``, ``hx-*``, ``ws-*``, ``data-*`` and ``style``.
Ids get a prefix, so that they cannot clash with those of the page. Links lead to pages of this app or lose their
``href``. The parser is html5ever (through nh3), which agrees with browsers, so a prefix is closed as a browser would.
"""

from __future__ import annotations

import re
from functools import lru_cache

import nh3
from markupsafe import Markup

from .html_limits import limit_markup
from .html_source import DROPPED_ELEMENTS
from .links import MAX_LINKS, Linker

ID_PREFIX = "g-"
"""The prefix of every id in generated HTML."""

_TAGS = set(
    """
    address article aside blockquote br dd details div dl dt figcaption figure footer h1 h2 h3 h4 h5 h6 header hr li
    main ol p pre section summary ul table caption colgroup col thead tbody tfoot tr th td
    a abbr b bdi bdo cite code data del dfn em i ins kbd mark meter progress q rp rt ruby s samp small span strong sub
    sup time u var wbr
    """.split()
)

_ATTRIBUTES = {
    "*": {"id", "lang", "dir", "title"},
    "a": {"href"},
    "col": {"span"},
    "colgroup": {"span"},
    "data": {"value"},
    "details": {"open"},
    "li": {"value"},
    "meter": {"value", "min", "max", "low", "high", "optimum"},
    "ol": {"start", "reversed", "type"},
    "progress": {"value", "max"},
    "td": {"colspan", "rowspan", "headers"},
    "th": {"colspan", "rowspan", "headers", "scope", "abbr"},
    "time": {"datetime"},
}

# For the second pass, over HTML that the Markdown formatter rendered: the same list, and the classes that it sets.
_rendered_cleaner = nh3.Cleaner(
    tags=_TAGS,
    clean_content_tags=set(DROPPED_ELEMENTS),
    attributes={**_ATTRIBUTES, "*": {"lang", "dir", "title"}},
    allowed_classes={"a": {"written", "unwritten"}, "span": {"unsettled"}},
    tag_attribute_values={"a": {"rel": {"nofollow"}}},
    link_rel=None,
    url_schemes=set(),
)

# After cleaning, attributes have double quotes and contain no quote, "<" or ">", so these are exact. They match
# whole attributes, because the text of a title may look like an href.
_ANCHOR = re.compile(r'<a((?: [\w-]+="[^"<>]*")+)>')
_ATTRIBUTE = re.compile(r' ([\w-]+)="([^"<>]*)"')


@lru_cache(maxsize=64)
def _cleaner(css_classes: frozenset[str]) -> nh3.Cleaner:
    return nh3.Cleaner(
        tags=_TAGS,
        clean_content_tags=set(DROPPED_ELEMENTS),
        attributes=_ATTRIBUTES,
        # Not on links, whose class is "written" or "unwritten".
        allowed_classes={tag: set(css_classes) for tag in _TAGS - {"a"}} if css_classes else None,
        link_rel=None,
        url_schemes=set(),
        url_relative="pass_through",
        id_prefix=ID_PREFIX,
    )


def clean_html(
    html: str, linker: Linker, css_classes: frozenset[str] = frozenset(), *, growing: bool = False
) -> Markup:
    """Return generated HTML, or any prefix of it, as safe and balanced HTML.

    Args:
        html: The HTML so far.
        linker: Decides where links lead.
        css_classes: Class names that are kept. They come from the app's author.
        growing: True if more HTML may follow. An element without its end may then be left out.
    """
    cleaned = _cleaner(css_classes).clean(limit_markup(html, growing=growing))
    return Markup(_link_anchors(cleaned, linker))


def _link_anchors(html: str, linker: Linker) -> str:
    """Return cleaned HTML with the addresses of its links; those after the first ``MAX_LINKS`` have none."""
    count = 0

    def link(match: re.Match[str]) -> str:
        nonlocal count
        count += 1
        return _link(match, linker) if count <= MAX_LINKS else "<a>"

    return _ANCHOR.sub(link, html)


def clean_rendered(html: str) -> Markup:
    """Return HTML that a formatter rendered from escaped text, sanitized again as a second line of defence."""
    return Markup(_rendered_cleaner.clean(html))


def _link(match: re.Match[str], linker: Linker) -> str:
    return f"<a{_ATTRIBUTE.sub(lambda attribute: _link_attribute(attribute, linker), match[1])}>"


def _link_attribute(match: re.Match[str], linker: Linker) -> str:
    """Return an attribute of a link: an ``href`` leads to a page of this app or is removed, others are unchanged."""
    if match[1] != "href":
        return match[0]
    address = Markup(match[2]).unescape()
    if address.startswith("#"):
        return str(Markup(' href="#{}{}"').format(ID_PREFIX, address[1:].removeprefix(ID_PREFIX)))
    path = linker.local_path(address)
    return "" if path is None else str(linker.attributes(path))
