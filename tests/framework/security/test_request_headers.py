"""Readers: what a browser says of somebody who reads."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from unwritten.generation.prefetcher import GUESSED, HOVERED, IN_VIEW, PRESSED, Viewer
from unwritten.security.headers import is_prefetch, saves_data


def test_what_is_pressed_comes_before_what_is_hovered_and_that_before_what_can_be_seen() -> None:
    reader = Viewer({"type": "websocket", "client": ("192.0.2.7", 5), "headers": []})
    reader.view, reader.hover, reader.press = frozenset({"/a", "/b", "/c"}), "/b", "/c"
    assert [reader.link_rank(key) for key in ("/c", "/b", "/a", "/d")] == [PRESSED, HOVERED, IN_VIEW, GUESSED]
    assert PRESSED < HOVERED < IN_VIEW < GUESSED
    assert reader.client_id == "192.0.2.7"


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({"sec-purpose": "prefetch"}, True),
        ({"sec-purpose": "prefetch;anonymous-client-ip"}, True),
        ({"purpose": "Prefetch"}, True),
        ({"x-moz": "prefetch"}, True),
        ({"sec-purpose": "preview"}, False),
        ({}, False),
    ],
)
def test_what_browsers_say_when_nobody_has_clicked(headers: dict[str, str], wanted: bool) -> None:
    assert is_prefetch(Headers(headers)) is wanted


def test_who_saves_data_says_so() -> None:
    assert saves_data(Headers({"save-data": " ON "}))
    assert not saves_data(Headers({"save-data": "off"})) and not saves_data(Headers({}))
