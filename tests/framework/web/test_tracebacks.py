"""What an author sees of an error: their own lines, templates as templates, and no frames of ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import Environment, FileSystemLoader
from tests.support.apps import templates

from unwritten.core.errors import BadTemplate
from unwritten.rendering.templates import Templates
from unwritten.web.tracebacks import ErrorReport, error_reports, format_report


def a_fault(work: object, *arguments: object) -> list[ErrorReport]:
    with pytest.raises(Exception) as caught:
        work(*arguments)  # type: ignore[operator]
    return error_reports(caught.value)


def deeper(number: int) -> float:
    return 1 / number


def test_the_line_that_raised_is_shown_with_the_lines_around_it() -> None:
    [fault] = a_fault(deeper, 0)
    place = fault.places[-1]
    assert (fault.kind, fault.message) == ("ZeroDivisionError", "division by zero")
    assert place.file.endswith("test_tracebacks.py") and place.function == "deeper"
    [here] = [line for line in place.lines if line.here]
    assert here.text == "    return 1 / number" and here.number == place.line
    assert any(line.text == "def deeper(number: int) -> float:" for line in place.lines)


def test_a_template_is_shown_as_a_template_and_the_layout_is_left_out(tmp_path: Path) -> None:
    source = '{% extends "layout.html" %}\n{% block main %}\n<p>{{ 1 / nothing }}</p>\n{% endblock %}'
    drawing = Templates(templates(tmp_path, tea=source) / "templates", {})
    fault, *_ = a_fault(drawing.render, "tea.html", {"nothing": 0, "static": str, "app": drawing, "page": drawing})
    assert fault.kind == "ZeroDivisionError"
    [place] = [place for place in fault.places if place.file.endswith(".html")]
    assert place.file.endswith("tea.html") and place.line == 3 and place.function == ""
    assert [line.text for line in place.lines if line.here] == ["<p>{{ 1 / nothing }}</p>"]
    assert not any("layout.html" in place.file or "jinja2" in place.file for place in fault.places)


def test_a_template_that_cannot_be_read_is_shown_where_it_is_wrong(tmp_path: Path) -> None:
    drawing = Templates(templates(tmp_path, tea="<p>\n{% if %}\n</p>") / "templates", {})
    faults = a_fault(drawing.get, "tea.html")
    assert faults[0].kind == "TemplateSyntaxError"
    assert [line.text for line in faults[0].places[-1].lines if line.here] == ["{% if %}"]


def test_a_template_outside_a_page_counts_too(tmp_path: Path) -> None:
    home = templates(tmp_path, tea="<p>\n{{ missing.name }}\n</p>") / "templates"
    [fault] = a_fault(Environment(loader=FileSystemLoader(home), autoescape=True).get_template("tea.html").render)
    assert fault.kind == "UndefinedError" and any(place.file.endswith("tea.html") for place in fault.places)


def test_causes_come_first() -> None:
    def work() -> None:
        try:
            deeper(0)
        except ZeroDivisionError as error:
            raise KeyError("lamp") from error

    first, second = a_fault(work)
    assert (first.kind, second.kind) == ("ZeroDivisionError", "KeyError")
    assert second.places[-1].function == "work"


def test_an_error_without_a_place_is_told_all_the_same() -> None:
    assert error_reports(BadTemplate("There is no template.")) == [
        ErrorReport("BadTemplate", "There is no template.", ())
    ]


def test_a_deep_recursion_is_cut() -> None:
    def down(n: int) -> None:
        down(n + 1)

    [fault] = a_fault(down, 0)
    assert fault.kind == "RecursionError" and len(fault.places) == 12


def test_the_same_as_text() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        deeper(0)
    text = format_report(caught.value)
    assert 'test_tracebacks.py", line' in text and ", in deeper\n    return 1 / number\nZeroDivisionError: div" in text
