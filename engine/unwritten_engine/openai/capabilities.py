"""What a server understands of the chat protocol, learnt from what it refuses.

Everyone's servers take messages and stream text. Schemas, thinking, seeds and usage are another matter: a server
answers 400, or 422, to what it does not know. Then the part that it seems to mean is left out and the request sent
again; if that works, the engine remembers it for its life.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

log = logging.getLogger("unwritten_engine")
Body = dict[str, Any]
_SCHEMA, _OBJECT = "json_schema", "json_object"
_THINKING, _SEED, _USAGE, _STEADY_USAGE, _MAX_TOKENS = "thinking", "seed", "usage", "steady usage", "max_tokens"
_WORDS: Final[dict[str, tuple[str, ...]]] = {
    _THINKING: ("chat_template_kwargs", "enable_thinking", "chat template"),
    _STEADY_USAGE: ("continuous_usage_stats",),
    _USAGE: ("stream_options", "include_usage"),
    _MAX_TOKENS: ("max_completion_tokens",),
    _SEED: ("seed",),
    _SCHEMA: ("response_format", "json_schema", "schema", "structured", "guided", "grammar"),
    _OBJECT: ("response_format", "json_object", "json", "structured", "guided", "grammar"),
}
"""Words by which a refusal shows what it means, the surest first."""
_REASONS: Final = {
    _SCHEMA: "The server does not take JSON schemas; shapes are asked for as JSON objects.",
    _OBJECT: "The server does not hold its answers to JSON; shapes are asked for in words, and parsed.",
    _THINKING: "The server does not let thinking be turned off; what a model thinks is left out.",
    _SEED: "The server takes no seed; texts cannot be repeated.",
    _USAGE: "The server does not count tokens in its stream; numbers of tokens are estimates.",
}


class ServerCapabilities:
    """What one server turned out not to understand."""

    def __init__(self) -> None:
        self.unsupported: frozenset[str] = frozenset()
        """What is not sent any more."""
        self.thinks_openly = False
        """A thought ended that had not begun: the template begins it."""
        self._takes_schemas = False

    @property
    def reasons(self) -> tuple[str, ...]:
        """What was learnt, one sentence each."""
        told = [sentence for name, sentence in _REASONS.items() if name in self.unsupported]
        return (*told, *(["The server's template begins a thought; the text begins after it."] * self.thinks_openly))

    def learn(self, lacks: frozenset[str], body: Mapping[str, Any]) -> None:
        """Remember what had to be left out for a request to be taken.

        A server that has taken one schema and refuses another means that other one: that is not remembered.
        """
        if body.get("response_format", {}).get("type") == "json_schema":
            self._takes_schemas = True
        if self._takes_schemas:
            lacks -= {_SCHEMA, _OBJECT}
        for name in sorted(lacks - self.unsupported):
            log.warning("%s", _REASONS.get(name, f"The server does not understand {name}."))
        self.unsupported |= lacks


def build_body(body: Mapping[str, Any], shape: Mapping[str, Any] | None, lacks: frozenset[str]) -> Body:
    """The request for a server that lacks these things.

    What the body has already, from the fields that somebody added, is left as it is.
    """
    told: Body = dict(body)
    if _SEED in lacks:
        told.pop("seed", None)
    if _MAX_TOKENS in lacks:
        told["max_completion_tokens"] = told.pop("max_tokens")
    if _THINKING not in lacks:
        told.setdefault("chat_template_kwargs", {"enable_thinking": False})
    if _USAGE not in lacks:
        steady = {} if _STEADY_USAGE in lacks else {"continuous_usage_stats": True}
        told.setdefault("stream_options", {"include_usage": True, **steady})
    if shape is not None and _SCHEMA not in lacks:
        schema = {"name": "answer", "strict": True, "schema": to_strict_schema(shape)}
        told.setdefault("response_format", {"type": "json_schema", "json_schema": schema})
    elif shape is not None:
        if _OBJECT not in lacks:
            told.setdefault("response_format", {"type": "json_object"})
        _instruct(told, shape)
    return told


def _instruct(body: Body, shape: Mapping[str, Any]) -> None:
    """Ask for the shape in words, at the end of the last message."""
    *before, last = body["messages"]
    wish = (
        "Answer with one JSON value on one line, without white space and without anything before or after it. It "
        f"must satisfy this JSON schema: {json.dumps(dict(shape), ensure_ascii=False, separators=(',', ':'))}"
    )
    content = last["content"]
    told = f"{content}\n\n{wish}" if isinstance(content, str) else [*content, {"type": "text", "text": wish}]
    body["messages"] = [*before, {**last, "content": told}]


def to_strict_schema(schema: Mapping[str, Any]) -> Body:
    """The schema with every property required and no others, which some servers insist on. It allows less, never more.

    Args:
        schema: a JSON schema, as pydantic makes them.
    """
    if "$ref" in schema and "$defs" not in schema:
        return {"$ref": schema["$ref"]}  # nothing may stand beside it
    told: Body = {key: value for key, value in schema.items() if key != "default"}
    for key in ("properties", "$defs"):
        if key in told:
            told[key] = {name: to_strict_schema(inner) for name, inner in told[key].items()}
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        if key in told:
            told[key] = [to_strict_schema(inner) for inner in told[key]]
    for key in ("items", "additionalProperties"):
        if isinstance(told.get(key), Mapping):
            told[key] = to_strict_schema(told[key])
    if told.get("properties"):
        told |= {"required": list(told["properties"]), "additionalProperties": False}
    return told


def without_unsupported(said: str, body: Body, lacks: frozenset[str]) -> frozenset[str] | None:
    """What to leave out after a refusal, together with what is left out already; None if nothing can be.

    Args:
        said: what the server says.
        body: what it refused.
        lacks: what was left out of it.
    """
    tests: dict[str, Callable[[], bool]] = {
        _THINKING: lambda: "chat_template_kwargs" in body,
        _STEADY_USAGE: lambda: "continuous_usage_stats" in body.get("stream_options", {}),
        _USAGE: lambda: "stream_options" in body,
        _MAX_TOKENS: lambda: "max_tokens" in body,
        _SEED: lambda: "seed" in body,
        _SCHEMA: lambda: body.get("response_format", {}).get("type") == "json_schema",
        _OBJECT: lambda: body.get("response_format", {}).get("type") == "json_object",
    }
    possible = [name for name, test in tests.items() if name not in lacks and test()]
    words = said.casefold()
    meant = [name for name in possible if any(word in words for word in _WORDS[name])]
    # A refusal that names nothing is most likely about the shape, which fewest servers take; then about what
    # is not OpenAI's own.
    likely = [name for name in (_SCHEMA, _OBJECT, _THINKING, _STEADY_USAGE, _USAGE, _SEED) if name in possible]
    for name in (*meant, *likely):
        return lacks | {name}
    return None
