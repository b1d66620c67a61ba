"""Drafts of the diffusion engine in a browser, with a small random model."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from tests.browser.tabs import OpenTab, Serve, Tab, note, until
from tests.support.apps import make_wiki
from tests.support.servers import served

from unwritten import App
from unwritten.cli.loading import load_app
from unwritten_engine import open_engine
from unwritten_engine.scripted import denoising_frames, scripted

pytestmark = pytest.mark.browser

WIKI = Path(__file__).resolve().parents[2] / "demos" / "wiki" / "app.py"
REGIONS = ("lead", "facts", "body")
DRAFTS = """
window.drafts = [];
addEventListener("unwritten:frame", (event) => {
  const region = event.target;
  const soft = [...region.querySelectorAll(".unsettled")];
  drafts.push({
    region: region.dataset.region, state: event.detail.state, step: event.detail.step, time: performance.now(),
    text: region.innerText, html: event.detail.html, height: region.offsetHeight, unsettled: event.detail.unsettled,
    soft: soft.reduce((sum, span) => sum + span.textContent.length, 0) / (region.textContent.length || 1),
    color: soft.length ? getComputedStyle(soft[0]).color : "", ink: getComputedStyle(region).color,
    links: [...region.querySelectorAll("a")].map((link) => link.getAttribute("href")),
  });
});
"""


@pytest.fixture(scope="module", params=["random", "random-lfm2"])
def wiki(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[App, str]]:
    """Serve the demo encyclopedia with the random model of each family, for all tests of this file."""
    app = load_app(str(WIKI))
    engine = open_engine("diffusion", model=request.param)  # loading takes longer than the start timeout of the server
    app.override(engine, {"database": str(tmp_path_factory.mktemp("wiki") / "wiki.db")})
    with served(app) as address:
        yield app, f"http://{address}"
    app.override(None, {})


def watching(open_tab: OpenTab, **options: Any) -> Tab:
    tab = open_tab(**options)
    tab.page.add_init_script(DRAFTS)
    return tab


def drafts(tab: Tab, region: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tab.js("(name) => drafts.filter((draft) => draft.region === name)", region)
    return found


def test_all_regions_show_drafts_and_the_page_is_stored(wiki: tuple[App, str], open_tab: OpenTab) -> None:
    app, url = wiki
    tab = watching(open_tab, viewport={"width": 1280, "height": 800})
    tab.goto(url)
    tab.ready()
    link = tab.page.get_by_role("link", name="Lighthouse")
    assert link.get_attribute("class") == "unwritten"
    link.click()
    tab.page.wait_for_selector("h1:has-text('Lighthouse')")
    tab.finished(30)

    first, ends = [], []
    for region in REGIONS:
        seen = drafts(tab, region)
        *region_job, last = seen
        assert last["state"] == "written"
        first.append(seen[0]["time"])
        ends.append(last["time"])
        assert len({draft["text"] for draft in region_job}) >= 3, note([draft["text"] for draft in region_job])
        shares = [draft["soft"] for draft in region_job]
        assert max(shares) > 0.2 and last["soft"] == 0
        assert min(shares[len(shares) // 2 :]) < max(shares), "the share of unsettled text falls"
        assert all(draft["color"] != draft["ink"] for draft in region_job if draft["soft"])
        assert all(one["height"] <= two["height"] for one, two in pairwise(region_job)), "the region does not shrink"
    assert max(first) < min(ends), "all regions show a draft before any has settled"
    assert all(draft["text"].startswith("Lighthouse ") for draft in drafts(tab, "lead")), "the opening is pinned"
    colors = [draft["color"] for draft in drafts(tab, "lead") if draft["soft"]]
    assert len(set(colors)) > 1, "the color of unsettled text changes over time"

    until(lambda: "just now" in tab.page.inner_text("[data-colophon]"))
    colophon = tab.page.inner_text("[data-colophon]")
    assert f"by {app.engine.about.model}" in colophon and "steps" in colophon
    assert tab.page.locator(".unsettled").count() == 0
    written = [tab.html(region) for region in REGIONS]
    tab.page.reload()
    expect(tab.page.locator("[data-colophon]")).to_contain_text("Written on")
    assert [tab.html(region) for region in REGIONS] == written
    stored = app.store.get("/wiki/Lighthouse")
    assert stored is not None and stored.provenance.engine == "diffusion"
    most = {"random": 48, "random-lfm2": 8 * 9}[stored.provenance.model]  # per canvas; LFM2 has blocks of 32 tokens
    assert 3 <= stored.provenance.steps <= 3 * most and stored.provenance.steps < stored.provenance.tokens


def test_regenerating_makes_a_new_version(wiki: tuple[App, str], open_tab: OpenTab) -> None:
    _, url = wiki
    tab = watching(open_tab)
    tab.goto(f"{url}/wiki/Tea")
    tab.finished(30)
    tab.ready()
    text = tab.text("lead")
    until(lambda: tab.page.get_by_role("button", name="Regenerate").count())
    tab.page.get_by_role("button", name="Regenerate").click()
    until(lambda: "Version 2 of 2" in tab.page.inner_text("[data-colophon]"), 30)
    until(lambda: tab.text("lead") != text)
    tab.page.get_by_role("link", name="Previous version").click()
    tab.page.wait_for_selector("aside.old")
    assert tab.text("lead") == text


def test_reduced_motion_limits_drafts_to_one_per_second(wiki: tuple[App, str], open_tab: OpenTab) -> None:
    _, url = wiki
    tab = watching(open_tab, reduced_motion="reduce")
    tab.goto(f"{url}/wiki/Owls")
    tab.finished(30)
    for region in REGIONS:
        restless = [draft for draft in drafts(tab, region) if draft["unsettled"] > 0.1]
        assert all(two["time"] - one["time"] > 950 for one, two in pairwise(restless)), note(restless)
        assert drafts(tab, region)[-1]["state"] == "written"


def test_only_settled_links_of_a_draft_are_links(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    text = (
        "A **lighthouse** is a [[Tower]] with a [[Lamp|bright lamp]]. It stands by [the sea](/wiki/Sea).\n\n"
        "## History\n\nThe first one burned wood, and the second burned [[Coal]].\n\n- [[Stone]]\n- light\n"
    )
    tab = watching(open_tab)
    tab.goto(f"{serve(make_wiki(tmp_path, scripted(denoising_frames(text, steps=12), delay=0.2)))}/wiki/Lighthouse")
    tab.finished()
    seen = drafts(tab, "body")
    final = seen[-1]["links"]
    assert len(final) == 5
    assert len({len(draft["links"]) for draft in seen}) >= 3, "links appear one after another"
    for draft in seen:
        assert set(draft["links"]) <= set(final), note(draft)
    for one, two in pairwise(seen):
        assert set(one["links"]) <= set(two["links"]), "links stay"
