"""A model server for tests that does as a test tells it, well or badly, and an engine that talks to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from unwritten_engine import Frame, Prompt
from unwritten_engine import Request as Ask
from unwritten_engine.openai.engine import OpenAIEngine, open_openai

Answer = Callable[[Request, dict[str, Any]], Awaitable[Response]]


class ModelServer:
    """A server of OpenAI's kind on a free port of this machine.

    Attributes:
        models: what ``/v1/models`` lists.
        answers: how the next requests are answered, in order; the last one answers all that follow.
        bodies: what was asked.
        gone: how many streams were closed by their reader before they ended.
    """

    def __init__(self) -> None:
        self.reset()
        self._socket = socket.create_server(("127.0.0.1", 0))
        app = Starlette(
            routes=[
                Route("/v1/models", self._models),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
            ]
        )
        config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=0)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)
        self._thread.start()

    def reset(self) -> None:
        """As if it had just been started."""
        self.models: Any = {"object": "list", "data": [{"id": "tiny", "max_model_len": 4096}]}
        self.models_status = 200
        self.answers: list[Answer] = [says("A text.")]
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.gone = 0

    @property
    def url(self) -> str:
        """Where it is, without ``/v1``."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def close(self) -> None:
        """Stop, with whatever is open."""
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(5)
        self._socket.close()

    async def _models(self, request: Request) -> Response:
        self.headers.append(dict(request.headers))
        if isinstance(self.models, str):
            return Response(self.models, self.models_status, media_type="text/html")
        return JSONResponse(self.models, self.models_status)

    async def _chat(self, request: Request) -> Response:
        body = json.loads(await request.body())
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        request.scope["unwritten.server"] = self
        return await answer(request, body)


@contextlib.contextmanager
def model_server() -> Iterator[ModelServer]:
    """A server, and its end."""
    server = ModelServer()
    try:
        yield server
    finally:
        server.close()


def event(value: Any) -> bytes:
    """One event of a stream."""
    return f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n".encode()


def piece(text: str, **more: Any) -> dict[str, Any]:
    """A chunk with a piece of text."""
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}, **more}]}


def says(
    *pieces: str, finish: str | None = "stop", usage: dict[str, int] | None = None, done: bool = True, pause: float = 0
) -> Answer:
    """Streams these pieces, as vLLM does."""

    async def chunks() -> AsyncIterator[bytes]:
        yield event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        for text in pieces:
            yield event(piece(text))
            await asyncio.sleep(pause)
        if finish:
            yield event({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        if usage:
            yield event({"choices": [], "usage": usage})
        if done:
            yield event("[DONE]")

    return raw(chunks)


def raw(chunks: Callable[[], AsyncIterator[bytes]]) -> Answer:
    """Streams these bytes."""

    async def answer(request: Request, body: dict[str, Any]) -> Response:
        async def counted() -> AsyncIterator[bytes]:
            whole = False
            try:
                async for chunk in chunks():
                    yield chunk
                whole = True
            finally:
                request.scope["unwritten.server"].gone += not whole

        return StreamingResponse(counted(), media_type="text/event-stream")

    return answer


def refuses(status: int, message: str, *, headers: dict[str, str] | None = None, **more: Any) -> Answer:
    """Answers an error, as OpenAI's servers do."""

    async def answer(request: Request, body: dict[str, Any]) -> Response:
        return JSONResponse({"error": {"message": message, **more}}, status, headers)

    return answer


def unless(field: str, message: str, then: Answer, *, kind: str | None = None, status: int = 400) -> Answer:
    """Refuses requests that have this field (of this type), and answers the others."""

    async def answer(request: Request, body: dict[str, Any]) -> Response:
        given = body.get(field)
        if given is not None and (kind is None or given["type"] == kind):
            return JSONResponse({"error": {"message": message}}, status)
        return await then(request, body)

    return answer


async def hangs(request: Request, body: dict[str, Any]) -> Response:
    """Answers nothing for a long time."""
    await asyncio.sleep(30)
    return Response()


ASK = Ask(Prompt("A page about lighthouses."), max_tokens=40)
SHAPE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@contextlib.asynccontextmanager
async def opened(server: ModelServer, **options: Any) -> AsyncIterator[OpenAIEngine]:
    """An engine on this server, and its end."""
    engine = await asyncio.to_thread(open_openai, f"{server.url}/v1", **options)
    try:
        yield engine
    finally:
        await engine.close()


async def frames_of(engine: OpenAIEngine, request: Ask = ASK) -> list[Frame]:
    """All frames of a request."""
    return [frame async for frame in engine.generate(request)]


async def text_of(server: ModelServer, request: Ask = ASK, **options: Any) -> str:
    """What a new engine writes."""
    async with opened(server, **options) as engine:
        return (await frames_of(engine, request))[-1].text
