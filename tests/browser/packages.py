"""Packages of npm that the browser tests need: in the user's cache, never in the repository."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CACHE = Path.home() / ".cache" / "unwritten-tests"


def packed(name: str, version: str) -> Path:
    """The package of this name and version, as npm packs it; got once, and kept.

    No source of others is part of this project. Who reads a file out of the package holds it to a hash.
    """
    package = CACHE / f"{name}-{version}.tgz"
    if package.is_file():
        return package
    CACHE.mkdir(parents=True, exist_ok=True)
    npm = shutil.which("npm")
    if npm is None:
        pytest.fail(
            f"The browser tests need {name} {version}, and there is no npm to get it with. Install npm, "
            f"or put the package at {package}."
        )
    command = [npm, "pack", f"{name}@{version}", "--silent"]
    got = subprocess.run(command, cwd=CACHE, capture_output=True, text=True)
    if got.returncode != 0:
        pytest.fail(f"{name} {version} cannot be had: {' '.join(command)} said {got.stderr.strip()}")
    return package
