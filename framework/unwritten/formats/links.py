"""Links: from ``[[Title]]`` in a text to the address of a page, written or not yet."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from html import unescape
from urllib.parse import quote, unquote, urljoin, urlsplit

from markupsafe import Markup, escape

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
        key: the key of the page that it leads to.
        text: its words.
        sentence: the sentence around it, as plain text.
    """

    key: str
    text: str
    sentence: str


class Linker:
    """Turns titles and addresses that a model wrote into links of this app.

    Args:
        page: the key of the page that is drawn, against which relative addresses are read.
        key_for: Returns the key of the page with a title, or None if no page can have it. None: titles lead nowhere.
        written: Returns those of some keys whose pages are written.
        sign: Returns the address of an unwritten page with a signature, where links are signed.
        root_path: The prefix under which the app is served.
    """

    def __init__(
        self,
        page: str,
        key_for: Callable[[str], str | None] | None,
        written: Callable[[Collection[str]], set[str]],
        sign: Callable[[str], str] = str,
        root_path: str = "",
    ) -> None:
        self._page = page
        self._key_for = key_for
        self._written = written
        self._sign = sign
        self.root_path = root_path
        self._known: dict[str, bool] = {page: True}
        # The same links are asked for in every frame.
        self._keys: dict[str, str | None] = {}
        self._anchors: dict[tuple[str, str], Markup] = {}

    def key(self, title: str) -> str | None:
        """The key of the page with this title, or None if no page can have it."""
        if title not in self._keys:
            self._keys[title] = self._key_for(title) if self._key_for else None
        return self._keys[title]

    def anchor(self, title: str, text: str) -> Markup:
        """A ``[[title|text]]`` as a link, or as its words: no page can have that title, or it is this page's own."""
        anchor = self._anchors.get((title, text))
        if anchor is None:
            key = self.key(title)
            if key is None or self.is_page(key):
                anchor = escape(text)
            else:
                anchor = Markup("<a{}>{}</a>").format(self.attributes(key), text)
            self._anchors[title, text] = anchor
        return anchor

    def attributes(self, address: str) -> Markup:
        """The attributes of a link to an address of this app: a clean one if its page is written; else what a reader
        may follow, and what a crawler is asked not to."""
        state = self.state(address)
        offered = address if state == "written" else self._sign(address)
        follow = Markup(' rel="nofollow"') if offered != address else ""
        return Markup(' href="{}" class="{}"{}').format(self.root_path + offered, state, follow)

    @property
    def page(self) -> str:
        """The key of the page that is drawn."""
        return self._page

    def is_page(self, key: str) -> bool:
        """Whether this is the page that is drawn: a link from a page to itself leads nowhere."""
        return key == self._page

    def state(self, key: str) -> str:
        """The class of a link: "written" or "unwritten". Asked of the store once for each key."""
        if key not in self._known:
            self._known[key] = bool(self._written([key]))
        return "written" if self._known[key] else "unwritten"

    def local(self, address: str) -> str | None:
        """An address that a model wrote as ``href``, as a path of this app; None if it leads elsewhere.

        A bare name, ``<a href="Great Auk">``, leads where ``[[Great Auk]]`` does.
        """
        address = unsigned(address.strip(" "))
        if len(address) > 2048 or any(ord(c) < 32 for c in address) or "\\" in address:
            return None
        try:
            parts = urlsplit(address)
            joined = urljoin(self._page, address)
        except ValueError:  # half an IPv6 address, say
            return None
        if parts.scheme or parts.netloc or address.startswith("//"):
            return None
        if self._key_for and address and not set("/?#") & set(address):
            return self.key(unquote(address))
        if not joined.startswith("/") or joined.startswith("//"):
            return None
        return quote(joined, safe="/?#%&=+!$'()*,:@;-._~")


def find_links(text: str, linker: Linker) -> list[Link]:
    """All ``[[links]]`` of a finished text, the first of each target, in order."""
    found: dict[str, Link] = {}
    for match in WIKI_LINK.finditer(text):
        title, words = match[1], match[2] or match[1]
        key = linker.key(title)
        if key is not None and key not in found and not linker.is_page(key):
            found[key] = Link(key, words, _sentence_around(text, match.start(), match.end()))
    return list(found.values())


def find_anchors(html: str, root_path: str = "") -> list[Link]:
    """Return the links of rendered HTML, the first of each target, in order."""
    found: dict[str, Link] = {}
    for match in _ANCHOR.finditer(html):
        key = unsigned(unescape(match[1]).removeprefix(root_path))
        words = " ".join(html_to_text(match[2]).split())
        if key not in found:
            before, after = html_to_text(html[: match.start()]), html_to_text(html[match.end() :])
            text = before + words + after
            found[key] = Link(key, words, _sentence_around(text, len(before), len(before) + len(words)))
    return list(found.values())


def html_to_text(html: str) -> str:
    """The text of drawn HTML, with a line for each block."""
    return unescape(_TAG.sub("\n", _INLINE_TAG.sub("", html)))


def plain_text(text: str) -> str:
    """A text without the brackets of links and the marks of Markdown, on one line: for search and snippets."""
    text = WIKI_LINK.sub(lambda m: m[2] or m[1], text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"^\s*(?:#{1,6}\s|[-*+]\s|\d+[.)]\s|>\s?|\|)|\|", " ", text, flags=re.M)
    text = re.sub(r"\*\*|__|`+|\[\[|\]\]", "", text)
    return " ".join(re.sub(r"(?<!\w)[*_](?=\w)|(?<=\w)[*_](?!\w)", "", text).split())


def title_of(key: str) -> str:
    """A title for people from a key: its last part, decoded, with spaces."""
    last = key.partition("?")[0].rstrip("/").rsplit("/", 1)[-1]
    return unquote(last).replace("_", " ") or "Front page"


def _sentence_around(text: str, start: int, end: int, reach: int = 300) -> str:
    before = re.split(r"(?<=[.!?])\s|\n", text[max(0, start - reach) : start])[-1]
    after = re.split(r"(?<=[.!?])\s|\n", text[end : end + reach])[0]
    return plain_text(before + text[start:end] + after)
