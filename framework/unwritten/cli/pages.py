"""``unwritten get`` and ``unwritten pages``: one page as HTML, and the pages that are stored."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import quote, urljoin

import click

from unwritten_engine.errors import suggestion

from ..app.application import App
from ..core.paths import page_key, url_of_key
from ..storage.aliases import AliasStore
from ..storage.open import check_exists
from ..storage.pages import PageStore
from ..storage.records import PageSummary
from ..testing.asgi_client import request, running
from .flags import app_options, choose_app, given_settings, settings_options
from .server import prepare
from .worlds import world_options, world_path

MAX_REDIRECTS = 5

_REGION_ERROR = b'class="region-error"'
"""Marks a region that could not be finished, in a streamed page."""


# -- one page ---------------------------------------------------------------------------------------------------------


@click.command("get")
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="Print the page's data: its texts, values, links and origin.")
@app_options
@settings_options("host", "port")
def get(path: str, target: str | None, demo: str | None, *, as_json: bool, **options: object) -> None:
    """Print the HTML of the page PATH, or its data. It is generated unless it is stored.

    \b
    unwritten get /wiki/Lighthouse --demo wiki > lighthouse.html
    unwritten get --json /wiki/Lighthouse --demo wiki
    unwritten get / --app app.py
    """
    if not path.startswith("/"):
        raise click.UsageError(f"A path begins with a slash: unwritten get /{path.lstrip('/')}")
    # The command is run by the owner of the app, so no signed link is needed.
    app = choose_app(target, demo, {"signed_links": "off", **given_settings(options)})
    prepare(app)
    status, is_complete = asyncio.run(_print_page(app, _streamed(path), as_json=as_json))
    if status >= 400:
        raise click.ClickException(f"The response for {path} has status {status}; the page above says why.")
    if not is_complete:
        raise click.ClickException(f"{path} could not be finished and is not stored; the page above says why.")


def _streamed(path: str) -> str:
    """Return the URL for a page that is sent as one stream, without scripts."""
    location, _, query = path.partition("?")
    location = quote(location, safe="/%:@!$&'()*+,;=~-._")
    if "plain=1" in query.split("&"):
        return f"{location}?{query}"
    return f"{location}?{query}&plain=1" if query else f"{location}?plain=1"


async def _print_page(app: App, url: str, *, as_json: bool) -> tuple[int, bool]:
    """Print a page as it is generated, or its data. Return its status, and whether it is complete."""
    is_complete = True

    def print_bytes(body: bytes) -> None:
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.flush()

    def write(body: bytes) -> None:
        nonlocal is_complete
        is_complete = is_complete and _REGION_ERROR not in body  # the mark is never split
        if not as_json:
            print_bytes(body)

    async with running(app):
        response = await request(app, url, write)
        for _ in range(MAX_REDIRECTS):
            if response.location:
                url = _streamed(urljoin(url, response.location))
                response = await request(app, url, write)
        if as_json:
            response = await request(app, url, print_bytes, headers={"accept": "application/json"})
            print_bytes(b"\n")
    return response.status, is_complete


# -- stored pages -----------------------------------------------------------------------------------------------------


@click.group("pages")
def pages() -> None:
    """List, search, count and delete the stored pages, show their history, and give them aliases.

    No model is loaded.

    \b
    unwritten pages list --demo wiki
    unwritten pages search lighthouse --app app.py
    """


@contextmanager
def _open_store(**world: Any) -> Iterator[PageStore]:
    location = world_path(**world)
    check_exists(location)
    with closing(PageStore(location)) as store:
        yield store


@pages.command("list")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1), help="The largest number of pages.")
@world_options
def list_pages(limit: int, **world: Any) -> None:
    """List the pages, the newest first."""
    with _open_store(**world) as store:
        _print_summaries(store.recent(limit))
        more = store.count() - limit
        if more > 0:
            click.echo(f"and {more:,} more: --limit {limit + more}", err=True)


@pages.command("search")
@click.argument("words", nargs=-1, required=True)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="The largest number of pages.")
@world_options
def search_pages(words: tuple[str, ...], limit: int, **world: Any) -> None:
    """List the pages that contain all WORDS, the best match first."""
    with _open_store(**world) as store:
        found = store.search(" ".join(words), limit)
        if not found:
            raise click.ClickException(f"No page contains {' '.join(words)!r}.")
        for summary in found:
            click.echo(f"{summary.key}\n    {summary.snippet}")


@pages.command("history")
@click.argument("key", metavar="PATH")
@world_options
def show_history(key: str, **world: Any) -> None:
    """List the versions of a page, the newest first: date, kind of change, regions and note."""
    with _open_store(**world) as store:
        versions = store.history(key)
        if not versions:
            raise _not_stored(store, key)
        for version in versions:
            change = version.change
            when = version.written_at.astimezone().strftime("%Y-%m-%d %H:%M")
            where = f" in {', '.join(change.regions)}" if change.regions else ""
            note = f": {change.note}" if change.note else ""
            seed = f", seed {version.provenance.seed}" if version.provenance.seed else ""  # 0: the engine has none
            model = "" if change.kind == "by hand" else f"  {version.model}{seed}"
            click.echo(f"{version.number:>4}  {when}  {change.kind}{where}{note}{model}")


@pages.command("count")
@world_options
def count_pages(**world: Any) -> None:
    """Print the number of stored pages."""
    with _open_store(**world) as store:
        click.echo(store.count())


@pages.command("alias")
@click.argument("alias", metavar="[ALIAS]", required=False)
@click.argument("page", metavar="[PATH]", required=False)
@click.option("--remove", is_flag=True, help="Remove the alias.")
@click.option("--replace", is_flag=True, help="Delete the page that is stored as ALIAS, with all its versions.")
@world_options
def alias_pages(alias: str | None, page: str | None, remove: bool, replace: bool, **world: Any) -> None:
    """Make ALIAS another name of the page PATH: visits and links to it lead to the page. Alone, list all aliases.

    \b
    unwritten pages alias /wiki/The_Captain /wiki/Captain_Sarah --demo wiki
    unwritten pages alias /wiki/The_Captain --remove --demo wiki
    """
    if remove != (alias is not None and page is None):
        raise click.UsageError("Give ALIAS and PATH, or ALIAS and --remove, or nothing to list all aliases.")
    keys = [_parse_key(path) for path in (alias, page) if path is not None]
    with _open_store(**world) as store:
        aliases = AliasStore(store.database)
        if not keys:
            for name, target in aliases.all():
                click.echo(f"{name} -> {target}")
        elif remove:
            click.echo(f"{keys[0]} is no longer another name of {asyncio.run(aliases.remove(keys[0]))}.")
        else:
            if replace:
                asyncio.run(store.replace_with_alias(*keys))
            click.echo(f"{keys[0]} is another name of {asyncio.run(aliases.add(*keys))}.")


def _parse_key(path: str) -> str:
    """Return the key of a page as typed: with or without spaces."""
    key = page_key(path.replace(" ", "_"))
    if key is None:
        raise click.UsageError(f"{path!r} is not the path of a page, such as /wiki/Captain_Sarah.")
    return key


@pages.command("delete")
@click.argument("keys", metavar="PATH...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Delete every page.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@world_options
def delete_pages(keys: tuple[str, ...], everything: bool, yes: bool, **world: Any) -> None:
    """Delete pages with all their versions. They are generated again when they are clicked.

    The path of a page stands for all its variants, and PATH#vary=VALUE for one.
    """
    if bool(keys) == everything:
        raise click.UsageError("Name the pages, such as /wiki/Lighthouse, or give --all.")
    with _open_store(**world) as store:
        if everything:
            if not yes:
                click.confirm(f"Delete all {store.count():,} pages of {store.database.name}?", abort=True)
            keys = tuple(summary.key for summary in store.recent(store.count() or 1))
        deleted = 0
        for key in dict.fromkeys(map(url_of_key, keys) if everything else keys):
            number = asyncio.run(store.delete_with_variants(key))
            if not number:
                raise _not_stored(store, key)
            deleted += number
        click.echo(f"Deleted {deleted:,} page{'' if deleted == 1 else 's'}.")


def _not_stored(store: PageStore, key: str) -> click.ClickException:
    known = [summary.key for summary in store.recent(1000)]
    return click.ClickException(f"The page {key} is not stored." + (suggestion(key, known) if known else ""))


def _print_summaries(summaries: Iterable[PageSummary]) -> None:
    for summary in summaries:
        when = summary.written_at.astimezone().strftime("%Y-%m-%d %H:%M")
        version = f"  version {summary.version}" if summary.version > 1 else ""
        click.echo(f"{when}  {summary.key}{version}")
