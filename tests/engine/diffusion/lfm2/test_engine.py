"""LFM2 diffusion through the public face of the engine, with the random model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field
from tests.support.checkpoints import edit_config
from tests.support.engine_frames import frames, text

from unwritten_engine import Engine, open_engine
from unwritten_engine.diffusion.diffusion_gemma.random_model import write_checkpoint as write_diffusion_gemma
from unwritten_engine.diffusion.lfm2.checkpoint import LICENCE, OFFICIAL, find_licence
from unwritten_engine.diffusion.lfm2.family import LFM2_DIFFUSION
from unwritten_engine.diffusion.lfm2.random_model import write_checkpoint
from unwritten_engine.diffusion.lfm2.random_tokenizer import write_tokenizer
from unwritten_engine.errors import BadOption, EngineError, ModelUnsupported, PromptTooLong, RequestRefused
from unwritten_engine.frames import Draft, Example, Frame, Priority, Prompt, Request
from unwritten_engine.vllm import open_vllm

pytestmark = pytest.mark.anyio

SYSTEM = "You write pages of a wiki that does not exist. Each page is short, and has the name of its subject first."
PROMPT = Prompt("A page on the light of winter", SYSTEM, (Example("A page on stone", "Stone is old and cold."),))
FAST = {"steps": 3}


class Bread(BaseModel):
    """A shape whose skeleton is longer than a block."""

    name: str = Field(max_length=30)
    kind: str = Field(max_length=12)
    price: int = Field(ge=1, le=99)
    warm: bool
    tags: list[str] = Field(max_length=3)


@pytest.fixture(scope="module")
async def engine(anyio_backend: str) -> AsyncIterator[Engine]:
    """The small random model that comes with the engine."""
    made = await asyncio.to_thread(open_engine, "diffusion:random-lfm2", threads=1)
    yield made
    await made.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small(tmp_path_factory.mktemp("models") / "small")


def small(target: Path) -> Path:
    write_checkpoint(target, branch=0.5)
    write_tokenizer(target, 1024)
    return target


@pytest.fixture(scope="module")
async def narrow(anyio_backend: str, folder: Path) -> AsyncIterator[Engine]:
    """A smaller model with one row."""
    made = await asyncio.to_thread(
        open_engine, f"diffusion:{folder}", threads=1, parallel=1, context=512, prefix_cache_mb=10
    )
    yield made
    await made.close()


def soft(frame: Frame) -> int:
    return sum(end - start for start, end in frame.unsettled)


async def test_a_text_comes_into_focus_block_by_block(engine: Engine) -> None:
    found = await frames(engine, Request(PROMPT, max_tokens=64, seed=4))
    first = [frame for frame in found if frame.step <= 9]
    assert soft(first[0]) > 0.8 * len(first[0].text)
    assert max(map(soft, first[:3])) > soft(first[6]) > soft(first[7])
    assert soft(first[-1]) < 0.2 * len(first[-1].text), "the readout may still change a few"
    assert len({frame.text for frame in first}) >= 6
    words = found[-1].text.split()
    assert sum(word.isalpha() for word in words) > 0.8 * len(words), found[-1].text
    settled = first[-1].text
    assert all(frame.text.startswith(settled) for frame in found if frame.step > 9), "a finished block stays"
    usage = found[-1].usage
    assert usage is not None
    assert usage.steps == 18 and usage.tokens == 64 and usage.canvases == 1 and usage.reason == "length"
    assert (found[0].canvas, found[0].canvases, found[0].step, found[0].steps) == (0, 1, 1, 18)


async def test_about_describes_the_engine(engine: Engine, narrow: Engine) -> None:
    about = engine.about
    assert (about.engine, about.model, about.canvas_length) == ("diffusion", "random-lfm2", 256)
    can = about.abilities
    assert can.drafts and can.schemas and can.edits and not can.images and not can.markup
    assert "gibberish" in " ".join(about.reasons)
    assert "never run with its real weights" in " ".join(narrow.about.reasons)


@pytest.mark.parametrize(("quality", "steps"), [(0, 4), (None, 8), (0.5, 8), (1, 32)])
async def test_the_quality_chooses_a_preset(narrow: Engine, quality: float | None, steps: int) -> None:
    options = {} if quality is None else {"quality": quality}
    last = (await frames(narrow, Request(PROMPT, max_tokens=20, seed=1, options=options)))[-1]
    assert last.usage is not None and last.usage.steps == steps + 1


async def test_a_seed_repeats_in_any_batch(engine: Engine) -> None:
    asked = Request(PROMPT, seed=11, max_tokens=80, options=FAST)
    alone = await text(engine, asked)
    others = [Request(Prompt(f"Number {n} " * n), seed=n, max_tokens=40 + 40 * n, options=FAST) for n in range(3)]
    together = await asyncio.gather(text(engine, asked), *(text(engine, other) for other in others))
    assert together[0] == alone
    assert await text(engine, replace(asked, seed=12)) != alone


async def test_an_opening_is_in_every_frame(engine: Engine) -> None:
    prompt = replace(PROMPT, opening="**Light** is")
    found = await frames(engine, Request(prompt, seed=2, max_tokens=40, options=FAST))
    assert len(found) > 2
    assert all(frame.text.startswith("**Light** is") for frame in found)
    assert all(start >= 12 for frame in found for start, _ in frame.unsettled)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
async def test_kept_spans_of_edits_are_in_every_frame(engine: Engine, strength: float) -> None:
    old = "The old stone bridge crosses the cold river near the tower."
    draft = Draft(old, ((4, 20), (33, 43)), strength)
    found = await frames(engine, Request(PROMPT, seed=2, draft=draft))
    for frame in found:
        at = frame.text.index(old[4:20])
        assert old[33:43] in frame.text[at + 16 :]
        assert not any(start < at + 16 and at < end for start, end in frame.unsettled)
    assert strength < 1 or found[-1].text != old


@pytest.mark.parametrize("seed", range(5))
async def test_schemas_longer_than_a_block_hold_at_every_step(engine: Engine, seed: int) -> None:
    schema = Bread.model_json_schema()
    found = await frames(engine, Request(PROMPT, canvases=2, schema=schema, seed=seed))
    for frame in found:
        Bread.model_validate_json(frame.text)
        assert frame.text == json.dumps(json.loads(frame.text), separators=(",", ":"), ensure_ascii=False)
    usage = found[-1].usage
    assert usage is not None and usage.reason == "end" and usage.steps >= 3 * 9, "several blocks"


async def test_a_stop_string_ends_the_text(engine: Engine) -> None:
    whole = await text(engine, Request(PROMPT, seed=3, max_tokens=96, options=FAST))
    stop = whole[40:47]
    last = (await frames(engine, Request(PROMPT, seed=3, max_tokens=96, stop=(stop,), options=FAST)))[-1]
    assert last.text == whole[: whole.index(stop)].rstrip()
    assert last.usage is not None and last.usage.reason == "stop"


async def test_a_warmed_prefix_is_reused_and_changes_nothing(folder: Path) -> None:
    """A snapshot has the inputs of the convolutions, not only keys and values."""
    asked = Request(PROMPT, seed=7, max_tokens=64, options=FAST)
    texts, cached = [], []
    for megabytes in (0, 10):
        made = await asyncio.to_thread(
            open_engine, f"diffusion:{folder}", threads=1, parallel=2, context=512, prefix_cache_mb=megabytes
        )
        await made.warm([PROMPT])
        for _ in range(2):
            last = (await frames(made, asked))[-1]
            assert last.usage is not None
            texts.append(last.text)
            cached.append(last.usage.cached_tokens)
        await made.close()
    assert len(set(texts)) == 1
    assert cached[:2] == [0, 0] and min(cached[2:]) > 20


async def test_preempted_requests_write_the_same(narrow: Engine) -> None:
    ahead = Request(PROMPT, seed=1, max_tokens=96, priority=Priority.PREFETCH)
    undisturbed = await text(narrow, ahead)
    order: list[str] = []

    async def one(name: str, asked: Request, begun: asyncio.Event, step: int) -> str:
        found = ""
        async for frame in narrow.generate(asked):
            if frame.step >= step:
                begun.set()
            found = frame.text
        order.append(name)
        return found

    for step in (3, 13):  # in the first block, and in the second
        order.clear()
        begun = asyncio.Event()
        first = asyncio.create_task(one("ahead", ahead, begun, step))
        await begun.wait()
        click = Request(Prompt("Now"), seed=2, max_tokens=40)
        await one("click", click, asyncio.Event(), 0)
        assert await first == undisturbed and order == ["click", "ahead"]


async def test_a_cancelled_request_frees_its_row_within_a_step(narrow: Engine) -> None:
    generator = narrow.generate(Request(PROMPT, options={"steps": 1000}))
    await anext(generator)
    await generator.aclose()
    last = (await frames(narrow, Request(PROMPT, max_tokens=20, options=FAST)))[-1]
    assert last.usage is not None and last.usage.queued_seconds < 5  # and not 1000 steps


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        (Request(Prompt("river " * 2000)), PromptTooLong, "does not fit into the context of 512"),
        (Request(PROMPT, canvases=3), PromptTooLong, "ask for fewer canvases"),
        (Request(Prompt("river " * 450), max_tokens=70), PromptTooLong, "with a text of 70 it does not fit"),
        (
            Request(replace(PROMPT, opening="river " * 9), max_tokens=5),
            RequestRefused,
            "more max_tokens if they are set",
        ),
        (Request(Prompt("x", images=(b"x",))), RequestRefused, "small cannot see images. Leave them out"),
        (Request(PROMPT, options={"entropy_bound": 0.1}), BadOption, "'entropy_bound' only applies to DiffusionGemma"),
    ],
)
async def test_unsupported_requests_are_refused_immediately(
    narrow: Engine, asked: Request, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as raised:
        narrow.check(asked)
    assert message in str(raised.value)


async def test_the_last_block_may_end_after_the_context(narrow: Engine) -> None:
    """It never enters the cache."""
    prompt = Prompt("river " * 200)
    usage = (await frames(narrow, Request(prompt, max_tokens=1, options=FAST)))[-1].usage
    assert usage is not None
    room = 512 - usage.prompt_tokens + 20
    last = (await frames(narrow, Request(prompt, canvases=2, max_tokens=room, seed=1, options=FAST)))[-1]
    assert last.usage is not None and last.usage.reason == "length"
    assert last.usage.steps == 4 * -(-room // 32), "all blocks were written"


async def test_options_of_other_families_are_refused(folder: Path) -> None:
    with pytest.raises(BadOption, match=r"small cannot see images\. Leave the option 'image_tokens' out"):
        await asyncio.to_thread(open_engine, f"diffusion:{folder}", image_tokens=70)
    with pytest.raises(BadOption, match="'nf4'"):
        await asyncio.to_thread(open_engine, f"diffusion:{folder}", quantize="nf4")


def test_vllm_names_the_engine_that_runs_it(folder: Path) -> None:
    for reference in (OFFICIAL, "random-lfm2", str(folder)):
        with pytest.raises(ModelUnsupported) as raised:
            open_vllm(reference)
        assert f"which vLLM does not run. Use --engine diffusion:{reference}" in str(raised.value)


def test_code_of_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    folder, mark = small(tmp_path / "coded"), tmp_path / "ran"
    code = f"open({str(mark)!r}, 'w')\nfrom transformers import *\n"
    for name in ("configuration_coded", "tokenization_coded", "modeling_coded"):
        (folder / f"{name}.py").write_text(code)
    edit_config(folder, auto_map={"AutoConfig": "configuration_coded.C", "AutoModel": "modeling_coded.M"})
    file = folder / "tokenizer_config.json"
    content = json.loads(file.read_text()) | {"auto_map": {"AutoTokenizer": ["tokenization_coded.T", None]}}
    file.write_text(json.dumps(content))
    try:
        asyncio.run(open_engine(f"diffusion:{folder}", threads=1).close())
    except (EngineError, ValueError) as error:
        assert "code" in str(error)
    assert not mark.exists()


def test_the_licence_is_in_words(tmp_path: Path) -> None:
    assert find_licence(tmp_path, OFFICIAL) == LICENCE and "not free" in LICENCE
    assert find_licence(tmp_path, "small") == ""
    card = tmp_path / "README.md"
    card.write_text("---\nlicense: other\nlicense_name: lfm1.0\n---\n# A model\n")
    assert find_licence(tmp_path, "small") == LICENCE
    card.write_text("---\nlicense: apache-2.0\n---\n")
    assert find_licence(tmp_path, "small") == "apache-2.0"


def test_a_quantized_checkpoint_is_refused(tmp_path: Path) -> None:
    folder = small(tmp_path / "quantized")
    edit_config(folder, quantization_config={"quant_method": "awq", "bits": 4})
    with pytest.raises(ModelUnsupported, match=r"quantized \(awq, 4 bits\)"):
        open_engine(f"diffusion:{folder}")


def test_both_families_have_names_of_their_own(tmp_path: Path) -> None:
    folder: Any = write_diffusion_gemma(tmp_path / "gemma", layers=2)
    edit_config(folder, architectures=["Lfm2ForBlockDiffusion"])
    with pytest.raises(EngineError):
        open_engine(f"diffusion:{folder}")
    assert LFM2_DIFFUSION.random == "random-lfm2"
