"""Fields: what a visitor has typed into a form, read by the types that an action asks for."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Annotated, Any, TypeAlias, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, TypeAdapter, ValidationError, create_model
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from unwritten_engine.errors import suggestion

from ..core.errors import BadApp, BadForm

Pairs: TypeAlias = Sequence[tuple[str, str]]
"""Names and values of a form, in their order."""


MAX_FIELDS = 64
"""Fields that a form may have."""


class Named:
    """Texts by the name of a field, as a template sees them: ``errors.text``. A name that is not there is empty."""

    def __init__(self, texts: Mapping[str, str] | None = None) -> None:
        self._texts = dict(texts or {})

    def __getattr__(self, name: str) -> str:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._texts.get(name, "")

    def __getitem__(self, name: str) -> str:
        return self._texts.get(name, "")

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._texts.items())

    def __bool__(self) -> bool:
        return bool(self._texts)


@dataclass(frozen=True, slots=True)
class FormState:
    """A form that was sent and could not be taken, as ``form`` in the template of its page; before that, an empty one.

    Attributes:
        action: the name of the action that it was sent to; "" if none was sent.
        value: what was typed, by field: ``form.value.text``.
        errors: what is wrong, by field, in words: ``form.errors.text``.
        message: what is wrong with the form as a whole.
    """

    action: str = ""
    value: Named = field(default_factory=Named)
    errors: Named = field(default_factory=Named)
    message: str = ""


async def submitted_pairs(request: Request, size: int) -> list[tuple[str, str]]:
    """The fields of a form, urlencoded or multipart.

    Args:
        request: a POST.
        size: bytes that one field may have.

    Raises:
        BadForm: 413 for too much, 400 for files and for what cannot be read, 415 for another kind of content.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in {"application/x-www-form-urlencoded", "multipart/form-data", ""}:
        raise BadForm(f"A form is sent as application/x-www-form-urlencoded or multipart/form-data, not {kind}.", 415)
    too_large = BadForm(
        f"A field of this form is too large: up to {_bytes(size)} are taken. Go back and shorten it.", 413
    )
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > size * 4 + 4096:  # a byte can take three in a form, and there may be several fields
            raise BadForm(
                f"This form is too large: up to {_bytes(size)} are taken in one field, and four times as much in all. "
                "Go back, and make it shorter.",
                413,
            )

    async def receive() -> Message:
        return {"type": "http.request", "body": bytes(body), "more_body": False}

    read = Request({**request.scope, "app": None}, receive)
    try:
        form = await read.form(max_files=0, max_fields=MAX_FIELDS, max_part_size=size * 3 + 1024)
    except HTTPException as error:
        text = str(error.detail)
        if "fields" in text:
            raise BadForm(f"This form has too many fields: up to {MAX_FIELDS} are taken.", 413) from None
        if "files" in text:
            raise BadForm("This form brings a file, and files are not taken.", 400) from None
        if "exceeded" in text:
            raise too_large from None
        raise BadForm(f"This form cannot be read: {text}", 400) from None
    pairs = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
    if any(len(value.encode("utf-8", "replace")) > size for _, value in pairs):
        raise too_large
    return [(name, value.replace("\r\n", "\n")) for name, value in pairs]


class FormParser:
    """Reads the fields of forms into what a function asks for.

    Args:
        function: the action's name.
        parameters: its parameters that come from the form: annotation and default (``...`` if there is none). One
            alone that is annotated with a pydantic model or a dataclass is the form as a whole.

    Raises:
        BadApp: if a form cannot hold them.
    """

    def __init__(self, function: str, parameters: Mapping[str, tuple[Any, Any]]) -> None:
        self._function = function
        self._whole = ""
        model: type[Any]
        if len(parameters) == 1 and _is_model(next(iter(parameters.values()))[0]):
            ((self._whole, (model, _)),) = parameters.items()
        else:
            try:
                definitions: dict[str, Any] = dict(parameters)
                model = create_model(f"Form of {function}", **definitions)
            except Exception as error:
                raise BadApp(f"The action {function!r} takes a field that no form can hold: {error}.") from error
        self._adapter: TypeAdapter[Any] = TypeAdapter(model)
        self._kinds = {name: _kind_of(annotation) for name, annotation in _annotations(model).items()}

    def parse(self, pairs: Pairs) -> dict[str, Any] | FormState:
        """The function's arguments; or, if they do not fit, what to tell the visitor.

        Raises:
            BadForm: for a field that the action does not take.
        """
        values: dict[str, list[str]] = {}
        for name, value in pairs:
            if name not in self._kinds:
                raise BadForm(
                    f"The form has a field {name!r}, which the action {self._function!r} does not take."
                    f"{suggestion(name, self._kinds)}"
                )
            values.setdefault(name, []).append(value)
        given: dict[str, Any] = {}
        for name, kind in self._kinds.items():
            found = values.get(name, [])
            if kind == "list":
                given[name] = found
            elif kind == "bool":
                given[name] = found[-1] if found and found[-1] else False  # a box that is not ticked is not sent
            elif found and (found[-1] or kind == "text"):
                given[name] = found[-1]
            elif found and kind == "text or none":
                given[name] = None
        try:
            value = self._adapter.validate_python(given, strict=False)
        except ValidationError as error:
            return self.explain(pairs, error)
        if self._whole:
            return {self._whole: value}
        return {name: getattr(value, name) for name in self._kinds}

    def explain(self, pairs: Pairs, error: ValidationError) -> FormState:
        """Return the submitted form with the errors beside its fields.

        Args:
            pairs: The submitted fields.
            error: The errors. Those of other models, raised inside the function, match fields by name.
        """
        errors: dict[str, str] = {}
        whole = ""
        for entry in error.errors():
            if entry["loc"] and str(entry["loc"][0]) in self._kinds:
                errors.setdefault(str(entry["loc"][0]), _words(entry))
            else:
                field_name = f"{entry['loc'][0]}: " if entry["loc"] else ""
                whole = whole or field_name + _words(entry)
        typed = dict(pairs)
        return FormState(self._function, Named(typed), Named(errors), whole)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and (issubclass(annotation, BaseModel) or is_dataclass(annotation))


def _annotations(model: type[Any]) -> dict[str, Any]:
    if issubclass(model, BaseModel):
        return {name: info.annotation for name, info in model.model_fields.items()}
    hints = get_type_hints(model)
    return {f.name: hints[f.name] for f in fields(model) if f.init}


def _kind_of(annotation: Any) -> str:
    """How a field is read: as a list, as a box to tick, or as one text, which may be empty or not."""
    if get_origin(annotation) is Annotated:
        return _kind_of(get_args(annotation)[0])
    if get_origin(annotation) in {list, set, tuple, frozenset} or annotation in {list, set, tuple}:
        return "list"
    if annotation in {str, bool}:
        return "text" if annotation is str else "bool"
    if get_origin(annotation) in {Union, types.UnionType} and str in get_args(annotation):
        return "text or none" if type(None) in get_args(annotation) else "text"
    return "other"


_WORDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "missing": lambda context: "This is needed.",
    "string_too_short": lambda context: (
        "This is needed." if context["min_length"] == 1 else f"At least {context['min_length']} characters, please."
    ),
    "string_too_long": lambda context: f"At most {context['max_length']} characters, please.",
    "int_parsing": lambda context: "A whole number, please.",
    "int_from_float": lambda context: "A whole number, please.",
    "float_parsing": lambda context: "A number, please.",
    "greater_than": lambda context: f"More than {context['gt']}, please.",
    "greater_than_equal": lambda context: f"At least {context['ge']}, please.",
    "less_than": lambda context: f"Less than {context['lt']}, please.",
    "less_than_equal": lambda context: f"At most {context['le']}, please.",
    "literal_error": lambda context: f"One of {context['expected']}, please.",
    "enum": lambda context: f"One of {context['expected']}, please.",
}


def _words(error: Any) -> str:
    """What is wrong with a field, for people."""
    words = _WORDS.get(error["type"])
    if words:
        return words(error.get("ctx", {}))
    text = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _bytes(size: int) -> str:
    return f"{size // 1024} kB" if size >= 1024 else f"{size} bytes"
