"""``unwritten offline``: keep a copy of htmx, so that pages need no network at all."""

from __future__ import annotations

import tarfile
import urllib.error
import urllib.request
from pathlib import Path

import click

from ..core.assets import HTMX, HTMX_VERSION, Script, htmx_cache, htmx_copy, integrity_of
from ..core.errors import UnwrittenError

TIMEOUT = 20.0
LARGEST = 1024 * 1024
"""Bytes; the files have some tens of thousands."""


@click.command("offline")
@click.option(
    "--from",
    "source",
    metavar="PATH",
    type=click.Path(exists=True, path_type=Path),
    help=f"Take it from the package htmx.org {HTMX_VERSION} (.tgz), a folder with it, or htmx.min.js itself.",
)
@click.option("--forget", is_flag=True, help="Delete the copy; pages load htmx from the CDN again.")
def command(source: Path | None, forget: bool) -> None:
    """Keep a copy of htmx, so that pages need no network at all.

    Pages load htmx from a CDN, and work without it: it saves a full page load when a link is followed. A copy
    in your cache is used instead of the CDN. It must have the very hash that pages ask for.

    \b
    unwritten offline                              (downloads 40 kB)
    npm pack htmx.org@4.0.1 && unwritten offline --from htmx.org-4.0.1.tgz
    """
    folder = htmx_cache()
    if forget:
        for script in HTMX:
            (folder / script.name).unlink(missing_ok=True)
        click.echo("Pages load htmx from the CDN again.")
        return
    for script in HTMX:
        if source is None and htmx_copy(script):
            continue
        content = _download(script) if source is None else _read(source, script)
        if content is None:
            click.echo(f"{source} has no {script.name}; that one still comes from the CDN.", err=True)
            continue
        if integrity_of(content) != script.integrity:
            raise UnwrittenError(
                f"{source or script.cdn} is not {script.name} of htmx {HTMX_VERSION}: its hash is another. "
                "Nothing was kept of it."
            )
        _keep(folder / script.name, content)
    click.echo(f"htmx {HTMX_VERSION} is kept in {folder}. Servers that run already use it after a restart.")


def _download(script: Script) -> bytes:
    try:
        with urllib.request.urlopen(script.cdn, timeout=TIMEOUT) as response:  # noqa: S310 (a constant https URL)
            content: bytes = response.read(LARGEST)
    except (OSError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", error)
        raise UnwrittenError(
            f"{script.cdn} could not be fetched ({reason}). If npm works here: "
            f"npm pack htmx.org@{HTMX_VERSION} && unwritten offline --from htmx.org-{HTMX_VERSION}.tgz"
        ) from error
    return content


def _read(source: Path, script: Script) -> bytes | None:
    """A script from a package, a folder, or a single file; None if it is not in there."""
    if source.is_dir():
        found = [path for path in (source / script.path, source / script.name) if path.is_file()]
        return found[0].read_bytes() if found else None
    if source.suffix == ".js":
        return source.read_bytes() if source.name == script.name else None
    try:
        with tarfile.open(source) as package:
            member = package.extractfile(f"package/{script.path}")
            return member.read(LARGEST) if member else None
    except KeyError:
        return None
    except (tarfile.TarError, OSError) as error:
        raise UnwrittenError(f"{source} cannot be read as an npm package ({error}).") from error


def _keep(file: Path, content: bytes) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".part")
        partial.write_bytes(content)
        partial.replace(file)
    except OSError as error:
        raise UnwrittenError(f"{file} cannot be written: {error.strerror}.") from error
