"""Run a request on an engine, and check every frame."""

from __future__ import annotations

from unwritten_engine import Engine
from unwritten_engine.frames import Frame, Request


async def frames(engine: Engine, request: Request) -> list[Frame]:
    found = [frame async for frame in engine.generate(request)]
    assert [frame.done for frame in found] == [False] * (len(found) - 1) + [True]
    for number, frame in enumerate(found):
        assert all(0 <= start < end <= len(frame.text) for start, end in frame.unsettled)
        for later in found[number:]:
            assert later.fixed >= frame.fixed and later.text[: frame.fixed] == frame.text[: frame.fixed]
    return found


async def text(engine: Engine, request: Request) -> str:
    return (await frames(engine, request))[-1].text
