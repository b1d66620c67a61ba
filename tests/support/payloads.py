"""A public collection of thousands of cross-site scripting vectors, read from its package without importing it.

The package (BRS-KB, MIT) is downloaded into the user's cache and checked by its hash. It is not part of this project.
"""

from __future__ import annotations

import ast
import hashlib
import subprocess
import sys
import zipfile
from functools import lru_cache
from pathlib import Path

import pytest

_NAME, _VERSION = "brs-kb", "4.0.2"
_FILE = f"brs_kb-{_VERSION}-py3-none-any.whl"
_HASH = "a9f3737e9ef00f0a3b791d9d3b849618ec3e3eb98c27436ba174ff626ba5ebd8"


@lru_cache
def payloads() -> tuple[str, ...]:
    """Return the payloads of the collection that contain markup, without duplicates."""
    package = Path.home() / ".cache" / "unwritten-tests" / _FILE
    if not package.is_file():
        package.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", f"{_NAME}=={_VERSION}"]
        got = subprocess.run(command, cwd=package.parent, capture_output=True, text=True)
        if got.returncode != 0:
            pytest.fail(f"{_NAME} {_VERSION} could not be downloaded: {' '.join(command)}: {got.stderr.strip()[-500:]}")
    assert hashlib.sha256(package.read_bytes()).hexdigest() == _HASH, f"{package} has a wrong hash"
    found: dict[str, None] = {}
    with zipfile.ZipFile(package) as archive:
        for name in archive.namelist():
            if "/payloads/" in name and name.endswith(".py"):
                found |= dict.fromkeys(_texts(ast.parse(archive.read(name))))
    return tuple(text for text in found if "<" in text or "](" in text)


def _texts(module: ast.Module) -> list[str]:
    """Return the strings that a module contains as ``payload="…"`` or ``"payload": "…"``."""
    values: list[ast.expr] = []
    for node in ast.walk(module):
        if isinstance(node, ast.keyword) and node.arg == "payload":
            values.append(node.value)
        elif isinstance(node, ast.Dict):
            keys = zip(node.keys, node.values, strict=True)
            values += [value for key, value in keys if isinstance(key, ast.Constant) and key.value == "payload"]
    return [value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)]
