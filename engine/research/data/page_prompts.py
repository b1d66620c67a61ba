"""Files of prompts for which pages are sampled: one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from unwritten_engine.errors import EngineError
from unwritten_engine.frames import Prompt
from unwritten_engine.training.dataset import (
    check_object,
    drop_empty,
    prompt_object,
    read_json_lines,
    read_prompt,
    write_lines,
)

DEFAULT_MAX_TOKENS: Final = 256
"""Maximum length of a text if a line has none."""
_WANTED: Final = {"title": str, "kind": str, "source": str, "prompt": dict, "schema": dict, "max_tokens": int}


@dataclass(frozen=True, slots=True)
class PagePrompt:
    """A prompt for which a page is sampled.

    Attributes:
        prompt: for the engine; without images.
        title: subject of the page.
        kind: kind of text, such as "article" or "thread".
        source: origin of the prompt.
        schema: JSON schema of the text; None for free text.
        max_tokens: maximum length of the text.
    """

    prompt: Prompt
    title: str = ""
    kind: str = ""
    source: str = ""
    schema: Mapping[str, Any] | None = None
    max_tokens: int = DEFAULT_MAX_TOKENS


def write_prompts(path: Path, wanted: Iterable[PagePrompt]) -> int:
    """Write a file of prompts. Return their number."""
    return write_lines(path, map(_line, wanted))


def _line(page: PagePrompt) -> str:
    whole: dict[str, Any] = {"title": page.title, "kind": page.kind, "source": page.source}
    whole |= {"prompt": prompt_object(page.prompt), "schema": page.schema, "max_tokens": page.max_tokens}
    return json.dumps(drop_empty(whole), ensure_ascii=False) + "\n"


def read_prompts(path: Path) -> Iterator[PagePrompt]:
    """Yield the prompts of a file.

    Raises:
        EngineError: the file does not exist, or a line is invalid. The message names the line.
    """
    for given, where in read_json_lines(path, "prompts"):
        page = check_object(given, _WANTED, where, ("prompt",))
        max_tokens = page.get("max_tokens", DEFAULT_MAX_TOKENS)
        if max_tokens < 1:
            raise EngineError(f"{where}: 'max_tokens' is {max_tokens}. Give at least 1.")
        yield PagePrompt(
            prompt=read_prompt(page["prompt"], where),
            title=page.get("title", ""),
            kind=page.get("kind", ""),
            source=page.get("source", ""),
            schema=page.get("schema"),
            max_tokens=max_tokens,
        )
