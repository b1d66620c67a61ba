"""``picture(…)``: its element, its signed URL, and the response."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.support.apps import browser, make_app, templates
from tests.support.painters import FakePainter
from tests.support.servers import wait_for

from unwritten import App, Page
from unwritten.core.errors import BadSetting, BadTemplate, BadURL
from unwritten.core.localization import Language
from unwritten.core.mount import MountPoint
from unwritten.core.paths import PICTURES_PREFIX
from unwritten.export.static_site import export_site
from unwritten.formats.schema import UnsettledText
from unwritten.pictures import extension
from unwritten.pictures.picture_tag import PictureTag
from unwritten.pictures.store import PictureRequest
from unwritten.security.signer import Signer
from unwritten_engine import scripted
from unwritten_engine.errors import GenerationFailed

PROBE = (
    '{% extends "layout.html" %}{% block main %}{{ picture(prompt, "A <tower>", width=300, height=180) }}{% endblock %}'
)
ENGLISH = Language("en", None)
PROMPT = 'A red tower.\n"><script>'


def gallery(home: Path, **given: Any) -> App:
    app = make_app(home, scripted("Text."), folder=templates(home, probe=PROBE), **given)

    @app.page("/")
    def front() -> Page:
        return Page("probe.html", title="Front", prompt=PROMPT)

    return app


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakePainter:
    fake = FakePainter()
    monkeypatch.setattr(extension, "open_painter", lambda name, **options: fake)
    return fake


def picture_tag(secret: bytes = b"secret") -> PictureTag:
    return PictureTag(Signer(secret), MountPoint(), lambda picture: ("", False))


def source(page: str) -> str:
    found = re.search(r'<img class="picture" src="([^"]*)"', page)
    assert found
    return found[1]


def test_without_a_painter_an_ornament_is_shown_and_named_as_one(tmp_path: Path) -> None:
    with browser(gallery(tmp_path)) as client:
        page = client.get("/").text
        answer = client.get(source(page))
    assert 'alt="An ornament in place of a picture: A &lt;tower&gt;"' in page and "An ornament, not a picture" in page
    assert 'width="300" height="180" loading="lazy" decoding="async">' in page and "pictures.js" not in page
    assert answer.headers["content-type"] == "image/svg+xml" and "max-age" in answer.headers["cache-control"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    root = ElementTree.fromstring(answer.text)
    assert (root.get("width"), root.get("height")) == ("300", "180") and "script" not in answer.text
    assert "light-dark(" in answer.text and "var(--paper)" not in answer.text, "the image contains its colors"


def test_a_painted_picture_is_stored_and_named_as_generated(tmp_path: Path, fake: FakePainter) -> None:
    app = gallery(tmp_path, painter="fake")
    with browser(app) as client:
        page = client.get("/").text
        first, second = client.get(source(page)), client.get(source(page))
        again = client.get(source(page), headers={"if-none-match": first.headers["etag"]})
    assert 'alt="A &lt;tower&gt; (a generated picture)" title="Painted by a fake painter; not a photograph"' in page
    assert (
        "pictures.js" in page
        and "data-pending" in page
        and first.headers["content-type"] == "image/webp" == second.headers["content-type"]
    )
    assert first.headers["x-picture"] == "painted" and again.status_code == 304
    assert fake.painted == [('A red tower. "><script>', 300, 180, fake.painted[0][3])] and fake.closed
    with browser(gallery(tmp_path)) as client:
        page = client.get("/").text
        assert client.get(source(page)).content == first.content, "the picture is shown without a painter"
    assert "Painted by a fake painter" in page and "data-pending" not in page


def test_an_ornament_is_shown_while_a_picture_is_painted(tmp_path: Path, fake: FakePainter) -> None:
    with browser(gallery(tmp_path, painter="fake")) as client:
        url = source(client.get("/").text)
        fake.leave.clear()
        waiting = client.head(url)
        assert waiting.headers["x-picture"] == "ornament" and waiting.headers["retry-after"] == "3"
        assert waiting.headers["cache-control"] == "no-store"
        fake.leave.set()
        wait_for(lambda: client.head(url).headers["x-picture"] == "painted")


def test_an_ornament_is_shown_for_a_failed_picture(tmp_path: Path, fake: FakePainter) -> None:
    fake.fault = GenerationFailed("The paint has run out.")
    with browser(gallery(tmp_path, painter="fake")) as client:
        url = source(client.get("/").text)
        client.get(url)
        answer = client.get(url)
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/svg+xml"
    assert answer.headers["cache-control"] == "no-store" and "retry-after" not in answer.headers


def test_only_the_app_can_make_urls(tmp_path: Path, fake: FakePainter) -> None:
    with browser(gallery(tmp_path, painter="fake")) as client:
        url = source(client.get("/").text)
        token, _, signature = url.removeprefix(PICTURES_PREFIX).partition(".")
        other = picture_tag(b"another world").url(PictureRequest("A bomb.", 300, 180))
        for bad in (
            other,
            PICTURES_PREFIX + token,
            f"{PICTURES_PREFIX}{token}.{'A' * 22}",
            f"{PICTURES_PREFIX}{token}x.{signature}",
            PICTURES_PREFIX,
        ):
            assert client.get(bad).status_code == 404
        assert client.get(f"{PICTURES_PREFIX}{'A' * 5000}.{signature}").status_code == 404
        assert client.get(f"{PICTURES_PREFIX}%C3%A9.%C3%A9").status_code == 404
    assert fake.painted == []


def test_prompts_are_cut_and_put_on_one_line() -> None:
    pictures = picture_tag()

    def read(prompt: str) -> str:
        found = source(pictures.render(ENGLISH, prompt, ""))
        assert len(found) < 2400
        return pictures.parse(found.removeprefix(PICTURES_PREFIX)).prompt

    assert read("a\r\n\0 b\u202e\ud800 c") == "a b c"
    assert read("é" * 100_000) == "é" * 300
    import random

    noise = random.Random(1)
    assert len(read("".join(chr(noise.randrange(0x4E00, 0x9FFF)) for _ in range(400)))) == 300


@pytest.mark.parametrize("prompt", ["", "  \n", None, UnsettledText("A red to")])
def test_an_unfinished_prompt_reserves_the_space(prompt: Any) -> None:
    tag = picture_tag().render(ENGLISH, prompt, "x", 100, 50)
    assert PICTURES_PREFIX not in tag and 'width="100" height="50"' in tag and 'src="data:image/svg+xml' in tag


@pytest.mark.parametrize("size", [0, 15, 2049, -1, True, "300", 3.5])
def test_invalid_sizes_are_errors(size: Any) -> None:
    with pytest.raises(BadTemplate, match="16 to 2048"):
        picture_tag().render(ENGLISH, "a", "b", width=size)


def test_a_url_of_another_version_is_refused() -> None:
    pictures = picture_tag()
    with pytest.raises(BadURL, match="cannot be read"):
        pictures.parse(f"AAAA.{pictures._signer.signature('picture', 'AAAA')}")


def test_options_without_a_painter_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="--painter OWNER/REPO"):
        gallery(tmp_path, painter_options="steps=4").prepare()


def test_an_export_contains_pictures(tmp_path: Path, fake: FakePainter) -> None:
    with browser(gallery(tmp_path, painter="fake")) as client:
        client.get(source(client.get("/").text))
    export_site(gallery(tmp_path, painter="fake"), tmp_path / "site")
    page = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert source(page).startswith("unwritten-pictures/")
    assert (tmp_path / "site" / source(page)).read_bytes()[:4] == b"RIFF" and source(page).endswith(".webp")
    assert len(fake.painted) == 1
