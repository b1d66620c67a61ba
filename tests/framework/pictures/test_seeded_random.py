"""Random numbers from a text."""

from __future__ import annotations

import pytest

from unwritten.pictures.seeded_random import SeededRandom, fmt, fmt_xy


def test_numbers_never_change() -> None:
    seed = SeededRandom("Lighthouse", "ornament")
    assert [seed.below(1000) for _ in range(4)] == [362, 676, 320, 363]
    assert SeededRandom("a", "b").below(10**9) != SeededRandom("a", "c").below(10**9)


def test_numbers_stay_within_their_bounds_and_reach_them() -> None:
    seed = SeededRandom("x", "y")
    assert {seed.integer(2, 5) for _ in range(200)} == {2, 3, 4, 5}
    assert all(-1 <= seed.uniform(-1, 2.5) <= 2.5 for _ in range(200))
    assert 60 < sum(seed.chance(0.4) for _ in range(200)) < 100
    assert sorted(seed.shuffled("abcd")) == list("abcd")


@pytest.mark.parametrize(("number", "text"), [(1.0, "1"), (-0.04, "0"), (2.25, "2.2"), (-3.16, "-3.2")])
def test_numbers_are_short(number: float, text: str) -> None:
    assert fmt(number) == text and fmt_xy(number, 1) == f"{text} 1"
