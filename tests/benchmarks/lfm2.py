"""``python tests/benchmarks lfm2``: the speed of LFM2 diffusion with random weights, and of the embedded model.

The weights have the shape of the published model with 350M parameters, but they are random: the text is gibberish, and
the figures are only about speed. Both engines write as many tokens from the same prompt, in turn, in one run.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from tests.benchmarks.report import report

from unwritten_engine import Engine, EngineError, Prompt, Request, open_engine

PROMPT = Prompt(
    "Write the article about the light of winter.",
    "You write articles of an encyclopedia that does not exist. An article begins with the name of its subject.",
)
STEPS = (8, 4)


@dataclass(frozen=True, slots=True)
class Text:
    """How a text was written.

    Attributes:
        tokens_per_s: its tokens by the seconds from the request to the end, prompt included.
        ms_per_pass: milliseconds per frame with a new draft: a pass of a diffusion model, or a piece of text.
        first_draft_s: seconds to the first frame.
        drafts: frames in the first second.
    """

    tokens_per_s: float
    ms_per_pass: float
    first_draft_s: float
    drafts: int


@click.command()
@click.option("--tokens", type=click.IntRange(1), default=128, show_default=True, help="Tokens of each text.")
@click.option("--pairs", type=click.IntRange(1), default=3, show_default=True, help="Texts of each engine.")
@click.option(
    "--kinds", default="none,int8", show_default=True, help="How the weights are kept: none (bf16), int8, or both."
)
@click.option("--quick", is_flag=True, help="A tiny model, once: seconds, and figures that mean nothing.")
def command(tokens: int, pairs: int, kinds: str, quick: bool) -> None:
    """Measure LFM2 diffusion at the size of the published model, with random weights, beside the embedded model."""
    try:
        document = asyncio.run(measure(tokens, 1 if quick else pairs, kinds.split(","), quick=quick))
    except EngineError as error:
        raise click.ClickException(str(error)) from error
    report("LFM2 diffusion, 350M parameters, RANDOM WEIGHTS, beside the embedded model", rows(document), document)


async def measure(tokens: int, pairs: int, kinds: list[str], *, quick: bool) -> dict[str, Any]:
    """Write texts with all engines in turn. Return the document."""
    found: dict[str, list[Text]] = {}
    with tempfile.TemporaryDirectory(prefix="unwritten-") as folder:
        reference = "random-lfm2" if quick else str(write_model(Path(folder)))
        engines: dict[str, Engine] = {"embedded": open_engine("embedded")}
        for kind in kinds:
            dtype = "float32" if quick else "bfloat16"
            engines[kind] = open_engine(f"diffusion:{reference}", quantize=kind, dtype=dtype, parallel=1, context=2048)
        load = [round(os.getloadavg()[0], 1)]
        for number in range(-1, pairs):  # the first ones are not counted
            for name, engine in engines.items():
                for steps in STEPS if name != "embedded" else (0,):
                    options = {"steps": steps} if steps else {}
                    text = await _write(engine, Request(PROMPT, max_tokens=tokens, seed=number + 1, options=options))
                    if number >= 0:
                        found.setdefault(f"{name}, {steps} steps" if steps else name, []).append(text)
        load.append(round(os.getloadavg()[0], 1))
        for engine in engines.values():
            await engine.close()
    fields = Text.__slots__
    middle = {
        name: {field: round(statistics.median(getattr(text, field) for text in texts), 2) for field in fields}
        for name, texts in found.items()
    }
    return {"random_weights": True, "tokens": tokens, "pairs": pairs, "load": load, "median": middle}


def write_model(folder: Path) -> Path:
    """Write a model of the published sizes with random weights. Return its folder."""
    import torch

    from unwritten_engine.diffusion.lfm2.random_model import LFM2_350M, write_checkpoint
    from unwritten_engine.diffusion.lfm2.random_tokenizer import write_tokenizer

    write_checkpoint(folder, dtype=torch.bfloat16, **LFM2_350M)
    write_tokenizer(folder, LFM2_350M["vocabulary"], LFM2_350M["real_vocabulary"])
    return folder


async def _write(engine: Engine, request: Request) -> Text:
    begun, times, count = time.perf_counter(), [], 0
    async for frame in engine.generate(request):
        times.append(time.perf_counter() - begun)
        if frame.usage is not None:
            count = frame.usage.tokens
    return Text(
        tokens_per_s=count / times[-1],
        ms_per_pass=1000 * times[-1] / len(times),
        first_draft_s=times[0],
        drafts=sum(moment <= 1 for moment in times),
    )


def rows(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the rows of the table."""
    table = [
        (
            name,
            f"{text['tokens_per_s']:.1f} tokens/s, {text['ms_per_pass']:.0f} ms a frame, first after "
            f"{text['first_draft_s']:.2f} s, {text['drafts']:.0f} in the first second",
            "",
        )
        for name, text in found["median"].items()
    ]
    return [*table, ("load of the machine, before and after", " and ".join(map(str, found["load"])), "")]
