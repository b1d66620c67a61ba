"""Benchmarks: ``python tests/benchmarks NAME``. Each prints a table, and one JSON document on its last line."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import click

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
# Python puts a folder that it runs first on the path. The modules are imported from the repository's root instead.
sys.path[:] = [str(ROOT), str(ROOT / "engine"), *(path for path in sys.path if Path(path).resolve() != FOLDER)]

from unwritten.cli.main import LazyCommand, LazyGroup  # noqa: E402

BENCHMARKS: Mapping[str, LazyCommand] = {
    "web": LazyCommand("web:command", "What the framework costs, with a model that takes no time."),
    "capacity": LazyCommand("capacity:command", "What a page costs, and what a million pages a day need."),
    "ahead": LazyCommand("ahead:command", "What prefetching saves visitors, and what it costs."),
    "click": LazyCommand("click_latency:command", "From a click to the first words and to the finished page."),
    "first": LazyCommand("first_minute:command", "A click right after the start, and one later."),
    "demos": LazyCommand("demos:command", "How long a visitor waits in each demo."),
    "morph": LazyCommand("morph:command", "How pages in use are updated, and how fast."),
    "engine": LazyCommand("run_engine:command", "The diffusion engine and generate() of transformers."),
    "lfm2": LazyCommand("lfm2:command", "LFM2 diffusion with random weights, and the embedded model."),
    "gpu": LazyCommand("run_gpu:command", "Check the diffusion engine on the GPUs of this machine."),
    "small": LazyCommand("small:command", "A small diffusion model and the embedded model."),
    "schemas": LazyCommand("schemas:command", "How often an engine's values of schemas are valid."),
    "plausible": LazyCommand("plausible:command", "How plausible a model's values of everyday schemas are."),
    "quality": LazyCommand("quality:command", "How good the pages of a model are."),
    "world": LazyCommand("world:command", "Whether later pages know what earlier ones said."),
    "prompts": LazyCommand("collect_prompts:command", "Collect the prompts of pages, to sample training pages from."),
}


@click.command(
    cls=LazyGroup,
    lazy_commands=BENCHMARKS,
    package="tests.benchmarks",
    noun="benchmark",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def main() -> None:
    """Measure speed and quality."""


if __name__ == "__main__":
    main(prog_name="python tests/benchmarks")
