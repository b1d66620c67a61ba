"""The allow-list for HTML that a model had a hand in. What is not listed is gone.

No scripts, styles, forms, frames, images or foreign addresses; no ``on*``, ``hx-*``, ``ws-*``, ``data-*`` or
``style``; ids get a prefix, so that they cannot name a part of the page around them; links are rewritten to
pages of this app or lose their address. The parser is html5ever (through nh3), the one that browsers agree
with, so a cut-off prefix is closed the way a browser would close it.
"""

from __future__ import annotations

import re
from functools import lru_cache

import nh3
from markupsafe import Markup

from .links import Linker

ID_PREFIX = "g-"
"""Put before every id that a model wrote."""


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


# Elements whose content is not text for people: the content goes with them.
DROPPED_ELEMENTS = set(
    """
    script style template noscript iframe object embed svg math title textarea select option canvas audio video
    noembed noframes xmp plaintext hx-partial
    """.split()
)


@lru_cache(maxsize=64)
def _cleaner(classes: frozenset[str]) -> nh3.Cleaner:
    return nh3.Cleaner(
        tags=_TAGS,
        clean_content_tags=DROPPED_ELEMENTS,
        attributes=_ATTRIBUTES,
        # Not on links: their class says whether their page is written.
        allowed_classes={tag: set(classes) for tag in _TAGS - {"a"}} if classes else None,
        link_rel=None,
        url_schemes=set(),
        url_relative="pass_through",
        id_prefix=ID_PREFIX,
    )


# The second pass over our own Markdown output: the same list with the classes that we set.
_drawn_cleaner = nh3.Cleaner(
    tags=_TAGS,
    clean_content_tags=DROPPED_ELEMENTS,
    attributes={**_ATTRIBUTES, "*": {"lang", "dir", "title"}},
    allowed_classes={"a": {"written", "unwritten"}, "span": {"unsettled"}},
    tag_attribute_values={"a": {"rel": {"nofollow"}}},
    link_rel=None,
    url_schemes=set(),
)


# After cleaning, attributes stand in double quotes and hold no quote, no "<" and no ">", so these are exact. They
# read attribute by attribute: the text of a title may look like an address.
_ANCHOR = re.compile(r'<a((?: [\w-]+="[^"<>]*")+)>')


_ATTRIBUTE = re.compile(r' ([\w-]+)="([^"<>]*)"')


def clean_html(html: str, linker: Linker, classes: frozenset[str] = frozenset()) -> Markup:
    """HTML that a model wrote, or any prefix of it, as safe and balanced HTML.

    Args:
        html: everything written so far.
        linker: decides where links lead.
        classes: class names that may stay; an author chose them.
    """
    cleaned = _cleaner(classes).clean(html)
    return Markup(_ANCHOR.sub(lambda match: _link(match, linker), cleaned))


def clean_rendered(html: str) -> Markup:
    """HTML that we drew from a model's text. It should be safe already: this is the second lock."""
    return Markup(_drawn_cleaner.clean(html))


def _link(match: re.Match[str], linker: Linker) -> str:
    return f"<a{_ATTRIBUTE.sub(lambda attribute: _address(attribute, linker), match[1])}>"


def _address(attribute: re.Match[str], linker: Linker) -> str:
    """An ``href`` as an address of this app, or as nothing; any other attribute as it is."""
    if attribute[1] != "href":
        return attribute[0]
    target = Markup(attribute[2]).unescape()
    if target.startswith("#"):
        return str(Markup(' href="#{}{}"').format(ID_PREFIX, target[1:].removeprefix(ID_PREFIX)))
    local = linker.local_path(target)
    if local is None:
        return ""
    return str(linker.attributes(local))
