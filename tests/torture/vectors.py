"""Cross-site scripting in a real browser, without the content security policy: nothing that a model writes runs.

A model writes public attack vectors wherever its text is shown. Two ways are tried: each vector alone through the
formatters on one bare page, whose elements get every event; and end to end over the live socket, many on one page.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from urllib.parse import quote, urlsplit

from playwright.sync_api import Browser, Dialog, Error, Page, Request, TimeoutError, sync_playwright
from tests.browser.test_box import Elsewhere
from tests.browser.test_vectors import SET_OFF, TRAPS, pieces
from tests.support.escapes import MARKUP_ATTEMPTS, NETWORK_ATTEMPTS, documents
from tests.support.hostile import VECTORS
from tests.support.payloads import payloads
from tests.support.svg_checks import HOSTILE
from tests.torture.app_server import AppServer
from tests.torture.figures import Figures
from tests.torture.hostile_server import HostileServer

_FLAGS = (
    "--disable-gpu --no-first-run --disable-background-networking --disable-component-update --disable-sync".split()
)
_BATCH = 20

# Events for all elements of a page, as ``SET_OFF`` sends them to those in sections.
_SET_OFF_ALL = SET_OFF.replace(
    'for (const section of document.querySelectorAll(".vector")) section.innerHTML = section.innerHTML;', ""
).replace(".vector *", "main *, title, .notice *")

_WRITTEN = """() => !document.querySelector('[data-region]:not([data-state="written"]):not([data-state="failed"])')"""


# Where links and forms in generated regions lead, as the browser resolves them.
_LINKS = """(origin) => [...document.querySelectorAll("[data-region] :is([href], [action], [src])")]
  .filter((element) => !element.matches("iframe[sandbox]"))
  .map((element) => element.href?.baseVal ?? element.href ?? element.action ?? element.src)
  .filter((url) => !url.startsWith("#"))
  .filter((url) => !url.startsWith(origin + "/") || url.startsWith(origin + "/_unwritten/"))"""


class Watch:
    """What happens in a page.

    Attributes:
        ran: Calls of functions that only a vector calls.
        foreign: Requests to other hosts than this machine.
        left: Navigations to other sites, and new windows.
    """

    def __init__(self, page: Page, origin: str) -> None:
        self.ran: list[str] = []
        self.foreign: list[str] = []
        self.left: list[str] = []
        self._page, self._origin = page, origin
        page.add_init_script(TRAPS)
        page.set_default_timeout(20_000)
        page.route("https://cdn.jsdelivr.net/**", lambda route: route.abort())
        page.on("dialog", self._dialog)
        page.on("request", self._request)
        page.on("popup", lambda popup: self.left.append(f"window {popup.url}"))
        page.on("framenavigated", lambda frame: self._navigated(frame.url))

    def _dialog(self, dialog: Dialog) -> None:
        self.ran.append(f"dialog {dialog.message}")
        dialog.dismiss()

    def _request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in {"http", "https", "ws", "wss"} and parts.hostname not in {"127.0.0.1", "cdn.jsdelivr.net"}:
            self.foreign.append(request.url)

    def _navigated(self, url: str) -> None:
        if not url.startswith((self._origin, "about:")):
            self.left.append(url)

    def set_off(self, script: str) -> None:
        """Send every event to every element, and collect what has run."""
        self._page.evaluate(script)
        self._page.wait_for_timeout(50)
        self.ran += map(str, self._page.evaluate("() => ran"))
        self.left += [f"link {url}" for url in self._page.evaluate(_LINKS, self._origin)]


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start the Chromium of this machine."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        raise RuntimeError("There is no Chromium on this machine. Install it: apt install chromium")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=[*_FLAGS, *sandbox])
        try:
            yield browser
        finally:
            browser.close()


def vectors(server: AppServer, model: HostileServer, *, short: bool) -> Figures:
    """Show all vectors in all formats and places, and count what runs, what is requested, and where pages go."""
    texts = list(dict.fromkeys([*payloads(), *VECTORS, *HOSTILE]))
    texts = texts[::170][:_BATCH] if short else texts
    with chromium() as browser:
        origin = f"http://127.0.0.1:{server.port}"
        _check_detection(browser, origin)
        page = browser.new_context(bypass_csp=True).new_page()
        watch = Watch(page, origin)
        shown = 0 if short else _alone(page, watch, origin)  # tests/browser/test_vectors.py does the same
        placed = _placed(page, watch, server, model, texts)
        boxes, escaped = _boxes(browser, server, model, short=short)
    for kind, found in (("ran", watch.ran), ("foreign", watch.foreign), ("left", watch.left), ("escaped", escaped)):
        for text in list(dict.fromkeys(found))[:5]:
            print(f"    {kind}: {text[:200]}")
    return {
        "vectors": len(texts),
        "vector_pieces": shown,
        "vector_placements": placed,
        "vector_boxes": boxes,
        "scripts_run": len(watch.ran),
        "foreign_requests": len(watch.foreign),
        "navigations_off_site": len(watch.left),
        "box_escapes": len(escaped),
    }


def _check_detection(browser: Browser, origin: str) -> None:
    """Raise if vectors that nothing has cleaned are not noticed."""
    page = browser.new_context(bypass_csp=True).new_page()
    watch = Watch(page, origin)
    raw = "<main data-region=x><img src=https://evil.example/x onerror=alert(1)><a href=/\\\\evil.example>x</a></main>"
    page.route(f"{origin}/raw", lambda route: route.fulfill(body=f"<!doctype html>{raw}", content_type="text/html"))
    page.goto(f"{origin}/raw")
    watch.set_off(_SET_OFF_ALL)
    if not (watch.ran and watch.foreign and watch.left):
        raise RuntimeError("The browser does not notice vectors, so this check says nothing.")
    page.close()


def _alone(page: Page, watch: Watch, origin: str) -> int:
    """Show each vector, alone in each format, complete and cut off, on bare pages. Return the number of pieces."""
    count = 0
    for format in ("markdown", "html", "svg", "own"):
        shown = list(dict.fromkeys(pieces(format)))
        count += len(shown)
        body = "".join(f'<section class="vector">{html}</section>' for html in shown)
        page.route(
            f"{origin}/bare",
            lambda route, body=body: route.fulfill(body=f"<!doctype html>{body}", content_type="text/html"),
        )
        page.goto(f"{origin}/bare")
        watch.set_off(SET_OFF)
        page.unroute(f"{origin}/bare")
    return count


def _line(text: str) -> str:
    return " ".join(text.split())


def _placed(page: Page, watch: Watch, server: AppServer, model: HostileServer, texts: Sequence[str]) -> int:
    """Let the model write vectors in every place of a page, and open it. Return the number of placements."""
    count = 0
    for start in range(0, len(texts), _BATCH):
        batch = texts[start : start + _BATCH]
        case = f"batch-{start}"
        lines = [_line(text) for text in batch]
        links = "\n\n".join(f"[[{line}]] [[Sea|{line}]] [{line}](Sea) [x]({line}) ![{line}](/x)" for line in lines)
        answers = {
            f"markdown/{case}": "\n\n".join(batch),
            f"html/{case}-html": "<p>x</p>".join(batch),
            f"svg/{case}-svg": '<svg viewBox="0 0 9 9"><rect width="9" height="9"/>' + "".join(batch),
            f"text/{case}-text": "\n\n".join(batch),
            f"markdown/{case}-links": links,
            f"markdown/{case}-thoughts": "<think>" + "\n".join(batch) + "</think>A text. " + lines[0],
            f"schema/{case}-values": json.dumps({"name": lines[0][:200], "number": 1, "ratio": 1.5, "words": batch}),
        }
        for name, text in answers.items():
            model.texts[name.partition("/")[2]] = text
            _open(page, watch, f"http://127.0.0.1:{server.port}/{name}")
            count += len(batch)
        model.failures[f"{case}-fails"] = "\n".join(batch)
        _open(page, watch, f"http://127.0.0.1:{server.port}/markdown/{case}-fails")
        for line in lines[:3]:
            _open(page, watch, f"http://127.0.0.1:{server.port}/titled/{quote(line[:150], safe='')}")
        count += len(batch) + 3
    return count


def _open(page: Page, watch: Watch, url: str) -> None:
    """Open a page, wait until it is written, and send it every event. A page may load itself again once."""
    for is_last in (False, True):
        try:
            page.goto(url, wait_until="domcontentloaded")
            with contextlib.suppress(TimeoutError):
                page.wait_for_function(_WRITTEN, timeout=10_000)
            watch.set_off(_SET_OFF_ALL)
            return
        except Error as error:
            if is_last:
                watch.left.append(error.message)


def _boxes(browser: Browser, server: AppServer, model: HostileServer, *, short: bool) -> tuple[int, list[str]]:
    """Let the model write programs that try to leave their box. Return their number, and what they reached."""
    elsewhere = Elsewhere()
    try:
        programs = documents(elsewhere.name, NETWORK_ATTEMPTS, MARKUP_ATTEMPTS)
        names = list(programs)[::40] if short else list(programs)
        page = browser.new_context().new_page()
        page.route("https://cdn.jsdelivr.net/**", lambda route: route.abort())
        page.add_init_script("window.boxes = []; addEventListener('message', (event) => boxes.push(event.data));")
        escaped: list[str] = []
        for number, name in enumerate(names):
            model.texts[f"box-{number}"] = f"```html\n{programs[name]}\n```"
            page.goto(f"http://127.0.0.1:{server.port}/app/box-{number}", wait_until="domcontentloaded")
            page.wait_for_timeout(400)
            messages = [item for item in page.evaluate("() => boxes") if isinstance(item, dict)]
            escaped += [str(item["escaped"]) for item in messages if "escaped" in item]
        escaped += [f"a request: {data[:80]!r}" for data in elsewhere.reached]
    finally:
        elsewhere.close()
    return len(names), escaped
