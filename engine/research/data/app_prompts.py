"""Collect the prompts that an app sends for its pages, as a file from which training pages are sampled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

from unwritten import App
from unwritten.testing import Visitor
from unwritten.testing.scripted_engine import placeholder_text
from unwritten_engine.errors import EngineError
from unwritten_engine.frames import Priority, Prompt
from unwritten_engine.scripted import ABOUT, scripted

from .page_prompts import PagePrompt

_SETTINGS: Final[dict[str, Any]] = {"memory_tokens": 0, "prefetch": "off", "signed_links": "off", "markup": "off"}
"""No facts from placeholder pages, and no drawings, which small models cannot do."""


def collect_prompts(app: App, paths: Iterable[str], *, base: bool = False) -> Iterator[PagePrompt]:
    """Yield the prompts of some pages without duplicates, in the order in which they are sent.

    The pages are filled with placeholders, in a temporary database.

    Args:
        app: the app.
        paths: paths of the pages.
        base: collect the prompts for a base model instead of an instruct model.

    Raises:
        EngineError: a page does not exist.
    """
    abilities = replace(ABOUT.abilities, instruct=not base, markup=False, images=False)
    engine = scripted(placeholder_text, about=replace(ABOUT, abilities=abilities))
    seen: set[Prompt] = set()
    with Visitor(app, engine, **_SETTINGS) as visitor:
        for path in paths:
            engine.requests.clear()
            page = visitor.visit(path)
            if page.status >= 400:
                raise EngineError(f"{path} answers {page.status}: {page.text[:200]}")
            for request in engine.requests:
                if request.priority is Priority.CLICK and request.draft is None and request.prompt not in seen:
                    seen.add(request.prompt)
                    yield PagePrompt(
                        prompt=request.prompt,
                        title=page.title.removesuffix(f" · {app.name}"),
                        kind=path.split("/")[1],
                        source=app.name,
                        schema=request.schema,
                        max_tokens=request.budget(ABOUT.canvas_length),
                    )


def expand_paths(paths: Iterable[str], names: Iterable[str] | None) -> list[str]:
    """Insert each name into each path with ``{}``, name by name, without duplicates."""
    if names is None:
        return list(dict.fromkeys(paths))
    quoted = [quote(name.strip().replace(" ", "_"), safe="") for name in names if name.strip()]
    paths = list(paths)
    return list(dict.fromkeys(path.replace("{}", name) for name in quoted for path in paths))
