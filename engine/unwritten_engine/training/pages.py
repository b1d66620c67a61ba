"""What a model is trained on: prompts as the engine gets them, with the texts that they should have got.

A file of training pages has one JSON object per line::

    {"title": "Lighthouse", "kind": "article", "source": "wikipedia",
     "prompt": {"ask": "An encyclopedia article about Lighthouse.", "system": "", "examples": [], "facts": [],
                "opening": "**Lighthouse**"},
     "text": "**Lighthouse** towers stand on [[cliff]]s …"}

All but ``prompt.ask`` and ``text`` may be left out. Whether a title is held out of training is a matter of its name
alone, so that every file, of whichever source, holds out the same ones.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..errors import EngineError
from ..frames import Prompt
from .prompts import checked, json_lines, prompt_object, read_prompt, without_empty, write_lines

HELD_OUT: Final = 0.02
"""The share of titles that is never trained on."""
_PAGE: Final = {"title": str, "kind": str, "source": str, "prompt": dict, "text": str}


@dataclass(frozen=True, slots=True)
class TrainingPage:
    """A prompt, and the text that it should get.

    Attributes:
        prompt: as an engine gets it; without pictures.
        text: what should come; it begins with the prompt's opening.
        title: what it is about, as a reader would name it.
        kind: of text, such as "article" or "thread".
        source: where it comes from, as the data card names it.
    """

    prompt: Prompt
    text: str
    title: str = ""
    kind: str = ""
    source: str = ""

    @property
    def held_out(self) -> bool:
        """Whether it is kept for measuring."""
        return is_held_out(self.title)


def is_held_out(title: str) -> bool:
    """Whether pages with this title are never trained on: by its words, however they are written."""
    words = " ".join(re.findall(r"\w+", title.casefold()))
    if not words:
        return False
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], "big") < HELD_OUT * 2**32


def write_pages(path: Path, pages: Iterable[TrainingPage]) -> int:
    """Write a file of training pages.

    Returns:
        How many.
    """
    return write_lines(path, map(as_line, pages))


def as_line(page: TrainingPage) -> str:
    """One line of a file; what is empty is left out."""
    whole = without_empty({"title": page.title, "kind": page.kind, "source": page.source})
    return json.dumps(whole | {"prompt": prompt_object(page.prompt), "text": page.text}, ensure_ascii=False) + "\n"


def read_pages(path: Path) -> Iterator[TrainingPage]:
    """The pages of a file, in order.

    Raises:
        EngineError: there is no such file, or a line of it is no page; the message names the line.
    """
    for given, where in json_lines(path, "training pages"):
        page = checked(given, _PAGE, where, ("prompt", "text"))
        prompt = read_prompt(page["prompt"], where)
        if not page["text"].startswith(prompt.opening):
            raise EngineError(f"{where}: the text should begin with the opening, {prompt.opening!r}.")
        yield TrainingPage(
            prompt=prompt,
            text=page["text"],
            title=page.get("title", ""),
            kind=page.get("kind", ""),
            source=page.get("source", ""),
        )
