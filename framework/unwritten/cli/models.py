"""``unwritten models``: list models that can be opened by name, and which of them fits this machine."""

from __future__ import annotations

import textwrap

import click

from unwritten_engine.named_models import (
    DIFFUSION_GEMMA,
    EMBEDDED,
    EXPERIMENTAL,
    MODELS,
    Machine,
    NamedModel,
    best_fit,
    fit,
    memory_needed,
    this_machine,
)

_ROW = "{:21} {:>6}  {:>9}  {:>7}  {:>8}  {:24} {}"


@click.command("models")
def models() -> None:
    """List models by name, with licence, size, needed memory, and whether they fit this machine.

    A model is downloaded when it is used for the first time. Sizes are approximate. Tokens per second are what
    `unwritten doctor --engine NAME` has measured on this machine.

    \b
    unwritten models
    unwritten demo wiki --engine qwen3-4b
    """
    machine = this_machine()
    click.echo(_ROW.format("name", "params", "download", "memory", "tokens/s", "licence", "fits here").rstrip())
    for model in MODELS.values():
        speed = machine.speeds.get(model.name)
        verdict = fit(model, machine)
        row = _ROW.format(
            model.name,
            f"{model.parameters:.1f} B",
            _download(model),
            f"{memory_needed(model) / 1e9:.1f} GB",
            f"{speed:.0f}" if speed else "",
            model.licence.partition(",")[0].partition(":")[0],
            f"no: {verdict.reason}" if verdict.kind == "no" else verdict.reason.partition(":")[0],
        )
        click.echo(click.style(row, dim=verdict.kind == "no"))
    click.echo()
    for line in (*sorted({model.licence for model in MODELS.values() if "http" in model.licence}), *experimental()):
        click.echo(textwrap.fill(line, 120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False))
    click.echo(f"\n{best_model(machine)}")


def _download(model: NamedModel) -> str:
    if model.name == EMBEDDED:
        return "installed"
    return "here" if model.is_here else f"{model.size / 1e9:.1f} GB"


def experimental() -> list[str]:
    """Return a line for each model that is only opened by name, with its size and its whole licence."""
    return [
        f"--engine {model.name} is {EXPERIMENTAL} ({model.title}, {_download(model)}, {model.licence})."
        for model in MODELS.values()
        if model.is_experimental
    ]


def best_model(machine: Machine) -> str:
    """Return the model that fits a machine best, and what to type to use it, in one line."""
    model = best_fit(machine)
    if model.name == EMBEDDED:
        return "Best fit for this machine: the embedded model."
    if model.name == DIFFUSION_GEMMA:
        source = f"{model.size / 1e9:.0f} GB or more to download"
    else:
        source = "downloaded" if model.is_here else f"{model.size / 1e9:.1f} GB to download"
    licence = model.licence.partition(",")[0]
    return f"Best fit for this machine: --engine {model.name} ({model.title}, {source}, {licence})."
