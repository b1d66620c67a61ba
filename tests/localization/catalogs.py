"""The catalogs of the framework: extracts the texts for visitors from the source, and updates the translations."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

from babel import Locale
from babel.messages import Catalog, Message
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_file
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).parents[2]

LANGUAGES = ("ar", "de", "es", "fr")
"""The languages of the framework, besides English."""

HOW_TO_UPDATE = "Run `python -m tests.localization`, translate the new texts in templates/locale, and commit the files."

_KEYWORDS = {**DEFAULT_KEYWORDS, "_n": (1, 2)}

_UNUSED_HEADERS = re.compile(
    rb'^"(?:Project-Id-Version|Report-Msgid-Bugs-To|P\w+-\w+-Date|Last-Translator|Language-Team|Generated-By):.*\n',
    re.M,
)
"""Header lines with dates, versions and names, which Git knows better."""

_FOR_DEVELOPERS = {"templates/devtools", "templates/new", "templates/prompts"}


def catalog_path(language: str) -> Path:
    """Return the file with the translations of a language."""
    return ROOT / "templates" / "locale" / language / "LC_MESSAGES" / "messages.po"


def visitor_templates() -> list[Path]:
    """Return the templates that visitors see."""
    found = sorted((ROOT / "templates").rglob("*.html"))
    return [path for path in found if not any(path.is_relative_to(ROOT / folder) for folder in _FOR_DEVELOPERS)]


def python_files() -> list[Path]:
    """Return the source files of the framework."""
    return sorted((ROOT / "framework" / "unwritten").rglob("*.py"))


def _extract() -> Iterator[tuple[Path, int, str | tuple[str, ...], str | None]]:
    sources = [("python", python_files(), {}), ("jinja2.ext:babel_extract", visitor_templates(), _TEMPLATE_OPTIONS)]
    for method, paths, options in sources:
        for path in paths:
            for line, message, _, context in extract_from_file(method, path, _KEYWORDS, options=options):
                yield path.relative_to(ROOT), line, message, context


_TEMPLATE_OPTIONS = {"trimmed": "true", "newstyle_gettext": "true", "silent": "false", "encoding": "utf-8"}


def extract() -> Catalog:
    """Return all texts for visitors in the source."""
    catalog = Catalog(project="Unwritten", charset="utf-8")
    for path, _, message, context in _extract():
        catalog.add(message, locations=[(str(path), 0)], context=context)
    return catalog


def load(language: str) -> Catalog:
    """Return the translations of a language."""
    with catalog_path(language).open("rb") as file:
        return read_po(file, locale=language, abort_invalid=True)


def update(language: str) -> list[Message]:
    """Add new texts to the catalog of a language and remove unused ones. Return the texts without a translation."""
    path, texts = catalog_path(language), extract()
    catalog = load(language) if path.exists() else Catalog(locale=language, project="Unwritten", charset="utf-8")
    catalog.update(texts, no_fuzzy_matching=True, update_creation_date=False)
    catalog.obsolete.clear()
    catalog.header_comment = f"# {Locale.parse(language).english_name} translations for Unwritten."
    catalog.fuzzy = False
    path.parent.mkdir(parents=True, exist_ok=True)
    written = io.BytesIO()
    write_po(written, catalog, width=120, sort_output=True, include_lineno=False)
    path.write_bytes(_UNUSED_HEADERS.sub(b"", written.getvalue()))
    return missing(catalog)


def missing(catalog: Catalog) -> list[Message]:
    """Return the texts of a catalog without a translation."""
    return [message for message in catalog if message.id and not all(strings(message))]


def strings(message: Message) -> tuple[str, ...]:
    """Return the translations of a text: several if it depends on a number."""
    string = message.string
    return (string or "",) if isinstance(string, str | None) else tuple(string)
