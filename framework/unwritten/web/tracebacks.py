"""Tracebacks for authors: their own lines with the lines around them, templates as templates, and no frames of ours."""

from __future__ import annotations

import linecache
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from jinja2 import Template, TemplateSyntaxError

from ..core.assets import asset_dir
from ..core.errors import BadTemplate

_PACKAGE = Path(__file__).resolve().parents[1]


_AROUND = 3
"""Lines shown before and after the one that matters."""


_MOST = 12
"""Places shown of one error, the deepest ones."""


_LONGEST_LINE = 300


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file: its number, its text, and whether it is the one that matters."""

    number: int
    text: str
    here: bool


@dataclass(frozen=True, slots=True)
class Place:
    """A place in an author's code.

    Attributes:
        file: its file, relative to the working directory if it lies there.
        line: the number of the line.
        function: the function that it belongs to; "" in a template.
        lines: the lines around it; empty if the file cannot be read.
    """

    file: str
    line: int
    function: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """An error with the places in the author's code that led to it.

    Attributes:
        kind: the name of its class.
        message: its words.
        places: outermost first.
    """

    kind: str
    message: str
    places: tuple[Place, ...]


def error_reports(error: BaseException) -> list[ErrorReport]:
    """An error and what caused it, the cause first, as Python tells it. Errors without a place of the author's own are
    left out, unless they are all there is."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    found = [ErrorReport(type(link).__name__, str(link), tuple(_places(link))[-_MOST:]) for link in reversed(chain)]
    # What we say about a template only repeats, in our words, what the cause says with its place.
    told = [fault for fault, link in zip(found, reversed(chain), strict=True) if fault.places or link is error]
    if len(told) > 1 and isinstance(error, BadTemplate) and not told[-1].places:
        told.pop()
    return told


def format_report(error: BaseException) -> str:
    """The same as text, for programs and logs."""
    lines: list[str] = []
    for fault in error_reports(error):
        for place in fault.places:
            within = f", in {place.function}" if place.function else ""
            lines.append(f'  File "{place.file}", line {place.line}{within}')
            lines += [f"    {line.text.strip()}" for line in place.lines if line.here]
        lines.append(f"{fault.kind}: {fault.message}")
    return "\n".join(lines)


def _places(error: BaseException) -> list[Place]:
    """The places of one error, without those in templates of ours if there are others."""
    found = list(_all_places(error))
    places = [place for ours, place in found if not ours] or [place for _, place in found[-1:]]
    # A template comes by its layout to its own block: what counts is where it ends.
    return [
        place
        for place, following in zip(places, [*places[1:], None], strict=False)
        if place.function or following is None or following.function or following.file != place.file
    ]


def _all_places(error: BaseException) -> Iterator[tuple[bool, Place]]:
    for frame, number in traceback.walk_tb(error.__traceback__):
        template = _template_of(frame)
        if template is not None and template.filename:
            ours = Path(template.filename).is_relative_to(asset_dir("templates"))
            yield ours, _place(template.filename, template.get_corresponding_lineno(number), "")
        elif template is None and not _is_foreign(frame.f_code.co_filename):
            yield False, _place(frame.f_code.co_filename, number, frame.f_code.co_name)
    if isinstance(error, TemplateSyntaxError) and error.filename:
        yield False, _place(error.filename, error.lineno, "")
    elif isinstance(error, SyntaxError) and error.filename:
        yield False, _place(error.filename, error.lineno or 1, "")


def _template_of(frame: FrameType) -> Template | None:
    # Jinja puts the template among the globals of the code that it makes of it.
    template = frame.f_globals.get("__jinja_template__")
    return template if isinstance(template, Template) else None


def _place(file: str, number: int, function: str) -> Place:
    linecache.checkcache(file)
    first = max(1, number - _AROUND)
    found = [(at, linecache.getline(file, at)) for at in range(first, number + _AROUND + 1)]
    while found and not found[-1][1]:
        found.pop()
    lines = tuple(Line(at, text.rstrip("\n")[:_LONGEST_LINE], at == number) for at, text in found)
    return Place(_shown(file), number, function, lines)


def _shown(file: str) -> str:
    try:
        return str(Path(file).resolve().relative_to(Path.cwd()))
    except (OSError, ValueError):
        return file


def _foreign_folders() -> tuple[Path, ...]:
    """Where code is that no author wrote: ours, and what we stand on."""
    folders = [_PACKAGE]
    for name in (
        "starlette",
        "anyio",
        "asyncio",
        "jinja2",
        "concurrent",
        "unwritten_engine",
        "contextlib",
        "markupsafe",
    ):
        spec = find_spec(name)
        if spec is not None and spec.origin:
            place = Path(spec.origin).resolve()
            folders.append(place.parent if place.name == "__init__.py" else place)
    return tuple(folders)


_FOREIGN = _foreign_folders()


_DEMOS = _PACKAGE / "demos"  # in an installed copy they lie inside the package


def _is_foreign(file: str) -> bool:
    if file.startswith("<"):
        return True
    path = Path(file).resolve()
    return any(path.is_relative_to(folder) for folder in _FOREIGN) and not path.is_relative_to(_DEMOS)
