"""A shape: JSON that fills a pydantic model or a dataclass while it arrives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import Markup, escape
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from unwritten_engine import Frame

from ..errors import PageFailed
from .drawn import Drawn
from .marks import unmarked
from .soft import marked_json, soft_values


class Growing:
    """What has arrived of a shape. Fields that have not come yet are None, or empty where a list belongs."""

    __slots__ = ("_data", "_properties")

    def __init__(self, data: Mapping[str, Any], properties: Mapping[str, Any]) -> None:
        self._data = data
        self._properties = properties

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        schema = self._properties.get(name)
        if name in self._data:
            return growing(self._data[name], schema or {})
        if schema is None:
            raise AttributeError(f"The shape has no field {name!r}.")
        return () if schema.get("type") == "array" else None

    def __getitem__(self, name: str) -> Any:
        try:
            return getattr(self, name)
        except AttributeError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return ((name, getattr(self, name)) for name in self._data)

    def __bool__(self) -> bool:
        return bool(self._data)


def growing(data: Any, schema: Mapping[str, Any]) -> Any:
    """JSON data with its objects as ``Growing``."""
    if isinstance(data, dict):
        return Growing(data, schema.get("properties", {}))
    if isinstance(data, list):
        return tuple(growing(item, schema.get("items", {})) for item in data)
    return data


_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}


def adapter(shape: type[Any]) -> TypeAdapter[Any]:
    """pydantic's adapter of a shape. Building one takes milliseconds, so each is built once."""
    if shape not in _ADAPTERS:
        _ADAPTERS[shape] = TypeAdapter(shape)
    return _ADAPTERS[shape]


def schema_of(shape: type[Any]) -> dict[str, Any]:
    """The JSON schema of a shape."""
    return adapter(shape).json_schema()


def parse(shape: type[Any], text: str) -> Any:
    """A finished text as a value of the shape.

    A text that was cut off is accepted if what has arrived is enough.

    Raises:
        PageFailed: if it does not fit.
    """
    try:
        return adapter(shape).validate_json(text)
    except ValidationError:
        pass
    try:
        return adapter(shape).validate_python(from_json(text, allow_partial="trailing-strings"))
    except (ValidationError, ValueError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise PageFailed(f"What was written does not fit the shape {shape.__name__}: {reason}.") from None


class TypedDrawer:
    """Draws a shape as a list of its fields, unless the page's block draws it in its own way."""

    def __init__(self, shape: type[Any] | None) -> None:
        if shape is None:
            raise ValueError("A typed region needs a shape.")
        self._shape = shape
        self._schema = schema_of(shape)

    def draw(self, frame: Frame) -> Drawn:
        """HTML of the fields so far, and the value.

        Raises:
            PageFailed: for a finished text that does not fit the shape.
        """
        text = unmarked(frame.text)
        if frame.done:
            value = parse(self._shape, text)
            html = _draw(adapter(self._shape).dump_python(value, mode="json"))
            return Drawn(html, len(html), value)
        try:
            marked = marked_json(text, frame.unsettled) if frame.unsettled else text
            data = soft_values(from_json(marked, allow_partial="trailing-strings")) if text.strip() else {}
        except ValueError:
            data = {}
        return Drawn(_draw(data), 0, growing(data, self._schema))


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
    return escape("" if data is None else unmarked(str(data)))
