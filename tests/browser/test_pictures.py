"""Pictures in a browser: ornaments are replaced by painted pictures without a layout shift."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from tests.browser.tabs import OpenTab, Serve, Tab, until
from tests.support.apps import make_app, templates
from tests.support.painters import FakePainter

from unwritten import App, Page
from unwritten.pictures import extension
from unwritten_engine import scripted
from unwritten_engine.text_to_image import Painted

pytestmark = pytest.mark.browser

PROBE = """{% extends "layout.html" %}{% block main %}<article class="page"><h1>Front</h1>
{{ picture("A red lighthouse.", "A tower") }}<p>{{ avatar("Ada") }}{{ ornament("Tea") }}</p></article>{% endblock %}"""


class ImagePainter(FakePainter):
    """A painter whose picture is a valid image."""

    def __init__(self) -> None:
        super().__init__()
        file = io.BytesIO()
        Image.new("RGB", (96, 60), "firebrick").save(file, "WEBP")
        self.picture = Painted(file.getvalue(), "image/webp", 1, 1)

    def paint(self, *args: object, **given: object) -> Painted:
        super().paint(*args, **given)  # type: ignore[arg-type]
        return self.picture


def gallery(home: Path, **given: object) -> App:
    app = make_app(home, scripted("Text."), folder=templates(home, probe=PROBE), **given)

    @app.page("/")
    def front() -> Page:
        return Page("probe.html", title="Front")

    return app


def shows(tab: Tab, width: int) -> bool:
    return bool(tab.js(WIDTH) == width)


WIDTH = "() => { const i = document.querySelector('img.picture'); return i.complete ? i.naturalWidth : 0; }"


def test_a_painted_picture_replaces_its_ornament_in_place(
    tmp_path: Path, serve: Serve, open_tab: OpenTab, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = ImagePainter()
    monkeypatch.setattr(extension, "open_painter", lambda name, **options: fake)
    fake.leave.clear()
    tab = open_tab()
    tab.goto(serve(gallery(tmp_path, painter="fake")))
    until(lambda: tab.js(WIDTH) == 512, 20)  # the ornament
    fake.leave.set()
    until(lambda: tab.js(WIDTH) == 96, 30)  # the painted one, without a reload
    assert tab.layout_shift() == 0
    assert not tab.axe().grave
    assert len(fake.painted) == 1


def test_ornaments_have_colors_for_light_and_dark(tmp_path: Path, serve: Serve, open_tab: OpenTab) -> None:
    url, fills = serve(gallery(tmp_path)), set()
    for scheme in ("light", "dark"):
        tab = open_tab(color_scheme=scheme)
        tab.goto(url)
        until(partial(shows, tab, 512))
        fills.add(tab.js("() => getComputedStyle(document.querySelector('.ornament .t0')).fill"))
        assert not tab.axe().grave
    assert len(fills) == 2
