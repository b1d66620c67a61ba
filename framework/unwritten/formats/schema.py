"""A shape: JSON that fills a pydantic model or a dataclass while it arrives."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from functools import lru_cache
from typing import Any

from markupsafe import Markup, escape
from pydantic import BaseModel, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import from_json

from unwritten_engine import Frame, Span

from ..core.errors import BadSchema, PageFailed
from .unsettled import CLOSE, OPEN, PIPE, FormattedFrame, render_marks, strip_marks


class PartialModel:
    """What has arrived of a shape, or of a shape in it. What has not come yet is empty where a list, a map or a shape
    belongs, and else None. An enum is a text that has its ``value`` too, a date is a text."""

    __slots__ = ("_data", "_fields", "_root")

    def __init__(self, data: Mapping[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any]) -> None:
        self._data = data
        self._root = root
        self._fields = {
            name: field for one in _options(schema, root) for name, field in one.get("properties", {}).items()
        }

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        schema = self._fields.get(name)
        if name in self._data:
            return partial_model(self._data[name], schema or {}, self._root)
        if schema is None:
            raise AttributeError(f"The shape has no field {name!r}.")
        return _absent(schema, self._root)

    def __getitem__(self, name: str) -> Any:
        try:
            return getattr(self, name)
        except AttributeError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return ((name, getattr(self, name)) for name in self._data)

    def __bool__(self) -> bool:
        return bool(self._data)


def partial_model(data: Any, schema: Mapping[str, Any], root: Mapping[str, Any] | None = None) -> Any:
    """JSON data with its objects as ``Growing``.

    Args:
        data: what has arrived.
        schema: its JSON schema.
        root: the schema that ``schema`` is a part of, for its references.
    """
    root = schema if root is None else root
    options = _options(schema, root)
    if isinstance(data, dict):
        if any(one.get("additionalProperties") and "properties" not in one for one in options):
            kept: Any = next((one["additionalProperties"] for one in options if one.get("additionalProperties")), {})
            return {name: partial_model(value, kept, root) for name, value in data.items()}
        return PartialModel(data, schema, root)
    if isinstance(data, list):
        inner: Any = next((one["items"] for one in options if "items" in one), {})
        return tuple(partial_model(item, inner, root) for item in data)
    if isinstance(data, str) and any("enum" in one or "const" in one for one in options):
        return as_choice(data)
    return data


def _absent(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """What stands for a field that has not come yet."""
    options = _options(schema, root)
    if len(options) != 1:  # it may be null
        return None
    (only,) = options
    if only.get("type") == "array":
        return ()
    if only.get("type") == "object":
        return partial_model({}, only, root)
    return None


def _options(schema: Any, root: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The schemas that a schema stands for: those of a union, and what a reference refers to."""
    found: list[Mapping[str, Any]] = []
    waiting, seen = [schema], 0
    while waiting and seen < 50:
        seen += 1
        one = waiting.pop(0)
        if not isinstance(one, Mapping):
            continue
        if "$ref" in one:
            target: Any = root
            for part in str(one["$ref"]).removeprefix("#").strip("/").split("/"):
                target = target.get(part, {}) if part and isinstance(target, Mapping) else target
            waiting.insert(0, target)
        elif inner := one.get("anyOf") or one.get("oneOf") or one.get("allOf"):
            waiting[:0] = list(inner)
        else:
            found.append(one)
    return found


_KEPT = 512
"""Shapes in use, and not all that there ever were: an app may make shapes as it goes, one for each wish, say."""


def type_adapter(schema: Any) -> TypeAdapter[Any]:
    """pydantic's adapter of a shape. Building one takes milliseconds, so those in use are kept."""
    found: TypeAdapter[Any] = _adapter(schema)
    return found


def json_schema_of(schema: Any) -> dict[str, Any]:
    """The JSON schema of a shape. All who ask get the same one: leave it as it is."""
    return _schema(schema)


_adapter = lru_cache(_KEPT)(TypeAdapter[Any])


@lru_cache(_KEPT)
def _schema(shape: Any) -> dict[str, Any]:
    return type_adapter(shape).json_schema()


def check_schema(schema: Any) -> None:
    """Make sure that something is a shape.

    Raises:
        BadShape: if it is neither a pydantic model nor a dataclass, or one whose values have no JSON.
    """
    if not isinstance(schema, type) or not (issubclass(schema, BaseModel) or is_dataclass(schema)):
        raise BadSchema(f"Canvas(shape=…) takes a pydantic model or a dataclass, but got {schema!r}.")
    try:
        json_schema_of(schema)
    except (PydanticUserError, PydanticSchemaGenerationError) as error:
        reason = str(error).partition("\n")[0]
        raise BadSchema(f"The shape {schema.__name__} has a field whose values have no JSON: {reason}") from None


def parse_value(schema: type[Any], text: str) -> Any:
    """A finished text as a value of the shape.

    A text that was cut off is accepted if what has arrived is enough.

    Raises:
        PageFailed: if it does not fit.
    """
    try:
        return type_adapter(schema).validate_json(text)
    except ValidationError:
        pass
    try:
        return type_adapter(schema).validate_python(from_json(text, allow_partial="trailing-strings"))
    except (ValidationError, ValueError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise PageFailed(f"What was written does not fit the shape {schema.__name__}: {reason}.") from None


class SchemaFormatter:
    """Draws a shape as a list of its fields, unless the page's block draws it in its own way."""

    def __init__(self, schema: type[Any] | None) -> None:
        if schema is None:
            raise ValueError("A typed region needs a shape.")
        self._shape = schema
        self._schema = json_schema_of(schema)

    def format(self, frame: Frame) -> FormattedFrame:
        """HTML of the fields so far, and the value.

        Raises:
            PageFailed: for a finished text that does not fit the shape.
        """
        text = strip_marks(frame.text)
        if frame.done:
            value = parse_value(self._shape, text)
            html = _draw(type_adapter(self._shape).dump_python(value, mode="json"))
            return FormattedFrame(html, len(html), value)
        try:
            marked = insert_json_marks(text, frame.unsettled) if frame.unsettled else text
            data = unsettled_values(from_json(marked, allow_partial="trailing-strings")) if text.strip() else {}
        except ValueError:
            data = {}
        return FormattedFrame(_draw(data), 0, partial_model(data, self._schema))


def _draw(data: Any) -> Markup:
    if isinstance(data, dict):
        rows = (
            Markup("<dt>{}</dt><dd>{}</dd>").format(str(name).replace("_", " "), _draw(value))
            for name, value in data.items()
            if value not in (None, "", [], {})
        )
        return Markup("<dl>{}</dl>").format(Markup("").join(rows)) if data else Markup("")
    if isinstance(data, list):
        items = Markup("").join(Markup("<li>{}</li>").format(_draw(item)) for item in data)
        return Markup("<ul>{}</ul>").format(items)
    if isinstance(data, bool):
        return Markup("yes" if data else "no")
    if hasattr(data, "__html__"):
        return escape(data)  # a soft value
    return escape("" if data is None else strip_marks(str(data)))


_VALUE = re.compile(r'"(?:[^"\\]|\\.)*("?)|-?\d[\d.eE+-]*', re.S)


# One character of a JSON string, escaped or not, perhaps cut off; two escapes where one character is written so.
_CHARACTER = re.compile(r"\\u[dD][89abAB]..(?:\\(?:u.{0,4})?)?|\\u.{0,4}|\\.?|.", re.S)


class _Unsettled:
    html: Markup

    def __html__(self) -> Markup:
        return self.html


class UnsettledText(_Unsettled, str):
    """A text with unsettled parts."""


class Choice(str):
    """A text that is one of several, as an enum's value is."""

    @property
    def value(self) -> str:
        """The text, as a finished enum has it."""
        return str(self)


class UnsettledChoice(_Unsettled, Choice):
    """The same with unsettled parts."""


def as_choice(text: str) -> Choice:
    """A text as a choice, unsettled where it is."""
    if not isinstance(text, UnsettledText):
        return Choice(text)
    soft = UnsettledChoice(text)
    soft.html = text.html
    return soft


class UnsettledInt(_Unsettled, int):
    """An unsettled whole number."""


class UnsettledFloat(_Unsettled, float):
    """An unsettled number."""


def insert_json_marks(text: str, spans: Sequence[Span]) -> str:
    """JSON, or a prefix of it, with marks in the values that the spans touch: around the unsettled characters of
    texts, and numbers as marked texts. Keys stay as they are.

    Args:
        text: JSON without marks.
        spans: its unsettled parts, in order.
    """
    parts: list[str] = []
    done = 0
    for match in _VALUE.finditer(text):
        start, end = match.span()
        here = [span for span in spans if span[0] < end and span[1] > start]
        if not here or text[end:].lstrip()[:1] == ":":
            continue
        parts.append(text[done:start])
        done = end
        if text[start] == '"':
            closed = bool(match[1])
            parts += ['"', *_marked_characters(text, start + 1, end - closed, here)]
            # Nothing may follow an escape that is cut off.
            parts += [f'{CLOSE}"'] if closed else []
        elif end < len(text):
            parts.append(f'"{PIPE}{match[0]}"')
        else:
            parts.append(match[0])  # more digits may follow
    return "".join([*parts, text[done:]])


def _marked_characters(text: str, start: int, end: int, spans: Sequence[Span]) -> Iterator[str]:
    soft = False
    for match in _CHARACTER.finditer(text, start, end):
        now = any(a < match.end() and b > match.start() for a, b in spans)
        if now != soft:
            yield OPEN if now else CLOSE
            soft = now
        yield match[0]


def unsettled_values(data: Any) -> Any:
    """Parsed JSON with the marked texts in it as soft values."""
    if isinstance(data, dict):
        return {name: unsettled_values(value) for name, value in data.items()}
    if isinstance(data, list):
        return [unsettled_values(item) for item in data]
    if not isinstance(data, str):
        return data
    if data.startswith(PIPE):
        return _number(data.removeprefix(PIPE))
    if OPEN not in data and CLOSE not in data:
        return data
    text = UnsettledText(data.replace(OPEN, "").replace(CLOSE, ""))
    text.html = Markup(render_marks(str(escape(data))))
    return text


def _number(digits: str) -> Any:
    try:
        number: UnsettledInt | UnsettledFloat = UnsettledInt(digits)
    except ValueError:
        try:
            number = UnsettledFloat(digits)
        except ValueError:
            return None
    number.html = Markup(render_marks(f"{OPEN}{escape(digits)}{CLOSE}"))
    return number
