"""Training pages: prompts with the texts that they should get.

A file of training pages has one JSON object per line::

    {"title": "Lighthouse", "kind": "article", "source": "wikipedia",
     "prompt": {"ask": "An encyclopedia article about Lighthouse.", "system": "", "examples": [], "facts": [],
                "opening": "**Lighthouse**"},
     "text": "**Lighthouse** towers stand on [[cliff]]s …"}

Only ``prompt.ask`` and ``text`` are required. A title alone decides whether a page is held out of training, so that all
files hold out the same titles.
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
"""Share of titles that is never used for training."""
_PAGE: Final = {"title": str, "kind": str, "source": str, "prompt": dict, "text": str}


@dataclass(frozen=True, slots=True)
class TrainingPage:
    """A prompt with its text.

    Attributes:
        prompt: as for an engine, without images.
        text: the expected text, which starts with the prompt's opening.
        title: subject of the page.
        kind: kind of text, such as "article" or "thread".
        source: origin of the page, as in the data card.
    """

    prompt: Prompt
    text: str
    title: str = ""
    kind: str = ""
    source: str = ""

    @property
    def held_out(self) -> bool:
        """True if the page is reserved for evaluation."""
        return is_held_out(self.title)


def is_held_out(title: str) -> bool:
    """True if pages with this title are never used for training. Depends only on the title's words."""
    words = " ".join(re.findall(r"\w+", title.casefold()))
    if not words:
        return False
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], "big") < HELD_OUT * 2**32


def write_pages(path: Path, pages: Iterable[TrainingPage]) -> int:
    """Write a file of training pages. Return their number."""
    return write_lines(path, map(to_json_line, pages))


def to_json_line(page: TrainingPage) -> str:
    """Return one line of a file, without empty values."""
    fields = drop_empty({"title": page.title, "kind": page.kind, "source": page.source})
    return json.dumps(fields | {"prompt": prompt_object(page.prompt), "text": page.text}, ensure_ascii=False) + "\n"


def read_pages(path: Path) -> Iterator[TrainingPage]:
    """Yield the pages of a file.

    Raises:
        EngineError: the file does not exist, or a line is invalid. The message names the line.
    """
    for record, location in read_json_lines(path, "training pages"):
        page = check_object(record, _PAGE, location, ("prompt", "text"))
        prompt = read_prompt(page["prompt"], location)
        if not page["text"].startswith(prompt.opening):
            raise EngineError(f"{location}: the text should begin with the opening, {prompt.opening!r}.")
        yield TrainingPage(
            prompt=prompt,
            text=page["text"],
            title=page.get("title", ""),
            kind=page.get("kind", ""),
            source=page.get("source", ""),
        )


_PROMPT: Final = {"ask": str, "system": str, "examples": list, "facts": list, "opening": str}
_EXAMPLE: Final = {"ask": str, "answer": str, "facts": list}


def write_lines(path: Path, lines: Iterable[str]) -> int:
    """Write lines with their line ends, with the same bytes on every system. Return their number."""
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for line in lines:
            file.write(line)
            count += 1
    return count


def read_json_lines(path: Path, of: str) -> Iterator[tuple[object, str]]:
    """Yield the parsed lines of a file with their location in words.

    Args:
        path: the file.
        of: the content of its lines, for messages: "prompts" or "training pages".

    Raises:
        EngineError: the file cannot be read, or a line is not JSON.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    location = f"{path}, line {number}"
                    yield _json(line, location), location
    except OSError as error:
        raise EngineError(f"{path} cannot be read ({error.strerror}). Give a file of {of} (.jsonl).") from None
    except UnicodeDecodeError:
        raise EngineError(f"{path} is not UTF-8 text. A file of {of} has JSON lines in UTF-8.") from None


def _json(line: str, location: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise EngineError(f"{location}: not valid JSON. Each line must be one JSON object.") from None


def read_prompt(value: object, location: str) -> Prompt:
    """Return a prompt from its JSON object.

    Raises:
        EngineError: it is invalid. The message starts with the location.
    """
    prompt = check_object(value, _PROMPT, f"{location}, prompt", ("ask",))
    examples = []
    for at, example in enumerate(prompt.get("examples", ())):
        fields = check_object(example, _EXAMPLE, f"{location}, example {at + 1}", ("ask", "answer"))
        examples.append(Example(fields["ask"], fields["answer"], _facts(fields, location)))
    return Prompt(
        ask=prompt["ask"],
        system=prompt.get("system", ""),
        examples=tuple(examples),
        facts=_facts(prompt, location),
        opening=prompt.get("opening", ""),
    )


def prompt_object(prompt: Prompt) -> dict[str, Any]:
    """Return a prompt as a JSON object without empty values."""
    examples = [
        drop_empty({"ask": example.ask, "answer": example.answer, "facts": list(example.facts)})
        for example in prompt.examples
    ]
    return drop_empty(
        {
            "ask": prompt.ask,
            "system": prompt.system,
            "examples": examples,
            "facts": list(prompt.facts),
            "opening": prompt.opening,
        }
    )


def check_object(fields: object, kinds: Mapping[str, type], location: str, needed: tuple[str, ...]) -> dict[str, Any]:
    """Check that a value is an object with known keys of the right types.

    Raises:
        EngineError: it is not. The message starts with the location.
    """
    if not isinstance(fields, dict):
        raise EngineError(f"{location}: expected an object with {', '.join(kinds)}.")
    for key, value in fields.items():
        if key not in kinds:
            raise EngineError(f"{location}: {key!r} is unknown. Known: {', '.join(kinds)}.")
        if not isinstance(value, kinds[key]) or isinstance(value, bool):
            raise EngineError(f"{location}: {key!r} should be a {kinds[key].__name__}, not {type(value).__name__}.")
    for key in needed:
        if not fields.get(key):
            raise EngineError(f"{location}: {key!r} is missing or empty.")
    return fields


def drop_empty(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object without empty values."""
    return {key: value for key, value in values.items() if value}


def _facts(fields: Mapping[str, Any], location: str) -> tuple[str, ...]:
    facts = fields.get("facts", ())
    if not all(isinstance(fact, str) for fact in facts):
        raise EngineError(f"{location}: 'facts' must be a list of strings.")
    return tuple(facts)
