"""Families: the choice by ``config.json``, what is refused, and that the shared modules run an unknown family."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.checkpoints import edit_config, quiet
from torch import Tensor

from unwritten_engine.diffusion import families
from unwritten_engine.diffusion.diffusion_gemma.family import DIFFUSION_GEMMA
from unwritten_engine.diffusion.diffusion_gemma.random_model import write_checkpoint
from unwritten_engine.diffusion.diffusion_gemma.random_tokenizer import make_tokenizer
from unwritten_engine.diffusion.families import find_family, inspect_checkpoint
from unwritten_engine.diffusion.lfm2.random_model import write_checkpoint as write_lfm2
from unwritten_engine.diffusion.lfm2.random_tokenizer import make_tokenizer as make_lfm2_tokenizer
from unwritten_engine.diffusion.loader import load_model, load_tokenizer
from unwritten_engine.diffusion.loading.checkpoint import Checkpoint
from unwritten_engine.diffusion.loop import DenoisingLoop
from unwritten_engine.diffusion.model_runner import ModelRunner
from unwritten_engine.diffusion.prefix_cache import Snapshot
from unwritten_engine.diffusion.random_numbers import RequestRandom
from unwritten_engine.diffusion.sequence import Sequence as TextSequence
from unwritten_engine.diffusion.step_rows import StepChoice, StepRows
from unwritten_engine.diffusion.token_chunk import TokenChunk
from unwritten_engine.diffusion.tokenization.canvas_plan import CanvasPlan
from unwritten_engine.diffusion.tokenization.detokenizer import Detokenizer
from unwritten_engine.diffusion.tokenization.prompt_tokenizer import TokenizedPrompt
from unwritten_engine.errors import BadOption, ModelBroken, ModelUnsupported
from unwritten_engine.frames import Priority
from unwritten_engine.training.runs import load_trainable, read_tokenizer

CPU = torch.device("cpu")
NAMES = ("DiffusionGemmaForBlockDiffusion", "google/diffusiongemma-26B-A4B-it")


_Family: Any = type(DIFFUSION_GEMMA)


class Other(_Family):  # type: ignore[misc]
    """Another family, whose checkpoints are like those of DiffusionGemma."""

    name = "Other"
    architectures = ("OtherForBlockDiffusion",)
    model_types = ("other",)
    example = "someone/other"
    random = "random-other"

    def inspect(self, folder: Path, config: Mapping[str, Any], name: str) -> Checkpoint:
        found: Checkpoint = super().inspect(folder, config, name)
        return replace(found, memory=replace(found.memory, kinds=("bf16", "int8")))


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(families, "FAMILIES", (DIFFUSION_GEMMA, Other()))
    folder = write_checkpoint(tmp_path / "other", layers=2)
    edit_config(folder, architectures=["OtherForBlockDiffusion"])
    return folder


@pytest.mark.parametrize(
    "config",
    [
        {"architectures": ["DiffusionGemmaForBlockDiffusion"]},
        {"architectures": ["Wrapper", "DiffusionGemmaForBlockDiffusion"], "model_type": "wrapper"},
        {"architectures": "DiffusionGemmaForBlockDiffusion"},
        {"model_type": "diffusion_gemma"},
        {"architectures": None, "model_type": "diffusion_gemma"},
    ],
)
def test_a_family_is_found(config: dict[str, Any]) -> None:
    assert find_family(config, "small") is DIFFUSION_GEMMA


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"model_type": "dream"},
        {"architectures": "Dream"},
        {"architectures": [["DiffusionGemmaForBlockDiffusion"]]},
        {"architectures": ["DreamModel"], "model_type": "diffusion_gemma"},
        {"architectures": ["LlamaForCausalLM"]},
    ],
)
def test_an_unknown_architecture_is_refused_with_those_that_are_supported(other: Path, config: dict[str, Any]) -> None:
    with pytest.raises(ModelUnsupported) as caught:
        find_family(config, "small")
    for name in (*NAMES, "OtherForBlockDiffusion", "someone/other"):
        assert name in str(caught.value)


def test_each_checkpoint_gets_its_family(other: Path) -> None:
    family, found = inspect_checkpoint(other)
    assert family.name == "Other" and found.name == "other"
    loaded = load_model(str(other), device="cpu", quantize="int8", dtype=None, budget_bytes=None, progress=quiet)
    assert loaded.family is family and loaded.quantization == "int8"


def test_a_weight_format_of_another_family_is_refused(other: Path) -> None:
    with pytest.raises(BadOption, match=r"'nf4'; for .*other, give 'none' or 'int8'"):
        load_model(str(other), device="cpu", quantize="nf4", dtype=None, budget_bytes=None, progress=quiet)


def test_the_training_refuses_other_families(other: Path) -> None:
    for read in (read_tokenizer, lambda folder: load_trainable(folder, "cpu")):
        with pytest.raises(ModelUnsupported, match=r"other is of the family Other; .* DiffusionGemma only"):
            read(other)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("eos_token_id", []),
        ("eos_token_id", "7"),
        ("eos_token_id", [1, None]),
        ("eos_token_id", 1024),
        ("eos_token_id", -1),
        ("eos_token_id", True),
        ("eos_token_id", {}),
        ("pad_token_id", "x"),
        ("pad_token_id", [0]),
        ("pad_token_id", 1024),
        ("pad_token_id", -1),
    ],
)
@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_ends_and_padding_are_tokens_of_the_model(tmp_path: Path, file: str, key: str, value: Any) -> None:
    """The model could not end, or requests would fail at a place that is not there."""
    for write, tokenizer in ((write_checkpoint, make_tokenizer), (write_lfm2, make_lfm2_tokenizer)):
        folder = write(tmp_path / write.__module__, layers=2)
        tokenizer(1024).save_pretrained(folder)
        (folder / "generation_config.json").unlink()
        edit_config(folder, eos_token_id=None, pad_token_id=None)
        content = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
        (folder / file).write_text(json.dumps(content | {key: value}))
        with pytest.raises(ModelBroken) as raised:
            inspect_checkpoint(folder)
        assert f"has the invalid value {value!r} for {key!r}" in str(raised.value)


@pytest.mark.parametrize(
    ("file", "content", "error", "message"),
    [
        ("tokenizer.json", "{", ModelBroken, "The tokenizer of other cannot be read"),
        ("chat_template.jinja", "{% if %}", ModelUnsupported, "The chat template of other fails"),
        ("chat_template.jinja", "{{ raise_exception('no') }}", ModelUnsupported, r"fails \(no\)"),
        ("chat_template.jinja", "{# nothing #}", ModelUnsupported, "leaves the request out"),
    ],
)
def test_a_damaged_tokenizer_is_found_when_it_is_loaded(
    other: Path, file: str, content: str, error: type[Exception], message: str
) -> None:
    (other / file).write_text(content)
    with pytest.raises(error, match=message):
        load_tokenizer(inspect_checkpoint(other)[1])


class CountingCache:
    """Keeps the sum and the number of the tokens of each row."""

    context, block_length = 256, 8

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.sums = torch.zeros((rows, 2), dtype=torch.int64)

    @property
    def nbytes(self) -> int:
        return self.sums.nbytes

    def save(self, row: int, tokens: Sequence[Hashable]) -> Snapshot:
        assert self.sums[row, 1] == len(tokens)
        return Snapshot(tuple(tokens), (self.sums[row].clone(),))

    def load(self, row: int, snapshot: Snapshot) -> None:
        self.sums[row] = snapshot.tensors[0]

    def move(self, source: int, target: int, length: int) -> None:
        assert self.sums[source, 1] == length
        self.sums[target] = self.sums[source]


class Counting:
    """A model without layers."""

    device = CPU

    def __init__(self, rows: int) -> None:
        self.cache = CountingCache(rows)

    def encode(self, *chunks: TokenChunk) -> None:
        for chunk in chunks:
            if chunk.start == 0:
                self.cache.sums[chunk.row] = 0
            self.cache.sums[chunk.row] += torch.tensor([int(chunk.ids.sum()), len(chunk.ids)])

    def embed_images(self, images: object) -> tuple[Tensor, Tensor]:
        raise AssertionError


@dataclass(frozen=True)
class Steps:
    """Parameters of a request."""

    steps: int = 6


class CountingRule:
    """Every token depends on the cache, on the last tokens and on a state of its own. It never finishes early."""

    vocabulary = 1024

    def __init__(self, model: Counting) -> None:
        self._model = model
        self.state = [torch.zeros((model.cache.rows, 8), dtype=torch.int64)]

    def begin(self, row: int, params: Steps, strength: float) -> tuple[int, int]:
        self.state[0][row] = 0
        return max(1, round(params.steps * strength)), params.steps

    def step(self, rows: StepRows) -> StepChoice:
        count = len(rows.tokens)
        state = self.state[0][:count]
        fresh = rows.random_tokens(RequestRandom.RENOISE, 400)
        tokens = 600 + (fresh + state + rows.tokens + self._model.cache.sums[:count, :1]) % 400
        entropy = torch.ones(tokens.shape)
        return StepChoice(best=tokens, tokens=tokens, entropy=entropy, updates=((state, state + tokens % 7),))


def counting_loop(rows: int, **options: Any) -> DenoisingLoop:
    model = Counting(rows)
    return DenoisingLoop(ModelRunner(model, CountingRule(model)), prefix_cache_bytes=10**6, **options)


def counting_run(number: int, priority: Priority = Priority.CLICK) -> TextSequence:
    reader = Detokenizer(make_tokenizer(1024), frozenset({1}), 0, 1024)
    ids = tuple(range(600, 620 + number))
    pins = tuple(700 + at if at % 5 == 0 else -1 for at in range(24))
    plan = CanvasPlan(3, 8, 8, 24, reader, pins=pins)
    return TextSequence(TokenizedPrompt(ids, ids, 0), plan, Steps(4 + number), number, priority)


def generate(loop: DenoisingLoop, *runs: TextSequence) -> list[list[int]]:
    for _ in loop.generate(runs):
        pass
    assert all(run.error is None for run in runs), [run.error for run in runs]
    return [run.output_ids for run in runs]


@pytest.mark.parametrize("run_ahead", [False, True])
def test_the_shared_loop_runs_another_family(run_ahead: bool) -> None:
    alone = [generate(counting_loop(1, run_ahead=run_ahead), counting_run(number))[0] for number in range(5)]
    assert len({tuple(ids) for ids in alone}) == 5
    for ids in alone:
        assert len(ids) == 24 and [ids[at] for at in range(0, 24, 5)] == [700 + at for at in range(0, 24, 5)]
    runs = [counting_run(number) for number in range(5)]
    assert generate(counting_loop(3, run_ahead=run_ahead), *runs) == alone
    assert [run.steps for run in runs] == [3 * (4 + number) for number in range(5)]


def test_state_of_another_family_survives_a_preemption() -> None:
    alone = generate(counting_loop(1), counting_run(3))[0]
    loop, ahead = counting_loop(1), counting_run(3, Priority.PREFETCH)
    loop.add(ahead)
    for _ in range(3):
        loop.step()
    assert generate(loop, counting_run(1))[0] and ahead.output_ids == alone
