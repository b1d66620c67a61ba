"""Any server that speaks OpenAI's chat protocol: vLLM, SGLang, llama-server, Ollama, or a hosted one.

The life of a request: it waits for a place (``slots``), a task of its own sends it and reads the events that come
back (``sse``); what a model thinks, repeats or wraps around its answer is taken off (``answers``), and the newest
frame waits in one place for its reader. Closing the iterator cancels the task, and with it the connection, which
is how such servers learn that nobody reads any more.

Servers differ in what they understand. What one refuses is left out, said in ``about.reasons``, and not sent to it
again (``dialect``). A request is sent again only as long as nothing of its text has come, so no text is repeated.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import os
import secrets
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from ..chat_prompts import to_messages
from ..engine import Abilities, About, Progress
from ..errors import EngineClosed, EngineError, MissingPackage, PromptTooLong, RequestRefused
from ..frames import Frame, Priority, Prompt, Request
from ..options import Option, check_options
from ..request_slots import SlotScheduler
from .capabilities import ServerCapabilities
from .chat_request import ChatRequest, Timeouts
from .discovery import ServerInfo, discover, is_local
from .errors import KEY_VARIABLES

CANVAS_LENGTH: Final = 256
"""Tokens in one canvas: the length of DiffusionGemma's, which vLLM sends as one piece."""

OPTIONS: Final = (
    Option("model", None, "text", "the model's name, if the server has several"),
    Option("key", None, "text", "the API key; None takes the variable UNWRITTEN_API_KEY or OPENAI_API_KEY"),
    Option("context", None, "count", "tokens that one request may use; None asks the server", 256, 1 << 24),
    Option("parallel", 4, "count", "requests that are sent at the same time", 1, 1024),
    Option("images", None, "flag", "whether the model sees images; None asks the server"),
    Option("connect_timeout", 5.0, "number", "seconds until a server that cannot be reached is given up", 0.1, 3600),
    Option("first_timeout", 60.0, "number", "seconds until the first text", 0.1, 36000),
    Option("silence_timeout", 30.0, "number", "seconds between two pieces of text", 0.1, 36000),
    Option("retries", 2, "count", "how often a request is sent again while nothing of its text has come", 0, 20),
    Option("extra", None, "object", "fields that every request has in addition"),
)
"""Options of the engine, as ``open_engine`` takes them."""

SAMPLING: Final = (
    Option("temperature", None, "number", "0 always takes the likeliest token; higher is more varied", 0, 5),
    Option("top_p", None, "number", "choose among the likeliest tokens that have this share together", 0, 1),
    Option("top_k", None, "count", "choose among so many likeliest tokens", 0, 1 << 20),
    Option("min_p", None, "number", "drop tokens less likely than this share of the likeliest", 0, 1),
    Option("presence_penalty", None, "number", "make tokens that came at all less likely", -2, 2),
    Option("frequency_penalty", None, "number", "make tokens less likely for each time they came", -2, 2),
    Option("repetition_penalty", None, "number", "make tokens that came less likely; 1 does not", 0.1, 10),
    Option("extra", None, "object", "fields that this request has in addition"),
)
"""Sampling options of a request. What is not given is left to the server."""

_OWNER: Final = "The engine for OpenAI-compatible servers"
_KINDS: Final = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"RIFF": "webp"}


def open_openai(
    address: str, *, progress: Progress | None = None, reasons: Sequence[str] = (), **options: Any
) -> OpenAIEngine:
    """Look at a server, and choose its model. Takes a moment; call it in a thread.

    Args:
        address: such as ``http://localhost:8000/v1``; ``/v1`` is added if the server answers there.
        progress: called before and after.
        reasons: why this server was chosen.
        options: see ``OPTIONS``.

    Raises:
        UnknownEngine: nobody answers there, or not like such a server.
        ModelNotFound: it has no such model, or several and none is named; the message lists them.
        BadOption: the key is missing or wrong, or another option is.
        UnknownOption: an option that there is not.
        MissingPackage: httpx2 is not installed.
    """
    settings = check_options(options, OPTIONS, _OWNER)
    told = progress or (lambda share, doing: None)
    told(0.0, f"Asking {address} for its models")
    key = settings["key"] or environment_key(address)
    found = discover(_http(), address, settings["model"], key, settings["connect_timeout"])
    told(1.0, f"{found.model} is ready")
    return OpenAIEngine(found, settings, key, reasons)


def environment_key(address: str) -> str:
    """The key in the environment. One that was set for other programs is not sent over an open network."""
    own, others = KEY_VARIABLES
    guarded = address.startswith("https://") or is_local(address)
    return os.environ.get(own) or (os.environ.get(others, "") if guarded else "")


def _http() -> Any:
    """The module httpx2. Not imported at the top: other engines do without."""
    try:
        return importlib.import_module("httpx2")
    except ImportError as error:
        raise MissingPackage(f"Model servers need the package httpx2 ({error}). Type: pip install httpx2") from error


class OpenAIEngine:
    """An engine over one model of one server. Made by ``open_openai``."""

    def __init__(self, found: ServerInfo, settings: Mapping[str, Any], key: str, reasons: Sequence[str]) -> None:
        self._found = found
        self._extra = settings["extra"] or {}
        self._dialect = ServerCapabilities()
        self._slots = SlotScheduler(settings["parallel"], settings["parallel"])
        self._limits = Timeouts(settings["first_timeout"], settings["silence_timeout"], settings["retries"])
        self._running: dict[asyncio.Task[None], ChatRequest] = {}
        self._closed = False
        http = _http()
        self._http = http
        self._client = http.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            verify=found.address.startswith("https://"),  # loading certificates takes a while
            trust_env=not found.local,  # a proxy knows nothing of this machine's own addresses
            timeout=http.Timeout(None, connect=settings["connect_timeout"], write=30),  # reading is timed by us
            limits=http.Limits(max_connections=None, max_keepalive_connections=settings["parallel"]),
        )
        self._about = About(
            engine="openai",
            model=found.model.rpartition("/")[2] if found.model.startswith("/") else found.model,
            device=found.address,
            quantization="",
            memory_bytes=0,
            context=settings["context"] or found.context,
            canvas_length=CANVAS_LENGTH,
            parallel=settings["parallel"],
            abilities=Abilities(
                instruct=True,
                schemas=True,
                prefetch=found.local,  # others may charge
                markup=True,
                images=found.images if settings["images"] is None else settings["images"],
            ),
            reasons=(*reasons, *found.reasons),
        )

    @property
    def about(self) -> About:
        """What this engine is, and what its server turned out not to understand."""
        return replace(self._about, reasons=(*self._about.reasons, *self._dialect.reasons))

    async def generate(self, request: Request) -> AsyncGenerator[Frame, None]:
        """Write one text. See ``Engine.generate``; options are those in ``SAMPLING``."""
        if self._closed:
            raise EngineClosed("The engine is closed. Open it again.")
        body, budget = self._body(request)
        asked = time.monotonic()
        slot = await self._slots.acquire("", request.priority, request)
        exchange = ChatRequest(
            self._http,
            self._client,
            self._found,
            self._dialect,
            self._limits,
            request,
            body,
            budget=budget,
            canvas_length=CANVAS_LENGTH,
            queued=time.monotonic() - asked,
        )
        task = asyncio.create_task(exchange.run(), name="model server request")
        self._running[task] = exchange
        try:
            while not (frame := await exchange.newest()).done:
                yield frame
        finally:
            task.cancel()
            self._running.pop(task, None)
            try:
                await asyncio.wait([task])  # the connection is closed now
            finally:
                self._slots.release(slot)
        yield frame

    def check(self, request: Request) -> None:
        """See ``Engine.check``. What a server makes of a schema, only the server knows."""
        self._body(request)

    def promote(self, request: Request) -> None:
        """See ``Engine.promote``."""
        self._slots.promote(request)

    async def warm(self, prompts: Sequence[Prompt]) -> None:
        """Let a server on this machine evaluate what these prompts share; others are not asked, they may charge."""
        if not self._found.local:
            return
        for prompt in {p.system: replace(p, ask="A", facts=(), opening="", images=()) for p in prompts}.values():
            try:
                async for _ in self.generate(Request(prompt, max_tokens=1, priority=Priority.PREFETCH)):
                    pass
            except EngineError:
                continue

    async def close(self) -> None:
        """Stop all work and close the connections. Running generations raise ``EngineClosed``."""
        if self._closed:
            return
        self._closed = True
        self._slots.close()
        tasks = list(self._running)
        for task, exchange in self._running.items():
            exchange.fail(EngineClosed("The engine was closed while it was writing."))
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._client.aclose()

    def _body(self, request: Request) -> tuple[dict[str, Any], int]:
        """What the server is sent, but for what depends on its dialect, and the budget in tokens.

        Raises:
            RequestRefused, UnknownOption, BadOption: what this engine cannot do.
        """
        about = self._about
        options = check_options(request.options, SAMPLING, _OWNER)
        if request.draft is not None:
            raise RequestRefused(f"{about.model} cannot edit a draft. Put the text into the prompt's facts.")
        if request.prompt.images and not about.abilities.images:
            raise RequestRefused(
                f"{about.model} cannot see images, as far as {about.device} says. Leave them out of the prompt, or "
                f"open the engine with images=True."
            )
        if request.schema is not None and request.prompt.opening.strip():
            raise RequestRefused("A request with a shape cannot have an opening. Leave it out.")
        budget = request.budget(CANVAS_LENGTH)
        if about.context and budget >= about.context:
            raise PromptTooLong(
                f"{budget:,} tokens of text do not fit into the context of {about.context:,} tokens. "
                f"Ask for fewer canvases, or start the server with a larger context."
            )
        extra = {**self._extra, **(options.pop("extra") or {})}
        body: dict[str, Any] = {
            "model": self._found.model,
            "messages": _with_images(to_messages(request.prompt), request.prompt.images),
            "stream": True,
            "max_tokens": budget,
            "seed": secrets.randbelow(2**31) if request.seed is None else request.seed,
            **{name: value for name, value in options.items() if value is not None},
            **extra,
        }
        if request.stop:
            body["stop"] = list(request.stop[:4])  # more are refused by some; all are looked for here too
        return body, budget


def _with_images(messages: Sequence[dict[str, str]], images: Sequence[bytes]) -> list[dict[str, Any]]:
    """The messages with the images before the text of the last one.

    Raises:
        RequestRefused: one that is not an image of a known kind.
    """
    told: list[dict[str, Any]] = [dict(message) for message in messages]
    if images:
        parts = [{"type": "image_url", "image_url": {"url": _data(image)}} for image in images]
        told[-1]["content"] = [*parts, {"type": "text", "text": told[-1]["content"]}]
    return told


def _data(image: bytes) -> str:
    kind = next((kind for begin, kind in _KINDS.items() if image.startswith(begin)), "")
    if not kind:
        raise RequestRefused(f"An image of {len(image):,} bytes is neither PNG, JPEG nor WebP. Convert it first.")
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"
