"""The signer: signatures, form tokens and digests."""

from __future__ import annotations

import re

import pytest

from unwritten.security.signer import Signer

SIGNER, NOW = Signer(b"s" * 32), 1_800_000_000.0
HOUR = 3600.0


def test_a_signature_belongs_to_one_text_one_purpose_and_one_world() -> None:
    signature = SIGNER.signature("link", "/wiki/Tea")
    assert re.fullmatch(r"[\w-]{32}", signature)
    assert SIGNER.verify("link", "/wiki/Tea", signature)
    assert not SIGNER.verify("link", "/wiki/Sea", signature)
    assert not SIGNER.verify("picture", "/wiki/Tea", signature)
    assert not Signer(b"t" * 32).verify("link", "/wiki/Tea", signature)
    assert not any(SIGNER.verify("link", "/wiki/Tea", wrong) for wrong in ("", signature[:-1], "é" * 32, "\udc80"))


def test_a_signature_may_be_short() -> None:
    short = SIGNER.signature("link", "\udc80", length=16)
    assert len(short) == 16 and SIGNER.verify("link", "\udc80", short, length=16)
    assert not SIGNER.verify("link", "\udc80", short)


def test_a_form_token_is_valid_for_a_day() -> None:
    token = SIGNER.sign_form("/post", "/thread/1", NOW)
    assert SIGNER.verify_form(token, "/post", "/thread/1", NOW) == "good"
    assert SIGNER.verify_form(token, "/post", "/thread/1", NOW + 24 * HOUR) == "good"
    assert SIGNER.verify_form(token, "/post", "/thread/1", NOW + 26 * HOUR) == "stale"


def test_a_form_token_changes_once_an_hour() -> None:
    start = NOW // HOUR * HOUR
    assert SIGNER.sign_form("/post", "/", start) == SIGNER.sign_form("/post", "/", start + HOUR - 1)
    assert SIGNER.sign_form("/post", "/", start) != SIGNER.sign_form("/post", "/", start + HOUR)


@pytest.mark.parametrize(
    ("signer", "action", "page"),
    [(Signer(b"t" * 32), "/post", "/a"), (SIGNER, "/other", "/a"), (SIGNER, "/post", "/b")],
)
def test_a_form_token_is_forged_for_another_world_action_or_page(signer: Signer, action: str, page: str) -> None:
    assert signer.verify_form(SIGNER.sign_form("/post", "/a", NOW), action, page, NOW) == "forged"


@pytest.mark.parametrize(
    "token", ["", ".", "x.y", "77359.", "0." + "0" * 32, "ffffffffffff." + "0" * 32, "77359." + "é" * 32]
)
def test_an_invalid_form_token_is_forged(token: str) -> None:
    assert SIGNER.verify_form(token, "/post", "/a", NOW) == "forged"


def test_a_changed_hour_is_forged_and_not_stale() -> None:
    hour, _, signature = SIGNER.sign_form("/post", "/a", NOW).partition(".")
    assert SIGNER.verify_form(f"{int(hour, 16) - 100:x}.{signature}", "/post", "/a", NOW) == "forged"


def test_digests_never_change() -> None:
    """Databases and browsers hold them."""
    assert SIGNER.digest("visitor", "0" * 32) == "6ca6b27cd051ebb6c8b33fd3fb91a415"
