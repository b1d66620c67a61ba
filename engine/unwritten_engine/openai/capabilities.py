"""Which parts of the chat protocol a server supports, learned from its errors.

All servers accept messages and stream text, but not all support schemas, thinking, seeds and usage. A server answers
400 or 422 to what it does not support. The part that the error seems to mean is then omitted and the request sent
again. If that works, the engine remembers it.
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
"""Words in an error message that identify the unsupported part, most specific first."""
_REASONS: Final = {
    _SCHEMA: "The server does not support JSON schemas; JSON objects are requested instead.",
    _OBJECT: "The server does not support JSON output; schemas are described in the prompt.",
    _THINKING: "The server cannot turn thinking off; reasoning is removed from the text.",
    _SEED: "The server does not support seeds; texts are not reproducible.",
    _USAGE: "The server does not report usage in its stream; token counts are estimates.",
}


class ServerCapabilities:
    """What one server does not support."""

    def __init__(self) -> None:
        self.unsupported: frozenset[str] = frozenset()
        """Parts that are not sent any more."""
        self._takes_schemas = False

    @property
    def reasons(self) -> tuple[str, ...]:
        """What was learned, one sentence each."""
        return tuple(sentence for name, sentence in _REASONS.items() if name in self.unsupported)

    @property
    def takes_seeds(self) -> bool:
        """True unless the server has refused a seed."""
        return _SEED not in self.unsupported

    def learn(self, unsupported: frozenset[str], body: Mapping[str, Any]) -> None:
        """Remember what was omitted from a request that the server accepted.

        If the server accepted one schema and refuses another, the schema itself is at fault; this is not remembered.
        """
        if body.get("response_format", {}).get("type") == "json_schema":
            self._takes_schemas = True
        if self._takes_schemas:
            unsupported -= {_SCHEMA, _OBJECT}
        for name in sorted(unsupported - self.unsupported):
            log.warning("%s", _REASONS.get(name, f"The server does not support {name}."))
        self.unsupported |= unsupported


def build_body(body: Mapping[str, Any], schema: Mapping[str, Any] | None, unsupported: frozenset[str]) -> Body:
    """Return the request body without unsupported parts.

    Fields that are already in the body, from the option ``extra``, are not changed.
    """
    adapted: Body = dict(body)
    if _SEED in unsupported:
        adapted.pop("seed", None)
    if _MAX_TOKENS in unsupported:
        adapted["max_completion_tokens"] = adapted.pop("max_tokens")
    if _THINKING not in unsupported:
        adapted.setdefault("chat_template_kwargs", {"enable_thinking": False})
    if _USAGE not in unsupported:
        steady = {} if _STEADY_USAGE in unsupported else {"continuous_usage_stats": True}
        adapted.setdefault("stream_options", {"include_usage": True, **steady})
    if schema is not None and _SCHEMA not in unsupported:
        schema = {"name": "answer", "strict": True, "schema": to_strict_schema(schema)}
        adapted.setdefault("response_format", {"type": "json_schema", "json_schema": schema})
    elif schema is not None:
        if _OBJECT not in unsupported:
            adapted.setdefault("response_format", {"type": "json_object"})
        _instruct(adapted, schema)
    return adapted


def _instruct(body: Body, schema: Mapping[str, Any]) -> None:
    """Describe the schema in the last message."""
    *before, last = body["messages"]
    instruction = (
        "Answer with one JSON value on one line, without white space and without anything before or after it. It "
        f"must satisfy this JSON schema: {json.dumps(dict(schema), ensure_ascii=False, separators=(',', ':'))}"
    )
    content = last["content"]
    extended = (
        f"{content}\n\n{instruction}" if isinstance(content, str) else [*content, {"type": "text", "text": instruction}]
    )
    body["messages"] = [*before, {**last, "content": extended}]


def to_strict_schema(schema: Mapping[str, Any]) -> Body:
    """Return the schema with every property required and no others, which some servers demand. It allows a subset.

    Args:
        schema: a JSON schema as pydantic generates it.
    """
    if "$ref" in schema and "$defs" not in schema:
        return {"$ref": schema["$ref"]}  # nothing may stand beside it
    strict: Body = {key: value for key, value in schema.items() if key != "default"}
    for key in ("properties", "$defs"):
        if key in strict:
            strict[key] = {name: to_strict_schema(inner) for name, inner in strict[key].items()}
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        if key in strict:
            strict[key] = [to_strict_schema(inner) for inner in strict[key]]
    for key in ("items", "additionalProperties"):
        if isinstance(strict.get(key), Mapping):
            strict[key] = to_strict_schema(strict[key])
    if strict.get("properties"):
        strict |= {"required": list(strict["properties"]), "additionalProperties": False}
    return strict


def without_unsupported(message: str, body: Body, unsupported: frozenset[str]) -> frozenset[str] | None:
    """Return the parts to omit after an error, including those omitted before, or None if nothing can be omitted.

    Args:
        message: the server's error message.
        body: the refused body.
        unsupported: parts that were omitted from it.
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
    possible = [name for name, test in tests.items() if name not in unsupported and test()]
    words = message.casefold()
    meant = [name for name in possible if any(word in words for word in _WORDS[name])]
    # An error without a hint is probably about the schema, which fewest servers support, then about extensions
    # of OpenAI's protocol.
    likely = [name for name in (_SCHEMA, _OBJECT, _THINKING, _STEADY_USAGE, _USAGE, _SEED) if name in possible]
    for name in (*meant, *likely):
        return unsupported | {name}
    return None
