"""URLs: what leads to a page of this app, in its normalized spelling."""

from __future__ import annotations

import time
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.hostile import few_examples
from tests.support.urls import FRAMEWORK_URLS, url_vectors

from unwritten.core.paths import MAX_URL_LENGTH, page_key, page_path, site_path


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/wiki/Great Auk", "/wiki/Great%20Auk"),
        ("/wiki/Café?x=é#é", "/wiki/Caf%C3%A9?x=%C3%A9#%C3%A9"),
        ("/wiki/AC%2FDC", "/wiki/AC%2FDC"),
        ("/wiki/a/%2E%2e/./Tea", "/wiki/Tea"),
        ("/a/b/..", "/a/"),
        ("/..", "/"),
        (" /wiki/Tea\n", "/wiki/Tea"),
        ("/a//b", "/a//b"),
        ("/wiki/Tea?next=//evil.example/../x", "/wiki/Tea?next=//evil.example/../x"),
        ("/wiki/100%25", "/wiki/100%25"),
        ("/_own", "/_own"),
        ("/.//evil.example", None),
        ("/%2e//evil.example", None),
        ("/..//evil.example", None),
        ("/%5Cevil.example", None),
        ("/%252Fevil.example", None),
        ("/\t/evil.example", None),
        ("/wiki/..%2F..%2Fetc%2Fpasswd", "/wiki/..%2F..%2Fetc%2Fpasswd"),  # a title with slashes
        ("/wiki/..%2f%2fevil.example", None),
        ("/wiki/..%5c%252fevil.example", None),
        ("/wiki/a\r\nb", None),
        ("/wiki/%0d%0a", None),
        ("/wiki/%c0%af", None),
        ("/wiki/\ud800", None),
        ("wiki/Tea", None),
        ("", None),
    ],
)
def test_absolute_paths_are_normalized_or_refused(url: str, path: str | None) -> None:
    assert page_path(url) == path


def test_relative_urls_are_resolved_against_a_page() -> None:
    base = "/wiki/Here?x=1"
    for url, path in {
        "Tea": "/wiki/Tea",
        "../about": "/about",
        "../../../x": "/x",
        "?y=2": "/wiki/Here?y=2",
        "#top": "/wiki/Here?x=1#top",
        "": "/wiki/Here?x=1",
        "..//evil.example": None,
        "http:Tea": None,
    }.items():
        assert page_path(url, base) == path


def test_a_key_has_no_fragment() -> None:
    assert page_key("/wiki/Tea?x=1#top") == "/wiki/Tea?x=1"


@pytest.mark.parametrize("url", FRAMEWORK_URLS)
def test_no_page_is_among_the_routes_of_the_framework(url: str) -> None:
    decoded = unquote(unquote(url)).replace("\\", "/")
    if "_unwritten;" not in url:  # another name
        assert page_path(url, "/here") is None, decoded


def test_routes_of_the_framework_are_on_this_site() -> None:
    assert site_path("/_unwritten/static/live.js") == "/_unwritten/static/live.js"


@pytest.mark.parametrize("base", [None, "/", "/wiki/Here?x=1"])
def test_no_accepted_url_leads_to_another_server_however_often_it_is_decoded(base: str | None) -> None:
    accepted = [path for url in url_vectors() if (path := page_path(url, base)) is not None]
    assert len(accepted) > 20
    for path in accepted:
        assert page_path(path) == path, "a normalized path is not changed again"
        assert path.isascii() and path.isprintable() and " " not in path
        decoded = urlsplit(path).path
        for _ in range(6):
            parts = urlsplit(urljoin("http://own.example/p", decoded.replace("\\", "/")))
            assert parts.netloc == "own.example" and not parts.path.startswith(("//", "/_unwritten/")), path
            assert not decoded.startswith(("//", "/\\", "/_unwritten/"))
            decoded = unquote(decoded)


@few_examples
@given(st.text(st.sampled_from("/\\.%2eE5cCfF_unwritten:?#@ \t\n;aé\u3000"), max_size=24))
def test_any_mixture_of_url_syntax_is_normalized_or_refused(text: str) -> None:
    path = page_path(text, "/wiki/Here")
    if path is not None:
        assert page_path(path) == path
        assert not unquote(unquote(path)).startswith(("//", "/\\", "/_unwritten/"))


def test_long_urls_are_refused_and_take_linear_time() -> None:
    assert page_path("/" + "a" * MAX_URL_LENGTH) is None
    assert page_path("/" + "é" * (MAX_URL_LENGTH // 6 + 1)) is None, "percent-encoding makes it longer"
    for piece in ("../", "%2e%2e/", "%25", "%2525", "a.", "a/", "\\", "é", "?", "#", ":", "./%2e/"):
        durations = []
        for size in (1000, 4000):
            url = ("/" + piece * size)[:size]
            started = time.thread_time()
            for _ in range(10):
                page_path(url)
            durations.append(time.thread_time() - started)
        assert durations[1] < 12 * durations[0] + 0.02, piece
