"""Docs cannot rot: what the READMEs say is generated, run or looked up here."""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from starlette.testclient import TestClient
from tests import readme
from tests.readme import GENERATED, ROOT

from unwritten import App
from unwritten.cli import COMMANDS, main
from unwritten.cli.bench import BENCHES
from unwritten.cli.loading import load_app
from unwritten.settings import TABLE
from unwritten_engine import Engine, scripted

README = (ROOT / "README.md").read_text(encoding="utf-8")

FOREIGN = """
    --max-num-seqs --max-num-batched-tokens --attention-backend --generation-config --diffusion-config --quantization
    --tensor-parallel-size --pipeline-parallel-size --head --address --local-dir --include --build --config --target
    --n-cpu-moe
"""
"""Options of vLLM, Ray, Hugging Face, CMake and llama.cpp that the READMEs name."""

READMES = sorted(
    path for path in ROOT.rglob("*.md") if not any(part.startswith(".") for part in path.parts[len(ROOT.parts) :])
)
"""All of our Markdown files."""


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_generated_parts_are_up_to_date(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == readme.generate(path), "Type: python tests/readme.py"


@pytest.mark.parametrize("setting", TABLE, ids=lambda setting: setting.name)
def test_every_setting_is_documented(setting: object) -> None:
    row = next(row for row in TABLE if row is setting)
    assert f"`{row.flag}`" in README
    assert f"`{row.variable}`" in README


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented_with_an_example(name: str) -> None:
    assert re.search(rf"^unwritten {name}\b", README, re.MULTILINE)


def commands() -> dict[str, click.Command]:
    """Every command that can be typed, but for the benchmarks, which may need more than is here."""
    context = click.Context(main)
    found: dict[str, click.Command] = {}
    for name in COMMANDS:
        command = main.get_command(context, name)
        assert command is not None
        found[name] = command
        if name != "bench" and isinstance(command, click.Group):
            found |= {f"{name} {child}": sub for child, sub in command.commands.items()}
    return found


@pytest.mark.parametrize("name", commands())
def test_every_command_and_option_says_what_it_is(name: str) -> None:
    command = commands()[name]
    assert (command.help or "").strip(), f"{name} is missing its help"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts[0]} is missing its help"


def test_the_commands_in_help_are_the_commands_there_are() -> None:
    folder = ROOT / "framework" / "unwritten" / "cli"
    having = {path.stem for path in folder.glob("*.py") if re.search(r"^def command\(", path.read_text(), re.MULTILINE)}
    assert having == set(COMMANDS)


def test_examples_of_commands_parse() -> None:
    for line in re.findall(r"^(?:\.venv/bin/)?unwritten (.+?)(?:  +#.*)?$", README, re.MULTILINE):
        words = shlex.split(line)
        if words[0].startswith("-"):
            continue
        command = commands()[words[0]]
        rest = words[1:]
        if isinstance(command, click.Group):
            known = BENCHES if words[0] == "bench" else command.commands
            assert rest[0] in known, line
            if words[0] == "bench":
                continue
            command, rest = command.commands[rest[0]], rest[1:]
        command.make_context(words[0], rest, resilient_parsing=False)


def test_options_named_in_the_readmes_exist() -> None:
    known = {
        option for command in commands().values() for p in command.params for option in (*p.opts, *p.secondary_opts)
    }
    for bench in BENCHES:
        module = importlib.import_module(f"unwritten.bench.{bench}")
        known |= {option for p in module.command.params for option in p.opts}
    known |= {"--version", "--help"}
    foreign = {"--no-install-recommends", *FOREIGN.split()}
    for path in READMES:
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", path.read_text(encoding="utf-8")):
            assert option in known | foreign, f"{path.name} names {option}"


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_to_files_that_are_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), f"{path.name} links to {target}"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def blocks() -> dict[str, str]:
    """The programs in the README, by the name of the file that they would be."""
    found = re.findall(r"<!-- run: (\S+) -->\n```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return dict(found)


def app_of(block: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    file = folder / "app.py"
    file.write_text(blocks()[block], encoding="utf-8")
    monkeypatch.chdir(folder)
    return load_app(str(file))


def use(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The programs run as they are printed, so their engine is put in place of the one that they would open."""
    monkeypatch.setattr("unwritten.app.open_engine", lambda spec, progress=None: engine)


def test_the_five_lines_serve_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = [line for line in blocks()["wiki.py"].splitlines() if line.strip()]
    assert len(code) == 5, "five lines to a page"
    app = app_of("wiki.py", tmp_path, monkeypatch)
    use(scripted("A lighthouse warns ships. It stands on a [[Rocky coast]]."), monkeypatch)
    with TestClient(app) as visitor:
        page = visitor.get("/wiki/Lighthouse?plain=1").text
        assert "A lighthouse warns ships." in page
        assert 'href="/wiki/Rocky_coast"' in page
        assert "A lighthouse warns ships." in visitor.get("/wiki/Lighthouse").text, "and it is kept"


def test_the_longer_example_serves_its_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "templates").mkdir()
    template = re.search(r"```html\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    assert template is not None
    (tmp_path / "templates" / "place.html").write_text(template[1], encoding="utf-8")
    app = app_of("atlas.py", tmp_path, monkeypatch)
    answers = {
        "sees first": "A white town, and behind it the [[Salt hills]].",
        "Facts": '{"kind":"town","founded":1204,"known_for":["salt","bells"]}',
        "short note": "Nothing is here.",
    }
    use(scripted(by_ask=answers), monkeypatch)
    with TestClient(app) as visitor:
        page = visitor.get("/place/Mirador?plain=1").text
        assert "A white town" in page
        assert 'href="/place/Salt_hills"' in page
        assert "<li>bells</li>" in page
        assert "Nothing is here." in visitor.get("/some/where/else?plain=1").text


def test_the_two_commands_differ_only_in_what_they_are_for() -> None:
    demo, tests = (re.search(rf"<!-- command: {name} -->\n```sh\n(.+)\n```", README) for name in ("demo", "tests"))
    assert (
        demo
        and demo[1] == "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/unwritten demo wiki --open"
    )
    assert tests and tests[1] == "python3 -m venv .venv && .venv/bin/pip install -e '.[dev]' && .venv/bin/pytest"
    assert "<!-- command: tests -->" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_python_dash_m_is_the_command() -> None:
    shown = subprocess.run([sys.executable, "-m", "unwritten", "--help"], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("Usage: unwritten ")
