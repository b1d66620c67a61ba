"""Discover a server's models and their properties."""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from ..errors import BadOption, EngineError, ModelNotFound, UnknownEngine
from .errors import ServerError, key_problem, list_models, read_error

_MOST_BYTES: Final = 1 << 24
_MOST_SECONDS: Final = 20.0
_START: Final = (
    "Start it, or check the address: vLLM listens on http://localhost:8000/v1, llama-server on "
    "http://localhost:8080/v1, Ollama on http://localhost:11434/v1."
)


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A server and one of its models.

    Attributes:
        address: base address for ``/chat/completions``.
        model: the server's name for the model.
        models: all model names; empty if unknown.
        context: maximum tokens of a request; 0 if unknown.
        images: the server reports that the model accepts images.
        local: the server runs on this machine.
        reasons: why this address and model, one sentence each.
        root: folder or name of the model's files, if the server reports it; else "".
    """

    address: str
    model: str
    models: tuple[str, ...]
    context: int
    images: bool
    local: bool
    reasons: tuple[str, ...]
    root: str = ""


def discover(http: Any, address: str, model: str | None, key: str, timeout: float) -> ServerInfo:
    """Fetch a server's models and choose one.

    Args:
        http: the module httpx2.
        address: the given address; ``/v1`` is tried too.
        model: the requested model, or None.
        key: the API key, or "".
        timeout: seconds until a connection attempt fails.

    Raises:
        UnknownEngine, ModelNotFound, BadOption: see ``open_openai``.
    """
    url = _normalize_address(address)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    bases = [url] if url.endswith("/v1") else [url, f"{url}/v1"]
    refusals: list[ServerError] = []
    local = is_local(url)
    try:
        verify = url.startswith("https://")  # loading certificates is slow and useless without TLS
        limits = http.Timeout(max(timeout, _MOST_SECONDS), connect=timeout)
        with http.Client(headers=headers, timeout=limits, trust_env=not local, verify=verify) as client:
            for base in bases:
                answer = _fetch_models(client, base)
                if not isinstance(answer, ServerError):
                    return _choose_model(
                        base, answer, model, local, (f"/v1 was added to {url}.",) if base != url else ()
                    )
                refusals.append(answer)
    except http.TimeoutException as error:
        raise UnknownEngine(f"{url} does not answer in time. {_START}") from error
    except (http.HTTPError, http.InvalidURL) as error:
        raise UnknownEngine(f"{url} cannot be reached ({_reason(error)}). {_START}") from error
    return _without_model_list(url, bases[-1], refusals, model, local)


def is_local(address: str) -> bool:
    """Return True for an address of this machine."""
    try:
        host = urlsplit(address).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _normalize_address(address: str) -> str:
    """Return the address without endpoint paths that users may have copied."""
    wrong = f"{address!r} is not a server address. Example: http://localhost:8000/v1."
    try:
        parts = urlsplit(address.strip())
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError as error:  # an incomplete IPv6 address or an invalid port
        raise UnknownEngine(wrong) from error
    if not valid:
        raise UnknownEngine(wrong)
    if parts.username or parts.password:
        raise BadOption("The address contains a user name or password. Give the server's key with key=… instead.")
    path = parts.path.rstrip("/").removesuffix("/chat/completions").removesuffix("/models").rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path}"


def _fetch_models(client: Any, base: str) -> list[Mapping[str, Any]] | ServerError:
    """Return the entries of ``/models``, or an error."""
    with client.stream("GET", f"{base}/models") as response:
        body, start = b"", time.monotonic()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > _MOST_BYTES or time.monotonic() - start > _MOST_SECONDS:
                return ServerError(response.status_code, "a response without an end")
    text = body.decode("utf-8", "replace")
    if response.status_code != 200:
        return read_error(response.status_code, text, response.headers.get("retry-after", ""))
    try:
        value = json.loads(text)
        entries = value["data"] if isinstance(value, dict) else value
        entries = [entry for entry in entries or () if isinstance(entry.get("id"), str)]
    except (ValueError, KeyError, TypeError, AttributeError):
        kind = response.headers.get("content-type", "unknown").partition(";")[0]
        return ServerError(200, f"a response of type {kind} without a list of models")
    return entries


def _choose_model(
    base: str, entries: Sequence[Mapping[str, Any]], model: str | None, local: bool, reasons: tuple[str, ...]
) -> ServerInfo:
    names = tuple(str(entry["id"]) for entry in entries)
    if model is None:
        if not names:
            raise ModelNotFound(f"{base} has no model. Load one there, or name one with model=…")
        if len(names) > 1:
            raise ModelNotFound(f"{base} has several models. {list_models(names)} Name one with model=…")
        model = next(iter(names))
        reasons += ("The server has one model.",)
    else:
        # Ollama's names have a tag that users omit; llama-server's are paths with aliases.
        entry = next((e for e in entries if _has_name(e, model)), None)
        if entry is None:
            raise ModelNotFound(f"{base} has no model {model!r}. {list_models(names)} Name one with model=…")
        model = str(entry["id"])
        reasons += ("The model was requested by name.",)
    entry = next(e for e in entries if e["id"] == model)
    return ServerInfo(
        base,
        model,
        names,
        _context(entry),
        _accepts_images(entry),
        local,
        (*reasons, "It was requested by address."),
        str(entry.get("root") or ""),
    )


def _has_name(entry: Mapping[str, Any], name: str) -> bool:
    aliases = entry.get("aliases")
    names = [entry["id"], *(aliases if isinstance(aliases, list) else [])]
    return name in names or f"{name}:latest" in names


def _context(entry: Mapping[str, Any]) -> int:
    """Return the context length; vLLM, SGLang, llama-server and OpenRouter use different fields."""
    meta = entry.get("meta")
    values = [entry.get("max_model_len"), entry.get("context_length"), entry.get("context_window")]
    values += [meta.get("n_ctx"), meta.get("n_ctx_train")] if isinstance(meta, dict) else []
    return next((value for value in values if isinstance(value, int) and value > 0), 0)


def _accepts_images(entry: Mapping[str, Any]) -> bool:
    architecture = entry.get("architecture")
    modalities = architecture.get("input_modalities") if isinstance(architecture, dict) else None
    return isinstance(modalities, list) and "image" in modalities


def _without_model_list(
    url: str, base: str, refusals: Sequence[ServerError], model: str | None, local: bool
) -> ServerInfo:
    """Handle a server without ``/models``: usable if a model is named and the endpoint is only missing."""
    locked = next((refusal for refusal in refusals if refusal.status in (401, 403)), None)
    if locked is not None:
        raise BadOption(key_problem(url, locked.status, locked.message))
    failing = next((refusal for refusal in refusals if refusal.transient), None)
    if failing is not None:
        raise _unavailable(url, failing)
    if model is not None and all(refusal.status in (404, 405, 501) for refusal in refusals):
        return ServerInfo(
            base, model, (), 0, False, local, ("The server does not list its models; this one was requested.",)
        )
    last = refusals[0]
    raise UnknownEngine(
        f"{url} is not an OpenAI-compatible server: GET /models answers {last.status} "
        f"({last.message or 'no text'}). {_START}"
    )


def _unavailable(url: str, refusal: ServerError) -> EngineError:
    return UnknownEngine(
        f"{url} answers {refusal.status}{f' ({refusal.message})' if refusal.message else ''}. It may still be "
        f"loading its model: wait until its log reports that it is ready, and try again."
    )


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
