"""The text around pages is in the language of the page, and that of framework pages in the language of the app."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Annotated

import pytest
from annotated_types import MinLen
from tests.localization.catalogs import load
from tests.localization.test_catalogs import ShownTexts

from unwritten import App, Canvas, Page
from unwritten.core.errors import BadApp, Denied
from unwritten.core.localization import gettext_lazy as _
from unwritten.testing import VisitedPage, Visitor

PARTS = re.compile(r"%\(\w+\)s|<[^<>]*>")


def make_german(folder: Path | None = None, language: str = "de") -> App:
    app = App("Wiki", language=language, folder=folder)

    @app.page("/wiki/{title}")
    def article(title: str) -> Page:
        return Page(body=Canvas("Ein Artikel."), title=title)

    @app.page("/fr/{title}")
    def french(title: str) -> Page:
        return Page(body=Canvas("Un article."), title=title, lang="fr")

    @app.page("/number/{number}")
    def number(number: int) -> str:
        return "Eine Zahl."

    @app.page("/sized/{title}")
    def denied(title: str) -> str:
        raise Denied(_("This page is not written here."))

    @app.action("/wish")
    def wish(text: Annotated[str, MinLen(3)]) -> None: ...

    return app


def english_in(page: VisitedPage, language: str = "de") -> set[str]:
    """Return English texts of the catalog that a page shows."""
    shown = [
        " ".join(text.split()) for text in ShownTexts(re.sub(r"<script.*?</script>", "", page.html, flags=re.S)).texts
    ]
    found = set()
    for message in load(language):
        ids, strings = (
            (texts,) if isinstance(texts, str) else tuple(texts or ()) for texts in (message.id, message.string)
        )
        translated = {part.strip() for text in strings for part in PARTS.split(text)}
        for part in {part.strip() for text in ids for part in PARTS.split(text)} - translated:
            if (len(part.split()) > 2 and any(part in text for text in shown)) or (len(part) > 2 and part in shown):
                found.add(part)
    return found


def test_pages_of_a_german_app_are_german(tmp_path: Path) -> None:
    with Visitor(make_german(), {"": "Inhalt."}) as visitor:
        visitor.visit("/wiki/Tee")
        edit = {"page": "/wiki/Tee", "region": "body", "base": "1", "means": "by hand", "text": "Neu.", "note": ""}
        assert english_in(visitor.send("post", "/_unwritten/edit", edit)) == set()
        restore = {"page": "/wiki/Tee", "version": "1", "base": "2"}
        assert "Aus Version 1 wiederhergestellt" in visitor.send("post", "/_unwritten/restore", restore).html
        conflict = visitor.send("post", "/_unwritten/edit", edit | {"text": "Anders.", "base": "2"})
        assert "Jemand anderes hat diesen Teil geändert" in conflict.text
        pages = {
            path: visitor.visit(path)
            for path in (
                "/wiki/Tee",
                "/wiki/Tee?version=1",
                "/_unwritten/edit?page=/wiki/Tee",
                "/_unwritten/history?page=/wiki/Tee",
                "/_unwritten/history?page=/wiki/Tee&from=1&to=2",
                "/_unwritten/history?page=/wiki/Tee&from=1",
                "/nirgends",
                "/number/x",
                "/wiki/" + "x" * 500,
                "/wiki/%FF",
                "/sized/x",
                "/_unwritten/edit?page=/wiki/Kaffee",
            )
        }
        pages["conflict"] = conflict
        pages["csrf"] = visitor.send("post", "/wish", {"text": "x"})
    for path, page in pages.items():
        assert english_in(page) == set(), path
        assert '<html lang="de" dir="ltr">' in page.html, path
    assert pages["/nirgends"].heading == "Seite nicht gefunden"
    assert "„x“ ist kein gültiger Wert für „number“. Bitte eine ganze Zahl." in pages["/number/x"].text
    assert "Diese Seite wird hier nicht geschrieben." in pages["/sized/x"].text
    assert "Dies ist Version 1 von 3. Sie wurde am" in " ".join(pages["/wiki/Tee?version=1"].text.split())


def test_english_is_found() -> None:
    """The check above fails on an English page."""
    with Visitor(make_german(language="en"), {"": "Inhalt."}) as visitor:
        assert {"History", "Edit", "Regenerate", "Skip to content"} <= english_in(visitor.visit("/wiki/Tee"))


def test_an_unwritten_page_is_in_its_language() -> None:
    with Visitor(make_german(), {"": "Inhalt."}, signed_links="on", host="0.0.0.0") as visitor:
        page = visitor.visit("/wiki/Tee")
        assert "Diese Seite ist noch nicht geschrieben." in page.text and english_in(page) == set()
        assert "Cette page n’a pas encore été écrite." in visitor.visit("/fr/The").text


def test_the_language_of_a_page_decides() -> None:
    with Visitor(make_german(), {"": "Contenu."}) as visitor:
        page = visitor.visit("/fr/The")
        assert "Historique" in page.html and "Verlauf" not in page.html and '<html lang="fr"' in page.html
        history = visitor.visit("/_unwritten/history?page=/fr/The")
        assert history.title.startswith("Historique") and '<html lang="fr"' in history.html
        script = re.search(r'src="([^"]+)" nonce="[^"]+" id="unwritten-texts"', page.html)
        assert script is not None
        response = visitor.visit(unescape(script[1]))
        assert '"tryAgain":"Réessayer"' in response.html and "immutable" in response.headers["cache-control"]
        response = visitor.visit("/_unwritten/texts.js?lang=ar&v=old")
        assert '"tryAgain":"إعادة المحاولة"' in response.html and response.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("language", "word"),
    [("ar", "السجل"), ("es-MX", "Historial"), ("de_AT", "Verlauf"), ("it", "History")],
)
def test_regions_fall_back_to_their_language_and_others_to_english(language: str, word: str) -> None:
    with Visitor(make_german(language=language), {"": "x"}) as visitor:
        page = visitor.visit("/wiki/Tee")
        assert word in page.html
        assert f'dir="{"rtl" if language == "ar" else "ltr"}"' in page.html


# -- an author's own catalogs -----------------------------------------------------------------------------------

PO = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n\nmsgid "{}"\nmsgstr "{}"\n'


def write_catalog(folder: Path, language: str, source: str) -> None:
    path = folder / "locale" / language / "LC_MESSAGES" / "messages.po"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")


def test_authors_add_texts_and_override_those_of_the_framework(tmp_path: Path) -> None:
    write_catalog(
        tmp_path, "de", PO.format("History", "Chronik") + '\nmsgid "Hello %(name)s"\nmsgstr "Hallo %(name)s"\n'
    )
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "page.html").write_text(
        '{% extends "layout.html" %}{% block main %}<p>{% trans name=page.title %}Hello {{ name }}{% endtrans %}'
        "</p>{% block body %}{{ body }}{% endblock %}{% endblock %}"
    )
    with Visitor(make_german(tmp_path), {"": "x"}) as visitor:
        text = visitor.visit("/wiki/Tee%20%3Cb%3E").html
        assert "Hallo Tee &lt;b&gt;" in text and "Chronik" in text and "Verlauf" not in text and "Bearbeiten" in text


def test_english_texts_can_be_overridden(tmp_path: Path) -> None:
    write_catalog(tmp_path, "en", PO.format("History", "Chronicle"))
    with Visitor(make_german(tmp_path, "en-GB"), {"": "x"}) as visitor:
        assert "Chronicle" in visitor.visit("/wiki/Tee").html


def test_a_translation_with_other_values_is_english(tmp_path: Path) -> None:
    write_catalog(tmp_path, "de", PO.format("%(app)s has no page at %(path)s.", "%(wrong)s"))
    with Visitor(make_german(tmp_path), {"": "x"}) as visitor:
        assert "Wiki has no page at /nirgends." in visitor.visit("/nirgends").text


def test_a_catalog_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    write_catalog(tmp_path, "de", 'msgid "a"\nnonsense\n')
    with pytest.raises(BadApp, match=r"The catalog .*messages.po cannot be read"):
        make_german(tmp_path).localization.get()
