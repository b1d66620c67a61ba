"""The bench of memory: facts are planted, asked for in three ways, and counted."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from tests.benchmarks.planted import FACTS
from tests.benchmarks.world import WORLD, follow, measure, recall, ways

from unwritten import Canvas
from unwritten.routing.prompts import build_prompt
from unwritten_engine import Engine, Request, Usage, scripted


def echo(request: Request) -> str:
    """A model that says all that it was told, and nothing else."""
    return " " + (" ".join(request.prompt.facts) or "Nothing is known.")


def test_facts_are_recalled_with_memory_only(tmp_path: Path) -> None:
    found = {
        way.name: asyncio.run(measure(scripted(echo), way, FACTS, tokens=40, folder=tmp_path)) for way in ways(200)
    }
    assert {name: recall(asked) for name, asked in found.items()} == {
        "on": 1.0,
        "off": 0.0,
        "direct": 1.0,
        "gist": 1.0,
        "no_gist": 0.0,
    }
    assert [asked.fact for asked in found["on"]] == list(FACTS)


def test_pages_keep_what_the_gists_of_a_model_promise(tmp_path: Path) -> None:
    def write(request: Request) -> str:
        if "North Harbour" in request.prompt.ask:
            return " It has a [[Tin Bell]]{The bell sank with pepper.}, and a [[Cat]]."
        return echo(request)

    num_links, (promise,) = asyncio.run(follow(scripted(write), ["North Harbour"], tokens=40, folder=tmp_path))
    assert num_links == 2
    assert (promise.title, promise.words) == ("Tin Bell", frozenset({"sank", "with", "pepper"}))
    assert (promise.with_gist, promise.without) == (1.0, 0.0)


def test_a_model_without_memory_recalls_nothing(tmp_path: Path) -> None:
    asked = asyncio.run(measure(scripted(" A place."), ways(200)[0], FACTS[:3], tokens=40, folder=tmp_path))
    assert recall(asked) == 0.0
    assert recall([]) == 0.0


def test_planted_values_occur_only_in_their_sentence() -> None:
    assert len(FACTS) == len({fact.subject for fact in FACTS}) == len({fact.page for fact in FACTS}) == 24
    for fact in FACTS:
        assert fact.is_in(fact.sentence)
        assert not fact.is_in(f"{fact.subject} {fact.page} {WORLD}")
        assert not any(fact.is_in(other.sentence) for other in FACTS if other is not fact)
        assert f"[[{fact.subject}]]" in fact.text() and "[[" not in fact.text(linked=False)
    assert not FACTS[0].is_in("It has 17430 lamps.")
    assert re.search(r"\d", FACTS[0].value)


@pytest.mark.model
@pytest.mark.anyio
async def test_prompts_with_other_facts_share_a_prefix_on_the_real_model(embedded: Engine) -> None:
    def prompt_of(subject: str, *facts: str) -> Request:
        canvas = Canvas(f"An encyclopedia article about {subject}.")
        return Request(build_prompt(world=WORLD, canvas=canvas, subject=subject, facts=facts), max_tokens=4)

    await embedded.warm([prompt_of("Lighthouse").prompt, prompt_of("Tea").prompt])
    usages: list[Usage] = []
    for request in (prompt_of("Rain", "Rain is painted green."), prompt_of("Salt", "Salt was founded in 1618.")):
        async for frame in embedded.generate(request):
            if frame.usage:
                usages.append(frame.usage)
    assert all(usage.cached_tokens > 0.85 * usage.prompt_tokens for usage in usages), usages
