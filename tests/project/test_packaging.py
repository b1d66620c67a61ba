"""The wheel: two packages at the top level, their assets, and nothing else."""

import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.repository import FILES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    folder = tmp_path_factory.mktemp("dist")
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    [file] = folder.glob("*.whl")
    with zipfile.ZipFile(file) as opened:
        yield opened


def test_the_wheel_has_two_packages_at_the_top(wheel: zipfile.ZipFile) -> None:
    top = {name.partition("/")[0] for name in wheel.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"unwritten", "unwritten_engine"}


@pytest.mark.parametrize(
    "name",
    [
        "unwritten/py.typed",
        "unwritten_engine/py.typed",
        "unwritten/llms.txt",
        "unwritten/templates/layout.html",
        "unwritten/static/box-host.js",
        "unwritten/static/box-guest.js",
        "unwritten/static/morph.js",
        "unwritten/static/live.js",
        "unwritten/static/unwritten.css",
        "unwritten/templates/prompts/svg.txt",
    ],
)
def test_the_assets_are_inside(wheel: zipfile.ZipFile, name: str) -> None:
    assert name in wheel.namelist()


def test_demos_are_complete_except_for_their_pictures(wheel: zipfile.ZipFile) -> None:
    demos = {path.relative_to(ROOT).as_posix() for path in FILES if path.parts[len(ROOT.parts)] == "demos"}
    inside = {name.removeprefix("unwritten/") for name in wheel.namelist() if name.startswith("unwritten/demos/")}
    assert inside == {name for name in demos if "/pictures/" not in name}
    assert "demos/wiki/app.py" in inside


def test_the_wheel_is_small(wheel: zipfile.ZipFile) -> None:
    assert sum(entry.compress_size for entry in wheel.infolist()) < 1_500_000


def test_the_wheel_contains_nothing_else(wheel: zipfile.ZipFile) -> None:
    unexpected = [
        name
        for name in wheel.namelist()
        if any(part in name for part in ("__pycache__", "tests/", "docs/", "research/", "bench"))
        or name.endswith((".db", ".db-wal", ".gguf", ".pyc"))
    ]
    assert unexpected == []


def test_the_licence_is_included(wheel: zipfile.ZipFile) -> None:
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())


def test_every_file_of_a_package_is_packaged(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for folder in (ROOT / "framework" / "unwritten", ROOT / "engine" / "unwritten_engine"):
        for path in folder.rglob("*.py"):
            assert path.relative_to(folder.parent).as_posix() in names


def test_the_base_install_has_no_torch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert not any(line.startswith(("torch", "transformers")) for line in project["dependencies"])
    assert project["scripts"] == {"unwritten": "unwritten.cli.main:main"}
