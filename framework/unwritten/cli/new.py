"""``unwritten new``: create an app with a test, small or as a copy of a demo."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import click

from ..core.assets import asset_dir
from .loading import find_demo

FILES = {
    "app.py": "app.py",
    "README.md": "README.md",
    "pyproject.toml": "pyproject.toml",
    "gitignore": ".gitignore",
    "front.html": "templates/front.html",
    "about.html": "templates/about.html",
    "style.css": "static/style.css",
    "test_app.py": "tests/test_app.py",
}
"""The files of a new app: the path in ``templates/new``, and the path in the app."""

SHARED_FILES = ("pyproject.toml", "gitignore")
"""The files of a new app that a copy of a demo also gets."""

_README = """# $title

    unwritten run app.py    # serve it; it restarts when a file changes
    pytest                  # test it, without a server, a browser or a model

This app started as a copy of a demo; `unwritten demo $demo` runs the original. `app.py` says what a page needs,
`examples/` shows the model how to write, `templates/` and `static/` are the design.
"""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")


@click.command("new")
@click.argument("name")
@click.option("--from", "demo", metavar="DEMO", help="Start with a copy of a demo, such as forum.")
def new(name: str, demo: str | None) -> None:
    """Create an app in the folder NAME: a page with a template, a canvas and a schema, and a test that passes.

    \b
    unwritten new garden
    unwritten new allotment --from forum
    """
    if not _NAME.fullmatch(name):
        raise click.UsageError(
            f"{name!r} cannot be the name of an app. Use up to 40 letters, digits, '-' and '_', and start with a "
            f"letter: unwritten new {_suggest(name)}{f' --from {demo}' if demo else ''}"
        )
    create_app(Path(name), demo)
    files = f"a copy of the demo {demo}, with its test" if demo else "app.py, two templates, a style sheet and a test"
    click.echo(f"Created {name}/ with {files}. Next:\n")
    click.echo(f"  {click.style(f'cd {name}', bold=True)}")
    click.echo(f"  {click.style('unwritten run app.py --open', bold=True)}")
    click.echo(f"  {click.style('pytest', bold=True)}")


def create_app(folder: Path, demo: str | None = None) -> None:
    """Create an app in a new folder, named after it. With ``demo``, the app is a copy of that demo.

    Raises:
        NotAnApp: If there is no such demo.
        click.ClickException: If the folder exists already, or cannot be written. Then nothing is left behind.
    """
    source = find_demo(demo).parent if demo else None
    try:
        folder.mkdir()  # fails if anything exists under this name
    except FileExistsError:
        raise click.ClickException(
            f"There is something called {folder} here already. It was not changed. Choose another name."
        ) from None
    except OSError as error:
        raise click.ClickException(f"The folder {folder} cannot be created: {error.strerror}.") from error
    title = folder.name.replace("-", " ").replace("_", " ").strip().capitalize()
    name = re.sub(r"\W+", "-", title.lower())  # as App names the database
    try:
        texts = {
            path: (asset_dir("templates") / "new" / template).read_text(encoding="utf-8")
            for template, path in FILES.items()
            if source is None or template in SHARED_FILES
        }
        if source is not None:
            without = shutil.ignore_patterns("README.md", "pictures", "__pycache__", "*.pyc", "*.db*")
            shutil.copytree(source, folder, dirs_exist_ok=True, ignore=without)
            texts["README.md"] = _README
            # A demo's test is beside its app.py, and finds it by its own folder.
            texts["pyproject.toml"] = texts["pyproject.toml"].replace('testpaths = ["tests"]', 'testpaths = ["."]')
        for path, text in texts.items():
            for variable, value in {"$title": title, "$demo": demo or "", "$name": name}.items():
                text = text.replace(variable, value)
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise click.ClickException(f"The app could not be written to {folder}: {error.strerror}.") from error


def _suggest(name: str) -> str:
    """Return the nearest valid name."""
    words = re.sub(r"[^A-Za-z0-9_]+", "-", name.rstrip("/").rsplit("/", 1)[-1]).strip("-_").lower()
    return re.sub(r"^[^a-z]+", "", words)[:40].rstrip("-_") or "garden"
