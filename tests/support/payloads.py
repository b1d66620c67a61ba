"""A public collection of cross-site scripting, thousands of vectors long: got from its package, never imported.

The package (BRS-KB, MIT) is kept in the user's cache, outside the repository, and held to its hash: no source of others
is part of this project.
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
    """Every payload of the collection that has any markup in it, each once."""
    package = Path.home() / ".cache" / "unwritten-tests" / _FILE
    if not package.is_file():
        package.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", f"{_NAME}=={_VERSION}"]
        got = subprocess.run(command, cwd=package.parent, capture_output=True, text=True)
        if got.returncode != 0:
            pytest.fail(f"{_NAME} {_VERSION} cannot be had: {' '.join(command)} said {got.stderr.strip()[-500:]}")
    assert hashlib.sha256(package.read_bytes()).hexdigest() == _HASH, f"{package} is not the real one"
    found: dict[str, None] = {}
    with zipfile.ZipFile(package) as archive:
        for name in archive.namelist():
            if "/payloads/" in name and name.endswith(".py"):
                found |= dict.fromkeys(_texts(ast.parse(archive.read(name))))
    return tuple(text for text in found if "<" in text or "](" in text)


def _texts(module: ast.Module) -> list[str]:
    """What stands in a module as ``payload="…"`` or ``"payload": "…"``."""
    values: list[ast.expr] = []
    for node in ast.walk(module):
        if isinstance(node, ast.keyword) and node.arg == "payload":
            values.append(node.value)
        elif isinstance(node, ast.Dict):
            keys = zip(node.keys, node.values, strict=True)
            values += [value for key, value in keys if isinstance(key, ast.Constant) and key.value == "payload"]
    return [value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)]
