"""Answers: an engine for tests, which writes what a test says, and stands in for a model where it says nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, TypeAlias

from pydantic import BaseModel

from unwritten_engine import Frame, Request, scripted
from unwritten_engine.scripted import Script, ScriptedEngine

ScriptedText: TypeAlias = str | BaseModel | Mapping[str, Any] | Sequence[Any] | BaseException | Callable[[Request], Any]
"""What a test may say: a text; the value of a shape (a model, a dataclass, a dict or a list of values); an error that
is raised; a script (see ``unwritten_engine.scripted``); or a function from the engine's request to any of them."""


def answers(said: Mapping[str, ScriptedText] | None = None, *, otherwise: ScriptedText | None = None) -> ScriptedEngine:
    """An engine for tests.

    Args:
        said: answers by a part of the canvas's prompt; capitals do not matter, and the first key that occurs wins.
        otherwise: the answer to everything else. None takes a stand-in of the right form: for a shape a value that
            fits it, for prose the first of the canvas's examples, which has links as real answers have.

    Returns:
        A scripted engine. Its ``requests`` are what it was asked, in order.
    """
    table = {part.casefold(): answer for part, answer in (said or {}).items()}

    def answer(request: Request) -> Script:
        ask = request.prompt.ask.casefold()
        found = next((answer for part, answer in table.items() if part in ask), otherwise)
        return _script(found, request)

    return scripted(answer)


def _script(said: Any, request: Request) -> Script:
    if callable(said):
        said = said(request)
    if said is None:
        return stand_in(request)
    if isinstance(said, BaseException):
        return [said]
    if isinstance(said, BaseModel):
        return said.model_dump_json()
    if is_dataclass(said) and not isinstance(said, (type, Frame)):
        return json.dumps(asdict(said), default=str)
    if isinstance(said, Mapping) or (request.schema is not None and not isinstance(said, str) and not _is_script(said)):
        return json.dumps(said, default=str)
    return said  # type: ignore[no-any-return]  # a text or a script


def _is_script(said: Any) -> bool:
    return isinstance(said, Sequence) and any(isinstance(step, (Frame, BaseException)) for step in said)


def stand_in(request: Request) -> str:
    """A text of the form that a request asks for, always the same for the same request."""
    prompt = request.prompt
    if request.schema is not None:
        return json.dumps(_value(request.schema, request.schema, prompt.ask), separators=(",", ":"))
    text = prompt.examples[0].answer if prompt.examples else f"Something about it: {prompt.ask}"
    if prompt.opening and text.startswith("**"):
        _, _, text = text.removeprefix("**").partition("**")  # the opening has the title already
    return text


def _value(schema: Mapping[str, Any], root: Mapping[str, Any], words: str, depth: int = 0) -> Any:
    """A value that fits a JSON schema: of every choice the first, of every list the shortest that shows something."""
    while "$ref" in schema:
        target: Any = root
        for step in str(schema["$ref"]).removeprefix("#/").split("/"):
            target = target[step]
        schema = target
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            found = [option for option in schema[choice] if option.get("type") != "null"] if depth < 6 else []
            return _value(found[0], root, words, depth + 1) if found else None
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        fields = schema.get("properties", {})
        return {name: _value(field, root, name.replace("_", " "), depth + 1) for name, field in fields.items()}
    if kind == "array":
        few = max(int(schema.get("minItems", 0)), min(1 if depth < 6 else 0, int(schema.get("maxItems", 1))))
        prefix = schema.get("prefixItems")
        if prefix:
            return [_value(item, root, words, depth + 1) for item in prefix]
        return [_value(schema.get("items", {}), root, words, depth + 1) for _ in range(few)]
    if kind in {"integer", "number"}:
        return _number(schema, whole=kind == "integer")
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    return _text(schema, words)


def _number(schema: Mapping[str, Any], *, whole: bool) -> int | float:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    step = 1 if whole else 0.5
    value = 1.0
    if low is not None and value < low + (step if "exclusiveMinimum" in schema else 0):
        value = low + (step if "exclusiveMinimum" in schema else 0)
    if high is not None and value > high - (step if "exclusiveMaximum" in schema else 0):
        value = high - (step if "exclusiveMaximum" in schema else 0)
    multiple = schema.get("multipleOf")
    if multiple:
        value = math.ceil(value / multiple) * multiple
    return round(value) if whole else float(value)


_FORMATS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "email": "someone@example.org",
    "uri": "https://example.org/",
    "uuid": "00000000-0000-4000-8000-000000000001",
}


def _text(schema: Mapping[str, Any], words: str) -> str:
    text = _FORMATS.get(schema.get("format", ""), f"some {words}")
    longest = schema.get("maxLength")
    if longest is not None:
        text = text[: int(longest)]
    return text.ljust(int(schema.get("minLength", 0)), "x")
