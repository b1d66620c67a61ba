"""Formats with drafts of a diffusion model, whose text changes everywhere until its canvas is finished."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from markupsafe import escape
from pydantic import BaseModel, Field
from tests.support.apps import a_linker
from tests.support.html_checks import faults
from tests.support.svg_checks import drawing_faults

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
async def test_fixed_html_does_not_change_over_three_canvases(engine: Engine, name: str) -> None:
    prompt = Prompt("On tea.", opening="**Tea** is\n\nold. It")
    frames = await drafts(engine, Request(prompt, canvases=3, seed=5, options={"steps": 10}))
    formatter = FORMATS[name].create_formatter(RegionContext(a_linker()))
    text, html, fixed, current = "", "", 0, ""
    for frame in frames:
        assert frame.text.startswith(text), "finished canvases do not change"
        formatted = formatter.format(frame)
        assert faults(str(formatted.html)) == []
        assert str(formatted.html).startswith(html)
        assert formatted.fixed >= fixed
        current = str(formatted.html)
        text, html, fixed = frame.text[: frame.fixed], current[: formatted.fixed], formatted.fixed
    assert len(frames) > 10
    assert text == frames[-1].text and fixed == len(current)


async def test_every_draft_of_a_schema_shows_its_unsettled_values(engine: Engine) -> None:
    frames = await drafts(engine, Request(Prompt("Facts."), canvases=1, seed=6, schema=json_schema_of(Facts)))
    formatter = FORMATS["typed"].create_formatter(RegionContext(a_linker(), schema=Facts))
    counts = []
    for frame in frames[:-1]:
        value = formatter.format(frame).value
        assert isinstance(value.kind, str) and 1000 <= value.founded <= 1999 and len(value.known_for) == 2
        html = "".join(str(escape(part)) for part in (value.kind, value.founded, *value.known_for))
        assert faults(html) == []
        counts.append(html.count('<span class="unsettled">'))
        assert (counts[-1] > 0) == bool(frame.unsettled)
    assert counts[0] > counts[-1]
    last = formatter.format(frames[-1])
    assert isinstance(last.value, Facts)
    assert "unsettled" not in str(last.html)


async def test_every_draft_of_a_drawing_is_one_safe_element(engine: Engine) -> None:
    prompt = Prompt("A kettle.", opening='<svg viewBox="0 0 9 9">\n<rect width="9" height="9"/>')
    frames = await drafts(engine, Request(prompt, canvases=2, seed=7, options={"steps": 8}))
    formatter = FORMATS["svg"].create_formatter(RegionContext(a_linker(), "art", "A kettle"))
    formatted = [str(formatter.format(frame).html) for frame in frames]
    assert len(formatted) > 8 and all(html.startswith("<svg") for html in formatted)
    assert [found for html in formatted if (found := drawing_faults(html))] == []
