"""What ``unwritten bench small`` has written: subjects that no model of ours was trained on, and the wiki's prompts."""

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
"""Plain things, places and people, one title a line. Training holds out all of them, by their names alone."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a text is to be about.

    Attributes:
        title: its name.
        reference: a text about it that people wrote; "" if there is none.
    """

    title: str
    reference: str = ""


def subjects(pages: Path | None, count: int) -> list[Subject]:
    """So many subjects, spread evenly over those there are.

    Args:
        pages: a file of training pages, whose texts are the references; None takes the built-in list.
        count: how many at most.

    Raises:
        EngineError: the file cannot be read, or has no title.
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
    """The prompt of the opening paragraph of each article in the demo wiki, as the framework sends it to an engine.

    Titles of which the wiki has no article, such as "Mercury (disambiguation)", are left out.
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
