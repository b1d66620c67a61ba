"""Lessons: what a model can learn from a world, the prompts as they were sent with the texts as they stand now.

Of every page the current version counts, for the others were replaced by somebody. Nothing is read but what canvases
hold: no tables of state, no forms. A text that was changed, by hand or as somebody asked, stands as the answer to the
prompt that asked for it at first, so that the next page comes out like that at once.

Values of shapes are left out. An engine writes them into a form that it holds itself, with brackets and names in their
places and room around every value; as a plain text they would teach a layout that is never asked for.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from unwritten_engine import Example, Prompt
from unwritten_engine.training.dataset import TrainingPage

from ..core.errors import StoreError
from ..formats.registry import FORMATS
from ..generation.revisions import asks_for_change
from ..storage.database import Database
from ..storage.world import WorldStore

SHAPED: Final = "values of shapes, whose form the engine holds itself"


BROKEN: Final = "texts that broke off or are empty"


PICTURED: Final = "texts that were asked for with a picture"


UNKNOWN: Final = "texts whose own prompt is not known"


_CURRENT = """
    SELECT p.id, v.title, c.name, c.format, c.prompt, c.text, c.reason, c.canvases, c.schema
    FROM pages p JOIN versions v ON v.page = p.id AND v.number = p.version JOIN canvases c ON c.version = v.id
    ORDER BY p.id, c.position
"""


_EARLIER = """
    SELECT c.prompt FROM canvases c JOIN versions v ON v.id = c.version
    WHERE v.page = ? AND c.name = ? AND c.format = ? ORDER BY v.number DESC
"""


@dataclass(frozen=True, slots=True)
class TrainingExamples:
    """What can be learned from a world.

    Attributes:
        source: what the world is called.
        pages: one for each text, in the order in which their pages were first written.
        by_hand: how many of the texts a person wrote or changed by hand.
        left_out: how many texts are no lesson, by the reason in words.
    """

    source: str
    pages: tuple[TrainingPage, ...]
    by_hand: int
    left_out: Mapping[str, int]


def training_examples(path: Path) -> TrainingExamples:
    """Read a world's file, also while it is used.

    Raises:
        StoreError: it is not there, cannot be read, or is no world.
    """
    if not path.is_file():
        raise StoreError(f"Nothing is written yet: there is no database {path}.")
    with contextlib.closing(Database(path)) as database:
        source = str(WorldStore(database).get("name", path.stem))
        pages: list[TrainingPage] = []
        by_hand = 0
        left_out: Counter[str] = Counter()
        for page, title, name, format, prompt, text, reason, canvases, shape in database.read(_CURRENT):
            why = _no_lesson(format, text, reason, shape)
            asked = None if why else _first_prompt(database, page, name, format, prompt)
            if asked is None:
                left_out[why or UNKNOWN] += 1
            elif asked.images:
                left_out[PICTURED] += 1
            else:
                pages.append(_lesson(asked, text, title=title, kind=format, source=source))
                by_hand += not canvases  # no engine has written it
    return TrainingExamples(source, tuple(pages), by_hand, left_out)


def read_prompt(text: str) -> Prompt:
    """A prompt as it was kept, see ``writing.prompt_text``; of its images only the hashes are known.

    Raises:
        ValueError: it is none.
    """
    document = json.loads(text)
    try:
        return Prompt(
            ask=document["ask"],
            system=document["system"],
            examples=tuple(
                Example(example["ask"], example["answer"], tuple(example.get("facts", ())))
                for example in document["examples"]
            ),
            facts=tuple(document["facts"]),
            opening=document["opening"],
            images=tuple(bytes.fromhex(digest) for digest in document["images"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"This is no prompt: {error}.") from error


def _no_lesson(format: str, text: str, reason: str, shape: str) -> str:
    """Why nothing can be learned from a text, in words; "" if something can."""
    if shape:
        return SHAPED
    known = FORMATS.get(format)
    # Prose whose room ran out was cut back to its last whole sentence; anything else stops in the middle.
    if not text.strip() or (reason == "length" and not (known and known.prose)):
        return BROKEN
    return ""


def _first_prompt(database: Database, page: int, name: str, format: str, kept: str) -> Prompt | None:
    """The prompt that asked for a text, and not for a change of it; None if it is not known."""
    for text in (kept, *(row[0] for row in database.read(_EARLIER, (page, name, format)))):
        try:
            prompt = read_prompt(text)
        except ValueError:
            continue
        if not asks_for_change(prompt):
            return prompt
    return None


def _lesson(prompt: Prompt, text: str, *, title: str, kind: str, source: str) -> TrainingPage:
    # Who edits a text may begin it otherwise. Then it has no opening, of which an engine's prompt says nothing anyway.
    opening = prompt.opening if text.startswith(prompt.opening) else ""
    asked = Prompt(prompt.ask, prompt.system, prompt.examples, prompt.facts, opening)
    return TrainingPage(asked, text, title=title, kind=kind, source=source)
