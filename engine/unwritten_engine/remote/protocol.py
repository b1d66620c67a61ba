"""The messages between an engine server and its clients: JSON objects over one WebSocket for each client.

From the client:

* ``generate``: start the request ``id``.
* ``cancel``, ``promote``: end the request ``id``, or raise its priority.
* ``check``, ``warm``: call these methods of the engine. The answer has the same ``id``.

From the server:

* ``about``: the engine's description. It is the first message, and is sent again when it changes.
* ``frame``: the next frame of a request, its text as a difference from the frame that was sent before.
* ``error``: a request failed, with the name of a class in ``errors`` and the message.
* ``ok``: the answer to ``check`` and ``warm``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, TypeVar

from websockets.typing import Subprotocol

from .. import errors
from ..cleaning import common_prefix
from ..engine import Abilities, About
from ..errors import EngineError, GenerationFailed
from ..frames import Draft, Example, Frame, Priority, Prompt, Request, Span, Usage

T = TypeVar("T")

SUBPROTOCOL: Final = Subprotocol("unwritten.engine.1")
"""Name of the WebSocket subprotocol. Its number changes with the messages."""

TOKEN_VARIABLE: Final = "UNWRITTEN_ENGINE_TOKEN"  # noqa: S105 - a name, not a token
"""Environment variable with the token that the server requires and the client sends."""

MAX_REQUEST_BYTES: Final = 16 * 1024 * 1024
"""Largest message of a client: a prompt with images."""

MAX_IMAGE_BYTES: Final = 11_000_000
"""Largest size of all images of a request. Encoded, they fit into one message with the text of the prompt."""

MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
"""Largest message of a server."""

MAX_TEXT_LENGTH: Final = 2_000_000
"""Characters of a text beyond which the server ends a request. Encoded, they fit into one message."""


class InvalidMessage(Exception):
    """A message that does not follow the protocol. The text says why."""


def encode(message: Mapping[str, Any]) -> str:
    """Return a message as JSON. Characters beyond ASCII are escaped, unpaired surrogates included."""
    return json.dumps(message, separators=(",", ":"), default=dict)  # options and schemas may be any mapping


def decode(text: str | bytes) -> dict[str, Any]:
    """Parse a message.

    Raises:
        InvalidMessage: it is not a JSON object with a type.
    """
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidMessage("The message is not valid JSON.") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise InvalidMessage("A message is a JSON object with a type.")
    return message


# -- requests ---------------------------------------------------------------------------------------------------------


def encode_request(request: Request) -> dict[str, Any]:
    """Return a request as JSON values."""
    return {
        "prompt": encode_prompt(request.prompt),
        "canvases": request.canvases,
        "max_tokens": request.max_tokens,
        "schema": request.schema,
        "seed": request.seed,
        "priority": int(request.priority),
        "stop": request.stop,
        "draft": None if request.draft is None else asdict(request.draft),
        "options": request.options,
    }


def encode_prompt(prompt: Prompt) -> dict[str, Any]:
    """Return a prompt as JSON values."""
    images = [base64.b64encode(image).decode("ascii") for image in prompt.images]
    return {**asdict(prompt), "images": images}


def decode_request(values: Any) -> Request:
    """Parse a request.

    Raises:
        InvalidMessage: a field is missing, unknown, or has another type.
    """
    return _parse("request", _request, values)


def decode_prompt(values: Any) -> Prompt:
    """Parse a prompt.

    Raises:
        InvalidMessage: a field is missing, unknown, or has another type.
    """
    return _parse("prompt", _prompt, values)


def _parse(name: str, parse: Callable[[Any], T], values: Any) -> T:
    try:
        return parse(values)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InvalidMessage(f"The {name} is not valid: {error}") from None


def _request(values: Any) -> Request:
    fields = dict(values)
    draft = fields.pop("draft")
    fields["prompt"] = _prompt(fields["prompt"])
    fields["priority"] = Priority(fields["priority"])
    fields["stop"] = _texts(fields["stop"])
    fields["options"] = dict(fields["options"])
    fields["draft"] = None if draft is None else Draft(_text(draft["text"]), _spans(draft["keep"]), draft["strength"])
    for name, kind in {"canvases": int, "max_tokens": int, "seed": int, "schema": dict}.items():
        value = fields[name]
        if (value is None and name == "canvases") or not isinstance(value, kind | None) or isinstance(value, bool):
            raise TypeError(f"{name} is {value!r:.80}")
    return Request(**fields)


def _prompt(values: Any) -> Prompt:
    fields = dict(values)
    examples = [(example["ask"], example["answer"], _texts(example["facts"])) for example in fields["examples"]]
    fields["examples"] = tuple(Example(_text(ask), _text(answer), facts) for ask, answer, facts in examples)
    fields["facts"] = _texts(fields["facts"])
    fields["images"] = tuple(base64.b64decode(image, validate=True) for image in fields["images"])
    for name in ("ask", "system", "opening"):
        fields[name] = _text(fields[name])
    return Prompt(**fields)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.80} is not a text")
    return value


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(_text(value) for value in list(values))


def _spans(values: Any) -> tuple[Span, ...]:
    return tuple((int(start), int(end)) for start, end in values)


# -- frames -----------------------------------------------------------------------------------------------------------


def encode_frame(frame: Frame, before: str) -> dict[str, Any]:
    """Return a frame as JSON values.

    Args:
        frame: the frame.
        before: the text of the frame that was sent before; "" for the first.
    """
    keep = common_prefix(before, frame.text)
    return {
        "keep": keep,
        "add": frame.text[keep:],
        "unsettled": frame.unsettled,
        "numbers": [frame.fixed, frame.canvas, frame.canvases, frame.step, frame.steps],
        "usage": None if frame.usage is None else asdict(frame.usage),
    }


def decode_frame(values: Mapping[str, Any], before: str) -> Frame:
    """Parse a frame. The inverse of ``encode_frame``.

    Raises:
        InvalidMessage: a field is missing or has another type.
    """

    def frame(values: Mapping[str, Any]) -> Frame:
        fixed, canvas, canvases, step, steps = map(int, values["numbers"])
        usage = None if values["usage"] is None else Usage(**values["usage"])
        text = before[: int(values["keep"])] + values["add"]
        if len(text) > MAX_TEXT_LENGTH:
            raise ValueError(f"its text has {len(text):,} characters")
        return Frame(text, _spans(values["unsettled"]), fixed, canvas, canvases, step, steps, usage)

    return _parse("frame", frame, values)


# -- descriptions and errors ------------------------------------------------------------------------------------------


def encode_about(about: About) -> dict[str, Any]:
    """Return a description as JSON values."""
    return asdict(about)


def decode_about(values: Any, reasons: Sequence[str] = ()) -> About:
    """Parse a description.

    Args:
        values: as returned by ``encode_about``.
        reasons: more reasons, which follow the engine's own.

    Raises:
        InvalidMessage: a field is missing, unknown, or has another type.
    """

    def about(values: Any) -> About:
        fields = dict(values)
        fields["abilities"] = Abilities(**fields["abilities"])
        fields["reasons"] = (*_texts(fields["reasons"]), *reasons)
        return About(**fields)

    return _parse("description", about, values)


def encode_error(error: EngineError) -> dict[str, Any]:
    """Return an error as JSON values: the name of its class, and its message."""
    return {"error": type(error).__name__, "message": str(error)}


def decode_error(values: Mapping[str, Any]) -> EngineError:
    """Return the error of a message. An unknown class becomes ``GenerationFailed``."""
    kind = getattr(errors, str(values.get("error")), None)
    if not (isinstance(kind, type) and issubclass(kind, EngineError)):
        kind = GenerationFailed
    message = str(values.get("message"))
    error = kind.__new__(kind, message)  # without __init__, which some classes compose the message in
    error.args = (message,)
    return error
