"""``python tests/benchmarks morph``: morph.js, Idiomorph and the morphing of htmx, in Chromium.

Each updates the same pages. The cases of the browser tests count what a visitor loses, and the updates are timed.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tarfile
from typing import Any

import click
from playwright.sync_api import Browser, Page, sync_playwright
from tests.benchmarks.report import report
from tests.browser.morph_cases import CONTROLS, ROWS, RUN, Case
from tests.browser.packages import packed

from unwritten.core.assets import HTMX, HTMX_VERSION, asset_dir, integrity_of

IDIOMORPH_VERSION = "0.8.0"
IDIOMORPH = ("dist/idiomorph.js", "sha384-61dcKMf/+00OGMTUidx51NPkxuWOQTjaoua7KMloUs2qooKk04Y85QMt2eUX7phb")

MORPHS = {
    "morph.js": "(root, html) => unwrittenMorph.morph(root, "
    "Object.assign(document.createElement('template'), { innerHTML: html }).content)",
    "Idiomorph": "(root, html) => Idiomorph.morph(root, html, { morphStyle: 'innerHTML' })",
    "htmx": "(root, html) => htmx.swap({ target: root, text: html, swap: 'innerMorph', sourceElement: root })",
}

JOBS = """() => void (() => {
  const times = (n, make) => Array.from({ length: n }, (_, i) => make(i)).join("");
  const paragraph = (n) =>
    `<p>A lighthouse is a <a class="unwritten" href="/wiki/Tower${n}">tower</a> with a <b>lamp</b>, number ${n}.</p>`;
  const growing = (n) => (frame) =>
    times(n + frame, paragraph) + `<p>And it <span class="unsettled">goes ${frame}</span></p>`;
  const changing = (frame) => times(90, (n) =>
    `<p>Draft ${(n * 7 + frame) % 11} of <b>the ${frame + n} words</b> here, ` +
    `with <a href="/w/${(n + frame) % 5}">link</a> ${frame * n} and more text</p>`);
  const row = (n) =>
    `<li>Item ${n} <form method="post" action="/row/${n}?_form=x.${Math.random()}" data-action="/row/${n}">` +
    `<input name="text" value="${n}"><input type="checkbox" name="tick"><button>Save</button></form></li>`;
  const inserted = (frame) => `<ul>${times(1000 + frame, (n) => row(n - frame))}</ul>`;
  window.jobs = { "10 kB that grow": growing(90), "40 kB that grow": growing(380), "10 kB that change": changing,
    "1,000 rows, one inserted": inserted };
})()"""

TIME = """async ([job, morph, frames]) => {
  const root = document.querySelector("main"), times = [];
  root.innerHTML = window.jobs[job](0);
  for (let frame = 1; frame <= frames; frame++) {
    const html = window.jobs[job](frame), begun = performance.now();
    window.morphs[morph](root, html);
    times.push(performance.now() - begun);
    root.offsetHeight;
    await new Promise((go) => setTimeout(go));
  }
  return times;
}"""
"""Returns the time of each update in milliseconds, without layout."""


def scripts() -> list[str]:
    """Return the scripts that are compared, after a check of their hashes."""
    own = [(asset_dir("static") / name).read_text() for name in ("controls.js", "morph.js")]
    others = []
    for name, version, path, integrity in (
        ("idiomorph", IDIOMORPH_VERSION, *IDIOMORPH),
        ("htmx.org", HTMX_VERSION, HTMX[0].path, HTMX[0].integrity),
    ):
        with tarfile.open(packed(name, version)) as archive:
            member = archive.extractfile(f"package/{path}")
            content = member.read() if member else b""
        if integrity_of(content) != integrity:
            raise click.ClickException(f"{path} of {name} {version} has another hash.")
        others.append(content.decode())
    return [*own, *others]


def opened(browser: Browser, scripts: list[str]) -> Page:
    """Return a page with all libraries. Each library gets its own, because updates can slow down later ones."""
    page = browser.new_page()
    page.set_content("<!doctype html><main></main>")
    page.evaluate("() => { window.unwritten = { text: () => 'Changed elsewhere', announce() {} }; }")  # of live.js
    for script in scripts:
        page.add_script_tag(content=script)
    page.evaluate(JOBS)
    page.evaluate(f"() => {{ window.morphs = {{ {', '.join(f'{name!r}: {js}' for name, js in MORPHS.items())} }} }}")
    return page


def passed(page: Page, cases: tuple[Case, ...], morph: str) -> int:
    """Return how many cases a library passes. An exception is a failure."""
    run = f"(case_) => {{ try {{ return ({RUN})(case_) }} catch (error) {{ return [String(error)] }} }}"
    return sum(not page.evaluate(run, [case.before, case.use, case.after, case.holds, morph]) for case in cases)


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Rounds of seven updates of each kind that are timed.")
def command(rounds: int) -> None:
    """Compare morph.js, Idiomorph and htmx: what visitors lose, and the time of an update."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        raise click.ClickException("There is no Chromium on this machine. Install it: apt install chromium")
    with sync_playwright() as playwright:
        flags = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        browser = playwright.chromium.launch(executable_path=executable, args=flags)
        contents = scripts()
        pages = {name: opened(browser, contents) for name in MORPHS}
        found: dict[str, dict[str, Any]] = {
            key: {name: passed(page, cases, name) for name, page in pages.items()}
            for key, cases in (("cases_of_rows", ROWS), ("cases_of_controls", CONTROLS))
        }
        jobs = next(iter(pages.values())).evaluate("() => Object.keys(window.jobs)")
        # In turn, so that other work on the machine slows down all of them.
        times: dict[str, dict[str, list[float]]] = {job: {name: [] for name in MORPHS} for job in jobs}
        for _ in range(rounds):
            for job in jobs:
                for name, page in pages.items():
                    times[job][name] += page.evaluate(TIME, [job, name, 7])
        browser.close()
    medians = {job: {name: round(statistics.median(ms), 2) for name, ms in each.items()} for job, each in times.items()}
    document = {**found, "ms": medians}
    rows = [
        (f"{title}, of {len(cases)}: {name}", str(found[key][name]), str(len(cases)) if name == "morph.js" else "")
        for title, key, cases in (("rows", "cases_of_rows", ROWS), ("controls", "cases_of_controls", CONTROLS))
        for name in MORPHS
    ]
    rows += [(f"{job}: {name}", f"{ms:.1f} ms", "") for job, each in medians.items() for name, ms in each.items()]
    report("Updating a page in use", rows, document)
