"""A running ``vllm serve`` with the plugin: canvases over HTTP, drafts over ZeroMQ."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import zmq.asyncio

from ..downloads import hugging_face
from ..errors import BadOption, EngineClosed, GenerationFailed, ModelNotFound, RequestRefused
from .backend import CanvasRequest, FinishedCanvas, OnDraft, StepDraft
from .build import load_tokenizer, make_about, make_engine
from .checkpoint import TEXT_FILES, read_checkpoint
from .draft_channel import (
    ADDRESS_VARIABLE,
    KEY_VARIABLE,
    ChannelSettings,
    can_read,
    make_reader,
    unpack_draft,
)
from .engine import VLLMEngine

_SAMPLE: Final = "The end, 12 é 東 🗼\n\n<b>a  b</b> [[Tower]]"


def open_server(
    address: str,
    model: str,
    channel: Sequence[ChannelSettings],
    *,
    http: Any,
    headers: Mapping[str, str],
    local: bool,
    tokenizer: str,
    context: int,
    parallel: int,
    timeout: float,
    answer_timeout: float,
    reasons: Sequence[str],
) -> VLLMEngine:
    """Return the engine of a server with drafts. Blocks; call it in a thread.

    Args:
        address: base address for ``/completions``.
        model: the server's name for the model.
        channel: where its replicas of the model publish drafts.
        http: the module httpx2.
        headers: of every request.
        local: whether the server runs on this machine.
        tokenizer: folder or OWNER/REPO with the model's tokenizer and config.
        context: maximum tokens of a request.
        parallel: requests that are sent at the same time.
        timeout: seconds until a connection attempt fails.
        answer_timeout: seconds until a canvas must be complete.
        reasons: why this server was chosen.

    Raises:
        BadOption: there are no drafts at the address, or the tokenizer is not that of the server.
        ModelNotFound, ModelBroken, ModelUnsupported: the tokenizer or its config cannot be read.
    """
    for each in channel:
        _check_channel(each, timeout)
    checkpoint = read_checkpoint(_text_files(tokenizer), model, weights=False)
    loaded = load_tokenizer(checkpoint)
    _check_tokenizer(http, address, model, headers, local, loaded, timeout)
    backend = ServerVLLM(
        address,
        model,
        channel,
        http=http,
        headers=headers,
        local=local,
        timeout=timeout,
        answer_timeout=answer_timeout,
    )
    about = make_about(checkpoint, address, context or checkpoint.context, parallel, reasons, prefetch=local)
    return make_engine(backend, about, checkpoint, loaded)


class ServerVLLM:
    """A running server. See ``Backend``. Use it from one event loop."""

    def __init__(
        self,
        address: str,
        model: str,
        channel: Sequence[ChannelSettings],
        *,
        http: Any,
        headers: Mapping[str, str],
        local: bool,
        timeout: float,
        answer_timeout: float,
    ) -> None:
        self._address, self._model, self._channel, self._http = address, model, channel, http
        self._answer_timeout = answer_timeout
        self._prefix = f"uw-{secrets.token_hex(4)}-"
        self._numbers = itertools.count(1)
        self._callbacks: dict[str, Callable[[StepDraft], None]] = {}
        self._listener: asyncio.Task[None] | None = None
        self._closed = False
        self._client = http.AsyncClient(
            headers=dict(headers),
            verify=address.startswith("https://"),
            trust_env=not local,
            timeout=http.Timeout(None, connect=timeout, write=30, read=answer_timeout),
            limits=http.Limits(max_connections=None),
        )

    async def write_canvas(self, request: CanvasRequest, on_draft: OnDraft) -> FinishedCanvas:
        """See ``Backend.write_canvas``. Priorities count on a server with ``--scheduling-policy priority``."""
        if self._closed:
            raise EngineClosed("The engine is closed. Open it again.")
        if self._listener is None or self._listener.done():
            self._listener = asyncio.create_task(self._read_drafts(), name="drafts")
        request_id = f"{self._prefix}{next(self._numbers)}"
        body = {
            "model": self._model,
            "prompt": list(request.prompt),
            "add_special_tokens": False,
            "max_tokens": request.width,
            "priority": request.priority,
            "temperature": 1.0,  # anything else is refused
            "ignore_eos": True,
            "return_token_ids": True,
            "vllm_xargs": {**request.arguments(), **({"diffusion_read_only": 1} if request.last else {})},
        }
        self._callbacks[request_id] = on_draft
        try:
            response = await self._client.post(
                f"{self._address}/completions", json=body, headers={"X-Request-Id": request_id}
            )
        except self._http.ReadTimeout as error:
            raise GenerationFailed(
                f"{self._address} wrote no canvas within {self._answer_timeout:g} seconds. Is it still running? If it "
                f"is slow or busy, use a larger first_timeout=…"
            ) from error
        except self._http.TransportError as error:
            raise GenerationFailed(f"{self._address} cannot be reached ({error}). Is it still running?") from error
        finally:
            self._callbacks.pop(request_id, None)
        if response.status_code != 200:
            raise self._to_error(response)
        try:
            answer = response.json()
            ids = [int(id) for id in answer["choices"][0]["token_ids"]]
            details = (answer.get("usage") or {}).get("prompt_tokens_details") or {}
            return FinishedCanvas(ids, int(details.get("cached_tokens") or 0))
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise GenerationFailed(
                f"The response of {self._address} has no token ids. Drafts need a server of vLLM 0.32."
            ) from error

    async def close(self) -> None:
        """See ``Backend.close``. The server keeps running."""
        self._closed = True
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait([self._listener])
        await self._client.aclose()

    async def _read_drafts(self) -> None:
        context = zmq.asyncio.Context()
        socket = make_reader(context, self._channel, f"cmpl-{self._prefix}")
        try:
            while True:
                topic, *parts = await socket.recv_multipart()
                # The server adds a prefix, the number of the prompt, and a random part.
                request_id = topic.decode("utf-8", "replace").removeprefix("cmpl-").rsplit("-", 2)[0]
                on_draft = self._callbacks.get(request_id)
                draft = unpack_draft(b"".join(parts)) if on_draft is not None else None
                if draft is not None and on_draft is not None:  # else a draft of a finished request
                    on_draft(draft)
        finally:
            socket.close()
            context.term()

    def _to_error(self, response: Any) -> GenerationFailed | RequestRefused:
        try:
            value = response.json()
            message = str((value.get("error") or value).get("message") or value)
        except (ValueError, AttributeError):
            message = response.text[:300]
        message = " ".join(message.split()).rstrip(".")[:400]
        if response.status_code in (400, 413, 422):
            return RequestRefused(f"{self._address} refused the request ({response.status_code}: {message}).")
        return GenerationFailed(
            f"{self._address} answers {response.status_code} ({message}). Check the server's log, and try again."
        )


def _check_channel(channel: ChannelSettings, timeout: float) -> None:
    """Check that drafts are published at the address, and that the key is right.

    Raises:
        BadOption: they are not.
    """
    if can_read(channel, timeout):
        return
    raise BadOption(
        f"{channel.address} publishes no drafts, or has another key. Start the server with {ADDRESS_VARIABLE}="
        f"{channel.address.removeprefix('tcp://')} and the same {KEY_VARIABLE}, in an environment with Unwritten: "
        f'pip install "unwritten[vllm]". If it has been, its log says why drafts are off.'
    )


def _check_tokenizer(
    http: Any, address: str, model: str, headers: Mapping[str, str], local: bool, tokenizer: Any, timeout: float
) -> None:
    """Compare the tokenizer with the server's.

    Raises:
        BadOption: it is another one.
    """
    url = f"{address.removesuffix('/v1')}/tokenize"
    body = {"model": model, "prompt": _SAMPLE, "add_special_tokens": False}
    try:
        verify = address.startswith("https://")
        with http.Client(headers=dict(headers), timeout=timeout, trust_env=not local, verify=verify) as client:
            tokens = list(client.post(url, json=body).json()["tokens"])
    except (http.HTTPError, ValueError, KeyError, TypeError) as error:
        raise BadOption(f"{url} gives no tokens ({error}). Drafts need a server of vLLM.") from error
    if tokens != tokenizer(_SAMPLE, add_special_tokens=False)["input_ids"]:
        raise BadOption("The server has another tokenizer. Name the folder or OWNER/REPO of its model: tokenizer=…")


def _text_files(reference: str) -> Path:
    """Return a folder with the tokenizer and the config of a model, without its weights."""
    folder = Path(reference).expanduser()
    if folder.is_dir():
        return folder
    if reference.startswith(("/", ".", "~")) or reference.count("/") != 1:
        raise ModelNotFound(
            f"{reference!r} is no folder of this machine. Name a folder or OWNER/REPO with the tokenizer and the "
            f"config of the server's model: tokenizer=…"
        )
    try:
        return Path(hugging_face().snapshot_download(reference, allow_patterns=TEXT_FILES))
    except Exception as error:  # its error types differ between versions
        raise ModelNotFound(
            f"The tokenizer of {reference} cannot be fetched from Hugging Face ({type(error).__name__}: {error}). "
            f"Name a folder with it: tokenizer=…"
        ) from error
