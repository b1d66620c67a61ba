"""``unwritten tune``: from the pages of an app to a checkpoint that writes like them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.terminal import APP, WITHOUT_ENGINE, message, unwritten, write
from tests.support.training_runs import SIZES

from unwritten_engine import Prompt
from unwritten_engine.diffusion.diffusion_gemma.random_model import write_checkpoint
from unwritten_engine.training.dataset import TrainingPage, read_pages, write_pages

pytestmark = pytest.mark.usefixtures("home")

TINY = "--device cpu --threads 1 --set steps=2 --set rows=1 --set tokens=2048 --set warmup_steps=1".split()
TUNE = "tune --model tiny --out mine".split()

WITH_SCHEMA = """
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
    assert started.stdout.startswith("2 texts of Small.\n2 training pages with ")
    assert "Step 0 of 2; the same command resumes" in started.stdout and not Path("mine").exists()
    done = unwritten(*TUNE, "--yes", "--device", "cpu", "--threads", "1")
    assert done.exit_code == 0, done.output
    assert "mine.run" in done.stdout and "--engine diffusion --model mine" in done.stdout
    assert (written / "tiny" / "model.safetensors").read_bytes() != (
        written / "mine" / "model.safetensors"
    ).read_bytes()
    write(WITHOUT_ENGINE)
    options = [
        "--engine",
        "diffusion",
        "--model",
        "mine",
        "--engine-options",
        "threads=1 device=cpu",
        "--prefetch",
        "off",
    ]
    page = unwritten("get", "/wiki/Wick", *options)
    assert page.exit_code == 0, page.output
    assert "<strong>Wick</strong>" in page.stdout
    again = unwritten(*TUNE, "--yes")
    assert again.exit_code == 1 and "mine exists." in again.stderr


def test_write_only_writes_the_training_pages(written: Path) -> None:
    told = unwritten("tune", "--write", "pages.jsonl")
    assert told.exit_code == 0, told.output
    assert "python -m unwritten_engine.training tune FOLDER --pages pages.jsonl --out FOLDER" in told.stdout
    pages = list(read_pages(Path("pages.jsonl")))
    assert [page.title for page in pages] == ["Lamp", "Oil"] and pages[0].source == "Small"
    assert pages[0].prompt.opening == "**Lamp**" and pages[0].text.startswith("**Lamp**")
    assert not Path("mine").exists()
    assert "pages.jsonl exists already" in message("tune", "--write", "pages.jsonl")
    assert "no/pages.jsonl cannot be written: No such file" in message("tune", "--write", "no/pages.jsonl")


def test_tuning_on_few_texts_needs_confirmation(written: Path) -> None:
    few = message(*TUNE)
    assert few.startswith("From fewer than 20 texts a model learns their words") and few.endswith("with --yes")
    write_pages(Path("more.jsonl"), [TrainingPage(Prompt(f"Page {n}."), "Old stone.") for n in range(18)])
    more = unwritten(*TUNE, *TINY, "--pages", "more.jsonl", "--minutes", "0")
    assert more.exit_code == 0, more.output
    assert more.stdout.startswith("2 texts of Small; 18 more from files.\n20 training pages with ")


def test_texts_that_are_left_out_are_counted(written: Path) -> None:
    write(WITH_SCHEMA)
    assert unwritten("get", "/wiki/Tower").exit_code == 0
    told = unwritten("tune", "--write", "pages.jsonl")
    assert told.stderr == "Left out: 1 values of schemas, whose layout the engine sets.\n"
    assert told.stdout.startswith("2 texts of Small.\n")


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        (["tune"], "Name the checkpoint and a folder for the tuned one: --model FOLDER --out FOLDER."),
        (["tune", "--model", "tiny"], "To write only the training pages: --write FILE.jsonl"),
        ([*TUNE, "--write", "x.jsonl"], "--write trains nothing"),
        (["tune", "--model", "none", "--out", "mine"], "none is not a checkpoint: it has no config.json."),
        (["tune", "--rnk", "4"], "No such option '--rnk'. Did you mean '--rank'?"),
        ([*TUNE, "--rank", "0"], "0 is not in the range 1<=x<=1024"),
        ([*TUNE, "--app", "app.py", "--demo", "wiki"], "Give --app or --demo, not both."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_reported(home: Path, typed: list[str], answer: str) -> None:
    (home / "tiny").mkdir()
    (home / "tiny" / "config.json").touch()
    result = unwritten(*typed)
    assert result.exit_code == 2
    assert answer in " ".join(result.output.split())


def test_a_world_without_texts_and_broken_pages_are_reported(home: Path) -> None:
    write(APP)
    write_checkpoint(home / "tiny", **SIZES)
    assert "No pages are stored yet: there is no database" in message(*TUNE)
    assert unwritten("get", "/wiki/Lamp").exit_code == 0
    assert unwritten("pages", "delete", "--all", "--yes").exit_code == 0
    assert "There is no text to learn from. Open some pages" in message(*TUNE)
    write("{}\n", "bad.jsonl")
    assert "bad.jsonl, line 1: 'prompt' is missing or empty." in message(*TUNE, "--pages", "bad.jsonl")
    assert unwritten("get", "/wiki/Lamp").exit_code == 0
    unknown = unwritten(*TUNE, "--yes", "--set", "stps=2")
    assert unknown.exit_code == 1 and "no option 'stps'. Did you mean 'steps'?" in unknown.stderr


def test_without_torch_the_error_names_the_package(written: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from unwritten.cli.main import main; main(prog_name='unwritten')"
    command = [sys.executable, "-c", code, *TUNE, "--yes"]
    told = subprocess.run(command, capture_output=True, text=True)
    assert told.returncode == 1
    assert told.stderr == "Training needs the package torch. Type: pip install 'unwritten[training]'\n"
