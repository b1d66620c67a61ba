"""The repository: docstrings, the changelog, clean files, and demos with all their parts."""

import ast
import re
from pathlib import Path

import pytest
from tests.support.repository import DEMOS, FILES, MODULES, PACKAGES, ROOT

import unwritten


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_has_a_docstring(package: str) -> None:
    missing = [
        name
        for name, path in MODULES.items()
        if name.partition(".")[0] == package and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert missing == []


def test_the_changelog_begins_with_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[?(\d+\.\d+\.\d+)\]?", text, re.MULTILINE)
    assert versions[0] == unwritten.__version__


def test_all_errors_are_in_the_trees() -> None:
    for path in (PACKAGES["unwritten"] / "core" / "errors.py", PACKAGES["unwritten_engine"] / "errors.py"):
        module = ast.parse(path.read_text(encoding="utf-8"))
        tree = set(re.findall(r"^[ *+│├└─-]*(\w+)", ast.get_docstring(module) or "", re.MULTILINE))
        classes = {node.name for node in module.body if isinstance(node, ast.ClassDef) and node.name[0] != "_"}
        assert classes - tree == set(), f"{path}: these are not in the tree"


def test_no_file_names_registries_or_build_folders() -> None:
    # In halves, so that this file does not contain them.
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
def test_a_demo_is_complete(folder: Path) -> None:
    file = folder / "app.py"
    text = file.read_text(encoding="utf-8")
    summary = (ast.get_docstring(ast.parse(text)) or "").partition("\n\n")[0]
    assert summary.endswith("."), "`unwritten demo` shows its first sentence"
    assert f"unwritten demo {folder.name}" in text
    assert list(folder.glob("static/*.css"))
    assert list(folder.glob("examples/**/*.txt"))

    readme = (folder / "README.md").read_text(encoding="utf-8")
    heading, _, rest = readme.partition("\n")
    assert heading.startswith("# ") and rest.strip()[0].isalpha(), "the README begins with a sentence"
    assert f"unwritten demo {folder.name}" in readme
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", readme)
    assert shown, "the README shows a picture"
    assert [name for name in shown if not (folder / name).is_file()] == []
    large = {path.name: path.stat().st_size for path in (folder / "pictures").iterdir()}
    assert {name: size for name, size in large.items() if size > 200_000} == {}
    assert (folder / f"test_{folder.name}.py").is_file(), "`unwritten new --from` copies a test"


def test_the_demos_are_listed() -> None:
    page = ROOT / "demos" / "README.md"
    text = page.read_text(encoding="utf-8")
    assert [folder.name for folder in DEMOS if f"]({folder.name}/README.md)" not in text] == []
    assert [name for name in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text) if not (page.parent / name).is_file()] == []


PHYSICAL = re.compile(
    r"(?<![\w-])(?:(?:margin|padding|border|scroll-margin|scroll-padding)-(?:left|right)\b|(?:left|right)\s*:"
    r"|(?:text-align|float|clear)\s*:\s*(?:left|right)\b|border-(?:top|bottom)-(?:left|right)-radius)"
)
SIDES = re.compile(r"(?<![\w-])(?:margin|padding|inset|border-width|border-color|border-style)\s*:\s*([^;}]+)")
SIDE = re.compile(r"(?:[a-z-]+\((?:[^()]|\([^()]*\))*\)|[^\s()])+")


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix == ".css"], ids=str)
def test_style_sheets_fit_both_directions_of_text(path: Path) -> None:
    """A rule may be physical if the comment before it says why: ``/* physical: … */``."""
    found = []
    for rule in re.split(
        r"(?<=\})", re.sub(r"/\*(?! physical:).*?\*/", "", path.read_text(encoding="utf-8"), flags=re.S)
    ):
        if "/* physical:" in rule:
            continue
        four = [SIDE.findall(sides) for sides in SIDES.findall(rule)]
        if PHYSICAL.search(rule) or any(len(sides) == 4 and sides[1] != sides[3] for sides in four):
            found.append(rule.strip())
    assert found == []
