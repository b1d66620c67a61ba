"""Small random models and their tokenizer: whole checkpoints, the same every time, in the format of the real ones."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.checkpoints import inspect_checkpoint, read_head

from unwritten_engine.diffusion.diffusion_gemma.random_model import (
    END_IDS,
    random_config,
    random_model,
    write_checkpoint,
)
from unwritten_engine.diffusion.diffusion_gemma.random_tokenizer import MIN_VOCAB_SIZE, control_ids, make_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer(1024)


def test_every_id_has_its_own_piece(tokenizer: Any) -> None:
    assert len(tokenizer) == 1024
    assert len(set(tokenizer.convert_ids_to_tokens(range(1024)))) == 1024


def test_control_tokens_have_the_real_ids() -> None:
    for vocabulary in (MIN_VOCAB_SIZE, 262_144):
        ids = control_ids(vocabulary)
        assert [ids[name] for name in ("<pad>", "<eos>", "<bos>", "<unk>", "<|turn>", "<turn|>")] == [
            0,
            1,
            2,
            3,
            105,
            106,
        ]
        assert [ids[name] for name in ("<|channel>", "<channel|>", "<|think|>")] == [100, 101, 98]
    assert [ids[name] for name in ("<|image>", "<|image|>", "<image|>")] == [255_999, 258_880, 258_882]


def test_the_tokenizer_round_trips_any_text(tokenizer: Any) -> None:
    for text in ("the city of water", "wörld, été 😀\n\n  two", '{"a": [1, 2.5, null]}', "\ttab  and   spaces "):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text


def test_common_words_are_one_token_and_rare_characters_are_bytes(tokenizer: Any) -> None:
    assert tokenizer.tokenize(" city garden") == ["▁city", "▁garden"]
    assert tokenizer.tokenize("😀") == ["<0xF0>", "<0x9F>", "<0x98>", "<0x80>"]


def test_the_chat_format_is_that_of_gemma_4(tokenizer: Any) -> None:
    messages = [{"role": "system", "content": "You write. "}, {"role": "user", "content": "Now."}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == "<bos><|turn>system\nYou write.<turn|>\n<|turn>user\nNow.<turn|>\n<|turn>model\n"
    more = [*messages, {"role": "assistant", "content": "Done."}]
    assert tokenizer.apply_chat_template(more, tokenize=False).endswith("<|turn>model\nDone.<turn|>\n")


def test_thinking_is_requested_in_the_system_prompt(tokenizer: Any) -> None:
    options: dict[str, Any] = {"tokenize": False, "enable_thinking": True}
    user = {"role": "user", "content": "Now."}
    alone = tokenizer.apply_chat_template([user], **options)
    assert alone == "<bos><|turn>system\n<|think|>\n<turn|>\n<|turn>user\nNow.<turn|>\n"
    both = tokenizer.apply_chat_template([{"role": "system", "content": "You write."}, user], **options)
    assert both.startswith("<bos><|turn>system\n<|think|>\nYou write.<turn|>\n")


def test_pictures_leave_a_mark_in_the_prompt(tokenizer: Any) -> None:
    content = [{"type": "image"}, {"type": "text", "text": "What is it?"}]
    assert "user\n<|image|>What is it?<turn|>" in tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False
    )


def test_a_vocabulary_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="smallest has 640"):
        make_tokenizer(512)


def test_a_seed_gives_the_same_model_and_keeps_the_global_generator() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one, _ = random_model(layers=2, seed=3)
    assert torch.equal(before, torch.get_rng_state())
    two, _ = random_model(layers=2, seed=3)
    other, _ = random_model(layers=2, seed=4)
    weight = "model.decoder.layers.0.experts.down_proj"
    assert torch.equal(one.get_parameter(weight), two.get_parameter(weight))
    assert not torch.equal(one.get_parameter(weight), other.get_parameter(weight))


def test_layers_alternate_and_the_last_has_full_attention() -> None:
    types = random_config(layers=8).text_config.layer_types
    assert [at for at, kind in enumerate(types) if kind == "full_attention"] == [5, 7]


def test_logits_have_the_requested_spread() -> None:
    for spread in (0.5, 4.0):
        model, _ = random_model(spread=spread, layers=2)
        with torch.no_grad():
            canvas = torch.arange(32)[None] + 500
            logits = model(input_ids=torch.arange(20)[None] + 600, decoder_input_ids=canvas).logits
        assert logits.std() == pytest.approx(spread, rel=0.2)


def test_a_folder_is_a_whole_checkpoint(tmp_path: Path) -> None:
    from transformers import DiffusionGemmaForBlockDiffusion

    model, _ = random_model(layers=2)
    folder = write_checkpoint(tmp_path / "small", layers=2)
    loaded = DiffusionGemmaForBlockDiffusion.from_pretrained(folder)
    assert loaded.generation_config.eos_token_id == list(END_IDS)
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[key]), key
    assert not inspect_checkpoint(folder).vision


def test_a_deep_model_is_a_checkpoint(tmp_path: Path) -> None:
    found = inspect_checkpoint(write_checkpoint(tmp_path, layers=12, vocabulary=MIN_VOCAB_SIZE, hidden=32))
    assert [
        at for at, layer in enumerate(found.model_config.layers) if layer.full_attention and layer.head_dim == 16
    ] == [5, 11]


def test_shards_are_written_on_request(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, layers=2, shard_bytes=300_000)
    files = sorted(folder.glob("model-*.safetensors"))
    assert len(files) > 1
    assert sum(len(read_head(file)) - 1 for file in files) == len(inspect_checkpoint(folder).tensors)


def test_vision_is_a_tower_and_its_processor(tmp_path: Path) -> None:
    found = inspect_checkpoint(write_checkpoint(tmp_path, layers=2, vision=True))
    assert found.vision
    assert found.counts.vision > inspect_checkpoint(write_checkpoint(tmp_path / "blind", layers=2)).counts.vision


def test_the_real_vocabulary_is_built_in_seconds() -> None:
    begin = time.process_time()
    model, tokenizer = random_model(vocabulary=262_144, layers=1)
    assert time.process_time() - begin < 20  # 5 on an idle machine
    assert len(tokenizer) == model.lm_head.weight.shape[0] == 262_144
    words = tokenizer.decode(range(200_000, 200_040))
    assert words.replace(" ", "").isalpha()
    assert 5 < words.count(" ") < 40


def test_a_model_that_prefers_words_writes_only_words() -> None:
    model, tokenizer = random_model(words=True, layers=2, vocabulary=2048)
    with torch.no_grad():
        canvas = torch.arange(32)[None] + 500
        logits = model(input_ids=torch.arange(20)[None] + 600, decoder_input_ids=canvas).logits
    for name in tokenizer.convert_ids_to_tokens(logits.argmax(-1)[0].tolist()):
        assert name.startswith("▁") and name[1:].isalpha()
