"""The picture of a canvas that settles. Not a test: ``python -m tests.pictures`` takes it anew, in Chromium."""

import os
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright
from tests.core import served

from unwritten import App, Canvas, Page
from unwritten_engine import open_engine

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "engine" / "pictures" / "settling.png"
SHOWN = 6

TEMPLATE = """{% extends "layout.html" %}{% block main %}<h1>{{ page.title }}</h1>
<div class="prose">{% block body %}{{ body }}{% endblock %}</div>{% endblock %}"""

NOTES = """
window.drafts = [];
addEventListener("unwritten:frame", (event) => drafts.push(event.detail));
"""

# The drafts side by side: their HTML as it came over the socket, in the regions and with the style sheet of any page.
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


def main() -> None:
    """Write the picture."""
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

        executable = shutil.which("chromium") or shutil.which("google-chrome")
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        with served(app) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=executable, args=[*sandbox, "--disable-gpu"])
            page = browser.new_page(viewport={"width": 1140, "height": 800}, color_scheme="light")
            page.route("**/cdn.jsdelivr.net/**", lambda route: route.abort())
            page.add_init_script(NOTES)
            for number in range(20):  # until the first step, which is over soon, was among the frames that were seen
                page.goto(f"http://{address}/{number}", wait_until="domcontentloaded")
                page.wait_for_selector('#region-body[data-state="written"]')
                seen = page.evaluate(SIDE_BY_SIDE, SHOWN)
                print("drafts, steps, those shown:", seen)
                if seen[2][0] == 1:
                    break
            PICTURE.parent.mkdir(exist_ok=True)
            page.locator("body > div").first.screenshot(path=PICTURE)
            browser.close()


if __name__ == "__main__":
    main()
