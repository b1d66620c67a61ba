"""Checkpoint folders, good and bad: what is wrong is said, and what to type next."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.checkpoints import FULL_SIZE, edit_config, inspect_checkpoint, quiet, read_head, rewrite_head

from unwritten_engine.diffusion.diffusion_gemma.checkpoint import OFFICIAL
from unwritten_engine.diffusion.diffusion_gemma.model_config import read_model_config
from unwritten_engine.diffusion.diffusion_gemma.random_model import write_checkpoint
from unwritten_engine.diffusion.loading import hub
from unwritten_engine.errors import EngineError, ModelBroken, ModelNotFound, ModelUnsupported


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("models") / "small", layers=2, shard_bytes=300_000)


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "small"))


def test_a_valid_folder_is_described(folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n", encoding="utf-8")
    found = inspect_checkpoint(folder)
    assert found.name == "small"
    assert found.end_ids == {1, 106, 50}
    assert found.pad_id == 0
    assert found.licence == "apache-2.0"
    assert found.weight_bytes == 4 * found.counts.total
    assert found.counts == found.model_config.counts()  # what the files hold is what the config says


def test_the_real_model_has_the_stated_parameters() -> None:
    counts = read_model_config(FULL_SIZE, "real").counts()
    assert counts.text == pytest.approx(25.2e9, rel=0.005)
    assert counts.experts == pytest.approx(22.8e9, rel=0.005)
    assert counts.vision == pytest.approx(0.57e9, rel=0.02)


def _delete(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("model-*.safetensors"))


def _truncate(folder: Path) -> None:
    data = _shards(folder)[0].read_bytes()
    _shards(folder)[0].write_bytes(data[:-1000])


def _lengthen(folder: Path) -> None:
    _shards(folder)[0].write_bytes(_shards(folder)[0].read_bytes() + b"0" * 10)


def _cut_in_the_head(folder: Path) -> None:
    _shards(folder)[0].write_bytes(_shards(folder)[0].read_bytes()[:100])


def _empty(folder: Path) -> None:
    _shards(folder)[0].write_bytes(b"")


def _pointer(folder: Path) -> None:
    _shards(folder)[0].write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 10\n")


def _noise_in_the_head(folder: Path) -> None:
    data = _shards(folder)[0].read_bytes()
    _shards(folder)[0].write_bytes(data[:8] + b"\xff" * 20 + data[28:])


def _wrong_shape(folder: Path) -> None:
    head = read_head(_shards(folder)[0])
    name = next(key for key in head if key.endswith("embed_tokens.weight"))
    head[name]["shape"] = head[name]["shape"][::-1]
    rewrite_head(_shards(folder)[0], head)


def _renamed(folder: Path) -> None:
    head = read_head(_shards(folder)[-1])
    name = next(key for key in head if key.startswith("model.decoder"))
    head["model.decoder.other"] = head.pop(name)
    rewrite_head(_shards(folder)[-1], head)


def _odd_sizes(folder: Path) -> None:
    head = read_head(_shards(folder)[0])
    next(entry for key, entry in head.items() if key != "__metadata__")["shape"] = [3]
    rewrite_head(_shards(folder)[0], head)


def _bytes_for_numbers(folder: Path) -> None:
    head = read_head(_shards(folder)[0])
    entry = next(entry for key, entry in head.items() if key != "__metadata__")
    entry["dtype"] = "F8_E4M3"
    rewrite_head(_shards(folder)[0], head)


def _config(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit_config(folder, **changes)


def _text(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        edit_config(folder, text_config=config["text_config"] | changes)

    return change


def _only(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        shutil.rmtree(folder)
        folder.mkdir()
        for name in names:
            (folder / name).write_bytes(b"{}")

    return change


def _no_weights_but(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for file in folder.glob("model*"):
            file.unlink()
        for name in names:
            (folder / name).write_bytes(b"{}")

    return change


def _modelopt(folder: Path) -> None:
    (folder / "hf_quant_config.json").write_text('{"quantization": {"quant_algo": "NVFP4"}}')


WRONG: list[tuple[str, Callable[[Path], object], type[EngineError], tuple[str, ...]]] = [
    ("no config", _delete("config.json"), ModelNotFound, ("no config.json", "Give the folder")),
    ("no tokenizer", _delete("tokenizer.json"), ModelNotFound, ("no tokenizer.json", "Fetch")),
    ("no folder", shutil.rmtree, ModelNotFound, ("There is no folder", OFFICIAL)),
    ("a shard is missing", lambda f: _shards(f)[0].unlink(), ModelNotFound, ("lacks 1 of", "model-00001-of", "Fetch")),
    ("no weights", _no_weights_but(), ModelNotFound, ("no weights", "Fetch")),
    ("pickled weights", _no_weights_but("pytorch_model.bin"), ModelNotFound, ("can run code", "save_pretrained")),
    ("an adapter", _no_weights_but("adapter_config.json"), ModelNotFound, ("an adapter", "merge_and_unload")),
    ("GGUF beside", _no_weights_but("m.gguf"), ModelNotFound, ("GGUF", "m.gguf")),
    ("GGUF alone", _only("m.gguf"), ModelUnsupported, ("GGUF", "m.gguf")),
    ("truncated", _truncate, ModelBroken, ("truncated", "should have", "fetch it again")),
    ("too long", _lengthen, ModelBroken, ("10 bytes more",)),
    ("cut in the head", _cut_in_the_head, ModelBroken, ("truncated in its header", "Fetch it again")),
    ("empty", _empty, ModelBroken, ("not a safetensors file (0 bytes)",)),
    ("LFS pointer", _pointer, ModelBroken, ("git lfs pull",)),
    ("damaged head", _noise_in_the_head, ModelBroken, ("damaged head",)),
    ("sizes that disagree", _odd_sizes, ModelBroken, ("damaged head", "bytes for [3]")),
    ("wrong shape", _wrong_shape, ModelBroken, ("does not match its config.json", "[64, 1024]", "[1024, 64]")),
    ("another checkpoint's shard", _renamed, ModelBroken, ("names tensors that its files do not have",)),
    ("damaged config", lambda f: (f / "config.json").write_text("{"), ModelBroken, ("cannot be read", "Fetch")),
    ("config is a list", lambda f: (f / "config.json").write_text("[]"), ModelBroken, ("not a JSON object",)),
    ("a size is missing", _text(num_experts=None), ModelBroken, ("lacks 'num_experts'",)),
    ("a size is a word", _text(hidden_size="big"), ModelBroken, ("'big' for 'hidden_size'",)),
    ("too few layer types", _text(layer_types=["full_attention"]), ModelBroken, ("1 layer types for 2 layers",)),
    ("no text config", _config(text_config=None), ModelBroken, ("no 'text_config'",)),
    (
        "left to right",
        _config(architectures=["Gemma4ForConditionalGeneration"], model_type="gemma4"),
        ModelUnsupported,
        ("Gemma4ForConditionalGeneration", "an autoregressive model", "llama.cpp", "vllm serve"),
    ),
    (
        "another diffuser",
        _config(architectures=["LLaDAModelLM"], model_type="llada"),
        ModelUnsupported,
        ("LLaDAModelLM",),
    ),
    ("no name", _config(architectures=None, model_type=None), ModelUnsupported, ("of no known type",)),
    ("untied", _config(tie_word_embeddings=False), ModelUnsupported, ("separate weights for", OFFICIAL)),
    ("eight-bit floats", _bytes_for_numbers, ModelUnsupported, ("F8_E4M3", "Ampere GPU, take an AWQ-INT4", "nf4")),
    ("NVFP4 of the model optimiser", _modelopt, ModelUnsupported, ("NVFP4", "random numbers", "--engine vllm --model")),
    (
        "MLX",
        _config(quantization={"group_size": 64, "bits": 4}, quantization_config={"group_size": 64, "bits": 4}),
        ModelUnsupported,
        ("for MLX", "mlx_vlm.server --model small", "--engine http://localhost:8080/v1", OFFICIAL),
    ),
    *(
        (how, _config(quantization_config=config), ModelUnsupported, (how, "--engine vllm --model small", "nf4"))
        for how, config in {
            "compressed-tensors, nvfp4-pack-quantized": {
                "quant_method": "compressed-tensors",
                "format": "nvfp4-pack-quantized",
            },
            "awq, 4 bits": {"quant_method": "awq", "bits": 4},
            "gptq": {"quant_method": "gptq"},
            "fp8": {"quant_method": "fp8"},
            "modelopt, NVFP4": {"quant_method": "modelopt", "quant_algo": "NVFP4"},
            "bitsandbytes": {"quant_method": "bitsandbytes"},
        }.items()
    ),
]


@pytest.mark.parametrize(("change", "error", "words"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_invalid_files_are_explained(
    folder: Path, change: Callable[[Path], object], error: type[EngineError], words: tuple[str, ...]
) -> None:
    change(folder)
    with pytest.raises(error) as caught:
        inspect_checkpoint(folder)
    for word in words:
        assert word in str(caught.value)


def test_a_file_is_not_a_checkpoint_folder(folder: Path) -> None:
    with pytest.raises(ModelNotFound, match="give its folder"):
        inspect_checkpoint(_shards(folder)[0])


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, layers=2)
    head = read_head(folder / "model.safetensors")
    del head["model.decoder.layers.1.mlp.up_proj.weight"]
    rewrite_head(folder / "model.safetensors", head)
    with pytest.raises(ModelBroken, match=r"lacks 1 tensors, such as model\.decoder\.layers\.1\.mlp\.up_proj"):
        inspect_checkpoint(folder)


def test_end_tokens_come_from_the_generation_config_then_the_config(folder: Path) -> None:
    (folder / "generation_config.json").write_text('{"eos_token_id": 7, "pad_token_id": 9}')
    found = inspect_checkpoint(folder)
    assert (found.end_ids, found.pad_id) == (frozenset({7}), 9)
    (folder / "generation_config.json").unlink()
    edit_config(folder, eos_token_id=[1, 106])
    assert inspect_checkpoint(folder).end_ids == {1, 106}


def test_without_a_network_the_message_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelNotFound, match="cannot be fetched from Hugging Face") as caught:
        hub.fetch_checkpoint("someone/model", quiet, lambda folder: "", example=OFFICIAL)
    assert "connection" in str(caught.value)
    assert "random" in str(caught.value)


def test_a_cached_model_needs_no_network(monkeypatch: pytest.MonkeyPatch, original: Path, tmp_path: Path) -> None:
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repo = tmp_path / "models--someone--model"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("0" * 40)
    folder = Path(shutil.copytree(original, repo / "snapshots" / ("0" * 40)))
    assert hub.fetch_checkpoint("someone/model", quiet, lambda folder: "", example=OFFICIAL).samefile(folder)
    _shards(folder)[0].unlink()  # a download that broke off is not taken for the model
    with pytest.raises(ModelNotFound, match="cannot be fetched"):
        hub.fetch_checkpoint("someone/model", quiet, lambda folder: "", example=OFFICIAL)
