"""Contrast of the colours in the style sheets, light and dark, by the formula of WCAG."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHEET = (ROOT / "static" / "unwritten.css").read_text(encoding="utf-8")
SCHEMES = ("light", "dark")

TEXT = [(ink, paper) for ink in ("ink", "soft", "written", "unwritten") for paper in ("paper", "raised")]
TEXT += [("ink", "mark"), ("paper", "ink"), ("on-accent", "accent")]
"""Colours of text, with their backgrounds."""

CONTROLS = [("line", "paper"), ("line", "raised"), ("focus", "paper"), ("focus", "raised"), ("accent", "paper")]
"""Colours that show where a control is, with their backgrounds."""

Colour = tuple[float, float, float]


def tokens(sheet: str) -> dict[str, str]:
    """Return the custom properties of the first ``:root`` rule of a style sheet."""
    found = re.search(r":root\s*\{(.*?)\n\}", re.sub(r"/\*.*?\*/", "", sheet, flags=re.DOTALL), re.DOTALL)
    return dict(re.findall(r"--([\w-]+):\s*([^;]+);", found[1])) if found else {}


def colour(value: str, scheme: str, known: dict[str, str], under: Colour) -> Colour:
    """Return a CSS colour as red, green and blue from 0 to 1, blended with the background ``under``."""
    value = value.strip()
    if found := re.fullmatch(r"light-dark\(([^,]+),\s*([^)]+)\)", value):
        return colour(found[1 if scheme == "light" else 2], scheme, known, under)
    if found := re.fullmatch(r"var\(--([\w-]+)\)", value):
        return colour(known[found[1]], scheme, known, under)
    if found := re.fullmatch(r"color-mix\(in srgb, ([^%]+?) ([\d.]+)%, transparent\)", value):
        over, share = colour(found[1], scheme, known, under), float(found[2]) / 100
        red, green, blue = (share * one + (1 - share) * two for one, two in zip(over, under, strict=True))
        return red, green, blue
    found = re.fullmatch(r"#([0-9a-f]{3}|[0-9a-f]{6})", value)
    assert found, f"The test cannot read the colour {value!r}."
    digits = found[1] if len(found[1]) == 6 else "".join(2 * digit for digit in found[1])
    red, green, blue = (int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4))
    return red, green, blue


def ratio(one: Colour, two: Colour) -> float:
    """Return the contrast ratio of two colours: from 1 (equal) to 21 (black on white)."""

    def light(parts: Colour) -> float:
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dark = sorted((light(one), light(two)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def contrast(over: str, under: str, scheme: str, known: dict[str, str]) -> float:
    """Return the contrast ratio of two custom properties."""
    ground = colour(known[under], scheme, known, (0, 0, 0))
    return ratio(colour(known[over], scheme, known, ground), ground)


def sheets() -> dict[str, dict[str, str]]:
    """Return the custom properties of the framework, and of each demo that changes some."""
    ours = tokens(SHEET)
    found = {"unwritten": ours}
    for path in sorted((ROOT / "demos").glob("*/static/*.css")):
        own = tokens(path.read_text(encoding="utf-8"))
        if own:
            found[path.stem] = {**ours, **own}
    return found


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", sheets())
def test_text_and_controls_have_enough_contrast(name: str, scheme: str) -> None:
    known = sheets()[name]
    weak = {
        f"{over} on {under}": round(found, 2)
        for pairs, least in ((TEXT, 4.5), (CONTROLS, 3.0))
        for over, under in pairs
        if (found := contrast(over, under, scheme, known)) < least
    }
    assert weak == {}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_palest_draft_has_enough_contrast(scheme: str) -> None:
    found = re.search(r"\.unsettled \{ color: color-mix\(in srgb, currentcolor calc\((\d+)% - (\d+)%", SHEET)
    assert found
    known = tokens(SHEET)
    known["palest"] = f"color-mix(in srgb, var(--ink) {int(found[1]) - int(found[2])}%, transparent)"
    assert contrast("palest", "paper", scheme, known) >= 4.5


@pytest.mark.parametrize("scheme", SCHEMES)
def test_differences_of_versions_have_enough_contrast(scheme: str) -> None:
    known = tokens(SHEET)
    for tag, over in (("ins", "ink"), ("del", "soft")):
        found = re.search(rf"^{tag} \{{.*?background: ([^;]+);", SHEET, re.MULTILINE)
        assert found
        assert contrast(over, "ground", scheme, {**known, "ground": found[1]}) >= 4.5, tag


def test_the_contrast_formula_is_that_of_wcag() -> None:
    assert round(ratio((0, 0, 0), (1, 1, 1)), 2) == 21
    assert round(ratio(colour("#777", "light", {}, (0, 0, 0)), (1, 1, 1)), 2) == 4.48
