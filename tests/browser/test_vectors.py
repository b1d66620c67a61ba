"""Public attack vectors in a browser: no script, request or navigation, with and without the policy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup
from playwright.sync_api import Dialog
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from tests.browser.tabs import OpenTab, Serve
from tests.support.apps import a_linker, text_frame
from tests.support.hostile import VECTORS
from tests.support.html_checks import faults
from tests.support.payloads import payloads
from tests.support.svg_checks import HOSTILE, drawing_faults

from unwritten import App
from unwritten.core.errors import PageFailed
from unwritten.formats.base import Format, RegionContext
from unwritten.formats.registry import FORMATS
from unwritten_engine import scripted

pytestmark = pytest.mark.browser

OWN = Format("own", render=str)

# Records calls of these functions. Not eval, because Playwright uses it.
TRAPS = """window.ran = [];
for (const name of ["alert", "confirm", "prompt", "print", "open", "fetch", "postMessage"]) {
  const had = window[name];
  window[name] = function (...given) {
    if (name !== "fetch" || !String(given[0]).startsWith("/")) ran.push([name, String(given[0])]);
    return name === "fetch" ? had.apply(this, given) : undefined;
  };
}"""
# Parses every section again, and sends every event that a visitor could cause. Links are not followed.
SET_OFF = """() => {
  addEventListener("click", (event) => event.preventDefault(), true);
  for (const section of document.querySelectorAll(".vector")) section.innerHTML = section.innerHTML;
  const kinds = ("click mouseover mouseenter mousemove mousedown pointerdown pointerover focus focusin blur keydown " +
    "input change toggle beforetoggle load error begin end repeat animationstart animationend transitionend scroll " +
    "scrollend wheel touchstart drag drop copy paste submit beforematch canplay loadedmetadata cut select").split(" ");
  let count = 0;
  for (const element of document.querySelectorAll(".vector *")) {
    count++;
    for (const kind of kinds) element.dispatchEvent(new Event(kind, { cancelable: true }));
  }
  return count;
}"""
FORBIDDEN = """script, iframe, frame, object, embed, img, image, video, audio, source, form, button, input, textarea,
select, style, link, meta, base, template, math, foreignObject, animate, set, animateTransform, animateMotion, feImage,
filter, applet, marquee, portal"""
LOOK = """(forbidden) => {
  const found = [];
  for (const element of document.querySelectorAll(".vector *")) {
    if (element.matches(forbidden)) found.push(element.outerHTML.slice(0, 200));
    for (const { name, value } of element.attributes) {
      const own = /^\\/(?!\\/)/.test(value) && new URL(value, location).origin === location.origin &&
        !/^\\/(\\/|_unwritten)/.test(decodeURIComponent(new URL(value, location).pathname));
      const leads = /href$|^src|action|^data$|poster|background|ping|cite/.test(name) && !own && !/^#g-/.test(value);
      const runs = /^\\W*javascript:|url\\((?!#g-)/i.test(value) && name !== "title";
      if (leads || runs || /^on|^style$|^srcdoc$|^hx-|^ws-|^xmlns|^is$/.test(name)) found.push(`${name}=${value}`);
      if (name === "id" && !value.startsWith("g-")) found.push(`id=${value}`);
    }
  }
  return found;
}"""


def rendered(form: Format, text: str, *, done: bool) -> str:
    """Return the HTML of a text in a format. A text that the format rejects is rendered as a draft."""
    formatter = form.create_formatter(RegionContext(a_linker(), "art", "A thing"))
    try:
        return str(formatter.format(text_frame(text, done=done)).html)
    except PageFailed:
        return str(formatter.format(text_frame(text)).html)


def pieces(name: str) -> Iterator[str]:
    """Yield the HTML of every vector: complete, cut off, and for some vectors every prefix."""
    texts = [*payloads(), *VECTORS, *HOSTILE]
    if name == "svg":
        form = FORMATS["svg"]
        texts = [f'<svg viewBox="0 0 9 9"><rect width="9" height="9"/>{text}' for text in texts]
        texts += [text for text in payloads() if "<svg" in text.lower()]
    else:
        form = OWN if name == "own" else FORMATS[name]
    for text in texts:
        yield rendered(form, text, done=True)
        yield rendered(form, text[: -max(1, len(text) // 3)], done=False)
    for text in HOSTILE if name in {"svg", "html"} else []:
        opening = "<svg>" if name == "svg" else ""
        for end in range(len(text)):
            yield rendered(form, opening + text[:end], done=False)


@pytest.mark.parametrize("name", ["markdown", "html", "svg", "own"])
def test_public_attack_vectors_have_no_effect(serve: Serve, open_tab: OpenTab, tmp_path: Path, name: str) -> None:
    assert len(payloads()) > 2500
    shown = list(dict.fromkeys(pieces(name)))  # most of them are removed completely
    assert len(shown) > 100
    judge = drawing_faults if name == "svg" else faults
    assert [(html, found) for html in shown if (found := judge(html))] == []
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "vectors.html").write_text(
        '{% extends "layout.html" %}{% block main %}<h1>Vectors</h1>'
        '{% for piece in pieces %}<section class="vector">{{ piece }}</section>{% endfor %}{% endblock %}'
    )

    async def guarded(request: Request) -> Response:
        return app.render("vectors.html", pieces=[Markup(html) for html in shown])

    async def bare(request: Request) -> Response:
        sections = "".join(f'<section class="vector">{html}</section>' for html in shown)
        return HTMLResponse(f"<!doctype html><title>Vectors</title><h1>Vectors</h1>{sections}")

    routes: list[Any] = [Route("/guarded", guarded), Route("/bare", bare)]
    app = App("Vectors", engine=scripted("x"), folder=tmp_path, database=str(tmp_path / "pages.db"), routes=routes)
    url = serve(app)
    tab = open_tab()
    tab.page.set_default_timeout(30_000)
    tab.page.add_init_script(TRAPS)
    dialogs: list[str] = []

    def on_dialog(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    tab.page.on("dialog", on_dialog)
    for page_url in (f"{url}/guarded", f"{url}/bare"):
        tab.goto(page_url)
        assert tab.js(SET_OFF) > 100
        assert tab.js(LOOK, FORBIDDEN) == []
        tab.page.wait_for_timeout(300)
        assert tab.js("() => ran") == [] and dialogs == []
        assert tab.page.url == page_url and len(tab.page.context.pages) == 1
        assert tab.page.locator("section.vector").count() == len(shown), "no vector closes an element around it"
        assert tab.page.inner_text("h1") == "Vectors"
    requested = {line.split(" ")[1].removeprefix(url) for line in tab.requests if line.split(" ")[1].startswith(url)}
    known = ("/_unwritten/static/", "/_unwritten/texts.js", "/guarded", "/bare", "/favicon")
    extra = {path for path in requested if not path.startswith(known)}
    assert extra == set(), "no other request to this server"
    # open_tab checks for errors, policy violations and requests to other origins.


def test_the_traps_detect_raw_vectors(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    """Without a sanitizer, the vectors run, and the checks detect them."""
    raw = [*HOSTILE[:20], "<img src=x onerror=alert(1)>", "<a href='javascript:alert(1)'>x</a>"]

    async def bare(request: Request) -> Response:
        return HTMLResponse("".join(f'<section class="vector"><svg>{text}</svg>{text}</section>' for text in raw))

    app = App("Raw", engine=scripted("x"), database=str(tmp_path / "pages.db"), routes=[Route("/bare", bare)])
    tab = open_tab()
    tab.quiet = True
    tab.page.add_init_script(TRAPS)
    tab.goto(f"{serve(app)}/bare")
    tab.js(SET_OFF)
    tab.page.wait_for_timeout(300)
    assert ["alert", "1"] in tab.js("() => ran")
    found = tab.js(LOOK, FORBIDDEN)
    assert {"href=javascript:alert(1)", "onerror=alert(1)"} <= set(found)
    assert any(text.startswith("<script") for text in found)
    assert any("evil.example" in url for url in tab.foreign)
    tab.foreign.clear()
    tab.faults.clear()
