"""``unwritten tune`` and ``unwritten train``: from the pages of an app to a checkpoint that writes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.terminal import APP, WITHOUT_ENGINE, message, unwritten, write
from tests.support.training_runs import SIZES

from unwritten_engine import Prompt
from unwritten_engine.diffusion.loading.random_model import write_checkpoint
from unwritten_engine.training.dataset import TrainingPage
from unwritten_engine.training.dataset import read_pages
from unwritten_engine.training.dataset import write_pages

pytestmark = [pytest.mark.usefixtures("home"), pytest.mark.timeout(120)]

TINY = "--device cpu --threads 1 --set steps=2 --set rows=1 --set tokens=2048 --set warmup_steps=1".split()
TUNE = "tune --model tiny --out mine".split()

SHAPED = """
from pydantic import BaseModel
from unwritten import App, Canvas
from unwritten_engine import scripted

app = App("Small", engine=scripted('{"height":9}'))

class Tower(BaseModel):
    height: int

@app.page("/wiki/{title}")
def tower(title: str) -> Canvas:
    return Canvas(f"Of {title}.", schema=Tower)
"""
"""The same app, as its author has changed it since."""


@pytest.fixture
def written(home: Path) -> Path:
    """An app with two written pages, and a tiny checkpoint beside it."""
    write(APP)
    for title in ("Lamp", "Oil"):
        assert unwritten("get", f"/wiki/{title}").exit_code == 0
    write_checkpoint(home / "tiny", **{**SIZES, "canvas": 32})
    return home


# -- tune -------------------------------------------------------------------------------------------------


def test_tune_makes_a_checkpoint_that_writes_the_pages_of_the_app(written: Path) -> None:
    started = unwritten(*TUNE, *TINY, "--yes", "--rank", "2", "--minutes", "0")
    assert started.exit_code == 0, started.output
    assert started.stdout.startswith("2 texts of Small.\n2 pages with ")
    assert "Step 0 of 2; the same command goes on" in started.stdout and not Path("mine").exists()
    done = unwritten(*TUNE, "--yes", "--device", "cpu", "--threads", "1")
    assert done.exit_code == 0, done.output
    assert "Going on with mine.run." in done.stdout and "--engine diffusion --model mine" in done.stdout
    assert (written / "tiny" / "model.safetensors").read_bytes() != (
        written / "mine" / "model.safetensors"
    ).read_bytes()
    write(WITHOUT_ENGINE)
    options = ["--engine", "diffusion", "--model", "mine", "--engine-options", "threads=1 device=cpu", "--ahead", "off"]
    page = unwritten("get", "/wiki/Wick", *options)
    assert page.exit_code == 0, page.output
    assert "<strong>Wick</strong>" in page.stdout
    again = unwritten(*TUNE, "--yes")
    assert again.exit_code == 1 and "mine is there already. Take another folder for --out." in again.stderr


def test_write_only_writes_the_training_pages(written: Path) -> None:
    told = unwritten("tune", "--write", "pages.jsonl")
    assert told.exit_code == 0, told.output
    assert "unwritten train tune FOLDER --pages pages.jsonl --out FOLDER" in told.stdout
    pages = list(read_pages(Path("pages.jsonl")))
    assert [page.title for page in pages] == ["Lamp", "Oil"] and pages[0].source == "Small"
    assert pages[0].prompt.opening == "**Lamp**" and pages[0].text.startswith("**Lamp**")
    assert not Path("mine").exists()
    assert "pages.jsonl is there already" in message("tune", "--write", "pages.jsonl")
    assert "no/pages.jsonl cannot be written: No such file" in message("tune", "--write", "no/pages.jsonl")


def test_few_texts_are_tuned_on_only_if_that_is_meant(written: Path) -> None:
    few = message(*TUNE)
    assert few.startswith("From fewer than 20 texts a model learns their words") and few.endswith("with --yes")
    write_pages(Path("more.jsonl"), [TrainingPage(Prompt(f"Page {n}."), "Old stone.") for n in range(18)])
    more = unwritten(*TUNE, *TINY, "--pages", "more.jsonl", "--minutes", "0")
    assert more.exit_code == 0, more.output
    assert more.stdout.startswith("2 texts of Small; 18 more from files.\n20 pages with ")


def test_what_is_left_out_is_told(written: Path) -> None:
    write(SHAPED)
    assert unwritten("get", "/wiki/Tower").exit_code == 0
    told = unwritten("tune", "--write", "pages.jsonl")
    assert told.stderr == "Left out: 1 values of shapes, whose form the engine holds itself.\n"
    assert told.stdout.startswith("2 texts of Small.\n")


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        (["tune"], "Name the checkpoint and a folder for the tuned one: --model FOLDER --out FOLDER."),
        (["tune", "--model", "tiny"], "To write only the training pages: --write FILE.jsonl"),
        ([*TUNE, "--write", "x.jsonl"], "With --write nothing is trained"),
        (["tune", "--model", "none", "--out", "mine"], "none is no checkpoint: it has no config.json."),
        (["tune", "--rnk", "4"], "No such option '--rnk'. Did you mean '--rank'?"),
        ([*TUNE, "--rank", "0"], "0 is not in the range 1<=x<=1024"),
        ([*TUNE, "--app", "app.py", "--demo", "wiki"], "Give --app or --demo, not both."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_typed_wrong_is_told(home: Path, typed: list[str], answer: str) -> None:
    (home / "tiny").mkdir()
    (home / "tiny" / "config.json").touch()
    result = unwritten(*typed)
    assert result.exit_code == 2
    assert answer in " ".join(result.output.split())


def test_a_world_without_texts_and_pages_that_are_none_are_told(home: Path) -> None:
    write(APP)
    write_checkpoint(home / "tiny", **SIZES)
    assert "Nothing is written yet: there is no database" in message(*TUNE)
    assert unwritten("get", "/wiki/Lamp").exit_code == 0
    assert unwritten("pages", "delete", "--all", "--yes").exit_code == 0
    assert "There is no text to learn from. Open some pages" in message(*TUNE)
    write("{}\n", "bad.jsonl")
    assert "bad.jsonl, line 1: 'prompt' is missing or empty." in message(*TUNE, "--pages", "bad.jsonl")
    assert unwritten("get", "/wiki/Lamp").exit_code == 0
    unknown = unwritten(*TUNE, "--yes", "--set", "stps=2")
    assert unknown.exit_code == 1 and "no option 'stps'. Did you mean 'steps'?" in unknown.stderr


# -- train ------------------------------------------------------------------------------------------------


def test_train_says_and_does_what_the_engine_says_and_does(written: Path) -> None:
    help = unwritten("train", "--help")
    assert help.exit_code == 0 and "prepare" in help.stdout and "Write training pages from noise" in help.stdout
    assert "--eval-every STEPS" in unwritten("train", "train", "-h").stdout
    assert unwritten("tune", "--write", "pages.jsonl").exit_code == 0
    made = unwritten("train", "prepare", "run", "--pages", "pages.jsonl", "--start", "tiny", "--set", "tokens=2048")
    assert made.exit_code == 0 and made.stdout.startswith("2 pages with "), made.output
    packed = unwritten("train", "pack", "run", "run.pack")
    assert packed.exit_code == 0 and Path("run.pack").is_file()


@pytest.mark.parametrize(
    ("typed", "status", "answer"),
    [
        ([], 2, "the following arguments are required: COMMAND"),
        (["learn"], 2, "invalid choice: 'learn'"),
        (["train", "run", "--minuts", "3"], 2, "unrecognized arguments: --minuts 3"),
        (["train", "none"], 1, "none is not a prepared run"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_train_hands_messages_and_statuses_on(typed: list[str], status: int, answer: str) -> None:
    result = unwritten("train", *typed)
    assert result.exit_code == status
    assert answer in result.stderr


def test_without_torch_it_is_said_what_to_install() -> None:
    code = "import sys; sys.modules['torch'] = None; from unwritten.cli import main; main(prog_name='unwritten')"
    told = subprocess.run([sys.executable, "-c", code, "train", "train", "run"], capture_output=True, text=True)
    assert told.returncode == 1
    assert told.stderr == "Training needs the package torch. Type: pip install 'unwritten[training]'\n"
