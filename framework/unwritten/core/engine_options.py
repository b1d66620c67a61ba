"""The options of the engine, from settings: ``threads=2 quantize=nf4`` as a dict that ``open_engine`` takes."""

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


_EXAMPLE = "Write name=value, with a space between two: --engine-options 'threads=2 quantize=nf4'"


_SECRET = re.compile(r"""\bkey=('[^']*'|"[^"]*"|\S+)""")


def engine_options(settings: Settings) -> dict[str, Any]:
    """The options that the settings ``model`` and ``engine_options`` ask for; none if they are empty.

    Raises:
        BadSetting: a text that cannot be read, or a model that is named twice.
    """
    options = read_options(str(settings.engine_options))
    if settings.model:
        if "model" in options:
            raise BadSetting(
                f"The model is named twice, as {settings.model!r} and in the engine's options as "
                f"{options['model']!r}. Keep --model, and leave it out of --engine-options."
            )
        options["model"] = str(settings.model)
    return options


def painter_options(settings: Settings) -> dict[str, Any]:
    """The options that the setting ``painter_options`` asks for.

    Raises:
        BadSetting: a text that cannot be read, or options without a painter.
    """
    options = read_options(str(settings.painter_options))
    if options and not settings.painter:
        raise BadSetting("There are options for a painter and no painter. Name one too, such as --painter OWNER/REPO.")
    return options


def read_options(text: str) -> dict[str, Any]:
    """Options as they are typed: ``name=value``, in quotes where there are spaces.

    A value is a number, yes or no, none, JSON if it begins with a quote or a bracket, and else a text.

    Raises:
        BadSetting: a text that is none of this; the message says what to type.
    """
    try:
        parts = shlex.split(text)
    except ValueError as error:
        raise BadSetting(f"The engine's options {hidden(text)!r} have a quote too many ({error}). {_EXAMPLE}") from None
    options: dict[str, Any] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        name = name.replace("-", "_")
        if not equals or not name.isidentifier():
            raise BadSetting(f"{hidden(part)!r} is no option of an engine. {_EXAMPLE}")
        if name in options:
            raise BadSetting(f"The engine's option {name!r} is given twice. Leave one of them out.")
        options[name] = _value(name, value)
    return options


def hidden(text: str) -> str:
    """The same without the keys that are in it, for people's eyes."""
    return _SECRET.sub("key=…", text)


def _value(name: str, text: str) -> Any:
    if name in ("key", "model"):  # these are texts, however they look
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
                f"The engine's option {name!r} begins like JSON and is none ({error}). Put the whole of it in single "
                f"""quotes: '{name}={{"user": "me"}}'"""
            ) from None
    return text
