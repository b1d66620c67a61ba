"""Regions and pages as templates see them."""

from __future__ import annotations

import pytest
from markupsafe import Markup

from unwritten.generation.region_job import estimate_lines
from unwritten.rendering.regions import PageView, Region, skeleton
from unwritten.storage.records import Provenance


class Facts:
    kind = "tower"


def test_a_region_prints_its_html_or_a_placeholder_before_the_first_frame() -> None:
    assert str(Region("lead", lines=2)) == '<div class="skeleton" aria-hidden="true"><i></i><i></i></div>'
    assert str(Region("lead", state="writing", html=Markup("<p>x</p>"))) == "<p>x</p>"
    assert str(Region("lead", state="failed")) == ""
    assert Markup("{}").format(Region("lead", state="writing", html=Markup("<b>x</b>"))) == "<b>x</b>"


def test_a_region_is_true_if_it_has_text() -> None:
    assert not Region("lead") and Region("lead", text="x")


def test_the_fields_of_a_schema_are_attributes_of_its_region() -> None:
    assert Region("facts", value=Facts()).kind == "tower"
    with pytest.raises(AttributeError):
        _ = Region("facts", value=Facts()).colour
    with pytest.raises(AttributeError):
        _ = Region("facts").kind


def test_the_lines_of_a_placeholder_are_estimated_from_its_tokens() -> None:
    assert [estimate_lines(tokens) for tokens in (1, 90, 256, 10_000)] == [2, 4, 11, 40]
    assert skeleton(3).count("<i></i>") == 3


def test_a_version_is_old_if_there_is_a_newer_one() -> None:
    assert PageView("/x", "X", version=1, versions=2).is_old
    assert not PageView("/x", "X", version=2, versions=2).is_old
    assert not PageView("/x", "X").is_old


def test_tokens_per_second_without_a_time_are_zero() -> None:
    assert Provenance("m", "e", 0, 10, 10, 1, 2.0, "end").tokens_per_second == 5
    assert Provenance("m", "e", 0, 10, 10, 1, 0.0, "end").tokens_per_second == 0
