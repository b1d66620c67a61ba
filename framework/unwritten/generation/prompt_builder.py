"""The prompt builder: from a page request to the engine's prompts, with facts from earlier pages."""

from __future__ import annotations

from unwritten_engine import Prompt

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
    """

    def __init__(self, world: str, memory: Memory, visits: VisitReader) -> None:
        self._world = world
        self._memory = memory
        self._visits = visits

    def prompts(self, page_request: PageRequest, *, recall: bool = True) -> dict[str, Prompt]:
        """Return the engine's prompts of a page, by the name of the canvas.

        Args:
            page_request: The page.
            recall: False leaves out the facts from earlier pages, if nothing will be generated.
        """
        facts: list[str] = []
        if recall:
            visit = self._visits.read(page_request.request, page_request.key, with_visitor=False)
            facts = self._memory.facts(page_request, visit)
        prompts: dict[str, Prompt] = {}
        for name, canvas in page_request.page.canvases.items():
            prompts[name] = build_prompt(world=self._world, canvas=canvas, subject=page_request.title, facts=facts)
        return prompts
