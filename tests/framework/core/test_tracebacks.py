"""Error reports: the author's own lines, templates as templates, and no frames of the framework."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment, FileSystemLoader
from tests.support.apps import templates

from unwritten import Canvas, Router
from unwritten.core.errors import BadTemplate
from unwritten.core.tracebacks import ErrorReport, error_reports, format_report, is_logged, log_error
from unwritten.rendering.templates import Templates


def reports_of(work: object, *arguments: object) -> list[ErrorReport]:
    with pytest.raises(Exception) as caught:
        work(*arguments)  # type: ignore[operator]
    return error_reports(caught.value)


def deeper(number: int) -> float:
    return 1 / number


def test_the_line_that_raised_is_shown_with_the_lines_around_it() -> None:
    [report] = reports_of(deeper, 0)
    location = report.locations[-1]
    assert (report.kind, report.message) == ("ZeroDivisionError", "division by zero")
    assert location.file.endswith("test_tracebacks.py") and location.function == "deeper"
    [current] = [line for line in location.lines if line.is_current]
    assert current.text == "    return 1 / number" and current.number == location.line
    assert any(line.text == "def deeper(number: int) -> float:" for line in location.lines)


def test_a_template_is_shown_as_a_template_and_the_layout_is_left_out(tmp_path: Path) -> None:
    source = '{% extends "layout.html" %}\n{% block main %}\n<p>{{ 1 / nothing }}</p>\n{% endblock %}'
    templates_ = Templates(templates(tmp_path, tea=source) / "templates", {})
    report, *_ = reports_of(
        templates_.render,
        "tea.html",
        {"nothing": 0, "lang": "en", "static": str, "app": templates_, "page": templates_},
    )
    assert report.kind == "ZeroDivisionError"
    [location] = [location for location in report.locations if location.file.endswith(".html")]
    assert location.file.endswith("tea.html") and location.line == 3 and location.function == ""
    assert [line.text for line in location.lines if line.is_current] == ["<p>{{ 1 / nothing }}</p>"]
    assert not any("layout.html" in location.file or "jinja2" in location.file for location in report.locations)


def test_a_syntax_error_in_a_template_is_shown_at_its_line(tmp_path: Path) -> None:
    templates_ = Templates(templates(tmp_path, tea="<p>\n{% if %}\n</p>") / "templates", {})
    reports = reports_of(templates_.get, "tea.html")
    assert reports[0].kind == "TemplateSyntaxError"
    assert [line.text for line in reports[0].locations[-1].lines if line.is_current] == ["{% if %}"]


def test_a_template_outside_of_a_page_is_shown_too(tmp_path: Path) -> None:
    home = templates(tmp_path, tea="<p>\n{{ missing.name }}\n</p>") / "templates"
    [report] = reports_of(Environment(loader=FileSystemLoader(home), autoescape=True).get_template("tea.html").render)
    assert report.kind == "UndefinedError" and any(location.file.endswith("tea.html") for location in report.locations)


def test_causes_come_first() -> None:
    def work() -> None:
        try:
            deeper(0)
        except ZeroDivisionError as error:
            raise KeyError("lamp") from error

    first, second = reports_of(work)
    assert (first.kind, second.kind) == ("ZeroDivisionError", "KeyError")
    assert second.locations[-1].function == "work"


def test_an_error_without_a_location_is_reported() -> None:
    assert error_reports(BadTemplate("There is no template.")) == [
        ErrorReport("BadTemplate", "There is no template.", ())
    ]


def test_a_deep_recursion_is_truncated() -> None:
    def down(n: int) -> None:
        down(n + 1)

    [report] = reports_of(down, 0)
    assert report.kind == "RecursionError" and len(report.locations) == 12


def test_errors_outside_of_the_authors_code_are_logged_in_full(caplog: pytest.LogCaptureFixture) -> None:
    error = ValueError("a bug of the framework")
    assert not is_logged(error)
    log_error(logging.getLogger("unwritten"), "Something failed", error)
    assert caplog.records[0].exc_info is not None and caplog.records[0].getMessage() == "Something failed"
    assert is_logged(error)


def test_a_report_as_text() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        deeper(0)
    text = format_report(caught.value)
    assert 'test_tracebacks.py", line' in text and ", in deeper\n    return 1 / number\nZeroDivisionError: div" in text


MISSPELLED: Any = {"schemas": int}


@pytest.mark.parametrize(
    ("call", "hint"),
    [
        (lambda: Canvas("Tea.", **MISSPELLED), ". Did you mean 'schema'?"),
        (
            lambda: Router().page("/{title}", **MISSPELLED),
            ". Known: allow, canonical, fresh, links, name, path, prefetch, vary.",
        ),
        (lambda: Router().route("/x", **MISSPELLED), ". Known: methods, name, path."),
        (lambda: deeper(**MISSPELLED), ""),
        (lambda: str(**MISSPELLED), ""),
    ],
)
def test_unknown_arguments_of_the_framework_have_a_hint(call: Callable[[], object], hint: str) -> None:
    with pytest.raises(TypeError) as caught:
        call()
    assert error_reports(caught.value)[-1].message == f"{caught.value}{hint}"
