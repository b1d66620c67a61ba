"""Drawing: templates and their blocks.

A page is drawn once as a whole, its *shell*; after that only the block of a region is drawn again, for every
frame, in the same Jinja context. Blocks of canvases are wrapped in an element that the browser can find.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, Template, TemplateError
from jinja2.exceptions import TemplateNotFound, TemplateSyntaxError
from jinja2.runtime import Context
from markupsafe import Markup

from ..core.assets import asset_dir
from ..core.errors import BadTemplate
from ..formats.page import CanvasGroup
from .blocks import PLACEHOLDER, Blocks, LiveRegion, RegionNumbers, RepeatedRegion, check_not_nested
from .document import COLOPHON
from .regions import PageView, Region

LAYOUT_BLOCKS = frozenset({"title", "head", "header", "main", "footer"})
"""Blocks of the layout: a value of such a name is no region."""


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A place in a shell where a region, or the colophon, belongs."""

    name: str


class Shell:
    """A drawn page: its HTML, and the means to draw its regions again.

    Attributes:
        html: the whole page, or, with holes, the page with marks where regions belong.
        live: the regions of state, by name.
    """

    def __init__(self, html: str, template: Template, context: Context, live: Mapping[str, LiveRegion]) -> None:
        self.html = html
        self.live_regions = live
        self._template = template
        self._context = context

    def parts(self) -> Iterator[str | Placeholder]:
        """The page in document order, as text and holes."""
        first, *rest = self.html.split(PLACEHOLDER)
        yield first
        for piece in rest:
            name, text = piece.split("\n", 1)
            yield Placeholder(name)
            yield text

    def render_region(self, region: Region, page: PageView) -> str:
        """The inner HTML of one region, from its block; one of several canvases has no block, and is as it is.

        Raises:
            BadTemplate: if the block raises.
        """
        if region.name not in self._context.blocks:
            return str(region)
        context = self._context.derived({region.name: region, "page": page})
        try:
            return check_not_nested("".join(context.blocks[region.name][0](context)), region.name)
        except Exception as error:
            raise template_error(self._template.name or "?", error, f"the block {region.name!r}") from error


class Templates:
    """The app's templates, and ours behind them.

    Args:
        folder: the app's own templates folder, or None.
        values: what every template sees.
    """

    def __init__(self, folder: Path | None, values: Mapping[str, Any]) -> None:
        folders = [path for path in (folder, asset_dir("templates")) if path is not None]
        self.environment = Environment(
            loader=ChoiceLoader([FileSystemLoader(path) for path in folders]),
            autoescape=True,
            auto_reload=False,
            finalize=_printed,
        )
        self.environment.globals.update(values)
        self._folders = folders
        self._numbers = RegionNumbers()

    def get(self, name: str) -> Template:
        """A template by name.

        Raises:
            BadTemplate: if it is missing or has a syntax error.
        """
        try:
            return self.environment.get_template(name)
        except TemplateSyntaxError as error:
            raise template_error(error.name or name, error) from error
        except TemplateNotFound as error:
            places = " and ".join(str(folder) for folder in self._folders)
            needed = "" if error.name == name else f", which {name!r} needs"
            raise BadTemplate(f"There is no template {error.name!r}{needed}. Looked in {places}.") from None

    def render(self, name: str, values: Mapping[str, Any]) -> str:
        """A template without regions, drawn."""
        template = self.get(name)
        try:
            # Not ``render``: it would rewrite the traceback, in which we look for the place.
            return "".join(template.root_render_func(template.new_context(dict(values))))
        except Exception as error:
            raise template_error(name, error) from error

    def render_page(
        self,
        name: str,
        page: PageView,
        regions: Mapping[str, Region],
        values: Mapping[str, Any],
        *,
        collections: Mapping[str, CanvasGroup] = MappingProxyType({}),
        live: Iterable[str] = (),
        placeholders: bool = False,
    ) -> Shell:
        """A whole page, drawn.

        Args:
            name: the template.
            page: the page.
            regions: its regions by name, as they are now.
            values: the author's other values, and ours.
            collections: which regions stand together under one name.
            live: names of values whose blocks, where there are such, are regions of state.
            holes: leave the insides of regions and the colophon out, marked as holes.

        Raises:
            BadTemplate: if the template is missing, raises, or lacks the block of a region.
        """
        template = self.get(name)
        if placeholders:
            values = {**values, COLOPHON: Markup(f"{PLACEHOLDER}{COLOPHON}\n")}
        several = {name: RepeatedRegion(collection, regions) for name, collection in collections.items()}
        context = template.new_context({**values, **regions, **several, "page": page})
        blocks = Blocks(context.blocks, page, regions, frozenset(live) - LAYOUT_BLOCKS, self._numbers, placeholders)
        context.blocks = blocks
        try:
            html = blocks.placed("".join(template.root_render_func(context)))
        except BadTemplate:
            raise
        except Exception as error:
            raise template_error(name, error) from error
        missing = [region for region in regions if region not in blocks.rendered]
        if missing:
            raise BadTemplate(
                f"The template {name!r} does not draw the canvas {missing[0]!r}. "
                f"Put {_place(missing[0], collections)} where it belongs."
            )
        return Shell(html, template, context, blocks.live())


def _place(name: str, collections: Mapping[str, CanvasGroup]) -> str:
    """What draws a canvas."""
    for several, collection in collections.items():
        for key, region in collection.regions.items():
            if region == name:
                return f"{{{{ {several}[{key!r}] }}}}"
    return f"{{% block {name} %}}{{{{ {name} }}}}{{% endblock %}}"


def _printed(value: Any) -> Any:
    """What is printed of a value: nothing of what has not come yet, and of an enum what was printed while it came."""
    if value is None:
        return ""
    return value.value if isinstance(value, Enum) else value


def template_error(name: str, error: Exception, place: str = "") -> BadTemplate:
    """What an author needs to know about a template that raised."""
    if isinstance(error, TemplateSyntaxError):
        name, line = error.name or name, error.lineno
    else:
        name, line = _place_of(error) or (name, 0)
    at = ", ".join(part for part in (place, f"line {line}" if line else "") if part)
    kind = "" if isinstance(error, TemplateError) else f"{type(error).__name__}: "
    reason = f"there is no template {error.name!r}" if isinstance(error, TemplateNotFound) else f"{kind}{error}"
    return BadTemplate(f"The template {name!r} cannot be drawn{f' ({at})' if at else ''}: {reason}")


def _place_of(error: Exception) -> tuple[str, int] | None:
    """The template and its line that a traceback leads to, deepest first: the layout's own, if that is what raised."""
    place = None
    trace = error.__traceback__
    while trace:
        # Jinja puts the template among the globals of the code that it makes of it.
        template = trace.tb_frame.f_globals.get("__jinja_template__")
        if isinstance(template, Template) and template.name:
            place = (template.name, template.get_corresponding_lineno(trace.tb_lineno))
        trace = trace.tb_next
    return place
