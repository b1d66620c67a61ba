"""Parse errors of model servers and convert them to engine errors with advice."""

from __future__ import annotations

import email.utils
import html
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..characters import clean_characters
from ..errors import EngineError, GenerationFailed, ModelNotFound, PromptTooLong, RequestRefused

KEY_VARIABLES: Final = ("UNWRITTEN_API_KEY", "OPENAI_API_KEY")
"""Environment variables with an API key, in order of preference."""
TRANSIENT_STATUSES: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""HTTP statuses for which a retry may succeed."""
_MOST_HTML: Final = 20_000
_TOO_LONG: Final = re.compile(r"context.{0,20}(length|size|window)|too (long|large|many tokens)|exceeds? the", re.I)


@dataclass(frozen=True, slots=True)
class ServerError:
    """An error response.

    Attributes:
        status: the HTTP status; 0 for none.
        message: the server's message, on one line.
        kind: the server's error code or type; "" for none.
        retry_after: seconds to wait, or None.
    """

    status: int
    message: str
    kind: str = ""
    retry_after: float | None = None

    @property
    def transient(self) -> bool:
        """True if a retry may succeed."""
        return self.status in TRANSIENT_STATUSES and self.kind != "insufficient_quota"

    @property
    def too_long(self) -> bool:
        """True if the prompt does not fit into the context."""
        return "context" in self.kind or (self.status in (400, 413, 422) and bool(_TOO_LONG.search(self.message)))

    def to_engine_error(self, address: str, model: str, models: Sequence[str], budget: int) -> EngineError:
        """Return the exception to raise.

        Args:
            address: of the server, without a key.
            model: the requested model.
            models: known models of the server.
            budget: maximum tokens of the output.
        """
        detail = f": {self.message}" if self.message else ""
        if self.status in (401, 403):
            return RequestRefused(key_problem(address, self.status, self.message))
        if self.status == 404:
            return ModelNotFound(
                f"{address} answers 404 for the model {model!r}{detail}. {list_models(models)} Name one with model=…"
            )
        if self.too_long:
            return PromptTooLong(
                f"The prompt and {budget:,} tokens of text do not fit into the context of {model}{detail}. Shorten the "
                f"prompt, ask for fewer canvases, or start the server with a larger context."
            )
        if self.status == 429:
            after = f" after {self.retry_after:.0f} seconds" if self.retry_after else " later"
            return GenerationFailed(f"{address} accepts no more requests (429{detail}). Try again{after}.")
        if self.status in (400, 413, 415, 422):
            return RequestRefused(
                f"{address} refused the request ({self.status}{detail}). Check its options, schema and images."
            )
        if 300 <= self.status < 400:
            return GenerationFailed(f"{address} redirects ({self.status}). Give the address that it redirects to.")
        number = f"{self.status}" if self.status else "with an error"
        return GenerationFailed(f"{address} answers {number}{detail}. Check the server's log, and try again.")


def key_problem(address: str, status: int, server_message: str = "") -> str:
    """Return the message about a missing or wrong key."""
    first, second = KEY_VARIABLES
    details = f"{status}: {server_message}" if server_message else str(status)
    return (
        f"{address} rejects the API key ({details}). Set the variable {first} (or {second}) to the server's API key, "
        f"or open the engine with key=…"
    )


def list_models(models: Sequence[str]) -> str:
    """Return a sentence that lists the models of a server."""
    if not models:
        return "It does not list its models."
    names = ", ".join(models[:20])
    return f"It has {names}{' and more' if len(models) > 20 else ''}."


def read_error(status: int, body: str, retry_after: str = "") -> ServerError:
    """Parse the body of an error response."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return ServerError(status, _one_line(_page_title(body)), "", parse_retry_after(retry_after))
    return parse_error(value, status, retry_after)


def parse_error(value: Any, status: int = 0, retry_after: str = "") -> ServerError:
    """Parse the JSON of an error response or event. ``status`` takes precedence over a code inside."""
    inner = value
    while isinstance(inner, list) and inner:
        inner = inner[0]
    if isinstance(inner, dict) and inner.get("error"):
        inner = inner["error"]
    code, kind = (inner.get("code"), inner.get("type")) if isinstance(inner, dict) else (None, None)
    number = code if isinstance(code, int) and not isinstance(code, bool) and 100 <= code < 600 else 0
    kind = code if isinstance(code, str) else kind
    try:
        words = _words(value)
    except RecursionError:
        words = "the error is nested too deeply"
    return ServerError(status or number, _one_line(words), str(kind or "")[:80], parse_retry_after(retry_after))


def find_error(value: Any) -> ServerError | None:
    """Return the error in the JSON of a response that should be text, or None."""
    first = value[0] if isinstance(value, list) and value else value
    if isinstance(first, str):
        return parse_error(value)
    if not isinstance(first, dict):
        return None
    if first.get("error") or first.get("errors"):
        return parse_error(value)
    if "choices" not in first and (first.get("object") == "error" or any(first.get(key) for key in _MESSAGE_KEYS)):
        return parse_error(value)
    return None


_MESSAGE_KEYS: Final = ("message", "msg", "detail", "error_description", "error_message")


def _words(value: Any) -> str:
    """Return what a server's JSON says about an error, in the server's own words."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value:
        return "; ".join(map(_words, value[:3]))
    if isinstance(value, dict):
        inner = next((value[key] for key in ("error", "errors", *_MESSAGE_KEYS) if value.get(key)), None)
        if inner is not None and inner is not True:
            return _words(inner)
    return json.dumps(value, ensure_ascii=False)


def _page_title(body: str) -> str:
    """Return the title of an HTML page, or the text itself if it is none."""
    if not re.match(r"\s*<[a-z!?]", body, re.IGNORECASE):
        return body
    for tag in ("title", "h1"):
        match = re.search(rf"<{tag}\b[^<>]*>([^<]+)", body[:_MOST_HTML], re.IGNORECASE)
        if match and match[1].strip():
            return html.unescape(match[1])
    return re.sub(r"<[^<>]*>", " ", body[:_MOST_HTML])


def parse_retry_after(header: str) -> float | None:
    """Return the seconds of a ``Retry-After`` header (a number or a date), or None."""
    if re.fullmatch(r"\d{1,9}(\.\d+)?", header.strip()):
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _one_line(text: str, most: int = 400) -> str:
    line = clean_characters(" ".join(text[:_MOST_HTML].split())).rstrip(".")
    return line if len(line) <= most else f"{line[:most]}…"
