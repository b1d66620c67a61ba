"""A person at a terminal: for tests of the command line."""

from pathlib import Path

from click.testing import CliRunner, Result

from unwritten.cli.main import main

APP = """
from unwritten import App
from unwritten_engine import scripted

app = App("Small", engine=scripted("It is a [[Small thing]], and was always so."))

@app.page("/wiki/{title}")
def article(title: str) -> str:
    return f"An article about {title}."
"""
"""An app with an engine that writes the same on every page."""

WITHOUT_ENGINE = APP.replace(', engine=scripted("It is a [[Small thing]], and was always so.")', "")


def unwritten(*arguments: str, answer: str | None = None) -> Result:
    """What a person would see, had they typed ``unwritten …``."""
    return CliRunner().invoke(main, arguments, input=answer, prog_name="unwritten")


def message(*arguments: str) -> str:
    """The one clear message of something that cannot work; never a traceback of ours."""
    result = unwritten(*arguments)
    assert result.exit_code == 1, result.output
    assert not isinstance(result.exception, Exception), result.exception
    assert "unwritten/cli" not in result.output
    progress, found, text = result.output.partition("Error: ")
    assert found and len(progress.splitlines()) <= 2, result.output
    return text.rstrip()


def write(text: str, name: str = "app.py") -> Path:
    """Put a file into the current folder."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text, encoding="utf-8")
    return Path(name)
