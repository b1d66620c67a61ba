"""``unwritten offline``: keep a copy of htmx, so that pages need no network."""

from __future__ import annotations

import tarfile
import urllib.error
import urllib.request
from pathlib import Path

import click

from ..core.assets import HTMX, HTMX_VERSION, Script, htmx_cache, htmx_copy, integrity_of
from ..core.errors import UnwrittenError

TIMEOUT = 20.0
"""Seconds for one download."""

MAX_BYTES = 1024 * 1024
"""Maximum size of a script in bytes. The scripts of htmx have tens of kilobytes."""


@click.command("offline")
@click.option(
    "--from",
    "source",
    metavar="PATH",
    type=click.Path(exists=True, path_type=Path),
    help=f"Use the package htmx.org {HTMX_VERSION} (.tgz), a folder with its files, or htmx.min.js itself.",
)
@click.option("--forget", is_flag=True, help="Delete the copy. Pages load htmx from the CDN again.")
def offline(source: Path | None, forget: bool) -> None:
    """Keep a copy of htmx, so that pages need no network.

    Pages load htmx from a CDN. They work without it; it saves a full page load when a link is followed. A copy in
    your cache folder replaces the CDN. Its hash must be the one that pages require.

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
            click.echo(f"{source} has no {script.name}; pages load it from the CDN.", err=True)
            continue
        if integrity_of(content) != script.integrity:
            raise UnwrittenError(
                f"{source or script.cdn_url} is not {script.name} of htmx {HTMX_VERSION}: its hash differs. "
                "It was not stored."
            )
        _write(folder / script.name, content)
    click.echo(f"htmx {HTMX_VERSION} is stored in {folder}. Restart servers that are running.")


def _download(script: Script) -> bytes:
    try:
        with urllib.request.urlopen(script.cdn_url, timeout=TIMEOUT) as response:  # noqa: S310 - a constant https URL
            content: bytes = response.read(MAX_BYTES)
    except (OSError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", error)
        raise UnwrittenError(
            f"{script.cdn_url} could not be downloaded ({reason}). If npm works on this machine: "
            f"npm pack htmx.org@{HTMX_VERSION} && unwritten offline --from htmx.org-{HTMX_VERSION}.tgz"
        ) from error
    return content


def _read(source: Path, script: Script) -> bytes | None:
    """Return a script from a package, a folder or a file, or None if it is missing."""
    if source.is_dir():
        found = [path for path in (source / script.path, source / script.name) if path.is_file()]
        return found[0].read_bytes() if found else None
    if source.suffix == ".js":
        return source.read_bytes() if source.name == script.name else None
    try:
        with tarfile.open(source) as package:
            member = package.extractfile(f"package/{script.path}")
            return member.read(MAX_BYTES) if member else None
    except KeyError:
        return None
    except (tarfile.TarError, OSError) as error:
        raise UnwrittenError(f"{source} cannot be read as an npm package ({error}).") from error


def _write(file: Path, content: bytes) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".part")
        partial.write_bytes(content)
        partial.replace(file)
    except OSError as error:
        raise UnwrittenError(f"{file} cannot be written: {error.strerror}.") from error
