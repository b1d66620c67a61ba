"""Boxed apps in a real browser: what they can and cannot do."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Frame, expect
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.browser.tabs import OpenTab, Serve, Tab, until
from tests.support.escapes import MARKUP_ATTEMPTS, NAVIGATION_ATTEMPTS, NETWORK_ATTEMPTS, documents
from tests.support.payloads import payloads

from unwritten import App, Canvas, Page
from unwritten_engine import Request
from unwritten_engine.scripted import Step, scripted

pytestmark = pytest.mark.browser

HEARD = """window.boxes = []; addEventListener("message", (event) => boxes.push(event.data));"""


class Elsewhere:
    """A server that must not be reached. It records every connection, including empty ones."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.2", 0))
        self.name = f"127.0.0.2:{self._socket.getsockname()[1]}"
        self.reached: list[bytes] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(0.3)
                try:
                    self.reached.append(connection.recv(200))
                except OSError:
                    self.reached.append(b"")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    server = Elsewhere()
    yield server
    server.close()


class Arrivals:
    """ASGI middleware that records requests as ``METHOD path``."""

    def __init__(self, app: ASGIApp, seen: list[str]) -> None:
        self._app = app
        self._seen = seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._seen.append(f"{scope['method']} {scope['path']}")
        await self._app(scope, receive, send)


def expected(seen: list[str]) -> bool:
    """Return True if all requests are ones that the pages themselves need."""
    pages = {"GET /wiki/before", "GET /p/Boxes", "GET /_unwritten/box", "GET /favicon.ico"}
    return all(line in pages or line.startswith("GET /_unwritten/static/") for line in seen)


def boxes_app(home: Path, texts: dict[str, str], **given: Any) -> App:
    """Return an app with a page of one box per text, at ``/p/Boxes``, and text pages at ``/wiki/…``."""
    (home / "templates").mkdir(exist_ok=True)
    names = [f"b{number}" for number in range(len(texts))]
    blocks = "".join(f"<section>{{% block {name} %}}{{{{ {name} }}}}{{% endblock %}}</section>" for name in names)
    (home / "templates" / "many.html").write_text(
        f'{{% extends "layout.html" %}}{{% block main %}}<h1>{{{{ page.title }}}}</h1>{blocks}{{% endblock %}}'
    )
    pieces = list(texts.values())

    def script(request: Request) -> list[Step]:
        if "number" not in request.prompt.ask:
            return ["A page of words with a link to [[Boxes]]."]
        return [pieces[int(request.prompt.ask.split("number ")[1].split(".")[0])]]

    app = App("Boxes", engine=scripted(script), folder=home, database=str(home / "pages.db"), **given)

    @app.page("/p/{title}")
    def page(title: str) -> Page:
        boxes: dict[str, Any] = {n: Canvas(f"App number {n[1:]}.", "app", canvases=16) for n in names}
        return Page("many.html", title=title, **boxes)

    @app.page("/wiki/{title}", links="/p/{title}")
    def words(title: str) -> str:
        return f"A note about {title}."

    return app


def frame_of(tab: Tab, number: int = 0) -> Frame:
    """Return the frame in a box."""
    found: list[Frame] = []

    def there() -> bool:
        element = tab.page.query_selector(f"#region-b{number} iframe.box")
        frame = element.content_frame() if element else None
        found[:] = [frame] if frame and frame.url.startswith("http") else []
        return bool(found)

    until(there)
    return found[0]


def heard(tab: Tab, kind: str) -> list[str]:
    """Return the messages of this kind that the boxes sent to the page."""
    found: list[str] = tab.js("(kind) => boxes.filter((b) => b && b[kind]).map((b) => b[kind])", kind)
    return found


def open_boxes(tab: Tab, url: str, texts: dict[str, str]) -> None:
    """Open a page of boxes, and wait until every app has run."""
    tab.quiet = True  # the policies of boxes log what they block
    tab.page.add_init_script(f"if (top === window) {{ {HEARD} }}")
    tab.goto(f"{url}/wiki/before")
    tab.goto(f"{url}/p/Boxes")
    until(lambda: set(heard(tab, "ran")) == set(texts), 50)
    pause(tab, 2)


def pause(tab: Tab, seconds: float) -> None:
    """Let the browser run for this time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        tab.js("() => new Promise((go) => setTimeout(go, 100))")


def asked(tab: Tab, method: str, path: str) -> int:
    """Return the number of matching requests. Playwright reports requests only during its own calls."""
    tab.js("() => 0")
    return sum(1 for line in tab.requests if line.startswith(method) and path in line)


def cookies(tab: Tab) -> set[str | None]:
    """Return the names of the cookies, without that of the visitor, which scripts cannot read."""
    return {
        cookie.get("name")
        for cookie in tab.page.context.cookies()
        if not (str(cookie.get("name")).startswith("unwritten_") and cookie.get("httpOnly"))
    }


def stayed(tab: Tab, url: str) -> None:
    """Assert that the page around the boxes is unchanged."""
    assert heard(tab, "escaped") == []
    assert tab.page.url == f"{url}/p/Boxes"
    assert len(tab.page.context.pages) == 1
    assert cookies(tab) == set()
    tab.foreign.clear()  # requested and blocked; Elsewhere records what arrived


def test_boxed_apps_cannot_access_the_network(
    serve: Serve, open_tab: OpenTab, tmp_path: Path, elsewhere: Elsewhere
) -> None:
    texts = documents(elsewhere.name, NETWORK_ATTEMPTS, MARKUP_ATTEMPTS)
    app, seen = boxes_app(tmp_path, texts), list[str]()
    app.add_middleware(Arrivals, seen=seen)
    url = serve(app)
    tab = open_tab()
    open_boxes(tab, url, texts)
    stayed(tab, url)
    assert elsewhere.reached == [], "no connection at all"
    assert expected(seen), seen
    frames = [frame.url for frame in tab.page.frames if frame.parent_frame is not None]
    assert len(frames) == len(texts) and all("/_unwritten/box?" in other for other in frames)


def test_boxed_apps_cannot_navigate_out_of_their_box(
    serve: Serve, open_tab: OpenTab, tmp_path: Path, elsewhere: Elsewhere
) -> None:
    texts = documents(elsewhere.name, NAVIGATION_ATTEMPTS)
    app, seen = boxes_app(tmp_path, {**texts, "quiet": "<!doctype html><html><p>I stay."}), list[str]()
    app.add_middleware(Arrivals, seen=seen)
    url = serve(app)
    tab = open_tab()
    open_boxes(tab, url, texts)
    stayed(tab, url)
    assert [said for said in elsewhere.reached if said] == [], "no data arrives"
    assert expected(seen), seen
    stopped = "section:has(.notice)"
    until(lambda: tab.page.locator(stopped).count() >= len(texts) - 1, 20)
    assert "This app was stopped because it tried to leave its box." in tab.page.inner_text(f"{stopped} >> nth=0")
    assert frame_of(tab, len(texts)).inner_text("p") == "I stay.", "other boxes are not affected"


LAPS = """<!doctype html>
<html lang="en"><meta name="color-scheme" content="light dark"><title>Lap counter</title>
<h1 id="laps">…</h1><button id="more" onclick="more()">One more lap</button> <button id="tall">Taller</button>
<button id="go">Read about laps</button>
<script>
let laps = 0;
const show = () => (document.getElementById("laps").textContent = laps);
function more() { laps++; show(); box.save({ laps }); localStorage.setItem("last", laps); localStorage.other = "x"; }
tall.onclick = () => box.resize(700);
go.onclick = () => box.ask("/wiki/Laps");
box.load().then((kept) => { laps = kept?.laps ?? 0; show(); });
</script></html>"""


def test_the_state_of_an_app_is_shared_by_all_visitors(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    url = serve(boxes_app(tmp_path, {"laps": LAPS}))
    tab = open_tab()
    tab.goto(f"{url}/p/Boxes")
    inside = frame_of(tab)
    until(lambda: inside.inner_text("#laps") == "0")
    assert tab.page.get_attribute("iframe.box", "title") == "Lap counter"
    assert tab.page.get_attribute("iframe.box", "sandbox") == "allow-scripts"
    for _ in range(3):
        inside.click("#more")
    until(lambda: asked(tab, "POST", "/_unwritten/box/state"))
    assert inside.evaluate("[localStorage.getItem('last'), localStorage.length, localStorage.other]") == ["3", 2, "x"]
    pause(tab, 0.8)
    other = open_tab()
    other.goto(f"{url}/p/Boxes")
    kept = frame_of(other)
    until(lambda: kept.inner_text("#laps") == "3")
    assert kept.evaluate("[localStorage.getItem('last'), Object.keys(localStorage)]") == ["3", ["last", "other"]]
    too_much = "box.save('x'.repeat(20000)).then(() => 'kept', (error) => error.message)"
    assert kept.evaluate(too_much) == "The state of a box is limited to 16 kB of JSON."


def test_an_app_can_resize_and_open_a_page_after_a_click(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    url = serve(boxes_app(tmp_path, {"laps": LAPS}))
    tab = open_tab()
    tab.goto(f"{url}/p/Boxes")
    tab.finished()
    inside = frame_of(tab)
    until(lambda: inside.inner_text("#laps") == "0")
    height = "() => document.querySelector('iframe.box').clientHeight"
    until(lambda: tab.js(height) < 200)  # as high as its content
    inside.evaluate("document.body.append(Object.assign(document.createElement('p'), { style: 'height: 300px' }))")
    until(lambda: 400 < tab.js(height) < 600)
    inside.click("#tall")
    until(lambda: tab.js(height) == 700)
    for wanted, given in ((1e9, 1600), (-5, 48), (0, 48)):
        inside.evaluate(f"box.resize({wanted})")
        until(lambda given=given: tab.js(height) == given)  # type: ignore[misc]
    inside.evaluate("box.resize('high'); box.resize(NaN); box.resize(400)")
    until(lambda: tab.js(height) == 400)
    tab.js("() => document.activeElement.blur()")
    inside.evaluate("box.ask('/wiki/Laps')")  # no click in the frame
    pause(tab, 0.5)
    assert tab.page.url == f"{url}/p/Boxes"
    inside.click("#go")
    expect(tab.page).to_have_url(f"{url}/wiki/Laps")
    until(lambda: "a page of words" in tab.page.inner_text("main").lower())


def test_a_boxed_app_opens_only_pages_of_its_own_site(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    url = serve(boxes_app(tmp_path, {"laps": LAPS}))
    tab = open_tab()
    tab.goto(f"{url}/p/Boxes")
    tab.finished()
    inside = frame_of(tab)
    inside.click("#more")
    until(lambda: asked(tab, "POST", "box/state") == 1)
    bad = [
        "//127.0.0.2/x",
        "/\\\\127.0.0.2",
        "/.//127.0.0.2/x",
        "/..//127.0.0.2/x",
        "/%2e//127.0.0.2/x",
        "/x/../%2e//127.0.0.2",
        "/%5funwritten/box",
        "/%2F127.0.0.2/x",
        "http://127.0.0.2/",
        "javascript:1",
        "",
        "wiki",
        "/_unwritten/box",
        "/ x",
    ]
    for page in [*bad, "/" + "x" * 3000]:
        inside.evaluate("(page) => box.ask(page)", page)
    forged = """() => { for (const data of [null, 1, "x", [], {}, { box: 2, type: "ask", page: "/wiki/x" },
        { type: "ask", page: "/wiki/x" }, { box: 1, type: "ask", page: ["/wiki/x"] },
        { box: 1, type: "save", id: "1", state: {} }, { box: 1, type: "save" },
        { box: 1, type: "resize", height: { valueOf: () => 9 }.valueOf }, { box: 1, type: "nothing" }]) {
        try { parent.postMessage(data, "*") } catch {} } }"""
    inside.evaluate(forged)
    pause(tab, 0.8)
    assert tab.page.url == f"{url}/p/Boxes"
    assert asked(tab, "POST", "box/state") == 1
    tab.js("() => postMessage({ box: 1, type: 'ask', page: '/wiki/x' }, '*')")  # not from a box
    for _ in range(100):
        inside.evaluate("box.resize(900)")
    pause(tab, 0.3)
    assert tab.page.url == f"{url}/p/Boxes"


def test_a_page_with_a_box_is_loaded_as_a_document(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    """A page that is swapped into another document would have a policy that forbids frames."""
    url = serve(boxes_app(tmp_path, {"laps": LAPS}))
    tab = open_tab()
    tab.goto(f"{url}/wiki/Tea")
    tab.finished()
    tab.ready()
    tab.js("() => { window.before = 1 }")
    tab.page.click("main a[href='/p/Boxes']")
    expect(tab.page).to_have_url(f"{url}/p/Boxes")
    inside = frame_of(tab)
    until(lambda: inside.inner_text("#laps") == "0")
    assert tab.js("() => window.before === undefined")
    tab.page.go_back()
    expect(tab.page).to_have_url(f"{url}/wiki/Tea")


def test_an_app_that_keeps_reloading_is_stopped(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    again = (
        "<!doctype html><html><p>x</p><script>onload = () => setTimeout(() => location.reload(), 50)</script></html>"
    )
    url = serve(boxes_app(tmp_path, {"again": again}))
    tab = open_tab()
    tab.goto(f"{url}/p/Boxes")
    until(lambda: "This app was stopped because it kept restarting itself" in tab.page.inner_text("main"))
    count = asked(tab, "GET", "/_unwritten/box?")
    assert count <= 7
    tab.page.get_by_role("button", name="Restart").click()
    until(lambda: asked(tab, "GET", "/_unwritten/box?") > count)


def test_the_source_is_shown_during_generation(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    lines = [LAPS[:end] for end in (60, 200, 400, len(LAPS))]
    app = App("Boxes", engine=scripted(lines, delay=0.6), database=str(tmp_path / "pages.db"))

    @app.page("/p/{title}")
    def page(title: str) -> Canvas:
        return Canvas("A lap counter.", "app", tokens=4000)

    tab = open_tab()
    tab.goto(f"{serve(app)}/p/Boxes")
    until(lambda: "<title>Lap counter</title>" in tab.page.inner_text("pre.source"))
    assert tab.page.locator("iframe").count() == 0
    tab.finished()
    expect(tab.page.locator("iframe.box")).to_have_count(1)
    expect(tab.page.locator("pre.source")).to_have_count(0)


def test_no_public_attack_vector_leaves_a_box(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    """The vectors run in their boxes, without effect on the page, its storage or any server."""
    vectors, size = payloads(), 100
    parts = [vectors[start : start + size] for start in range(0, len(vectors), size)]
    mark = "<script>top.postMessage({ ran: '%d' }, '*')</script>"
    texts = {str(n): f"<!doctype html><html>{mark % n}<p>" + "\n".join(part) for n, part in enumerate(parts)}
    app, seen = boxes_app(tmp_path, texts), list[str]()
    app.add_middleware(Arrivals, seen=seen)
    url = serve(app)
    tab = open_tab()
    refused: list[str | None] = []
    responses: list[str] = []

    def elsewhere(other: str) -> bool:
        return not other.startswith((url, "data:", "blob:", "about:", "https://cdn.jsdelivr.net/npm/htmx.org@"))

    tab.page.on("requestfailed", lambda r: refused.append(r.failure) if elsewhere(r.url) else None)
    tab.page.on("response", lambda r: responses.append(r.url) if elsewhere(r.url) else None)
    tab.page.add_init_script("if (top === window) { localStorage.secret = 'x'; document.cookie = 'secret=x' }")
    open_boxes(tab, url, texts)
    assert responses == []
    assert set(refused) <= {"csp", "net::ERR_BLOCKED_BY_CSP", "net::ERR_ABORTED"}, set(refused)
    assert tab.page.url == f"{url}/p/Boxes" and len(tab.page.context.pages) == 1
    assert tab.js("() => [localStorage.length, localStorage.secret]") == [1, "x"]
    assert cookies(tab) == {"secret"}
    assert tab.page.inner_text("h1") == "Boxes" and tab.page.locator("main#main").count() == 1
    states = {"GET /_unwritten/box/state", "POST /_unwritten/box/state"}  # the stored state of the boxes
    assert expected([line for line in seen if line not in states]), seen
    tab.foreign.clear()
    tab.faults.clear()  # errors of the vectors


ORDINARY = """<!DOCTYPE html>
<html lang="en"><head><meta charset="UTF-8"><meta name="viewport" content="width=device-width"><title>Ordinary</title>
<style>:root { --ink: teal } li { color: var(--ink) }</style></head>
<body><h1>Ordinary</h1><ul id="list"></ul><script>document.write('<p id="written">' + 6 * 7 + '</p>')</script>
<form id="form"><input name="what" value="by a form" required><button>Add</button></form>
<form id="bare"><input id="field" name="what"></form>
<dialog id="ask"><form method="dialog"><button id="ok" value="yes">OK</button></form></dialog>
<canvas id="canvas" width="20" height="20"></canvas><img id="picture" alt="">
<script>
const list = document.getElementById("list");
function add(what) { list.innerHTML += `<li>${what}</li>`; localStorage.setItem("count", list.children.length); }
form.onsubmit = (event) => { event.preventDefault(); add(new FormData(form).get("what")); };
bare.addEventListener("submit", (event) => { event.preventDefault(); add(field.value); });
list.insertAdjacentHTML("beforeend", "<li>by html</li>");
const item = document.createElement("li"); item.textContent = "by hand"; list.append(item);
const shape = document.createElementNS("http://www.w3.org/2000/svg", "circle"); shape.setAttribute("r", 3);
document.body.append(Object.assign(document.createElement("template"), { innerHTML: "<b>x</b>" }).content);
canvas.getContext("2d").fillRect(0, 0, 9, 9);
picture.src = canvas.toDataURL();
class Star extends HTMLElement { connectedCallback() { this.textContent = "a star" } }
customElements.define("x-star", Star); document.body.append(document.createElement("x-star"));
for (let i = 0, frame = 3; i <frame; i++) setTimeout(() => { document.title = "Ordinary " + i }, 10);
addEventListener("hashchange", () => add("by a hash"));
</script></body></html>"""


def test_ordinary_programs_run_unchanged(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    url = serve(boxes_app(tmp_path, {"ordinary": ORDINARY}))
    tab = open_tab()
    tab.goto(f"{url}/p/Boxes")
    inside = frame_of(tab)
    until(lambda: inside.inner_text("#written") == "42")
    inside.click("#form button")
    inside.press("#form input", "Enter")
    inside.fill("#form input", "")
    inside.click("#form button")  # the field is required, so the form is not sent
    inside.fill("#field", "by a key")
    inside.press("#field", "Enter")
    inside.evaluate("location.hash = 'x'")
    wanted = ["by html", "by hand", "by a form", "by a form", "by a key", "by a hash"]
    until(lambda: inside.inner_text("#list").split("\n") == wanted)
    inside.evaluate("ask.showModal()")
    inside.click("#ok")
    until(lambda: inside.evaluate("[ask.open, ask.returnValue]") == [False, "yes"])
    assert inside.evaluate("getComputedStyle(document.querySelector('li')).color") == "rgb(0, 128, 128)"
    state = "[localStorage.count, document.title, picture.naturalWidth]"
    until(lambda: inside.evaluate(state) == ["6", "Ordinary 2", 20])
    assert inside.inner_text("x-star") == "a star"


def test_without_trusted_types_a_message_replaces_the_app(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    url = serve(boxes_app(tmp_path, {"laps": LAPS}))
    tab = open_tab()
    tab.page.add_init_script("delete window.trustedTypes")
    tab.goto(f"{url}/p/Boxes")
    inside = frame_of(tab)
    until(lambda: "Apps need a browser with Trusted Types" in inside.evaluate("document.documentElement.textContent"))
    assert inside.locator("button").count() == 0
    assert inside.evaluate("typeof box") == "undefined"


_HEIGHTS: dict[str, tuple[str, int, int]] = {
    "fixed": ("<p style='height: 700px'>Tall</p>", 700, 760),
    "short": ("<p>Short</p>", 48, 90),
    "100vh": ("<main style='min-height: 100vh'>x</main>", 400, 450),
    "100vh and a padding": ("<style>main { min-height: 100vh; padding-bottom: 8px }</style><main>x</main>", 400, 460),
    "100vh and a list": ("<div style='height: 100vh'></div><p style='height: 300px'>x</p>", 700, 800),
    "120vh": ("<div style='height: 120vh'>x</div>", 400, 560),
    "60vh and more": ("<div style='height: 60vh'></div><div style='height: 300px'></div>", 770, 800),
    "a percentage": ("<style>html, body { height: 100% }</style><div style='height: 110%'>x</div>", 400, 500),
    "padding in vh": ("<main style='padding: 30vh 0'><p style='height: 300px'>x</p></main>", 700, 950),
    "an aspect ratio": ("<div style='aspect-ratio: 3 / 2; height: 100vh'>x</div><p>y</p>", 400, 520),
    "an observer": (
        "<div id='d'>x</div><script>new ResizeObserver(() => { d.style.height = innerHeight + 40 + 'px' })"
        ".observe(document.documentElement)</script>", 48, 600,
    ),
    "a listener that adds": (
        "<div id='d' style='height: 450px'>x</div><script>let h = 450;"
        "onresize = () => { d.style.height = (h += 50) + 'px' }</script>", 450, 600,
    ),
    "a listener that adds later": (
        "<div id='d' style='height: 450px'>x</div><script>let h = 450;"
        "onresize = () => setTimeout(() => { d.style.height = (h += 50) + 'px' }, 200)</script>", 450, 600,
    ),
    "content that comes late": (
        "<div id='d' style='height: 450px'>x</div><script>setTimeout(() => { d.style.height = '800px' }, 700)"
        "</script>", 800, 850,
    ),
    "a picture that comes late": (
        "<div style='height: 450px'>x</div><script>for (let i = 1; i < 5; i++) setTimeout(() => {"
        " const c = Object.assign(document.createElement('canvas'), { width: 10, height: 100 });"
        " const image = Object.assign(new Image(), { src: c.toDataURL(), style: 'display: block' });"
        " document.body.append(image); }, 300 * i)"
        "</script>", 850, 900,
    ),
}  # fmt: skip
"""Contents, and the least and greatest height of their frame."""

_NOTE_HEIGHTS = """new MutationObserver((records) => {
  for (const { target } of records) if (target.matches?.("iframe.box")) {
    const of = ((window.heights ??= {})[target.closest("[data-region]").dataset.region] ??= []);
    if (of.at(-1) !== target.style.height) of.push(target.style.height);
  }
}).observe(document, { subtree: true, attributeFilter: ["style"] });"""


def test_frames_settle_at_the_height_of_their_content(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    """Two steps at most, whatever the content does with the height of the frame."""
    texts = {name: f"<!doctype html><html>{text}</html>" for name, (text, _, _) in _HEIGHTS.items()}
    url = serve(boxes_app(tmp_path, texts))
    tab = open_tab()
    tab.page.add_init_script(f"if (top === window) {{ {_NOTE_HEIGHTS} }}")
    tab.goto(f"{url}/p/Boxes")
    tab.finished(30)
    tab.goto(f"{url}/p/Boxes")
    for number in range(len(texts)):
        frame_of(tab, number)
        tab.page.locator(f"#region-b{number}").scroll_into_view_if_needed()  # frames out of view get no events
        pause(tab, 0.3)
    pause(tab, 2)
    steps = tab.js("() => window.heights ?? {}")
    found = tab.js("() => [...document.querySelectorAll('iframe.box')].map((frame) => frame.clientHeight)")
    for number, (name, (_, least, most)) in enumerate(_HEIGHTS.items()):
        allowed = 5 if "picture" in name else 2
        assert len(steps.get(f"b{number}", [])) <= allowed, (name, steps[f"b{number}"])
        assert least <= found[number] <= most, (name, found[number], steps.get(f"b{number}"))


def test_a_frame_grows_with_what_the_visitor_adds(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    add = "<button onclick=\"document.body.insertAdjacentHTML('beforeend', '<p style=height:100px>Row')\">Add</button>"
    slow = add.replace('onclick="', 'onclick="setTimeout(() => ').replace("Row')", "Row'), 400)")
    texts = {
        name: f"<!doctype html><html><body style='margin: 0'>{text}</html>"
        for name, text in {
            "plain": add + "<p style='height: 400px'>x</p>",
            "full": f"<style>main {{ min-height: 100vh; padding-bottom: 8px }}</style><main>{add}</main>",
            "slow": slow + "<p style='height: 400px'>x</p>",
        }.items()
    }
    tab = open_tab()
    tab.goto(f"{serve(boxes_app(tmp_path, texts))}/p/Boxes")
    tab.finished(30)
    for number in range(len(texts)):
        inside = frame_of(tab, number)
        pause(tab, 0.5)
        height = f"() => document.querySelector('#region-b{number} iframe.box').clientHeight"
        for _ in range(5):
            before = tab.js(height)
            inside.click("button")
            until(lambda height=height, before=before: before + 80 <= tab.js(height) <= before + 150)  # type: ignore[misc]
