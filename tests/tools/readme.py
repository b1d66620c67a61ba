"""The parts of the READMEs that are generated. ``python tests/tools/readme.py`` writes them; a test checks them."""

import ast
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from click.testing import CliRunner

import unwritten
from unwritten.cli import main
from unwritten.core.settings import SETTINGS
from unwritten.formats.page import TEMPLATE_NAMES
from unwritten.rendering.regions import PageView, Region
from unwritten_engine.diffusion.loading.memory_plan import (
    KIND_LABELS,
    KINDS,
    RESERVE,
    gigabytes,
    plan_memory,
    required_bytes,
    weight_bytes,
)
from unwritten_engine.diffusion.loading.model_config import read_model_config
from unwritten_engine.diffusion.sampling_params import OPTIONS, SAMPLING, SamplingParams
from unwritten_engine.errors import ModelUnsupported
from unwritten_engine.options import Option
from unwritten_engine.text_to_image import OPTIONS as PAINTER

ROOT = Path(__file__).resolve().parents[2]
FRAMEWORK = ROOT / "framework" / "unwritten"


def help_block() -> str:
    """What ``unwritten --help`` prints."""
    shown = CliRunner().invoke(main, ["--help"], prog_name="unwritten", terminal_width=100)
    return f"```\n$ unwritten --help\n{shown.output.strip()}\n```"


def settings_table() -> str:
    """One row for each setting."""
    rows = ["| Flag | Variable | Default | What it is |", "|---|---|---|---|"]
    for setting in SETTINGS:
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


def templates_table() -> str:
    """What every template sees, and what a page and a region have in it."""
    rows = ["| In a template | What it is |", "|---|---|"]
    rows += [f"| `{name}` | {help} |" for name, help in TEMPLATE_NAMES.items()]
    for name, kind in (("page", PageView), ("lead", Region)):
        rows += [f"| `{name}.{attribute}` | {help} |" for attribute, help in attributes_of(kind)]
    return "\n".join(rows)


def llms_text() -> str:
    """What a language model that writes apps with us needs to know, from the code itself."""
    parts = [
        "# Unwritten",
        "> " + " ".join((unwritten.__doc__ or "").partition("\n\n")[0].split()),
        (unwritten.__doc__ or "").partition("\n\n")[2].strip(),
        "## Public names (`from unwritten import …`)",
    ]
    for name in unwritten.__all__:
        found = getattr(unwritten, name)
        if inspect.isclass(found):
            parts.append(f"### {name}\n\n{_signature(name, found)}\n\n{inspect.getdoc(found)}")
            parts += [
                f"#### {name}.{method}\n\n{_signature(method, function)}\n\n{inspect.getdoc(function)}"
                for method, function in _methods(found).items()
            ]
    parts += ["## Templates", templates_table(), "## Settings", settings_table(), "## Commands", help_block()]
    return "\n\n".join(parts) + "\n"


def _methods(found: type) -> dict[str, Callable[..., Any]]:
    """The public methods of a class that are ours, with those of bases that are ours."""
    ours = [base for base in reversed(found.__mro__) if base.__module__.startswith("unwritten")]
    methods = {name: value for base in ours for name, value in vars(base).items() if inspect.isfunction(value)}
    return {name: value for name, value in methods.items() if not name.startswith("_")}


class _Plain(str):
    """An annotation that is shown as it was written, without quotes."""

    def __repr__(self) -> str:
        return str(self)


def _signature(name: str, called: Callable[..., Any]) -> str:
    signature = inspect.signature(called)
    empty, made = inspect.Signature.empty, inspect.isclass(called)
    shown = [
        parameter if parameter.annotation is empty else parameter.replace(annotation=_Plain(parameter.annotation))
        for parameter in signature.parameters.values()
        if parameter.name != "self"
    ]
    returned = empty if made or signature.return_annotation is empty else _Plain(signature.return_annotation)
    whole = signature.replace(parameters=shown, return_annotation=returned)
    return f"```python\n{name}{whole}\n```"


def attributes_of(kind: type) -> list[tuple[str, str]]:
    """What a docstring says of its class's attributes, and the first line of each property."""
    section = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2]
    found = re.findall(r"^    (\w+): (.+(?:\n        .+)*)", section, re.MULTILINE)
    rows = [(name, " ".join(help.split())) for name, help in found]
    for name, value in vars(kind).items():
        if isinstance(value, property):
            rows.append((name, (inspect.getdoc(value) or "").partition("\n")[0]))
    return [(name, help[:1].upper() + help[1:].replace("``", "`")) for name, help in rows]


def options_table(options: Sequence[Option]) -> str:
    """One row for each option, with what it is if it is not given."""
    published = None if options is PAINTER else SamplingParams()
    rows = ["| Option | Default | What it is |", "|---|---|---|"]
    for option in options:
        default = getattr(published, option.name, None) if option.default is None else option.default
        shown = "" if default is None else f"`{default:g}`"
        rows.append(f"| `{option.name}` | {shown} | {option.help} |")
    return "\n".join(rows)


def _real() -> Any:
    from tests.support.checkpoints import REAL

    return read_model_config(REAL, "DiffusionGemma")


def memory_table() -> str:
    """What the real model takes, by how its weights are kept; all with the driver's share."""
    sizes = _real()
    rows = ["| Weights in | They take | With 1 canvas | With 4 | With 16 |", "|---|---|---|---|---|"]
    for kind in KINDS:
        whole = [gigabytes(required_bytes(sizes, kind, count, 4096) + RESERVE) for count in (1, 4, 16)]
        rows.append(f"| {KIND_LABELS[kind]} | {gigabytes(weight_bytes(sizes, kind))} | {' | '.join(whole)} |")
    return "\n".join(rows)


def cards_table() -> str:
    """What the engine chooses on cards of these sizes, if nothing else is on them."""
    rows = ["| A card with | Weights in | Canvases together | Tokens of each |", "|---|---|---|---|"]
    for size in (16, 20, 24, 32, 48, 80, 141):
        try:
            found = plan_memory(_real(), memory=size * 10**9, device="", reserve=RESERVE)
        except ModelUnsupported:
            rows.append(f"| {size} GB | does not fit | | |")
        else:
            rows.append(f"| {size} GB | {KIND_LABELS[found.kind]} | {found.rows} | {found.context:,} |")
    return "\n".join(rows)


GENERATED: dict[Path, dict[str, Callable[[], str]]] = {
    ROOT / "README.md": {"help": help_block, "settings": settings_table},
    ROOT / "framework" / "README.md": {"templates": templates_table, "modules": modules_table},
    ROOT / "engine" / "README.md": {
        "options": lambda: options_table(OPTIONS),
        "sampling": lambda: options_table(SAMPLING),
        "memory": memory_table,
        "painter": lambda: options_table(PAINTER),
        "cards": cards_table,
    },
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


LLMS = FRAMEWORK / "llms.txt"
"""Generated as a whole. It lies in the package, so that it is there wherever Unwritten is installed."""

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    for file in GENERATED:
        file.write_text(generate(file), encoding="utf-8")
    LLMS.write_text(llms_text(), encoding="utf-8")
