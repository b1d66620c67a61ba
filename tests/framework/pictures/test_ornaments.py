"""Ornaments: the same for a text always, small, well-formed, and made of shapes with classes."""

from __future__ import annotations

import hashlib
import re
from xml.etree import ElementTree

import pytest

from unwritten.core.assets import asset_dir
from unwritten.pictures.ornaments import PATTERNS, ornament, standalone_ornament
from unwritten.pictures.seeded_random import HUES

TEXTS = [f"{word} {number}" for word in ("Lighthouse", "塩", "") for number in range(120)]


def test_unicode_normalization_and_case_do_not_matter() -> None:
    assert ornament("Café") == ornament("CAFE\u0301")
    assert ornament("Tea") != ornament("Tea ")


def test_ornaments_never_change() -> None:
    # If this fails, every stored page looks different from now on.
    drawn = "".join(ornament(text) for text in ("Lighthouse", "Tea", "塩", ""))
    assert hashlib.sha256(drawn.encode()).hexdigest()[:16] == "6ee697c75d47e80b"


def test_texts_have_different_ornaments_of_all_kinds() -> None:
    drawn = {ornament(text) for text in TEXTS}
    assert len(drawn) == len(set(TEXTS))
    assert {re.search(r"hue-(\d+)", svg)[1] for svg in drawn} == {str(hue) for hue in range(HUES)}  # type: ignore[index]
    assert len(PATTERNS) == 11


@pytest.mark.parametrize("part", range(4))
def test_ornaments_are_small_and_well_formed(part: int) -> None:
    for text in TEXTS[part::4]:
        svg = ornament(text)
        assert len(svg.encode()) <= 4096, text
        root = ElementTree.fromstring(svg)
        for element in root.iter():
            assert element.tag in {"svg", "g", "path", "circle"}
            assert not {"id", "style", "fill", "stroke"} & set(element.attrib)


def test_the_style_sheet_has_all_classes() -> None:
    css = (asset_dir("static") / "unwritten.css").read_text(encoding="utf-8")
    used = {
        name for text in TEXTS for names in re.findall(r'class="([^"]*)"', ornament(text)) for name in names.split()
    }
    assert {name for name in used if f".{name}" not in css} == set()


def test_a_standalone_ornament_has_the_rules_of_the_style_sheet() -> None:
    svg = standalone_ornament("Tea", 100, 100).decode()
    ElementTree.fromstring(svg)
    assert ".ornament .t3" in svg and "oklch" in svg and len(svg) < 12_000


def test_a_label_is_escaped() -> None:
    svg = ornament("Tea", 'A "cup" <script>alert(1)</script>')
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label") == 'A "cup" <script>alert(1)</script>' and root.get("role") == "img"
    assert "<script" not in svg
    assert 'aria-hidden="true"' in ornament("Tea") and "aria-label" not in ornament("Tea")


@pytest.mark.parametrize("text", ["", "\ud800", "<svg onload=x>", "a" * 100_000, "\0"])
def test_hostile_texts_are_only_seeds(text: str) -> None:
    svg = ornament(text)
    ElementTree.fromstring(svg)
    assert "onload" not in svg
