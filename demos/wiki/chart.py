"""A chart of what is written: pages as dots on a circle, pages that are linked close together, links as curves across.
It is always the same for the same links, and its labels never touch."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

WIDEST = 330.0
"""The radius of the largest circle, in units that are pixels where there is room."""
LONGEST = 24
"""Characters of a label."""


@dataclass(frozen=True)
class Dot:
    """A page on the chart.

    Attributes:
        node: the page, as ``app.store.network()`` knows it.
        x, y: where it stands; the middle is 0, 0.
        turn: by how many degrees its label is turned.
        flipped: whether the label stands left of the dot, as it does on the left half.
    """

    node: Any
    x: float
    y: float
    turn: float
    flipped: bool

    @property
    def label(self) -> str:
        """Its title, cut to fit."""
        title = str(self.node.title)
        return title if len(title) <= LONGEST else title[: LONGEST - 1].rstrip() + "…"


@dataclass(frozen=True)
class Chart:
    """Dots, the paths of the links between them, the size of the letters at which labels do not touch, and the box that
    all of it fills: left, top, width and height."""

    dots: Sequence[Dot]
    paths: Sequence[str]
    letters: float
    box: tuple[int, int, int, int]


def chart_of(nodes: Sequence[Any]) -> Chart:
    """The chart of a network."""
    radius = min(WIDEST, 90.0 + 5 * len(nodes))
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
    """Nodes in the order of a walk along their links, so that most links are short ways on the circle."""
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
                ahead += sorted(near[key], key=lambda other: len(near[other]), reverse=True)  # dead ends come first
    return [known[key] for key in walked]


def _curve(start: Dot, end: Dot, radius: float) -> str:
    """The path of a link: the further apart its ends are, the closer it comes to the middle."""
    pull = 1 - min(1, math.hypot(start.x - end.x, start.y - end.y) / radius)
    x, y = ((a + b) / 2 * max(0.1, pull) for a, b in ((start.x, end.x), (start.y, end.y)))
    return f"M{start.x} {start.y}Q{x:.1f} {y:.1f} {end.x} {end.y}"


def _box(dots: Iterable[Dot], letters: float, radius: float) -> tuple[int, int, int, int]:
    """Left, top, width and height of what is drawn, with its labels; letters are about half as wide as high."""
    ends = [(0.0, 0.0)]
    for dot in dots:
        share = 1 + (24 + 0.56 * letters * len(dot.label)) / radius
        ends.append((dot.x * share, dot.y * share))
    left, top = (math.floor(min(end[at] for end in ends)) - 16 for at in (0, 1))
    right, bottom = (math.ceil(max(end[at] for end in ends)) + 16 for at in (0, 1))
    return left, top, right - left, bottom - top
