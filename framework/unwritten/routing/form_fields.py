"""Form fields: convert what a visitor submitted to the arguments of an action, or to messages beside the fields."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model
from starlette.datastructures import UploadFile

from unwritten_engine.errors import suggestion

from ..core.errors import BadApp, BadForm
from ..core.localization import Text, join
from ..core.localization import gettext_lazy as _
from ..core.localization import ngettext_lazy as _n
from ..formats.uploads import Upload

FormPairs: TypeAlias = Sequence[tuple[str, str]]
"""Names and values of a form's fields, in order."""


class FieldTexts:
    """Texts by the name of a field, as templates see them: ``errors.text``. An unknown name gives ""."""

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
    """A submitted form that was not accepted, as templates see it in ``form``. It is empty if there is none.

    Attributes:
        action: The name of its action; "" if no form was submitted.
        value: What the visitor entered, by field: ``form.value.text``.
        errors: Error messages by field: ``form.errors.text``.
        message: An error message about the form as a whole.
    """

    action: str = ""
    value: FieldTexts = field(default_factory=FieldTexts)
    errors: FieldTexts = field(default_factory=FieldTexts)
    message: str = ""


class FormParser:
    """Converts the fields of a form into the arguments of an action.

    Args:
        function: The action's name.
        parameters: Its parameters that come from the form, with annotation and default (``...`` for none). A single
            parameter that is annotated with a pydantic model or a dataclass gets the whole form.

    Raises:
        BadApp: If a form cannot hold them.
    """

    def __init__(self, function: str, parameters: Mapping[str, tuple[Any, Any]]) -> None:
        self._function = function
        self._model_parameter = ""
        model: type[Any]
        if len(parameters) == 1 and _is_model(next(iter(parameters.values()))[0]):
            ((self._model_parameter, (model, _)),) = parameters.items()
        else:
            try:
                definitions: dict[str, Any] = dict(parameters)
                model = create_model(
                    f"Form of {function}", __config__=ConfigDict(arbitrary_types_allowed=True), **definitions
                )
            except Exception as error:
                raise BadApp(f"The action {function!r} takes a field that no form can hold: {error}.") from error
        self._adapter: TypeAdapter[Any] = TypeAdapter(model)
        annotations = _annotations(model)
        self._kinds = {name: _field_kind(annotation) for name, annotation in annotations.items()}
        self.file_fields: Mapping[str, FileKind] = {
            name: kind for name, annotation in annotations.items() if (kind := file_kind(annotation)) is not None
        }

    def parse(self, pairs: FormPairs, files: Sequence[tuple[str, Any]] = ()) -> dict[str, Any] | FormState:
        """Return the function's arguments, or the form with error messages if a field is not valid.

        Args:
            pairs: The submitted fields.
            files: The submitted files by field, as the field's annotation needs them; see ``file_fields``.

        Raises:
            BadForm: If the action does not take one of the fields.
        """
        values: dict[str, list[Any]] = {}
        for name, text in (*pairs, *files):
            if name in self.file_fields and isinstance(text, str):
                continue  # a form without enctype sends the name of the file; without a script, "" for none
            if name not in self._kinds or (name not in self.file_fields and not isinstance(text, str)):
                raise BadForm(
                    f"The form has a field {name!r}, which the action {self._function!r} does not take."
                    f"{suggestion(name, self._kinds)}"
                )
            values.setdefault(name, []).append(text)
        raw: dict[str, Any] = {}
        for name, kind in self._kinds.items():
            found = values.get(name, [])
            if kind == "list":
                raw[name] = found
            elif kind == "bool":
                raw[name] = found[-1] if found and found[-1] else False  # browsers do not send an unchecked box
            elif found and (found[-1] or kind == "text"):
                raw[name] = found[-1]
            elif found and kind == "text or none":
                raw[name] = None
        try:
            value = self._adapter.validate_python(raw, strict=False)
        except ValidationError as error:
            return self.explain(pairs, error)
        if self._model_parameter:
            return {self._model_parameter: value}
        return {name: getattr(value, name) for name in self._kinds}

    def explain(self, pairs: FormPairs, error: ValidationError) -> FormState:
        """Return the submitted form with the errors beside its fields.

        Args:
            pairs: The submitted fields.
            error: The errors. Those of other models, raised inside the function, match fields by name.
        """
        errors: dict[str, str] = {}
        message = ""
        for entry in error.errors():
            if entry["loc"] and str(entry["loc"][0]) in self._kinds:
                errors.setdefault(str(entry["loc"][0]), error_message(entry))
            else:
                field_name = f"{entry['loc'][0]}:" if entry["loc"] else ""
                message = message or (join(field_name, error_message(entry)) if field_name else error_message(entry))
        return FormState(self._function, FieldTexts(dict(pairs)), FieldTexts(errors), message)


FileKind: TypeAlias = Literal["upload", "file", "bytes"]
"""How an action takes a file: stored, as Starlette's ``UploadFile``, or as its bytes."""


def file_kind(annotation: Any) -> FileKind | None:
    """Return how a field takes files: alone, optional, or in a list. None if it takes none."""
    if isinstance(annotation, type):
        if issubclass(annotation, Upload):
            return "upload"
        return "file" if issubclass(annotation, UploadFile) else "bytes" if annotation is bytes else None
    kinds: set[FileKind | None] = {file_kind(part) for part in get_args(annotation)}
    kinds.discard(None)
    return kinds.pop() if len(kinds) == 1 else None


def _is_model(annotation: Any) -> bool:
    is_class = isinstance(annotation, type) and not issubclass(annotation, Upload)
    return is_class and (issubclass(annotation, BaseModel) or is_dataclass(annotation))


def _annotations(model: type[Any]) -> dict[str, Any]:
    if issubclass(model, BaseModel):
        return {name: info.annotation for name, info in model.model_fields.items()}
    hints = get_type_hints(model)
    return {f.name: hints[f.name] for f in fields(model) if f.init}


def _field_kind(annotation: Any) -> str:
    """Return how a field is read: list, bool, text, "text or none", or other."""
    if get_origin(annotation) is Annotated:
        return _field_kind(get_args(annotation)[0])
    if get_origin(annotation) in {list, set, tuple, frozenset} or annotation in {list, set, tuple}:
        return "list"
    if annotation in {str, bool}:
        return "text" if annotation is str else "bool"
    if get_origin(annotation) in {Union, types.UnionType} and str in get_args(annotation):
        return "text or none" if type(None) in get_args(annotation) else "text"
    return "other"


_NEEDED = _("This is needed.")
_INTEGER = _("A whole number, please.")
_NUMBER = _("A number, please.")
_DATE = _("A date such as 2030-12-31, please.")
_TIME = _("A time such as 18:30, please.")
_MOMENT = _("A date and time such as 2030-12-31T18:30, please.")

_MESSAGES: Mapping[str, Text | Callable[[Mapping[str, Any]], Text]] = {
    "missing": _NEEDED,
    "string_too_short": lambda context: (
        _NEEDED
        if context["min_length"] == 1
        else _n("At least %(num)s character, please.", "At least %(num)s characters, please.", context["min_length"])
    ),
    "string_too_long": lambda context: _n(
        "At most %(num)s character, please.", "At most %(num)s characters, please.", context["max_length"]
    ),
    "too_short": lambda context: _n(
        "At least %(num)s entry, please.", "At least %(num)s entries, please.", context["min_length"]
    ),
    "too_long": lambda context: _n(
        "At most %(num)s entry, please.", "At most %(num)s entries, please.", context["max_length"]
    ),
    "string_pattern_mismatch": _("This does not have the expected form."),
    "int_type": _INTEGER,
    "int_parsing": _INTEGER,
    "int_from_float": _INTEGER,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "decimal_parsing": _NUMBER,
    "finite_number": _NUMBER,
    "bool_parsing": _("Yes or no, please."),
    "date_parsing": _DATE,
    "date_from_datetime_parsing": _DATE,
    "date_from_datetime_inexact": _DATE,
    "time_parsing": _TIME,
    "datetime_parsing": _MOMENT,
    "datetime_from_date_parsing": _MOMENT,
    "date_past": _("A date in the past, please."),
    "date_future": _("A date in the future, please."),
    "url_parsing": _("A web address such as https://example.com, please."),
    "url_scheme": _("A web address such as https://example.com, please."),
    "greater_than": lambda context: _("More than %(limit)s, please.", limit=context["gt"]),
    "greater_than_equal": lambda context: _("At least %(limit)s, please.", limit=context["ge"]),
    "less_than": lambda context: _("Less than %(limit)s, please.", limit=context["lt"]),
    "less_than_equal": lambda context: _("At most %(limit)s, please.", limit=context["le"]),
    "multiple_of": lambda context: _("A multiple of %(step)s, please.", step=context["multiple_of"]),
    "literal_error": lambda context: _("One of these, please: %(choices)s.", choices=_choices(context)),
    "enum": lambda context: _("One of these, please: %(choices)s.", choices=_choices(context)),
}
"""Messages by the type of pydantic's error. Other types, such as those of an author's validator, keep their own."""


def _choices(context: Mapping[str, Any]) -> str:
    return str(context["expected"]).replace(" or ", ", ")


def error_message(error: Any) -> str:
    """Return the message for one of pydantic's errors, for visitors."""
    message = _MESSAGES.get(error["type"])
    if message is not None:
        return message if isinstance(message, Text) else message(error.get("ctx", {}))
    raised = error.get("ctx", {}).get("error")
    if isinstance(raised, Exception) and isinstance(own := str(raised), Text):
        return own
    text = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
