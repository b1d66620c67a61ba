"""Addresses: between URLs as visitors type them and the canonical keys under which pages are kept.

A parameter such as ``{title}`` is read as words: underscores are spaces, so that ``/wiki/Great_Auk`` is the
page of "Great Auk". The key is always written the same way, whichever way the visitor typed it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from starlette.convertors import (
    Convertor,
    FloatConvertor,
    IntegerConvertor,
    PathConvertor,
    StringConvertor,
    register_url_convertor,
)
from starlette.routing import compile_path

from ..core.errors import BadAddress
from ..core.paths import ENCODED_SLASH

# In a key these stay as they are: they read well in an address bar and mean nothing special in a path.
_READABLE = "!$'()*,:@;-._~"


# Characters that cannot be seen or that turn the text around them: controls, unassigned, private use, and
# format characters but for the two joiners that some scripts need.
_HIDDEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs"})


_JOINERS = "\u200c\u200d"


class RawConvertor(StringConvertor):
    """``{name:raw}``: one path segment, kept as it is. Underscores stay underscores."""


register_url_convertor("raw", RawConvertor())


def decode_words(value: str, limit: int) -> str:
    """Text from a URL as words: normalised, visible, on one line, not longer than ``limit`` characters.

    Raises:
        BadAddress: if nothing is left of it, if it was not valid UTF-8, or if it is too long.
    """
    text = single_line(value.replace(ENCODED_SLASH, "/").replace("_", " "), limit)
    if not text.strip("." + _JOINERS + " /\\"):
        raise BadAddress("This address names nothing. Put a few words where the name belongs.", 404)
    return text


def single_line(value: str, limit: int) -> str:
    """Text from a URL on one line: normalised, visible, not longer than ``limit`` characters. It may be empty.

    Raises:
        BadAddress: if it was not valid UTF-8, or if it is too long.
    """
    if "\ufffd" in value:
        raise BadAddress("This address is not valid text: its percent-encoding is not UTF-8.")
    text = value
    if not (text.isascii() and text.isprintable()):  # plain ASCII needs no second look
        text = unicodedata.normalize("NFC", text)
        text = "".join(c for c in text if c in _JOINERS or c.isspace() or unicodedata.category(c) not in _HIDDEN)
    text = " ".join(text.split())
    if len(text) > limit:
        raise BadAddress(
            f"This name has {len(text)} characters, and pages are written for up to {limit}. Try a shorter one.", 414
        )
    return text


class PagePattern:
    """The path pattern of a page, such as ``/wiki/{title}``, read in both directions.

    Args:
        path: the pattern, in Starlette's syntax.
        canonical: applied to every text parameter, so that different spellings lead to one page.
    """

    def __init__(self, path: str, canonical: Callable[[str], str] | None = None) -> None:
        self.path = path
        self._regex, self._format, self._convertors = compile_path(path)
        self._canonical = canonical

    @property
    def parameters(self) -> Mapping[str, Convertor[Any]]:
        """The parameters by name."""
        return self._convertors

    def is_words(self, name: str) -> bool:
        """Whether a parameter is read as words (and not as a number, or as a path with slashes)."""
        convertor = self._convertors[name]
        return isinstance(convertor, StringConvertor) and not isinstance(convertor, (PathConvertor, RawConvertor))

    def parse(self, values: Mapping[str, Any], limit: int = 120) -> dict[str, Any]:
        """Matched parameters, made canonical.

        Raises:
            BadAddress: see ``words``.
        """
        result: dict[str, Any] = {}
        for name, value in values.items():
            if self.is_words(name):
                result[name] = self._spelling(decode_words(str(value), limit))
            elif isinstance(value, str):
                result[name] = _path(value, limit)
            else:
                result[name] = value
        return result

    def parse_request(self, path_params: Mapping[str, Any], limit: int = 120) -> dict[str, Any]:
        """Parse the parameters of a request. Those of an outer ``Mount`` are left out."""
        return self.parse({name: path_params[name] for name in self._convertors}, limit)

    def build(self, values: Mapping[str, Any]) -> str:
        """Return the canonical path for these parameters. Texts may be given as any type with a ``str``."""
        path = self._format
        for name, convertor in self._convertors.items():
            if self.is_words(name):
                text = quote(self._spelling(str(values[name])).replace(" ", "_"), safe=_READABLE)
            elif isinstance(convertor, RawConvertor):
                text = quote(str(values[name]), safe=_READABLE)
            else:
                text = quote(convertor.to_string(values[name]), safe=_READABLE + "/")
            path = path.replace("{" + name + "}", text)
        # Two slashes at the start would name another server.
        return "/" + path.lstrip("/")

    def link(self, title: str, limit: int = 120) -> str | None:
        """The canonical path of the page that a ``[[title]]`` leads to, or None if none can be.

        Needs a pattern with exactly one parameter that is read as words or as a path.
        """
        if len(self._convertors) != 1:
            return None
        ((name, convertor),) = self._convertors.items()
        if not isinstance(convertor, (StringConvertor, PathConvertor)):
            return None
        try:
            text = decode_words(title, limit)
            return self.build({name: text if self.is_words(name) else _path(text, limit)})
        except BadAddress:
            return None

    def leads_to(self, other: PagePattern) -> bool:
        """True if a link built from this pattern can match the other pattern."""
        sample = {
            name: "1" if isinstance(convertor, (IntegerConvertor, FloatConvertor)) else "Sample"
            for name, convertor in self._convertors.items()
        }
        path = self._format
        for name, text in sample.items():
            path = path.replace("{" + name + "}", text)
        return bool(other._regex.match(path))

    def _spelling(self, text: str) -> str:
        return self._canonical(text) if self._canonical else text


def _path(value: str, limit: int) -> str:
    """A parameter that may hold slashes (``{path:path}``): kept as it is, but for what cannot be a page."""
    if "\ufffd" in value:
        raise BadAddress("This address is not valid text: its percent-encoding is not UTF-8.")
    text = unicodedata.normalize("NFC", value.replace(ENCODED_SLASH, "/"))
    text = "".join(c for c in text if c in _JOINERS or unicodedata.category(c) not in _HIDDEN)
    if any(part in {".", ".."} for part in text.split("/")):
        raise BadAddress("This address climbs out of its folder with dots. Type it without them.", 404)
    if len(text) > limit:
        raise BadAddress(f"This address has {len(text)} characters, and pages are written for up to {limit}.", 414)
    return text


def safe_title(title: str) -> str:
    """A title for people: without the brackets that make links, never empty."""
    return re.sub(r"\s+", " ", re.sub(r"[\[\]]{2,}", "", title)).strip() or "Untitled"
