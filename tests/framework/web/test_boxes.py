"""Boxes over HTTP: their documents, their policy, and their saved state."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.support.apps import browser, make_app, tables, write

from unwritten import App, Canvas
from unwritten.core.errors import PageFailed
from unwritten.security.headers import frame_src
from unwritten.web.boxes import MAX_SAVES, box_document
from unwritten_engine import scripted

LAPS = "<!doctype html>\n<html><title>Lap &amp; counter</title><p>Laps so far</p><script>let laps = 1</script></html>"


def a_counter(home: Path, text: str = LAPS) -> App:
    app = make_app(home, scripted(text))

    @app.page("/app/{title}")
    def page(title: str) -> Canvas:
        return Canvas(f"A counter for {title}.", "app", tokens=2000)

    @app.page("/wiki/{title}")
    def words(title: str) -> str:
        return f"An article about {title}."

    return app


def box_url(html: str) -> str:
    found = re.search(r'<iframe class="box"[^<>]* src="([^"]*)"', html)
    assert found, html
    return found[1].replace("&amp;", "&")


def test_a_box_is_served_with_a_policy_that_forbids_everything(tmp_path: Path) -> None:
    with browser(a_counter(tmp_path)) as client:
        shown = [message["html"] for message in write(client, "/app/Laps") if "html" in message][-1]
        page = client.get("/app/Laps")
        assert box_url(shown) == box_url(page.text)
        assert '<iframe class="box" title="Lap &amp; counter" sandbox="allow-scripts" referrerpolicy=' in page.text
        box = client.get(box_url(page.text))
        assert box.status_code == 200
        meta = '<!doctype html><meta charset="utf-8"><meta http-equiv="content-security-policy" content="'
        assert box.text.startswith(f"{meta}default-src 'none'; script-src 'unsafe-inline'; ")
        assert box.text.endswith(LAPS)
        policy = box.headers["content-security-policy"].split("; ")
        rules = {rule.partition(" ")[0]: rule.partition(" ")[2] for rule in policy}
        assert rules == {
            "sandbox": "allow-scripts",
            "default-src": "'none'",
            "script-src": "'unsafe-inline'",
            "style-src": "'unsafe-inline'",
            "img-src": "data: blob:",
            "media-src": "data: blob:",
            "font-src": "data:",
            "form-action": "'none'",
            "base-uri": "'none'",
            "frame-src": "'none'",
            "worker-src": "'none'",
            "require-trusted-types-for": "'script'",
            "trusted-types": "default",
            "frame-ancestors": "'self'",
        }
        assert box.headers["x-dns-prefetch-control"] == "off"
        assert box.headers["referrer-policy"] == "no-referrer"
        assert box.headers["cross-origin-resource-policy"] == "same-origin"


def test_only_pages_with_a_box_allow_frames(tmp_path: Path) -> None:
    with browser(a_counter(tmp_path)) as client:
        shell, words = client.get("/app/Laps"), client.get("/wiki/Laps")
        write(client, "/app/Laps")
        for answer in (shell, client.get("/app/Laps"), client.get("/app/Laps?version=1"), client.get("/app/X?plain=1")):
            assert answer.headers["content-security-policy"].endswith("; frame-src testserver/_unwritten/box")
            assert '<meta name="unwritten-frames"' in answer.text
        assert "frame-src" not in words.headers["content-security-policy"]
        assert "unwritten-frames" not in words.text


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("a.example", "a.example/_unwritten/box"),
        ("127.0.0.1:8000", "127.0.0.1:8000/_unwritten/box"),
        ("[::1]:8000", "'self'"),  # a policy cannot contain this host
        ("a.example; script-src *", "'self'"),
        ("a.example\n", "'self'"),
        ("", "'self'"),
        (None, "'self'"),
    ],
)
def test_frame_src_is_a_host_and_the_path_of_boxes(host: str | None, source: str) -> None:
    assert frame_src("boxes", host) == source
    assert frame_src("pages", host) == "'self'"
    assert frame_src("", host) == ""


def test_only_apps_are_served_as_boxes(tmp_path: Path) -> None:
    with browser(a_counter(tmp_path)) as client:
        write(client, "/app/Laps")
        write(client, "/wiki/Laps")
        place = box_url(client.get("/app/Laps").text)
        for wrong in (
            place.replace("Laps", "Other"),
            place.replace("region=body", "region=lead"),
            re.sub(r"text=\w+", "text=0", place),
            "/_unwritten/box?page=/wiki/Laps&region=body",
        ):
            answer = client.get(wrong)
            assert answer.status_code == 404 and "does not exist any more" in answer.text
            assert "sandbox allow-scripts" in answer.headers["content-security-policy"]
        for nonsense in ("", "?page=/app/Laps", "?page=//evil.example&region=body", "?page=x&region=body"):
            assert client.get(f"/_unwritten/box{nonsense}").status_code == 400


def test_a_box_opened_in_a_tab_redirects_to_its_page(tmp_path: Path) -> None:
    with browser(a_counter(tmp_path)) as client:
        write(client, "/app/Laps")
        place = box_url(client.get("/app/Laps").text)
        answer = client.get(place, headers={"sec-fetch-dest": "document"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/app/Laps")


def test_an_old_version_keeps_its_own_app(tmp_path: Path) -> None:
    texts = iter([LAPS, LAPS.replace("so far", "from now on")])
    app = make_app(tmp_path, scripted(lambda request: next(texts)))

    @app.page("/app/{title}")
    def page(title: str) -> Canvas:
        return Canvas(f"A counter for {title}.", "app", tokens=2000)

    with browser(app) as client:
        write(client, "/app/Laps")
        assert client.post("/_unwritten/rewrite", data={"page": "/app/Laps"}).status_code == 303
        write(client, "/app/Laps")
        assert "from now on" in client.get(box_url(client.get("/app/Laps").text)).text
        assert "so far" in client.get(box_url(client.get("/app/Laps?version=1").text)).text


def test_a_state_is_saved_loaded_and_deleted_with_its_page(tmp_path: Path) -> None:
    with browser(a_counter(tmp_path)) as client:
        write(client, "/app/Laps")
        place = {"page": "/app/Laps", "region": "body"}
        assert client.get("/_unwritten/box/state", params=place).json() == {"state": None}
        for state in ('{"laps": 1}', '{"laps": "</script><b>"}'):
            assert client.post("/_unwritten/box/state", json={**place, "state": state}).status_code == 200
        assert client.get("/_unwritten/box/state", params=place).json() == {"state": state}
        box = client.get(box_url(client.get("/app/Laps").text)).text
        assert 'const STORED = {"laps": "\\u003c/script>\\u003cb>"};' in box
        assert client.portal is not None
        client.portal.call(client.app.site.store.delete, "/app/Laps")  # type: ignore[attr-defined]
        assert client.get("/_unwritten/box/state", params=place).json() == {"state": None}
    assert tables(tmp_path / "pages.db")["pages"] == []


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "a JSON object with three strings"),
        (b"[]", 400, "a JSON object with three strings"),
        (b'{"page": "/app/Laps", "region": "body"}', 400, "a JSON object with three strings"),
        (b'{"page": "/app/Laps", "region": "body", "state": 1}', 400, "a JSON object with three strings"),
        (b'{"page": "/app/Laps", "region": "body", "state": "1", "x": "y"}', 400, "a JSON object with three strings"),
        (b'{"page": "/app/Laps", "region": "body", "state": "{"}', 400, "must be JSON"),
        (
            b'{"page": "/app/Laps", "region": "body", "state": "' + b"[" * 9000 + b'"}',
            400,
            "must be JSON",
        ),
        (b'{"page": "/app/Laps", "region": "lead", "state": "1"}', 404, "has no app 'lead'"),
        (b'{"page": "/wiki/Laps", "region": "body", "state": "1"}', 404, "has no app 'body'"),
        (b'{"page": "x", "region": "body", "state": "1"}', 400, "identified by the key of its page"),
        (json.dumps({"page": "/app/Laps", "region": "body", "state": f'"{"x" * 16400}"'}).encode(), 413, "up to 16 kB"),
        (b"x" * 60_000, 413, "up to 16 kB"),
    ],
)
def test_invalid_states_are_refused(tmp_path: Path, body: bytes, status: int, message: str) -> None:
    with browser(a_counter(tmp_path)) as client:
        write(client, "/app/Laps")
        write(client, "/wiki/Laps")
        answer = client.post("/_unwritten/box/state", content=body)
        assert answer.status_code == status and message in answer.json()["message"]


def test_saves_are_limited_to_the_page_and_in_rate(tmp_path: Path) -> None:
    with browser(a_counter(tmp_path)) as client:
        write(client, "/app/Laps")
        given = {"page": "/app/Laps", "region": "body", "state": "1"}
        for origin in ("http://evil.example", "null"):
            answer = client.post("/_unwritten/box/state", json=given, headers={"origin": origin})
            assert answer.status_code == 403 and "only be saved from its own page" in answer.json()["message"]
        answers = [client.post("/_unwritten/box/state", json=given).status_code for _ in range(MAX_SAVES + 2)]
        assert answers == [200] * MAX_SAVES + [429] * 2


def test_forbidden_elements_are_renamed() -> None:
    text = box_document(
        "<!doctype html><IFRAME src=x></iframe><link\nrel=x><base/><object>a<frameset><embed><p>"
        "<meta HTTP-EQUIV=refresh><script>for (let i = 0; i<frames.length; i++);</script><linkage><basefont>",
        None,
    ).partition("</script>")[2]
    assert text == (
        "<!doctype html><x-IFRAME src=x></x-iframe><x-link\nrel=x><x-base/><x-object>a<x-frameset><x-embed><p>"
        "<meta x-http-equiv=refresh><script>for (let i = 0; i<frames.length; i++);</script><linkage><basefont>"
    )


def test_the_state_is_escaped_in_the_script() -> None:
    text = box_document("<!doctype html><p>x", '"</script>\u2028"')
    assert text.count("</script") == 1 and text.count("<script") == 1 and "<!--" not in text
    with pytest.raises(PageFailed):
        box_document("words", None)
