"""Options of the engine and the painter: parses ``threads=2 quantize=nf4`` from settings into keyword arguments."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

from .errors import BadSetting
from .settings import Settings

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
    "none": None,
}

_EXAMPLE = "Write name=value, separated by spaces: --engine-options 'threads=2 quantize=nf4'"

_KEY = re.compile(r"""\bkey=('[^']*'|"[^"]*"|\S+)""")


def engine_options(settings: Settings) -> dict[str, Any]:
    """Return the options for ``open_engine`` from the settings ``model`` and ``engine_options``.

    Raises:
        BadSetting: If they cannot be parsed, or both name a model.
    """
    options = parse_options(settings.engine_options)
    if settings.model:
        if "model" in options:
            raise BadSetting(
                f"There are two models: {settings.model!r}, and {options['model']!r} in the engine's options. "
                "Keep --model, and remove it from --engine-options."
            )
        options["model"] = settings.model
    return options


def painter_options(settings: Settings) -> dict[str, Any]:
    """Return the options for ``open_painter`` from the setting ``painter_options``.

    Raises:
        BadSetting: If they cannot be parsed, or there is no painter.
    """
    options = parse_options(settings.painter_options)
    if options and not settings.painter:
        raise BadSetting("There are options for a painter, but no painter. Add one, such as --painter OWNER/REPO.")
    return options


def parse_options(text: str) -> dict[str, Any]:
    """Parse options as they are typed: ``name=value``, separated by spaces, with quotes around spaces.

    A value is a number, yes or no, none, JSON if it begins with a quote or a bracket, and otherwise a string.

    Raises:
        BadSetting: If they cannot be parsed. The message says what to type.
    """
    try:
        parts = shlex.split(text)
    except ValueError as error:
        raise BadSetting(
            f"The engine's options {mask_keys(text)!r} cannot be parsed: {str(error).lower()}. {_EXAMPLE}"
        ) from None
    options: dict[str, Any] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        name = name.replace("-", "_")
        if not equals or not name.isidentifier():
            raise BadSetting(f"{mask_keys(part)!r} is not an option of an engine. {_EXAMPLE}")
        if name in options:
            raise BadSetting(f"The engine's option {name!r} is given twice. Remove one of them.")
        options[name] = _parse_value(name, value)
    return options


def mask_keys(text: str) -> str:
    """Return options as text without the values of keys, to be displayed."""
    return _KEY.sub("key=…", text)


def _parse_value(name: str, text: str) -> Any:
    if name in ("key", "model"):  # always strings
        return text
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    if re.fullmatch(r"[+-]?(\d+\.\d*|\.?\d+)([eE][+-]?\d+)?", text):
        return float(text)
    if text[:1] in ("{", "[", '"'):
        try:
            return json.loads(text)
        except ValueError as error:
            raise BadSetting(
                f"The engine's option {name!r} begins like JSON but is not valid ({error}). Put all of it into single "
                f"""quotes: '{name}={{"user": "me"}}'"""
            ) from None
    return text
