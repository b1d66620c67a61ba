"""Servers of OpenAI's kind that do not understand, refuse, hang, cut and lie; and readers who leave."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from starlette.requests import Request as WebRequest
from starlette.responses import HTMLResponse, Response
from tests.support.model_server import (
    ASK,
    SCHEMA,
    ModelServer,
    event,
    frames_of,
    hangs,
    model_server,
    opened,
    piece,
    raw,
    refuses,
    says,
    text_of,
    unless,
)
from tests.support.servers import PATIENCE

from unwritten_engine import Priority, Prompt, Request
from unwritten_engine.errors import (
    EngineClosed,
    EngineError,
    GenerationFailed,
    RequestRefused,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def started() -> Iterator[ModelServer]:
    with model_server() as server:
        yield server


@pytest.fixture
def server(started: ModelServer, monkeypatch: pytest.MonkeyPatch) -> ModelServer:
    for name in ("UNWRITTEN_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    started.reset()
    return started


# -- what servers do not understand -----------------------------------------------------------------------


async def test_a_server_without_thinking_is_supported(server: ModelServer) -> None:
    server.answers = [unless("chat_template_kwargs", "Unrecognized request argument: chat_template_kwargs", says("A."))]
    async with opened(server) as engine:
        for _ in range(2):
            await frames_of(engine)
        assert any("cannot turn thinking off" in reason for reason in engine.about.reasons)
    assert ["chat_template_kwargs" in body for body in server.bodies] == [True, False, False], "it is remembered"


async def test_an_unexplained_422_is_handled(server: ModelServer) -> None:
    server.answers = [unless("chat_template_kwargs", "Unprocessable", says("A."), status=422)]
    async with opened(server) as engine:
        for _ in range(2):
            assert (await frames_of(engine))[-1].text == "A."
    assert ["chat_template_kwargs" in body for body in server.bodies] == [True, False, False]


async def test_a_server_without_schemas_is_supported(server: ModelServer) -> None:
    answer = says('```json\n{ "name": "A b",', ' "age": 3 }\n```')
    server.answers = [unless("response_format", "json_schema is not supported", answer, kind="json_schema")]
    async with opened(server) as engine:
        for _ in range(2):
            last = (await frames_of(engine, Request(Prompt("A keeper."), schema=SCHEMA)))[-1]
            assert last.text == '{"name":"A b","age":3}'
        assert any("JSON objects are requested instead" in reason for reason in engine.about.reasons)
    assert [body["response_format"]["type"] for body in server.bodies] == ["json_schema", "json_object", "json_object"]
    assert '"required":["name","age"]' in server.bodies[-1]["messages"][-1]["content"]


async def test_a_server_that_ignores_schemas_is_detected(server: ModelServer) -> None:
    # vLLM with DiffusionGemma answers 400 to all of it, and does not say what it means.
    server.answers = [unless("response_format", "Bad Request", says('Here it is: {"name": "A", "age": 3}. Bye.'))]
    request = Request(Prompt("A keeper."), schema=SCHEMA)
    async with opened(server) as engine:
        assert [(await frames_of(engine, request))[-1].text for _ in range(2)] == ['{"name":"A","age":3}'] * 2
    assert ["response_format" in body for body in server.bodies] == [True, True, False, False]


@pytest.mark.parametrize(
    "answer",
    [
        "I cannot do that.",
        "Sure {as asked}:\n\n{'name': 'A b', 'age': 3,}\nBye.",
        '{"name": "A b", "age": }',
        "{ 'name': ",
    ],
)
async def test_invalid_json_is_returned_unchanged(server: ModelServer, answer: str) -> None:
    server.answers = [says(*answer)]
    async with opened(server) as engine:
        frames = await frames_of(engine, Request(Prompt("A keeper."), schema=SCHEMA))
    assert frames[-1].text == answer.strip()
    assert all(frame.fixed == 0 for frame in frames[:-1]), "earlier frames promise nothing"


async def test_one_rejected_schema_does_not_affect_others(server: ModelServer) -> None:
    async with opened(server) as engine:
        server.answers = [says('{"name":"A","age":3}')]
        await frames_of(engine, Request(Prompt("A."), schema=SCHEMA))
        server.answers = [refuses(400, "unsupported schema: pattern"), says("{}"), says('{"name":"A","age":3}')]
        await frames_of(engine, Request(Prompt("A."), schema={"type": "object", "patternProperties": {}}))
        await frames_of(engine, Request(Prompt("A."), schema=SCHEMA))
    assert [body["response_format"]["type"] for body in server.bodies] == [
        "json_schema",
        "json_schema",
        "json_object",
        "json_schema",
    ]


async def test_the_newer_name_of_max_tokens_is_used(server: ModelServer) -> None:
    server.answers = [unless("max_tokens", "Unsupported: 'max_tokens'. Use 'max_completion_tokens'.", says("A."))]
    await text_of(server)
    assert server.bodies[-1]["max_completion_tokens"] == 40 and "max_tokens" not in server.bodies[-1]


async def test_a_permanent_refusal_is_not_retried(server: ModelServer) -> None:
    server.answers = [refuses(400, "The image is broken.")]
    with pytest.raises(RequestRefused, match=r"refused the request \(400: The image is broken"):
        await text_of(server)
    assert len(server.bodies) < 8


# -- what goes wrong --------------------------------------------------------------------------------------


async def test_a_busy_server_is_retried(server: ModelServer) -> None:
    server.answers = [refuses(429, "Slow down.", headers={"retry-after": "0.3"}), refuses(503, "Busy."), says("Here.")]
    begun = time.monotonic()
    assert await text_of(server) == "Here."
    assert len(server.bodies) == 3 and time.monotonic() - begun >= 0.3


@pytest.mark.parametrize(
    ("answer", "options", "requests", "message"),
    [
        (refuses(500, "CUDA error."), {"retries": 1}, 2, "answers 500: CUDA error. Check the server's log"),
        (refuses(429, "Wait.", headers={"retry-after": "3600"}), {}, 1, "429: Wait.*again after 3600 seconds"),
        (refuses(429, "Pay.", code="insufficient_quota"), {}, 1, "429: Pay"),
        (refuses(403, "Not you."), {}, 1, "rejects the API key .403: Not you"),
        (hangs, {"first_timeout": 0.3}, 1, "sent nothing within 0.3 seconds"),
        (says("One ", "two ", pause=5), {"silence_timeout": 0.3}, 1, "sent nothing for 0.3 seconds"),
        (says("Half a", finish=None, done=False), {}, 1, "cut the text off .the stream ended"),
        (says(finish=None, done=False), {"retries": 1}, 2, "cut the text off"),
    ],
)
async def test_failures_are_explained(
    server: ModelServer, answer: Any, options: dict[str, Any], requests: int, message: str
) -> None:
    server.answers = [answer]
    with pytest.raises(EngineError, match=message):
        await text_of(server, **options)
    assert len(server.bodies) == requests


WORDS = "The GPU ran out of memory \U0001f525"
MISTAKES: dict[str, tuple[bytes, str, str]] = {
    # What the server sends after its status 200, its type, and what else the message has.
    "error event": (event({"error": {"message": WORDS, "type": "cuda"}}), "text/event-stream", ""),
    "error as text": (event({"error": WORDS}), "text/event-stream", ""),
    "vllm": (event({"object": "error", "message": WORDS, "code": 500}), "text/event-stream", "answers 500"),
    "bare line": (f'{{"error": {{"message": "{WORDS}"}}}}\n'.encode(), "text/event-stream", ""),
    "bare line without an end": (f'{{"error": "{WORDS}"}}'.encode(), "text/event-stream", ""),
    "bare lines": (json.dumps({"error": {"message": WORDS}}, indent=2).encode(), "text/event-stream", ""),
    "bare words": (f"{WORDS}\n\n".encode(), "text/event-stream", ""),
    "named event": (f'event: error\ndata: {{"message": "{WORDS}"}}\n\n'.encode(), "text/event-stream", ""),
    "named event with text": (f"event: error\ndata: {WORDS}\n\n".encode(), "text/event-stream", ""),
    "named event without an end": (f"event: error\ndata: {WORDS}".encode(), "text/event-stream", ""),
    "field": (f"error: {WORDS}\n\n".encode(), "text/event-stream", ""),
    "field with JSON": (f'error: {{"message": "{WORDS}"}}\n\n'.encode(), "text/event-stream", ""),
    "data of another form": (f"data: {WORDS}\n\n".encode(), "text/event-stream", ""),
    "in the choice": (event({"choices": [{"error": {"message": WORDS}, "delta": {}}]}), "text/event-stream", ""),
    "page in a stream": (f"<html><title>{WORDS}</title>\n<p>x</p>\n".encode(), "text/event-stream", ""),
    "JSON": (json.dumps({"error": {"message": WORDS}}).encode(), "application/json", ""),
    "JSON text": (json.dumps({"error": WORDS}).encode(), "application/json", ""),
    "JSON string": (json.dumps(WORDS).encode(), "application/json", ""),
    "JSON list": (json.dumps([{"error": {"message": WORDS}}]).encode(), "application/json", ""),
    "JSON detail": (json.dumps({"detail": [{"msg": WORDS}]}).encode(), "application/json", ""),
    "page": (f"<html><title>{WORDS}</title><body>nginx</body></html>".encode(), "text/html", ""),
    "words": (WORDS.encode(), "text/plain", ""),
}


@pytest.mark.parametrize("name", MISTAKES)
@pytest.mark.parametrize("text", ["", "Half a "])
async def test_errors_reach_the_developer_in_the_words_of_the_server(server: ModelServer, name: str, text: str) -> None:
    sent, media_type, more = MISTAKES[name]
    if text and media_type != "text/event-stream":
        pytest.skip("text precedes an error in streams only")

    async def answer(request: WebRequest, body: dict[str, Any]) -> Response:
        return Response((event(piece(text)) if text else b"") + sent, media_type=media_type)

    server.answers = [answer]
    with pytest.raises(EngineError) as caught:
        await text_of(server, retries=0)
    assert WORDS in str(caught.value) and more in str(caught.value)
    assert "nginx" not in str(caught.value) and "ended before" not in str(caught.value)


async def test_an_error_after_the_end_of_the_text_is_ignored(server: ModelServer) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield event(piece("A text.", finish_reason="stop"))
        yield event({"error": "usage is broken"})

    server.answers = [raw(chunks)]
    assert await text_of(server) == "A text."


async def test_a_started_text_is_never_retried(server: ModelServer) -> None:
    async def cut() -> AsyncIterator[bytes]:
        yield event(piece("Half a sentence "))
        await asyncio.sleep(0.05)
        raise ConnectionResetError

    server.answers = [raw(cut), says("Another text.")]
    frames = []
    async with opened(server) as engine:
        with pytest.raises(GenerationFailed, match="cut the text off"):
            async for frame in engine.generate(ASK):
                frames.append(frame)
    assert [frame.text for frame in frames] == ["Half a sentence "] and len(server.bodies) == 1


async def test_a_stream_cut_before_its_first_text_is_retried(server: ModelServer) -> None:
    async def cut() -> AsyncIterator[bytes]:
        yield event(piece(""))
        raise ConnectionResetError

    server.answers = [raw(cut), says("Here.")]
    assert await text_of(server) == "Here."


@pytest.mark.parametrize(
    "garbage",
    [
        b"data: <html>\n\n",
        b"data: [1]\n\n",
        b'data: {"choices": 3}\n\n',
        b'data: {"choices": [{"delta": {"content": 5}}]}\n\n',
        b'data: {"choices": ["x"]}\n\n',
        b'data: {"choices": [], "usage": {"completion_tokens": "many"}}\n\n',
        b"data: \xff\xfe\n\n",
        b"data: " + b"x" * (5 << 20),
    ],
)
async def test_invalid_responses_are_reported(server: ModelServer, garbage: bytes) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield garbage

    server.answers = [raw(chunks)]
    with pytest.raises(GenerationFailed, match="not an event stream"):
        await text_of(server)


async def test_a_web_page_instead_of_a_stream_is_reported(server: ModelServer) -> None:
    async def page(request: WebRequest, body: dict[str, Any]) -> Response:
        return HTMLResponse("<h1>Welcome</h1>")

    server.answers = [page]
    with pytest.raises(GenerationFailed, match="not an event stream"):
        await text_of(server)


async def test_an_error_in_the_stream_is_raised(server: ModelServer) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield event(piece("One "))
        yield event({"error": {"message": "Out of memory.", "code": 500}})

    server.answers = [raw(chunks)]
    with pytest.raises(GenerationFailed, match="answers 500: Out of memory"):
        await text_of(server)


# -- who waits, and who leaves ----------------------------------------------------------------------------


async def gone(server: ModelServer, streams: int) -> None:
    """Wait until the server has seen so many readers leave."""
    async with asyncio.timeout(PATIENCE):
        while server.gone < streams:
            await asyncio.sleep(0.01)


async def test_closing_the_iterator_closes_the_connection(server: ModelServer) -> None:
    server.answers = [says(*["word "] * 1000, pause=0.02)]
    async with opened(server) as engine:
        stream = engine.generate(ASK)
        await anext(stream)
        await stream.aclose()
        await gone(server, 1)


async def test_a_cancelled_reader_closes_the_connection(server: ModelServer) -> None:
    server.answers = [says(*["word "] * 1000, pause=0.02)]
    async with opened(server) as engine:
        task = asyncio.create_task(frames_of(engine))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await gone(server, 1)


async def test_closing_the_engine_stops_all_requests(server: ModelServer) -> None:
    server.answers = [says(*["word "] * 1000, pause=0.02)]
    async with opened(server, parallel=1) as engine:
        tasks = [asyncio.create_task(frames_of(engine)) for _ in range(3)]
        await asyncio.sleep(0.2)
        await engine.close()
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(error) for error in errors] == [EngineClosed] * 3
        with pytest.raises(EngineClosed):
            await frames_of(engine)
        await gone(server, 1)


async def test_clicks_go_before_prefetches(server: ModelServer) -> None:
    server.answers = [says("A", " b", pause=0.1)]
    async with opened(server, parallel=1) as engine:
        order: list[str] = []

        async def write(name: str, priority: Priority) -> None:
            await frames_of(engine, Request(Prompt(name), priority=priority))
            order.append(name)

        asks = [("first", Priority.CLICK), ("ahead", Priority.PREFETCH), ("click", Priority.CLICK)]
        await asyncio.gather(*(write(*ask) for ask in asks))
    assert order == ["first", "click", "ahead"]


async def test_warming_calls_a_local_server_once_per_prefix(server: ModelServer) -> None:
    async with opened(server) as engine:
        await engine.warm([Prompt("A.", system="S"), Prompt("B.", system="S"), Prompt("C.", system="T")])
        assert [body["max_tokens"] for body in server.bodies] == [1, 1]
        server.answers = [refuses(500, "No.")]
        await engine.warm([Prompt("A.", system="S")])
