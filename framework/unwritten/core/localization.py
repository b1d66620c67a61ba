"""Localization: translate the texts that visitors see, and format dates and numbers in the language of a page.

A text that is raised or passed on, such as the message of an error, is a ``Text``: English as a string, and translated
where it is shown. Texts for developers (log, command line, developer tools) are plain English strings.

The translations are gettext catalogs: ``templates/locale/LANGUAGE/LC_MESSAGES/messages.po``. They are read as they are,
so that nothing has to be compiled. An app's own ``locale`` folder comes first: it can override texts of the framework.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from gettext import GNUTranslations, NullTranslations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .assets import asset_dir
from .errors import BadApp

if TYPE_CHECKING:
    from babel import Locale

CATALOG = Path("LC_MESSAGES", "messages.po")
"""The path of a catalog in the folder of its language."""

DEFAULT_LANGUAGE = "en"
"""The language of the framework's own texts, and of pages in languages without a catalog."""

_TAG = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*")


class Text(str):
    """A text for visitors, which can be translated where it is shown. As a string it is English.

    ``str(error)`` returns the ``Text`` that an error was raised with. Formatting it into another string makes that
    string English; use ``join`` for several sentences.

    Args:
        message: The English text, the key of the catalogs. Values are written as ``%(name)s``.
        plural: The text for other numbers than one. Empty: the text depends on no number.
        values: The values. ``num`` decides between singular and plural. Integers are grouped: pass a string for
            those that are names, such as an identifier.
    """

    message: str
    plural: str
    values: Mapping[str, Any]

    def __new__(cls, message: str, plural: str = "", /, **values: Any) -> Text:  # noqa: D102
        form = plural if plural and values["num"] != 1 else message
        text = super().__new__(cls, form % {name: _in_english(value) for name, value in values.items()})
        text.message, text.plural, text.values = message, plural, values
        return text

    def __str__(self) -> str:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpack, (self.pack(),)

    def pack(self) -> list[Any]:
        """Return what ``unpack_text`` needs, as JSON."""
        values = {name: value.pack() if isinstance(value, Text) else value for name, value in self.values.items()}
        return [self.message, self.plural, values]


def gettext_lazy(message: str, /, **values: Any) -> Text:
    """Return a text for visitors. Import it ``as _``, by which the texts for the catalogs are found."""
    return Text(message, **values)


def ngettext_lazy(singular: str, plural: str, num: float, /, **values: Any) -> Text:
    """Return a text for visitors that depends on a number, ``%(num)s``. Import it ``as _n``."""
    return Text(singular, plural, num=num, **values)


def join(*texts: str) -> Text:
    """Return several sentences as one text."""
    names = [f"text{number}" for number in range(len(texts))]
    return Text(" ".join(f"%({name})s" for name in names), **dict(zip(names, texts, strict=True)))


def pack_text(text: str) -> Any:
    """Return a text as JSON, for another process."""
    return text.pack() if isinstance(text, Text) else text


def unpack_text(packed: Any) -> str:
    """Return the text of ``pack_text``.

    Raises:
        TypeError, ValueError, LookupError: If another version of Unwritten has packed it otherwise.
    """
    return packed if isinstance(packed, str) else _unpack(packed)


def _unpack(packed: Any) -> Text:
    message, plural, values = packed
    return Text(message, plural, **{name: _unpack(v) if isinstance(v, list) else v for name, v in values.items()})


def _in_english(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,g}"


class Language:
    """A language: translates texts, and formats dates and numbers.

    Attributes:
        tag: The language tag of the page, such as ``de-AT``.
    """

    def __init__(self, tag: str, translations: NullTranslations | None) -> None:
        self.tag = tag
        self._translations = translations
        self._locale: Locale | None = None

    @property
    def locale(self) -> Locale:
        """The rules of the language for dates and numbers, from the Unicode CLDR. English for unknown languages."""
        if self._locale is None:
            from babel import Locale, UnknownLocaleError  # takes 0.1 s

            try:
                self._locale = Locale.parse(self.tag.replace("_", "-"), sep="-")
            except (UnknownLocaleError, ValueError):
                self._locale = Locale.parse("en_GB")
            if self._locale.language == "en" and not self._locale.territory:
                self._locale = Locale.parse("en_GB")  # in most countries the day comes first
        return self._locale

    def preload(self) -> None:
        """Load the rules of the language now, in a thread that may take 0.1 s for it."""
        self.format_datetime(datetime.now(UTC))
        self.format_number(0.5, 1)
        self.format_duration(1)

    def gettext(self, message: str) -> str:
        """Return the translation of a text, or the text itself if there is none."""
        return self._translations.gettext(message) if self._translations and message else message

    def ngettext(self, singular: str, plural: str, num: float) -> str:
        """Return the translation of a text for a number."""
        if self._translations is None:
            return singular if num == 1 else plural
        return self._translations.ngettext(singular, plural, math.ceil(num))

    def pgettext(self, context: str, message: str) -> str:
        """Return the translation of a text in a context."""
        return self._translations.pgettext(context, message) if self._translations else message

    def npgettext(self, context: str, singular: str, plural: str, num: int) -> str:
        """Return the translation of a text for a number, in a context."""
        if self._translations is None:
            return singular if num == 1 else plural
        return self._translations.npgettext(context, singular, plural, num)

    def text(self, text: str) -> str:
        """Return a text in this language. Strings that are no ``Text`` are returned unchanged."""
        if not isinstance(text, Text):
            return text
        if text.plural:
            pattern = self.ngettext(text.message, text.plural, text.values["num"])
        else:
            pattern = self.gettext(text.message)
        try:
            return pattern % {name: self._value(value) for name, value in text.values.items()}
        except (KeyError, TypeError, ValueError):  # a translation of the app with other values
            return str.__str__(text)

    def _value(self, value: Any) -> str:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return self.format_number(value)
        if isinstance(value, Text):
            return self.text(value)
        is_right_to_left = self._translations is not None and self.locale.character_order == "right-to-left"
        # Marks isolate the value: a path would otherwise be mixed up with the words around it.
        return f"\u2068{value}\u2069" if is_right_to_left else str(value)

    def format_datetime(self, moment: datetime) -> str:
        """Return a date and time, such as "3 March 2026, 14:05". In UTC, if it has a time zone."""
        from babel.dates import format_date, format_time, get_datetime_format

        moment = moment.astimezone(UTC) if moment.tzinfo else moment
        pattern = str(get_datetime_format("medium", locale=self.locale)).replace("'", "")
        day, time = format_date(moment, "long", self.locale), format_time(moment, "short", locale=self.locale)
        return pattern.replace("{0}", time).replace("{1}", day)

    def format_date(self, moment: datetime) -> str:
        """Return a date, such as "3 March 2026"."""
        from babel.dates import format_date

        return format_date(moment, "long", self.locale)

    def format_duration(self, seconds: float) -> str:
        """Return a duration in its largest unit, such as "5 minutes"."""
        from babel.dates import format_timedelta

        return format_timedelta(timedelta(seconds=seconds), threshold=2, locale=self.locale)

    def format_number(self, number: float, digits: int | None = None) -> str:
        """Return a number, such as "1,234.5".

        Args:
            number: The number.
            digits: The number of digits after the point. None: as many as the number has, up to three.
        """
        from babel.numbers import format_decimal

        pattern = None if digits is None else "#,##0" + ("." + "0" * digits if digits else "")
        return format_decimal(number, pattern, self.locale)


class Localization:
    """The languages of one app.

    Args:
        language: The app's language: that of texts that belong to no page, and of pages without another one.
        folders: The ``locale`` folders of the app and its routers. They come before that of the framework.
    """

    def __init__(self, language: str = DEFAULT_LANGUAGE, folders: Sequence[Path] = ()) -> None:
        self.language = language
        self._folders = [*folders, asset_dir("templates") / "locale"]
        self._languages: dict[str, Language] = {}

    def add(self, folders: Sequence[Path]) -> None:
        """Add the folders of a router, before that of the framework."""
        self._folders[-1:-1] = [folder for folder in folders if folder not in self._folders]
        self.refresh()

    def refresh(self) -> None:
        """Read the catalogs again."""
        self._languages.clear()

    def get(self, tag: str | None = None) -> Language:
        """Return a language. A region falls back to its language (``de-AT`` to ``de``), and others to English.

        Args:
            tag: Its language tag. None: the app's language.

        Raises:
            BadApp: If a catalog of the app is not valid.
        """
        tag = tag or self.language
        language = self._languages.get(tag)
        if language is None:
            language = Language(tag, self._load(tag))
            if len(self._languages) > 1000:  # a page may take its language from a URL
                self._languages.clear()
            self._languages[tag] = language
        return language

    def _load(self, tag: str) -> NullTranslations | None:
        """Return the catalogs of a language, the first of which is asked first."""
        tag = tag.replace("_", "-")
        if not _TAG.fullmatch(tag):
            return None
        parts = tag.split("-")
        tags = ["-".join(parts[:count]) for count in range(len(parts), 0, -1)]
        catalogs = [folder / name / CATALOG for folder in self._folders for name in _folder_names(folder, tags)]
        first = last = None
        for path in catalogs:
            translations = read_catalog(path)
            if last is None:
                first = translations
            else:
                last.add_fallback(translations)
            last = translations
        return first


def _folder_names(folder: Path, tags: list[str]) -> list[str]:
    """Return the languages of a folder that fit these tags, in their order. ``pt_BR`` fits ``pt-br``."""
    names = {
        path.parents[1].name.replace("_", "-").casefold(): path.parents[1].name for path in folder.glob(f"*/{CATALOG}")
    }
    return [names[tag.casefold()] for tag in tags if tag.casefold() in names]


def read_catalog(path: Path) -> NullTranslations:
    """Read a gettext catalog.

    Raises:
        BadApp: If it is not valid.
    """
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import PoFileError, read_po

    try:
        with path.open("rb") as file:
            catalog = read_po(file, abort_invalid=True)
        compiled = io.BytesIO()
        write_mo(compiled, catalog)  # without texts that are not translated, or marked as fuzzy
        compiled.seek(0)
        return GNUTranslations(compiled)
    except (PoFileError, ValueError, LookupError, OSError) as error:
        raise BadApp(f"The catalog {path} cannot be read: {error}.") from error
