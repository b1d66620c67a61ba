"""Short tracebacks for authors: their own lines with context, templates as templates, framework frames folded."""

from __future__ import annotations

import functools
import inspect
import linecache
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

from jinja2 import Template, TemplateSyntaxError

from unwritten_engine.errors import suggestion

from .assets import asset_dir
from .errors import BadApp, BadTemplate

_CONTEXT = 3
"""Lines shown before and after the line of a frame."""

_MAX_FRAMES = 12
"""Frames shown of one error: the innermost."""

_MAX_LINE_LENGTH = 300

_DEFINITION = re.compile(r"\s*(async\s+)?def\b|.*\blambda\b")

_UNKNOWN_ARGUMENT = re.compile(r"(?P<function>[\w.]+)\(\) got an unexpected keyword argument '(?P<argument>\w+)'.*")
"""The message of Python's ``TypeError``."""

_LOGGED = "_unwritten_logged"
"""Attribute of exceptions that were logged."""

_PACKAGE = Path(__file__).resolve().parents[1]

_DEMOS = _PACKAGE / "demos"
"""In an installed copy the demos lie inside the package. They count as authors' code."""


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A line of a file: its number, its text, and whether it is the line of the frame."""

    number: int
    text: str
    is_current: bool


@dataclass(frozen=True, slots=True)
class SourceLocation:
    """A place in an author's code.

    Attributes:
        file: The file, relative to the working directory if it lies there.
        line: The number of the line.
        function: The function that the line belongs to. Empty in a template.
        lines: The lines around it. Empty if the file cannot be read.
    """

    file: str
    line: int
    function: str
    lines: tuple[SourceLine, ...]


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """An error with the places in the author's code that led to it.

    Attributes:
        kind: The name of its class.
        message: Its message.
        locations: The places, outermost first.
        hidden: The number of frames that are left out: those of the framework and of the libraries below it.
    """

    kind: str
    message: str
    locations: tuple[SourceLocation, ...]
    hidden: int = 0


def error_reports(error: BaseException) -> list[ErrorReport]:
    """Return reports of an error and its causes, causes first, as Python prints them.

    Causes that never touched the author's code are left out.
    """
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    chain.reverse()
    reports = [(link, _report(link)) for link in chain]
    shown = [report for link, report in reports if report.locations or link is error]
    # The framework's error for a template repeats the message of its cause, which has the location.
    if len(shown) > 1 and isinstance(error, BadTemplate) and not shown[-1].locations:
        shown.pop()
    return shown


def format_report(error: BaseException) -> str:
    """Return the reports of an error as text, in the format of Python's tracebacks."""
    return _format(error_reports(error))


def _format(reports: Sequence[ErrorReport]) -> str:
    lines: list[str] = []
    for report in reports:
        if report.hidden and report.locations:
            lines.append(f"  ({report.hidden} frames of the framework and its libraries are hidden)")
        for location in report.locations:
            function = f", in {location.function}" if location.function else ""
            lines.append(f'  File "{location.file}", line {location.line}{function}')
            lines += [f"    {line.text.strip()}" for line in location.lines if line.is_current]
        lines.append(f"{report.kind}: {report.message}")
    return "\n".join(lines)


def log_error(log: logging.Logger, title: str, error: BaseException) -> None:
    """Log an exception with a short traceback: the author's frames only, or all frames if none is the author's.

    Args:
        log: The logger.
        title: What failed.
        error: The exception. It is marked, see ``is_logged``.
    """
    reports = error_reports(error)
    kind = {"kind": _kind(error)}
    if any(report.locations for report in reports):
        log.error("%s:\n%s", title, _format(reports), extra=kind)
    else:
        log.error("%s", title, exc_info=error, extra=kind)
    setattr(error, _LOGGED, True)


def _kind(error: BaseException) -> str:
    """Return the class of an error and the line that raised it. The log counts repeated errors by it."""
    place = ""
    for frame, number in traceback.walk_tb(error.__traceback__):
        place = f"{frame.f_code.co_filename}:{number}"
    return f"{type(error).__name__} {place}"


def is_logged(error: BaseException) -> bool:
    """True if ``log_error`` has logged this exception, so that nothing else needs to."""
    return bool(getattr(error, _LOGGED, False))


def _report(error: BaseException) -> ErrorReport:
    locations = tuple(_locations(error))[-_MAX_FRAMES:]
    hidden = sum(1 for _ in traceback.walk_tb(error.__traceback__)) - len(locations)
    return ErrorReport(type(error).__name__, f"{error}{_argument_hint(error)}", locations, max(0, hidden))


def _argument_hint(error: BaseException) -> str:
    """Return the nearest argument, if the framework was called with one that it does not have."""
    found = _UNKNOWN_ARGUMENT.fullmatch(str(error)) if isinstance(error, TypeError) else None
    if found is None:
        return ""
    called: Any = sys.modules.get(__name__.partition(".")[0])
    for name in found["function"].split("."):
        called = getattr(called, name, None)
    try:
        parameters = inspect.signature(called).parameters
    except (TypeError, ValueError):  # a function of the author, or of another library
        return ""
    return "." + suggestion(found["argument"], parameters.keys() - {"self"})


def _locations(error: BaseException) -> list[SourceLocation]:
    """Return the places of one error. Those in the framework's templates are left out if there are others."""
    found = list(_all_locations(error))
    locations = [location for is_own, location in found if not is_own] or [location for _, location in found[-1:]]
    # A template runs through its layout before it reaches its own block: only the last line counts.
    return [
        location
        for location, following in zip(locations, [*locations[1:], None], strict=False)
        if location.function or following is None or following.function or following.file != location.file
    ]


def _all_locations(error: BaseException) -> Iterator[tuple[bool, SourceLocation]]:
    """Yield the places outside of the framework's code, each with whether it is in one of its templates."""
    if isinstance(error, BadApp) and error.function is not None:
        definition = _definition(error.function)
        if definition is not None:
            yield False, definition
    for frame, number in traceback.walk_tb(error.__traceback__):
        template = _template_of(frame)
        if template is not None and template.filename:
            is_own = Path(template.filename).is_relative_to(asset_dir("templates"))
            yield is_own, _location(template.filename, template.get_corresponding_lineno(number), "")
        elif template is None and not _is_hidden(frame.f_code.co_filename):
            yield False, _location(frame.f_code.co_filename, number, frame.f_code.co_name)
    if isinstance(error, TemplateSyntaxError) and error.filename:
        yield False, _location(error.filename, error.lineno, "")
    elif isinstance(error, SyntaxError) and error.filename:
        yield False, _location(error.filename, error.lineno or 1, "")


def _definition(function: Callable[..., Any]) -> SourceLocation | None:
    """Return the line of a function's ``def``, below its decorators."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None or _is_hidden(code.co_filename):
        return None
    number = code.co_firstlineno
    lines = linecache.getlines(code.co_filename)[number - 1 :]
    offset = next((at for at, text in enumerate(lines) if _DEFINITION.match(text)), 0)
    return _location(code.co_filename, number + offset, code.co_name)


def _template_of(frame: FrameType) -> Template | None:
    # Jinja puts the template into the globals of the code that it compiles from it.
    template = frame.f_globals.get("__jinja_template__")
    return template if isinstance(template, Template) else None


def _location(file: str, number: int, function: str) -> SourceLocation:
    linecache.checkcache(file)
    first = max(1, number - _CONTEXT)
    lines = [(at, linecache.getline(file, at)) for at in range(first, number + _CONTEXT + 1)]
    while lines and not lines[-1][1]:
        lines.pop()
    return SourceLocation(
        _relative(file),
        number,
        function,
        tuple(SourceLine(at, text.rstrip("\n")[:_MAX_LINE_LENGTH], at == number) for at, text in lines),
    )


def _relative(file: str) -> str:
    try:
        return str(Path(file).resolve().relative_to(Path.cwd()))
    except (OSError, ValueError):
        return file


def _hidden_folders() -> tuple[Path, ...]:
    """Return where code is that authors did not write: the framework and the libraries below it."""
    folders = [_PACKAGE]
    for name in (
        "anyio",
        "asyncio",
        "concurrent",
        "contextlib",
        "jinja2",
        "markupsafe",
        "pydantic",
        "starlette",
        "unwritten_engine",
    ):
        spec = find_spec(name)
        if spec is not None and spec.origin:
            origin = Path(spec.origin).resolve()
            folders.append(origin.parent if origin.name == "__init__.py" else origin)
    return tuple(folders)


_HIDDEN = _hidden_folders()


@functools.lru_cache(4096)
def _is_hidden(file: str) -> bool:
    if file.startswith("<"):
        return True
    path = Path(file).resolve()
    return any(path.is_relative_to(folder) for folder in _HIDDEN) and not path.is_relative_to(_DEMOS)
