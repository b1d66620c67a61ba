"""Texts for visitors: English as strings, translated where they are shown."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime

import pytest

from unwritten.core.errors import BadURL
from unwritten.core.localization import Localization, Text, join, pack_text, unpack_text
from unwritten.core.localization import gettext_lazy as _
from unwritten.core.localization import ngettext_lazy as _n

GERMAN = Localization("de").get()
ARABIC = Localization("ar").get()
AT = datetime(2026, 3, 3, 14, 5, tzinfo=UTC)


def test_an_error_keeps_its_text() -> None:
    error = BadURL(_("You may not read this page."), 403)
    assert str(error) == f"{error}" == "You may not read this page."
    assert GERMAN.text(str(error)) == "Diese Seite darf nicht gelesen werden."
    assert GERMAN.text("You may not read this page.") == "You may not read this page.", "an author's own text"


def test_values_are_filled_in_after_translation() -> None:
    text = _("The text has %(num)s characters. Up to %(limit)s are allowed.", num=1234567, limit="50%")
    assert text == "The text has 1,234,567 characters. Up to 50% are allowed."
    assert GERMAN.text(text) == "Der Text hat 1.234.567 Zeichen. Höchstens 50% sind erlaubt."


def test_texts_depend_on_numbers() -> None:
    waiting = [
        _n("%(num)s page is written before this one.", "%(num)s pages are written before this one.", num)
        for num in (1, 2, 3, 11)
    ]
    assert waiting[0] == "1 page is written before this one." and waiting[3].startswith("11 pages")
    assert GERMAN.text(waiting[0]).startswith("1 Seite wird") and GERMAN.text(waiting[1]).startswith("2 Seiten werden")
    assert len({ARABIC.text(text).replace("3", "").replace("11", "") for text in waiting}) == 4


def test_texts_can_be_joined_and_sent_to_other_processes() -> None:
    inner = _("The last attempt failed: %(reason)s", reason=_("Not saved yet."))
    text = join(inner, "Own text.", _n("Try again in about %(num)s second.", "Try again in about %(num)s seconds.", 5))
    assert text == "The last attempt failed: Not saved yet. Own text. Try again in about 5 seconds."
    german = "Der letzte Versuch ist fehlgeschlagen: Noch nicht gespeichert. Own text. Bitte in etwa 5 Sekunden"
    for copy in (text, unpack_text(json.loads(json.dumps(pack_text(text)))), pickle.loads(pickle.dumps(text))):
        assert isinstance(copy, Text) and copy == text and GERMAN.text(copy).startswith(german)
    assert unpack_text(pack_text("plain")) == "plain"


@pytest.mark.parametrize(
    ("language", "date", "number", "duration"),
    [
        ("en", "3 March 2026, 14:05", "1,234.5", "2 hours"),
        ("en-US", "March 3, 2026, 2:05\u202fPM", "1,234.5", "2 hours"),
        ("de-AT", "3. März 2026, 14:05", "1.234,5", "2 Stunden"),
        ("ar", "3 مارس 2026، 2:05 م", "1,234.5", "ساعتان"),
        ("klingon-x", "3 March 2026, 14:05", "1,234.5", "2 hours"),
        ("../..", "3 March 2026, 14:05", "1,234.5", "2 hours"),
    ],
)
def test_dates_and_numbers_are_those_of_the_language(language: str, date: str, number: str, duration: str) -> None:
    found = Localization(language).get()
    assert found.format_datetime(AT).replace("2:05 PM", "2:05\u202fPM") == date
    assert found.format_number(1234.5, 1).replace("\u00a0", ".") == number
    assert found.format_duration(9000) == duration


def test_values_are_isolated_in_right_to_left_texts() -> None:
    text = _("%(app)s has no page at %(path)s.", app="Wiki", path="/nix")
    assert "\u2068/nix\u2069" in ARABIC.text(text) and "\u2068" not in GERMAN.text(text) + text
