"""Blocks: those of a page's template, of which the ones that draw a region are wrapped in its element.

A region is a canvas, one of several canvases under one name, or *live*: a block that draws a value of the same name,
and is drawn again when state has changed. Canvases may stand inside a live region, and are not drawn again with it.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, SupportsIndex

from jinja2.runtime import Context
from markupsafe import Markup

from ..core.errors import BadTemplate
from ..formats import page as pages
from .regions import PageView, Region

PLACEHOLDER = f"hole-{secrets.token_hex(16)}-"
"""Begins a place where a region, or the colophon, belongs; its name and a line end follow."""


_PLACE = f"place-{secrets.token_hex(16)}-"
"""The same for a canvas whose element is put in when all around it has been drawn. A semicolon follows its name."""


_NUMBERS = 4096
"""Live regions whose numbers are remembered."""


_Block = Callable[[Context], Iterator[str]]


@dataclass(frozen=True, slots=True)
class LiveRegion:
    """A region of state, as it was drawn.

    Attributes:
        number: rises when what it shows has changed; canvases inside it are no part of that.
        html: its inner HTML.
    """

    number: int
    html: str


class RegionNumbers:
    """The numbers of live regions: the microsecond in which they were first seen to be as they are."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], tuple[bytes, int]] = OrderedDict()

    def get(self, page: str, region: str, html: str) -> int:
        """The number of a region with this HTML."""
        digest = hashlib.blake2b(html.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        before, number = self._known.get((page, region), (b"", 0))
        if before != digest:
            number = max(number + 1, time.time_ns() // 1000)
            self._known[page, region] = digest, number
            if len(self._known) > _NUMBERS:
                self._known.popitem(last=False)
        return number


class RepeatedRegion:
    """Canvases of one name as a template sees them: ``{{ replies[12] }}`` prints one with its element.

    A list of canvases is gone through like a list, a mapping like a mapping.
    """

    def __init__(self, collection: pages.CanvasGroup, regions: Mapping[str, Region]) -> None:
        self._listed = collection.is_list
        self._placed = {key: PlacedBlock(regions[name]) for key, name in collection.regions.items()}

    def __getitem__(self, key: str | int) -> PlacedBlock:
        return self._placed[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._placed.values() if self._listed else self._placed)

    def __len__(self) -> int:
        return len(self._placed)

    def __contains__(self, key: object) -> bool:
        return key in self._placed

    def items(self) -> Iterable[tuple[str | int, PlacedBlock]]:
        """Keys and canvases."""
        return self._placed.items()


class PlacedBlock:
    """One of several canvases. It prints its element, and has the attributes of its region."""

    def __init__(self, region: Region) -> None:
        self._region = region

    def __html__(self) -> Markup:
        return Markup(f"{_PLACE}{self._region.name};")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._region, name)


def check_not_nested(html: str, name: str) -> str:
    """The HTML of a canvas's block, which must not hold another canvas.

    Raises:
        BadTemplate: if it does.
    """
    if _PLACE in html:
        inside = html.partition(_PLACE)[2].partition(";")[0]
        raise BadTemplate(
            f"The canvas {inside!r} stands inside the block {name!r}, which is a canvas itself: put them side by side."
        )
    return html


class Blocks(dict[str, list[_Block]]):
    """The blocks of a context, with those of regions wrapped in the region's element.

    Jinja fills this dict while it draws (a child's blocks first, its parents' after) and takes the first
    block of a name when it comes to it: that is where the wrapping happens. ``super()`` sees the bare list.

    Args:
        blocks: the bare ones.
        page: the page.
        regions: the canvases by name.
        live: names whose blocks are regions of state.
        numbers: numbers them.
        holes: leave the insides of canvases out, marked as holes.
    """

    def __init__(
        self,
        blocks: Mapping[str, list[_Block]],
        page: PageView,
        regions: Mapping[str, Region],
        live: Collection[str],
        numbers: RegionNumbers,
        holes: bool,
    ) -> None:
        super().__init__(blocks)
        self.rendered: set[str] = set()
        self._page = page
        self._regions = regions
        self._names = live
        self._numbers = numbers
        self._holes = holes
        self._inside = self._inside_live = ""
        self._nested: dict[str, str] = {}
        self._live: dict[str, tuple[int, str]] = {}

    def __getitem__(self, name: str) -> list[_Block]:
        stack = super().__getitem__(name)
        if name in self._regions:
            return _Stack(stack, lambda context: self._canvas(name, stack[0], context))
        if name in self._names:
            return _Stack(stack, lambda context: self._state(name, stack[0], context))
        return stack

    def _canvas(self, name: str, block: _Block, context: Context) -> Iterator[str]:
        if self._inside:
            raise BadTemplate(
                f"The block {name!r} stands inside the block {self._inside!r}. Both are canvases, and one canvas "
                "cannot stand inside another: put them side by side."
            )
        if self._inside_live:
            self._nested[name] = check_not_nested("".join(block(context)), name)
            yield f"{_PLACE}{name};"
            return
        self._begin(name)
        region = self._regions[name]
        yield _opening(region, self._page, done=self._holes)
        if self._holes:
            yield f"{PLACEHOLDER}{name}\n"
        else:
            self._inside = name
            yield check_not_nested("".join(block(context)), name)
            self._inside = ""
        yield "</div>"

    def _state(self, name: str, block: _Block, context: Context) -> Iterator[str]:
        if self._inside or self._inside_live:
            yield from block(context)  # it is drawn again with what it stands in
            return
        self._begin(name)
        self._inside_live = name
        inner = "".join(block(context))
        self._inside_live = ""
        number = self._numbers.get(self._page.key, name, inner)
        self._live[name] = number, inner
        yield f"{_OPENING.format(name, self._page.key, number, 'live', '', 'false')}{inner}</div>"

    def _begin(self, name: str) -> None:
        if name in self.rendered:
            raise BadTemplate(f"The block {name!r} is drawn twice. A region has one place on a page.")
        self.rendered.add(name)

    def placed(self, html: str) -> str:
        """Drawn HTML with canvases in their places.

        Raises:
            BadTemplate: if one has two places.
        """
        return self._filled(html, self._begin)

    def live(self) -> dict[str, LiveRegion]:
        """The live regions that were drawn, by name."""
        return {name: LiveRegion(number, self._filled(inner)) for name, (number, inner) in self._live.items()}

    def _filled(self, html: str, begin: Callable[[str], None] = lambda name: None) -> str:
        if _PLACE not in html:
            return html
        first, *rest = html.split(_PLACE)
        filled = [first]
        for piece in rest:
            name, text = piece.split(";", 1)
            begin(name)
            region = self._regions[name]
            inner = f"{PLACEHOLDER}{name}\n" if self._holes else self._nested.get(name, str(region))
            filled += [_opening(region, self._page, done=self._holes), inner, "</div>", text]
        return "".join(filled)


class _Stack(list[_Block]):
    """A stack of blocks whose first one is replaced when it is called by index."""

    def __init__(self, stack: Iterable[_Block], first: _Block) -> None:
        super().__init__(stack)
        self._first = first

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        return self._first if index == 0 else super().__getitem__(index)


_OPENING = Markup(
    '<div class="region" id="region-{0}" data-region="{0}" data-page="{1}" data-frame="{2}" '
    'data-state="{3}" data-lines="{4}" aria-busy="{5}">'
)


def _opening(region: Region, page: PageView, done: bool) -> str:
    state = "written" if done else region.state
    busy = "true" if state in {"waiting", "writing"} else "false"
    return str(_OPENING.format(region.name, page.key, region.number, state, region.lines, busy))
