"""Links to the edit page."""

from __future__ import annotations

from pathlib import Path

from tests.support.apps import templates

from unwritten import App, Canvas, Page
from unwritten.core.localization import Language
from unwritten.editing.links import edit_link, edit_path, region_label
from unwritten.testing import Visitor

ENGLISH = Language("en", None)

NOTE = """{% extends "layout.html" %}
{% block main %}{% block lead %}{{ lead }}{% endblock %}{{ edit_link("lead") }}{% endblock %}"""


def note(tmp_path: Path) -> App:
    app = App("Notes", folder=templates(tmp_path, note=NOTE))

    @app.page("/note/{title}")
    def one(title: str) -> Page:
        return Page("note.html", lead=Canvas(f"About {title}."))

    return app


def test_a_link_opens_one_region_or_the_whole_page() -> None:
    assert edit_path("/wiki/A&B", "lead") == "/_unwritten/edit?page=%2Fwiki%2FA%26B&region=lead"
    assert edit_link(ENGLISH, "/base", "/a").endswith('href="/base/_unwritten/edit?page=%2Fa">Edit</a>')
    link = edit_link(ENGLISH, "", "/a", "known-for")
    assert 'data-edit-link="known-for"' in link and "region=known-for" in link and " Known for</span>" in link
    assert region_label("see_also-2") == "See also 2"


def test_the_link_leads_to_the_forms_of_its_region(tmp_path: Path) -> None:
    page = Visitor(note(tmp_path)).visit("/note/Tea").click("Edit Lead")
    assert page.status == 200 and "Save" in page.html


def test_there_are_no_links_if_visitors_may_not_edit(tmp_path: Path) -> None:
    visitor = Visitor(note(tmp_path), edits="off")
    assert "data-edit-link" not in visitor.visit("/note/Tea").html
