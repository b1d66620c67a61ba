"""Subjects for ``small``, which no model of this repository was trained on, and the wiki's prompts for them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.quality import articles, spread

from unwritten.cli.loading import load_app
from unwritten.core.assets import asset_dir
from unwritten.routing.prompts import build_prompt
from unwritten_engine import Prompt, scripted
from unwritten_engine.training.dataset import read_pages

BUILT_IN: Final = Path(__file__).with_name("subjects.txt")
"""Common things, places and people, one title per line. Training holds all of them out, by their titles."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The subject of a text.

    Attributes:
        title: Its name.
        reference: A text about it that people wrote, or "".
    """

    title: str
    reference: str = ""


def subjects(pages: Path | None, count: int) -> list[Subject]:
    """Return subjects, evenly spread over those that exist.

    Args:
        pages: A file of training pages, whose texts are the references. None: the built-in list.
        count: The largest number.

    Raises:
        EngineError: If the file cannot be read.
    """
    if pages is None:
        found = [Subject(title) for title in BUILT_IN.read_text(encoding="utf-8").splitlines()]
    else:
        texts: dict[str, str] = {}
        for page in read_pages(pages):
            if page.title:
                texts.setdefault(page.title, page.text)
        found = [Subject(title, text) for title, text in texts.items()]
    return spread(found, count)


async def prompts(titles: Sequence[str]) -> dict[str, Prompt]:
    """Return the prompt for the opening paragraph of each article of the demo wiki, as the framework sends it.

    Titles without an article, such as "Mercury (disambiguation)", are left out.
    """
    app = load_app(str(asset_dir("demos") / "wiki"))
    with tempfile.TemporaryDirectory() as folder:
        app.override(scripted(""), {"database": f"{folder}/small.db"})
        app.prepare()
        try:
            return {
                title: build_prompt(world=app.world, canvas=lead, subject=title)
                for title, page in (await articles(app, titles)).items()
                if (lead := page.canvases.get("lead"))
            }
        finally:
            await app.close()
