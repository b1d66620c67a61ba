"""A canvas: one region of a page that the model writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from types import MappingProxyType
from typing import Any

from unwritten_engine import Example

from .errors import BadPage
from .formats import Format, check_schema, get_format


@dataclass(frozen=True)
class Canvas:
    """One region of a page: a prompt, a format, and a length.

    ``Canvas("The opening paragraph of the article on lighthouses.")`` is enough.

    Args:
        prompt: what to write, in one short paragraph. The same words serve every model.
        format: how the text is read and drawn: "markdown" (the default), "text", "html", "svg", "app", with a
            ``shape`` "typed", or a ``Format`` of your own.
        canvases: the longest length, in canvases of the engine (256 tokens each on most).
        tokens: a shorter length, in tokens.
        shape: a pydantic model or a dataclass; the text is held to it, and templates see its fields.
        fact: the value of the shape is a fact of the world, which later pages are told of.
        examples: asks with good answers. A base model imitates them; an instruct model is shown them.
        opening: text that the answer begins with.
        stop: strings that end the text.
        seed: makes the text repeatable on the same engine; None draws one.
        options: sampling options of the engine, by name.

    Raises:
        BadPage: for a prompt without words, an unknown format, something that is no shape, or a length below 1.
    """

    prompt: str
    format: str | Format = ""
    _: KW_ONLY
    canvases: int = 1
    tokens: int | None = None
    schema: type[Any] | None = None
    fact: bool = False
    examples: Sequence[Example] = ()
    opening: str = ""
    stop: Sequence[str] = ()
    seed: int | None = None
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, str) or not self.prompt.strip():
            raise BadPage(f"A canvas needs a prompt in words, but this one has {self.prompt!r}.")
        if not self.format:
            object.__setattr__(self, "format", "typed" if self.schema else "markdown")
        name = get_format(self.format).name
        if (self.schema is not None) != (name == "typed"):
            raise BadPage(
                f"The canvas {self.prompt!r} has the format {name!r} and the shape {self.schema!r}: "
                "a shape goes with the format 'typed', and every other format goes without one."
            )
        if self.fact and self.schema is None:
            raise BadPage(
                f"The canvas {self.prompt!r} is a fact, but only the value of a shape can be one: give it one."
            )
        if self.schema is not None:
            check_schema(self.schema)
        if self.canvases < 1 or (self.tokens is not None and self.tokens < 1):
            raise BadPage(f"The canvas {self.prompt!r} has no room: its length must be at least 1.")
        for name in ("examples", "stop"):
            value = getattr(self, name)
            if isinstance(value, str):
                raise BadPage(f"Canvas({name}=…) takes a list, but got the string {value!r}.")
            object.__setattr__(self, name, tuple(value))
