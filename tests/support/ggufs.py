"""Writes small GGUF files for tests, valid and invalid."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Any) -> bytes:
    match value:
        case bool():
            return struct.pack("<I?", 7, value)
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
        case str():
            return struct.pack("<I", 8) + _text(value)
        case [str(), *_]:
            return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_text, value))
        case list():
            return struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)
    raise AssertionError(value)


def write_gguf(path: Path, metadata: dict[str, Any], *, version: int = 3, weights: int = 64) -> Path:
    """Write a GGUF file with this metadata and one tensor of 32-bit weights. Return its path."""
    pairs = b"".join(_text(key) + _value(value) for key, value in metadata.items())
    tensor = _text("weights") + struct.pack("<IQIQ", 1, weights, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", version, 1, len(metadata)) + pairs + tensor
    path.write_bytes(head + b"\0" * (-len(head) % 32) + b"\1" * weights * 4)
    return path


MODEL: dict[str, Any] = {
    "general.architecture": "llama",
    "general.name": "A tiny model",
    "general.file_type": 15,
    "llama.context_length": 1024,
    "llama.embedding_length": 64,
    "llama.block_count": 2,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "tokenizer.ggml.tokens": ["<s>", "a", "<|end|>"],
    "tokenizer.ggml.token_type": [3, 1, 3],
}
"""The metadata of a small language model."""
