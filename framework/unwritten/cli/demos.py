"""The demos: folders with an ``app.py`` whose docstring says in its first sentence what it is."""

from __future__ import annotations

import ast
from pathlib import Path

from unwritten_engine.errors import suggestion

from ..core.assets import asset_dir
from ..core.errors import NotAnApp


def all_demos() -> dict[str, str]:
    """Every demo by name, with the first sentence of its docstring."""
    return {file.parent.name: _sentence(file) for file in sorted(asset_dir("demos").glob("*/app.py"))}


def find_demo(name: str) -> Path:
    """The ``app.py`` of a demo.

    Raises:
        NotAnApp: if there is no demo of that name.
    """
    names = all_demos()
    if name not in names:
        raise NotAnApp(f"There is no demo {name!r}.{suggestion(name, names)} All of them: unwritten demo")
    return asset_dir("demos") / name / "app.py"


def _sentence(file: Path) -> str:
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(text.partition("\n\n")[0].split())
    sentence, dot, _ = paragraph.partition(". ")
    return sentence + "." if dot else paragraph
