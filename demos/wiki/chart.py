"""The graph of articles: pages as dots on a circle, with linked pages close together, and links as curves across it.

The same links give the same chart, and labels do not overlap.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

MAX_RADIUS = 330.0
"""The radius of the largest circle, in SVG units."""

MAX_LABEL = 24
"""Characters of a label."""


@dataclass(frozen=True)
class Dot:
    """A page on the chart.

    Attributes:
        node: The page, from ``app.store.link_graph()``.
        x, y: Its position; the centre is 0, 0.
        turn: The rotation of its label in degrees.
        flipped: True if the label is left of the dot, as on the left half.
    """

    node: Any
    x: float
    y: float
    turn: float
    flipped: bool

    @property
    def label(self) -> str:
        """The title, truncated."""
        title = str(self.node.title)
        return title if len(title) <= MAX_LABEL else title[: MAX_LABEL - 1].rstrip() + "…"


@dataclass(frozen=True)
class Chart:
    """A chart, ready for an SVG.

    Attributes:
        dots: The pages.
        paths: The SVG paths of the links.
        letters: The font size at which labels do not overlap.
        box: Left, top, width and height.
    """

    dots: Sequence[Dot]
    paths: Sequence[str]
    letters: float
    box: tuple[int, int, int, int]


def build_chart(nodes: Sequence[Any]) -> Chart:
    """Return the chart of a link graph."""
    radius = min(MAX_RADIUS, 90.0 + 5 * len(nodes))
    dots: dict[str, Dot] = {}
    for at, node in enumerate(_order(nodes)):
        angle = math.tau * at / len(nodes) - math.pi / 2
        flipped = math.cos(angle) < -1e-9
        x, y = round(radius * math.cos(angle), 1), round(radius * math.sin(angle), 1)
        dots[node.key] = Dot(node, x, y, round(math.degrees(angle) + (180 if flipped else 0), 1), flipped)
    paths = [_curve(dots[node.key], dots[target], radius) for node in nodes for target in node.links]
    letters = max(10.5, min(18, 0.9 * math.tau * radius / max(1, len(nodes))))
    return Chart([dots[node.key] for node in nodes], paths, letters, _box(dots.values(), letters, radius))


def _order(nodes: Sequence[Any]) -> list[Any]:
    """Return the nodes in the order of a depth-first walk, so that most links are short."""
    known = {node.key: node for node in nodes}
    near: dict[str, list[str]] = {node.key: [] for node in nodes}
    for node in nodes:
        for target in node.links:
            near[node.key].append(target)
            near[target].append(node.key)
    walked: dict[str, None] = {}
    for start in known:
        ahead = [start]
        while ahead:
            key = ahead.pop()
            if key not in walked:
                walked[key] = None
                ahead += sorted(near[key], key=lambda other: len(near[other]), reverse=True)  # dead ends first
    return [known[key] for key in walked]


def _curve(start: Dot, end: Dot, radius: float) -> str:
    """Return the path of a link. The further apart its ends, the closer it comes to the centre."""
    pull = 1 - min(1, math.hypot(start.x - end.x, start.y - end.y) / radius)
    x, y = ((a + b) / 2 * max(0.1, pull) for a, b in ((start.x, end.x), (start.y, end.y)))
    return f"M{start.x} {start.y}Q{x:.1f} {y:.1f} {end.x} {end.y}"


def _box(dots: Iterable[Dot], letters: float, radius: float) -> tuple[int, int, int, int]:
    """Return left, top, width and height of the chart with its labels. Letters are about half as wide as high."""
    ends = [(0.0, 0.0)]
    for dot in dots:
        share = 1 + (24 + 0.56 * letters * len(dot.label)) / radius
        ends.append((dot.x * share, dot.y * share))
    left, top = (math.floor(min(end[at] for end in ends)) - 16 for at in (0, 1))
    right, bottom = (math.ceil(max(end[at] for end in ends)) + 16 for at in (0, 1))
    return left, top, right - left, bottom - top
