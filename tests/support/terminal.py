"""Helpers for tests of the command line."""

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
"""An app whose engine writes the same text on every page."""

WITHOUT_ENGINE = APP.replace(', engine=scripted("It is a [[Small thing]], and was always so.")', "")


def unwritten(*arguments: str, answer: str | None = None) -> Result:
    """Run ``unwritten`` with these arguments, and return what it printed.

    Args:
        arguments: The arguments.
        answer: What is typed when the command asks.
    """
    return CliRunner().invoke(main, arguments, input=answer, prog_name="unwritten")


def message(*arguments: str) -> str:
    """Return the error message of a command that fails. It must not be a traceback."""
    result = unwritten(*arguments)
    assert result.exit_code == 1, result.output
    assert not isinstance(result.exception, Exception), result.exception
    assert "unwritten/cli" not in result.output
    progress, found, text = result.output.partition("Error: ")
    assert found and len(progress.splitlines()) <= 2, result.output
    return text.rstrip()


def write(text: str, name: str = "app.py") -> Path:
    """Write a file in the current folder, and return its path."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text, encoding="utf-8")
    return Path(name)
