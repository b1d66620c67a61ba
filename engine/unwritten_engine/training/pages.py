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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import EngineError
from ..frames import Example, Prompt

HELD_OUT: Final = 0.02
"""The share of titles that is never trained on."""
_PAGE: Final = {"title": str, "kind": str, "source": str, "prompt": dict, "text": str}
_PROMPT: Final = {"ask": str, "system": str, "examples": list, "facts": list, "opening": str}
_EXAMPLE: Final = {"ask": str, "answer": str, "facts": list}


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
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for page in pages:
            file.write(as_line(page))
            count += 1
    return count


def as_line(page: TrainingPage) -> str:
    """One line of a file; what is empty is left out."""
    prompt: dict[str, Any] = {"ask": page.prompt.ask, "system": page.prompt.system}
    prompt["examples"] = [
        _full({"ask": example.ask, "answer": example.answer, "facts": list(example.facts)})
        for example in page.prompt.examples
    ]
    prompt |= {"facts": list(page.prompt.facts), "opening": page.prompt.opening}
    whole = {"title": page.title, "kind": page.kind, "source": page.source}
    return json.dumps(_full(whole) | {"prompt": _full(prompt), "text": page.text}, ensure_ascii=False) + "\n"


def read_pages(path: Path) -> Iterator[TrainingPage]:
    """The pages of a file, in order.

    Raises:
        EngineError: there is no such file, or a line of it is no page; the message names the line.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _page(line, f"{path}, line {number}")
    except OSError as error:
        raise EngineError(
            f"{path} cannot be read ({error.strerror}). Give a file of training pages (.jsonl)."
        ) from None
    except UnicodeDecodeError:
        raise EngineError(f"{path} is not UTF-8 text. Training pages are JSON lines in UTF-8.") from None


def _page(line: str, where: str) -> TrainingPage:
    try:
        given = json.loads(line)
    except (ValueError, RecursionError):
        raise EngineError(f"{where}: this is no JSON. A page is one JSON object on one line.") from None
    page = _checked(given, _PAGE, where, ("prompt", "text"))
    prompt = _checked(page["prompt"], _PROMPT, f"{where}, prompt", ("ask",))
    examples = []
    for at, example in enumerate(prompt.get("examples", ())):
        found = _checked(example, _EXAMPLE, f"{where}, example {at + 1}", ("ask", "answer"))
        examples.append(Example(found["ask"], found["answer"], _facts(found, where)))
    return TrainingPage(
        prompt=Prompt(
            ask=prompt["ask"],
            system=prompt.get("system", ""),
            examples=tuple(examples),
            facts=_facts(prompt, where),
            opening=_opening(prompt, page["text"], where),
        ),
        text=page["text"],
        title=page.get("title", ""),
        kind=page.get("kind", ""),
        source=page.get("source", ""),
    )


def _checked(given: object, kinds: Mapping[str, type], where: str, needed: tuple[str, ...]) -> dict[str, Any]:
    """An object with known keys of the right kinds."""
    if not isinstance(given, dict):
        raise EngineError(f"{where}: there should be an object with {', '.join(kinds)}.")
    for key, value in given.items():
        if key not in kinds:
            raise EngineError(f"{where}: {key!r} is unknown. There are {', '.join(kinds)}.")
        if not isinstance(value, kinds[key]):
            raise EngineError(f"{where}: {key!r} should be a {kinds[key].__name__}, not {type(value).__name__}.")
    for key in needed:
        if not given.get(key):
            raise EngineError(f"{where}: {key!r} is missing or empty.")
    return given


def _facts(given: Mapping[str, Any], where: str) -> tuple[str, ...]:
    facts = given.get("facts", ())
    if not all(isinstance(fact, str) for fact in facts):
        raise EngineError(f"{where}: 'facts' is a list of texts.")
    return tuple(facts)


def _opening(prompt: Mapping[str, Any], text: str, where: str) -> str:
    opening: str = prompt.get("opening", "")
    if not text.startswith(opening):
        raise EngineError(f"{where}: the text should begin with the opening, {opening!r}.")
    return opening


def _full(given: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if value}
