"""Pictures in prompts: cut, marked, seen; and what is no picture."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.support.checkpoints import quiet

from unwritten_engine.diffusion.diffusion_gemma.image_processor import load_processor
from unwritten_engine.diffusion.diffusion_gemma.kv_cache import KVCache
from unwritten_engine.diffusion.diffusion_gemma.layers import DiffusionGemmaLayers
from unwritten_engine.diffusion.diffusion_gemma.random_model import write_checkpoint
from unwritten_engine.diffusion.diffusion_gemma.sampling_params import SamplingParams
from unwritten_engine.diffusion.loader import LoadedModel, load_model
from unwritten_engine.diffusion.loop import DenoisingLoop
from unwritten_engine.diffusion.model_runner import ModelRunner
from unwritten_engine.diffusion.sequence import Sequence
from unwritten_engine.diffusion.tokenization.canvas_plan import CanvasPlan
from unwritten_engine.diffusion.tokenization.detokenizer import Detokenizer
from unwritten_engine.diffusion.tokenization.image_processor import ImageProcessor
from unwritten_engine.diffusion.tokenization.prompt_tokenizer import PromptTokenizer, TokenizedPrompt
from unwritten_engine.errors import RequestRefused
from unwritten_engine.frames import Priority, Prompt


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = write_checkpoint(tmp_path_factory.mktemp("models") / "seeing", layers=2, vision=True)
    return load_model(str(folder), device="cpu", quantize="none", dtype=None, budget_bytes=None, progress=quiet)


def picture(size: tuple[int, int] = (64, 48), color: str = "red", form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, color).save(stream, form)
    return stream.getvalue()


def prompt(loaded: LoadedModel, pictures: int) -> str:
    content = [{"type": "image"}] * pictures + [{"type": "text", "text": "What is it?"}]
    text: str = loaded.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    return text


def processor(loaded: LoadedModel) -> ImageProcessor:
    found, _ = load_processor(loaded.checkpoint, loaded.tokenizer)
    assert found is not None
    return found


def test_marks_replace_the_pictures(loaded: LoadedModel) -> None:
    seen = processor(loaded).process(prompt(loaded, 2), [picture(), picture((48, 64), form="JPEG")])
    ids = seen.input_ids[0]
    image = loaded.model.config.image_token_id
    assert (ids == image).sum() == seen.mm_token_type_ids.sum() > 0
    assert (ids == loaded.model.config.boi_token_id).sum() == (ids == loaded.model.config.eoi_token_id).sum() == 2
    assert len(seen.pixel_values) == len(seen.image_position_ids) == 2
    assert loaded.tokenizer.decode(ids).startswith("<bos><|turn>user\n<|image><|image|>")


def test_the_model_sees_pictures(loaded: LoadedModel) -> None:
    canvas = torch.arange(32)[None] + 500

    def look(color: str) -> torch.Tensor:
        seen = processor(loaded).process(prompt(loaded, 1), [picture(color=color)])
        with torch.no_grad():
            logits: torch.Tensor = loaded.model(
                input_ids=seen.input_ids,
                pixel_values=seen.pixel_values,
                image_position_ids=seen.image_position_ids,
                mm_token_type_ids=seen.mm_token_type_ids,
                decoder_input_ids=canvas,
            ).logits
        return logits

    assert torch.equal(look("red"), look("red"))
    assert not torch.equal(look("red"), look("blue"))


def test_a_budget_limits_the_tokens(loaded: LoadedModel) -> None:
    large = picture((640, 480))
    few = processor(loaded).process(prompt(loaded, 1), [large])
    assert few.mm_token_type_ids.sum() <= 70
    for budget in (280, 560):
        detailed, _ = load_processor(loaded.checkpoint, loaded.tokenizer, budget)
        assert detailed is not None
        many = detailed.process(prompt(loaded, 1), [large])
        assert budget // 2 < many.mm_token_type_ids.sum() <= budget


@pytest.mark.parametrize("data", [b"", b"<svg/>", picture()[:60], b"GIF89a" + b"\0" * 20])
def test_invalid_pictures_are_refused(loaded: LoadedModel, data: bytes) -> None:
    with pytest.raises(RequestRefused, match="Image 2 cannot be opened"):
        processor(loaded).process(prompt(loaded, 2), [picture(), data])


def test_pictures_and_marks_must_match(loaded: LoadedModel) -> None:
    with pytest.raises(RequestRefused, match="1 image placeholders, and 2 images"):
        processor(loaded).process(prompt(loaded, 1), [picture(), picture()])


def test_a_picture_of_one_line_is_refused(loaded: LoadedModel) -> None:
    with pytest.raises(RequestRefused, match="too narrow"):
        processor(loaded).process(prompt(loaded, 1), [picture((1, 60_000))])


def test_a_checkpoint_without_a_processor_has_no_vision(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, layers=2)
    loaded = load_model(str(folder), device="cpu", quantize="none", dtype=None, budget_bytes=None, progress=quiet)
    assert load_processor(loaded.checkpoint, loaded.tokenizer) == (None, ())


def test_picture_positions_equal_transformers(loaded: LoadedModel) -> None:
    from transformers.models.diffusion_gemma import modeling_diffusion_gemma as theirs

    seen = processor(loaded).process(prompt(loaded, 2), [picture(), picture((48, 64), "blue")])
    encoder = loaded.model.model.encoder
    given: dict[str, torch.Tensor] = {}
    hook = encoder.language_model.register_forward_pre_hook(
        lambda module, args, named: given.update(embeddings=named["inputs_embeds"]), with_kwargs=True
    )
    kv = KVCache(
        loaded.model.config.text_config, rows=1, context=512, canvas=32, device=loaded.device, dtype=torch.float32
    )
    with torch.inference_mode():
        encoder(input_ids=seen.input_ids, pixel_values=seen.pixel_values, image_position_ids=seen.image_position_ids)
        embeddings, image_indices = DiffusionGemmaLayers(loaded.model, kv).embed_images(seen)
    hook.remove()
    torch.testing.assert_close(embeddings, given["embeddings"][0])
    number: Any = theirs.get_block_sequence_ids_for_mask
    assert torch.equal(image_indices, number(seen.mm_token_type_ids, torch.device("cpu"))[0])
    assert image_indices.max() == 1


@pytest.mark.parametrize(("at_once", "kept"), [(512, 10**8), (7, 10**8), (7, 0)])
def test_prompts_with_pictures_are_prefilled_in_chunks_and_preempted(
    loaded: LoadedModel, at_once: int, kept: int
) -> None:
    """No piece breaks a picture, and what is forgotten is seen again: the text is what it is without all that."""
    reader = Detokenizer(loaded.tokenizer, frozenset({1}), loaded.pad_id)  # random canvases are full of the other ends
    speaker = PromptTokenizer(loaded.tokenizer, reader, processor(loaded), "seeing")
    asked = Prompt("What is it?", "You see. " * 8, images=(picture(), picture((48, 64), "blue")))

    def run(priority: Priority) -> Sequence:
        return Sequence(
            speaker.tokenize(asked),
            CanvasPlan(2, 32, 32, 64, reader),
            SamplingParams(steps=5, entropy_bound=3.0),
            4,
            priority,
        )

    def loop(kept: int) -> DenoisingLoop:
        runner = ModelRunner(*loaded.family.assemble(loaded.model, rows=1, context=512))
        return DenoisingLoop(runner, prefix_cache_bytes=kept)

    alone = run(Priority.CLICK)
    for _ in loop(10**8).generate([alone]):
        pass
    assert alone.usage is not None and len(alone.output_ids) == 64
    made, ahead = loop(kept), run(Priority.PREFETCH)
    made.prefill_tokens = at_once
    made.add(ahead)
    for number in range(200):
        if number in (2, 9, 15, 30):
            made.add(
                Sequence(
                    TokenizedPrompt((2, 600), (2, 600), 0),
                    CanvasPlan(1, 32, 32, 32, reader),
                    SamplingParams(steps=2),
                    1,
                )
            )
        made.step()
    assert made.idle and ahead.error is None and ahead.output_ids == alone.output_ids
