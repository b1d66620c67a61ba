"""Docs cannot rot: what the READMEs say is generated, run or looked up here."""

import importlib
import inspect
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from starlette.testclient import TestClient
from tests.tools import readme
from tests.tools.readme import GENERATED, ROOT

import unwritten
from unwritten import App
from unwritten.cli import COMMANDS, main
from unwritten.cli.bench import BENCHES
from unwritten.cli.loading import load_app
from unwritten.core.settings import SETTINGS
from unwritten.formats.registry import FORMATS
from unwritten.testing import Visitor
from unwritten_engine import Engine, scripted

README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "framework" / "GUIDE.md").read_text(encoding="utf-8")

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
    assert path.read_text(encoding="utf-8") == readme.generate(path), "Type: python tests/tools/readme.py"


def test_what_language_models_are_told_is_up_to_date() -> None:
    assert readme.LLMS.read_text(encoding="utf-8") == readme.llms_text(), "Type: python tests/tools/readme.py"


@pytest.mark.parametrize("name", [name for name in unwritten.__all__ if name != "__version__"])
def test_every_public_name_is_documented_and_shown(name: str) -> None:
    found = getattr(unwritten, name)
    text = inspect.getdoc(found) or ""
    assert len(text.split()) > 10, f"{name} is not documented"
    assert re.search(rf"\b{name}\b", README + GUIDE), f"No document shows {name}"
    for method, function in vars(found).items():
        if not method.startswith("_") and (inspect.isfunction(function) or isinstance(function, property)):
            assert inspect.getdoc(function), f"{name}.{method} is not documented"


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_is_documented(setting: object) -> None:
    row = next(row for row in SETTINGS if row is setting)
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
    having = {
        path.stem.rstrip("_")
        for path in folder.glob("*.py")
        if re.search(r"^def command\(", path.read_text(), re.MULTILINE)
    }
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
    for path in (ROOT / "engine").rglob("*.py"):  # command lines of their own
        known |= set(re.findall(r"add_argument\(\s*\"(--[a-z-]+)\"", path.read_text(encoding="utf-8")))
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
    monkeypatch.setattr("unwritten.app.lifespan.open_engine", lambda spec, progress=None: engine)


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


def test_the_ten_lines_answer_a_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = [line for line in blocks()["well.py"].splitlines() if line.strip()]
    assert len(code) == 10, "ten lines to a form that is answered"
    template = re.search(r"<!-- run: (templates/well.html) -->\n```html\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    assert template is not None
    (tmp_path / "templates").mkdir()
    (tmp_path / template[1]).write_text(template[2], encoding="utf-8")
    visitor = Visitor(app_of("well.py", tmp_path, monkeypatch), {"two goats": " have two goats. Both are yours."})
    page = visitor.visit("/").submit("Ask the well", text="two goats <b>")
    assert "Before the next full moon you will have two goats. Both are yours." in page.text
    assert "two goats <b>" in page.text
    assert "Both are yours." in visitor.another().visit("/").text, "it is state: others see it too"


def test_the_one_line_for_owners_of_a_gpu_is_what_works_here_with_random_weights(home: Path) -> None:
    line = re.search(r"<!-- command: gpu -->\n```sh\n(.+)\n```", README)
    assert line is not None
    install, run = line[1].rsplit(" && ", 1)
    assert install == "python3 -m venv .venv && .venv/bin/pip install -e '.[diffusion]'"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "diffusion" in project["optional-dependencies"]
    words = shlex.split(run)
    assert words[:2] == [".venv/bin/unwritten", "demo"]
    commands()["demo"].make_context("demo", words[2:], resilient_parsing=False)
    _, _, demo, *engine = [word for word in words if word != "--open"]
    # The same engine over a model of random weights: a page comes of it.
    typed = ["get", "/wiki/Tea", "--demo", demo, *engine, "--model", "random", "--database", str(home / "wiki.db")]
    told = subprocess.run([sys.executable, "-m", "unwritten", *typed], capture_output=True, text=True)
    assert told.returncode == 0 and "Tea" in told.stdout, told.stderr


def test_the_longer_example_serves_its_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "templates").mkdir()
    template = re.search(r"<!-- run: atlas.py -->.*?```html\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
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


def test_the_shape_in_the_readme_is_drawn_mended_and_used_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = app_of("islands.py", tmp_path, monkeypatch)
    answer = 'Here: {"kind":"Rock","people":60000,"ruler":null,"towns":["Tea","Salt"],}'
    use(scripted("To those!", by_ask={"Facts": answer}), monkeypatch)
    with TestClient(app) as visitor:
        page = visitor.get("/island/Mirador?plain=1").text
        assert "<dd>rock</dd>" in page and "<dd>50000</dd>" in page and "<li>Salt</li>" in page
        assert "To those!" in visitor.get("/most-people?plain=1").text
        kept = app.store.get("/most-people")
        assert kept is not None and "A toast to Mirador" in kept.canvases["body"].prompt
        assert [value.people for _, value in app.values("Island")] == [50000]


def test_the_format_in_the_readme_draws_poems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = app_of("poems.py", tmp_path, monkeypatch)
    use(scripted("Grey is the [[Tower]],\n<b>bright</b> is the lamp."), monkeypatch)
    with TestClient(app) as visitor:
        page = visitor.get("/poem/Light?plain=1").text
        assert '<p class="verse">Grey is the <a href="/poem/Tower" class="unwritten">Tower</a>,</p>' in page
        assert "&lt;b&gt;bright&lt;/b&gt;" in page


def test_the_formats_in_the_readme_are_those_there_are() -> None:
    table = README.partition("### Formats")[2].partition("A format of your own")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [name for name in FORMATS if name != "typed"]


def test_the_test_in_the_readme_passes(tmp_path: Path) -> None:
    for name in ("wiki.py", "test_wiki.py"):
        (tmp_path / name).write_text(blocks()[name], encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr


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
