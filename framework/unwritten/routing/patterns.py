"""Path patterns of pages: convert URLs as visitors type them to the canonical keys under which pages are stored.

A parameter such as ``{title}`` is text: underscores are spaces, so that ``/wiki/Great_Auk`` is the page "Great Auk".
A parameter such as ``{name:raw}`` is not changed. All spellings of a URL lead to one key.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from starlette.convertors import (
    CONVERTOR_TYPES,
    Convertor,
    FloatConvertor,
    IntegerConvertor,
    PathConvertor,
    StringConvertor,
    register_url_convertor,
)
from starlette.routing import PARAM_REGEX, compile_path

from unwritten_engine.errors import suggestion

from ..core.bidi import remove_controls
from ..core.errors import BadApp, BadURL
from ..core.localization import gettext_lazy as _
from ..core.paths import ENCODED_SLASH, page_key

MAX_PARAMETER_LENGTH = 120
"""Maximum length of a URL parameter, which becomes part of a prompt. Longer ones are refused."""

MAX_TITLE_LENGTH = 300
"""Maximum length of a page's title. A longer one is cut."""

_UNQUOTED = "!$'()*,:@;-._~"
"""Characters that are not percent-encoded in a key: they are readable, and have no special meaning in a path."""

_HIDDEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs"})
"""Unicode categories of characters that are invisible or change the direction of text. They are removed."""

_JOINERS = "\u200c\u200d"
"""Invisible characters that some scripts need. They are not removed."""

_NOT_UTF8 = _("This URL is not valid text: its percent-encoding is not UTF-8.")


class RawConvertor(StringConvertor):
    """``{name:raw}``: one path segment, kept as it is. Underscores stay underscores."""


register_url_convertor("raw", RawConvertor())


def decode_text(value: str, limit: int = MAX_PARAMETER_LENGTH) -> str:
    """Return a text parameter of a URL as text: underscores become spaces; see ``single_line`` for the rest.

    Raises:
        BadURL: If nothing is left of it, it is not valid UTF-8, or it has more than ``limit`` characters.
    """
    return _not_empty(single_line(value.replace(ENCODED_SLASH, "/").replace("_", " "), limit))


def single_line(value: str, limit: int = MAX_PARAMETER_LENGTH) -> str:
    """Return text from a URL on one line: normalized, without invisible characters. It may be empty.

    Raises:
        BadURL: If it is not valid UTF-8, or has more than ``limit`` characters.
    """
    text = value
    if not (text.isascii() and text.isprintable()):
        if "\ufffd" in text:
            raise BadURL(_NOT_UTF8)
        text = unicodedata.normalize("NFC", text)
        text = "".join(c for c in text if c in _JOINERS or c.isspace() or unicodedata.category(c) not in _HIDDEN)
    text = " ".join(text.split())
    if len(text) > limit:
        message = _(
            "This name has %(num)s characters. The limit is %(limit)s: try a shorter name.", num=len(text), limit=limit
        )
        raise BadURL(message, 414)
    return text


def _clean_path(value: str, limit: int) -> str:
    """Return a raw or path parameter of a URL as it is, without invisible characters.

    Raises:
        BadURL: If it is not valid UTF-8, has more than ``limit`` characters, or has a part "." or "..".
    """
    if "\ufffd" in value:
        raise BadURL(_NOT_UTF8)
    text = unicodedata.normalize("NFC", value.replace(ENCODED_SLASH, "/"))
    text = "".join(c for c in text if c in _JOINERS or unicodedata.category(c) not in _HIDDEN)
    if any(part in {".", ".."} for part in text.split("/")):
        raise BadURL(_('This URL has a part "." or "..", which is not allowed. Type it without.'), 404)
    if len(text) > limit:
        message = _("This URL has %(num)s characters. The limit is %(limit)s.", num=len(text), limit=limit)
        raise BadURL(message, 414)
    return text


def _not_empty(text: str) -> str:
    if not text.strip("." + _JOINERS + " /\\"):
        raise BadURL(_("This URL has no name. Put a few words where the name belongs."), 404)
    return text


class PagePattern:
    """The path pattern of a page, such as ``/wiki/{title}``: reads parameters from paths, and builds paths from them.

    Args:
        path: The pattern, in Starlette's syntax.
        canonical: Applied to every text parameter, so that several spellings lead to one page.

    Raises:
        BadApp: See ``check_pattern``.
    """

    def __init__(self, path: str, canonical: Callable[[str], str] | None = None) -> None:
        check_pattern(path)
        self.path = path
        self._regex, self._format, self._convertors = compile_path(path)
        self._canonical = canonical

    @property
    def parameters(self) -> Mapping[str, Convertor[Any]]:
        """The parameters by name."""
        return self._convertors

    def is_text(self, name: str) -> bool:
        """True if a parameter is text, and not a number, a path or raw."""
        convertor = self._convertors[name]
        return isinstance(convertor, StringConvertor) and not isinstance(convertor, RawConvertor)

    def is_raw(self, name: str) -> bool:
        """True if a parameter is raw: ``{name:raw}``."""
        return isinstance(self._convertors[name], RawConvertor)

    def parse(self, values: Mapping[str, Any], limit: int = MAX_PARAMETER_LENGTH) -> dict[str, Any]:
        """Return parameters in their canonical form. Texts may be given as numbers, dates or anything with a ``str``.

        Args:
            values: The parameters by name, as Starlette has matched them, or as an author gives them.
            limit: The largest number of characters of a text.

        Raises:
            BadURL: If no page can have them: one is empty, too long, or not valid UTF-8.
        """
        return {name: self._parse_value(name, value, limit) for name, value in values.items()}

    def _parse_value(self, name: str, value: Any, limit: int) -> Any:
        if value is None:
            message = f"The parameter {name!r} is None."  # for the author, who has asked for the URL
            raise BadURL(message, 404)
        convertor = self._convertors[name]
        if isinstance(convertor, RawConvertor):
            return _not_empty(_clean_path(str(value), limit))
        if isinstance(convertor, StringConvertor):
            text = decode_text(str(value), limit)
            return _not_empty(self._canonical(text)) if self._canonical else text
        if isinstance(value, str) or isinstance(convertor, PathConvertor):
            return _clean_path(str(value), limit)
        return value

    @property
    def is_constant(self) -> bool:
        """True if a path always leads to the same key, because the pattern has no ``canonical`` function."""
        return self._canonical is None

    def parse_request(self, path_params: Mapping[str, Any]) -> dict[str, Any]:
        """Parse the parameters of a request. Those of an outer ``Mount`` are left out."""
        return self.parse({name: path_params[name] for name in self._convertors})

    def build(self, values: Mapping[str, Any]) -> str:
        """Return the path for parameters in their canonical form; see ``parse``.

        Raises:
            BadURL: If a value does not fit the pattern, such as a word where a number belongs, or no page can be there.
        """
        path = self._format
        for name, convertor in self._convertors.items():
            path = path.replace("{" + name + "}", _quote(name, convertor, values[name]))
        key = page_key("/" + path.lstrip("/"))  # two slashes at the start would name another server
        if key is None:
            raise BadURL(_("No page can be at this URL."), 404)
        return key

    def link(
        self, title: str, limit: int = MAX_PARAMETER_LENGTH, known: Mapping[str, Any] = MappingProxyType({})
    ) -> str | None:
        """Return the path of the page that ``[[title]]`` leads to, or None if no page can have the title.

        The title is the last parameter, which must be text, raw or a path. The others are taken from ``known``.

        Args:
            title: The title.
            limit: The largest number of characters of a text.
            known: The parameters of the page with the link, by name.
        """
        if self.link_problem(known):
            return None
        *others, last = self._convertors
        try:
            text = title if self.is_raw(last) else decode_text(title, limit)
            return self.build(self.parse({**{name: known[name] for name in others}, last: text}, limit))
        except BadURL:
            return None

    def link_problem(self, known: Mapping[str, Any] = MappingProxyType({})) -> str:
        """Return why a page with these parameters cannot link with titles to this pattern. Empty if it can."""
        if not self._convertors:
            return f"{self.path!r} has no parameter for the title"
        *others, last = self._convertors
        if not isinstance(self._convertors[last], (StringConvertor, PathConvertor)):
            return f"the last parameter of {self.path!r}, {last!r}, takes no text"
        missing = [name for name in others if name not in known]
        if missing:
            return f"the page has no parameter {' or '.join(map(repr, missing))} for {self.path!r}"
        return ""

    def with_prefix(self, prefix: str) -> PagePattern:
        """Return the same pattern below a prefix."""
        return PagePattern(prefix + self.path, self._canonical)

    def with_canonical_of(self, other: PagePattern) -> PagePattern:
        """Return the same pattern with the ``canonical`` function of another one, to which its links lead."""
        return PagePattern(self.path, other._canonical)

    def leads_to(self, other: PagePattern) -> bool:
        """True if a link built from this pattern can match the other pattern."""
        path = self._format
        for name, convertor in self._convertors.items():
            sample = "1" if isinstance(convertor, (IntegerConvertor, FloatConvertor)) else "Sample"
            path = path.replace("{" + name + "}", sample)
        return bool(other._regex.match(path))


def check_pattern(path: object) -> None:
    """Check a path pattern in Starlette's syntax, which ``compile_path`` accepts or rejects without a hint.

    Raises:
        BadApp: If it is not one, or could match no request. The message says what to write.
    """
    if not isinstance(path, str):
        raise BadApp(f"A path pattern is a text such as '/wiki/{{title}}', not {path!r}.")
    if not path.startswith("/"):
        raise BadApp(f"The path pattern {path!r} must begin with a slash: {'/' + path!r}.")
    names: set[str] = set()
    for name, kind in PARAM_REGEX.findall(path):
        if name in names:
            raise BadApp(f"The path pattern {path!r} has two parameters {name!r}. Rename one of them.")
        if kind and kind[1:] not in CONVERTOR_TYPES:
            raise BadApp(
                f"The parameter {{{name}{kind}}} of the path pattern {path!r} has an unknown type."
                f"{suggestion(kind[1:], CONVERTOR_TYPES)}"
            )
        names.add(name)
    text = PARAM_REGEX.sub("", path)
    if "{" in text or "}" in text:
        raise BadApp(
            f"The braces in the path pattern {path!r} hold no parameter. Write {{name}} or {{name:type}}, and a name "
            "without spaces or hyphens."
        )
    if "<" in text or ">" in text:
        raise BadApp(f"The path pattern {path!r} has angle brackets. Write a parameter as {{name}} or {{name:type}}.")
    if "?" in text or "#" in text:
        raise BadApp(
            f"The path pattern {path!r} has a query or a fragment, so it can match no path. Remove it: parameters of "
            "the function that are not in the path come from the query or the form."
        )


def _quote(name: str, convertor: Convertor[Any], value: Any) -> str:
    """Return a parameter as part of a path.

    Raises:
        BadURL: If the convertor does not accept it.
    """
    if isinstance(convertor, RawConvertor):
        return quote(str(value), safe=_UNQUOTED)
    if isinstance(convertor, StringConvertor):
        return quote(str(value).replace(" ", "_"), safe=_UNQUOTED)
    if isinstance(convertor, PathConvertor):
        return quote(str(value), safe=_UNQUOTED + "/")
    try:
        text = convertor.to_string(convertor.convert(value) if isinstance(value, str) else value)
        if not re.fullmatch(convertor.regex, text):
            raise ValueError
    except (AssertionError, TypeError, ValueError):
        raise BadURL(_("'%(value)s' is not a valid '%(name)s'.", value=value, name=name), 404) from None
    return quote(text, safe=_UNQUOTED + "/")


def safe_title(title: str) -> str:
    """Return a title that can be displayed: one short line without invisible controls, never empty.

    Brackets that would form links are removed.
    """
    title = " ".join(re.sub(r"[\[\]]{2,}", "", remove_controls(title)).split()) or "Untitled"
    return title if len(title) <= MAX_TITLE_LENGTH else f"{title[: MAX_TITLE_LENGTH - 1]}…"
