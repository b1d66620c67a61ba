"""The guide: its blocks run in order, in one folder that grows as the guide does."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from tests.project.test_docs import commands
from tests.tools.readme import DOCS

GUIDE = DOCS / "guide.md"


@dataclass(frozen=True)
class Block:
    """A block of the guide.

    Attributes:
        action: "file: NAME" writes a file, and runs it if it is a test; "try" runs the code.
        language: Its language.
        code: Its text.
        line: The line on which it begins.
    """

    action: str
    language: str
    code: str
    line: int


def blocks() -> list[Block]:
    text = GUIDE.read_text(encoding="utf-8")
    found = re.finditer(r"^(?:<!-- (.+?) -->\n)?```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [Block(m[1] or "", m[2], m[3], text.count("\n", 0, m.start()) + 1) for m in found]


def test_every_block_is_run() -> None:
    assert len(blocks()) > 10
    for block in blocks():
        known = block.action.startswith("file: ") or block.action == "try"
        assert known or (not block.action and block.language == "sh"), (
            f"{GUIDE.name}:{block.line}: this block is not run; write <!-- file: … --> or <!-- try --> above it"
        )


def test_the_guide_works_from_its_first_block_to_its_last(tmp_path: Path) -> None:
    for block in blocks():
        # In a process of its own, as a reader would: the app is imported again each time.
        command = [sys.executable, "-W", "error"]
        if block.action.startswith("file: "):
            file = tmp_path / block.action.removeprefix("file: ")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.code, encoding="utf-8")
            if not file.name.startswith("test_"):
                continue
            command += ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(file)]
        elif block.action == "try":
            command += ["-c", block.code]
        else:
            continue
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, f"{GUIDE.name}:{block.line}:\n{ran.stdout}\n{ran.stderr}"


@pytest.mark.parametrize("block", [b for b in blocks() if b.language == "sh"], ids=lambda block: f"line {block.line}")
def test_commands_in_the_guide_exist(block: Block) -> None:
    known = commands()
    for line in block.code.splitlines():
        words = shlex.split(line, comments=True)
        if not words or words[0] != "unwritten":
            continue
        name = next((name for name in (" ".join(words[1:3]), words[1]) if name in known), "")
        assert name, f"{GUIDE.name}:{block.line}: {line}"
        rest = words[1 + len(name.split()) :]
        known[name].make_context(name, rest, resilient_parsing=isinstance(known[name], click.Group))
