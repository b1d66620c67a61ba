"""Security headers of responses, and what request headers say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import Headers
from tests.support.apps import LIVE, browser, make_app, make_wiki, templates, write
from tests.support.hostile import VECTORS
from tests.support.html_checks import page_faults

from unwritten import Canvas, Page
from unwritten.rendering.document import NONCE, page_response
from unwritten.security.headers import is_cross_origin, is_prefetch, is_same_origin, new_nonce, saves_data
from unwritten_engine import scripted


def test_the_policy_allows_our_scripts_and_nothing_else(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("Words."))) as client:
        policy = client.get("/wiki/X").headers["content-security-policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules.pop("script-src").startswith("'nonce-")
    assert rules == {
        "default-src": "'none'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "font-src": "'self'",
        "media-src": "'self'",
        "connect-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'self'",
    }


def test_every_response_has_its_own_nonce(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("Words."))) as client:
        write(client, "/wiki/X")
        answers = [client.get(path) for path in ("/wiki/X", "/wiki/X", "/wiki/Y", "/wiki/Z?plain=1", "/nowhere")]
        answers.append(client.get("/wiki/X?version=1"))
    nonces = []
    for answer in answers:
        found = re.search(r"script-src 'nonce-([\w-]{20,})'", answer.headers["content-security-policy"])
        assert found
        nonces.append(found[1])
        assert set(re.findall(r'nonce="([^"]*)"', answer.text)) == {found[1]}
        assert NONCE not in answer.text
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        # Nothing that the policy would block: inline styles, inline handlers or scripts without the nonce.
        assert not re.search(r"<[^>]*\s(style|on\w+)=", answer.text)
        assert all("nonce=" in tag for tag in re.findall(r"<script[^>]*>", answer.text))
    assert len(set(nonces)) == len(nonces)


def test_hostile_texts_are_harmless_everywhere(tmp_path: Path) -> None:
    """Frames, streamed pages and stored pages contain no active markup from a model."""
    text = "\n\n".join(vector for vector in VECTORS if "\x00" not in vector)
    with browser(make_wiki(tmp_path, scripted([text[: len(text) // 2], text]))) as client:
        frames = [m["html"] for m in write(client, "/wiki/X") if m["type"] == "frame"]
        pages = [client.get("/wiki/X").text, client.get("/wiki/Y?plain=1").text]
        assert client.app.store.search("evil")[0].snippet  # type: ignore[attr-defined]
    for page in pages:
        assert page_faults(page) == []
        ours = re.findall(r'<script defer src="[^"]*/([\w-]+)\.js\b', page)
        assert ours == ["texts", "controls", "morph", "live", "forms", "box-host", "edits"]
        assert len(re.findall(r"<script", page)) == len(ours)
    for html in frames + pages:
        assert not re.search(r"<(img|svg|math|iframe|object|embed|base|template|style)\b", html)
        assert not re.search(
            r"<[^>]*\s(on\w+|hx-(?!boost|sync|preload|replace)[\w-]+|data-hx-[\w-]+|ws-\w+|srcdoc)=", html
        )
        assert not re.search(r'<[^<>]*\shref="(?:\s*javascript|//|https?:|data:)', html, re.I)


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        (None, "a.example", True),
        ("http://a.example", "a.example", True),
        ("https://A.example:8000", "a.EXAMPLE:8000", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("http://b.example", "a.example", False),
        ("http://a.example:81", "a.example", False),
        ("http://a.example.evil", "a.example", False),
        ("null", "a.example", False),
        ("", "a.example", False),
        ("", "", False),
        ("http://a.example", None, False),
        ("http://[", "[", False),
        ("//a.example", "a.example", True),
        ("a.example", "a.example", False),
    ],
)
def test_an_origin_is_compared_with_the_host(origin: str | None, host: str | None, same: bool) -> None:
    assert is_same_origin(origin, host) is same


@pytest.mark.parametrize(
    ("headers", "crosses"),
    [
        ({}, False),
        ({"sec-fetch-site": "same-origin"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "same-site"}, True),
        ({"sec-fetch-site": "cross-site", "origin": "http://a.example"}, True),
        ({"origin": "http://a.example"}, False),
        ({"origin": "http://b.example"}, True),
    ],
)
def test_cross_origin_requests_are_recognized(headers: dict[str, str], crosses: bool) -> None:
    assert is_cross_origin(Headers({"host": "a.example", **headers})) is crosses


@pytest.mark.parametrize(
    ("origin", "logged"),
    [("http://a.example:8080", True), ("http://b.example", False), ("http://[::1", False), ("http://a.example", False)],
)
def test_a_port_that_a_proxy_has_removed_is_logged(caplog: pytest.LogCaptureFixture, origin: str, logged: bool) -> None:
    is_cross_origin(Headers({"host": "a.example", "origin": origin}))
    assert ("proxy_set_header Host $http_host" in caplog.text) is logged


@pytest.mark.parametrize(
    ("headers", "prefetches"),
    [
        ({"sec-purpose": "prefetch"}, True),
        ({"sec-purpose": "prefetch;anonymous-client-ip"}, True),
        ({"purpose": "Prefetch"}, True),
        ({"x-moz": "prefetch"}, True),
        ({"sec-purpose": "preview"}, False),
        ({}, False),
    ],
)
def test_prefetch_requests_are_recognized(headers: dict[str, str], prefetches: bool) -> None:
    assert is_prefetch(Headers(headers)) is prefetches


def test_clients_that_save_data_are_recognized() -> None:
    assert saves_data(Headers({"save-data": " ON "}))
    assert not saves_data(Headers({"save-data": "off"})) and not saves_data(Headers({}))


def test_nonces_are_random_and_placeholders_are_replaced() -> None:
    assert len({new_nonce() for _ in range(100)}) == 100
    assert page_response(f"<p>{NONCE}</p>").body != page_response(f"<p>{NONCE}</p>").body


def test_framework_routes_serve_nothing_else(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("Words."))) as client:
        assert client.get(LIVE).status_code == 404
        assert client.get("/_unwritten/static/../app.py").status_code == 404
        assert client.get("/_unwritten/static/%2e%2e/%2e%2e/pyproject.toml").status_code == 404
        assert client.delete("/wiki/X").status_code == 405


FRAMES = """{% extends "layout.html" %}{% block main %}<iframe src="/about" title="About"></iframe>
{% block words %}{{ words }}{% endblock %}{% endblock %}"""


@pytest.mark.parametrize(("format", "embeds"), [("markdown", True), ("html", True), ("html", False)])
def test_a_page_with_embeds_may_frame_pages_of_the_app(tmp_path: Path, format: Any, embeds: bool) -> None:
    app = make_app(tmp_path, scripted('Words <iframe src="/about"></iframe>.'), folder=templates(tmp_path, desk=FRAMES))

    @app.page("/desk")
    def desk() -> Page:
        return Page("desk.html", embeds=embeds, words=Canvas("Words.", format))

    with browser(app) as client:
        client.get("/desk?plain=1")
        page = client.get("/desk")
        policy = page.headers["content-security-policy"]
        assert ("frame-src 'self'" in policy) is embeds
        assert ("frame-src" in policy) is embeds
        assert page.text.count("<iframe") == 1, "only that of the template"
