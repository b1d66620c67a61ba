"""Formats over the drafts of a real diffusion model, whose earlier text changes until its canvas is finished."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from markupsafe import escape
from pydantic import BaseModel, Field
from tests.support.apps import a_linker, faults
from tests.support.drawings import drawing_faults

from unwritten.formats.base import RegionContext
from unwritten.formats.registry import FORMATS
from unwritten.formats.schema import json_schema_of
from unwritten_engine import Engine, Frame, Prompt, Request, open_engine

pytestmark = pytest.mark.anyio


class Facts(BaseModel):
    kind: str = Field(max_length=40)
    founded: int = Field(ge=1000, le=1999)
    known_for: list[str] = Field(min_length=2, max_length=2)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    yield open_engine("diffusion", model="random")


async def drafts(engine: Engine, request: Request) -> list[Frame]:
    return [frame async for frame in engine.generate(request)]


@pytest.mark.parametrize("name", ["markdown", "text", "html"])
async def test_what_is_fixed_stays_over_three_canvases(engine: Engine, name: str) -> None:
    prompt = Prompt("On tea.", opening="**Tea** is\n\nold. It")
    frames = await drafts(engine, Request(prompt, canvases=3, seed=5, options={"steps": 10}))
    drawer = FORMATS[name].create_formatter(RegionContext(a_linker()))
    text, html, fixed, whole = "", "", 0, ""
    for frame in frames:
        assert frame.text.startswith(text), "finished canvases do not change"
        drawn = drawer.format(frame)
        assert faults(str(drawn.html)) == []
        assert str(drawn.html).startswith(html)
        assert drawn.fixed >= fixed
        whole = str(drawn.html)
        text, html, fixed = frame.text[: frame.fixed], whole[: drawn.fixed], drawn.fixed
    assert len(frames) > 10
    assert text == frames[-1].text and fixed == len(whole)


async def test_every_draft_of_a_shape_is_drawn_with_what_may_still_change(engine: Engine) -> None:
    frames = await drafts(engine, Request(Prompt("Facts."), canvases=1, seed=6, schema=json_schema_of(Facts)))
    typed = FORMATS["typed"].create_formatter(RegionContext(a_linker(), schema=Facts))
    soft = []
    for frame in frames[:-1]:
        value = typed.format(frame).value
        assert isinstance(value.kind, str) and 1000 <= value.founded <= 1999 and len(value.known_for) == 2
        shown = "".join(str(escape(part)) for part in (value.kind, value.founded, *value.known_for))
        assert faults(shown) == []
        soft.append(shown.count('<span class="unsettled">'))
        assert (soft[-1] > 0) == bool(frame.unsettled)
    assert soft[0] > soft[-1]
    last = typed.format(frames[-1])
    assert isinstance(last.value, Facts)
    assert "unsettled" not in str(last.html)


async def test_every_draft_of_a_drawing_is_one_safe_element(engine: Engine) -> None:
    prompt = Prompt("A kettle.", opening='<svg viewBox="0 0 9 9">\n<rect width="9" height="9"/>')
    frames = await drafts(engine, Request(prompt, canvases=2, seed=7, options={"steps": 8}))
    drawer = FORMATS["svg"].create_formatter(RegionContext(a_linker(), "art", "A kettle"))
    drawn = [str(drawer.format(frame).html) for frame in frames]
    assert len(drawn) > 8 and all(html.startswith("<svg") for html in drawn)
    assert [found for html in drawn if (found := drawing_faults(html))] == []
