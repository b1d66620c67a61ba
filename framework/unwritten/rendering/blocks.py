"""Blocks: wraps the blocks of a page's template that render regions in the regions' elements.

A region is a canvas, one of a group of canvases, or a *state region*: a block that renders a value of the same name,
and is rendered again when tables have changed. A state region may contain canvases, which are not rendered again with
it.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, SupportsIndex

from cachetools import LRUCache
from jinja2.runtime import Context
from markupsafe import Markup

from ..core.errors import BadTemplate, BadURL
from ..core.frame_numbers import frame_numbers
from ..core.localization import Language
from ..formats.page import CanvasGroup
from .regions import PageView, Region

log = logging.getLogger("unwritten")

PLACEHOLDER = f"placeholder-{secrets.token_hex(16)}-"
"""Marks the place of a region's content, or of the colophon. The name and a line feed follow it. It is random, so that
no text can contain it on purpose."""

_CANVAS_MARK = f"canvas-{secrets.token_hex(16)}-"
"""Marks the place of a canvas whose element is inserted after everything around it is rendered. The name and a
semicolon follow it."""

_MAX_NUMBERS = 4096
"""Maximum number of state regions whose numbers are remembered."""

_OPENING_TAG = Markup(
    '<div class="region" id="region-{0}" data-region="{0}" data-page="{1}" data-frame="{2}" '
    'data-state="{3}" data-lines="{4}" aria-busy="{5}">'
)

_Block = Callable[[Context], Iterator[str]]


@dataclass(frozen=True, slots=True)
class StateRegion:
    """A state region as it was rendered.

    Attributes:
        number: Rises when its content has changed. Canvases inside it do not count.
        html: Its inner HTML.
    """

    number: int
    html: str


class RegionNumbers:
    """The numbers of state regions: a new one whenever their content has changed."""

    def __init__(self) -> None:
        self._known: LRUCache[tuple[str, str], tuple[bytes, int]] = LRUCache(_MAX_NUMBERS)

    def get(self, page: str, region: str, html: str) -> int:
        """Return the number of a region of a page with this HTML."""
        digest = hashlib.blake2b(html.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        known_digest, number = self._known.get((page, region), (b"", 0))
        if known_digest != digest:
            number = frame_numbers.next(number)
            self._known[page, region] = digest, number
        return number


class RegionGroup:
    """A group of canvases as templates see it: ``{{ replies[12] }}`` prints one with its element.

    A list of canvases is iterated like a list, a mapping like a mapping.
    """

    def __init__(self, group: CanvasGroup, regions: Mapping[str, Region]) -> None:
        self._is_list = group.is_list
        self._members = {key: GroupedRegion(regions[name]) for key, name in group.regions.items()}

    def __getitem__(self, key: str | int) -> GroupedRegion:
        return self._members[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._members.values() if self._is_list else self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, key: object) -> bool:
        return key in self._members

    def items(self) -> Iterable[tuple[str | int, GroupedRegion]]:
        """Return keys and canvases."""
        return self._members.items()


class GroupedRegion:
    """One canvas of a group. It prints its element, and has the attributes of its region."""

    def __init__(self, region: Region) -> None:
        self._region = region

    def __html__(self) -> Markup:
        return Markup(f"{_CANVAS_MARK}{self._region.name};")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._region, name)


class Blocks(dict[str, list[_Block]]):
    """The blocks of a Jinja context, with those of regions wrapped in the region's element.

    Jinja fills this dict while it renders (a child's blocks first, its parents' after), and takes the first block of a
    name when it reaches it: that is where the wrapping happens. ``super()`` gets the unwrapped blocks.

    Args:
        blocks: The context's blocks.
        page: The page.
        regions: The canvases by name.
        state_names: Names of values whose blocks are state regions.
        numbers: Numbers the state regions.
        placeholders: Render placeholders in place of the canvases' content.

    Attributes:
        rendered: The names of the regions that were rendered.
    """

    def __init__(
        self,
        blocks: Mapping[str, list[_Block]],
        page: PageView,
        regions: Mapping[str, Region],
        state_names: Collection[str],
        numbers: RegionNumbers,
        placeholders: bool,
        language: Language,
    ) -> None:
        super().__init__(blocks)
        self._language = language
        self.rendered: set[str] = set()
        self._page = page
        self._regions = regions
        self._state_names = state_names
        self._numbers = numbers
        self._placeholders = placeholders
        self._current_canvas = self._current_state_region = ""
        self._nested: dict[str, str] = {}  # the content of canvases inside state regions, by name
        self._state_regions: dict[str, tuple[int, str]] = {}

    def __getitem__(self, name: str) -> list[_Block]:
        stack = super().__getitem__(name)
        if name in self._regions:
            return _Stack(stack, lambda context: self._render_canvas(name, stack[0], context))
        if name in self._state_names:
            return _Stack(stack, lambda context: self._render_state_region(name, stack[0], context))
        return stack

    def _render_canvas(self, name: str, block: _Block, context: Context) -> Iterator[str]:
        if self._current_canvas:
            raise BadTemplate(
                f"The block {name!r} is inside the block {self._current_canvas!r}. Both are canvases, and a canvas "
                "cannot be inside another: put them side by side."
            )
        if self._current_state_region:
            self._nested[name] = self._canvas_html(name, block, context)
            yield f"{_CANVAS_MARK}{name};"
            return
        self._mark_rendered(name)
        region = self._regions[name]
        yield _opening_tag(region, self._page, self._placeholders)
        if self._placeholders:
            yield f"{PLACEHOLDER}{name}\n"
        else:
            self._current_canvas = name
            yield self._canvas_html(name, block, context)
            self._current_canvas = ""
        yield "</div>"

    def _canvas_html(self, name: str, block: _Block, context: Context) -> str:
        """Return the inner HTML of a canvas. If no URL can hold what the model has written, it is the error."""
        try:
            return check_not_nested("".join(block(context)), name)
        except BadURL as error:
            if self._regions[name].state != "written":
                raise
            log.warning("%s: the region %r cannot be rendered: %s", self._page.key, name, error)
            message = self._language.text(str(error))
            return str(Markup('<p class="region-error">{}</p>').format(message))

    def _render_state_region(self, name: str, block: _Block, context: Context) -> Iterator[str]:
        if self._current_canvas or self._current_state_region:
            yield from block(context)  # it belongs to the region around it
            return
        self._mark_rendered(name)
        self._current_state_region = name
        inner = "".join(block(context))
        self._current_state_region = ""
        number = self._numbers.get(self._page.key, name, inner)
        self._state_regions[name] = number, inner
        yield f"{_OPENING_TAG.format(name, self._page.key, number, 'live', '', 'false')}{inner}</div>"

    def _mark_rendered(self, name: str) -> None:
        if name in self.rendered:
            raise BadTemplate(f"The block {name!r} is rendered twice. A region has one place on a page.")
        self.rendered.add(name)

    def insert_canvases(self, html: str) -> str:
        """Return rendered HTML with the canvases of groups and of state regions in their places.

        Raises:
            BadTemplate: If a canvas has two places.
        """
        return self._insert(html, self._mark_rendered)

    def state_regions(self) -> dict[str, StateRegion]:
        """Return the state regions that were rendered, by name."""
        return {name: StateRegion(number, self._insert(inner)) for name, (number, inner) in self._state_regions.items()}

    def _insert(self, html: str, on_canvas: Callable[[str], None] = lambda name: None) -> str:
        if _CANVAS_MARK not in html:
            return html
        first, *rest = html.split(_CANVAS_MARK)
        parts = [first]
        for part in rest:
            name, text = part.split(";", 1)
            on_canvas(name)
            region = self._regions[name]
            inner = f"{PLACEHOLDER}{name}\n" if self._placeholders else self._nested.get(name, str(region))
            parts += [_opening_tag(region, self._page, self._placeholders), inner, "</div>", text]
        return "".join(parts)


class _Stack(list[_Block]):
    """A list of blocks whose first one is replaced when it is accessed by index."""

    def __init__(self, stack: Iterable[_Block], first: _Block) -> None:
        super().__init__(stack)
        self._first = first

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        return self._first if index == 0 else super().__getitem__(index)


def check_not_nested(html: str, name: str) -> str:
    """Return the HTML of a canvas's block.

    Raises:
        BadTemplate: If another canvas is inside it.
    """
    if _CANVAS_MARK in html:
        inside = html.partition(_CANVAS_MARK)[2].partition(";")[0]
        raise BadTemplate(
            f"The canvas {inside!r} is inside the block {name!r}, which is a canvas itself: put them side by side."
        )
    return html


def _opening_tag(region: Region, page: PageView, is_placeholder: bool) -> str:
    state = "written" if is_placeholder else region.state
    busy = "true" if state in {"waiting", "writing"} else "false"
    return str(_OPENING_TAG.format(region.name, page.key, region.number, state, region.lines, busy))
