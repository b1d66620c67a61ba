"""A scripted OpenAI-compatible model server, and an engine that uses it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from tests.support.servers import ServerThread

from unwritten_engine import Engine, Frame, Prompt, open_engine
from unwritten_engine import Request as Ask
from unwritten_engine.cleaning import CleanEngine

Answer = Callable[[Request, dict[str, Any]], Awaitable[Response]]


class ModelServer:
    """An OpenAI-compatible server on a free port of this machine.

    Attributes:
        models: What ``/v1/models`` returns.
        answers: How the next requests are answered, in order. The last one answers all further requests.
        bodies: The bodies of the requests.
        gone: How many streams the client closed before they ended.
    """

    def __init__(self) -> None:
        self.reset()
        app = Starlette(
            routes=[
                Route("/v1/models", self._models),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
            ]
        )
        self._server = ServerThread(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=0)

    def reset(self) -> None:
        """Return to the initial state."""
        self.models: Any = {"object": "list", "data": [{"id": "tiny", "max_model_len": 4096}]}
        self.models_status = 200
        self.answers: list[Answer] = [says("A text.")]
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.gone = 0

    @property
    def url(self) -> str:
        """Its URL, without ``/v1``."""
        return f"http://{self._server.address}"

    def close(self) -> None:
        """Stop at once, with open requests."""
        self._server.close(force=True)

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
    """Run a server."""
    server = ModelServer()
    try:
        yield server
    finally:
        server.close()


def event(value: Any) -> bytes:
    """Return one server-sent event."""
    return f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n".encode()


def piece(text: str, **more: Any) -> dict[str, Any]:
    """Return a chunk with a piece of text."""
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}, **more}]}


def says(
    *pieces: str, finish: str | None = "stop", usage: dict[str, int] | None = None, done: bool = True, pause: float = 0
) -> Answer:
    """Stream these pieces, as vLLM does."""

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
    """Stream these bytes."""

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
    """Answer with an error, as OpenAI's servers do."""

    async def answer(request: Request, body: dict[str, Any]) -> Response:
        return JSONResponse({"error": {"message": message, **more}}, status, headers)

    return answer


def unless(field: str, message: str, then: Answer, *, kind: str | None = None, status: int = 400) -> Answer:
    """Refuse requests that have this field (of this type), and answer the others."""

    async def answer(request: Request, body: dict[str, Any]) -> Response:
        given = body.get(field)
        if given is not None and (kind is None or given["type"] == kind):
            return JSONResponse({"error": {"message": message}}, status)
        return await then(request, body)

    return answer


async def hangs(request: Request, body: dict[str, Any]) -> Response:
    """Do not answer for a long time."""
    await asyncio.sleep(30)
    return Response()


ASK = Ask(Prompt("A page about lighthouses."), max_tokens=40)
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@contextlib.asynccontextmanager
async def opened(server: ModelServer, **options: Any) -> AsyncIterator[CleanEngine]:
    """Open an engine on this server."""
    engine = await asyncio.to_thread(open_engine, f"{server.url}/v1", **options)
    try:
        yield engine
    finally:
        await engine.close()


async def frames_of(engine: Engine, request: Ask = ASK) -> list[Frame]:
    """Return all frames of a request."""
    return [frame async for frame in engine.generate(request)]


async def text_of(server: ModelServer, request: Ask = ASK, **options: Any) -> str:
    """Return what a new engine generates."""
    async with opened(server, **options) as engine:
        return (await frames_of(engine, request))[-1].text
