"""Convert a world into training examples: the prompts that were sent, with the current texts.

Only the canvases of the current version of each page are read, no tables and no forms. A text that was changed, by hand
or by an instruction, is paired with the first prompt for it, so that the model learns to write it at once.

Values of schemas are left out. The engine writes them into a skeleton with brackets and names in fixed places; as plain
texts they would teach another layout.
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

from ..formats.gists import example_without_gists, without_request
from ..formats.registry import FORMATS
from ..formats.text_ends import CUT_REASONS
from ..generation.revisions import is_revision_prompt
from ..storage.database import Database
from ..storage.location import Location
from ..storage.open import check_exists, open_database
from ..storage.world import WorldStore

HAS_SCHEMA: Final = "values of schemas, whose layout the engine sets"
INCOMPLETE: Final = "texts that are incomplete or empty"
HAS_IMAGE: Final = "texts whose prompt has an image"
UNKNOWN_PROMPT: Final = "texts whose first prompt is not known"

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
    """The training examples of a world.

    Attributes:
        source: The world's name.
        pages: One per text, in the order in which their pages were first written.
        by_hand: The number of texts that were edited by hand.
        left_out: The number of texts that are not used as examples, by reason.
    """

    source: str
    pages: tuple[TrainingPage, ...]
    by_hand: int
    left_out: Mapping[str, int]


def training_examples(location: Location) -> TrainingExamples:
    """Read a world's database. It may be in use.

    Raises:
        StoreError: If it does not exist, cannot be read, or is not a world.
    """
    check_exists(location)
    with contextlib.closing(open_database(location)) as database:
        source = str(WorldStore(database).get("name", location.stem if isinstance(location, Path) else "a world"))
        pages: list[TrainingPage] = []
        by_hand = 0
        left_out: Counter[str] = Counter()
        for page, title, name, format, stored_prompt, text, reason, canvases, schema in database.read(_CURRENT):
            problem = _problem(format, text, reason, schema)
            prompt = None if problem else _first_prompt(database, page, name, format, stored_prompt)
            if prompt is None:
                left_out[problem or UNKNOWN_PROMPT] += 1
            elif prompt.images:
                left_out[HAS_IMAGE] += 1
            else:
                pages.append(_example(prompt, text, title=title, kind=format, source=source))
                by_hand += not canvases  # the engine wrote no canvas of it
    return TrainingExamples(source, tuple(pages), by_hand, left_out)


def read_prompt(text: str) -> Prompt:
    """Parse a stored prompt, see ``region_job.prompt_text``. Only the hashes of its images are known.

    Raises:
        ValueError: If it is not a prompt.
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
        raise ValueError(f"This is not a prompt: {error}.") from error


def _problem(format: str, text: str, reason: str, schema: str) -> str:
    """Return why a text cannot be an example, or "" if it can."""
    if schema:
        return HAS_SCHEMA
    known = FORMATS.get(format)
    # Prose that reached its token limit was cut back to a sentence. Other formats end in the middle.
    if not text.strip() or (reason in CUT_REASONS and not (known and known.prose)):
        return INCOMPLETE
    return ""


def _first_prompt(database: Database, page: int, name: str, format: str, stored: str) -> Prompt | None:
    """Return the prompt for the original text, not for a change of it, or None if it is not known."""
    for text in (stored, *(row[0] for row in database.read(_EARLIER, (page, name, format)))):
        try:
            prompt = read_prompt(text)
        except ValueError:
            continue
        if not is_revision_prompt(prompt):
            return prompt
    return None


def _example(prompt: Prompt, text: str, *, title: str, kind: str, source: str) -> TrainingPage:
    # An edited text may begin without the opening. Then the example has none.
    opening = prompt.opening if text.startswith(prompt.opening) else ""
    # Nor has a stored text the gists that its model was asked for.
    examples = tuple(map(example_without_gists, prompt.examples))
    example_prompt = Prompt(prompt.ask, without_request(prompt.system), examples, prompt.facts, opening)
    return TrainingPage(example_prompt, text, title=title, kind=kind, source=source)
