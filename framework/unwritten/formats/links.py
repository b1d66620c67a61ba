"""Links: turns ``[[Title]]`` and ``href`` in generated text into links to pages of this app, and finds them again."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from html import unescape
from urllib.parse import quote, unquote, urljoin, urlsplit

from markupsafe import Markup, escape

from ..core.paths import is_page_key
from ..security.signed_links import unsigned

WIKI_LINK = re.compile(r"\[\[\s*([^\[\]|\n]{1,200}?)\s*(?:\|\s*([^\[\]|\n]{1,200}?)\s*)?\]\]")
"""``[[Title]]`` or ``[[Title|text]]`` on one line."""

_ANCHOR = re.compile(r'<a [^<>]*?href="(/[^"<>]*)"[^<>]*>(.*?)</a>', re.S)
_TAG = re.compile(r"<[^<>]*>")
_INLINE_TAG = re.compile(
    r"</?(?:a|abbr|b|bd[io]|cite|code|data|del|dfn|em|i|ins|kbd|mark|q|ruby|s|samp|small|span|strong|su[bp]|time|u|var|wbr)"
    r"(?: [^<>]*)?>"
)


@dataclass(frozen=True, slots=True)
class Link:
    """A link on a page.

    Attributes:
        key: The key of the page that it leads to.
        text: The link's text.
        sentence: The sentence that contains it, as plain text.
    """

    key: str
    text: str
    sentence: str


class Linker:
    """Turns titles and addresses in generated text into links of this app.

    Results are cached, because every frame of a region contains the same links.

    Args:
        page: The key of the page being rendered. Relative addresses are resolved against it.
        key_for: Returns the key of the page with a title, or None if no page can have it. None: titles lead nowhere.
        find_written: Returns those of the given keys whose pages are written.
        sign: Returns the address of an unwritten page with a signature, where links are signed.
        root_path: The prefix under which the app is served.
    """

    def __init__(
        self,
        page: str,
        key_for: Callable[[str], str | None] | None,
        find_written: Callable[[Collection[str]], set[str]],
        sign: Callable[[str], str] = str,
        root_path: str = "",
    ) -> None:
        self.page = page
        self.root_path = root_path
        self._key_for = key_for
        self._find_written = find_written
        self._sign = sign
        self._written: dict[str, bool] = {page: True}
        self._keys: dict[str, str | None] = {}
        self._anchors: dict[tuple[str, str], Markup] = {}

    def key_for(self, title: str) -> str | None:
        """Return the key of the page with this title, or None if no page can have it."""
        if title not in self._keys:
            self._keys[title] = self._key_for(title) if self._key_for else None
        return self._keys[title]

    def anchor(self, title: str, text: str) -> Markup:
        """Return the ``<a>`` element for ``[[title|text]]``.

        Returns only the text if no page can have the title, or if the link leads to the page itself.
        """
        anchor = self._anchors.get((title, text))
        if anchor is None:
            key = self.key_for(title)
            if key is None or key == self.page:
                anchor = escape(text)
            else:
                anchor = Markup("<a{}>{}</a>").format(self.attributes(key), text)
            self._anchors[title, text] = anchor
        return anchor

    def attributes(self, key: str) -> Markup:
        """Return the ``href``, ``class`` and ``rel`` attributes of a link to a page.

        Links to unwritten pages are signed, and marked ``nofollow`` for crawlers.
        """
        link_class = self.link_class(key)
        address = key if link_class == "written" else self._sign(key)
        follow = Markup(' rel="nofollow"') if address != key else ""
        return Markup(' href="{}" class="{}"{}').format(self.root_path + address, link_class, follow)

    def link_class(self, key: str) -> str:
        """Return the CSS class of a link: "written" or "unwritten"."""
        if key not in self._written:
            self._written[key] = bool(self._find_written([key]))
        return "written" if self._written[key] else "unwritten"

    def local_path(self, address: str) -> str | None:
        """Return the path of an ``href`` in generated text, or None if it leads outside this app.

        A bare name such as ``<a href="Great Auk">`` leads to the same page as ``[[Great Auk]]``.
        """
        address = unsigned(address.strip(" "))
        if len(address) > 2048 or any(ord(char) < 32 for char in address) or "\\" in address:
            return None
        try:
            parts = urlsplit(address)
            joined = urljoin(self.page, address)
        except ValueError:  # for example an incomplete IPv6 address
            return None
        if parts.scheme or parts.netloc or address.startswith("//"):
            return None
        if self._key_for and address and not set("/?#") & set(address):
            return self.key_for(unquote(address))
        if not is_page_key(joined):
            return None
        return quote(joined, safe="/?#%&=+!$'()*,:@;-._~")


def find_links(text: str, linker: Linker) -> list[Link]:
    """Return the ``[[links]]`` of a finished text, the first of each target, in order."""
    found: dict[str, Link] = {}
    for match in WIKI_LINK.finditer(text):
        key = linker.key_for(match[1])
        if key is not None and key not in found and key != linker.page:
            found[key] = Link(key, match[2] or match[1], _sentence_around(text, match.start(), match.end()))
    return list(found.values())


def find_anchors(html: str, root_path: str = "") -> list[Link]:
    """Return the links of rendered HTML, the first of each target, in order."""
    found: dict[str, Link] = {}
    for match in _ANCHOR.finditer(html):
        key = unsigned(unescape(match[1]).removeprefix(root_path))
        text = " ".join(html_to_text(match[2]).split())
        if key not in found:
            before, after = html_to_text(html[: match.start()]), html_to_text(html[match.end() :])
            sentence = _sentence_around(before + text + after, len(before), len(before) + len(text))
            found[key] = Link(key, text, sentence)
    return list(found.values())


def html_to_text(html: str) -> str:
    """Return the text of rendered HTML, with line breaks between blocks."""
    return unescape(_TAG.sub("\n", _INLINE_TAG.sub("", html)))


def plain_text(text: str) -> str:
    """Return Markdown as plain text on one line, without link brackets and markup: for search and snippets."""
    text = WIKI_LINK.sub(lambda match: match[2] or match[1], text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"^\s*(?:#{1,6}\s|[-*+]\s|\d+[.)]\s|>\s?|\|)|\|", " ", text, flags=re.M)
    text = re.sub(r"\*\*|__|`+|\[\[|\]\]", "", text)
    return " ".join(re.sub(r"(?<!\w)[*_](?=\w)|(?<=\w)[*_](?!\w)", "", text).split())


def title_from_key(key: str) -> str:
    """Return a readable title for a key: its last segment, decoded, with spaces."""
    last = key.partition("?")[0].rstrip("/").rsplit("/", 1)[-1]
    return unquote(last).replace("_", " ") or "Front page"


def _sentence_around(text: str, start: int, end: int, reach: int = 300) -> str:
    before = re.split(r"(?<=[.!?])\s|\n", text[max(0, start - reach) : start])[-1]
    after = re.split(r"(?<=[.!?])\s|\n", text[end : end + reach])[0]
    return plain_text(before + text[start:end] + after)
