"""``unwritten new``: a small app that works, and names that are refused."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.apps import database_file
from tests.support.terminal import unwritten

from unwritten.cli.loading import all_demos, load_app
from unwritten.cli.new import FILES
from unwritten.testing import Visitor

DEMOS = list(all_demos())


def test_a_new_app_passes_its_own_tests(home: Path) -> None:
    made = unwritten("new", "rain-garden")
    assert made.exit_code == 0 and "cd rain-garden" in made.output
    folder = home / "rain-garden"
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == set(FILES.values())
    assert not any("$" in path.read_text(encoding="utf-8") for path in folder.rglob("*") if path.is_file())
    command = [sys.executable, "-m", "pytest", "-q"]
    told = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert told.returncode == 0 and "3 passed" in told.stdout, told.stdout + told.stderr
    assert not list(folder.glob("*.db")), "its tests leave no database"


@pytest.mark.parametrize("demo", DEMOS)
def test_a_copy_of_a_demo_runs_and_passes_its_test(demo: str, home: Path) -> None:
    made = unwritten("new", "mine", "--from", demo)
    assert made.exit_code == 0 and f"a copy of the demo {demo}, with its test" in made.output
    folder = home / "mine"
    assert f"`unwritten demo {demo}`" in (folder / "README.md").read_text(encoding="utf-8")
    assert (folder / ".gitignore").is_file() and not (folder / "pictures").exists()
    assert Visitor(load_app(str(folder))).visit("/").status == 200
    if list(folder.glob("test_*.py")):
        command = [sys.executable, "-m", "pytest", "-q", "-x"]
        told = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert told.returncode == 0, told.stdout + told.stderr
    assert not list(folder.glob("*.db")), "its tests leave no database"


def test_an_unknown_demo_gets_a_suggestion(home: Path) -> None:
    told = unwritten("new", "mine", "--from", "wikki")
    assert told.exit_code == 1 and "There is no demo 'wikki'. Did you mean 'wiki'?" in told.output
    assert list(home.iterdir()) == []


def test_a_new_app_is_clean_code(home: Path) -> None:
    unwritten("new", "garden")
    checks = [
        "ruff check --isolated --select E,F,I,B,UP,D1 --line-length 120",
        "ruff format --isolated --check --line-length 120",
    ]
    for check in (*checks, "mypy --strict"):
        command = [sys.executable, "-m", *check.split(), "app.py", *(["tests"] if "format" in check else [])]
        told = subprocess.run(command, cwd="garden", capture_output=True, text=True)
        assert told.returncode == 0, told.stdout + told.stderr


def test_a_new_app_is_named_after_its_folder(home: Path) -> None:
    unwritten("new", "rain_garden")
    app = load_app("rain_garden")
    assert app.name == "Rain garden"
    database = database_file(app).name
    page = Visitor(app).visit("/")
    assert page.heading == "Rain garden" and page.links["Tea"] == "/about/Tea"
    assert f"`{database}`" in Path("rain_garden/README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("My garden!", "my-garden"),
        ("sites/garden", "garden"),
        ("../garden", "garden"),
        ("9lives", "lives"),
        ("…", "garden"),
    ],
)
def test_a_bad_name_gets_a_better_one(name: str, better: str, home: Path) -> None:
    told = unwritten("new", name)
    assert told.exit_code == 2 and told.output.rstrip().endswith(f"start with a letter: unwritten new {better}")
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_an_existing_file_or_folder_is_not_changed(kind: str, home: Path) -> None:
    there = home / "garden"
    there.mkdir() if kind == "folder" else there.write_text("mine")
    told = unwritten("new", "garden")
    assert told.exit_code == 1 and "There is something called garden here already" in told.output
    assert list(there.iterdir()) == [] if kind == "folder" else there.read_text() == "mine"


def test_a_folder_that_cannot_be_created_is_reported(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = home / "gone"
    there.mkdir()
    monkeypatch.chdir(there)
    there.rmdir()
    told = unwritten("new", "garden")
    assert told.exit_code == 1 and "cannot be created: No such file or directory." in told.output
