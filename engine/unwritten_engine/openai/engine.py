"""The engine for OpenAI-compatible servers: vLLM, SGLang, llama-server, Ollama, or a hosted one.

A request waits for a place (``request_slots``), then a task sends it and reads the event stream (``chat_request``).
The newest frame is published. It holds what the model wrote, which ``cleaning`` turns into the text of the request.
Closing the iterator cancels the task and the connection, which tells the server to stop.

Servers support different parts of the protocol. Unsupported parts are omitted, listed in ``about.reasons`` and not sent
again (``capabilities``). A request is retried only before its first text, so that no text is repeated.
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
from ..engine import Abilities, About, Engine, Progress
from ..errors import BadOption, EngineClosed, EngineError, MissingPackage, PromptTooLong, RequestRefused
from ..frames import Frame, Priority, Prompt, Request
from ..model_size import judge_markup, parameters_in_name
from ..options import Option, check_options
from ..request_slots import SlotScheduler
from .capabilities import ServerCapabilities
from .chat_request import ChatRequest, Timeouts
from .discovery import ServerInfo, discover, is_local
from .errors import KEY_VARIABLES

CANVAS_LENGTH: Final = 256
"""Tokens in one canvas: the canvas length of DiffusionGemma, which vLLM sends as one piece."""

OPTIONS: Final = (
    Option("model", None, "text", "the model's name, if the server has several"),
    Option("key", None, "text", "the API key; None reads UNWRITTEN_API_KEY or OPENAI_API_KEY"),
    Option("context", None, "count", "maximum tokens of one request; None asks the server", 256, 1 << 24),
    Option("parallel", 4, "count", "requests that are sent at the same time", 1, 1024),
    Option("images", None, "flag", "whether the model accepts images; None asks the server"),
    Option("connect_timeout", 5.0, "number", "seconds until a connection attempt fails", 0.1, 3600),
    Option(
        "first_timeout",
        60.0,
        "number",
        "seconds until the first text; with drafts, until a canvas is complete",
        0.1,
        36000,
    ),
    Option("silence_timeout", 30.0, "number", "seconds between two pieces of text", 0.1, 36000),
    Option("retries", 2, "count", "retries of a request before its first text", 0, 20),
    Option("extra", None, "object", "additional fields of every request"),
    Option("drafts", None, "text", "where a vLLM server publishes drafts: PORT, HOST:PORT, or several with commas"),
    Option("tokenizer", None, "text", "folder or OWNER/REPO of the model, for drafts; None asks the server"),
)
"""Options of the engine, for ``open_engine``."""

SAMPLING: Final = (
    Option("temperature", None, "number", "0 always takes the most likely token; higher is more varied", 0, 5),
    Option("top_p", None, "number", "sample from the most likely tokens with this total probability", 0, 1),
    Option("top_k", None, "count", "sample from this many most likely tokens", 0, 1 << 20),
    Option("min_p", None, "number", "drop tokens below this share of the highest probability", 0, 1),
    Option("presence_penalty", None, "number", "penalty for tokens that occurred", -2, 2),
    Option("frequency_penalty", None, "number", "penalty for each occurrence of a token", -2, 2),
    Option("repetition_penalty", None, "number", "penalty for tokens that occurred; 1 for none", 0.1, 10),
    Option("extra", None, "object", "additional fields of this request"),
)
"""Sampling options of a request. Options that are not given are left to the server."""

_OWNER: Final = "The engine for OpenAI-compatible servers"
_WITHOUT_DRAFTS: Final = ("extra", "images", "silence_timeout", "retries")
"""Options that mean nothing with drafts: a canvas arrives as a whole within ``first_timeout``, and is not retried."""
_WITH_DRAFTS: Final = ("tokenizer",)
"""Options that mean nothing without drafts."""
_KINDS: Final = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"RIFF": "webp"}


def open_openai(
    address: str, *, progress: Progress | None = None, reasons: Sequence[str] = (), **options: Any
) -> Engine:
    """Connect to a server and choose its model. Blocks; call it in a thread.

    With the option ``drafts``, this is the engine of ``vllm/server.py``: drafts at every step, edits, openings and
    schemas. The shared secret is in ``UNWRITTEN_DRAFTS_KEY``.

    Args:
        address: such as ``http://localhost:8000/v1``; ``/v1`` is added if the server answers there.
        progress: called before and after.
        reasons: why this server was chosen.
        options: see ``OPTIONS``.

    Raises:
        UnknownEngine: no server answers, or it is not OpenAI-compatible.
        ModelNotFound: it has no such model, or several and none was named. The message lists them.
        BadOption: the key is missing or wrong, or another option is invalid.
        UnknownOption: an unknown option.
        MissingPackage: httpx2 is not installed.
    """
    settings = check_options(options, OPTIONS, _OWNER)
    with_drafts = settings["drafts"] is not None
    for name in _WITHOUT_DRAFTS if with_drafts else _WITH_DRAFTS:
        if settings[name] not in (None, False) and name in options:
            problem = (
                "exclude each other. Leave one of them out"
                if with_drafts
                else f"go together. Add drafts=PORT, or leave {name!r} out"
            )
            raise BadOption(f"{_OWNER}: the options 'drafts' and {name!r} {problem}.")
    report = progress or (lambda share, step: None)
    report(0.0, f"Asking {address} for its models")
    key = settings["key"] or environment_key(address)
    server = discover(_http(), address, settings["model"], key, settings["connect_timeout"])
    report(1.0, f"{server.model} is ready")
    if with_drafts:
        return _open_with_drafts(server, settings, key, reasons)
    return OpenAIEngine(server, settings, key, reasons)


def _open_with_drafts(server: ServerInfo, settings: Mapping[str, Any], key: str, reasons: Sequence[str]) -> Engine:
    """Return the engine of a vLLM server with drafts."""
    try:
        from ..vllm.draft_channel import KEY_VARIABLE, channel_settings
        from ..vllm.server import open_server
    except ImportError as error:
        raise MissingPackage(
            f"Drafts of a vLLM server need pyzmq and transformers ({error}). Type: pip install numpy pyzmq transformers"
        ) from error
    secret = os.environ.get(KEY_VARIABLE, "")
    return open_server(
        server.address,
        server.model,
        [channel_settings(address.strip(), secret) for address in settings["drafts"].split(",")],
        http=_http(),
        headers={"Authorization": f"Bearer {key}"} if key else {},
        local=server.local,
        tokenizer=settings["tokenizer"] or server.root or server.model,
        context=settings["context"] or server.context,
        parallel=settings["parallel"],
        timeout=settings["connect_timeout"],
        answer_timeout=settings["first_timeout"],
        reasons=(*reasons, *server.reasons),
    )


def environment_key(address: str) -> str:
    """Return the API key in the environment. ``OPENAI_API_KEY`` is not sent over an unencrypted network."""
    own, shared = KEY_VARIABLES
    secure = address.startswith("https://") or is_local(address)
    return os.environ.get(own) or (os.environ.get(shared, "") if secure else "")


def _http() -> Any:
    """Return the module httpx2, imported on demand."""
    try:
        return importlib.import_module("httpx2")
    except ImportError as error:
        raise MissingPackage(f"Model servers need the package httpx2 ({error}). Type: pip install httpx2") from error


class OpenAIEngine:
    """An engine for one model of one server. Created by ``open_openai``."""

    def __init__(self, server: ServerInfo, settings: Mapping[str, Any], key: str, reasons: Sequence[str]) -> None:
        self._server = server
        self._extra = settings["extra"] or {}
        self._capabilities = ServerCapabilities()
        self._slots = SlotScheduler(settings["parallel"], settings["parallel"])
        self._timeouts = Timeouts(settings["first_timeout"], settings["silence_timeout"], settings["retries"])
        self._running: dict[asyncio.Task[None], ChatRequest] = {}
        self._closed = False
        http = _http()
        self._http = http
        self._client = http.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            verify=server.address.startswith("https://"),  # loading certificates is slow
            trust_env=not server.local,  # no proxy for local addresses
            timeout=http.Timeout(None, connect=settings["connect_timeout"], write=30),  # ChatRequest times reads
            limits=http.Limits(max_connections=None, max_keepalive_connections=settings["parallel"]),
        )
        parameters = parameters_in_name(server.model)
        markup, reason = judge_markup(parameters) if parameters else (True, "")
        self._about = About(
            engine="openai",
            model=server.model.rpartition("/")[2] if server.model.startswith("/") else server.model,
            device=server.address,
            quantization="",
            memory_bytes=0,
            context=settings["context"] or server.context,
            canvas_length=CANVAS_LENGTH,
            parallel=settings["parallel"],
            abilities=Abilities(
                instruct=True,
                schemas=True,
                prefetch=server.local,  # remote servers may charge
                markup=markup,
                images=server.images if settings["images"] is None else settings["images"],
                prefill=False,
            ),
            reasons=(*reasons, *server.reasons, *([reason] if reason else [])),
        )

    @property
    def about(self) -> About:
        """See ``Engine.about``. It includes what the server turned out not to support."""
        abilities = replace(self._about.abilities, seeds=self._capabilities.takes_seeds)
        reasons = (*self._about.reasons, *self._capabilities.reasons)
        return replace(self._about, abilities=abilities, reasons=reasons)

    async def generate(self, request: Request) -> AsyncGenerator[Frame, None]:
        """See ``Engine.generate``. Options are those in ``SAMPLING``."""
        if self._closed:
            raise EngineClosed("The engine is closed. Open it again.")
        body, budget = self._build_body(request)
        arrival = time.monotonic()
        slot = await self._slots.acquire("", request.priority, request)
        chat_request = ChatRequest(
            self._http,
            self._client,
            self._server,
            self._capabilities,
            self._timeouts,
            request,
            body,
            budget=budget,
            canvas_length=CANVAS_LENGTH,
            queued=time.monotonic() - arrival,
        )
        task = asyncio.create_task(chat_request.run(), name="model server request")
        self._running[task] = chat_request
        task.add_done_callback(self._running.pop)
        async with self._slots.until_ended(slot, task):  # until the connection is closed
            while not (frame := await chat_request.next_frame()).done:
                yield frame
        yield frame

    def check(self, request: Request) -> None:
        """See ``Engine.check``. The server's support for a schema is not checked."""
        self._build_body(request)

    def promote(self, request: Request) -> None:
        """See ``Engine.promote``."""
        self._slots.promote(request)

    async def warm(self, prompts: Sequence[Prompt]) -> None:
        """Let a local server evaluate the shared prefixes. Remote servers may charge, so they are skipped."""
        if not self._server.local:
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
        for task, chat_request in self._running.items():
            chat_request.fail(EngineClosed("The engine was closed during the generation."))
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._client.aclose()

    def _build_body(self, request: Request) -> tuple[dict[str, Any], int]:
        """Return the request body, before it is adapted to the server, and the budget in tokens.

        Raises:
            RequestRefused, UnknownOption, BadOption: the request is not supported.
        """
        about = self._about
        options = check_options(request.options, SAMPLING, _OWNER)
        if request.draft is not None:
            raise RequestRefused(f"{about.model} cannot edit a draft. Put the text into the prompt's facts.")
        if request.prompt.images and not about.abilities.images:
            raise RequestRefused(
                f"{about.model} cannot see images, according to {about.device}. Leave them out of the prompt, or "
                f"open the engine with images=True."
            )
        if request.schema is not None and request.prompt.opening.strip():
            raise RequestRefused("A request with a schema cannot have an opening. Leave it out.")
        budget = request.budget(CANVAS_LENGTH)
        if about.context and budget >= about.context:
            raise PromptTooLong(
                f"{budget:,} tokens of text do not fit into the context of {about.context:,} tokens. "
                f"Ask for fewer canvases, or start the server with a larger context."
            )
        extra = {**self._extra, **(options.pop("extra") or {})}
        # Stop strings are not sent: servers find them in reasoning too.
        body: dict[str, Any] = {
            "model": self._server.model,
            "messages": _with_images(to_messages(request.prompt), request.prompt.images),
            "stream": True,
            "max_tokens": budget,
            "seed": secrets.randbelow(2**31) if request.seed is None else request.seed,
            **{name: value for name, value in options.items() if value is not None},
            **extra,
        }
        return body, budget


def _with_images(messages: Sequence[dict[str, str]], images: Sequence[bytes]) -> list[dict[str, Any]]:
    """Return the messages with the images before the text of the last one.

    Raises:
        RequestRefused: an image of an unknown type.
    """
    result: list[dict[str, Any]] = [dict(message) for message in messages]
    if images:
        parts = [{"type": "image_url", "image_url": {"url": _data_url(image)}} for image in images]
        result[-1]["content"] = [*parts, {"type": "text", "text": result[-1]["content"]}]
    return result


def _data_url(image: bytes) -> str:
    kind = next((kind for begin, kind in _KINDS.items() if image.startswith(begin)), "")
    if not kind:
        raise RequestRefused(f"An image of {len(image):,} bytes is neither PNG, JPEG nor WebP. Convert it first.")
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"
