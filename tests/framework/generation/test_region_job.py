"""One region from its first frame to its last."""

from __future__ import annotations

import json
import time

import pytest
from pydantic import BaseModel
from tests.support.apps import a_linker, text_frame

from unwritten import Canvas, Example
from unwritten.core.errors import PageFailed
from unwritten.generation.region_job import RegionJob, prompt_hash, prompt_text
from unwritten.storage.records import StoredCanvas
from unwritten_engine import Prompt


class Facts(BaseModel):
    kind: str


def region_job(canvas: Canvas | None = None, prompt: Prompt | None = None) -> RegionJob:
    return RegionJob("body", canvas or Canvas("Words."), prompt or Prompt("Words."), a_linker(), 256)


def stored(text: str, format: str = "markdown") -> StoredCanvas:
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
    assert region.region().html == '<p dir="auto">A tower.</p>\n'
    assert region.to_stored().text == "A tower."


def test_frame_numbers_rise_across_attempts() -> None:
    first = region_job()
    for n in range(1, 50):
        before = first.number
        first.apply_frame(text_frame("x" * n))
        assert first.number > before
    time.sleep(0.001)
    second = region_job()
    second.apply_frame(text_frame("x"))
    assert second.number > first.number
    assert second.number < 2**53  # exact in JavaScript


def test_a_stored_text_always_has_the_same_number() -> None:
    region = region_job()
    region.restore(stored("A tower."))
    assert (region.number, region.state) == (1, "written")


def test_stored_text_that_does_not_fit_the_schema_is_rejected() -> None:
    region = region_job(Canvas("Facts.", schema=Facts))
    with pytest.raises(PageFailed, match="does not match the schema Facts"):
        region.restore(stored('{"colour":"red"}', "typed"))
    assert (region.state, region.number, region.frame.text) == ("waiting", 0, "")
    assert region.region().value.kind is None
    region.restore(stored('{"kind":"tower"}', "typed"))
    assert region.region().value.kind == "tower"


def test_the_draft_stays_visible_if_the_last_frame_does_not_fit() -> None:
    region = region_job(Canvas("Facts.", schema=Facts))
    region.apply_frame(text_frame('{"kin'))
    with pytest.raises(PageFailed):
        region.apply_frame(text_frame('{"colour":"red"}', done=True))
    assert region.region().value.kind is None  # it can still be rendered
    with pytest.raises(ValueError, match="not finished"):
        region.to_stored()


@pytest.mark.parametrize("text", ["", "  \n", "**Lighthouse** ", "**Lighthouse**"])
def test_a_text_with_nothing_but_its_opening_fails(text: str) -> None:
    region = region_job(prompt=Prompt("Words.", opening="**Lighthouse**"))
    with pytest.raises(PageFailed, match="wrote nothing"):
        region.apply_frame(text_frame(text, done=True))


def test_a_failed_region_takes_no_more_frames() -> None:
    region = region_job()
    region.abort("failed")
    number = region.number
    with pytest.raises(PageFailed):
        region.apply_frame(text_frame("x"))
    region.abort("stopped")
    assert (region.state, region.number) == ("failed", number)


def test_a_frame_is_formatted_once() -> None:
    region = region_job()
    region.apply_frame(text_frame("One"))
    first = region.formatted()
    assert region.formatted() is first and region.region().html is first.html
    region.apply_frame(text_frame("One two"))
    assert region.formatted() is not first


def test_the_request_has_the_limits_and_schema_of_the_canvas() -> None:
    request = region_job(Canvas("Facts.", schema=Facts, canvases=2, tokens=90, seed=7, stop=["x"])).request()
    assert (request.canvases, request.max_tokens, request.seed, request.stop) == (2, 90, 7, ("x",))
    assert request.schema is not None and request.schema["required"] == ["kind"]


def test_a_prompt_is_recorded_as_json() -> None:
    prompt = Prompt("Ask <é>.", system="World.", examples=(Example("a", "b"),), images=(b"picture",))
    document = json.loads(prompt_text(prompt))
    assert (document["ask"], document["system"]) == ("Ask <é>.", "World.")
    assert len(document["images"][0]) == 64
    one, other = region_job(prompt=prompt), region_job(prompt=Prompt("Other."))
    assert prompt_hash({"body": one}) == prompt_hash({"body": region_job(prompt=prompt)})
    assert prompt_hash({"body": one}) != prompt_hash({"body": other})
    assert prompt_hash({"body": one}) != prompt_hash({"lead": one})
