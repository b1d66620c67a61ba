"""The commands of training, as a person types them."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from tests.support.training_runs import SIZES, held_out, pages

from research import run_archive
from unwritten_engine import EngineError, Prompt
from unwritten_engine.diffusion.diffusion_gemma.random_model import write_checkpoint
from unwritten_engine.errors import BadOption, UnknownOption
from unwritten_engine.training.cli import main
from unwritten_engine.training.config import TUNING, TrainingConfig, make_config, replace_values
from unwritten_engine.training.dataset import TrainingPage, write_pages
from unwritten_engine.training.initial_model import create_initial_model

SMALL = "steps=4 rows=1 tokens=96 canvases=4 copies=2 warmup_steps=2".split()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_checkpoint(tmp_path / "tiny", **SIZES)
    write_pages(tmp_path / "pages.jsonl", [*pages(8), *held_out(2)])
    return tmp_path


def typed(line: str, *more: str) -> int:
    return main([*line.split(), *more])


def test_prepare_train_and_recall(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("prepare run --pages pages.jsonl --start tiny --set", *SMALL) == 0
    told = capsys.readouterr().out
    assert "8 training pages with" in told and "2 held-out pages" in told and "train run" in told
    assert typed("recall run --pages pages.jsonl") == 1
    assert "run has no checkpoint yet. Train it first" in capsys.readouterr().err
    assert typed("train run --steps 3 --device cpu --threads 1 --eval-every 2") == 0
    told = capsys.readouterr().out
    assert "weights on cpu" in told and "held-out loss by noise level: " in told and "Step 3 of 4; the same" in told
    assert typed("train run --device cpu --threads 1") == 0
    assert "Done, after" in capsys.readouterr().out
    assert typed("recall run --pages pages.jsonl --count 2 --show 1 --device cpu --threads 1") == 0
    told = capsys.readouterr().out
    assert told.count("Expected: ") == 1 and "0 of 2 pages are exact" in told


def test_a_packed_run_is_trained_in_its_file(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("prepare run --pages pages.jsonl --start tiny --set", *SMALL) == 0
    assert run_archive.main("pack run run.pack".split()) == 0
    assert run_archive.main("train run.pack --steps 2 --out out.pack --device cpu --threads 1".split()) == 0
    assert run_archive.main("train out.pack --device cpu --threads 1".split()) == 0
    assert "Done, after" in capsys.readouterr().out
    assert run_archive.main("unpack out.pack there".split()) == 0
    assert run_archive.main("unpack out.pack there".split()) == 1
    assert (home / "there" / "log.jsonl").read_text().count('"step": 4') == 1


def test_tune_makes_a_new_checkpoint_and_can_be_stopped(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "tune tiny --pages pages.jsonl --out mine --device cpu --threads 1"
    assert typed(line, "--minutes", "0", "--set", *SMALL) == 0
    assert "Step 0 of 4; the same command resumes" in capsys.readouterr().out and not (home / "mine").exists()
    assert typed(line, "--set", *SMALL[1:]) == 1
    assert "mine.run exists with another configuration" in capsys.readouterr().err
    assert typed(line, "--minutes", "0", "--set", *SMALL) == 0, "the same command goes on"
    assert typed(line) == 0
    assert "--engine diffusion --model mine" in capsys.readouterr().out
    assert (home / "mine" / "model.safetensors").is_file()
    assert typed(line) == 1
    assert "mine exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train none", "none is not a prepared run"),
        ("prepare run --pages none.jsonl --start tiny", "none.jsonl cannot be read"),
        ("prepare run --pages pages.jsonl --start large", "'large' is neither a size (toy, small) nor a checkpoint"),
        ("prepare run --pages pages.jsonl --start tiny --set step=3", "no option 'step'. Did you mean 'steps'?"),
        ("prepare run --pages pages.jsonl --start tiny --set steps", "'steps' is not a setting"),
        ("prepare run --pages pages.jsonl --start toy", "tokens"),
        ("tune none --pages pages.jsonl --out mine", "nor a checkpoint folder"),
        ("recall tiny --pages empty.jsonl", "These files have no pages"),
    ],
)
def test_invalid_input_is_reported(home: Path, capsys: pytest.CaptureFixture[str], line: str, message: str) -> None:
    (home / "empty.jsonl").touch()
    assert typed(line) == 1
    assert message in capsys.readouterr().err
    assert not (home / "run").exists() and not (home / "mine").exists()


def test_unknown_options_are_errors(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in ("train run --minuts 3", "prepare run", "learn"):
        with pytest.raises(SystemExit):
            typed(line)
    assert "unrecognized arguments: --minuts 3" in capsys.readouterr().err


def test_a_recipe_is_checked_and_restored(tmp_path: Path) -> None:
    recipe = make_config(["steps=7", "learning_rate=0.5", "dtype=bfloat16"])
    recipe.save(tmp_path / "training.json")
    assert TrainingConfig.load(tmp_path / "training.json") == recipe and recipe.steps == 7
    assert make_config([], TUNING).lora_rank == 16
    for values, error, message in (
        (["steps=many"], BadOption, "steps is 'many'; give a int"),
        (["learning_rate=2"], BadOption, "learning_rate is 2; give a number from 0 to 1"),
        (["copies=9"], BadOption, "A row has 8 canvases, too few for 9 copies"),
        (["dtype=float16"], BadOption, "dtype is 'float16'; give 'auto', 'float32' or"),
        (["learning_rat=1"], UnknownOption, "Did you mean 'learning_rate'"),
    ):
        with pytest.raises(error, match=message):
            make_config(values)
    (tmp_path / "training.json").write_text("{")
    with pytest.raises(EngineError, match="is not a training configuration"):
        TrainingConfig.load(tmp_path / "training.json")


def test_the_rate_rises_stays_and_falls() -> None:
    recipe = replace_values(
        TrainingConfig(), {"steps": 100, "warmup_steps": 10, "cooldown_share": 0.3, "learning_rate": 0.1}
    )
    rates = [recipe.learning_rate_at(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.01) and rates[9] == rates[69] == pytest.approx(0.1)
    assert rates[85] == pytest.approx(0.05) and rates[100] == 0
    assert rates[:10] == sorted(rates[:10]) and rates[70:] == sorted(rates[70:], reverse=True)


def test_a_fresh_start_has_a_tokenizer_for_the_pages() -> None:
    words = ["".join(letters) for letters in product("bdgklmnprst", "aeiou", "bdgklmnprst", "aeiou")]
    many = [TrainingPage(Prompt("Say."), " ".join(words[at : at + 40])) for at in range(0, len(words), 20)]
    with create_initial_model("toy", lambda: many, 700) as folder:
        assert (folder / "tokenizer.json").is_file() and (folder / "model.safetensors").is_file()
    assert not folder.exists()
