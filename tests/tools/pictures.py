"""Take the pictures of the documentation in Chromium: ``python -m tests.tools.pictures [NAME …]``.

``settling`` is a canvas that settles, ``panel`` the developer panel, ``wiki`` the demo wiki. Default: all of them.
"""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright
from tests.support.servers import served

from unwritten import App, Canvas, Page
from unwritten.cli.loading import find_demo, load_app
from unwritten_engine import open_engine

ROOT = Path(__file__).resolve().parents[2]
SETTLING = ROOT / "engine" / "pictures" / "settling.png"
PANEL = ROOT / "framework" / "pictures" / "panel.png"
WIKI = ROOT / "demos" / "wiki" / "pictures"
SHOWN = 6

TEMPLATE = """{% extends "layout.html" %}{% block main %}<h1>{{ page.title }}</h1>
<div class="prose">{% block body %}{{ body }}{% endblock %}</div>{% endblock %}"""

NOTES = """
window.drafts = [];
addEventListener("unwritten:frame", (event) => drafts.push(event.detail));
"""

# Shows drafts side by side: their HTML as received over the socket, with the style sheet of the page.
SIDE_BY_SIDE = """(shown) => {
  const steps = Math.max(...drafts.map((draft) => draft.step));
  const chosen = [];
  for (let at = 0; at < shown; at++) {
    const wanted = 1 + (steps - 1) * at / (shown - 1);
    chosen.push(drafts.reduce((best, draft) =>
      draft !== best && Math.abs(draft.step - wanted) <= Math.abs(best.step - wanted) ? draft : best));
  }
  const grid = document.createElement("div");
  Object.assign(grid.style, {
    display: "grid", gridTemplateColumns: "repeat(3, 1fr)", gap: "1.2rem 2.2rem", padding: "1.4rem", width: "1100px",
  });
  for (const draft of chosen) {
    const [cell, label, region] = ["div", "p", "div"].map((name) => document.createElement(name));
    label.textContent = draft.state === "written" ? `settled after ${steps} steps` : `step ${draft.step}`;
    Object.assign(label.style, { font: "600 0.8rem var(--sans)", color: "var(--soft)", margin: "0 0 0.4rem" });
    region.className = "region prose";
    region.innerHTML = draft.html;
    region.style.setProperty("--unsettled", draft.unsettled);
    Object.assign(region.style, { fontSize: "0.92rem", lineHeight: "1.5", height: "10.8em", overflow: "hidden" });
    cell.append(label, region);
    grid.append(cell);
  }
  document.body.replaceChildren(grid);
  return [drafts.length, steps, chosen.map((draft) => draft.step)];
}"""


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start the Chromium of the system."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=[*sandbox, "--disable-gpu"])
        yield browser
        browser.close()


def settling() -> None:
    """Write the picture of a canvas that settles."""
    with tempfile.TemporaryDirectory() as folder:
        templates = Path(folder, "templates")
        templates.mkdir()
        (templates / "one.html").write_text(TEMPLATE, encoding="utf-8")
        engine = open_engine("diffusion", model="random")
        app = App("Settling", engine=engine, folder=folder, database=str(Path(folder, "pages.db")))

        @app.page("/{number}")
        def one(number: int) -> Page:
            body = Canvas("The opening paragraph.", opening="**A lighthouse**", seed=3, tokens=64)
            return Page("one.html", title=f"Canvas {number}", body=body)

        with served(app) as address, chromium() as browser:
            page = browser.new_page(viewport={"width": 1140, "height": 800}, color_scheme="light")
            page.route("**/cdn.jsdelivr.net/**", lambda route: route.abort())
            page.add_init_script(NOTES)
            for number in range(20):  # until the first step, which takes little time, was among the frames received
                page.goto(f"http://{address}/{number}", wait_until="domcontentloaded")
                page.wait_for_selector('#region-body[data-state="written"]')
                seen = page.evaluate(SIDE_BY_SIDE, SHOWN)
                print("drafts, steps, those shown:", seen)
                if seen[2][0] == 1:
                    break
            page.locator("body > div").first.screenshot(path=SETTLING)


# Moves the slider of a canvas to a fraction of its range.
SCRUB = """([name, share]) => {
  const range = document.querySelector(`#devtools-at-${name}`);
  range.value = Math.round(Number(range.max) * share);
  range.dispatchEvent(new Event("input", { bubbles: true }));
}"""


def panel() -> None:
    """Write the picture of the developer panel on an article of the demo wiki by the small diffusion model."""
    with tempfile.TemporaryDirectory() as folder:
        app = load_app(str(find_demo("wiki")))
        app.override(
            open_engine("diffusion", model="random"), {"debug": True, "database": str(Path(folder, "pages.db"))}
        )
        with served(app) as address, chromium() as browser:
            page = browser.new_page(viewport={"width": 1280, "height": 860}, color_scheme="light")
            page.route("**/cdn.jsdelivr.net/**", lambda route: route.abort())
            page.goto(f"http://{address}/wiki/Lighthouse", wait_until="domcontentloaded")
            for name in ("lead", "facts", "body"):
                page.wait_for_selector(f'#region-{name}[data-state="written"]', timeout=120_000)
            page.keyboard.press("Backquote")
            page.wait_for_selector("#devtools-at-body")
            for name, share in (("lead", 0.15), ("facts", 0.5)):
                page.evaluate(SCRUB, [name, share])
            page.wait_for_timeout(1500)
            page.mouse.click(5, 5)  # removes the focus ring
            PANEL.parent.mkdir(exist_ok=True)
            page.screenshot(path=PANEL)


# Pages of the demo wiki, with the size of the window and the colour scheme.
VIEWS = {
    "article": ("wiki/The_Museum_of_Lost_Keys", 1280, 860, "light"),
    "phone": ("wiki/The_Museum_of_Lost_Keys", 375, 780, "light"),
    "dark": ("wiki/The_Museum_of_Lost_Keys", 1280, 860, "dark"),
    "meanings": ("wiki/Tea_(disambiguation)", 1280, 680, "light"),
    "front": ("", 1280, 860, "light"),
}


def wiki() -> None:
    """Write the pictures of the demo wiki, with pages by the embedded model, unselected."""
    with tempfile.TemporaryDirectory() as folder:
        app = load_app(str(find_demo("wiki")))
        app.override(open_engine("embedded"), {"prefetch": "off", "database": str(Path(folder, "pages.db"))})
        with served(app) as address, chromium() as browser:
            page = browser.new_page()
            page.route("**/cdn.jsdelivr.net/**", lambda route: route.abort())
            for name, (path, width, height, scheme) in VIEWS.items():
                page.set_viewport_size({"width": width, "height": height})
                page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
                page.goto(f"http://{address}/{path}", wait_until="domcontentloaded")
                if path.startswith("wiki/"):
                    page.wait_for_selector("[data-colophon]:has([data-editable])", timeout=600_000)
                page.wait_for_timeout(1500)
                page.screenshot(path=WIKI / f"{name}.png")


if __name__ == "__main__":
    for take in (settling, panel, wiki):
        if take.__name__ in sys.argv[1:] or not sys.argv[1:]:
            take()
