from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.ggufs import MODEL, write_gguf

from unwritten_engine.errors import EngineError, ModelBroken, ModelNotFound, ModelUnsupported
from unwritten_engine.gguf import GGUFTensor, read_contents, read_header


def test_the_header_of_a_model_is_read(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", MODEL | {"tokenizer.chat_template": "{{ messages }}"})
    head = read_header(path)
    assert (head.architecture, head.name, head.quantization, head.context) == ("llama", "A tiny model", "Q4_K_M", 1024)
    assert head.chat_template == "{{ messages }}"
    assert head.control_tokens == {"<s>": 0, "<|end|>": 2} and head.end_tokens == {"<|end|>"}
    assert head.kv_bytes == 2 * 2 * (16 + 16) * 2
    assert head.weight_bytes == path.stat().st_size


def test_the_tokens_that_end_an_answer_are_known(tmp_path: Path) -> None:
    tokens = ["<s>", "a", "<x>", "</s>", "<|eot_id|>", "<end_of_turn>", "<end_of_image>", "<turn|>", "<unused3>"]
    metadata = MODEL | {
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, 1, *[3] * 7],
        "tokenizer.ggml.eos_token_id": 2,
    }
    head = read_header(write_gguf(tmp_path / "tiny.gguf", metadata))
    assert head.end_tokens == {"<x>", "</s>", "<|eot_id|>", "<end_of_turn>", "<turn|>"}


def test_the_offsets_of_weights_are_read(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", MODEL | {"general.type": "adapter"}, weights=80)
    metadata, tensors = read_contents(path)
    assert metadata["tokenizer.ggml.tokens"] == ["<s>", "a", "<|end|>"] and metadata["general.type"] == "adapter"
    size = path.stat().st_size
    assert tensors == {"weights": GGUFTensor((80,), 0, size - 320, 320)}
    assert path.read_bytes()[tensors["weights"].start :] == b"\1" * 320
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelBroken, match=f"at least {size:,} bytes and has {size - 1:,}"):
        read_contents(path)


def test_a_model_without_a_template_is_a_base_model(tmp_path: Path) -> None:
    assert read_header(write_gguf(tmp_path / "tiny.gguf", MODEL)).chat_template == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "only 0 bytes"),
        (b"hello", "only 5 bytes"),
        (b"<!doctype html><html>Sign in to download</html>", "It looks like a web page. Download it again"),
        (b"PK\x03\x04" + b"\0" * 60, "does not begin with 'GGUF'"),
        (b"GGUF\x03\0\0\0" + b"\xff" * 60, "damaged or truncated in its header"),
    ],
)
def test_a_file_that_is_not_a_model_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(ModelBroken, match=message):
        read_header(tmp_path / "x.gguf")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no model file at"):
        read_header(tmp_path / "none.gguf")
    (tmp_path / "folder.gguf").mkdir()
    with pytest.raises(ModelNotFound):
        read_header(tmp_path / "folder.gguf")


@pytest.mark.parametrize("architecture", ["diffusion-gemma", "diffusion_gemma", "diffusion-gemma4", "gemma3"])
def test_diffusion_gemma_is_recognized_in_any_spelling(tmp_path: Path, architecture: str) -> None:
    head = read_header(write_gguf(tmp_path / "d.gguf", MODEL | {"general.architecture": architecture}))
    assert head.is_diffusion_gemma == (architecture != "gemma3")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"general.architecture": "dream"}, "text-diffusion model.*'embedded'"),
        ({"general.architecture": "clip"}, "does not generate text"),
        ({"general.type": "adapter"}, "has the type 'adapter'"),
    ],
)
def test_models_of_other_kinds_are_refused(tmp_path: Path, metadata: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelUnsupported, match=message):
        read_header(write_gguf(tmp_path / "x.gguf", MODEL | metadata))


def test_another_version_of_the_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnsupported, match="GGUF version 9"):
        read_header(write_gguf(tmp_path / "x.gguf", MODEL, version=9))


def test_a_split_model_needs_all_its_parts(tmp_path: Path) -> None:
    first = write_gguf(tmp_path / "m-00001-of-00002.gguf", MODEL | {"split.count": 2})
    with pytest.raises(ModelNotFound, match=r"split into 2 files, and .*00002-of-00002.gguf is missing"):
        read_header(first)
    second = write_gguf(tmp_path / "m-00002-of-00002.gguf", MODEL | {"split.count": 2})
    assert read_header(first).weight_bytes == first.stat().st_size + second.stat().st_size


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "whole.gguf", MODEL).read_bytes()
    for size in range(0, len(whole), 7):
        (tmp_path / "cut.gguf").write_bytes(whole[:size])
        with pytest.raises(ModelBroken):
            read_header(tmp_path / "cut.gguf")


WRONG_VALUES = (2**32 - 1, 0, -1.5, float("inf"), float("nan"), "", "x", True, [1, 2], ["a", "b"])


@pytest.mark.parametrize(
    "name", [*MODEL, "general.alignment", "general.type", "split.count", "llama.attention.key_length"]
)
def test_values_of_another_type_are_reported_or_harmless(tmp_path: Path, name: str) -> None:
    for value in WRONG_VALUES:
        path = write_gguf(tmp_path / "x-00001-of-00002.gguf", MODEL | {name: value})
        try:
            read_header(path)
        except EngineError as error:
            assert "gguf" in str(error)


def test_nested_arrays_and_many_sizes_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    name = struct.pack("<Q", 1) + b"a"
    nested = name + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 100_000
    sizes = name + struct.pack("<I", 100_000) + struct.pack("<Q", 2**64 - 1) * 100_000
    for counts, body in (((0, 1), nested), ((1, 0), sizes)):
        path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, *counts) + body + bytes(64))
        with pytest.raises(ModelBroken, match="damaged or truncated"):
            read_header(path)


@settings(max_examples=150, deadline=None)
@given(at=st.integers(4, 400), value=st.binary(min_size=1, max_size=8))
def test_damage_is_reported_or_harmless(tmp_path_factory: pytest.TempPathFactory, at: int, value: bytes) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    content = bytearray(write_gguf(folder / "x.gguf", MODEL).read_bytes())
    content[at : at + len(value)] = value
    (folder / "x.gguf").write_bytes(content)
    try:
        read_header(folder / "x.gguf")
    except EngineError as error:
        assert "x.gguf" in str(error)


def test_parameters_are_counted_in_all_files(tmp_path: Path) -> None:
    assert read_header(write_gguf(tmp_path / "one.gguf", MODEL, weights=96)).parameters == 96
    for number in (1, 2):
        write_gguf(tmp_path / f"m-0000{number}-of-00002.gguf", MODEL | {"split.count": 2}, weights=64 * number)
    head = read_header(tmp_path / "m-00001-of-00002.gguf")
    assert head.parameters == 192 and len(head.files) == 2
