"""``python tests/benchmarks prompts``: collect the prompts of an app's pages, to sample training pages from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import click

from research.data.page_prompts import PagePrompt, write_prompts
from unwritten import App
from unwritten.cli.flags import app_options, choose_app
from unwritten.testing import Visitor
from unwritten.testing.scripted_engine import placeholder_text
from unwritten_engine import Priority, Prompt
from unwritten_engine.scripted import ABOUT, scripted

SETTINGS: Final[dict[str, Any]] = {"memory_tokens": 0, "prefetch": "off", "signed_links": "off", "markup": "off"}
"""No memory, because other pages are placeholders, and no drawings, which a small model cannot make."""


def collect(app: App, paths: Iterable[str], *, base: bool = False) -> Iterator[PagePrompt]:
    """Yield the prompts of pages, each once, in the order in which they are sent.

    Placeholders are written into a temporary database.

    Args:
        app: The app.
        paths: The paths of the pages.
        base: True for the prompts of a model that does not follow instructions.

    Raises:
        click.ClickException: If a page does not exist.
    """
    abilities = replace(ABOUT.abilities, instruct=not base, markup=False, images=False)
    engine = scripted(placeholder_text, about=replace(ABOUT, abilities=abilities))
    seen: set[Prompt] = set()
    with Visitor(app, engine, **SETTINGS) as visitor:
        for path in paths:
            engine.requests.clear()
            page = visitor.visit(path)
            if page.status >= 400:
                raise click.ClickException(f"The response for {path} has status {page.status}: {page.text[:200]}")
            stored = app.store.get(page.key)
            for request in engine.requests:
                if request.priority is Priority.CLICK and request.draft is None and request.prompt not in seen:
                    seen.add(request.prompt)
                    yield PagePrompt(
                        prompt=request.prompt,
                        title=stored.title if stored else page.title,
                        kind=page.key.split("/")[1],
                        source=app.name,
                        schema=request.schema,
                        max_tokens=request.budget(ABOUT.canvas_length),
                    )


@click.command()
@click.argument("paths", nargs=-1, required=True)
@app_options
@click.option("--names", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Titles, one per line.")
@click.option("--base", is_flag=True, help="Use the prompts of a model that does not follow instructions.")
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
    """Collect the prompts of the pages PATHS. No model is needed, and no page is stored.

    A path with {} is opened once for each name of --names. `python -m research.data sample` makes training pages from
    the file.

    \b
    python tests/benchmarks prompts /wiki/Tea --demo wiki
    python tests/benchmarks prompts "/wiki/{}" "/child/{}" --names titles.txt --demo wiki
    """
    for path in paths:
        if not path.startswith("/"):
            raise click.UsageError(f"A path begins with a slash: /{path}")
    if names is None and any("{}" in path for path in paths):
        raise click.UsageError("A path with {} needs titles: --names FILE, with one per line.")
    titles = [line.strip() for line in names.read_text(encoding="utf-8").splitlines()] if names else [""]
    # Title by title, so that an unfinished file has all pages of the titles that it has.
    urls = dict.fromkeys(path.replace("{}", _quote(title)) for title in titles if title or not names for path in paths)
    count = write_prompts(out, collect(choose_app(target, demo, {}), urls, base=base))
    click.echo(f"{out} has {count:,} prompts of {len(urls):,} pages.")


def _quote(title: str) -> str:
    """Return a title as a part of a path."""
    return quote(title.replace(" ", "_"), safe="")
