"""Links: turns ``[[Title]]`` and ``href`` in generated text into links to pages of this app, and finds them again."""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from html import unescape
from urllib.parse import unquote

from markupsafe import Markup, escape

from ..core.bidi import remove_controls
from ..core.paths import page_path, url_of_key
from ..security.signed_links import unsigned

# Possessive quantifiers: a text that almost matches is given up at once, so searching takes linear time.
_WORDS = r"[^\s\[\]|]++(?:[^\S\n]++[^\s\[\]|]++)*+"
WIKI_LINK = re.compile(rf"\[\[[^\S\n]*+({_WORDS})[^\S\n]*+(?:\|[^\S\n]*+({_WORDS})[^\S\n]*+)?\]\]")
"""``[[Title]]`` or ``[[Title|text]]`` on one line."""

_TAG = re.compile(r"<(/?)([A-Za-z][\w-]*+)([^<>]*+)>")
_HREF = re.compile(r' href="(/[^"<>]*)"')
_INLINE_TAGS = frozenset(
    """
    a abbr b bdi bdo cite code data del dfn em i ins kbd mark q ruby s samp small span strong sub sup time u var wbr
    """.split()
)
_SENTENCE_BREAK = re.compile(r"(?<=[.!?])\s|(?<=[。！？])|\n")

_IMAGE_OR_LINK = re.compile(r"!?\[([^\[\]]*+)\]\([^()\n]*+\)")
_LINE_MARKUP = re.compile(r"^[^\S\n]*+(?:#{1,6}\s|[-*+]\s|\d+[.)]\s|>\s?|\|)|\|", re.M)
_MARKUP = re.compile(r"\*\*|__|`+|\[\[|\]\]")
_EMPHASIS = re.compile(r"(?<!\w)[*_](?=\w)|(?<=\w)[*_](?!\w)")


MAX_LINKS = 2000
"""Maximum number of links of one text that are rendered and stored. What follows is shown as text."""

MAX_TEXT = 300
"""Maximum length of a link's text that is stored. A longer one is cut."""


MAX_REJECTED = 50
"""Maximum number of titles of one page of which it is remembered that they lead nowhere."""


@dataclass(frozen=True, slots=True)
class Link:
    """A link on a page.

    Attributes:
        key: The key of the page that it leads to.
        text: The link's text.
        sentence: The sentence that contains it, as plain text.
        gist: What the page with the link says that the target will be about, hidden from visitors. Often empty.
    """

    key: str
    text: str
    sentence: str
    gist: str = ""


class Linker:
    """Turns titles and addresses in generated text into links of this app.

    Results are cached, because every frame of a region contains the same links.

    Args:
        page: The key of the page being rendered. Relative addresses are resolved against it.
        key_for: Returns the key of the page with a title, or None if no page can have it. None: titles lead nowhere.
        find_written: Returns those of the given keys whose pages are written.
        sign: Returns the address of an unwritten page with a signature, where links are signed.
        root_path: The prefix under which the app is served.
        no_pages: Paths of the framework where no page can be.
        explain: Returns why a title leads nowhere.
        resolve: Returns the key of the page that a key leads to: another one if it is an alias.
        variant: Returns the key of the stored page that a visitor of this page gets at a URL.

    Attributes:
        rejected: Titles that lead nowhere, each with the reason: the first ``MAX_REJECTED``.
    """

    def __init__(
        self,
        page: str,
        key_for: Callable[[str], str | None] | None,
        find_written: Callable[[Collection[str]], set[str]],
        sign: Callable[[str], str] = str,
        root_path: str = "",
        no_pages: Collection[str] = (),
        explain: Callable[[str], str] | None = None,
        resolve: Callable[[str], str] = str,
        variant: Callable[[str], str] = url_of_key,
    ) -> None:
        self.rejected: dict[str, str] = {}
        self.page = page
        self.root_path = root_path
        self._key_for = key_for
        self._find_written = find_written
        self._sign = sign
        self._no_pages = no_pages
        self._explain = explain
        self._resolve = resolve
        self._variant = variant
        self._stored_keys: dict[str, str] = {}
        self._written: dict[str, bool] = {page: True}
        self._keys: dict[str, str | None] = {}
        self._anchors: dict[tuple[str, str], Markup] = {}
        self._paths: dict[str, str | None] = {}

    def key_for(self, title: str) -> str | None:
        """Return the key of the page with this title, or None if no page can have it."""
        if title not in self._keys:
            path = self._key_for(title) if self._key_for else None
            key = self._keys[title] = self._page(path)
            if key is None and len(self.rejected) < MAX_REJECTED:
                reason = self._explain(title) if self._explain and path is None else f"no page can be at {path}"
                self.rejected[title] = reason
        return self._keys[title]

    def anchor(self, title: str, text: str) -> Markup:
        """Return the ``<a>`` element for ``[[title|text]]``.

        Returns only the text if no page can have the title, or if the link leads to the page itself.
        """
        anchor = self._anchors.get((title, text))
        if anchor is None:
            key = self.key_for(title)
            if key is None or key == url_of_key(self.page):
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
        key = self.stored_key(key)
        if key not in self._written:
            self._written[key] = bool(self._find_written([key]))
        return "written" if self._written[key] else "unwritten"

    def stored_key(self, path: str) -> str:
        """Return the key of the stored page that a link to this path leads to, from this page."""
        key = self._stored_keys.get(path)
        if key is None:
            key = self._stored_keys[path] = self._variant(path)
        return key

    def find_written(self, keys: Collection[str]) -> set[str]:
        """Return those of these keys whose pages are written, as the links of the page show it."""
        return self._find_written(keys)

    def local_path(self, address: str) -> str | None:
        """Return the path of an ``href`` in generated text, or None if it leads outside this app.

        A bare name such as ``<a href="Great Auk">`` leads to the same page as ``[[Great Auk]]``.
        """
        if address not in self._paths:
            self._paths[address] = self._local_path(unsigned(address.strip(" ")))
        return self._paths[address]

    def _local_path(self, address: str) -> str | None:
        path = page_path(address, url_of_key(self.page))
        if path is not None and self._key_for and address and not set("/?#") & set(address):
            return self.key_for(unquote(address))
        return self._page(path)

    def _page(self, path: str | None) -> str | None:
        """Return the path that a path leads to, or None if it is one of the framework's."""
        is_reserved = path is not None and unquote(re.split("[?#]", path, maxsplit=1)[0]) in self._no_pages
        return None if is_reserved or path is None else self._resolve(path)


def find_anchors(html: str, root_path: str = "") -> list[Link]:
    """Return the links of rendered HTML, the first of each target, in order: at most ``MAX_LINKS``."""
    parts: list[str] = []
    length = 0
    found: dict[str, tuple[int, int]] = {}  # key: where the link's text is
    key, start = "", 0  # the open link
    for text, tag in _split_tags(html):
        parts.append(text)
        length += len(text)
        if tag is not None and tag[2].lower() == "a":
            if key and key not in found and len(found) < MAX_LINKS:
                found[key] = (start, min(length, start + MAX_TEXT))
            href = None if tag[1] else _HREF.search(tag[3])
            key, start = unsigned(unescape_line(href[1]).removeprefix(root_path)) if href else "", length
    whole = "".join(parts)
    return [
        Link(key, " ".join(whole[start:end].split()), _sentence_around(whole, start, end))
        for key, (start, end) in found.items()
    ]


def html_to_text(html: str) -> str:
    """Return the text of rendered HTML, with line breaks between blocks."""
    return "".join(text for text, _ in _split_tags(html))


def _split_tags(html: str) -> Iterator[tuple[str, re.Match[str] | None]]:
    """Yield each piece of text with the tag after it. A block's tag is a line break in the text before it."""
    position = 0
    for tag in _TAG.finditer(html):
        text = unescape_line(html[position : tag.start()])
        yield text if tag[2].lower() in _INLINE_TAGS else text + "\n", tag
        position = tag.end()
    yield unescape_line(html[position:]), None


def unescape_line(html: str) -> str:
    """Return the text of a piece of HTML without tags, in one line."""
    with contextlib.suppress(ValueError):  # a reference to a character with thousands of digits
        html = unescape(html)
    return remove_controls(html.replace("\n", " "))


def plain_text(text: str) -> str:
    """Return Markdown as plain text on one line, without link brackets and markup: for prompts and snippets."""
    text = WIKI_LINK.sub(lambda match: match[2] or match[1], text)
    text = _LINE_MARKUP.sub(" ", _IMAGE_OR_LINK.sub(r"\1", text))
    return " ".join(_EMPHASIS.sub("", _MARKUP.sub("", text)).split())


def title_spellings(title: str) -> list[str]:
    """Return a title in lower case, and then its possible singular forms in English."""
    folded = " ".join(unicodedata.normalize("NFC", title).replace("_", " ").casefold().split())
    spellings = [folded]
    if len(folded) > 3 and folded.endswith("s") and not folded.endswith("ss"):
        spellings.append(folded[:-1])
        if folded.endswith("ies"):
            spellings.append(folded[:-3] + "y")
        elif folded.endswith("es"):
            spellings.append(folded[:-2])
    return spellings


def title_from_key(key: str) -> str:
    """Return a readable title for a key: its last segment, decoded, with spaces."""
    last = url_of_key(key).partition("?")[0].rstrip("/").rsplit("/", 1)[-1]
    return remove_controls(unquote(last)).replace("_", " ") or "Front page"


def _sentence_around(text: str, start: int, end: int, reach: int = 300) -> str:
    before = _SENTENCE_BREAK.split(text[max(0, start - reach) : start])[-1]
    after = _SENTENCE_BREAK.split(text[end : end + reach])[0]
    return " ".join((before + text[start:end] + after).split())
