"""The generated parts of the documentation. ``python tests/tools/readme.py`` writes them, and a test checks them."""

import ast
import importlib
import inspect
import itertools
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from click.testing import CliRunner

import unwritten
from unwritten import Router, testing
from unwritten.cli.main import main
from unwritten.core.settings import SETTINGS
from unwritten.formats.page import TEMPLATE_NAMES
from unwritten.rendering.regions import PageView, Region
from unwritten.routing.stored_pages import StoredPages
from unwritten.storage.tables import Table
from unwritten_engine.diffusion.diffusion_gemma.memory import memory_needs, weight_bytes
from unwritten_engine.diffusion.diffusion_gemma.model_config import read_model_config
from unwritten_engine.diffusion.diffusion_gemma.sampling_params import SAMPLING, SamplingParams
from unwritten_engine.diffusion.engine_options import OPTIONS
from unwritten_engine.diffusion.lfm2.sampling_params import SAMPLING as LFM2_SAMPLING
from unwritten_engine.diffusion.loading.memory_plan import (
    KIND_LABELS,
    KINDS,
    RESERVE,
    gigabytes,
    plan_memory,
    required_bytes,
)
from unwritten_engine.errors import ModelUnsupported
from unwritten_engine.named_models import DIFFUSION_GEMMA, EMBEDDED, EXPERIMENTAL, MODELS, memory_needed
from unwritten_engine.options import Option
from unwritten_engine.text_to_image import OPTIONS as PAINTER
from unwritten_engine.visual.engine import OPTIONS as VISUAL
from unwritten_engine.vllm.gpus import GPU, choose_checkpoint
from unwritten_engine.vllm.options import OPTIONS as VLLM_OPTIONS
from unwritten_engine.vllm.options import SAMPLING as VLLM_SAMPLING

ROOT = Path(__file__).resolve().parents[2]
FRAMEWORK = ROOT / "framework" / "unwritten"
DOCS = ROOT / "framework" / "docs"


def help_block() -> str:
    """Return what ``unwritten --help`` prints."""
    shown = CliRunner().invoke(main, ["--help"], prog_name="unwritten", terminal_width=100)
    return f"```\n$ unwritten --help\n{shown.output.strip()}\n```"


def settings_table() -> str:
    """Return one row for each setting."""
    rows = ["| Flag | Variable | Default | What it is |", "|---|---|---|---|"]
    for setting in SETTINGS:
        default = f"{setting.default:g}" if isinstance(setting.default, float) else str(setting.default)
        default = {"True": "yes", "False": "no", "": ""}.get(default, f"`{default}`")
        rows.append(f"| `{setting.flag}` | `{setting.variable}` | {default} | {setting.help} |")
    return "\n".join(rows)


LIMITS = (
    ("PREFETCH_LIMIT", "generation/prefetcher.py"),
    ("PREFETCH_PER_VISITOR", "generation/prefetcher.py"),
    ("MAX_FIELD_SIZE", "web/form_data.py"),
    ("MAX_FRAME_RATE", "web/live_socket.py"),
    ("FUNCTION_TIME_LIMIT", "routing/page_function.py"),
    ("GRACE_PERIOD", "generation/job_queue.py"),
    ("PAINT_TIME_LIMIT", "pictures/painting.py"),
    ("SEARCH_PAGES", "generation/budgets.py"),
    ("MAX_PARAMETER_LENGTH", "routing/patterns.py"),
    ("VISITOR_BURST", "generation/budgets.py"),
    ("VISITOR_SOCKETS", "generation/budgets.py"),
)
"""Constants that operators may ask for, and their modules."""


def limits_table() -> str:
    """Return one row for each of ``LIMITS``."""
    rows = ["| Constant | Value | What it is | Module |", "|---|---|---|---|"]
    for name, path in LIMITS:
        value = getattr(importlib.import_module(f"unwritten.{path.removesuffix('.py').replace('/', '.')}"), name)
        shown = f"{value:,g}" if isinstance(value, float) else f"{value:,}"
        text = constants_of(FRAMEWORK / path)[name]
        rows.append(f"| `{name}` | {shown} | {text} | [{path}](../unwritten/{path}) |")
    return "\n".join(rows)


def constants_of(path: Path) -> dict[str, str]:
    """Return the documentation of the constants in a module: the string below each, on one line."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    found = {}
    for statement, following in itertools.pairwise(body):
        if (
            isinstance(statement, (ast.Assign, ast.AnnAssign))
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
        ):
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
            found[ast.unparse(target)] = " ".join(str(following.value.value).split())
    return found


def modules_table() -> str:
    """Return the first paragraph of the docstring of each module of the framework, grouped by package."""
    rows = ["| Module | What it is |", "|---|---|"]
    for path in sorted(FRAMEWORK.rglob("*.py"), key=lambda path: (len(path.relative_to(FRAMEWORK).parts), path)):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        paragraph = " ".join(text.partition("\n\n")[0].split()).replace("``", "`")
        name = path.relative_to(FRAMEWORK).as_posix()
        rows.append(f"| [{name}](../unwritten/{name}) | {paragraph} |")
    return "\n".join(rows)


def templates_table() -> str:
    """Return the names that every template sees, and the attributes of a page and a region."""
    rows = ["| In a template | What it is |", "|---|---|"]
    rows += [f"| `{name}` | {help} |" for name, help in TEMPLATE_NAMES.items()]
    for name, kind in (("page", PageView), ("lead", Region)):
        rows += [f"| `{name}.{attribute}` | {help} |" for attribute, help in attributes_of(kind)]
    return "\n".join(rows)


def llms_text() -> str:
    """Return what a language model that writes apps needs to know, from the docstrings of the code."""
    summary, _, rest = (unwritten.__doc__ or "").partition("\n\n")
    sentence = " ".join(summary.split()).removeprefix("Unwritten: ")
    parts = ["# Unwritten", f"> {sentence[:1].upper()}{sentence[1:]}", _fence(rest)]
    public = {name: getattr(unwritten, name) for name in unwritten.__all__ if name != "__version__"}
    errors = {name: found for name, found in public.items() if _is_error(found)}
    parts.append("## Public names: `from unwritten import …`")
    for name, found in public.items():
        if found is Router:
            methods = ", ".join(f"`{method}`" for method in _methods(Router))
            parts.append(f"{_reference(name, found)[0]}\n\nIts methods {methods} are the same as those of `App`.")
        elif name not in errors:
            parts += _reference(name, found)
    parts.append("### Errors\n\nEach message says what happened and what to do.")
    parts[-1] += "\n\n" + "\n".join(f"* `{name}`: {_first_line(found)}" for name, found in errors.items())
    parts += ["## Tables: what `app.table(…)` returns", *_reference("Table", Table)[1:]]
    parts += ["## Stored pages: `app.store`", *_reference("StoredPages", StoredPages)[1:]]
    parts.append("## Tests: `from unwritten.testing import Visitor, answers`")
    for found in (testing.Visitor, testing.answers, testing.VisitedPage):
        parts += _reference(found.__name__, found)
    parts += ["## Templates", templates_table(), "## Settings", settings_table(), "## Commands", help_block()]
    return "\n\n".join(parts) + "\n"


def _fence(text: str) -> str:
    """Return the text of a docstring with its indented paragraphs as code."""
    parts = []
    for is_code, group in itertools.groupby(text.strip("\n").split("\n\n"), lambda part: part.startswith("    ")):
        block = "\n\n".join(group)
        parts.append(f"```python\n{textwrap.dedent(block)}\n```" if is_code else block)
    return "\n\n".join(parts)


def _is_error(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, Exception)


def _first_line(found: object) -> str:
    return (inspect.getdoc(found) or "").partition("\n")[0]


def _reference(name: str, found: Any) -> list[str]:
    """Return the signature and the docstring of a class or function, and of the class's methods."""
    parts = [f"### {name}\n\n{_signature(name, found)}\n\n{inspect.getdoc(found)}"]
    if inspect.isclass(found):
        properties = {name: value for name, value in _members(found).items() if isinstance(value, property)}
        if properties:
            parts.append("Properties:\n\n" + "\n".join(f"* `{n}`: {_first_line(v)}" for n, v in properties.items()))
        parts += [
            f"#### {name}.{method}\n\n{_signature(method, function)}\n\n{inspect.getdoc(function)}"
            for method, function in _methods(found).items()
        ]
    return parts


_INTERNAL = frozenset(
    {
        "build_middleware_stack", "close", "configure", "create_formatter", "data_version", "folders", "mark_opened",
        "notify", "observe", "open", "provided_engine", "ready", "save",
    }
)  # fmt: skip
"""Members that apps do not use."""


def _methods(found: type) -> dict[str, Callable[..., Any]]:
    """Return the methods of a class that apps call."""
    return {name: value for name, value in _members(found).items() if inspect.isfunction(value)}


def _with_bases(found: type) -> list[type]:
    """Return the bases of a class in the order in which it names them, and then the class."""
    return [*(ancestor for base in found.__bases__ for ancestor in _with_bases(base)), found]


def _members(found: type) -> dict[str, Any]:
    """Return the members of a class that apps use, with those that it inherits from the framework."""
    ours = [base for base in _with_bases(found) if base.__module__.startswith("unwritten")]
    members = {name: value for base in ours for name, value in vars(base).items()}
    return {name: value for name, value in members.items() if name[0] != "_" and name not in _INTERNAL}


class _Plain(str):
    """An annotation that is shown as it was written, without quotes."""

    def __repr__(self) -> str:
        return str(self)


def _signature(name: str, called: Callable[..., Any]) -> str:
    signature = inspect.signature(called)
    empty, is_class = inspect.Signature.empty, inspect.isclass(called)
    shown = []
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.annotation is not empty:
            parameter = parameter.replace(annotation=_Plain(parameter.annotation))
        if type(parameter.default) is object:  # a sentinel
            parameter = parameter.replace(default=...)
        shown.append(parameter)
    returned = empty if is_class or signature.return_annotation is empty else _Plain(signature.return_annotation)
    whole = str(signature.replace(parameters=shown, return_annotation=returned)).replace("= Ellipsis", "= ...")
    return f"```python\n{'async ' if inspect.iscoroutinefunction(called) else ''}{name}{whole}\n```"


def attributes_of(kind: type) -> list[tuple[str, str]]:
    """Return the attributes that a class's docstring describes, and its properties with their first line."""
    section = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2]
    found = re.findall(r"^    (\w+): (.+(?:\n        .+)*)", section, re.MULTILINE)
    rows = [(name, " ".join(help.split())) for name, help in found]
    for name, value in vars(kind).items():
        if isinstance(value, property):
            rows.append((name, (inspect.getdoc(value) or "").partition("\n")[0]))
    return [(name, help[:1].upper() + help[1:].replace("``", "`")) for name, help in rows]


def options_table(options: Sequence[Option]) -> str:
    """Return one row for each option, with its default."""
    published = SamplingParams() if options is SAMPLING else None
    rows = ["| Option | Default | What it is |", "|---|---|---|"]
    for option in options:
        default = getattr(published, option.name, None) if option.default is None else option.default
        shown = "" if default is None else f"`{default}`" if isinstance(default, bool) else f"`{default:g}`"
        rows.append(f"| `{option.name}` | {shown} | {option.help} |")
    return "\n".join(rows)


def _real() -> Any:
    from tests.support.checkpoints import FULL_SIZE

    return read_model_config(FULL_SIZE, "DiffusionGemma")


def memory_table() -> str:
    """Return the memory that DiffusionGemma needs for each precision of its weights, with the driver's share."""
    sizes = _real()
    rows = ["| Weights in | They take | With 1 canvas | With 4 | With 16 |", "|---|---|---|---|---|"]
    for kind in KINDS:
        whole = [gigabytes(required_bytes(memory_needs(sizes), kind, count, 4096) + RESERVE) for count in (1, 4, 16)]
        rows.append(f"| {KIND_LABELS[kind]} | {gigabytes(weight_bytes(sizes, kind))} | {' | '.join(whole)} |")
    return "\n".join(rows)


def gpus_table() -> str:
    """Return what the engine chooses on GPUs of these sizes, if nothing else uses them."""
    rows = ["| A GPU with | Weights in | Canvases together | Tokens of each |", "|---|---|---|---|"]
    for size in (16, 20, 24, 32, 48, 80, 141):
        try:
            found = plan_memory(memory_needs(_real()), memory=size * 10**9, device="", reserve=RESERVE)
        except ModelUnsupported:
            rows.append(f"| {size} GB | does not fit | | |")
        else:
            rows.append(f"| {size} GB | {KIND_LABELS[found.kind]} | {found.rows} | {found.context:,} |")
    return "\n".join(rows)


def vllm_table() -> str:
    """Return the checkpoint that the vLLM engine chooses for each kind of GPU."""
    rows = ["| GPU | Checkpoint | Download | Why | What others measured |", "|---|---|---|---|---|"]
    for name, size, capability in (
        ("24 GB, Ampere or Ada (RTX 3090, RTX 4090)", 24, (8, 9)),
        ("24 or 32 GB, Blackwell (RTX 5090)", 24, (12, 0)),
        ("80 GB, Ampere (A100)", 80, (8, 0)),
        ("80 or 141 GB, Hopper (H100, H200)", 80, (9, 0)),
        ("180 GB, Blackwell (B200)", 180, (10, 0)),
    ):
        choice = choose_checkpoint(GPU("", size << 30, size << 30, capability))
        assert choice is not None
        rows.append(f"| {name} | `{choice.model}` | {gigabytes(choice.size)} | {choice.reason} | {choice.measured} |")
    return "\n".join(rows)


def models_table() -> str:
    """Return the models that can be opened by name."""
    rows = ["| Name | Model | Download | Memory | Licence | Source |", "|---|---|---|---|---|---|"]
    for model in MODELS.values():
        download = "none" if model.name == EMBEDDED else f"{model.size / 1e9:.1f} GB"
        source = f"`{model.repo}`, `{model.file}`" if model.file else "part of the installation"
        if model.is_experimental:
            source = f"`{model.repo}`, in the engine `diffusion`; {EXPERIMENTAL}"
        if model.name == DIFFUSION_GEMMA:
            source = "the engine `vllm` (22 GB of GPU memory) or `diffusion` (52 GB to download)"
        rows.append(
            f"| `{model.name}` | {model.title} ({model.quantization}) | {download} | "
            f"{memory_needed(model) / 1e9:.1f} GB | {model.licence.partition(', http')[0]} | {source} |"
        )
    return "\n".join(rows)


GENERATED: dict[Path, dict[str, Callable[[], str]]] = {
    DOCS / "cli.md": {"help": help_block},
    DOCS / "settings.md": {"settings": settings_table, "limits": limits_table},
    DOCS / "engines.md": {"models": models_table},
    DOCS / "templates.md": {"templates": templates_table},
    DOCS / "architecture.md": {"modules": modules_table},
    ROOT / "engine" / "README.md": {
        "options": lambda: options_table(OPTIONS),
        "sampling": lambda: options_table(SAMPLING),
        "lfm2 sampling": lambda: options_table(LFM2_SAMPLING),
        "memory": memory_table,
        "painter": lambda: options_table(PAINTER),
        "visual": lambda: options_table(VISUAL),
        "gpus": gpus_table,
        "vllm": vllm_table,
        "vllm options": lambda: options_table(VLLM_OPTIONS),
        "vllm sampling": lambda: options_table(VLLM_SAMPLING),
    },
}


def generate(path: Path) -> str:
    """Return a file with its generated parts as they should be.

    Raises:
        ValueError: If the marks of a part are missing.
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
"""Generated as a whole. It is part of the package, so that it is there wherever Unwritten is installed."""

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    for file in GENERATED:
        file.write_text(generate(file), encoding="utf-8")
    LLMS.write_text(llms_text(), encoding="utf-8")
