"""``unwritten pages``: what is written, and doing away with it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from unwritten_engine.errors import suggestion

from ..core.errors import StoreError
from ..storage.pages import PageStore
from ..storage.records import PageSummary
from .worlds import world_options, world_path


@click.group("pages")
def command() -> None:
    """List, search, count and delete the pages that are written, and show their history. No model is loaded.

    \b
    unwritten pages list --demo wiki
    unwritten pages search lighthouse --app app.py
    """


@contextmanager
def _store(**which: Any) -> Iterator[PageStore]:
    path = world_path(**which)
    if not path.is_file():
        raise StoreError(f"Nothing is written yet: there is no database {path}.")
    store = PageStore(path)
    try:
        yield store
    finally:
        store.close()


@command.command("list")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1), help="The newest so many.")
@world_options
def list_(limit: int, **which: Any) -> None:
    """List the pages, the newest first."""
    with _store(**which) as store:
        _show(store.recent(limit))
        rest = store.count() - limit
        if rest > 0:
            click.echo(f"and {rest:,} more: --limit {limit + rest}", err=True)


@command.command("search")
@click.argument("words", nargs=-1, required=True)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="At most so many.")
@world_options
def search(words: tuple[str, ...], limit: int, **which: Any) -> None:
    """List the pages with all these WORDS, the best first."""
    with _store(**which) as store:
        found = store.search(" ".join(words), limit)
        if not found:
            raise click.ClickException(f"No page has {' '.join(words)!r}.")
        for entry in found:
            click.echo(f"{entry.key}\n    {entry.snippet}")


@command.command("history")
@click.argument("key", metavar="PATH")
@world_options
def history(key: str, **which: Any) -> None:
    """List the versions of a page, the newest first: when, by which means, and what was asked."""
    with _store(**which) as store:
        versions = store.history(key)
        if not versions:
            raise _missing(store, key)
        for version in versions:
            change = version.change
            when = version.written_at.astimezone().strftime("%Y-%m-%d %H:%M")
            where = f" in {', '.join(change.regions)}" if change.regions else ""
            note = f": {change.note}" if change.note else ""
            by = "" if change.kind == "by hand" else f"  {version.model}, seed {version.provenance.seed}"
            click.echo(f"{version.number:>4}  {when}  {change.kind}{where}{note}{by}")


def _missing(store: PageStore, key: str) -> click.ClickException:
    near = [entry.key for entry in store.recent(1000)]
    return click.ClickException(f"The page {key} is not written." + (suggestion(key, near) if near else ""))


@command.command("count")
@world_options
def count(**which: Any) -> None:
    """Print how many pages are written."""
    with _store(**which) as store:
        click.echo(store.count())


@command.command("delete")
@click.argument("keys", metavar="PATH...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Delete every page.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@world_options
def delete(keys: tuple[str, ...], everything: bool, yes: bool, **which: Any) -> None:
    """Delete pages with all their versions. They are written anew when someone asks for them."""
    if bool(keys) == everything:
        raise click.UsageError("Name the pages, such as /wiki/Lighthouse, or give --all.")
    with _store(**which) as store:
        if everything:
            if not yes:
                click.confirm(f"Delete all {store.count():,} pages of {store.path}?", abort=True)
            keys = tuple(entry.key for entry in store.recent(store.count() or 1))
        for key in keys:
            if not asyncio.run(store.delete(key)):
                raise _missing(store, key)
        click.echo(f"Deleted {len(keys):,} page{'' if len(keys) == 1 else 's'}.")


def _show(entries: list[PageSummary]) -> None:
    for entry in entries:
        when = entry.written_at.astimezone().strftime("%Y-%m-%d %H:%M")
        version = f"  version {entry.version}" if entry.version > 1 else ""
        click.echo(f"{when}  {entry.key}{version}")
