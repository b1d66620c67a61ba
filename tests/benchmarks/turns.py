"""Two engines write the same texts in turn, in one run: a slow minute of the machine slows both."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unwritten.formats.text_ends import finalize_text
from unwritten_engine import Engine, Frame, Prompt, Request, Usage


@dataclass(frozen=True, slots=True)
class Writer:
    """An engine, and how it is asked.

    Attributes:
        name: in the report.
        engine: writes.
        options: sampling options of each request.
    """

    name: str
    engine: Engine
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Written:
    """A text that an engine wrote.

    Attributes:
        title: what it should be about.
        prompt: what the engine was asked.
        text: all of it, with the end that a page would give it.
        first: seconds to the first frame with a word that is the engine's own: a draft, or the beginning.
        settled: seconds to the last frame.
        usage: what it took.
    """

    title: str
    prompt: Prompt
    text: str
    first: float
    settled: float
    usage: Usage

    @property
    def own(self) -> str:
        """What the engine wrote: the text without the opening that it was given."""
        return self.text[len(self.prompt.opening) :]


async def write(writer: Writer, title: str, prompt: Prompt, tokens: int) -> Written:
    """One text of at most so many tokens, however long the engine's canvases are.

    Raises:
        EngineError: it cannot be written.
    """
    request = Request(
        prompt=prompt,
        canvases=-(-tokens // writer.engine.about.canvas_length),
        max_tokens=tokens,
        options=writer.options,
    )
    begun, first, frame = time.perf_counter(), 0.0, Frame("")
    async for frame in writer.engine.generate(request):
        if not first and re.search(r"\w", frame.text[len(prompt.opening) :]):
            first = time.perf_counter() - begun
    settled = time.perf_counter() - begun
    assert frame.usage is not None
    return Written(title, prompt, finalize_text(frame.text, frame.usage.reason), first or settled, settled, frame.usage)


async def in_turn(
    writers: Sequence[Writer], prompts: Mapping[str, Prompt], tokens: int, told: Callable[[str], None]
) -> AsyncIterator[tuple[Written, ...]]:
    """For each title the texts of all writers, in their order; who begins changes from title to title.

    Before, each writes the first of them once, which is not counted: libraries are readied, and what all prompts have
    in common is read.

    Args:
        writers: write one after the other.
        prompts: by title.
        tokens: of each text at most.
        told: called with each title when it is begun.
    """
    for writer in writers:
        await writer.engine.warm(list(prompts.values())[:1])
        for title, prompt in list(prompts.items())[:1]:
            await write(writer, title, prompt, tokens)
    for number, (title, prompt) in enumerate(prompts.items()):
        told(title)
        order = list(writers) if number % 2 == 0 else list(reversed(writers))
        texts = {writer.name: await write(writer, title, prompt, tokens) for writer in order}
        yield tuple(texts[writer.name] for writer in writers)
