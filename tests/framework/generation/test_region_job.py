"""One region on its way from its first frame to its last."""

from __future__ import annotations

import json
import time

import pytest
from pydantic import BaseModel
from tests.support.apps import a_linker, text_frame

from unwritten import Canvas, Example
from unwritten.core.errors import PageFailed
from unwritten.generation.region_job import RegionJob, prompt_hash, prompt_text
from unwritten.rendering.regions import Region
from unwritten.storage.records import StoredCanvas
from unwritten_engine import Prompt


class Facts(BaseModel):
    kind: str


def region_job(canvas: Canvas | None = None, prompt: Prompt | None = None) -> RegionJob:
    return RegionJob("body", canvas or Canvas("Words."), prompt or Prompt("Words."), a_linker(), 256)


def kept(text: str, format: str = "markdown") -> StoredCanvas:
    return StoredCanvas("body", format, "{}", text, 7, 5, 5, 1, 0.5, "end")


def test_a_region_goes_from_waiting_to_written() -> None:
    region = region_job()
    assert (region.state, region.number, region.region().lines) == ("waiting", 0, 11)
    region.apply_frame(text_frame("A tow", ((2, 5),)))
    seen = region.region()
    assert seen.state == "writing" and "unsettled" in seen.html and not seen.settled
    region.apply_frame(text_frame("A tower.", done=True))
    seen = region.region()
    assert seen.state == "written" and seen.settled
    assert region.region().html == "<p>A tower.</p>\n"
    assert region.to_stored().text == "A tower."


def test_numbers_rise_and_are_higher_than_those_of_any_attempt_before() -> None:
    first = region_job()
    for n in range(1, 50):
        before = first.number
        first.apply_frame(text_frame("x" * n))
        assert first.number > before
    time.sleep(0.001)
    second = region_job()
    second.apply_frame(text_frame("x"))
    assert second.number > first.number
    assert second.number < 2**53  # a number of JavaScript


def test_a_kept_text_always_has_the_same_number() -> None:
    region = region_job()
    region.restore(kept("A tower."))
    assert (region.number, region.state) == (1, "written")


def test_a_kept_text_that_does_not_fit_any_more_is_refused_and_leaves_no_trace() -> None:
    region = region_job(Canvas("Facts.", schema=Facts))
    with pytest.raises(PageFailed, match="does not match the schema Facts"):
        region.restore(kept('{"colour":"red"}', "typed"))
    assert (region.state, region.number, region.frame.text) == ("waiting", 0, "")
    assert region.region().value.kind is None
    region.restore(kept('{"kind":"tower"}', "typed"))
    assert region.region().value.kind == "tower"


def test_a_last_frame_that_does_not_fit_leaves_the_draft_to_be_seen() -> None:
    region = region_job(Canvas("Facts.", schema=Facts))
    region.apply_frame(text_frame('{"kin'))
    with pytest.raises(PageFailed):
        region.apply_frame(text_frame('{"colour":"red"}', done=True))
    assert region.region().value.kind is None  # it can still be drawn, again and again
    with pytest.raises(ValueError, match="not finished"):
        region.to_stored()


@pytest.mark.parametrize("text", ["", "  \n", "**Lighthouse** ", "**Lighthouse**"])
def test_a_text_of_nothing_but_its_opening_is_a_failure(text: str) -> None:
    region = region_job(prompt=Prompt("Words.", opening="**Lighthouse**"))
    with pytest.raises(PageFailed, match="wrote nothing"):
        region.apply_frame(text_frame(text, done=True))


def test_a_failed_region_takes_nothing_more() -> None:
    region = region_job()
    region.abort("failed")
    number = region.number
    with pytest.raises(PageFailed):
        region.apply_frame(text_frame("x"))
    region.abort("stopped")
    assert (region.state, region.number) == ("failed", number)


def test_a_block_is_drawn_once_for_all_who_ask() -> None:
    region, drawn = region_job(), []

    def draw(seen: Region) -> str:
        drawn.append(seen.text)
        return seen.text

    region.apply_frame(text_frame("One"))
    assert [region.block(draw), region.block(draw)] == ["One", "One"]
    region.apply_frame(text_frame("One two"))
    region.block(draw)
    assert drawn == ["One", "One two"]


def test_what_the_engine_is_asked_for() -> None:
    request = region_job(Canvas("Facts.", schema=Facts, canvases=2, tokens=90, seed=7, stop=["x"])).request()
    assert (request.canvases, request.max_tokens, request.seed, request.stop) == (2, 90, 7, ("x",))
    assert request.schema is not None and request.schema["required"] == ["kind"]


def test_a_prompt_is_recorded_as_it_was_sent() -> None:
    prompt = Prompt("Ask <é>.", system="World.", examples=(Example("a", "b"),), images=(b"picture",))
    document = json.loads(prompt_text(prompt))
    assert (document["ask"], document["system"]) == ("Ask <é>.", "World.")
    assert len(document["images"][0]) == 64
    one, other = region_job(prompt=prompt), region_job(prompt=Prompt("Other."))
    assert prompt_hash({"body": one}) == prompt_hash({"body": region_job(prompt=prompt)})
    assert prompt_hash({"body": one}) != prompt_hash({"body": other})
    assert prompt_hash({"body": one}) != prompt_hash({"lead": one})
