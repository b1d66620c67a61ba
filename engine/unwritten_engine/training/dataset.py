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
    return write_lines(path, map(to_json_line, pages))


def to_json_line(page: TrainingPage) -> str:
    """One line of a file; what is empty is left out."""
    whole = drop_empty({"title": page.title, "kind": page.kind, "source": page.source})
    return json.dumps(whole | {"prompt": prompt_object(page.prompt), "text": page.text}, ensure_ascii=False) + "\n"


def read_pages(path: Path) -> Iterator[TrainingPage]:
    """The pages of a file, in order.

    Raises:
        EngineError: there is no such file, or a line of it is no page; the message names the line.
    """
    for given, where in read_json_lines(path, "training pages"):
        page = check_object(given, _PAGE, where, ("prompt", "text"))
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


DEFAULT_MAX_TOKENS: Final = 256
"""The longest text, in tokens, where a line does not say."""
_WANTED: Final = {"title": str, "kind": str, "source": str, "prompt": dict, "shape": dict, "tokens": int}
_PROMPT: Final = {"ask": str, "system": str, "examples": list, "facts": list, "opening": str}
_EXAMPLE: Final = {"ask": str, "answer": str, "facts": list}


@dataclass(frozen=True, slots=True)
class PagePrompt:
    """A prompt for which there is no text yet.

    Attributes:
        prompt: as an engine gets it; without pictures.
        title: what it is about, as a reader would name it.
        kind: of text, such as "article" or "thread".
        source: whose prompt it is.
        shape: the JSON schema that the text must satisfy; None for free text.
        tokens: the longest text.
    """

    prompt: Prompt
    title: str = ""
    kind: str = ""
    source: str = ""
    schema: Mapping[str, Any] | None = None
    max_tokens: int = DEFAULT_MAX_TOKENS


def write_prompts(path: Path, wanted: Iterable[PagePrompt]) -> int:
    """Write a file of prompts.

    Returns:
        How many.
    """
    return write_lines(path, map(_line, wanted))


def _line(page: PagePrompt) -> str:
    whole: dict[str, Any] = {"title": page.title, "kind": page.kind, "source": page.source}
    whole |= {"prompt": prompt_object(page.prompt), "shape": page.schema, "tokens": page.max_tokens}
    return json.dumps(drop_empty(whole), ensure_ascii=False) + "\n"


def read_prompts(path: Path) -> Iterator[PagePrompt]:
    """The prompts of a file, in order.

    Raises:
        EngineError: there is no such file, or a line of it is no prompt; the message names the line.
    """
    for given, where in read_json_lines(path, "prompts"):
        page = check_object(given, _WANTED, where, ("prompt",))
        tokens = page.get("tokens", DEFAULT_MAX_TOKENS)
        if tokens < 1:
            raise EngineError(f"{where}: 'tokens' is {tokens}. Give at least 1.")
        yield PagePrompt(
            prompt=read_prompt(page["prompt"], where),
            title=page.get("title", ""),
            kind=page.get("kind", ""),
            source=page.get("source", ""),
            schema=page.get("shape"),
            max_tokens=tokens,
        )


def write_lines(path: Path, lines: Iterable[str]) -> int:
    """Write a file of lines, each with its end; the same bytes on every system. Returns how many."""
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for line in lines:
            file.write(line)
            count += 1
    return count


def read_json_lines(path: Path, of: str) -> Iterator[tuple[object, str]]:
    """What stands on the lines of a file, each with the place of its line in words.

    Args:
        path: the file.
        of: what it has in its lines, for messages: "prompts" or "training pages".

    Raises:
        EngineError: the file cannot be read, or a line is no JSON.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    where = f"{path}, line {number}"
                    yield _json(line, where), where
    except OSError as error:
        raise EngineError(f"{path} cannot be read ({error.strerror}). Give a file of {of} (.jsonl).") from None
    except UnicodeDecodeError:
        raise EngineError(f"{path} is not UTF-8 text. A file of {of} has JSON lines in UTF-8.") from None


def _json(line: str, where: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise EngineError(f"{where}: this is no JSON. There is one JSON object on each line.") from None


def read_prompt(given: object, where: str) -> Prompt:
    """A prompt out of its JSON object.

    Raises:
        EngineError: it is none; the message begins with the place.
    """
    prompt = check_object(given, _PROMPT, f"{where}, prompt", ("ask",))
    examples = []
    for at, example in enumerate(prompt.get("examples", ())):
        found = check_object(example, _EXAMPLE, f"{where}, example {at + 1}", ("ask", "answer"))
        examples.append(Example(found["ask"], found["answer"], _facts(found, where)))
    return Prompt(
        ask=prompt["ask"],
        system=prompt.get("system", ""),
        examples=tuple(examples),
        facts=_facts(prompt, where),
        opening=prompt.get("opening", ""),
    )


def prompt_object(prompt: Prompt) -> dict[str, Any]:
    """A prompt as a JSON object; what is empty is left out."""
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


def check_object(given: object, kinds: Mapping[str, type], where: str, needed: tuple[str, ...]) -> dict[str, Any]:
    """An object with known keys of the right kinds.

    Raises:
        EngineError: it is none; the message begins with the place.
    """
    if not isinstance(given, dict):
        raise EngineError(f"{where}: there should be an object with {', '.join(kinds)}.")
    for key, value in given.items():
        if key not in kinds:
            raise EngineError(f"{where}: {key!r} is unknown. There are {', '.join(kinds)}.")
        if not isinstance(value, kinds[key]) or isinstance(value, bool):
            raise EngineError(f"{where}: {key!r} should be a {kinds[key].__name__}, not {type(value).__name__}.")
    for key in needed:
        if not given.get(key):
            raise EngineError(f"{where}: {key!r} is missing or empty.")
    return given


def drop_empty(given: Mapping[str, Any]) -> dict[str, Any]:
    """An object without what is empty in it."""
    return {key: value for key, value in given.items() if value}


def _facts(given: Mapping[str, Any], where: str) -> tuple[str, ...]:
    facts = given.get("facts", ())
    if not all(isinstance(fact, str) for fact in facts):
        raise EngineError(f"{where}: 'facts' is a list of texts.")
    return tuple(facts)
