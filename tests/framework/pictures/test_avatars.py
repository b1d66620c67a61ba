"""Avatars: one face for each name."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from tests.support.apps import browser, make_app, templates

from unwritten import Page
from unwritten.core.assets import asset_dir
from unwritten.pictures.avatars import avatar
from unwritten_engine import scripted

NAMES = [f"Ada {number}" for number in range(300)]


def test_a_name_always_has_the_same_face() -> None:
    assert avatar("Ada Holm") == avatar("ADA holm")
    assert len({avatar(name) for name in NAMES}) == len(NAMES)


def test_faces_are_small_well_formed_and_hidden_from_screen_readers() -> None:
    css = (asset_dir("static") / "unwritten.css").read_text(encoding="utf-8")
    for name in [*NAMES, "", '"><script>', "\ud800", "x" * 10_000]:
        svg = avatar(name)
        root = ElementTree.fromstring(svg)
        assert len(svg.encode()) <= 1600 and root.get("aria-hidden") == "true" and "script" not in svg
        assert not any({"id", "style"} & set(element.attrib) for element in root.iter())
        for names in re.findall(r'class="([^"]*)"', svg):
            assert all(f".{name}" in css for name in names.split())


def test_templates_can_use_avatars_and_ornaments(tmp_path: Path) -> None:
    probe = '{% extends "layout.html" %}{% block main %}{{ ornament("Tea", "<b>") }}{{ avatar("Ada") }}{% endblock %}'
    app = make_app(tmp_path, scripted("Text."), folder=templates(tmp_path, probe=probe))

    @app.page("/")
    def front() -> Page:
        return Page("probe.html", title="Front")

    with browser(app) as client:
        page = client.get("/").text
    assert 'aria-label="&lt;b&gt;"' in page and avatar("Ada") in page
