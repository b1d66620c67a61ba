"""``unwritten write``: generate many pages in one run, with one model."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import click

from ..app.application import App
from ..core.errors import UnwrittenError
from ..core.paths import url_of_key
from ..export.untrusted_file import MAX_PRINTED, printable
from ..generation.page_writer import WriteResult
from ..storage.open import check_exists
from ..storage.pages import PageStore
from ..testing.asgi_client import running
from .flags import app_options, choose_app, given_settings, settings_options
from .server import LoadingProgress, prepare

_ALL = 1_000_000_000

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells define it."""


@click.command("write")
@click.argument("paths", metavar="PATH...", nargs=-1)
@click.option(
    "--file",
    "files",
    metavar="FILE",
    multiple=True,
    type=click.Path(allow_dash=True, path_type=Path),
    help="Write the pages listed in a file, one path a line. Lines that begin with # are comments. - is stdin.",
)
@click.option("--missing", is_flag=True, help="Write the pages that stored pages link to, the most linked first.")
@click.option("--limit", type=click.IntRange(1), help="With --missing: the largest number of pages.")
@app_options
@settings_options("host", "port", "read_only")
def write(
    paths: tuple[str, ...],
    files: tuple[Path, ...],
    missing: bool,
    limit: int | None,
    target: str | None,
    demo: str | None,
    **options: object,
) -> None:
    """Write the pages PATH... in one run. Pages that are stored are skipped.

    \b
    unwritten write /wiki/Tea /wiki/Salt --demo wiki
    unwritten write --file paths.txt --app app.py
    unwritten write --missing --limit 100

    Ctrl-C stops: finished pages are stored, and the same command continues. The status is 1 if a page could not be
    written. A server of the same database may run meanwhile: each page is stored once. Connected to it (--broker), this
    command pauses while its visitors wait.
    """
    if limit is not None and not missing:
        raise click.UsageError("--limit belongs to --missing.")
    if not (paths or files or missing):
        raise click.UsageError("Name the pages, such as /wiki/Tea, or give --file or --missing.")
    app = choose_app(target, demo, given_settings(options))
    places = dict.fromkeys(paths, "")
    for file in files:
        for path, place in _read_paths(file):
            places.setdefault(path, place)
    for path in _missing_pages(app, limit) if missing else ():
        places.setdefault(path, "")
    if not places:
        click.echo("No page is missing." if missing else "There are no paths in the file.", err=True)
        return
    _lower_priority()
    prepare(app)
    try:
        result = asyncio.run(_write(app, places))
    except KeyboardInterrupt:
        click.echo("\nStopped. All finished pages are stored. The same command continues with the others.", err=True)
        raise SystemExit(INTERRUPTED) from None
    for path, reason in result.failed.items():
        click.echo(f"{places[path]}{_shown(path)}: {reason}", err=True)
    click.echo(_summary(result))
    if result.failed:
        raise SystemExit(1)


async def _write(app: App, paths: Iterable[str]) -> WriteResult:
    async with running(app):
        with LoadingProgress() as progress:
            return await app.write(paths, progress=lambda share, line: progress(share, _shown(line)))


def _shown(text: str) -> str:
    """Return a text with a path from a file as it can be printed."""
    return printable(text) + ("…" if len(text) > MAX_PRINTED else "")


def _read_paths(file: Path) -> list[tuple[str, str]]:
    """Return the paths in a file, each with its place for messages: ``paths.txt:17: ``.

    Raises:
        UnwrittenError: If it cannot be read.
    """
    try:
        with click.open_file(str(file), encoding="utf-8-sig") as lines:
            return list(_numbered(str(file), lines))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UnwrittenError(f"The list of paths {file} cannot be read: {reason}.") from error


def _numbered(name: str, lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(lines, 1):
        path = line.strip()
        if path and not path.startswith("#"):
            yield path, f"{'stdin' if name == '-' else name}:{number}: "


def _missing_pages(app: App, limit: int | None) -> list[str]:
    """Return what stored pages link to, without the values of variants. No model is loaded for it."""
    check_exists(app.database)
    with closing(PageStore(app.database)) as store:
        return [url_of_key(page.key) for page in store.missing_pages(limit or _ALL)]


def _lower_priority() -> None:
    """Let a server on the same machine compute first."""
    with contextlib.suppress(AttributeError, OSError):
        os.nice(10)


def _summary(result: WriteResult) -> str:
    parts = [f"{len(result.written):,} written"]
    if result.skipped:
        parts.append(f"{len(result.skipped):,} were stored already")
    if result.failed:
        parts.append(f"{len(result.failed):,} failed")
    return f"Pages: {', '.join(parts)}."
