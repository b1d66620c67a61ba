"""``answers``: an engine for tests. It writes what the test says, and otherwise a placeholder of the right form."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, TypeAlias

from pydantic import BaseModel

from unwritten_engine import Frame, Request, scripted
from unwritten_engine.scripted import Script, ScriptedEngine

from ..formats.schema import resolve_reference

ScriptedText: TypeAlias = str | BaseModel | Mapping[str, Any] | Sequence[Any] | BaseException | Callable[[Request], Any]
"""An answer: a text; the value of a schema (a model, a dataclass, a dict or a list of values); an exception to raise; a
script (see ``unwritten_engine.scripted``); or a function from the engine's request to any of them."""

_MAX_DEPTH = 6
"""Below this depth the values of recursive schemas are empty."""


def answers(
    texts: Mapping[str, ScriptedText] | None = None, *, otherwise: ScriptedText | None = None
) -> ScriptedEngine:
    """Return an engine for tests.

    Args:
        texts: Answers by a part of the canvas's prompt. Case is ignored, and the first key that occurs is used.
        otherwise: The answer to everything else. None: a placeholder. For a schema it is a valid value, for prose the
            first of the canvas's examples, which has links as real answers have.

    Returns:
        A scripted engine. Its ``requests`` are the requests that it received, in order.
    """
    table = {part.casefold(): answer for part, answer in (texts or {}).items()}

    def answer(request: Request) -> Script:
        ask = request.prompt.ask.casefold()
        found = next((answer for part, answer in table.items() if part in ask), otherwise)
        return _to_script(found, request)

    return scripted(answer)


def _to_script(answer: Any, request: Request) -> Script:
    if callable(answer):
        answer = answer(request)
    if answer is None:
        return placeholder_text(request)
    if isinstance(answer, BaseException):
        return [answer]
    if isinstance(answer, BaseModel):
        return answer.model_dump_json()
    if is_dataclass(answer) and not isinstance(answer, (type, Frame)):
        return json.dumps(asdict(answer), default=str)
    is_value = request.schema is not None and not isinstance(answer, str) and not _is_script(answer)
    if isinstance(answer, Mapping) or is_value:
        return json.dumps(answer, default=str)
    return answer  # type: ignore[no-any-return]  # a text or a script


def _is_script(answer: Any) -> bool:
    return isinstance(answer, Sequence) and any(isinstance(step, (Frame, BaseException)) for step in answer)


# -- placeholders -----------------------------------------------------------------------------------------------------


def placeholder_text(request: Request) -> str:
    """Return a text of the form that a request asks for, always the same for the same request."""
    prompt = request.prompt
    if request.schema is not None:
        return json.dumps(_value(request.schema, request.schema, prompt.ask), separators=(",", ":"))
    text = prompt.examples[0].answer if prompt.examples else f"Something about it: {prompt.ask}"
    if prompt.opening and text.startswith("**"):
        _, _, text = text.removeprefix("**").partition("**")  # the opening has the title already
    return text


def _value(schema: Mapping[str, Any], root: Mapping[str, Any], name: str, depth: int = 0) -> Any:
    """Return a valid value of a JSON schema: the first of several choices, and lists of one item."""
    while "$ref" in schema:
        schema = resolve_reference(schema, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for keyword in ("anyOf", "oneOf", "allOf"):
        if keyword in schema:
            options = [option for option in schema[keyword] if option.get("type") != "null"]
            return _value(options[0], root, name, depth + 1) if options and depth < _MAX_DEPTH else None
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        fields = schema.get("properties", {})
        return {name: _value(field, root, name.replace("_", " "), depth + 1) for name, field in fields.items()}
    if kind == "array":
        prefix = schema.get("prefixItems")
        if prefix:
            return [_value(item, root, name, depth + 1) for item in prefix]
        least, most = int(schema.get("minItems", 0)), int(schema.get("maxItems", 1))
        count = max(least, min(1 if depth < _MAX_DEPTH else 0, most))
        return [_value(schema.get("items", {}), root, name, depth + 1) for _ in range(count)]
    if kind in {"integer", "number"}:
        return _number(schema, is_integer=kind == "integer")
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    return _text(schema, name)


def _number(schema: Mapping[str, Any], *, is_integer: bool) -> int | float:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    step = 1 if is_integer else 0.5
    value = 1.0
    if low is not None:
        value = max(value, low + (step if "exclusiveMinimum" in schema else 0))
    if high is not None:
        value = min(value, high - (step if "exclusiveMaximum" in schema else 0))
    multiple = schema.get("multipleOf")
    if multiple:
        value = math.ceil(value / multiple) * multiple
    return round(value) if is_integer else float(value)


_FORMATS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "email": "someone@example.org",
    "uri": "https://example.org/",
    "uuid": "00000000-0000-4000-8000-000000000001",
}


def _text(schema: Mapping[str, Any], name: str) -> str:
    text = _FORMATS.get(schema.get("format", ""), f"some {name}")
    longest = schema.get("maxLength")
    if longest is not None:
        text = text[: int(longest)]
    return text.ljust(int(schema.get("minLength", 0)), "x")
