"""Drafts of the vLLM engine in a browser: a real vLLM on the CPU with a small random model, in its own environment."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.browser.tabs import OpenTab, note
from tests.browser.test_diffusion import DRAFTS, REGIONS, drafts
from tests.support.processes import Running
from tests.support.repository import ROOT
from tests.support.servers import OWNER_TOKEN, wait_for

ENVIRONMENT = Path(os.environ.get("VENV_OF_VLLM", "no-such-folder"))
ON_CPU = ROOT / "tests" / "engine" / "vllm" / "on_cpu"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (ENVIRONMENT / "bin" / "vllm").exists(),
        reason="VENV_OF_VLLM names no environment with vLLM; .ci/vllm runs this test",
    ),
]


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Return the address of the demo encyclopedia on ``--engine vllm``."""
    options = "context=4096 eager=true dtype=float32"
    command = "-m unwritten demo wiki --port 0 --engine vllm --model random --engine-options".split()
    process = subprocess.Popen(
        [ENVIRONMENT / "bin" / "python", *command, options, "--database", tmp_path / "wiki.db"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, (ON_CPU, ROOT / "framework", ROOT / "engine"))),
            "TRITON_INTERPRET": "1",
            "TORCH_COMPILE_DISABLE": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "UNWRITTEN_OWNER_TOKEN": OWNER_TOKEN,
            "UNWRITTEN_PREFETCH": "off",
        },
    )
    server = Running(process)
    try:
        wait_for(lambda: process.poll() is not None or "http://127.0.0.1:" in "".join(server.lines), 300)
        yield server.wait_for(r"http://127\.0\.0\.1:\d+/\S*", 1)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        server._viewer.join()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.timeout(600)
def test_all_regions_of_a_page_show_drafts(url: str, open_tab: OpenTab) -> None:
    tab = open_tab(viewport={"width": 1280, "height": 800})
    tab.page.add_init_script(DRAFTS)
    tab.goto(url)
    tab.ready()
    tab.page.get_by_role("link", name="Lighthouse").click()
    tab.page.wait_for_selector("h1:has-text('Lighthouse')")
    tab.finished(240)
    for region in REGIONS:
        *unfinished, last = drafts(tab, region)
        assert last["state"] == "written" and last["soft"] == 0
        assert len({draft["text"] for draft in unfinished}) >= 3, note([draft["text"] for draft in unfinished])
        assert max(draft["soft"] for draft in unfinished) > 0.2
    assert all(draft["text"].startswith("Lighthouse ") for draft in drafts(tab, "lead")), "the opening is pinned"
    colophon = tab.page.inner_text("[data-colophon]")
    assert "by random" in colophon and "steps" in colophon
