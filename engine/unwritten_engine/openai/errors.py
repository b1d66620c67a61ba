"""Parse errors of model servers and convert them to engine errors with advice."""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..errors import EngineError, GenerationFailed, ModelNotFound, PromptTooLong, RequestRefused

KEY_VARIABLES: Final = ("UNWRITTEN_API_KEY", "OPENAI_API_KEY")
"""Environment variables with an API key, in order of preference."""
TRANSIENT_STATUSES: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""HTTP statuses for which a retry may succeed."""
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
    except ValueError:
        words = re.sub(r"<[^>]*>", " ", body)
        return ServerError(status, _one_line(words, 160), "", parse_retry_after(retry_after))
    return parse_error(value, status, retry_after)


def parse_error(value: Any, status: int = 0, retry_after: str = "") -> ServerError:
    """Parse the JSON of an error response or event. ``status`` takes precedence over a code inside."""
    inner = value.get("error", value) if isinstance(value, dict) else value
    if not isinstance(inner, dict):
        return ServerError(status, _one_line(str(inner)), "", parse_retry_after(retry_after))
    message = inner.get("message") or inner.get("detail") or inner.get("error") or json.dumps(inner)
    code = inner.get("code")
    number = code if isinstance(code, int) and not isinstance(code, bool) and 100 <= code < 600 else 0
    kind = code if isinstance(code, str) else inner.get("type")
    return ServerError(status or number, _one_line(str(message)), str(kind or ""), parse_retry_after(retry_after))


def parse_retry_after(header: str) -> float | None:
    """Return the seconds of a ``Retry-After`` header (a number or a date), or None."""
    if re.fullmatch(r"\d{1,9}(\.\d+)?", header.strip()):
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _one_line(text: str, most: int = 400) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= most else f"{line[:most]}…"
