"""Tables of options: name, default, type and help text.

One table is used for validation, messages and documentation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from .errors import BadOption, UnknownOption

Kind: TypeAlias = Literal["number", "count", "flag", "text", "texts", "biases", "object"]

_WORDS: dict[Kind, str] = {
    "number": "a number",
    "count": "a whole number",
    "flag": "True or False",
    "text": "a text",
    "texts": "a list of texts",
    "biases": "a list of pairs of a text and a number, such as [['Paris', -2.5]]",
    "object": "a JSON object, as a dict or a string",
}


@dataclass(frozen=True, slots=True)
class Option:
    """One option.

    Attributes:
        name: the keyword.
        default: used if the option is not given. None means that the engine chooses.
        kind: the type of the value.
        help: description in one line.
        low: minimum of a number.
        high: maximum of a number.
    """

    name: str
    default: Any
    kind: Kind
    help: str
    low: float | None = None
    high: float | None = None

    def check(self, value: Any, owner: str) -> Any:
        """Return the value in the option's type.

        Raises:
            BadOption: the value has another type, or is out of bounds.
        """
        if value is None and self.default is None:
            return None
        if self.kind == "text" and type(value) is int:
            return str(value)  # such as a port, which the command line parses as a number
        if value is None or not self._fits(value):
            raise BadOption(f"{owner}: the option {self.name!r} is {value!r}; give {self._wanted()}.")
        if self.kind == "number":
            return float(value)
        if self.kind == "object":
            return json.loads(value) if isinstance(value, str) else dict(value)
        if self.kind == "biases":
            return [[text, float(number)] for text, number in value]
        return list(value) if self.kind == "texts" else value

    def _fits(self, value: Any) -> bool:
        if self.kind == "flag":
            return isinstance(value, bool)
        if self.kind == "text":
            return isinstance(value, str)
        if self.kind == "object":
            return _is_object(value)
        if self.kind in ("texts", "biases"):
            fits = _is_bias if self.kind == "biases" else _is_text
            return isinstance(value, Sequence) and not isinstance(value, str | bytes) and all(map(fits, value))
        number = int if self.kind == "count" else (int | float)
        if isinstance(value, bool) or not isinstance(value, number):
            return False
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def _wanted(self) -> str:
        words = _WORDS[self.kind]
        if self.low is not None and self.high is not None:
            return f"{words} from {self.low:g} to {self.high:g}"
        return words if self.low is None else f"{words} of at least {self.low:g}"


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_object(value: Any) -> bool:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return False
    return isinstance(value, Mapping) and all(map(_is_text, value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_bias(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and _is_text(value[0]) and _is_number(value[1])


def check_options(options: Mapping[str, Any], table: Sequence[Option], owner: str) -> dict[str, Any]:
    """Return every option of the table with its value or default.

    Args:
        given: options by name.
        table: the known options.
        owner: who has them, for messages, such as "The llama.cpp engine".

    Raises:
        UnknownOption: a name is not in the table. The message suggests the nearest.
        BadOption: an invalid value.
    """
    known = {option.name: option for option in table}
    for name in options:
        if name not in known:
            raise UnknownOption(name, known, owner)
    return {
        name: option.check(options[name], owner) if name in options else option.default
        for name, option in known.items()
    }
