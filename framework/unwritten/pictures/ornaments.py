"""Ornaments: small abstract pictures that are generated from a text. The same text always gives the same picture.

They take the place of pictures. Each is one of eleven patterns in one of twelve hues, drawn from shapes that have
classes of ``unwritten.css`` and neither ids nor inline styles. So they follow the light and dark colour schemes, and
the content security policy allows them.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from html import escape

from markupsafe import Markup

from ..core.assets import asset_dir
from .seeded_random import HUES, SeededRandom, fmt, fmt_xy

WIDTH, HEIGHT = 320, 200
"""The size of the drawing, in its own units. It scales to the width of its container."""

_X, _Y = WIDTH / 2, HEIGHT / 2

_MAX_CACHED_TEXT = 400
"""Maximum length of a text whose ornament is cached."""


def ornament(text: str, label: str | None = None) -> Markup:
    """Return an ornament as inline SVG.

    Args:
        text: The text that it is generated from. It is not shown.
        label: The text alternative. None: the ornament is hidden from screen readers.
    """
    text = str(text)
    # A block is rendered for every frame, so ornaments of short texts are cached.
    hue, shapes = _shapes(text) if len(text) <= _MAX_CACHED_TEXT else _shapes.__wrapped__(text)
    label_attributes = Markup('role="img" aria-label="{}"').format(label) if label else Markup('aria-hidden="true"')
    return Markup(
        '<svg class="ornament hue-{}" viewBox="0 0 {} {}" width="{}" height="{}" preserveAspectRatio="xMidYMid slice" '
        "{}>{}{}</svg>"
    ).format(hue, WIDTH, HEIGHT, WIDTH, HEIGHT, label_attributes, Markup(_GROUND), Markup(shapes))


@functools.lru_cache(maxsize=256)
def standalone_ornament(text: str, width: int, height: int) -> bytes:
    """Return an ornament as an SVG file, which contains its colours for light and dark mode.

    Args:
        text: The text that it is generated from.
        width: In pixels.
        height: In pixels.
    """
    css = (asset_dir("static") / "unwritten.css").read_text(encoding="utf-8")
    rules = css.partition("/* seeded: ")[2].partition("*/")[2].partition("/* end of seeded */")[0]
    style = f":root{{color-scheme:light dark}}{' '.join(rules.split())}"
    svg = str(ornament(text)).replace(' aria-hidden="true"', "", 1)
    svg = svg.replace(f'width="{WIDTH}" height="{HEIGHT}"', f'width="{width}" height="{height}"', 1)
    head, bracket, body = svg.partition(">")
    namespace = ' xmlns="http://www.w3.org/2000/svg"'
    return f"{head}{namespace}{bracket}<style>{escape(style, quote=False)}</style>{body}".encode()


@functools.lru_cache(maxsize=512)
def _shapes(text: str) -> tuple[int, str]:
    rng = SeededRandom(text, "ornament")
    hue, pattern = rng.below(HUES), PATTERNS[rng.below(len(PATTERNS))]
    return hue, pattern(rng)


_GROUND = f'<path class="t0" d="M0 0h{WIDTH}v{HEIGHT}H0z"/>'


def _path(look: str, data: str, more: str = "") -> str:
    return f'<path class="{look}" d="{data}"{more}/>' if data else ""


def _circle(look: str, x: float, y: float, radius: float, more: str = "") -> str:
    return f'<circle class="{look}" cx="{fmt(x)}" cy="{fmt(y)}" r="{fmt(radius)}"{more}/>'


def _stroke(width: float) -> str:
    return f' stroke-width="{fmt(width)}"'


def _polar(x: float, y: float, radius: float, turn: float) -> tuple[float, float]:
    """Return a point on a circle. Turns, from 0 to 1, start at the top."""
    angle = 2 * math.pi * turn
    return x + radius * math.sin(angle), y - radius * math.cos(angle)


def _closed(points: Sequence[tuple[float, float]]) -> str:
    """Return the path of a smooth closed line near these points."""
    middles = [((x + u) / 2, (y + v) / 2) for (x, y), (u, v) in zip(points, [*points[1:], points[0]], strict=True)]
    curves = "".join(
        f"Q{fmt_xy(*point)} {fmt_xy(*middle)}"
        for point, middle in zip([*points[1:], points[0]], [*middles[1:], middles[0]], strict=True)
    )
    return f"M{fmt_xy(*middles[0])}{curves}z"


def _rosette(rng: SeededRandom) -> str:
    """Draw rings of petals."""
    count = rng.choice((6, 8, 9, 10, 12))
    rings = rng.choice(((235, 150, 92, 50), (205, 118, 66, 34), (250, 172, 104, 58)))
    looks = rng.choice((("t1", "t2", "t3", "ta"), ("t1", "t3", "ta", "t0"), ("t1", "ta", "t2", "t4")))
    parts = []
    for ring, (radius, look) in enumerate(zip(rings, looks, strict=True)):
        spread = rng.uniform(0.5, 1.05) * math.pi * radius / count
        petals = ""
        for petal in range(count):
            turn = (petal + ring % 2 / 2) / count
            tip = _polar(_X, _Y, radius, turn)
            side = math.atan2(spread, radius * 0.55) / (2 * math.pi)
            reach = math.hypot(spread, radius * 0.55)
            left, right = _polar(_X, _Y, reach, turn - side), _polar(_X, _Y, reach, turn + side)
            petals += f"M{fmt_xy(_X, _Y)}Q{fmt_xy(*left)} {fmt_xy(*tip)}Q{fmt_xy(*right)} {fmt_xy(_X, _Y)}"
        parts.append(_path(look, petals))
    heart = rings[-1] * 0.36
    parts += [_circle("t4", _X, _Y, heart), _circle("t0", _X, _Y, heart * 0.45)]
    dots = [
        _polar(_X, _Y, (rings[1] + rings[2]) / 2 + 6, (dot + 0.5 * (rings[1] < 130)) / count) for dot in range(count)
    ]
    return "".join(parts) + "".join(_circle("t4", *dot, 2.4) for dot in dots)


def _contours(rng: SeededRandom) -> str:
    """Draw the contour lines of a hill."""
    waves = [(rng.integer(2, 5), rng.uniform(0.04, 0.16), rng.uniform(0, 1)) for _ in range(3)]
    x, y = rng.uniform(100, 220), rng.uniform(70, 130)
    drift_x, drift_y = rng.uniform(-9, 9), rng.uniform(-6, 6)
    parts = []
    for level in range(10):
        radius = 245 * 0.79**level
        points = []
        for step in range(12):
            swing = sum(
                share * math.sin(2 * math.pi * (k * step / 12 + turn + level * 0.018)) for k, share, turn in waves
            )
            points.append(_polar(x + drift_x * level, y + drift_y * level, radius * (1 + swing), step / 12))
        parts.append(_path("lt", _closed(points), _stroke(2.6 if level == 6 else 1.1)))
    peak = (x + drift_x * 10, y + drift_y * 10)
    return "".join(parts) + _circle("ta", *peak, 4.5)


def _weave(rng: SeededRandom) -> str:
    """Draw woven bands."""
    unit, band = rng.choice(((40, 30), (34, 24), (48, 38)))
    down_too, repeat, covers = rng.choice(((1, 2, 1), (1, 4, 2), (2, 5, 2)))
    tilt = rng.choice((0, 45, 45, 30, -20))
    across, down = (12, 12) if tilt else (WIDTH // unit + 2, HEIGHT // unit + 2)
    left, top = _X - across * unit / 2, _Y - down * unit / 2
    gap = (unit - band) / 2
    marked = rng.below(down)
    upright = "".join(f"M{fmt_xy(left + i * unit + gap, top)}h{band}v{down * unit}h-{band}z" for i in range(across))
    lying = ["", ""]
    for j in range(down):
        lying[j == marked] += f"M{fmt_xy(left, top + j * unit + gap)}h{across * unit}v{band}h-{across * unit}z"
    over = ""
    for j in range(down):
        for i in range(across):
            if (i + down_too * j) % repeat < covers:
                over += f"M{fmt_xy(left + i * unit + gap, top + j * unit - 1)}h{band}v{unit + 2}h-{band}z"
    threads = "".join(f"M{fmt_xy(left + i * unit + unit / 2, top)}v{down * unit}" for i in range(across))
    parts = _path("t2", upright) + _path("t3", lying[0]) + _path("ta", lying[1]) + _path("t2", over)
    parts = _path("t4 faint", f"M{fmt_xy(left, top)}h{across * unit}v{down * unit}h-{across * unit}z") + parts
    parts += _path("s0", threads, f'{_stroke(1.2)} stroke-dasharray="{fmt(unit / 4)} {fmt(unit / 4)}"')
    return f'<g transform="rotate({tilt} {fmt(_X)} {fmt(_Y)})">{parts}</g>' if tilt else parts


def _script(rng: SeededRandom) -> str:
    """Draw lines of an invented script."""
    strokes = (
        "m0-14v14", "m0 0h8", "m0-14h8", "m8-14v14", "m0 0l8-14", "m0-14l8 14", "m0-7h8", "m0-7a4 4 0 0 1 8 0",
        "m0-7a4 4 0 0 0 8 0", "m4-14v-5", "m4-19v24", "m0-14q8 0 8 14", "m8-14q-8 0-8 14", "m4 4v1",
    )  # fmt: skip
    letters = [[rng.choice(strokes) for _ in range(3 if letter < 3 else 2)] for letter in range(9)]
    words = ["", "", ""]
    for row in range(5):
        x, baseline = 30.0, 42 + row * 34
        end = rng.uniform(180, 296) if row == 4 else 292
        while x < end - 16:
            look = rng.choice((0, 0, 0, 0, 0, 1, 2))
            for _ in range(rng.integer(2, 5)):
                if x > end - 8:
                    break
                # Each stroke starts at the letter's corner: an absolute move, then the stroke.
                words[look] += "".join(f"M{fmt_xy(x, baseline)}{stroke}" for stroke in rng.choice(letters))
                x += 15
            x += 11
    return "".join(
        _path(f"{look} ink", data, _stroke(2.6)) for look, data in zip(("s4", "sa", "s2"), words, strict=True)
    )


def _hills(rng: SeededRandom) -> str:
    """Draw rows of hills, and a moon."""
    x, y, radius = rng.uniform(70, 250), rng.uniform(38, 72), rng.uniform(18, 32)
    parts = [_circle("t1 faint", x, y, radius * 2.6), _circle("t1", x, y, radius * 1.7), _circle("ta", x, y, radius)]
    if rng.chance(0.4):  # a crescent
        parts.append(_circle("t1", x + radius * 0.42, y - radius * 0.2, radius * 0.86))
    parts += [
        _circle("t3", rng.uniform(8, 312), rng.uniform(6, 80), rng.choice((0.9, 1.2, 1.7)))
        for _ in range(rng.integer(5, 14))
    ]
    for hill, look in enumerate(("w1", "w2", "w3", "w4")):
        ground, swing = 104 + hill * 25, rng.uniform(12, 34) * (1 - hill * 0.14)
        step = rng.choice((64, 80, 107))
        data, here = f"M-10 {fmt(ground + rng.uniform(-swing, swing))}", -10.0
        while here < WIDTH:
            tall, low = ground + rng.uniform(-swing, swing), ground + rng.uniform(-swing, swing)
            data += f"S{fmt_xy(here + step * 0.55, tall)} {fmt_xy(here + step, low)}"
            here += step
        parts.append(_path(look, f"{data}V{HEIGHT}H-10z"))
    if rng.chance(0.45):  # water in front, with the moon on it
        parts.append(_path("t1", f"M0 {HEIGHT - 22}h{WIDTH}v22H0z"))
        glint = "".join(
            f"M{fmt_xy(x - width / 2 + rng.uniform(-6, 6), HEIGHT - 18 + 5 * line)}h{fmt(width)}"
            for line, width in enumerate((radius * 1.7, radius * 1.3, radius * 0.9, radius * 0.5))
        )
        parts.append(_path("sa ink", glint, _stroke(2)))
    return "".join(parts)


def _truchet(rng: SeededRandom) -> str:
    """Draw Truchet tiles: two arcs each, which join to winding lines."""
    size, half = 40, 20
    share = rng.uniform(0.35, 0.65)
    data, spots = "", ""
    for row in range(5):
        for column in range(8):
            x, y = column * size, row * size
            if rng.chance(share):
                data += f"M{x} {y + half}a20 20 0 0 0 20-20M{x + half} {y + size}a20 20 0 0 1 20-20"
            else:
                data += f"M{x + half} {y}a20 20 0 0 0 20 20M{x} {y + half}a20 20 0 0 1 20 20"
            if rng.chance(0.12):
                spots += _circle("ta", x + half, y + half, 5)
    wide = rng.choice((9, 13, 17))
    return _path(rng.choice(("s2", "s3", "s3")), data, _stroke(wide)) + spots


def _mosaic(rng: SeededRandom) -> str:
    """Draw squares with parts of discs."""
    by_look: dict[str, str] = {"t1": "", "t2": "", "t3": "", "t4": "", "ta": ""}
    shapes = (
        "M{x} {y}h40a40 40 0 0 1-40 40z", "M{r} {y}v40a40 40 0 0 1-40-40z", "M{r} {b}h-40a40 40 0 0 1 40-40z",
        "M{x} {b}v-40a40 40 0 0 1 40 40z", "M{x} {y}h40a20 20 0 0 1-40 0z", "M{x} {b}v-40a20 20 0 0 1 0 40z",
        "M{x} {m}a20 20 0 0 1 40 0a20 20 0 0 1-40 0z", "M{x} {y}h40l-40 40z", "M{r} {b}h-40l40-40z",
    )  # fmt: skip
    chosen = rng.shuffled(shapes)[: rng.integer(3, 5)]
    for row in range(5):
        for column in range(8):
            x, y = column * 40, row * 40
            ground, look = rng.shuffled(("", "t1", "t1", "t2", "t3"))[0], rng.choice(("t2", "t3", "t4", "ta", "t1"))
            if ground:
                by_look[ground] += f"M{x} {y}h40v40h-40z"
            if look != ground and rng.chance(0.88):
                by_look[look] += rng.choice(chosen).format(x=x, y=y, r=x + 40, b=y + 40, m=y + 20)
    return "".join(_path(look, data) for look, data in by_look.items())


def _scales(rng: SeededRandom) -> str:
    """Draw rows of scales."""
    radius = rng.choice((50, 62))
    step, parts = radius * 0.62, []
    rows = math.ceil((HEIGHT + radius) / step)
    for row in range(rows):
        y, shift = round(row * step + radius * 0.3), row % 2 * radius
        count = math.ceil((WIDTH + shift) / (2 * radius))
        for ring, look in enumerate(("t1", "t2", "t3")):
            r = round(radius * (1, 0.72, 0.42)[ring])
            arc, gap = f"a{r} {r} 0 0 1 {2 * r} 0", f"m{2 * (radius - r)} 0" if ring else ""
            parts.append(_path(look, f"M{radius - r - shift} {y}" + gap.join([arc] * count)))
        if rng.chance(0.6):
            parts.append(
                _circle("ta", radius - shift + rng.below(count) * 2 * radius, y - radius * 0.12, radius * 0.12)
            )
    return f'<g class="rim">{"".join(parts)}</g>'


def _strings(rng: SeededRandom) -> str:
    """Draw threads between pins on a circle: a multiplication table as string art."""
    pins, times = rng.choice((60, 66, 72)), rng.choice((2, 3, 4, 5, 7, 11, 13))
    turn, radius = rng.uniform(0, 1), 92.0
    lines = ["", ""]
    for pin in range(pins):
        a, b = _polar(_X, _Y, radius, turn + pin / pins), _polar(_X, _Y, radius, turn + pin * times % pins / pins)
        if a != b:
            lines[pin % 6 == 0] += f"M{fmt_xy(*a)}L{fmt_xy(*b)}"
    rings = [_circle("s2", _X, _Y, r, _stroke(1)) for r in (118, 142, 170)] if rng.chance(0.6) else []
    disc = [_circle("t1", _X, _Y, radius)]
    return "".join([*rings, *disc, _path("s3", lines[0], _stroke(0.9)), _path("sa", lines[1], _stroke(1.4))]) + _circle(
        "s3", _X, _Y, radius, _stroke(2)
    )


def _ridges(rng: SeededRandom) -> str:
    """Draw rows of ridges, high in the middle."""
    middle, width = rng.uniform(110, 210), rng.uniform(45, 80)
    marked, parts = rng.integer(2, 8), []
    for row in range(11):
        points = []
        for x in range(-9, 345, 16):
            rise = math.exp(-(((x - middle) / width) ** 2)) * rng.uniform(6, 62)
            points.append((x, round(54 + row * 13.5 - rise + rng.uniform(-1.5, 1.5))))
        data, (u, v) = f"M{points[0][0]} {points[0][1]}", points[0]
        for (x, y), (_, after) in itertools.pairwise(points[1:]):
            half = (y + after) // 2
            data += f"q{x - u} {y - v} {x + 8 - u} {half - v}"
            u, v = x + 8, half
        parts.append(_path("ra" if row == marked else "rt", data))
    return "".join(parts)


def _arches(rng: SeededRandom) -> str:
    """Draw nested arches, in one or two rows."""
    count = rng.choice((3, 4, 5))
    wide, looks = WIDTH / count, ("t1", "t2", "t3", "t4", "ta")
    parts = []
    rows = rng.choice((1, 2))
    for row in range(rows):
        floor = HEIGHT * (row + 1) / rows
        for column in range(count):
            order, middle = rng.shuffled(looks), wide * (column + 0.5)
            most = min(wide / 2 - 3, HEIGHT / rows - 8)
            tall = rng.uniform(0.25, 0.95) * max(0.0, HEIGHT / rows - most - 8)
            over = rng.chance(0.25)
            for ring in range(4):
                r = most * (1 - ring * 0.25)
                data = f"M{fmt_xy(middle - r, floor)}v{fmt(-tall)}a{fmt(r)} {fmt(r)} 0 0 1 {fmt(2 * r)} 0v{fmt(tall)}z"
                turned = f' transform="rotate(180 {fmt(middle)} {fmt(floor - HEIGHT / rows / 2)})"' if over else ""
                parts.append(_path(order[ring], data, turned))
    return "".join(parts)


PATTERNS: Sequence[Callable[[SeededRandom], str]] = (
    _rosette,
    _contours,
    _weave,
    _script,
    _hills,
    _truchet,
    _mosaic,
    _scales,
    _strings,
    _ridges,
    _arches,
)
"""All patterns. Their order and number must not change, otherwise every text gets another ornament."""
