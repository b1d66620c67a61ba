"""npm packages that the browser tests need. They are stored in the user's cache, not in the repository."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CACHE = Path.home() / ".cache" / "unwritten-tests"


def packed(name: str, version: str) -> Path:
    """Return the path of a package as a tarball. Download it on first use.

    Callers must check the hash of each file that they read from it.
    """
    package = CACHE / f"{name}-{version}.tgz"
    if package.is_file():
        return package
    CACHE.mkdir(parents=True, exist_ok=True)
    npm = shutil.which("npm")
    if npm is None:
        pytest.fail(
            f"The browser tests need {name} {version}, which npm downloads. npm is not installed. Install it, "
            f"or put the package at {package}."
        )
    command = [npm, "pack", f"{name}@{version}", "--silent"]
    got = subprocess.run(command, cwd=CACHE, capture_output=True, text=True)
    if got.returncode != 0:
        pytest.fail(f"{name} {version} cannot be downloaded: {' '.join(command)} failed: {got.stderr.strip()}")
    return package
