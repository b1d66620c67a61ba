from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from unwritten_engine.errors import EngineError, ModelBroken, ModelNotFound, ModelUnsupported
from unwritten_engine.vllm import checkpoint as module
from unwritten_engine.vllm.checkpoint import VLLMCheckpoint, fetch, read_checkpoint, write_random

NAME = "owner/model"


@pytest.fixture(scope="module")
def random(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    return write_random(tmp_path_factory.mktemp("random"), canvas=64)


def changed(folder: Path, target: Path, file: str, **changes: Any) -> Path:
    """Return a copy of a checkpoint with changed values in one of its files. None removes a value."""
    for path in folder.iterdir():
        (target / path.name).symlink_to(path)
    values = json.loads((folder / file).read_text(encoding="utf-8")) | changes
    (target / file).unlink()
    (target / file).write_text(json.dumps({key: value for key, value in values.items() if value is not None}))
    return target


def test_a_checkpoint_is_read(random: Path) -> None:
    found = read_checkpoint(random, "random")
    assert (found.canvas_length, found.vocab_size, found.steps, found.pad_id) == (64, 1024, 48, 0)
    assert found.end_ids == {1, 106, 50} and found.weight_bytes > 10**6 and found.format == "float32"
    needed, sentence = found.memory(4096, 4)
    assert needed > found.weight_bytes and "the caches of 4 requests of 4,096 tokens" in sentence


@pytest.mark.parametrize(
    ("file", "changes", "error", "message"),
    [
        ("config.json", {"architectures": ["LlamaForCausalLM"]}, ModelUnsupported, "is LlamaForCausalLM"),
        ("generation_config.json", {"t_min": None}, ModelBroken, "has no t_min, which vLLM requires"),
        ("generation_config.json", {"sampler_config": {}}, ModelBroken, "has no sampler_config"),
    ],
)
def test_what_vllm_would_refuse_is_refused_before_it_starts(
    file: str, changes: dict[str, Any], error: type[EngineError], message: str, random: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        read_checkpoint(changed(random, tmp_path, file, **changes), "m")


def test_missing_files_are_named(random: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="There is no folder"):
        read_checkpoint(tmp_path / "none")
    with pytest.raises(ModelNotFound, match=r"has no config\.json"):
        read_checkpoint(tmp_path)
    folder = changed(random, tmp_path, "config.json")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelNotFound, match=r"has no \*\.safetensors"):
        read_checkpoint(folder)
    assert read_checkpoint(folder, weights=False).weight_bytes == 0
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelBroken, match="cannot be read"):
        read_checkpoint(folder)


def test_an_interrupted_download_is_found(random: Path, tmp_path: Path) -> None:
    folder = changed(random, tmp_path, "config.json")
    for number in (1, 3):
        (folder / f"model-0000{number}-of-00003.safetensors").touch()
    with pytest.raises(ModelBroken, match=r"lacks model-00002-of-00003\.safetensors"):
        read_checkpoint(folder)
    (folder / "model-00002-of-00003.safetensors").touch()
    read_checkpoint(folder)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "other.safetensors"}}')
    with pytest.raises(ModelBroken, match=r"lacks other\.safetensors"):
        read_checkpoint(folder)


class Hub:
    """A hub with one model, whose weights of 17 GB are not in the cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.constants = SimpleNamespace(HF_HUB_CACHE=str(folder))
        self.has_weights = False

    def HfApi(self) -> Any:
        files = [SimpleNamespace(rfilename="a.safetensors", size=17 * 10**9), SimpleNamespace(rfilename="b", size=1)]
        return SimpleNamespace(model_info=lambda reference, files_metadata: SimpleNamespace(siblings=files))

    def snapshot_download(self, reference: str, *, local_files_only: bool = False, allow_patterns: Any = None) -> str:
        if local_files_only:
            raise FileNotFoundError(reference)
        self.has_weights = self.has_weights or "*.safetensors" in allow_patterns
        return str(self.folder)


@pytest.fixture
def hub(random: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub(random)
    monkeypatch.setattr(module, "hugging_face", lambda: hub)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=10**12))
    return hub


def test_size_place_and_memory_are_stated_before_a_download(hub: Hub) -> None:
    told: list[str] = []

    def progress(share: float, step: str) -> None:
        assert not hub.has_weights
        told.append(step)

    def check(checkpoint: VLLMCheckpoint) -> str:
        assert (checkpoint.name, checkpoint.weight_bytes) == (NAME, 17 * 10**9) and not hub.has_weights
        return "It fits."

    assert fetch(NAME, progress, check) == hub.folder
    assert told == [f"Downloading owner/model, 17.0 GB, to {hub.folder}. It fits."]
    assert hub.has_weights


def test_nothing_is_downloaded_that_does_not_fit(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(checkpoint: VLLMCheckpoint) -> str:
        raise ModelUnsupported("Too large.")

    with pytest.raises(ModelUnsupported, match=r"Too large\."):
        fetch(NAME, lambda share, step: None, check)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=10**9))
    with pytest.raises(EngineError, match=r"The disk is too full: owner/model needs 17\.0 GB"):
        fetch(NAME, lambda share, step: None, lambda checkpoint: "")
    assert not hub.has_weights


def test_a_hub_that_cannot_be_reached_is_an_error(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Any:
        raise ConnectionError("no route\nmore")

    monkeypatch.setattr(hub, "HfApi", fail)
    with pytest.raises(ModelNotFound, match=r"cannot be fetched from Hugging Face \(ConnectionError: no route\)"):
        fetch(NAME, lambda share, step: None, lambda checkpoint: "")
