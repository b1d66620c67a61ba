"""Exported sites in a browser: from a file server, and from local files."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import expect
from tests.browser.tabs import OpenTab
from tests.support.apps import browser, make_clock, make_wiki, write

from unwritten import App
from unwritten.export.static_site import export_site
from unwritten_engine import scripted

pytestmark = pytest.mark.browser

CLOCK = """<!doctype html><html><head><title>Clock</title></head><body><button id="b">0</button><script>
document.getElementById("b").onclick = (e) => { e.target.textContent = "1" }; fetch("/x").catch(() => {})
</script></body></html>"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def _export(app: App, folder: Path) -> None:
    # Playwright runs an event loop in this thread, so the export runs in another one.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(export_site, app, folder).result()


@pytest.fixture
def files(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Return a folder, and the URL of a file server for it."""
    folder = tmp_path / "site"
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_site_works_from_a_file_server_and_from_files(
    files: tuple[Path, str], open_tab: OpenTab, tmp_path: Path
) -> None:
    folder, server = files
    text = "A tower with a [[Lamp]] by the [[Sea of 100% Salt?]]."
    with browser(make_wiki(tmp_path, scripted(text))) as client:
        for key in ("/wiki/Tower", "/wiki/Lamp", "/wiki/%E4%BA%AC%E9%83%BD"):
            write(client, key)
    _export(make_wiki(tmp_path, scripted()), folder)
    for start, scheme in ((server + "/", "light"), (f"file://{folder}/index.html", "dark")):
        tab = open_tab(cdn=False, color_scheme=scheme)
        page = tab.page
        page.goto(start)
        page.click("text=京都")
        expect(page.locator("h1")).to_have_text("京都")
        page.click("a.written")
        expect(page.locator("h1")).to_have_text("Lamp")
        expect(page.locator("a.unwritten")).to_have_css("text-decoration-style", "dotted")
        page.click("a.unwritten")
        expect(page.locator("h1")).to_have_text("Not written yet")
        page.click("text=Home")
        expect(page.locator("h1")).to_have_text("Fake Wiki")
        tab.foreign[:] = [url for url in tab.foreign if not url.startswith(f"file://{folder}/")]


def test_nothing_that_slips_into_an_exported_page_runs_or_is_sent(
    files: tuple[Path, str], open_tab: OpenTab, tmp_path: Path
) -> None:
    folder, server = files
    with browser(make_wiki(tmp_path, scripted("A tower."))) as client:
        write(client, "/wiki/Tower")
    _export(make_wiki(tmp_path, scripted()), folder)
    file = folder / "wiki" / "Tower.html"
    slipped = (
        "<script>ran = 1</script><img src=x onerror='ran = 2'><svg onload='ran = 3'></svg>"
        "<a id=a href='javascript:ran=4'>x</a><iframe srcdoc='<script>parent.ran = 5</script>'></iframe><img src='https://evil.example/x.png'>"
        "<form id=f action='https://evil.example/'></form><link rel=stylesheet href='https://evil.example/x.css'>"
    )
    file.write_text(file.read_text().replace("</main>", f"{slipped}</main>"))
    blocked: list[str] = []
    for start in (server, f"file://{folder}"):
        tab = open_tab(cdn=False)
        tab.page.on("requestfailed", lambda request: blocked.append(f"{request.failure} {request.url}"))
        tab.page.goto(f"{start}/wiki/Tower.html")
        tab.js("() => { document.getElementById('a').click(); document.getElementById('f').submit() }")
        tab.page.wait_for_timeout(200)
        assert tab.js("() => [typeof ran, location.pathname.endsWith('/wiki/Tower.html')]") == ["undefined", True]
        # Playwright reports requests that the policy has stopped, too.
        evil = [url for url in tab.foreign if not url.startswith("file:")]
        assert [f"csp {url}" for url in evil] == [failure for failure in blocked if "evil" in failure]
        assert any("Content Security Policy" in fault for fault in tab.faults)
        for notes in (blocked, tab.foreign, tab.faults):
            notes.clear()


def test_an_exported_box_runs_without_network_access(
    files: tuple[Path, str], open_tab: OpenTab, tmp_path: Path
) -> None:
    folder, server = files

    with browser(make_clock(tmp_path, CLOCK)) as client:
        write(client, "/clock")
    _export(make_clock(tmp_path), folder)
    tab = open_tab(cdn=False)
    tab.page.goto(f"{server}/clock.html")
    frame = tab.page.frame_locator("iframe.box")
    frame.locator("#b").click()
    expect(frame.locator("#b")).to_have_text("1")
    assert any("connect-src" in fault or "Content Security Policy" in fault for fault in tab.faults), tab.faults
    tab.faults.clear()
