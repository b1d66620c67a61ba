from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from unwritten_engine.openai.chat_request import MAX_EVENT_CHARS, InvalidEventStream, parse_events

pytestmark = pytest.mark.anyio


async def read(*chunks: bytes) -> list[tuple[str, str]]:
    async def stream() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return [event async for event in parse_events(stream())]


STREAM = (
    ': ping\r\n\r\nevent: x\ndata: {"a": "é"}\n\ndata:one\ndata: two\n\nid: 3\n\ndata: [DONE]\n\ndata: cut'.encode()
)
DATA = [("message", '{"a": "é"}'), ("message", "one\ntwo"), ("message", "[DONE]"), ("incomplete", "cut")]


async def test_events_may_be_split_anywhere() -> None:
    assert await read(STREAM) == DATA
    assert await read(*(STREAM[at : at + 1] for at in range(len(STREAM)))) == DATA
    assert await read(STREAM.replace(b"\n", b"\r\n").replace(b"\r\r", b"\r")) == DATA
    assert await read() == await read(b"", b"\n\n\n") == []


async def test_what_failing_servers_send() -> None:
    stream = b'event: error\ndata: {"message": "A"}\n\ndata: b\n\nerror: C\n{"error": "D"}\nevent: error\ndata: E'
    events = [("error", '{"message": "A"}'), ("message", "b"), ("error", "C"), ("", '{"error": "D"}'), ("error", "E")]
    assert await read(stream) == events
    assert await read(*(stream[at : at + 1] for at in range(len(stream)))) == events


async def test_invalid_event_streams_are_refused() -> None:
    with pytest.raises(InvalidEventStream, match="not UTF-8"):
        await read(b"data: \xff\n\n")
    with pytest.raises(InvalidEventStream, match="no end"):
        await read(b"data: " + b"x" * MAX_EVENT_CHARS)
    with pytest.raises(InvalidEventStream, match="no end"):
        await read(*[b"data: " + b"x" * (1 << 20) + b"\n"] * 5)
