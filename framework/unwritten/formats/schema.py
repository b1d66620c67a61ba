"""The format "typed": JSON for a pydantic model or a dataclass, usable field by field while it arrives.

A finished text becomes an instance of the model. A draft becomes a ``PartialModel``, whose unsettled texts and numbers
are shown as such by templates.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

from markupsafe import Markup, escape
from pydantic import BaseModel, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import from_json

from unwritten_engine import Frame, Span

from ..core.bidi import neutralize_json
from ..core.errors import BadSchema, PageFailed
from .unsettled import CLOSE, OPEN, PIPE, FormattedFrame, clip_spans, render_marks, strip_marks

MAX_ENTRIES = 10_000
"""Maximum number of entries of a value, as many as elements of HTML. Each may become an element with more in it."""

# -- models -------------------------------------------------------------------------------------------------

_CACHE_SIZE = 512
"""Number of models whose adapters are cached. It is limited because an app may create models as it runs."""

_adapter = lru_cache(_CACHE_SIZE)(TypeAdapter[Any])


def type_adapter(schema: Any) -> TypeAdapter[Any]:
    """Return pydantic's adapter of a type. Adapters are cached, because creating one takes milliseconds."""
    adapter: TypeAdapter[Any] = _adapter(schema)
    return adapter


@lru_cache(_CACHE_SIZE)
def _json_schema(schema: Any) -> dict[str, Any]:
    return type_adapter(schema).json_schema()


def json_schema_of(schema: Any) -> dict[str, Any]:
    """Return the JSON schema of a type. The result is cached: do not change it."""
    return _json_schema(schema)  # mypy rejects type[Any] as an argument of a cached function


def check_schema(schema: Any) -> None:
    """Check the ``schema`` of a canvas.

    Raises:
        BadSchema: If it is neither a pydantic model nor a dataclass, or if a field cannot be represented in JSON.
    """
    if not isinstance(schema, type) or not (issubclass(schema, BaseModel) or is_dataclass(schema)):
        raise BadSchema(f"Canvas(schema=…) takes a pydantic model or a dataclass, but got {schema!r}.")
    try:
        json_schema_of(schema)
    except (PydanticUserError, PydanticSchemaGenerationError) as error:
        reason = str(error).partition("\n")[0]
        raise BadSchema(
            f"The schema {schema.__name__} has a field that cannot be represented in JSON: {reason}"
        ) from None


def parse_value(schema: type[Any], text: str) -> Any:
    """Return a finished text as an instance of a schema. A text that was cut off is accepted if it is enough.

    Raises:
        PageFailed: If it does not match.
    """
    try:
        return read_finite(schema, text)
    except ValueError:
        pass
    try:
        value = type_adapter(schema).validate_python(from_json(text, allow_partial="trailing-strings"))
        return _check_finite(schema, value, text)
    except (ValidationError, ValueError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise PageFailed(f"The generated text does not match the schema {schema.__name__}: {reason}.") from None


def limit_entries(text: str) -> str:
    """Return JSON without what follows ``MAX_ENTRIES`` commas."""
    if text.count(",") <= MAX_ENTRIES:
        return text
    return text[: next(islice(re.finditer(",", text), MAX_ENTRIES, None)).start()]


# NaN and infinity in the spellings that parsers accept, and numbers that may be too large for a float.
_MAYBE_INFINITE = re.compile(r"nan|inf|e\+?\d{3}|\d{300}", re.I)


def read_finite(schema: type[Any], text: str) -> Any:
    """Return JSON as an instance of a schema.

    Raises:
        ValueError: If it does not match, or if a number is infinite or NaN, as 1e999 is. Templates fail on those.
    """
    return _check_finite(schema, type_adapter(schema).validate_json(text), text)


def _check_finite(schema: type[Any], value: Any, text: str) -> Any:
    if _MAYBE_INFINITE.search(text) and not _is_finite(type_adapter(schema).dump_python(value)):
        raise ValueError("a number is infinite or NaN")
    return value


def _is_finite(data: Any) -> bool:
    if isinstance(data, dict):
        return all(map(_is_finite, data.values()))
    if isinstance(data, list | tuple | set | frozenset):
        return all(map(_is_finite, data))
    return not isinstance(data, float) or math.isfinite(data)


def resolve_reference(json_schema: Any, root: Mapping[str, Any]) -> Any:
    """Return what a JSON schema with a ``$ref`` refers to within ``root``, or {} if that does not exist."""
    target: Any = root
    for part in str(json_schema["$ref"]).removeprefix("#").strip("/").split("/"):
        target = target.get(part, {}) if part and isinstance(target, Mapping) else target
    return target


# -- partial values -----------------------------------------------------------------------------------------


class PartialModel:
    """The fields received so far of a model, as attributes.

    Fields not received yet: empty for lists, maps and nested models, otherwise None. Enums are strings with a
    ``value``, dates are strings.
    """

    __slots__ = ("_data", "_fields", "_root")

    def __init__(self, data: Mapping[str, Any], json_schema: Mapping[str, Any], root: Mapping[str, Any]) -> None:
        self._data = data
        self._root = root
        self._fields = {
            name: field
            for option in _alternatives(json_schema, root)
            for name, field in option.get("properties", {}).items()
        }

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        json_schema = self._fields.get(name)
        if name in self._data:
            return partial_model(self._data[name], json_schema or {}, self._root)
        if json_schema is None:
            raise AttributeError(f"The schema has no field {name!r}.")
        return _empty_value(json_schema, self._root)

    def __getitem__(self, name: str) -> Any:
        try:
            return getattr(self, name)
        except AttributeError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return ((name, getattr(self, name)) for name in self._data)

    def __bool__(self) -> bool:
        return bool(self._data)


def partial_model(data: Any, json_schema: Mapping[str, Any], root: Mapping[str, Any] | None = None) -> Any:
    """Return JSON data with its objects as ``PartialModel`` and its lists as tuples.

    Args:
        data: The data received so far.
        json_schema: Its JSON schema.
        root: The schema that contains ``json_schema``, to resolve references. None: ``json_schema`` itself.
    """
    root = json_schema if root is None else root
    options = _alternatives(json_schema, root)
    if isinstance(data, dict):
        if any(option.get("additionalProperties") and "properties" not in option for option in options):
            inner: Any = next(
                (option["additionalProperties"] for option in options if option.get("additionalProperties")), {}
            )
            return {name: partial_model(value, inner, root) for name, value in data.items()}
        return PartialModel(data, json_schema, root)
    if isinstance(data, list):
        items: Any = next((option["items"] for option in options if "items" in option), {})
        return tuple(partial_model(item, items, root) for item in data)
    if isinstance(data, str) and any("enum" in option or "const" in option for option in options):
        return as_choice(data)
    return data


def _empty_value(json_schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """Return the value of a field that was not received yet."""
    options = _alternatives(json_schema, root)
    if len(options) != 1:  # it may be null
        return None
    (option,) = options
    if option.get("type") == "array":
        return ()
    if option.get("type") == "object":
        return partial_model({}, option, root)
    return None


def _alternatives(json_schema: Any, root: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the members of a union, or the schema itself, with references resolved."""
    found: list[Mapping[str, Any]] = []
    pending, steps = [json_schema], 0
    while pending and steps < 50:
        steps += 1
        schema = pending.pop(0)
        if not isinstance(schema, Mapping):
            continue
        if "$ref" in schema:
            pending.insert(0, resolve_reference(schema, root))
        elif members := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
            pending[:0] = list(members)
        else:
            found.append(schema)
    return found


# -- unsettled values ---------------------------------------------------------------------------------------


class _Unsettled:
    html: Markup

    def __html__(self) -> Markup:
        return self.html


class UnsettledText(_Unsettled, str):
    """A string with unsettled parts."""


class UnsettledInt(_Unsettled, int):
    """An unsettled integer."""


class UnsettledFloat(_Unsettled, float):
    """An unsettled number."""


class Choice(str):
    """One of several strings. It has a ``value``, as an enum member has."""

    @property
    def value(self) -> str:
        """The string itself."""
        return str(self)


class UnsettledChoice(_Unsettled, Choice):
    """A choice with unsettled parts."""


def as_choice(text: str) -> Choice:
    """Return a string as a choice, which is unsettled if the string is."""
    if not isinstance(text, UnsettledText):
        return Choice(text)
    choice = UnsettledChoice(text)
    choice.html = text.html
    return choice


# A string, which may be cut off, or a number.
_VALUE = re.compile(r'"(?:[^"\\]|\\.)*("?)|-?\d[\d.eE+-]*', re.S)
_BEFORE_COLON = re.compile(r"\s*+:")
# One character of a JSON string: escaped or not, perhaps cut off, or a surrogate pair.
_CHARACTER = re.compile(r"\\u[dD][89abAB]..(?:\\(?:u.{0,4})?)?|\\u.{0,4}|\\.?|.", re.S)


def insert_json_marks(text: str, spans: Sequence[Span]) -> str:
    """Return JSON, or a prefix of it, with marks in its unsettled values. ``unsettled_values`` reads them.

    In strings, the unsettled characters get marks. Numbers become marked strings. Keys are unchanged.

    Args:
        text: JSON without marks.
        spans: Its unsettled spans, in order.
    """
    parts: list[str] = []
    position = 0
    for match in _VALUE.finditer(text):
        start, end = match.span()
        touching = clip_spans(spans, start, end)
        if not touching or _BEFORE_COLON.match(text, end):
            continue
        parts.append(text[position:start])
        position = end
        if text[start] == '"':
            closed = bool(match[1])
            parts += ['"', *_mark_characters(match[0], 1, end - start - closed, touching)]
            # Nothing may follow an escape that is cut off.
            parts += [f'{CLOSE}"'] if closed else []
        elif end < len(text):
            parts.append(f'"{PIPE}{match[0]}"')
        else:
            parts.append(match[0])  # digits may be missing
    return "".join([*parts, text[position:]])


def _mark_characters(text: str, start: int, end: int, spans: Sequence[Span]) -> Iterator[str]:
    marked = False
    index = 0
    for match in _CHARACTER.finditer(text, start, end):
        while index < len(spans) and spans[index][1] <= match.start():
            index += 1
        unsettled = index < len(spans) and spans[index][0] < match.end()
        if unsettled != marked:
            yield OPEN if unsettled else CLOSE
            marked = unsettled
        yield match[0]


def unsettled_values(data: Any) -> Any:
    """Return parsed JSON with its marked strings as unsettled strings and numbers, and without infinite numbers."""
    if isinstance(data, dict):
        return {name: unsettled_values(value) for name, value in data.items()}
    if isinstance(data, list):
        return [unsettled_values(item) for item in data]
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if not isinstance(data, str):
        return data
    if data.startswith(PIPE):
        return _unsettled_number(data.removeprefix(PIPE))
    if OPEN not in data and CLOSE not in data:
        return data
    text = UnsettledText(data.replace(OPEN, "").replace(CLOSE, ""))
    text.html = Markup(render_marks(str(escape(data))))
    return text


def _unsettled_number(digits: str) -> UnsettledInt | UnsettledFloat | None:
    number: UnsettledInt | UnsettledFloat
    try:
        number = UnsettledInt(digits)
    except ValueError:
        try:
            number = UnsettledFloat(digits)
        except ValueError:
            return None
    if isinstance(number, float) and not math.isfinite(number):
        return None
    number.html = Markup(render_marks(f"{OPEN}{escape(digits)}{CLOSE}"))
    return number


# -- the formatter ------------------------------------------------------------------------------------------


class SchemaFormatter:
    """Renders a value as a list of its fields. Templates usually render the fields themselves instead."""

    def __init__(self, schema: type[Any] | None) -> None:
        if schema is None:
            raise ValueError('The format "typed" needs a schema.')
        self._schema = schema
        self._json_schema = json_schema_of(schema)

    def format(self, frame: Frame) -> FormattedFrame:
        """Return the fields so far as HTML, and the value: an instance of the schema or a ``PartialModel``.

        Raises:
            PageFailed: If a finished text does not match the schema.
        """
        text = limit_entries(neutralize_json(strip_marks(frame.text)))
        if frame.done:
            value = parse_value(self._schema, text)
            html = _render(type_adapter(self._schema).dump_python(value, mode="json"))
            return FormattedFrame(html, len(html), value)
        try:
            marked = insert_json_marks(text, frame.unsettled) if frame.unsettled else text
            data = unsettled_values(from_json(marked, allow_partial="trailing-strings")) if text.strip() else {}
        except ValueError:
            data = {}
        return FormattedFrame(_render(data), 0, partial_model(data, self._json_schema))


def _render(data: Any) -> Markup:
    if isinstance(data, dict):
        rows = (
            Markup("<dt>{}</dt><dd>{}</dd>").format(str(name).replace("_", " "), _render(value))
            for name, value in data.items()
            if value not in (None, "", [], {})
        )
        return Markup("<dl>{}</dl>").format(Markup("").join(rows)) if data else Markup("")
    if isinstance(data, list):
        items = Markup("").join(Markup("<li>{}</li>").format(_render(item)) for item in data)
        return Markup("<ul>{}</ul>").format(items)
    if isinstance(data, bool):
        return Markup("yes" if data else "no")
    if isinstance(data, _Unsettled):
        return escape(data)
    return escape("" if data is None else strip_marks(str(data)))
