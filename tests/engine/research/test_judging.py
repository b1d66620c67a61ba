"""The judge: its tokens, its weights, and what it says of a text, against transformers and llama.cpp."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, quantize

from research.judging.gemma import load_gemma
from research.judging.judge import Judge, Surprisal, open_judge
from research.judging.pieces import SentencePieceTokenizer
from unwritten_engine.errors import ModelBroken, ModelUnsupported
from unwritten_engine.llamacpp.embedded import embedded_file

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
MADE = "▁t he ▁the er aa aaa".split()  # the best first
LETTERS = list("▁thera")
TOKENS = ["<pad>", "<eos>", "<bos>", "<unk>", "\n\n", *BYTES, *MADE, *LETTERS]
VOCABULARY: dict[str, Any] = {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.add_space_prefix": False,
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.token_type": [3, 3, 3, 3, 4, *[6] * 256, *[1] * (len(MADE) + len(LETTERS))],
    "tokenizer.ggml.scores": [*[-1000.0] * 261, *(-float(at) for at in range(len(MADE) + len(LETTERS)))],
}
NAMES = {
    "embed_tokens": "token_embd",
    "norm": "output_norm",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_feedforward_layernorm": "post_ffw_norm",
}


def small_gemma() -> Any:
    """A random Gemma 3 of six layers, the last with full attention."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    make: Any = Gemma3TextConfig
    config = make(
        vocab_size=len(TOKENS),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=6,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        query_pre_attn_scalar=32,
        max_position_embeddings=256,
        sliding_window=8,
        bos_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model: Any = Gemma3ForCausalLM(config)
        for weight in model.parameters():
            weight.data.normal_(0.0, 0.3)
    return model.eval().requires_grad_(False)


def write(path: Path, model: Any, *, kind: str = "gemma3", without: str = "", lacks: str = "") -> Path:
    """A model as llama.cpp keeps one: norms as what they multiply with, the table of tokens in 8 bits."""
    writer = GGUFWriter(path, kind)
    config = model.config
    for name, value in {
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "block_count": config.num_hidden_layers,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": config.head_dim,
        "attention.sliding_window": config.sliding_window,
        "context_length": config.max_position_embeddings,
    }.items():
        if name != lacks:
            writer.add_uint32(f"gemma3.{name}", value)
    writer.add_float32("gemma3.attention.layer_norm_rms_epsilon", config.rms_norm_eps)
    writer.add_float32("gemma3.rope.freq_base", 1e6)
    for name, at in (("bos", 2), ("eos", 1), ("padding", 0)):
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", at)
    writer.add_string("tokenizer.ggml.model", "llama")
    writer.add_bool("tokenizer.ggml.add_space_prefix", False)
    for name in ("tokens", "token_type", "scores"):
        writer.add_array(f"tokenizer.ggml.{name}", VOCABULARY[f"tokenizer.ggml.{name}"])
    for name, weight in model.model.named_parameters():
        parts = name.removesuffix(".weight").split(".", 2)
        ours = f"blk.{parts[1]}.{NAMES[parts[2]]}" if parts[0] == "layers" else NAMES[parts[0]]
        if ours == without:
            continue
        numbers = weight.numpy() + np.float32(1 if weight.ndim == 1 else 0)
        stored = GGMLQuantizationType.Q8_0 if ours == "token_embd" else GGMLQuantizationType.F32
        writer.add_tensor(f"{ours}.weight", quantize(numbers, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        (" the", ["▁the"]),
        ("ther", ["t", "he", "r"]),  # he is better than er
        ("er the", ["er", "▁the"]),
        ("aaaa", ["aa", "aa"]),  # from the left
        ("aaa", ["aaa"]),
        ("t\n\n\nt", ["t", "\n\n", "<0x0A>", "t"]),
        ("é<eos>", ["<0xC3>", "<0xA9>", "<0x3C>", "e", "<0x6F>", "<0x73>", "<0x3E>"]),
    ],
)
def test_the_best_pairs_merge_first(text: str, pieces: list[str]) -> None:
    assert [TOKENS[at] for at in SentencePieceTokenizer(VOCABULARY).encode(text)] == pieces


def test_a_vocabulary_of_another_kind_is_refused() -> None:
    with pytest.raises(ModelUnsupported, match="of the kind 'gpt2'"):
        SentencePieceTokenizer({**VOCABULARY, "tokenizer.ggml.model": "gpt2"})


def test_a_model_is_read_as_it_was_written(tmp_path: Path) -> None:
    model = small_gemma()
    loaded, tokenize = load_gemma(write(tmp_path / "small.gguf", model))
    assert loaded.config.layer_types == ["sliding_attention"] * 5 + ["full_attention"]
    table = loaded.model.embed_tokens.weight
    assert 0 < (table - model.model.embed_tokens.weight).abs().max() < 0.02  # 8 bits
    model.model.embed_tokens.weight.copy_(table)
    ids = torch.tensor([[2, *tokenize("the her\n\nthe " * 6)]])
    assert ids.shape[1] > 3 * model.config.sliding_window
    assert torch.allclose(loaded(ids).logits, model(ids).logits, atol=1e-4)


def test_files_that_are_no_judge_are_told(tmp_path: Path) -> None:
    model = small_gemma()
    with pytest.raises(ModelUnsupported, match=r"has the architecture 'llama'. Give a GGUF file of Gemma 3"):
        load_gemma(write(tmp_path / "other.gguf", model, kind="llama"))
    with pytest.raises(ModelBroken, match=r"model.layers.3.mlp.up_proj.weight is wrong"):
        load_gemma(write(tmp_path / "part.gguf", model, without="blk.3.ffn_up"))
    with pytest.raises(ModelBroken, match=r"does not say its gemma3.block_count"):
        load_gemma(write(tmp_path / "mute.gguf", model, lacks="block_count"))


def test_the_judge_agrees_with_the_loss_of_transformers() -> None:
    model, tokenize = small_gemma(), SentencePieceTokenizer(VOCABULARY).encode
    pairs = [("the", " her the"), ("", "t"), ("her her her", ""), ("a\n\n", "there é " * 9), ("t", " the" * 200)]
    told: list[float] = []
    found = Judge(model, tokenize, 2).surprisals(pairs, batch=2, progress=lambda share, doing: told.append(share))
    for (context, text), surprise in zip(pairs, found, strict=True):
        before, ids = [2, *tokenize(context)], tokenize(text)
        assert surprise.tokens == len(ids)
        if ids:
            labels = torch.tensor([[-100] * len(before) + ids])
            loss = model(torch.tensor([before + ids]), labels=labels).loss
            assert surprise.nats == pytest.approx(float(loss) * len(ids), rel=1e-4)
    assert (found[2].nats, found[2].perplexity) == (0.0, None)
    assert told == [0.0, 0.4, 0.8]


def test_surprisal_is_summed_over_tokens() -> None:
    whole = Surprisal(4 * math.log(2), 4) + Surprisal(math.log(64), 1)
    assert whole.perplexity == pytest.approx(4.0)


@pytest.mark.model
def test_the_real_judge_agrees_with_llamacpp() -> None:
    runtime: Any = importlib.import_module("xllamacpp")
    params = runtime.CommonParams()
    params.model.path = str(embedded_file(lambda share, doing: None))
    params.n_ctx, params.n_parallel, params.verbosity, params.warmup = 256, 1, -1, False
    params.cpuparams.n_threads = 2
    server = runtime.Server(params)
    context = "An encyclopedia article about Lighthouse.\n\n**Lighthouse**"
    call = {"prompt": context, "max_tokens": 32, "temperature": 0, "logprobs": 1, "stream": False}
    answers: list[Any] = []
    server.handle_completions(call, answers.append)
    choice = answers[0]["choices"][0]
    theirs = [token["logprob"] for token in choice["logprobs"]["content"]]
    del server
    judge = open_judge()
    greedy, gibberish = judge.surprisals([(context, choice["text"]), (context, " lamp the of of tower 7 blue if")])
    assert greedy.tokens == len(theirs) == 32
    assert -greedy.nats / 32 == pytest.approx(sum(theirs) / 32, rel=0.05)
    assert greedy.perplexity is not None and gibberish.perplexity is not None
    assert gibberish.perplexity > 20 * greedy.perplexity
