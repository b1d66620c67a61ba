"""The command line: help, mistakes, settings, pages, ``offline`` and ``doctor``."""

import json
import re
import tarfile
from pathlib import Path

import pytest
from tests.support.terminal import APP, WITHOUT_ENGINE, message, unwritten, write

from unwritten.cli.loading import all_demos
from unwritten.cli.main import COMMANDS
from unwritten.cli.server import LoadingProgress
from unwritten.core import assets
from unwritten.core.assets import Script, htmx_cache, integrity_of
from unwritten_engine.hub_files import DownloadStopped
from unwritten_engine.named_models import MODELS, Machine, recorded_speeds
from unwritten_engine.vllm.gpus import GPU

pytestmark = pytest.mark.usefixtures("home")


# -- help and mistakes --------------------------------------------------------------------------------------


def test_the_version_is_printed() -> None:
    assert unwritten("--version").output == "unwritten 0.1.0\n"


def test_help_lists_every_command_and_examples() -> None:
    shown = unwritten("--help").output
    assert all(f"  {name} " in shown for name in COMMANDS)
    assert "unwritten demo wiki" in shown


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        (["dmo"], "There is no command 'dmo'. Did you mean 'demo'?"),
        (["app.py"], "There is no command 'app.py'. To serve an app: unwritten run app.py"),
        (["demo", "--databse", "x"], "No such option '--databse'. Did you mean '--database'?"),
        (["pages", "serch", "x"], "No such command 'serch'. Did you mean 'search'?"),
        (["get", "wiki/Lighthouse"], "A path begins with a slash: unwritten get /wiki/Lighthouse"),
        (["get", "/", "--app", "app.py", "--demo", "wiki"], "Give --app or --demo, not both."),
        (["pages", "delete"], "Name the pages, such as /wiki/Lighthouse, or give --all."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_get_a_suggestion(typed: list[str], answer: str) -> None:
    result = unwritten(*typed)
    assert result.exit_code == 2
    assert answer in result.output


def test_an_unknown_demo_gets_the_nearest() -> None:
    result = unwritten("demo", "wikki")
    assert result.exit_code == 1
    assert "There is no demo 'wikki'. Did you mean 'wiki'? All of them: unwritten demo" in result.output


@pytest.mark.parametrize("columns", [40, 80, 300])
def test_demos_are_listed_with_a_description_and_command(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for typed in (["demo"], ["demo", "--list"]):
        shown = unwritten(*typed).output
        for name, sentence in all_demos().items():
            assert sentence.endswith("."), f"{name} says no sentence"
            _, found, rest = shown.partition(f"unwritten demo {name}\n")
            assert found and " ".join(rest.split("\n\n")[0].split()) == sentence
        *lines, hint = shown.rstrip().splitlines()
        assert max(map(len, lines)) <= min(columns, 100)
        assert hint.endswith("unwritten new NAME --from wiki")


# -- settings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["demo", "run", "get"])
def test_every_setting_is_a_flag_that_names_its_variable(command: str) -> None:
    shown = " ".join(unwritten(command, "--help").output.split())
    assert "--engine TEXT" in shown and "UNWRITTEN_ENGINE" in shown
    assert ("--port" in shown) == (command != "get")
    assert "--debug / --no-debug" in shown


def test_a_wrong_value_is_refused_before_anything_is_loaded() -> None:
    write(APP)
    long = message("get", "/", "--time-limit", "long")
    assert long.startswith("The flag --time-limit is 'long', but it takes a number")
    assert message("run", "app.py", "--port", "-5").startswith("The flag --port is '-5', but it must be at least 0")


def test_an_unknown_variable_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    write(APP)
    monkeypatch.setenv("UNWRITTEN_PROT", "1")
    assert "UNWRITTEN_PROT is not known to Unwritten. Did you mean 'port'?" in message("get", "/")


# -- get and pages ------------------------------------------------------------------------------------------


def test_get_prints_and_stores_a_page() -> None:
    write(APP)
    result = unwritten("get", "/wiki/Small_thing")
    assert result.exit_code == 0, result.output
    assert "It is a" in result.stdout and result.stdout.rstrip().endswith("</html>")
    assert Path("small.db").is_file()
    assert unwritten("pages", "count").stdout == "1\n"


def test_get_prints_the_data_of_a_page() -> None:
    write(APP)
    result = unwritten("get", "--json", "/wiki/Small%20thing")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert (data["key"], data["state"]) == ("/wiki/Small_thing", "written")
    assert "It is a" in data["canvases"]["body"]["text"]
    result = unwritten("get", "--json", "/nowhere")
    assert result.exit_code == 1 and json.loads(result.stdout)["status"] == 404


def test_get_follows_redirects() -> None:
    write(APP)
    assert ">Small thing</h1>" in unwritten("get", "/wiki/Small%20thing").stdout


def test_get_of_an_unknown_page_fails() -> None:
    write(APP)
    result = unwritten("get", "/nowhere")
    assert result.exit_code == 1
    assert "The response for /nowhere has status 404" in result.stderr


def test_get_of_an_unfinished_page_fails() -> None:
    broken = """scripted(["It is", GenerationFailed("The lamp went out.")])"""
    write(
        APP.replace('scripted("It is a [[Small thing]], and was always so.")', broken).replace(
            "import scripted", "import scripted\nfrom unwritten_engine.errors import GenerationFailed"
        )
    )
    result = unwritten("get", "/wiki/Lamp")
    assert result.exit_code == 1
    assert "It <span" in result.stdout and "the details under the number" in result.stdout
    assert "/wiki/Lamp could not be finished and is not stored" in result.stderr


def test_without_an_app_the_demo_wiki_is_used() -> None:
    result = unwritten("pages", "count")
    assert "There is no app.py in this folder: using the demo wiki." in result.stderr
    assert "No pages are stored yet" in result.stderr


def test_pages_are_listed_searched_counted_and_deleted() -> None:
    write(APP)
    for title in ("Lamp", "Oil", "Glass"):
        assert unwritten("get", f"/wiki/{title}").exit_code == 0
    assert re.findall(r"/wiki/\w+", unwritten("pages", "list").stdout) == ["/wiki/Glass", "/wiki/Oil", "/wiki/Lamp"]
    assert "and 2 more: --limit 3" in unwritten("pages", "list", "--limit", "1").stderr
    assert "/wiki/Oil" in unwritten("pages", "search", "oil").stdout
    assert unwritten("pages", "search", "zebra").exit_code == 1
    assert "Did you mean '/wiki/Lamp'?" in message("pages", "delete", "/wiki/Lump")
    assert re.match(r" +1  \d{4}-\d\d-\d\d \d\d:\d\d  written  ", unwritten("pages", "history", "/wiki/Lamp").stdout)
    assert "The page /wiki/Lump is not stored. Did you mean '/wiki/Lamp'?" in message("pages", "history", "/wiki/Lump")
    assert unwritten("pages", "delete", "/wiki/Lamp").stdout == "Deleted 1 page.\n"
    assert unwritten("pages", "count", "--database", "small.db").stdout == "2\n"
    assert unwritten("pages", "delete", "--all", answer="n\n").exit_code == 1
    assert "Deleted 2 pages." in unwritten("pages", "delete", "--all", "--yes").stdout


def test_a_database_of_another_program_is_not_changed() -> None:
    write(APP)
    Path("other.db").write_bytes(b"this is not a database, whatever its name says" * 100)
    assert "other.db" in message("get", "/wiki/Lamp", "--database", "other.db")
    assert "other.db" in message("pages", "count", "--database", "other.db")


# -- models -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [None, b"", b"GGUF", b"this is not a model" * 1000], ids=["missing", "empty", "truncated", "text"]
)
def test_a_broken_model_file_is_one_clear_message(content: bytes | None) -> None:
    write(WITHOUT_ENGINE)
    if content is not None:
        Path("model.gguf").write_bytes(content)
    shown = message("get", "/wiki/Lamp", "--engine", "model.gguf")
    assert "model.gguf" in shown and "Traceback" not in shown


def test_an_engine_that_does_not_exist_gets_a_suggestion() -> None:
    write(WITHOUT_ENGINE)
    assert "embedded" in message("get", "/wiki/Lamp", "--engine", "embeded")


# -- offline, doctor, progress ------------------------------------------------------------------------------


@pytest.fixture
def htmx(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Replace htmx by a small script with its own hash."""
    script = Script("htmx.min.js", "dist/htmx.min.js", integrity_of(b"var htmx"))
    monkeypatch.setattr(assets, "HTMX", (script,))
    monkeypatch.setattr("unwritten.cli.offline.HTMX", (script,))
    return script


def test_offline_reads_htmx_from_a_package_a_folder_or_a_file(htmx: Script, home: Path) -> None:
    write("var htmx", "package/dist/htmx.min.js")
    with tarfile.open("htmx.tgz", "w:gz") as package:
        package.add("package/dist/htmx.min.js")
    for source in ("htmx.tgz", "package", "package/dist/htmx.min.js"):
        result = unwritten("offline", "--from", source)
        assert result.exit_code == 0, result.output
        assert (htmx_cache() / "htmx.min.js").read_bytes() == b"var htmx"
        assert "Pages load htmx from the CDN again." in unwritten("offline", "--forget").output
        assert not (htmx_cache() / "htmx.min.js").exists()


def test_offline_rejects_another_hash(htmx: Script) -> None:
    write("alert('not htmx')", "htmx.min.js")
    assert "its hash differs" in message("offline", "--from", "htmx.min.js")
    assert not htmx_cache().exists()
    write("not a package", "htmx.tgz")
    assert "cannot be read as an npm package" in message("offline", "--from", "htmx.tgz")


def test_doctor_can_skip_the_engine() -> None:
    result = unwritten("doctor", "--no-engine")
    assert result.exit_code == 0, result.output
    for title in ("Versions", "Machine", "Settings", "Files", "Pages", "htmx"):
        assert f"{title}\n  ok " in result.output
    assert "Everything works." in result.output
    assert "ok    Best fit for this machine: " in result.output
    assert "evaluated prompt prefixes, 0 MiB, in " in result.output


def test_models_are_listed_with_licences_and_the_best_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Machine(memory=16 * 10**9, free=12 * 10**9, threads=2, speeds={"gemma-3-1b": 12.3})
    monkeypatch.setattr("unwritten.cli.models.this_machine", lambda: here)
    result = unwritten("models")
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line for line in result.output.splitlines() if line}
    assert rows.keys() >= MODELS.keys()
    assert "installed" in rows["embedded"]
    assert "2.1 GB" in rows["qwen2.5-3b"] and "Qwen Research License" in rows["qwen2.5-3b"]
    assert " 12 " in rows["gemma-3-1b"]
    assert rows["mistral-small-24b"].endswith("no: this machine has 16 GB")
    assert "Qwen Research License: not for commercial use, https://" in result.output
    assert rows["lfm2.5-350m-diffusion"].endswith("experimental")
    assert "never run with its real weights" in " ".join(result.output.split())
    best = "Best fit for this machine: --engine smollm2-1.7b (SmolLM2 1.7B Instruct, 1.1 GB to download, Apache 2.0)."
    assert result.output.splitlines()[-1] == best
    assert max(map(len, result.output.splitlines())) <= 120


def test_a_stopped_download_says_how_to_continue(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*args: object, **more: object) -> None:
        raise DownloadStopped("Stopped. 1.2 GB of 2.1 GB are kept in FOLDER: the same command continues.")

    monkeypatch.setattr("unwritten.cli.doctor.open_engine", stopped)
    result = unwritten("doctor", "--engine", "qwen2.5-3b")
    assert result.exit_code == 130
    assert "the same command continues." in result.output


def test_doctor_says_what_to_install_for_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "unwritten_engine.named_models.find_gpus", lambda: (GPU("RTX 4090", 24 << 30, 24 << 30, (8, 9)),)
    )
    output = unwritten("doctor", "--no-engine").output
    assert 'for RTX 4090 (26 GB): pip install "unwritten[vllm]", then --engine vllm' in output
    assert "AWQ-INT4, 17.2 GB" in output
    assert "A user measured 525 to 575 tokens per second on an RTX 4090; we have not measured it" in output
    monkeypatch.setattr("unwritten_engine.named_models.find_gpus", lambda: (GPU("RTX 3050", 6 << 30, 6 << 30, (8, 6)),))
    monkeypatch.setattr("unwritten.cli.doctor.installed_version", lambda: "0.31.0")
    output = unwritten("doctor", "--no-engine").output
    assert "RTX 3050 (6 GB) is too small for DiffusionGemma" in output
    assert 'note  vllm 0.31.0 is not supported. Type: pip install "vllm>=0.32,<0.33"' in output


def test_doctor_continues_after_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNWRITTEN_PROT", "1")
    folder = tmp_path / "home" / "unwritten"
    folder.mkdir(parents=True)
    (folder / "wiki.db").write_bytes(b"no database" * 1000)
    result = unwritten("doctor", "--no-engine")
    assert result.exit_code == 1
    assert "FAULT The environment variable UNWRITTEN_PROT is not known" in result.output
    assert re.search(r"FAULT .*wiki\.db", result.output)
    assert "htmx\n  ok " in result.output
    assert "Faults in: Settings, Pages." in result.output


def test_doctor_reports_a_missing_model() -> None:
    result = unwritten("doctor", "--engine", "model.gguf")
    assert result.exit_code == 1
    assert re.search(r"Engine\n(.*\n)?  FAULT .*model\.gguf", result.output)


def test_doctor_takes_a_model_and_options_and_hides_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    result = unwritten("doctor", "--engine", "embedded", "--model", "m")
    assert result.exit_code == 1 and "FAULT The engine 'embedded' takes no model" in result.output
    result = unwritten("doctor", "--engine", "embedded", "--engine-options", "threads")
    assert result.exit_code == 1 and "FAULT 'threads' is not an option of an engine. Write name=value" in result.output
    monkeypatch.setenv("UNWRITTEN_ENGINE_OPTIONS", "key=sk-123 retries=0")
    monkeypatch.setenv("UNWRITTEN_API_KEY", "sk-456")
    monkeypatch.setenv("UNWRITTEN_DATABASE", "postgresql://ada:sk-789@127.0.0.1:1/wiki")
    result = unwritten("doctor", "--no-engine")
    assert "UNWRITTEN_DATABASE is set: postgresql://ada@127.0.0.1:1/wiki" in result.output
    assert "UNWRITTEN_ENGINE_OPTIONS is set: key=… retries=0" in result.output
    assert "UNWRITTEN_API_KEY is set; it is a secret, and is not shown" in result.output
    assert "sk-" not in result.output


def test_doctor_without_an_engine_loads_no_model_of_an_app(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise AssertionError("a model was loaded")

    for module in ("unwritten.cli.doctor", "unwritten.app.build"):
        monkeypatch.setattr(f"{module}.open_engine", fail)
    write(WITHOUT_ENGINE)
    result = unwritten("doctor", "--no-engine", "--app", "app.py")
    assert result.exit_code == 0, result.output
    assert "ok    Small: 1 declared page; the engine was not checked" in result.output


def test_doctor_reports_an_app_without_pages() -> None:
    write("from unwritten import App\napp = App('Empty')\n")
    result = unwritten("doctor", "--no-engine", "--app", "app.py")
    assert result.exit_code == 1
    assert "FAULT The app 'Empty' has no pages." in result.output and "Faults in: App." in result.output


@pytest.mark.model
def test_doctor_measures_the_engine() -> None:
    result = unwritten("doctor")
    assert result.exit_code == 0, result.output
    assert re.search(r"ok    \d+ tokens per second: \d+ tokens in [\d.]+ s", result.output)
    click = r"a click on an unwritten page: shell after \d+ ms, first words after [\d.]+ s, complete after [\d.]+ s"
    assert re.search(click, result.output)
    assert "Gemma" in result.output
    assert recorded_speeds()["embedded"] > 0


def test_doctor_measures_a_whole_canvas_of_a_diffusion_model() -> None:
    result = unwritten("doctor", "--engine", "diffusion", "--model", "random")
    assert result.exit_code == 0, result.output
    assert re.search(r"ok    for diffusion: torch [\d.]+", result.output)
    assert "its text is gibberish" in result.output
    found = re.search(r"\d+ tokens per second: (\d+) tokens in [\d.]+ s, (\d+) steps of \d+ ms", result.output)
    assert found is not None, result.output
    assert int(found[1]) > 100 and 1 < int(found[2]) <= 48


def test_progress_is_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with LoadingProgress() as loading:
        loading(0.1, "Reading the model")
        loading(0.5, "Reading the model")
        loading(1.0, "Ready")
    assert capsys.readouterr().err == "Reading the model\nReady\n"


def test_doctor_shows_limits_for_visitors(monkeypatch: pytest.MonkeyPatch) -> None:
    home = unwritten("doctor", "--no-engine").output
    assert "ok    only this machine can reach an app; all but its owner have signed links" in home
    monkeypatch.setenv("UNWRITTEN_HOST", "0.0.0.0")
    monkeypatch.setenv("UNWRITTEN_VISITOR_SECONDS", "0")
    beyond = unwritten("doctor", "--no-engine").output
    assert "ok    links are signed" in beyond
    assert "ok    visitor_pages: 240 an hour" in beyond
    assert "note  visitor_seconds is 0: there is no limit" in beyond
    assert "note  behind a proxy all visitors look like one" in beyond
    monkeypatch.setenv("UNWRITTEN_SIGNED_LINKS", "off")
    assert "note  links are not signed" in unwritten("doctor", "--no-engine").output
