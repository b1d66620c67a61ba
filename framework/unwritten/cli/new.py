"""``unwritten new``: an app to begin with, and its test: a small one, or one of the demos."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import click

from ..core.assets import asset_dir
from . import demos

PLACES = {
    "app.py": "app.py",
    "README.md": "README.md",
    "pyproject.toml": "pyproject.toml",
    "gitignore": ".gitignore",
    "front.html": "templates/front.html",
    "about.html": "templates/about.html",
    "style.css": "static/style.css",
    "test_app.py": "tests/test_app.py",
}
"""Which of our files goes where in a new app."""

FRAME = ("pyproject.toml", "gitignore")
"""Those of them that an app that begins from a demo has too."""

_README = """# $title

    unwritten run app.py    # serve it; it starts again when a file changes
    pytest                  # test it: no server, no browser, no model

It began as a copy of a demo: `unwritten demo $demo` still shows what that was. `app.py` says what a page needs,
`examples/` what the model is shown, `templates/` and `static/` are the look.
"""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")


@click.command("new")
@click.argument("name")
@click.option("--from", "demo", metavar="DEMO", help="Begin with a copy of a demo, such as forum.")
def command(name: str, demo: str | None) -> None:
    """Make a new app in the folder NAME: a page with a template, a canvas and a shape, and a test that passes.

    \b
    unwritten new garden
    unwritten new allotment --from forum
    """
    if not _NAME.fullmatch(name):
        raise click.UsageError(
            f"{name!r} cannot be the name of an app. Take up to 40 letters, digits, '-' and '_', a letter first: "
            f"unwritten new {_better(name)}{f' --from {demo}' if demo else ''}"
        )
    folder = Path(name)
    make(folder, demo)
    what = f"a copy of the demo {demo}, with its test" if demo else "app.py, two templates, a style sheet and a test"
    click.echo(f"{name}/ is there: {what}. Go on with:\n")
    click.echo(f"  {click.style(f'cd {name}', bold=True)}")
    click.echo(f"  {click.style('unwritten run app.py --open', bold=True)}")
    click.echo(f"  {click.style('pytest', bold=True)}")


def make(folder: Path, demo: str | None = None) -> None:
    """Make an app in a folder that is not there yet, called by its name; with ``demo``, as a copy of it.

    Raises:
        NotAnApp: if there is no such demo.
        click.ClickException: if something of this name is there, or it cannot be written; nothing is left behind.
    """
    model = demos.find_demo(demo).parent if demo else None
    try:
        folder.mkdir()  # refuses, in one step, whatever is there already
    except FileExistsError:
        raise click.ClickException(
            f"There is something called {folder} here already, and it was left as it is. Choose another name."
        ) from None
    except OSError as error:
        raise click.ClickException(f"The folder {folder} cannot be made: {error.strerror}.") from error
    words = {"$title": folder.name.replace("-", " ").replace("_", " ").strip().capitalize(), "$demo": demo or ""}
    words["$name"] = re.sub(r"\W+", "-", words["$title"].lower())  # as App names the database
    try:
        texts = {
            place: (asset_dir("templates") / "new" / source).read_text(encoding="utf-8")
            for source, place in PLACES.items()
            if model is None or source in FRAME
        }
        if model is not None:
            _copy(model, folder)
            # Its test stays where it is, beside app.py, and finds it by its own folder.
            texts["README.md"] = _README
            texts["pyproject.toml"] = texts["pyproject.toml"].replace('testpaths = ["tests"]', 'testpaths = ["."]')
        for place, text in texts.items():
            for word, meaning in words.items():
                text = text.replace(word, meaning)
            (folder / place).parent.mkdir(exist_ok=True)
            (folder / place).write_text(text, encoding="utf-8")
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)  # all of it is ours: it was not there before
        raise click.ClickException(f"The app could not be written to the folder {folder}: {error.strerror}.") from error


def _copy(model: Path, folder: Path) -> None:
    """What makes a demo run: everything but its README, its pictures and what Python left behind."""
    without = shutil.ignore_patterns("README.md", "pictures", "__pycache__", "*.pyc", "*.db*")
    shutil.copytree(model, folder, dirs_exist_ok=True, ignore=without)


def _better(name: str) -> str:
    """A name that would do, as near as possible."""
    words = re.sub(r"[^A-Za-z0-9_]+", "-", name.rstrip("/").rsplit("/", 1)[-1]).strip("-_").lower()
    return re.sub(r"^[^a-z]+", "", words)[:40].rstrip("-_") or "garden"
