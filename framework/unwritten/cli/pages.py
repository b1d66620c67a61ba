"""``unwritten pages``: what is written, and doing away with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from ..errors import StoreError, suggestion
from ..store import Entry, Store
from .flags import app_options, chosen_app, given

_Function = TypeVar("_Function", bound=Callable[..., Any])


@click.group("pages")
def command() -> None:
    """List, search, count and delete the pages that are written. No model is loaded.

    \b
    unwritten pages list --demo wiki
    unwritten pages search lighthouse --app app.py
    """


def _store_options(function: _Function) -> _Function:
    function = click.option("--database", metavar="FILE", help="A database, instead of an app's.")(function)
    return app_options(function)


@contextmanager
def _store(target: str | None, demo: str | None, database: str | None) -> Iterator[Store]:
    if database is None or target or demo:
        path = chosen_app(target, demo, given({"database": database})).database
    else:
        path = Path(database)
    if not path.is_file():
        raise StoreError(f"Nothing is written yet: there is no database {path}.")
    store = Store(path)
    try:
        yield store
    finally:
        store.close()


@command.command("list")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1), help="The newest so many.")
@_store_options
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
@_store_options
def search(words: tuple[str, ...], limit: int, **which: Any) -> None:
    """List the pages with all these WORDS, the best first."""
    with _store(**which) as store:
        found = store.search(" ".join(words), limit)
        if not found:
            raise click.ClickException(f"No page has {' '.join(words)!r}.")
        for entry in found:
            click.echo(f"{entry.key}\n    {entry.snippet}")


@command.command("count")
@_store_options
def count(**which: Any) -> None:
    """Print how many pages are written."""
    with _store(**which) as store:
        click.echo(store.count())


@command.command("delete")
@click.argument("keys", metavar="PATH...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Delete every page.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_store_options
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
                near = [entry.key for entry in store.recent(1000)]
                raise click.ClickException(f"The page {key} is not written." + (suggestion(key, near) if near else ""))
        click.echo(f"Deleted {len(keys):,} page{'' if len(keys) == 1 else 's'}.")


def _show(entries: list[Entry]) -> None:
    for entry in entries:
        when = entry.written_at.astimezone().strftime("%Y-%m-%d %H:%M")
        version = f"  version {entry.version}" if entry.version > 1 else ""
        click.echo(f"{when}  {entry.key}{version}")
