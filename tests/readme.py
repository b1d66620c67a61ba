"""The parts of the READMEs that are generated. ``python tests/readme.py`` writes them; a test checks them."""

import ast
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner

from unwritten.cli import main
from unwritten.settings import TABLE

ROOT = Path(__file__).resolve().parents[1]
FRAMEWORK = ROOT / "framework" / "unwritten"


def help_block() -> str:
    """What ``unwritten --help`` prints."""
    shown = CliRunner().invoke(main, ["--help"], prog_name="unwritten", terminal_width=100)
    return f"```\n$ unwritten --help\n{shown.output.strip()}\n```"


def settings_table() -> str:
    """One row for each setting."""
    rows = ["| Flag | Variable | Default | What it is |", "|---|---|---|---|"]
    for setting in TABLE:
        default = f"{setting.default:g}" if isinstance(setting.default, float) else str(setting.default)
        default = {"True": "yes", "False": "no", "": ""}.get(default, f"`{default}`")
        rows.append(f"| `{setting.flag}` | `{setting.variable}` | {default} | {setting.help} |")
    return "\n".join(rows)


def modules_table() -> str:
    """The first paragraph of the docstring of each module of the framework."""
    rows = ["| Module | What it is |", "|---|---|"]
    for path in sorted(FRAMEWORK.rglob("*.py"), key=lambda path: (len(path.relative_to(FRAMEWORK).parts), path)):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        paragraph = " ".join(text.partition("\n\n")[0].split()).replace("``", "`")
        name = path.relative_to(FRAMEWORK).as_posix()
        rows.append(f"| [{name}](unwritten/{name}) | {paragraph} |")
    return "\n".join(rows)


GENERATED: dict[Path, dict[str, Callable[[], str]]] = {
    ROOT / "README.md": {"help": help_block, "settings": settings_table},
    ROOT / "framework" / "README.md": {"modules": modules_table},
}


def generate(path: Path) -> str:
    """A README with its generated parts as they should be.

    Raises:
        ValueError: if the marks of a part are missing.
    """
    text = path.read_text(encoding="utf-8")
    for name, make in GENERATED[path].items():
        start, end = f"<!-- generated: {name} -->\n", "<!-- end -->"
        before, found, rest = text.partition(start)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"{path} needs the marks {start.strip()} and {end}, each on its line.")
        text = f"{before}{start}{make()}\n{end}{after}"
    return text


if __name__ == "__main__":
    for file in GENERATED:
        file.write_text(generate(file), encoding="utf-8")
