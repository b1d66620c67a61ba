"""The short form of the harness: a real server endures a hostile model, hostile visitors, a crash and a burst."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.torture.app import SECRET
from tests.torture.figures import TARGETS, missed
from tests.torture.fuzzing import leaves_site
from tests.torture.hostile_server import LEAK
from tests.torture.probe import stalled
from tests.torture.texts import FRAGMENTS, SPECIAL, hostile_texts

FOLDER = Path(__file__).parent


@pytest.mark.browser
def test_a_server_endures_the_short_form() -> None:
    command = [sys.executable, str(FOLDER), "--short"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=FOLDER.parents[1])
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-3000:]
    figures = json.loads(done.stdout.strip().splitlines()[-1])["SQLite"]
    assert missed(figures) == []
    assert figures["texts"] > 40 and figures["vector_placements"] > 100 and figures["kills_pages"] > 10
    assert figures["fuzzed_requests"] + figures["off_site_requests"] > 700
    assert {"longest_stall_ms", "scripts_run", "foreign_requests", "growth_descriptors", "kills_lost"} <= figures.keys()


@pytest.mark.parametrize(
    "address",
    [
        *(
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/\t/evil.example",
            " //evil.example",
        ),
        *("https://evil.example", "HTTPS:evil.example", "javascript:alert(1)", "data:text/html,x", "/\n\\evil.example"),
    ],
)
def test_addresses_of_other_sites_are_recognized(address: str) -> None:
    assert leaves_site(address)


@pytest.mark.parametrize(
    "address", ["", "/", "/wiki/A", "wiki", "?a=//evil.example", "#x", "http://torture/x", "/a//evil.example"]
)
def test_addresses_of_this_site_are_recognized(address: str) -> None:
    assert not leaves_site(address)


def test_hostile_texts_have_their_size_and_cover_each_format() -> None:
    texts = list(hostile_texts(2_000))
    assert {format for format, _, _ in texts} == set(FRAGMENTS) == set(SPECIAL)
    assert all(0 < len(text) <= 2_000 for _, _, text in texts)
    assert len({(format, name) for format, name, _ in texts}) == len(texts)


def test_a_figure_beyond_its_target_is_reported() -> None:
    assert missed({"scripts_run": 0, "longest_stall_ms": 250}) == []
    assert missed({"scripts_run": 1, "longest_stall_ms": 251, "processes_complete": 199}) == [
        *("scripts_run", "longest_stall_ms", "processes_complete")
    ]
    assert all(target.label for target in TARGETS.values())


def test_a_busy_machine_is_not_a_stall_and_work_of_the_event_loop_is() -> None:
    loop, worker, own = 1, 2, 9
    before, own_before = {loop: (1.0, 1.0), worker: (5.0, 0.0)}, {own: (0.0, 0.0)}

    def caused(delay: float, loop_ran: float, loop_waited: float, worker_waited: float, own_waited: float) -> float:
        after = {loop: (1.0 + loop_ran, 1.0 + loop_waited), worker: (5.0, worker_waited)}
        return stalled(delay, loop, (before, after), (own_before, {own: (0.0, own_waited)}))

    assert caused(1.0, 0.9, 0.1, 0.0, 0.0) == pytest.approx(0.9)
    assert caused(1.0, 0.9, 0.1, 0.9, 0.0) == pytest.approx(0.9), "another thread that waits hides nothing"
    assert caused(1.0, 0.0, 0.0, 0.0, 0.0) == pytest.approx(1.0), "the loop waited for a file or a lock"
    assert caused(1.0, 0.01, 0.4, 0.5, 0.08) == pytest.approx(0.02)


def test_what_must_not_leak_is_nowhere_else() -> None:
    template = "".join(path.read_text() for path in (FOLDER / "templates").iterdir())
    assert SECRET not in template and not any(word in template for word in LEAK.split() if len(word) > 3)
