"""Drawing: templates and their blocks.

A page is drawn once as a whole, its *shell*; after that only the block of a region is drawn again, for every
frame, in the same Jinja context. Blocks of canvases are wrapped in an element that the browser can find.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, Template, TemplateError
from jinja2.exceptions import TemplateNotFound, TemplateSyntaxError
from jinja2.runtime import Context
from markupsafe import Markup

from .assets import asset_dir
from .errors import BadTemplate
from .regions import PageView, Region

NONCE = f"nonce-{secrets.token_hex(16)}"
"""Stands for the nonce in drawn HTML, so that a drawn page can be kept and sent with a new nonce each time.
It is drawn anew for each process, so that no text can contain it on purpose."""

_HOLE = f"hole-{secrets.token_hex(16)}-"
COLOPHON = "colophon"

_Block = Callable[[Context], Iterator[str]]


@dataclass(frozen=True, slots=True)
class Hole:
    """A place in a shell where a region, or the colophon, belongs."""

    name: str


class Shell:
    """A drawn page: its HTML, and the means to draw its regions again.

    Attributes:
        html: the whole page, or, with holes, the page with marks where regions belong.
    """

    def __init__(self, html: str, template: Template, context: Context) -> None:
        self.html = html
        self._template = template
        self._context = context

    def pieces(self) -> Iterator[str | Hole]:
        """The page in document order, as text and holes."""
        first, *rest = self.html.split(_HOLE)
        yield first
        for piece in rest:
            name, text = piece.split("\n", 1)
            yield Hole(name)
            yield text

    def region(self, region: Region, page: PageView) -> str:
        """The inner HTML of one region, from its block.

        Raises:
            BadTemplate: if the block raises.
        """
        context = self._context.derived({region.name: region, "page": page})
        try:
            return "".join(context.blocks[region.name][0](context))
        except Exception as error:
            raise broken(self._template.name or "?", error, f"the block {region.name!r}") from error


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
        )
        self.environment.globals.update(values)
        self._folders = folders

    def get(self, name: str) -> Template:
        """A template by name.

        Raises:
            BadTemplate: if it is missing or has a syntax error.
        """
        try:
            return self.environment.get_template(name)
        except TemplateSyntaxError as error:
            raise broken(error.name or name, error) from error
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
            raise broken(name, error) from error

    def shell(
        self,
        name: str,
        page: PageView,
        regions: Mapping[str, Region],
        values: Mapping[str, Any],
        *,
        holes: bool = False,
    ) -> Shell:
        """A whole page, drawn.

        Args:
            name: the template.
            page: the page.
            regions: its regions by name, as they are now.
            values: the author's other values, and ours.
            holes: leave the insides of regions and the colophon out, marked as holes.

        Raises:
            BadTemplate: if the template is missing, raises, or lacks the block of a region.
        """
        template = self.get(name)
        if holes:
            values = {**values, COLOPHON: Markup(f"{_HOLE}{COLOPHON}\n")}
        context = template.new_context({**values, **regions, "page": page})
        blocks = _Blocks(context.blocks, page, regions, holes)
        context.blocks = blocks
        try:
            html = "".join(template.root_render_func(context))
        except BadTemplate:
            raise
        except Exception as error:
            raise broken(name, error) from error
        missing = [region for region in regions if region not in blocks.drawn]
        if missing:
            block = f"{{% block {missing[0]} %}}{{{{ {missing[0]} }}}}{{% endblock %}}"
            raise BadTemplate(
                f"The template {name!r} does not draw the canvas {missing[0]!r}. Put {block} where it belongs."
            )
        return Shell(html, template, context)


class _Blocks(dict[str, list[_Block]]):
    """The blocks of a context, with those of regions wrapped in the region's element.

    Jinja fills this dict while it draws (a child's blocks first, its parents' after) and takes the first
    block of a name when it comes to it: that is where the wrapping happens. ``super()`` sees the bare list.
    """

    def __init__(
        self, blocks: Mapping[str, list[_Block]], page: PageView, regions: Mapping[str, Region], holes: bool
    ) -> None:
        super().__init__(blocks)
        self.drawn: set[str] = set()
        self._page = page
        self._regions = regions
        self._holes = holes
        self._inside = ""

    def __getitem__(self, name: str) -> list[_Block]:
        stack = super().__getitem__(name)
        return _Stack(stack, lambda context: self._wrapped(name, stack[0], context)) if name in self._regions else stack

    def _wrapped(self, name: str, block: _Block, context: Context) -> Iterator[str]:
        if self._inside:
            raise BadTemplate(
                f"The block {name!r} stands inside the block {self._inside!r}. Both are canvases, and one canvas "
                "cannot stand inside another: put them side by side."
            )
        if name in self.drawn:
            raise BadTemplate(f"The block {name!r} is drawn twice. A canvas has one place on a page.")
        self.drawn.add(name)
        region = self._regions[name]
        yield _opening(region, self._page, done=self._holes)
        if self._holes:
            yield f"{_HOLE}{name}\n"
        else:
            self._inside = name
            yield from block(context)
            self._inside = ""
        yield "</div>"


class _Stack(list[_Block]):
    """A stack of blocks whose first one is replaced when it is called by index."""

    def __init__(self, stack: Iterable[_Block], first: _Block) -> None:
        super().__init__(stack)
        self._first = first

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        return self._first if index == 0 else super().__getitem__(index)


def _opening(region: Region, page: PageView, done: bool) -> str:
    state = "written" if done else region.state
    busy = "true" if state in {"waiting", "writing"} else "false"
    return str(
        Markup(
            '<div class="region" id="region-{0}" data-region="{0}" data-page="{1}" data-frame="{2}" '
            'data-state="{3}" data-lines="{4}" aria-busy="{5}">'
        ).format(region.name, page.key, region.number, state, region.lines, busy)
    )


def broken(name: str, error: Exception, place: str = "") -> BadTemplate:
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
