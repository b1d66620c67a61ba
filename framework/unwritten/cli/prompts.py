"""``unwritten prompts``: what an app's pages ask a model for, as a file from which pages for training are sampled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import click

from unwritten_engine import Priority, Prompt
from unwritten_engine.scripted import ABOUT, scripted
from unwritten_engine.training.dataset import PagePrompt, write_prompts

from ..app.application import App
from ..testing import Visitor
from ..testing.scripted_engine import stand_in
from .flags import app_options, chosen_app

QUIET: Final[dict[str, Any]] = {"memory_tokens": 0, "ahead": "off", "signed_links": "off", "markup": "off"}
"""What a page is told of others would be told of stand-ins; and a small model cannot draw."""


def collect(app: App, paths: Iterable[str], *, base: bool = False) -> Iterator[PagePrompt]:
    """The prompts of some pages, each once, in the order in which they are sent.

    The pages are written by stand-ins into a database that is thrown away.

    Args:
        app: the app.
        paths: the addresses of the pages.
        base: whether to ask as a model is asked that only continues text.

    Raises:
        click.ClickException: if one of them is not there.
    """
    abilities = replace(ABOUT.abilities, instruct=not base, markup=False, images=False)
    engine = scripted(stand_in, about=replace(ABOUT, abilities=abilities))
    seen: set[Prompt] = set()
    with Visitor(app, engine, **QUIET) as visitor:
        for path in paths:
            engine.requests.clear()
            page = visitor.visit(path)
            if page.status >= 400:
                raise click.ClickException(f"{path} was answered with status {page.status}: {page.text[:200]}")
            kept = app.store.get(page.key)
            for request in engine.requests:
                if request.priority is Priority.CLICK and request.draft is None and request.prompt not in seen:
                    seen.add(request.prompt)
                    yield PagePrompt(
                        prompt=request.prompt,
                        title=kept.title if kept else page.title,
                        kind=page.key.split("/")[1],
                        source=app.name,
                        schema=request.schema,
                        max_tokens=request.budget(ABOUT.canvas_length),
                    )


@click.command("prompts")
@click.argument("paths", nargs=-1, required=True)
@app_options
@click.option("--names", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Titles, one on each line.")
@click.option("--base", is_flag=True, help="Ask as a model is asked that only continues text.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("prompts.jsonl"),
    show_default=True,
    help="The file to write.",
)
def command(
    paths: tuple[str, ...], target: str | None, demo: str | None, names: Path | None, base: bool, out: Path
) -> None:
    """Write down what the pages PATHS ask a model for. No model is needed, and nothing is kept.

    A path with {} in it is opened once for each name of --names. From such a file
    `python -m research.data sample` makes pages to train on.

    \b
    unwritten prompts /wiki/Tea --demo wiki
    unwritten prompts "/wiki/{}" "/child/{}" --names titles.txt --demo wiki
    """
    for path in paths:
        if not path.startswith("/"):
            raise click.UsageError(f"A path begins with a slash: unwritten prompts /{path}")
    if names is None and any("{}" in path for path in paths):
        raise click.UsageError("A path with {} needs titles: --names FILE, with one on each line.")
    listed = [line.strip() for line in names.read_text(encoding="utf-8").splitlines()] if names else [""]
    # Title by title, so that a file that is not finished has all the pages of those that it has.
    addresses = dict.fromkeys(
        path.replace("{}", _spelt(name)) for name in listed if name or not names for path in paths
    )
    count = write_prompts(out, collect(chosen_app(target, demo, {}), addresses, base=base))
    click.echo(f"{out} has {count:,} prompts of {len(addresses):,} pages.")


def _spelt(name: str) -> str:
    """A name as it stands in a path."""
    return quote(name.replace(" ", "_"), safe="")
