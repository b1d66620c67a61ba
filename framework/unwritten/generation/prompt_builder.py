"""The prompt builder: from a page request to the engine's prompts, with facts from earlier pages."""

from __future__ import annotations

from collections.abc import Sequence

from unwritten_engine import About, Prompt

from ..formats.page import Canvas
from ..routing.memory import Memory
from ..routing.prompts import build_prompt
from ..routing.routes import PageRequest
from ..routing.visit import VisitReader


class PromptBuilder:
    """Builds the prompts of pages, for one app.

    Args:
        world: What holds for everything in the app. It leads every prompt.
        memory: Finds what earlier pages say about a subject.
        visits: Reads the link that was clicked.
        about: The engine. A base model gets an example for a schema that has none.
        gists: True if the model is asked for gists of links in Markdown; see ``formats.gists``.
    """

    def __init__(self, world: str, memory: Memory, visits: VisitReader, about: About, *, gists: bool = False) -> None:
        self._world = world
        self._memory = memory
        self._visits = visits
        self._with_examples = derives_examples(about)
        self._gists = gists

    async def recall(self, page_request: PageRequest) -> list[str]:
        """Return what earlier pages say about the subject of a page that is about to be generated."""
        visit = self._visits.read(page_request.request, page_request.key, with_visitor=False)
        return await self._memory.facts(page_request, visit)

    def prompts(self, page_request: PageRequest, facts: Sequence[str] = ()) -> dict[str, Prompt]:
        """Return the engine's prompts of a page, by the name of the canvas.

        Args:
            page_request: The page.
            facts: What earlier pages say about its subject; see ``recall``. Not needed if nothing will be generated.
        """
        return {
            name: build_prompt(
                world=self._world,
                canvas=canvas,
                subject=page_request.title,
                facts=facts,
                with_examples=self._with_examples,
                gists=self.asks_for_gists(canvas),
            )
            for name, canvas in page_request.page.canvases.items()
        }

    def asks_for_gists(self, canvas: Canvas) -> bool:
        """True if the prompt of a canvas asks for gists of links."""
        return self._gists and canvas.resolved_format.name == "markdown"


def derives_examples(about: About) -> bool:
    """True if the model gets derived examples of a schema that has none: a base model whose schemas are grammars."""
    return about.abilities.patterns and not about.abilities.instruct
