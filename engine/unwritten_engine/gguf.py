"""Read the header of a GGUF file: metadata, tensors, and whether the file is complete. No weights are loaded.

llama.cpp reports "failed to load" for every problem with a file. Reading the header first gives precise messages.

The format (little-endian): magic "GGUF", version, number of tensors, number of metadata pairs; the pairs (name, type,
value); for each tensor its name, shape, type and offset; then, aligned, the weights.
"""

from __future__ import annotations

import math
import mmap
import re
import struct
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from .errors import ModelBroken, ModelNotFound, ModelUnsupported

_NUMBERS: Final = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_TEXT, _ARRAY = 8, 9
_MOST = 1 << 24  # larger counts of pairs, items or tensors mean that the file is damaged
_MOST_SIZES = 8  # of one tensor; llama.cpp has four
_BLOCKS: Final = {  # tensor type: (weights per block, bytes per block); others are not checked for size
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    20: (32, 18), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 30: (1, 2),
}  # fmt: skip
_QUANTIZATIONS: Final = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
    26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16",
    36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4",
}  # fmt: skip
_DIFFUSION: Final = {"dream", "llada", "llada-moe", "llada2", "rnd1"}
_NOT_WRITERS: Final = {"clip", "bert", "nomic-bert", "jina-bert-v2", "whisper", "t5encoder", "flux", "sd1", "sdxl"}


@dataclass(frozen=True, slots=True)
class GGUFHeader:
    """Metadata of a GGUF model.

    Attributes:
        path: the file.
        architecture: such as "gemma3" or "llama".
        name: the model's name, or the file name without one.
        quantization: such as "Q4_K_M"; "mixed" if unknown.
        context: maximum context of the model in tokens.
        chat_template: template of a conversation; "" for a base model.
        control_tokens: control tokens of the vocabulary, such as "<end_of_turn>", with their ids.
        end_tokens: those of them that end an answer.
        kv_bytes: bytes of one token in a 16-bit KV cache.
        weight_bytes: bytes of all files of the model.
        files: all files of the model.
        parameters: number of weights.
        metadata: all pairs except long arrays.
    """

    path: Path
    architecture: str
    name: str
    quantization: str
    context: int
    chat_template: str
    control_tokens: dict[str, int]
    end_tokens: frozenset[str]
    kv_bytes: int
    weight_bytes: int
    files: tuple[Path, ...]
    parameters: int
    metadata: dict[str, Any] = field(repr=False)

    @property
    def is_diffusion_gemma(self) -> bool:
        """True for DiffusionGemma, whose architecture name differs between llama.cpp branches."""
        return bool(re.fullmatch(r"diffusion[-_]?gemma\w*", self.architecture))


@dataclass(frozen=True, slots=True)
class GGUFTensor:
    """Location of a tensor's weights in a file.

    Attributes:
        shape: sizes, outermost first (the file stores them in reverse).
        kind: type number of the format, such as 0 for F32 and 8 for Q8_0.
        start: byte offset in the file.
        size: bytes; 0 for an unknown type.
    """

    shape: tuple[int, ...]
    kind: int
    start: int
    size: int


class _Cursor:
    """Reads consecutive values from a memory-mapped file."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 0

    def number(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def count(self) -> int:
        value: int = self.number("<Q")
        if value > _MOST:
            raise ValueError(f"a count of {value}")
        return value

    def text(self) -> str:
        size = self.count()
        raw = self.data[self.at : self.at + size]
        if len(raw) < size:
            raise struct.error("the text is cut off")
        self.at += size
        return raw.decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind == _TEXT:
            return self.text()
        if kind == _ARRAY:
            return self.array()
        return self.number(_NUMBERS[kind])

    def array(self) -> list[Any]:
        kind, size = self.number("<I"), self.count()
        if kind in _NUMBERS:
            form = f"<{size}{_NUMBERS[kind][1]}"
            values = struct.unpack_from(form, self.data, self.at)
            self.at += struct.calcsize(form)
            return list(values)
        return [self.value(kind) for _ in range(size)]


def read_header(path: str | Path) -> GGUFHeader:
    """Read the header of a GGUF file, and check that it is complete and a text-generating model.

    Raises:
        ModelNotFound: the file, or a part of a split model, does not exist.
        ModelBroken: not a GGUF file, truncated, or damaged.
        ModelUnsupported: a kind of model that llama.cpp cannot use for generation.
    """
    path = Path(path)
    metadata, tensors = read_contents(path)
    try:
        _refuse_other_kinds(path, metadata)
        return _make_header(path, metadata, tensors)
    except (TypeError, ValueError, OverflowError, AttributeError) as error:  # a text or a list instead of a number
        raise ModelBroken(f"{path} is damaged: its metadata is not valid ({error}). {_AGAIN}") from error


def read_contents(path: Path) -> tuple[dict[str, Any], dict[str, GGUFTensor]]:
    """Return all metadata of a GGUF file of any kind, including long arrays, and its tensors by name.

    Raises:
        ModelNotFound: the file does not exist.
        ModelBroken: not a GGUF file, truncated, or damaged.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size < 24:
                raise ModelBroken(f"{path} is not a model: it has only {size} bytes. {_AGAIN}")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                metadata, tensors = _read(path, data)
    except (FileNotFoundError, IsADirectoryError):
        raise ModelNotFound(f"There is no model file at {path}. Check the path; it should end in .gguf.") from None
    except PermissionError:
        raise ModelNotFound(f"The model file {path} is not readable. Change its permissions.") from None
    end = max((tensor.start + tensor.size for tensor in tensors.values()), default=0)
    if size < end:
        raise ModelBroken(f"{path} is truncated: it should have at least {end:,} bytes and has {size:,}. {_AGAIN}")
    return metadata, tensors


_AGAIN = "Download it again."


def _read(path: Path, data: mmap.mmap) -> tuple[dict[str, Any], dict[str, GGUFTensor]]:
    if data[:4] != b"GGUF":
        hint = " It looks like a web page." if data[:256].lstrip()[:1] == b"<" else ""
        raise ModelBroken(f"{path} is not a GGUF file: it does not begin with 'GGUF'.{hint} {_AGAIN}")
    cursor = _Cursor(data)
    cursor.at = 4
    version = cursor.number("<I")
    if version not in (2, 3):
        raise ModelUnsupported(f"{path} has GGUF version {version}; versions 2 and 3 are supported.")
    try:
        tensors, pairs = cursor.count(), cursor.count()
        metadata = {}
        for _ in range(pairs):
            name = cursor.text()
            metadata[name] = cursor.value(cursor.number("<I"))
        infos = dict(_tensor(cursor) for _ in range(tensors))
        alignment = metadata.get("general.alignment", 32) or 32
        if not isinstance(alignment, int) or alignment < 0:
            raise ValueError(f"an alignment of {alignment!r:.20}")
    except (struct.error, ValueError, KeyError, OverflowError, MemoryError, RecursionError) as error:
        raise ModelBroken(f"{path} is damaged or truncated in its header ({error}). {_AGAIN}") from error
    start = -(-cursor.at // alignment) * alignment
    return metadata, {name: replace(tensor, start=start + tensor.start) for name, tensor in infos.items()}


def _tensor(cursor: _Cursor) -> tuple[str, GGUFTensor]:
    """Return a tensor's name and its location relative to the first weight."""
    name = cursor.text()
    num_sizes = cursor.number("<I")
    if num_sizes > _MOST_SIZES:
        raise ValueError(f"a tensor with {num_sizes} sizes")
    sizes = [int(cursor.number("<Q")) for _ in range(num_sizes)]
    kind, offset = int(cursor.number("<I")), int(cursor.number("<Q"))
    per_block, block_bytes = _BLOCKS.get(kind, (1, 0))
    return name, GGUFTensor(tuple(reversed(sizes)), kind, offset, math.prod(sizes) // per_block * block_bytes)


def _refuse_other_kinds(path: Path, metadata: dict[str, Any]) -> None:
    architecture = str(metadata.get("general.architecture", ""))
    kind = str(metadata.get("general.type", "model"))
    if not architecture:
        raise ModelBroken(f"{path} does not name its architecture. {_AGAIN}")
    if architecture in _DIFFUSION:
        raise ModelUnsupported(
            f"{path} is a text-diffusion model (architecture {architecture!r}), which llama.cpp cannot use for "
            f"generation yet. Use a GGUF file of an ordinary language model, or 'embedded' for the built-in one."
        )
    if kind != "model" or architecture in _NOT_WRITERS:
        raise ModelUnsupported(
            f"{path} does not generate text: it has the type {kind!r} and the architecture {architecture!r}. "
            f"Use the GGUF file of the language model itself."
        )
    parts = int(metadata.get("split.count", 0))
    for part in _parts(path, parts):
        if not part.exists():
            raise ModelNotFound(f"The model is split into {parts} files, and {part} is missing. Download it too.")


def _parts(path: Path, count: int) -> list[Path]:
    """Return all files of a split model."""
    match = re.fullmatch(r"(.+)-\d{5}-of-(\d{5})\.gguf", path.name)
    if count < 2 or not match:
        return [path]
    count = min(count, int(match[2]))  # a damaged count may be any number
    return [path.with_name(f"{match[1]}-{number:05}-of-{match[2]}.gguf") for number in range(1, count + 1)]


def _count_weights(tensors: dict[str, GGUFTensor]) -> int:
    return sum(math.prod(tensor.shape) for tensor in tensors.values())


def _is_control(token: str) -> bool:
    """True if a token added to the vocabulary is a marker such as <start_of_image>: no space, no HTML tag."""
    return token[:1] in ("<", "[") and len(token) > 2 and not re.fullmatch(r"</?[a-z]+\d?>", token)


_ENDS: Final = re.compile(r"eo[stm]|end|stop|return|call|flush|/s>|turn\|>|sep", re.IGNORECASE)
_INNER_ENDS: Final = re.compile(r"image|audio|video|vision|think|header", re.IGNORECASE)


def _end_tokens(control_tokens: dict[str, int], metadata: dict[str, Any]) -> frozenset[str]:
    """Return the control tokens that may end an answer.

    Like llama.cpp, it also recognizes them by their texts. One too many does little harm; without its own a model could
    not stop.
    """
    named = {value for key, value in metadata.items() if re.fullmatch(r"tokenizer\.ggml\.eo[stm]_token_id", key)}
    return frozenset(
        token
        for token, number in control_tokens.items()
        if number in named or (_ENDS.search(token) and not _INNER_ENDS.search(token))
    )


def _make_header(path: Path, metadata: dict[str, Any], tensors: dict[str, GGUFTensor]) -> GGUFHeader:
    architecture = str(metadata["general.architecture"])

    def number(key: str, default: int) -> int:
        value = metadata.get(f"{architecture}.{key}", default)
        return int(max(value) if isinstance(value, list) else value)

    heads = number("attention.head_count", 1) or 1
    width = number("embedding_length", 0) // heads
    kv_heads = number("attention.head_count_kv", heads)
    per_layer = number("attention.key_length", width) + number("attention.value_length", width)
    files = tuple(_parts(path, int(metadata.get("split.count", 0))))
    tokens = metadata.get("tokenizer.ggml.tokens", [])
    kinds = metadata.get("tokenizer.ggml.token_type", [])
    control_tokens = {
        token: number
        for number, (token, kind) in enumerate(zip(tokens, kinds, strict=False))
        if kind == 3 or (kind == 4 and _is_control(token))
    }
    return GGUFHeader(
        path=path,
        architecture=architecture,
        name=str(metadata.get("general.name") or path.stem),
        quantization=_QUANTIZATIONS.get(metadata.get("general.file_type", -1), "mixed"),
        context=number("context_length", 2048),
        chat_template=str(metadata.get("tokenizer.chat_template") or ""),
        control_tokens=control_tokens,
        end_tokens=_end_tokens(control_tokens, metadata),
        kv_bytes=number("block_count", 0) * kv_heads * per_layer * 2,
        weight_bytes=sum(part.stat().st_size for part in files),
        files=files,
        parameters=_count_weights(tensors)
        + sum(_count_weights(read_contents(file)[1]) for file in files if file != path),
        metadata={key: value for key, value in metadata.items() if not isinstance(value, list) or len(value) < 64},
    )
