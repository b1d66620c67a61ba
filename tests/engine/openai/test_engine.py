"""Servers of OpenAI's kind: a real one, with the embedded model, and one that does everything wrong."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from starlette.requests import Request as WebRequest
from starlette.responses import JSONResponse, Response
from tests.support.model_server import (
    ASK,
    SCHEMA,
    ModelServer,
    event,
    frames_of,
    model_server,
    opened,
    piece,
    raw,
    refuses,
    says,
    text_of,
)
from tests.support.servers import PATIENCE

from unwritten_engine import Draft, Engine, Example, Prompt, Request, open_engine
from unwritten_engine.cleaning import clean_engine
from unwritten_engine.errors import (
    BadOption,
    EngineError,
    GenerationFailed,
    ModelNotFound,
    PromptTooLong,
    RequestRefused,
    UnknownEngine,
    UnknownOption,
)
from unwritten_engine.llamacpp.embedded import embedded_file
from unwritten_engine.openai.discovery import is_local
from unwritten_engine.openai.engine import environment_key, open_openai

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


# -- a real server ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> Iterator[str]:
    """The address of xllamacpp's own server, with the embedded model behind a key."""
    xllamacpp = importlib.import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = str(embedded_file(lambda share, doing: None))
    params.model_alias = {"gemma"}
    params.n_ctx, params.n_parallel = 4096, 2
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.warmup = False
    params.verbosity = -1
    params.api_keys = ["a-key"]
    server = xllamacpp.Server(params)
    yield server.listening_address
    del server


@pytest.fixture(scope="module")
async def engine(real: str) -> AsyncIterator[Engine]:
    # Not cleaned: the model was not trained for turns, and soon invents the next one.
    engine = await asyncio.to_thread(open_openai, real, key="a-key", parallel=2)
    yield engine
    await engine.close()


@pytest.mark.model
async def test_a_real_server_is_described(engine: Engine, real: str) -> None:
    about = engine.about
    assert (about.engine, about.device, about.parallel) == ("openai", real, 2)
    assert "gemma" in about.model
    assert about.context == 2048, "of a slot"
    assert about.abilities.instruct and about.abilities.schemas and not about.abilities.images
    assert "The server has one model." in about.reasons


@pytest.mark.model
async def test_a_real_server_streams_frames(engine: Engine) -> None:
    frames = await frames_of(engine, Request(Prompt("A page about lighthouses."), max_tokens=32, seed=3))
    assert len(frames) > 3
    for frame, later in itertools.pairwise(frames):
        assert later.text.startswith(frame.text[: frame.fixed])
        assert later.step >= frame.step and not frame.done
        assert all(frame.fixed <= start < end <= len(frame.text) for start, end in frame.unsettled)
    usage = frames[-1].usage
    assert usage is not None
    assert 0 < usage.tokens <= 32 and usage.prompt_tokens > 5 and usage.seed == 3 and usage.seconds > 0
    assert frames[-1].fixed == len(frames[-1].text)


@pytest.mark.model
async def test_a_real_server_repeats_with_a_seed(engine: Engine) -> None:
    request = Request(Prompt("Rain."), max_tokens=16, seed=5, options={"temperature": 1.0})
    texts = [(await frames_of(engine, request))[-1].text for _ in range(2)]
    assert texts[0] == texts[1] != ""


@pytest.mark.model
async def test_a_real_server_follows_a_schema(engine: Engine) -> None:
    request = Request(Prompt("A keeper."), max_tokens=200, schema=SCHEMA, seed=1)
    last = (await frames_of(clean_engine(engine), request))[-1]
    value = json.loads(last.text)
    assert value.keys() == {"name", "age"} and isinstance(value["age"], int)
    assert last.text == json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    assert not any("schema" in reason for reason in engine.about.reasons)


@pytest.mark.model
async def test_a_real_server_applies_opening_and_stop(engine: Engine) -> None:
    prompt = Prompt("Lighthouses.", opening="A lighthouse is")
    frames = await frames_of(clean_engine(engine), Request(prompt, max_tokens=24, stop=("e",)))
    assert all(frame.text.startswith("A lighthouse is") for frame in frames)
    assert "e" not in frames[-1].text.removeprefix("A lighthouse is")


@pytest.mark.model
async def test_closing_stops_a_real_server(engine: Engine) -> None:
    # One token at a time takes seconds for all of these; they can only be closed in time if each is stopped.
    begun = time.monotonic()
    for _ in range(6):
        stream = engine.generate(Request(Prompt("A very long page."), canvases=4, options={"temperature": 1.2}))
        assert not (await anext(stream)).done
        await stream.aclose()
    await frames_of(engine, Request(Prompt("Short."), max_tokens=1))
    assert time.monotonic() - begun < 15


@pytest.mark.model
async def test_a_real_server_refuses_too_long_a_prompt(engine: Engine) -> None:
    with pytest.raises(PromptTooLong, match="do not fit into the context of"):
        await frames_of(engine, Request(Prompt("word " * 4000)))
    with pytest.raises(PromptTooLong, match="2,048 tokens of text do not fit"):
        await frames_of(engine, Request(Prompt("A page."), canvases=8))


@pytest.mark.model
async def test_a_real_server_requires_its_key(real: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UNWRITTEN_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(BadOption, match=r"rejects the API key \(401.*UNWRITTEN_API_KEY \(or OPENAI_API_KEY\)"):
        await asyncio.to_thread(open_openai, real)
    monkeypatch.setenv("OPENAI_API_KEY", "wrong")
    monkeypatch.setenv("UNWRITTEN_API_KEY", "a-key")
    engine = await asyncio.to_thread(open_openai, real)
    assert (await frames_of(engine, Request(Prompt("Tea."), max_tokens=2)))[-1].done
    await engine.close()


def test_keys_of_other_programs_are_not_sent_to_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNWRITTEN_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "theirs")
    keys = [
        environment_key(f"{host}/v1") for host in ("https://a.example", "http://localhost:8000", "http://a.example")
    ]
    assert keys == ["theirs", "theirs", ""]
    monkeypatch.setenv("UNWRITTEN_API_KEY", "ours")
    assert environment_key("http://a.example/v1") == "ours"


# -- what is sent -----------------------------------------------------------------------------------------


async def test_requests_have_the_expected_body(server: ModelServer) -> None:
    prompt = Prompt("Tea.", system="You write.", examples=(Example("Rain.", "Water."),), facts=("It is hot.",))
    request = Request(prompt, canvases=2, seed=7, stop=("END",), options={"temperature": 0.5, "extra": {"top_k": 3}})
    async with opened(server, key="secret", extra='{"user": "me", "top_k": 9}') as engine:
        await frames_of(engine, request)
    body = server.bodies[0]
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "user"]
    assert body["model"] == "tiny" and body["stream"] is True
    assert (body["max_tokens"], body["seed"]) == (512, 7) and "stop" not in body
    assert (body["temperature"], body["user"], body["top_k"]) == (0.5, "me", 3)
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert "response_format" not in body and "top_p" not in body
    assert {headers["authorization"] for headers in server.headers} == {"Bearer secret"}


async def test_a_random_seed_is_drawn_and_reported(server: ModelServer) -> None:
    async with opened(server) as engine:
        seeds = [(await frames_of(engine))[-1].usage.seed for _ in range(2)]  # type: ignore[union-attr]
    assert seeds == [body["seed"] for body in server.bodies] and seeds[0] != seeds[1]


async def test_images_are_sent_with_the_prompt(server: ModelServer) -> None:
    image = b"\x89PNG\r\n\x1a\n1234"
    request = Request(Prompt("What is this?", images=(image,)))
    async with opened(server, images=True) as engine:
        await frames_of(engine, request)
        with pytest.raises(RequestRefused, match="neither PNG, JPEG nor WebP"):
            await frames_of(engine, Request(Prompt("What?", images=(b"GIF89a",))))
    picture, text = server.bodies[0]["messages"][-1]["content"]
    assert picture["image_url"]["url"] == "data:image/png;base64,iVBORw0KGgoxMjM0"
    assert "What is this?" in text["text"]
    async with opened(server) as engine:
        with pytest.raises(RequestRefused, match="images=True"):
            await frames_of(engine, request)


@pytest.mark.parametrize(
    ("request_", "kind", "message"),
    [
        (Request(Prompt("A."), options={"tempratur": 1}), UnknownOption, "Did you mean 'temperature'"),
        (Request(Prompt("A."), options={"top_p": 2}), BadOption, "from 0 to 1"),
        (Request(Prompt("A."), options={"extra": "no"}), BadOption, "a JSON object"),
        (Request(Prompt("A."), draft=Draft("B.")), RequestRefused, "cannot edit"),
        (Request(Prompt("A.", opening="B"), schema=SCHEMA), RequestRefused, "cannot have an opening"),
        (Request(Prompt("A."), canvases=16), PromptTooLong, "4,096 tokens of text do not fit"),
    ],
)
async def test_unsupported_requests_are_refused_before_sending(
    server: ModelServer, request_: Request, kind: type[EngineError], message: str
) -> None:
    async with opened(server) as engine:
        with pytest.raises(kind, match=message):
            await frames_of(engine, request_)
        with pytest.raises(kind, match=message):
            engine.check(request_)
    assert server.bodies == []


# -- which server, which model ----------------------------------------------------------------------------


async def test_v1_is_added_if_the_server_responds_there(server: ModelServer) -> None:
    for address in (server.url, f"{server.url}/", f"{server.url}/v1/", f"{server.url}/v1/chat/completions"):
        engine = await asyncio.to_thread(open_engine, address)
        assert engine.about.device == f"{server.url}/v1"
        await engine.close()


@pytest.mark.parametrize(
    ("models", "status", "options", "kind", "message"),
    [
        ({"data": [{"id": "a"}, {"id": "b"}]}, 200, {}, ModelNotFound, "several models. It has a, b. Name one with"),
        ({"data": [{"id": "a"}]}, 200, {"model": "c"}, ModelNotFound, "no model 'c'. It has a."),
        ({"data": []}, 200, {}, ModelNotFound, "has no model"),
        ({"error": {"message": "no key"}}, 401, {}, BadOption, "401: no key.*UNWRITTEN_API_KEY"),
        ({"error": "loading"}, 503, {}, UnknownEngine, "503 .loading.*still be loading"),
        ("<h1>Hello</h1>", 200, {}, UnknownEngine, "not an OpenAI-compatible server.*text/html.*vLLM listens on"),
        ("<h1>Gone</h1>", 404, {}, UnknownEngine, "answers 404 .Gone"),
        ({"models": []}, 200, {}, UnknownEngine, "without a list of models"),
        ([1, 2], 200, {}, UnknownEngine, "without a list of models"),
    ],
)
def test_faulty_servers_are_explained(
    server: ModelServer, models: Any, status: int, options: dict[str, Any], kind: type[EngineError], message: str
) -> None:
    server.models, server.models_status = models, status
    with pytest.raises(kind, match=message):
        open_engine(f"{server.url}/v1", **options)


async def test_models_match_without_tags_and_by_alias(server: ModelServer) -> None:
    server.models = {
        "data": [{"id": "gemma:latest"}, {"id": "/x/y.gguf", "aliases": ["small"], "meta": {"n_ctx": 512}}]
    }
    async with opened(server, model="gemma") as engine:
        assert engine.about.model == "gemma:latest" and engine.about.context == 0
    async with opened(server, model="small") as engine:
        assert engine.about.model == "y.gguf" and engine.about.context == 512


@pytest.mark.parametrize(("model", "can_draw"), [("qwen2.5:0.5b", False), ("Qwen/Qwen3-8B", True), ("large", True)])
async def test_small_models_of_servers_write_no_drawings(server: ModelServer, model: str, can_draw: bool) -> None:
    server.models = {"data": [{"id": model}]}
    async with opened(server) as engine:
        assert engine.about.abilities.markup is can_draw
        assert any("drawings and programs" in reason for reason in engine.about.reasons) is (model != "large")


async def test_a_server_without_a_model_list_uses_the_named_model(server: ModelServer) -> None:
    server.models, server.models_status = {"error": "no such page"}, 404
    async with opened(server, model="hidden") as engine:
        await frames_of(engine)
    assert server.bodies[0]["model"] == "hidden"


def test_local_hosts_are_recognized() -> None:
    here = ["http://localhost:8000/v1", "http://127.0.0.1", "http://127.1.2.3:1", "http://[::1]:8000"]
    elsewhere = ["http://10.0.0.1", "https://api.openai.com/v1", "http://localhost.example", "http://127.0.0.1.example"]
    assert [is_local(address) for address in here + elsewhere] == [True] * 4 + [False] * 4


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/v1", "http://localhost:1"])
def test_a_refused_connection_is_reported(address: str) -> None:
    with pytest.raises(UnknownEngine, match="cannot be reached"):
        open_engine(address)


async def test_a_missing_model_is_explained(server: ModelServer) -> None:
    server.answers = [refuses(404, "The model `tiny` does not exist.", code="model_not_found")]
    with pytest.raises(ModelNotFound, match=r"404 for the model 'tiny'.*does not exist.* It has tiny\."):
        await text_of(server)


# -- frames -----------------------------------------------------------------------------------------------


async def test_whole_canvases_are_counted(server: ModelServer) -> None:
    # vLLM with DiffusionGemma: one chunk for each finished canvas, and a running count of tokens.
    async def chunks() -> AsyncIterator[bytes]:
        for number in range(1, 4):
            yield event(
                {**piece(f"Canvas {number}. "), "usage": {"prompt_tokens": 9, "completion_tokens": 250 * number}}
            )
            await asyncio.sleep(0.05)
        yield event(piece("", finish_reason="stop"))
        yield event("[DONE]")

    server.answers = [raw(chunks)]
    async with opened(server) as engine:
        frames = await frames_of(engine, Request(Prompt("Long."), canvases=4))
    assert [frame.canvas for frame in frames] == [0, 1, 2, 2]
    assert frames[1].text == "Canvas 1. Canvas 2. " and frames[1].canvases == 4
    usage = frames[-1].usage
    assert usage is not None and (usage.tokens, usage.canvases, usage.prompt_tokens) == (750, 3, 9)


async def test_a_slow_reader_gets_the_newest_frame(server: ModelServer) -> None:
    first_was_read = threading.Event()  # the server has an event loop of its own

    async def chunks() -> AsyncIterator[bytes]:
        yield event(piece("word0 "))
        while not first_was_read.is_set():
            await asyncio.sleep(0.005)
        for number in range(1, 50):
            yield event(piece(f"word{number} "))
        yield event(piece("", finish_reason="stop"))
        yield event("[DONE]")

    server.answers = [raw(chunks)]
    async with opened(server) as engine:
        stream = engine.generate(ASK)
        first = await anext(stream)
        first_was_read.set()
        await asyncio.sleep(0.3)
        rest = [frame async for frame in stream]
    assert first.text.strip() == "word0" and len(rest) < 25
    assert rest[-1].text.endswith("word49")


async def test_usage_of_the_last_event_counts(server: ModelServer) -> None:
    server.answers = [says("One ", "two.", usage={"completion_tokens": 12, "prompt_tokens": 30})]
    async with opened(server) as engine:
        usage = (await frames_of(engine))[-1].usage
    assert usage is not None and (usage.tokens, usage.prompt_tokens, usage.reason) == (12, 30, "end")


@pytest.mark.parametrize(
    ("pieces", "finish", "text", "reason"),
    [
        (("Half a sen",), "length", "Half a sen", "length"),
        (("One. ST", "OP Two."), "stop", "One.", "stop"),
        (("<think>STOP</think>", "One."), "stop", "One.", "end"),
        ((), "stop", "", "end"),
    ],
)
async def test_end_reasons_are_read(
    server: ModelServer, pieces: tuple[str, ...], finish: str, text: str, reason: str
) -> None:
    server.answers = [says(*pieces, finish=finish)]
    async with opened(server) as engine:
        last = (await frames_of(engine, Request(Prompt("A."), stop=("STOP",))))[-1]
    assert last.usage is not None and (last.text, last.usage.reason) == (text, reason)


@pytest.mark.parametrize("field", ["content", "reasoning"])
async def test_a_server_that_ignores_the_limit_is_stopped(server: ModelServer, field: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield event(piece("Tall."))
        for number in itertools.count():
            yield event({"choices": [{"delta": {field: f" w{number}" + "x" * 60}}]})
            await asyncio.sleep(0.001)

    server.answers = [raw(chunks)]
    async with opened(server) as engine, asyncio.timeout(PATIENCE):
        last = (await frames_of(engine, Request(Prompt("A."), max_tokens=20)))[-1]
    assert last.usage is not None and last.usage.reason == "length"
    assert last.text.startswith("Tall.") and len(last.text) < 2000


@pytest.mark.parametrize("pieces", [("A lighthouse", " is tall."), ("**A lighthouse** is tall.",), ("is tall.",)])
async def test_the_opening_occurs_once(server: ModelServer, pieces: tuple[str, ...]) -> None:
    server.answers = [says(*pieces)]
    request = Request(Prompt("Lighthouses.", opening="A lighthouse"))
    async with opened(server) as engine:
        frames = await frames_of(engine, request)
    assert all(frame.text.startswith("A lighthouse") for frame in frames)
    assert frames[-1].text == "A lighthouse is tall."
    assert "Begin the answer with exactly this: A lighthouse" in server.bodies[0]["messages"][-1]["content"]


async def test_a_response_without_streaming_is_accepted(server: ModelServer) -> None:
    async def whole(request: WebRequest, body: dict[str, Any]) -> Response:
        return JSONResponse({"choices": [{"message": {"content": "At once."}, "finish_reason": "stop"}]})

    server.answers = [whole]
    assert await text_of(server) == "At once."


# -- thoughts ---------------------------------------------------------------------------------------------


async def test_thoughts_never_reach_the_text(server: ModelServer) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield event({"choices": [{"delta": {"reasoning_content": "Let me think."}}]})
        for text in ("<th", "ink>Hm, light", "houses.</thi", "nk>\n\nTall ", "towers."):
            yield event(piece(text))
        yield event(piece("", finish_reason="stop"))

    server.answers = [raw(chunks)]
    async with opened(server) as engine:
        frames = await frames_of(engine)
    assert not any("think" in frame.text or "Hm" in frame.text for frame in frames)
    assert frames[-1].text == "Tall towers."


async def test_a_model_that_only_thinks_is_reported(server: ModelServer) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield event({"choices": [{"delta": {"reasoning": "Let me think."}}]})
        yield event({"choices": [{"delta": {}, "finish_reason": "length"}]})

    server.answers = [raw(chunks)]
    with pytest.raises(GenerationFailed, match="tiny wrote only reasoning and no text"):
        await text_of(server)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drafts": "5557", "silence_timeout": 3.0}, "'drafts' and 'silence_timeout' exclude each other"),
        ({"drafts": "5557", "retries": 2}, "'drafts' and 'retries' exclude each other"),
        ({"drafts": "5557", "extra": {"a": 1}}, "'drafts' and 'extra' exclude each other"),
        ({"drafts": "5557", "images": True}, "'drafts' and 'images' exclude each other"),
        ({"tokenizer": "owner/model"}, "'drafts' and 'tokenizer' go together"),
    ],
)
def test_options_that_would_be_ignored_are_errors_before_the_server_is_asked(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadOption, match=message):
        open_engine("http://127.0.0.1:9/v1", **options)
