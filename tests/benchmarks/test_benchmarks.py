"""The benchmarks run, print a table, and end with one JSON document with the documented figures."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from tests.benchmarks.__main__ import BENCHMARKS, FOLDER, main
from tests.benchmarks.apps import long_text
from tests.benchmarks.capacity import estimate
from tests.benchmarks.report import percentile, report
from tests.benchmarks.schemas import SCHEMAS, sample
from tests.browser.morph_cases import CONTROLS, ROWS

from unwritten.formats.schema import json_schema_of
from unwritten.formats.schema_repair import repair


def bench(*arguments: str) -> dict[str, Any]:
    """Run a benchmark from another folder, and return the JSON document on its last line."""
    command = [sys.executable, str(FOLDER), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=FOLDER.parent)
    assert done.returncode == 0, done.stderr
    return document(done.stdout)


def bench_here(*arguments: str) -> dict[str, Any]:
    """Run a benchmark in this process, which has imported torch already."""
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return document(result.stdout)


def document(printed: str) -> dict[str, Any]:
    assert "to reach" in printed
    found: dict[str, Any] = json.loads(printed.strip().splitlines()[-1])
    return found


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_can_be_imported(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert isinstance(command, click.Command) and command.help


def test_web_loses_no_page() -> None:
    found = bench("web", "--seconds", "0.1", "--shell-count", "3", "--visitors", "40")
    promised = {"shell_ms_p50", "shell_ms_p99", "kept_ratio", "frame_ms_10kb", "frame_ms_40kb"}
    assert promised <= found.keys()
    assert all(found[name] > 0 for name in promised)
    # These are not timings: they must hold on the slowest machine.
    assert (found["crowd_generations"], found["crowd_complete"], found["many_complete"]) == (1, 40, 50)


def test_click_watches_a_page_to_its_end() -> None:
    found = bench("click", "--clicks", "1", "--warm-up", "0", "--engine", "diffusion:random")
    assert 0 < found["first_words_s"] <= found["all_begun_s"] <= found["settled_s"]
    assert found["kept"] == 1
    assert found["tokens_per_s"] > 0


def test_first_compares_a_click_after_the_start_with_later_ones() -> None:
    found = bench("first", "--starts", "1", "--warm-up", "0", "--engine", "diffusion:random")
    for kind in ("first", "later", "warm"):
        assert 0 < found[f"{kind}_words_s"] <= found[f"{kind}_settled_s"]
    assert found["starts"] == 2 and found["later_settled_ratio"] > 0


@pytest.mark.browser
def test_morph_runs_every_case() -> None:
    found = bench("morph", "--rounds", "1")
    assert found["cases_of_rows"]["morph.js"] == len(ROWS)
    assert found["cases_of_controls"]["morph.js"] == len(CONTROLS)
    assert all(ms > 0 for times in found["ms"].values() for ms in times.values())


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([3.0, 1.0, 2.0], 0.99) == 3.0
    assert percentile([7.0], 0.0) == 7.0


def test_a_report_ends_with_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    report("What it costs", [("a page", "1 ms", "≤ 2 ms")], {"page_ms": 1})
    printed = capsys.readouterr().out
    assert "a page" in printed
    assert json.loads(printed.strip().splitlines()[-1]) == {"page_ms": 1}


def test_the_text_of_a_benchmark_has_its_length_and_is_always_the_same() -> None:
    assert len(long_text("Tea", 10_000)) == 10_000
    assert long_text("Tea", 500) == long_text("Tea", 1000)[:500]


def test_a_thousand_times_the_pages_need_a_thousand_times_the_processors_and_disk() -> None:
    cost: dict[str, float] = dict.fromkeys(
        ("watched_page_ms", "stored_page_ms", "bytes_per_page", "message_kb_per_page", "broker_commands_per_page"), 10.0
    )
    few, many = (estimate(cost, pages, tokens=400, speed=100, views=10, peak=4) for pages in (1_000, 1_000_000))
    for name in ("pages_per_second", "engine_share", "cores", "disk_gb_per_year"):
        assert many[name] == pytest.approx(1000 * few[name])
    assert few["pages_per_second"] == pytest.approx(4 * 1_000 / 86_400)
    assert few["cores"] == pytest.approx(few["pages_per_second"] * 0.110)
    assert (few["engines"], few["processes"]) == (1, 1) and many["engines"] == 186
    assert few["disk_gb_per_year"] == pytest.approx(0.00365)


def test_ahead_compares_with_and_without_prefetching(home: Path) -> None:
    found = bench(
        *("ahead", "--clicks", "3", "--readers", "1", "--read-seconds", "1.5", "--rounds", "1", "--page-seconds", "0.3")
    )
    assert found["clicks"] == 3 and 0 < found["ahead_ready_share"] <= 1
    assert 0 < found["ahead_ms_p50"] < found["complete_ms_p50_off"]
    assert 0 <= found["ahead_wasted_share"] < 1
    assert found["first_words_ms_quiet"] > 0 and found["first_words_ms_beside_ahead"] > 0


def test_engine_reports_what_was_measured() -> None:
    found = bench_here("engine", "--quick", "--device", "cpu", "--batches", "1,2", "--pairs", "1", "--threads", "1")
    assert found["parity"] is True and found["parity_small"] is True
    assert found["first_drafts_before_settled"] is True
    positive = "step_ratio page_batch_ratio prefix_ratio peak_memory_ratio ms_per_step forward_ms reference_ms_per_step"
    assert all(found[name] > 0 for name in positive.split()), found
    assert found["sampling_ms"] >= 0
    assert [row["batch"] for row in found["batches"]] == [1, 2]
    assert all(row["ms"] > 0 and row["reference_ms"] > 0 and row["tokens_per_s"] > 0 for row in found["batches"])
    assert (found["device"], found["threads"], found["kind"]) == ("CPU", 1, "float32")


def test_engine_without_torch_says_what_to_install() -> None:
    code = (
        "import runpy, sys; sys.modules['torch'] = None; sys.argv = ['', 'engine']; "
        f"runpy.run_path({str(FOLDER)!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert 'pip install "unwritten[diffusion]"' in done.stderr


def test_engine_rejects_an_invalid_list() -> None:
    result = CliRunner().invoke(main, ["engine", "--batches", "1,two"])
    assert result.exit_code == 2
    assert "not a list of counts" in result.stderr


def test_schemas_measures_repair_and_retries() -> None:
    found = bench("schemas", "--requests", "50", "--engines", "prose")
    assert found["valid_raw"]["prose"] < 0.3 < 0.8 < found["valid_repaired"]["prose"]
    assert found["valid_repaired"]["prose"] <= found["valid"]["prose"] <= 1


def test_values_of_a_diffusion_model_are_always_valid() -> None:
    found = bench_here("schemas", "--requests", "5", "--engines", "diffusion")
    assert found["valid"] == found["valid_raw"] == {"diffusion": 1.0}


@pytest.mark.parametrize("schema", SCHEMAS.values())
def test_sampled_values_can_be_repaired(schema: type) -> None:
    rng = random.Random(1)
    for _ in range(40):
        repair(schema, json.dumps(sample(json_schema_of(schema), json_schema_of(schema), rng)))
