"""The engine server and its client: requests, errors, lost connections, tokens and slow clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.support.engine_servers import EngineServerThread
from tests.support.servers import PATIENCE
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from unwritten_engine import Draft, Engine, Example, Frame, Priority, Prompt, Request, open_engine, scripted
from unwritten_engine.cleaning import CleanEngine
from unwritten_engine.errors import (
    BadOption,
    EngineClosed,
    GenerationFailed,
    PromptTooLong,
    RequestRefused,
    UnknownEngine,
    UnknownOption,
)
from unwritten_engine.remote import server as server_module
from unwritten_engine.remote.protocol import (
    SUBPROTOCOL,
    TOKEN_VARIABLE,
    InvalidMessage,
    decode,
    decode_request,
    encode,
    encode_request,
)
from unwritten_engine.scripted import ABOUT, HANG, ScriptedEngine

pytestmark = pytest.mark.anyio

ASK = Request(Prompt("A page about lighthouses."))

EVERYTHING = Request(
    Prompt(
        "An \ud800 ask",
        system="A role",
        examples=(Example("ask", "answer", ("fact",)),),
        facts=("One.", "Two."),
        opening="It begins",
        images=(b"\x89PNG\x00", b"RIFF"),
    ),
    canvases=3,
    max_tokens=77,
    schema={"type": "object", "properties": {"a": {"type": "integer"}}},
    seed=12,
    priority=Priority.PREFETCH,
    stop=("END",),
    draft=Draft("Old text", keep=((0, 3),), strength=0.25),
    options={"temperature": 0.5, "biases": [["Paris", -2.5]]},
)


@contextlib.asynccontextmanager
async def served(engine: Engine, token: str = "", port: int = 0) -> AsyncIterator[EngineServerThread]:
    server = EngineServerThread(engine, token, port)
    try:
        yield server
    finally:
        await asyncio.to_thread(server.close)


async def opened(server: EngineServerThread, **options: Any) -> CleanEngine:
    return await asyncio.to_thread(open_engine, server.url, **options)


async def frames_of(engine: Engine, request: Request = ASK) -> list[Frame]:
    return [frame async for frame in engine.generate(request)]


async def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def test_the_server_receives_the_request_and_the_client_the_frames() -> None:
    frames = [
        Frame("Lihgt", unsettled=((0, 5),), steps=4),
        Frame("Light \ud83d", fixed=5, canvas=1, canvases=3, step=2, steps=4),
        Frame("Lamps", ((0, 2), (3, 5)), fixed=2),
    ]
    engine = scripted([*frames, 0.05], delay=0.05)
    async with served(engine) as server:
        client = (await opened(server)).engine  # without cleaning
        assert client.about == replace(
            ABOUT, reasons=(*ABOUT.reasons, f"It is shared by the engine server {server.url}.")
        )
        found = await frames_of(client, EVERYTHING)
        await client.close()
    assert engine.requests == [EVERYTHING]
    assert found[:-1] == frames
    assert found[-1].text == "Lamps" and found[-1].usage is not None and found[-1].usage.seed == 12


@pytest.mark.parametrize(
    "change",
    [
        {"canvases": "3"},
        {"canvases": None},
        {"canvases": 0},
        {"seed": 1.5},
        {"priority": 7},
        {"schema": [1]},
        {"unknown": 1},
        {"prompt": {"ask": "x"}},
        {"draft": {"text": "a", "keep": [[0, 9]], "strength": 1}},
        {"stop": [1]},
    ],
)
def test_an_invalid_request_is_refused(change: dict[str, Any]) -> None:
    values = json.loads(encode(encode_request(EVERYTHING)))
    assert decode_request(values) == EVERYTHING
    with pytest.raises(InvalidMessage):
        decode_request({**values, **change})


@pytest.mark.parametrize("text", ["", "1", "[]", "{}", '{"type": 1}', "[" * 100_000])
def test_a_message_that_is_no_object_with_a_type_is_refused(text: str) -> None:
    with pytest.raises(InvalidMessage):
        decode(text)


@pytest.mark.parametrize(
    "error",
    [PromptTooLong("9,000 tokens do not fit."), GenerationFailed("The lamp broke."), UnknownOption("hue", ["a"], "It")],
)
async def test_errors_arrive_in_the_words_of_the_server(error: Exception) -> None:
    async with served(scripted(["A light", 0.05, error])) as server:
        client = await opened(server)
        with pytest.raises(type(error)) as raised:
            await frames_of(client)
        assert str(raised.value) == str(error)
        await client.close()


async def test_a_fault_of_the_engine_is_logged_there_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    async with served(scripted([ZeroDivisionError("secret")])) as server:
        client = await opened(server)
        with pytest.raises(GenerationFailed) as raised:
            await frames_of(client)
        assert "secret" not in str(raised.value) and "ZeroDivisionError" in caplog.text
        await client.close()


async def test_the_server_checks_requests() -> None:
    no_schemas = replace(ABOUT, abilities=replace(ABOUT.abilities, schemas=False))
    async with served(scripted("Text.", about=no_schemas)) as server:
        client = await opened(server)
        client.check(ASK)
        with pytest.raises(RequestRefused, match="does not support schemas"):
            client.check(replace(ASK, schema={"type": "object"}))
        await client.close()
    client.check(replace(ASK, schema={"type": "object"}))  # nothing answers: the request itself will be refused


async def test_large_images_are_refused_and_the_connection_stays() -> None:
    engine = scripted(["Text", 0.5, "Text."])
    async with served(engine) as server:
        client = await opened(server)
        other = asyncio.create_task(frames_of(client))
        image = b"\x89PNG\r\n\x1a\n" + bytes(5_500_000)
        fits = replace(ASK, prompt=replace(ASK.prompt, images=(image[:5_500_000],) * 2))
        assert (await frames_of(client, fits))[-1].done
        too_large = replace(ASK, prompt=replace(ASK.prompt, images=(image,) * 2))
        with pytest.raises(RequestRefused, match=r"have 11\.0 MB together\. An engine server accepts 11 MB"):
            client.check(too_large)
        with pytest.raises(RequestRefused, match="fewer or smaller"):
            await frames_of(client, too_large)
        assert (await other)[-1].text == "Text." and len(engine.requests) == 2, "it was not interrupted"
        await client.close()


async def test_a_check_that_fails_itself_is_an_error_of_the_engine(caplog: pytest.LogCaptureFixture) -> None:
    engine = scripted("Text.")
    engine.check = lambda request: 1 / 0  # type: ignore[method-assign, assignment]
    async with served(engine) as server:
        client = await opened(server)
        with pytest.raises(GenerationFailed, match="log of the engine server"):
            client.check(ASK)
        assert (await frames_of(client))[-1].text == "Text."
        await client.close()
    assert "ZeroDivisionError" in caplog.text


async def test_a_check_while_the_server_is_away_does_not_block() -> None:
    async with served(scripted("Text.")) as server:
        client = await opened(server)
    start = time.monotonic()
    for _ in range(100):
        client.check(ASK)
    assert time.monotonic() - start < 20  # each of them would wait for seconds
    await client.close()


async def test_promotion_and_warming_reach_the_engine() -> None:
    engine = scripted(["A light", HANG])
    async with served(engine) as server:
        client = await opened(server)
        request = replace(ASK, priority=Priority.PREFETCH)
        running = client.generate(request)
        await anext(running)
        client.promote(replace(request))  # another request with the same content
        client.promote(request)
        await until(lambda: engine.promoted)
        assert engine.promoted == [request]
        await client.warm([Prompt("x"), Prompt("y")])
        assert engine.warmed == [Prompt("x"), Prompt("y")]
        await running.aclose()
        await client.close()


async def test_closing_the_iterator_stops_the_work() -> None:
    engine = scripted(["A light", HANG])
    async with served(engine) as server:
        client = await opened(server)
        running = client.generate(ASK)
        await anext(running)
        assert engine.running == 1
        await running.aclose()
        await until(lambda: engine.running == 0)
        assert engine.stopped == 1
        assert (await asyncio.wait_for(anext(client.generate(ASK)), PATIENCE)).text.startswith("A")
        await client.close()
        await until(lambda: engine.running == 0)


async def test_the_requests_of_a_client_that_disappears_are_cancelled() -> None:
    engine = scripted(["A light", HANG])
    async with served(engine) as server:
        with connect(server.url, subprotocols=[SUBPROTOCOL]) as websocket:
            websocket.recv()
            for number in range(3):
                websocket.send(encode({"type": "generate", "id": number, "request": encode_request(ASK)}))
            await until(lambda: engine.running == 3)
            websocket.socket.shutdown(socket.SHUT_RDWR)
        await until(lambda: engine.running == 0)
        assert engine.stopped == 3


async def test_several_clients_share_one_engine() -> None:
    engine = scripted(lambda request: f"About {request.prompt.ask} and more.", delay=0.002)
    async with served(engine) as server:
        clients = await asyncio.gather(*(opened(server) for _ in range(3)))

        async def write(client: Engine, ask: str) -> None:
            assert (await frames_of(client, Request(Prompt(ask))))[-1].text == f"About {ask} and more."

        await asyncio.gather(*(write(client, f"{n}.{m}") for n, client in enumerate(clients) for m in range(20)))
        assert len(engine.requests) == 60
        await asyncio.gather(*(client.close() for client in clients))


async def test_a_client_that_does_not_read_delays_nobody_and_skips_frames() -> None:
    long = " word" * 20_000
    engine = scripted([str(number) + long for number in range(200)], delay=0.001)
    async with served(engine) as server:
        with connect(server.url, subprotocols=[SUBPROTOCOL]) as slow:
            slow.recv()
            for number in range(5):  # 100 MB of frames, more than the buffers of the connection hold
                slow.send(encode({"type": "generate", "id": number, "request": encode_request(ASK)}))
            client = await opened(server)
            frames = await asyncio.wait_for(frames_of(client.engine), PATIENCE)
            assert frames[-1].text.startswith("199 ") and frames[-1].done
            await until(lambda: engine.running == 0, 20)
            received, ended = 0, 0
            while ended < 5:
                message = json.loads(slow.recv(PATIENCE))
                received += 1
                ended += message["usage"] is not None
            assert 5 <= received < 500
            await client.close()


async def test_a_request_without_fixed_text_is_repeated_on_a_new_server() -> None:
    first = scripted([Frame("Draft", unsettled=((0, 5),)), HANG])
    async with served(first) as server:
        client = await opened(server)
        running = client.generate(ASK)
        assert (await anext(running)).text == "Draft"
        waiting = asyncio.ensure_future(anext(running))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    async with served(scripted("Whole text.", delay=0.01), port=server.port):
        frames = [await waiting, *[frame async for frame in running]]
        assert frames[-1].text == "Whole text."
        await client.close()


async def test_a_request_with_fixed_text_fails_when_its_server_ends() -> None:
    async with served(scripted([Frame("Fixed words", fixed=11), HANG])) as server:
        client = await opened(server)
        running = client.generate(ASK)
        await anext(running)
    with pytest.raises(GenerationFailed, match="connection to the engine server was lost"):
        await asyncio.wait_for(anext(running), PATIENCE)
    await client.close()


async def test_a_new_request_waits_for_a_server_that_is_away() -> None:
    async with served(scripted("Old.")) as server:
        client = await opened(server)
        assert (await frames_of(client))[-1].text == "Old."
    waiting = [asyncio.ensure_future(frames_of(client)) for _ in range(5)]
    await asyncio.sleep(0.1)
    async with served(scripted("New."), port=server.port):
        assert {frames[-1].text for frames in await asyncio.gather(*waiting)} == {"New."}
        await client.close()


async def test_the_wait_for_a_server_is_bounded() -> None:
    async with served(scripted("Old.")) as server:
        client = await opened(server, wait_timeout=0.2)
    start = time.monotonic()
    results = await asyncio.gather(*(frames_of(client) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(result, GenerationFailed) for result in results), results
    assert "cannot be reached" in str(results[0]) and time.monotonic() - start < 20
    closing = asyncio.ensure_future(frames_of(client))
    await asyncio.sleep(0.05)
    await client.close()
    with pytest.raises(EngineClosed):
        await closing


async def test_a_server_that_stops_lets_running_requests_finish() -> None:
    engine = scripted(["A light", 0.3, "A lighthouse."])
    server = EngineServerThread(engine)
    client = await opened(server)
    running = client.generate(ASK)
    await anext(running)
    closing = asyncio.create_task(asyncio.to_thread(server.close, 5.0))
    await until(lambda: server.server.closing)
    waiting = asyncio.ensure_future(frames_of(client))  # the stopping server refuses it
    assert [frame async for frame in running][-1].text == "A lighthouse."
    await asyncio.wait_for(closing, PATIENCE)
    assert len(engine.requests) == 1 and not waiting.done()
    async with served(scripted("From the next server."), port=server.port):
        assert (await waiting)[-1].text == "From the next server."
        await client.close()


async def test_a_token_is_required_if_the_server_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(scripted("Text."), token="sesame") as server:
        for token in ("", "wrong", "sesam", "séäm"):
            monkeypatch.setenv(TOKEN_VARIABLE, token)
            with pytest.raises(BadOption, match=f"refuses the token. Set {TOKEN_VARIABLE}"):
                await opened(server)
        monkeypatch.setenv(TOKEN_VARIABLE, "sesame")
        client = await opened(server)
        assert (await frames_of(client))[-1].text == "Text."
        await client.close()
    async with served(scripted("Text.")) as server:  # it is accepted where none is required
        client = await opened(server)
        await client.close()


async def test_pages_of_other_sites_cannot_connect() -> None:
    async with served(scripted("Text.")) as server:
        with pytest.raises(InvalidStatus, match="403"):
            connect(server.url, subprotocols=[SUBPROTOCOL], origin=Origin("https://evil.example"))
        with pytest.raises(InvalidStatus, match="400"):
            connect(server.url)


@pytest.mark.parametrize(
    "message", ["x", "{}", '{"type":"dance","id":1}', '{"type":"generate","id":1}', '{"type":"warm"}']
)
async def test_a_client_with_invalid_messages_is_disconnected(message: str) -> None:
    engine = scripted("Text.")
    async with served(engine) as server:
        with connect(server.url, subprotocols=[SUBPROTOCOL]) as websocket:
            websocket.recv()
            websocket.send(message)
            with pytest.raises(ConnectionClosed):
                websocket.recv(PATIENCE)
        client = await opened(server)
        assert (await frames_of(client))[-1].text == "Text."
        await client.close()


async def test_a_text_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_TEXT_LENGTH", 1000)
    engine = scripted(["word " * count for count in range(1000)], delay=0.001)
    async with served(engine) as server:
        client = await opened(server)
        with pytest.raises(GenerationFailed, match="more than 1,000 characters"):
            await frames_of(client.engine)
        await until(lambda: engine.running == 0)
        await client.close()


async def test_a_client_has_a_bounded_number_of_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_CLIENT_REQUESTS", 2)
    engine = scripted(["A light", HANG])
    async with served(engine) as server:
        client = await opened(server)
        running = [client.generate(ASK) for _ in range(2)]
        for one in running:
            await anext(one)
        with pytest.raises(RequestRefused, match="2 requests of one client"):
            await frames_of(client)
        for one in running:
            await one.aclose()
        await until(lambda: server.server.num_requests == 0)
        await anext(client.generate(ASK))
        await client.close()


async def test_a_client_with_many_requests_does_not_keep_others_waiting() -> None:
    engine = scripted(["A light", HANG], about=replace(ABOUT, parallel=2))
    click, prefetch = ASK, replace(ASK, priority=Priority.PREFETCH)
    async with served(engine) as server:
        busy, other = await opened(server), await opened(server)
        running = [busy.generate(click) for _ in range(10)]
        first = [asyncio.ensure_future(anext(one)) for one in running]
        await until(lambda: server.server.num_requests == 10)
        await until(lambda: engine.running == 4)
        clicked = other.generate(click)
        await anext(clicked)
        assert engine.running == 5, "the engine knows four of the ten, and the one of the other client"

        running += [other.generate(prefetch) for _ in range(5)]
        running.append(other.generate(waiting := replace(prefetch, max_tokens=9)))
        first += [asyncio.ensure_future(anext(one)) for one in running[10:]]
        await until(lambda: engine.running == 7)
        other.promote(waiting)
        await until(lambda: engine.requests[-1] == replace(waiting, priority=Priority.CLICK))
        for each in first:
            each.cancel()
        await asyncio.wait(first)
        await busy.close()
        await other.close()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ws://127.0.0.1:1", "cannot be reached"),
        ("ws://", "is not the address of an engine server. Example: ws://127.0.0.1:8090"),
        ("ws://host:port", "is not the address"),
    ],
)
def test_an_address_without_a_server_is_an_error(address: str, message: str) -> None:
    with pytest.raises(UnknownEngine, match=message):
        open_engine(address)


def test_another_server_is_no_engine_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        import threading

        def answer() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")

        threading.Thread(target=answer).start()
        with pytest.raises(UnknownEngine, match="is not an engine server of this version"):
            open_engine(f"ws://127.0.0.1:{other.getsockname()[1]}")


async def test_a_stop_by_the_engine_itself_is_reported() -> None:
    engine: ScriptedEngine = scripted(["A light", HANG])
    async with served(engine) as server:
        client = await opened(server, wait_timeout=0.2)
        running = client.generate(ASK)
        await anext(running)
        server.loop.call_soon_threadsafe(lambda: asyncio.ensure_future(engine.close()))
        with pytest.raises(GenerationFailed):
            await asyncio.wait_for(anext(running), PATIENCE)
        await client.close()
