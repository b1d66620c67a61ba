"""What a server says when it refuses, turned into our errors: what happened, and what to type next."""

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
"""Where a key is looked for, in this order."""
TRANSIENT_STATUSES: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses that may be gone when one asks again."""
_TOO_LONG: Final = re.compile(r"context.{0,20}(length|size|window)|too (long|large|many tokens)|exceeds? the", re.I)


@dataclass(frozen=True, slots=True)
class ServerError:
    """An answer that is none.

    Attributes:
        status: the HTTP status; 0 for none.
        said: what the server says of it, in its own words, on one line.
        kind: the server's name for it; "" for none.
        wait: seconds that it asks to wait; None if it does not say.
    """

    status: int
    message: str
    kind: str = ""
    wait: float | None = None

    @property
    def transient(self) -> bool:
        """Asking again may help."""
        return self.status in TRANSIENT_STATUSES and self.kind != "insufficient_quota"

    @property
    def too_long(self) -> bool:
        """The prompt does not fit into the context."""
        return "context" in self.kind or (self.status in (400, 413, 422) and bool(_TOO_LONG.search(self.message)))

    def error(self, address: str, model: str, models: Sequence[str], budget: int) -> EngineError:
        """What to raise.

        Args:
            address: of the server, without a key.
            model: the model that was asked for.
            models: those that the server has, as far as is known.
            budget: tokens that were to be written.
        """
        said = f": {self.message}" if self.message else ""
        if self.status in (401, 403):
            return RequestRefused(key_problem(address, self.status, self.message))
        if self.status == 404:
            return ModelNotFound(
                f"{address} answers 404 for the model {model!r}{said}. {list_models(models)} Name one with model=…"
            )
        if self.too_long:
            return PromptTooLong(
                f"The prompt and {budget:,} tokens of text do not fit into the context of {model}{said}. Shorten the "
                f"prompt, ask for fewer canvases, or start the server with a larger context."
            )
        if self.status == 429:
            after = f" after {self.wait:.0f} seconds" if self.wait else " later"
            return GenerationFailed(f"{address} has no room for more requests (429{said}). Try again{after}.")
        if self.status in (400, 413, 415, 422):
            return RequestRefused(
                f"{address} refused the request ({self.status}{said}). Check its options, shape and images."
            )
        if 300 <= self.status < 400:
            return GenerationFailed(f"{address} leads elsewhere ({self.status}). Give the address that it leads to.")
        number = f"{self.status}" if self.status else "with an error"
        return GenerationFailed(f"{address} answers {number}{said}. Look into the server's log, and try again.")


def key_problem(address: str, status: int, said: str = "") -> str:
    """What to do about a key that is missing or wrong."""
    first, second = KEY_VARIABLES
    return (
        f"{address} wants another key ({status}{f': {said}' if said else ''}). Set the variable {first} (or {second}) "
        f"to the server's API key, or open the engine with key=…"
    )


def list_models(models: Sequence[str]) -> str:
    """The models of a server, in a sentence."""
    if not models:
        return "It does not say which models it has."
    shown = ", ".join(models[:20])
    return f"It has {shown}{' and more' if len(models) > 20 else ''}."


def read_error(status: int, body: str, retry_after: str = "") -> ServerError:
    """What an answer with an error status says; servers write it in half a dozen ways."""
    try:
        value = json.loads(body)
    except ValueError:
        words = re.sub(r"<[^>]*>", " ", body)
        return ServerError(status, _line(words, 160), "", parse_retry_after(retry_after))
    return parse_error(value, status, retry_after)


def parse_error(value: Any, status: int = 0, retry_after: str = "") -> ServerError:
    """The same, from the JSON of an answer or of an event. A status inside it counts if there is none outside."""
    inner = value.get("error", value) if isinstance(value, dict) else value
    if not isinstance(inner, dict):
        return ServerError(status, _line(str(inner)), "", parse_retry_after(retry_after))
    said = inner.get("message") or inner.get("detail") or inner.get("error") or json.dumps(inner)
    code = inner.get("code")
    number = code if isinstance(code, int) and not isinstance(code, bool) and 100 <= code < 600 else 0
    kind = code if isinstance(code, str) else inner.get("type")
    return ServerError(status or number, _line(str(said)), str(kind or ""), parse_retry_after(retry_after))


def parse_retry_after(header: str) -> float | None:
    """Seconds in a ``Retry-After`` header, which has a number or a date; None if it has neither."""
    if re.fullmatch(r"\d{1,9}(\.\d+)?", header.strip()):
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _line(text: str, most: int = 400) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= most else f"{line[:most]}…"
