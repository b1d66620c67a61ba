"""Gemma 3 as a DiffusionGemma: the encoder predicts what the original does, and kept tokens stay what they were."""

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.checkpoints import inspect_checkpoint
from torch import Tensor

from research.conversion.__main__ import main, table
from research.conversion.calibration import attention_inputs, compare_models, ridge_regression
from research.conversion.gemma import ConversionReport, restrict_vocabulary
from research.conversion.mapping import convert_model
from research.conversion.pruning import NORMAL, WHOLE, Vocabulary, pruned_tokenizer, whole_tokenizer
from research.judging.pieces import SentencePieceTokenizer
from unwritten_engine import EngineError, Prompt, Request, open_engine
from unwritten_engine.diffusion.diffusion_gemma.random_model import END_IDS
from unwritten_engine.diffusion.diffusion_gemma.random_tokenizer import make_tokenizer
from unwritten_engine.diffusion.tokenization.detokenizer import Detokenizer
from unwritten_engine.training.checkpoints import write_checkpoint_folder

SLIDING, FULL = "sliding_attention", "full_attention"


def quiet(_share: float, _doing: str) -> None:
    """Progress that nobody looks at."""


def gemma(kinds: list[str], keys: int = 1) -> Any:
    """A small Gemma 3 with random weights; as in trained ones, embeddings have one size and something in common."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    config_class: Any = Gemma3TextConfig
    config = config_class(
        vocab_size=640,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=len(kinds),
        layer_types=kinds,
        num_attention_heads=4,
        num_key_value_heads=keys,
        head_dim=16,
        query_pre_attn_scalar=16,
        sliding_window=16,
        max_position_embeddings=256,
        rope_parameters={
            SLIDING: {"rope_type": "default", "rope_theta": 10_000.0},
            FULL: {"rope_type": "default", "rope_theta": 1_000_000.0},
        },
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made: Any = Gemma3ForCausalLM
        model = made(config).eval().requires_grad_(False)
        for name, weight in model.named_parameters():
            if "embed_tokens" in name:
                weight.normal_().add_(1.0)
                weight.mul_(1.5 / 32**0.5 / weight.square().mean(-1, keepdim=True).sqrt())
            elif weight.ndim == 2:
                weight.normal_(0.0, weight.shape[-1] ** -0.5)
            else:
                weight.normal_(0.0, 0.2)
    return model


def texts(rows: int) -> Tensor:
    ids = torch.randint(3, 640, (rows, 64), generator=torch.Generator().manual_seed(1))
    ids[:, 0] = 2
    return ids


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("keys", [1, 2])
def test_sliding_layers_are_exact_in_wide_heads_and_close_in_narrow_ones(keys: int) -> None:
    old = gemma([SLIDING, SLIDING, SLIDING, FULL], keys)
    old.model.layers[-1].self_attn.o_proj.weight.zero_()  # the last layer's attention says nothing
    wide, narrow = (
        compare_models(old, convert_model(old, texts(20), wide=wide, progress=quiet), texts(24)[20:])
        for wide in (True, False)
    )
    assert wide.divergence < 1e-6 and wide.same > 0.99
    assert wide.converted == pytest.approx(wide.original, rel=1e-3)
    assert 1e-4 < narrow.divergence < 0.1 * spread(old)


def test_full_layers_are_close() -> None:
    old = gemma([SLIDING, FULL, SLIDING, FULL])
    found = compare_models(old, convert_model(old, texts(20), wide=True, progress=quiet), texts(24)[20:])
    assert 1e-6 < found.divergence < 0.02 * spread(old)
    assert found.capped > found.divergence  # DiffusionGemma's own cap is felt


def spread(old: Any) -> float:
    """How far what a Gemma predicts is from knowing nothing, in nats."""
    logits = old(texts(4)).logits.log_softmax(-1)
    return float((logits.exp() * (logits + torch.log(torch.tensor(640.0)))).sum(-1).mean())


def test_the_measure_detects_a_broken_mapping() -> None:
    old = gemma([SLIDING, SLIDING, FULL])
    model = convert_model(old, texts(20), wide=True, progress=quiet)
    good = compare_models(old, model, texts(24)[20:]).divergence
    attention = model.model.decoder.layers[0].self_attn
    attention.q_norm.weight.mul_(4)
    assert compare_models(old, model, texts(24)[20:]).divergence > 10 * good


def test_added_parts_start_without_effect() -> None:
    old = gemma([SLIDING, FULL])
    model = convert_model(old, texts(20), wide=False, progress=quiet)
    prompt, canvas = texts(1)[:, :32], texts(2)[1:, :32]
    before = model(input_ids=prompt, decoder_input_ids=canvas).logits
    for layer in model.model.decoder.layers:
        layer.experts.down_proj.mul_(100)
    noise = torch.randn(1, 32, 640)
    after = model(input_ids=prompt, decoder_input_ids=canvas, self_conditioning_logits=noise).logits
    assert torch.equal(before, after)
    embedded = model.model.decoder.embed_tokens(canvas)
    assert embedded.square().mean(-1).sqrt() == pytest.approx(1, abs=1e-3)
    assert model.model.decoder.self_conditioning(embedded, torch.zeros_like(embedded)) == pytest.approx(
        embedded, abs=1e-3
    )


def test_ridge_without_penalty_is_least_squares() -> None:
    inputs = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    line = torch.arange(10.0).view(2, 5)
    weights = torch.ones(200)
    assert torch.allclose(ridge_regression(inputs, inputs @ line.T, weights, 1e-9), line, atol=1e-4)
    assert ridge_regression(inputs, inputs @ line.T, weights, 1e9).abs().max() < 1e-6
    weights[100:] = 0
    assert torch.allclose(
        ridge_regression(inputs, inputs @ line.T + weights[:, None] - 1, weights, 1e-9), line, atol=1e-4
    )


def test_attention_inputs_are_normalized_without_leftover_hooks() -> None:
    old = gemma([SLIDING, FULL])
    found = attention_inputs(old, texts(3), quiet)
    assert [tuple(part.shape) for part in found] == [(3, 64, 32)] * 2
    assert all(part.square().mean(-1) == pytest.approx(1, abs=1e-3) for part in found)
    assert not any(layer.input_layernorm._forward_pre_hooks for layer in old.model.layers)


def test_a_reduced_vocabulary_keeps_its_embeddings() -> None:
    old = gemma([FULL])
    whole = old(texts(1)).logits[0, 5]
    part = restrict_vocabulary(old, [5, 2, *range(600, 610)])
    assert part.lm_head.weight.shape == part.model.embed_tokens.weight.shape == (12, 32)
    assert torch.equal(part.lm_head.weight[1], part.model.embed_tokens.weight[1])
    again = gemma([FULL])
    assert torch.equal(part.lm_head.weight[0], again.lm_head.weight[5])
    assert len(whole) == 640


def vocabulary() -> Vocabulary:
    """A vocabulary as a GGUF file of Gemma has it: every letter pair of English words, and the words."""
    controls = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<unused{at}>" for at in range(100))]
    controls += ["<start_of_turn>", "<end_of_turn>"]
    wholes = ["\n" * at for at in range(1, 32)] + ["▁" * at for at in range(2, 32)] + ["<table>", "</table>", "\t"]
    octets = [f"<0x{at:02X}>" for at in range(256)]
    words = "▁the ▁lighthouse ▁keeper ▁harbor ▁of ▁stands ▁island light house keep er in ing th".split()
    merged: dict[str, None] = {}
    for word in words:
        for size in range(2, len(word) + 1):
            merged |= {
                word[at : at + size]: None for at in range(0, len(word) - size + 1, 1 if size == 2 else len(word))
            }
    more = [f"{a}{b}" for a in "bcdfghjklmnpqrstvwxyz" for b in "aeiou" if f"{a}{b}" not in merged]
    singles = ["▁", *map(chr, range(33, 127)), "é", "“"]
    normal = [*merged, *more, *singles]
    names = [*controls, *wholes, *octets, *normal]
    kinds = [3] * len(controls) + [WHOLE] * len(wholes) + [6] * 256 + [NORMAL] * len(normal)
    scores = [-1000.0] * (len(names) - len(normal)) + [-float(at) for at in range(len(normal))]
    return Vocabulary(names, kinds, scores)


TEXTS = ["the lighthouse keeper of the harbor", " the  island\n\n\nstands in light", "a\t<table>“keeping”</table> é 😀",
         "x" + " " * 40 + "\n" * 40, "<bos> is no token here"]  # fmt: skip


def test_the_tokenizer_equals_llama_cpp() -> None:
    known = vocabulary()
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.add_space_prefix": False,
        # A file has runs of blanks as they are.
        "tokenizer.ggml.tokens": [
            name.replace("▁", " ") if kind == WHOLE else name
            for name, kind in zip(known.names, known.kinds, strict=True)
        ],
        "tokenizer.ggml.token_type": known.kinds,
        "tokenizer.ggml.scores": known.scores,
    }
    assert Vocabulary.of(metadata) == known
    theirs, ours = SentencePieceTokenizer(metadata), whole_tokenizer(known)
    for text in TEXTS:
        assert ours.encode(text, add_special_tokens=False).ids == theirs.encode(text)


def test_texts_of_kept_pieces_are_decoded_exactly() -> None:
    known = vocabulary()
    whole = whole_tokenizer(known)
    tokenizer, origins = pruned_tokenizer(known, 640, TEXTS[:1])
    assert len(tokenizer) == len(origins) == 640
    assert origins[:5] == [0, 1, 2, 3, 4] and origins[105:107] == [105, 106]
    for text in TEXTS[:1] * 2 + ["the harbor the keeper", "of\n\n\n   keeper"]:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert [origins[id] for id in ids] == whole.encode(text, add_special_tokens=False).ids
    for text in TEXTS:  # others come back all the same
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    reader = Detokenizer(tokenizer, frozenset(END_IDS), 0)
    assert b"".join(map(reader.token_bytes, reader.encode(TEXTS[2]))).decode() == TEXTS[2]
    assert tokenizer.apply_chat_template([{"role": "user", "content": "the"}], tokenize=False).startswith(
        "<bos><|turn>"
    )


def test_impossible_vocabularies_are_reported() -> None:
    for size in (500, 100_000):
        with pytest.raises(EngineError, match=f"A vocabulary of {size:,} tokens cannot be made of one of"):
            pruned_tokenizer(vocabulary(), size, [])


def test_the_folder_opens_in_the_engine(tmp_path: Path) -> None:
    old = gemma([SLIDING, SLIDING, FULL])
    model = convert_model(old, texts(20), wide=False, progress=quiet)
    folder = write_checkpoint_folder(tmp_path / "converted", model, make_tokenizer(640), "---\nlicense: gemma\n---\n")
    found = inspect_checkpoint(folder)
    assert found.licence == "gemma" and found.model_config.canvas_length == 128
    assert [(layer.full_attention, layer.head_dim) for layer in found.model_config.layers] == [
        (False, 16),
        (False, 16),
        (True, 32),
    ]
    engine = open_engine("diffusion", model=str(folder), threads=1)

    async def written() -> int:
        frames = [frame async for frame in engine.generate(Request(Prompt("Say."), seed=1, max_tokens=64))]
        await engine.close()
        return frames[-1].usage.tokens if frames[-1].usage else 0

    assert asyncio.run(written()) > 0


def test_the_command_line_explains_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert main(["gemma", str(tmp_path / "full")]) == 1
    assert "is not empty" in " ".join(capsys.readouterr().err.split())
    assert main(["scratch", str(tmp_path / "new"), str(tmp_path / "none.jsonl")]) == 1
    assert "cannot be read" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(SystemExit):
        main(["else"])


def test_the_report_is_a_table() -> None:
    old = gemma([FULL])
    found = compare_models(old, convert_model(old, texts(20), wide=False, progress=quiet), texts(21)[20:])
    report = ConversionReport(Path("folder"), False, 123_456, 20_480, 640, found)
    lines = table(report).splitlines()
    assert lines[1].split(maxsplit=1) == ["parameters", "123,456, of which 20,480 are embeddings"]
    assert f"{found.divergence:.4f} nats" in lines[3]
    assert dataclasses.asdict(report)["agreement"]["tokens"] == 63
