"""The documentation: what it shows is generated, run or looked up here, so that it cannot become outdated."""

import importlib
import inspect
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient
from tests.benchmarks.__main__ import BENCHMARKS
from tests.support.repository import FILES
from tests.tools import readme
from tests.tools.readme import DOCS, GENERATED, ROOT
from tests.torture.__main__ import main as torture

import unwritten
from unwritten import App
from unwritten.cli.loading import load_app
from unwritten.cli.main import COMMANDS, main
from unwritten.core.settings import SETTINGS, Setting
from unwritten.formats.registry import FORMATS
from unwritten.testing import Visitor
from unwritten_engine import Engine, scripted

MARKDOWN = [path for path in FILES if path.suffix == ".md"]
"""All Markdown files of the repository."""

README = (ROOT / "README.md").read_text(encoding="utf-8")
ALL_DOCS = README + "".join(path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md")))
"""The README and the documentation of the framework."""

FOREIGN = """
    --max-num-seqs --max-num-batched-tokens --scheduling-policy --attention-backend --generation-config
    --diffusion-config --quantization --tensor-parallel-size --data-parallel-size --head --address --local-dir
    --include --build --config --target --n-cpu-moe --no-install-recommends --no-proxy-headers --workers --no-deps
    --uid --home-dir --system --now --no-cache-dir --start-period --stop-timeout --timeout --name
"""
"""Options of other programs that the documentation names."""


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_generated_parts_are_up_to_date(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == readme.generate(path), "Run: python tests/tools/readme.py"


def test_the_text_for_language_models_is_up_to_date() -> None:
    assert readme.LLMS.read_text(encoding="utf-8") == readme.llms_text(), "Run: python tests/tools/readme.py"


@pytest.mark.parametrize("name", [name for name in unwritten.__all__ if name != "__version__"])
def test_every_public_name_is_documented(name: str) -> None:
    found = getattr(unwritten, name)
    is_error = isinstance(found, type) and issubclass(found, Exception)
    assert len((inspect.getdoc(found) or "").split()) > (4 if is_error else 10), f"{name} is not documented"
    if not is_error:
        assert re.search(rf"\b{name}\b", ALL_DOCS), f"No document shows {name}"
    for method, function in vars(found).items() if inspect.isclass(found) else ():
        if not method.startswith("_") and (inspect.isfunction(function) or isinstance(function, property)):
            assert inspect.getdoc(function), f"{name}.{method} is not documented"


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_is_documented(setting: Setting) -> None:
    text = (DOCS / "settings.md").read_text(encoding="utf-8")
    assert f"`{setting.flag}`" in text
    assert f"`{setting.variable}`" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented_with_an_example(name: str) -> None:
    assert re.search(rf"^unwritten {name}\b", (DOCS / "cli.md").read_text(encoding="utf-8"), re.MULTILINE)


def commands() -> dict[str, click.Command]:
    """Return every command that can be typed, by its words."""
    context = click.Context(main)
    found: dict[str, click.Command] = {}
    for name in COMMANDS:
        command = main.get_command(context, name)
        assert command is not None
        found[name] = command
        if isinstance(command, click.Group):
            found |= {f"{name} {child}": sub for child, sub in command.commands.items()}
    return found


@pytest.mark.parametrize("name", commands())
def test_every_command_and_option_has_help(name: str) -> None:
    command = commands()[name]
    assert (command.help or "").strip(), f"{name} is missing its help"
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, f"{name} {parameter.opts[0]} is missing its help"


def examples() -> list[str]:
    """Return the lines of the shell examples that run ``unwritten``, without the command itself."""
    found = re.findall(r"^(?:[A-Z_]+=\S+ )?(?:\.venv/bin/)?unwritten (.+?)(?:  +#.*)?$", ALL_DOCS, re.MULTILINE)
    return [line for line in found if not line.startswith("-")]


@pytest.mark.parametrize("line", dict.fromkeys(examples()))
def test_examples_of_commands_parse(line: str) -> None:
    words = shlex.split(line)
    command = commands()[words[0]]
    rest = words[1:]
    if isinstance(command, click.Group):
        assert rest[0] in command.commands, line
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_context(words[0], rest, resilient_parsing=False)


def test_options_that_the_documentation_names_exist() -> None:
    known = {
        option for command in commands().values() for p in command.params for option in (*p.opts, *p.secondary_opts)
    }
    for benchmark in BENCHMARKS.values():
        module, _, attribute = benchmark.target.partition(":")
        command = getattr(importlib.import_module(f"tests.benchmarks.{module}"), attribute)
        known |= {option for p in command.params for option in p.opts}
    known |= {option for p in torture.params for option in p.opts}
    known |= {"--version", "--help", *FOREIGN.split()}
    for path in (ROOT / "engine").rglob("*.py"):  # command lines of their own
        known |= set(re.findall(r"add_argument\(\s*\"(--[a-z-]+)\"", path.read_text(encoding="utf-8")))
    unknown = {
        f"{path.relative_to(ROOT)}: {option}"
        for path in MARKDOWN
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", path.read_text(encoding="utf-8"))
        if option not in known
    }
    assert unknown == set()


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a Markdown file."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    found: set[str] = set()
    for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        anchor = re.sub(r"[^\w -]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)).lower().replace(" ", "-")
        number = next(n for n in range(1000) if (f"{anchor}-{n}" if n else anchor) not in found)
        found.add(f"{anchor}-{number}" if number else anchor)
    return found


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings_that_exist(path: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        if not found.exists() or (anchor and anchor not in anchors(found)):
            dead.append(target)
    assert dead == []


def test_every_page_of_the_documentation_is_linked_from_the_readme() -> None:
    assert [page.name for page in sorted(DOCS.glob("*.md")) if f"(framework/docs/{page.name})" not in README] == []


def test_the_life_of_a_click_names_what_exists() -> None:
    hops = re.findall(r"^\d+\. (.+)$", README.partition("<!-- hops -->")[2].partition("\n\n")[0], re.MULTILINE)
    assert len(hops) == 20
    for hop in hops:
        files = [ROOT / target for target in re.findall(r"\]\(([^)]+)\)", hop)]
        code = "".join(file.read_text(encoding="utf-8") for file in files)
        assert files, hop
        names = [name for name in re.findall(r"`([\w.]+)`", hop) if not name.startswith("app.")]
        missing = [part for name in names for part in name.split(".") if not re.search(rf"\b{part}\b", code)]
        assert missing == [], hop


def blocks() -> dict[str, str]:
    """Return the programs and templates that the tests below run, by the name of the file that they would be."""
    found = re.findall(r"<!-- run: (\S+) -->\n```\w+\n(.*?)^```$", ALL_DOCS, re.DOTALL | re.MULTILINE)
    return dict(found)


def app_of(block: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    (folder / "templates").mkdir()
    for name, code in blocks().items():
        if name.startswith("templates/"):
            (folder / name).write_text(code, encoding="utf-8")
    file = folder / "app.py"
    file.write_text(blocks()[block], encoding="utf-8")
    monkeypatch.chdir(folder)
    return load_app(str(file))


def use(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the engine that a program opens: programs run as they are printed."""
    monkeypatch.setattr("unwritten.app.build.open_engine", lambda spec, progress=None: engine)


def test_the_five_line_example_serves_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = [line for line in blocks()["wiki.py"].splitlines() if line.strip()]
    assert len(code) == 5, "five lines to a page"
    app = app_of("wiki.py", tmp_path, monkeypatch)
    use(scripted("A lighthouse warns ships. It stands on a [[Rocky coast]]."), monkeypatch)
    with TestClient(app) as visitor:
        page = visitor.get("/wiki/Lighthouse?plain=1").text
        assert "A lighthouse warns ships." in page
        assert 'href="/wiki/Rocky_coast"' in page
        assert "A lighthouse warns ships." in visitor.get("/wiki/Lighthouse").text, "it is stored"


def test_the_ten_line_example_answers_a_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = [line for line in blocks()["well.py"].splitlines() if line.strip()]
    assert len(code) == 10, "ten lines to a form that is answered"
    visitor = Visitor(app_of("well.py", tmp_path, monkeypatch), {"two goats": " have two goats. Both are yours."})
    page = visitor.visit("/").submit("Ask the well", text="two goats <b>")
    assert "Before the next full moon you will have two goats. Both are yours." in page.text
    assert "two goats <b>" in page.text
    assert "Both are yours." in visitor.another().visit("/").text, "it is state: others see it too"


def test_the_album_describes_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    visitor = Visitor(app_of("album.py", tmp_path, monkeypatch), {"photo": "A single white pixel."})
    page = visitor.visit("/").submit("Add", photo=b"not an image")
    assert page.status == 422 and "A PNG, JPEG or WebP image, please." in page
    page = visitor.visit("/").submit("Add", photo=b"\x89PNG\r\n\x1a\n")
    assert "A single white pixel." in page and "/_unwritten/file/" in page.html


def test_the_examples_of_generating_in_your_own_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = app_of("tea.py", tmp_path, monkeypatch)
    use(scripted("Words.", by_ask={"One line": "It is warm."}), monkeypatch)
    with TestClient(app) as visitor:
        assert visitor.get("/api/line").json() == {"line": "It is warm."}
        assert visitor.get("/api/poem").text.endswith("'Words.'\n")
    use(scripted("Words.", by_ask={"motto": "Be kind."}), monkeypatch)
    monkeypatch.setitem(sys.modules, "tea", sys.modules["app"])
    exec(compile(blocks()["script.py"], "script.py", "exec"), {"__name__": "script"})
    written = (
        r"Be kind\.\n\['/tea/(Assam|Sencha)', '/tea/(Sencha|Assam)'\] \{'/tee/Oolong':"  # in the order of their ends
    )
    assert re.search(written, capsys.readouterr().out)


def test_the_example_of_a_router(tmp_path: Path) -> None:
    file = tmp_path / "recipes.py"
    file.write_text(blocks()["recipes.py"], encoding="utf-8")
    names: dict[str, Any] = {"__file__": str(file), "__name__": "recipes"}
    exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), names)
    visitor = Visitor(names["router"], {"tip": "Use salt.", "recipe": "Boil it."})
    assert "Boil it." in visitor.visit("/Soup").text and visitor.visit("/Soup/tip").html == "Use salt."


def test_the_command_for_a_gpu_works_with_random_weights(home: Path) -> None:
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
    # The same engine with random weights writes a page.
    typed = ["get", "/wiki/Tea", "--demo", demo, *engine, "--model", "random", "--database", str(home / "wiki.db")]
    shown = CliRunner().invoke(main, typed)
    assert shown.exit_code == 0 and "Tea" in shown.stdout, shown.output


def test_the_example_of_templates_serves_its_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_the_example_of_schemas_is_rendered_repaired_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = app_of("islands.py", tmp_path, monkeypatch)
    answer = 'Here: {"kind":"Rock","people":60000,"ruler":null,"towns":["Tea","Salt"],}'
    use(scripted("To those!", by_ask={"Facts": answer}), monkeypatch)
    with TestClient(app) as visitor:
        page = visitor.get("/island/Mirador?plain=1").text
        assert ">rock</dd>" in page and ">50000</dd>" in page and ">Salt</li>" in page
        assert "To those!" in visitor.get("/most-people?plain=1").text
        stored = app.store.get("/most-people")
        assert stored is not None and "A toast to Mirador" in stored.canvases["body"].prompt
        assert [value.people for _, value in app.values("Island")] == [50000]


def test_the_example_of_formats_renders_poems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = app_of("poems.py", tmp_path, monkeypatch)
    use(scripted("Grey is the [[Tower]],\n<b>bright</b> is the lamp."), monkeypatch)
    with TestClient(app) as visitor:
        page = visitor.get("/poem/Light?plain=1").text
        assert '<p class="verse" dir="auto">Grey is the <a href="/poem/Tower" class="unwritten">Tower</a>,</p>' in page
        assert "&lt;b&gt;bright&lt;/b&gt;" in page


def test_all_formats_are_documented() -> None:
    table = (DOCS / "templates.md").read_text(encoding="utf-8").partition("## Formats")[2].partition("### ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [name for name in FORMATS if name != "typed"]


def test_the_commands_of_the_readme_are_those_that_ci_runs() -> None:
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
