"""Tokens: good for a day, for one action on one page of one world."""

from __future__ import annotations

import pytest

from unwritten.security.signer import sign_form, verify_form

SECRET, NOW = b"s" * 32, 1_800_000_000.0
HOUR = 3600.0


def test_a_token_is_good_for_a_day() -> None:
    token = sign_form(SECRET, "/post", "/thread/1", NOW)
    assert verify_form(token, SECRET, "/post", "/thread/1", NOW) == "good"
    assert verify_form(token, SECRET, "/post", "/thread/1", NOW + 24 * HOUR) == "good"
    assert verify_form(token, SECRET, "/post", "/thread/1", NOW + 26 * HOUR) == "stale"


def test_it_stays_the_same_for_an_hour_so_that_pages_do() -> None:
    start = NOW // HOUR * HOUR
    assert sign_form(SECRET, "/post", "/", start) == sign_form(SECRET, "/post", "/", start + HOUR - 1)
    assert sign_form(SECRET, "/post", "/", start) != sign_form(SECRET, "/post", "/", start + HOUR)


@pytest.mark.parametrize(
    ("secret", "action", "page"), [(b"t" * 32, "/post", "/a"), (SECRET, "/other", "/a"), (SECRET, "/post", "/b")]
)
def test_for_anything_else_it_is_forged(secret: bytes, action: str, page: str) -> None:
    assert verify_form(sign_form(SECRET, "/post", "/a", NOW), secret, action, page, NOW) == "forged"


@pytest.mark.parametrize(
    "token", ["", ".", "x.y", "77359.", "0." + "0" * 32, "ffffffffffff." + "0" * 32, "77359." + "é" * 32]
)
def test_nonsense_is_forged(token: str) -> None:
    assert verify_form(token, SECRET, "/post", "/a", NOW) == "forged"


def test_an_hour_that_was_changed_is_forged_and_not_stale() -> None:
    hour, _, signature = sign_form(SECRET, "/post", "/a", NOW).partition(".")
    assert verify_form(f"{int(hour, 16) - 100:x}.{signature}", SECRET, "/post", "/a", NOW) == "forged"
