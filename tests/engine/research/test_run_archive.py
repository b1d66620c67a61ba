"""Runs in one small file."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.support.training_runs import run

from research.run_archive import pack_run, pack_weights, unpack_run, unpack_weights
from unwritten_engine import EngineError
from unwritten_engine.errors import ModelBroken, ModelNotFound
from unwritten_engine.training.trainer import Trainer


def test_packed_weights_are_restored_as_bfloat16(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    given = {
        "matrix": 0.02 * torch.randn(300, 200, generator=generator),
        "experts": torch.randn(3, 5, 7, generator=generator),
        "scale": torch.ones(1),
        "zeros": torch.zeros(4, 4),
        "large": torch.tensor([1e30, -1e-30, 0.0]),
    }
    save_file(given, tmp_path / "whole")
    pack_weights(tmp_path / "whole", tmp_path / "packed")
    unpack_weights(tmp_path / "packed", tmp_path / "back")
    back = load_file(tmp_path / "back")
    assert back.keys() == given.keys()
    for name, tensor in given.items():
        assert torch.equal(back[name], tensor.to(torch.bfloat16).float()), name
    alone = {"matrix": 0.02 * torch.randn(1000, 1000, generator=generator)}
    save_file(alone, tmp_path / "whole")
    pack_weights(tmp_path / "whole", tmp_path / "packed")
    assert (tmp_path / "packed").stat().st_size < 1_000_000 * 12.5 / 8


def test_an_archived_run_continues_nearly_as_before(tmp_path: Path) -> None:
    whole = Trainer(run(tmp_path / "whole"), device="cpu", threads=1)
    whole.train()
    here = run(tmp_path / "here")
    Trainer(here, device="cpu", threads=1).train(steps=6)
    size = pack_run(here, tmp_path / "run.pack")
    assert size == (tmp_path / "run.pack").stat().st_size
    there = unpack_run(tmp_path / "run.pack", tmp_path / "there")
    assert not there.state.exists() and there.config() == here.config()
    assert there.log.read_text() == here.log.read_text()
    carried = Trainer(there, device="cpu", threads=1)
    assert carried.step == 6
    last = carried.train()
    assert last.step == 12 and abs(last.loss - whole.train().loss) < 0.1
    pack_run(there, tmp_path / "run.pack")  # in place of the one before
    assert unpack_run(tmp_path / "run.pack", tmp_path / "third").compact_state.exists()


def test_a_prepared_run_can_be_archived(tmp_path: Path) -> None:
    here = run(tmp_path)
    pack_run(here, tmp_path / "run.pack")
    assert Trainer(unpack_run(tmp_path / "run.pack", tmp_path / "there"), device="cpu", threads=1).step == 0


def test_oversized_and_invalid_runs_are_reported(tmp_path: Path) -> None:
    here = run(tmp_path)
    with pytest.raises(EngineError, match=r"needs 0\.\d MiB, and the limit is 0\.00"):
        pack_run(here, tmp_path / "run.pack", limit=1000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "start"]
    with pytest.raises(ModelNotFound, match="does not exist"):
        unpack_run(tmp_path / "none.pack", tmp_path / "there")
    (tmp_path / "odd.pack").write_text("odd")
    with pytest.raises(ModelBroken, match="is not a packed run"):
        unpack_run(tmp_path / "odd.pack", tmp_path / "there")
    with pytest.raises(EngineError, match="exists"):
        unpack_run(tmp_path / "odd.pack", here.folder)
    pack_run(here, tmp_path / "run.pack")
    evil = tmp_path / "evil.pack"
    with tarfile.open(evil, "w") as archive:
        archive.add(tmp_path / "odd.pack", "../outside")
    with pytest.raises(ModelBroken, match="is not a packed run"):
        unpack_run(evil, tmp_path / "there")
    assert not (tmp_path / "outside").exists() and not (tmp_path / "there").exists()
