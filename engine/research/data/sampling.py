"""Pages written in bulk by a model: for a file of prompts, several at once, and going on where it was stopped.

What is good is appended to a file of training pages, what is not to a second one beside it, each with the reason. Both
say what is done already. A text that was cut off at its budget is cut back to its last sentence.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO

from unwritten_engine.engine import Engine
from unwritten_engine.errors import EngineClosed, EngineError, GenerationFailed, RequestRefused
from unwritten_engine.frames import Example, Frame, Prompt, Request
from unwritten_engine.training.dataset import TrainingPage, is_held_out, read_json_lines, to_json_line

from .dictd import ends
from .entries import sentences
from .filters import fault, record_fault
from .page_prompts import PagePrompt

_CANVAS: Final = 256
_BLOCK: Final = 32
"""Prompts with the same beginning that are worked on one after the other."""
_AGAIN: Final = 0.3
"""The share of a text that must be left when it is cut back to its last sentence."""


@dataclass(slots=True)
class SampleReport:
    """What came of it.

    Attributes:
        pages: good ones, that were kept.
        dropped: the others, by reason.
        before: how many prompts had been done before.
        held_out: how many have a title that is never trained on.
        left: how many are not done yet.
        seconds: how long it took.
        tokens: that were written.
    """

    pages: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    before: int = 0
    held_out: int = 0
    left: int = 0
    seconds: float = 0.0
    tokens: int = 0


async def sample(
    engine: Engine,
    wanted: Iterable[PagePrompt],
    out: Path,
    *,
    seconds: float | None = None,
    seed: int | None = None,
    told: Callable[[SampleReport], None] = lambda sampled: None,
) -> SampleReport:
    """Write the pages that are not written yet.

    Args:
        engine: who writes; as many at once as it says that it can.
        wanted: the prompts.
        out: the file of training pages; pages are appended. What is dropped goes into ``dropped_file(out)``.
        seconds: how long to go on; a page that has begun is finished. None goes on to the end.
        seed: makes the pages repeatable on the same engine, each with a seed of its own; slower, since an engine then
            reads each prompt from its first token. None leaves it to the engine.
        told: called after each page.

    Raises:
        EngineError: a file cannot be read or written, or the engine was closed.
    """
    found = SampleReport()
    done = _done(out) | _done(dropped_file(out))
    waiting: list[PagePrompt] = []
    for page in wanted:
        if is_held_out(page.title):
            found.held_out += 1
        elif _key(page.title, page.prompt) in done:
            found.before += 1
        else:
            waiting.append(page)
    began = time.monotonic()
    queue = iter(in_blocks(waiting))
    found.left = len(waiting)

    async def work(good: TextIO, bad: TextIO) -> None:
        for page in queue:  # each takes the next one that nobody has begun
            text, reason, tokens = await _written(engine, page, seed)
            if reason:
                found.dropped[reason] += 1
                bad.write(_dropped_line(page, reason, text))
            else:
                found.pages += 1
                good.write(to_json_line(_page(page, text, engine.about.model)))
            (bad if reason else good).flush()  # whoever pulls the plug loses what was under way, and no more
            found.tokens += tokens
            found.left -= 1
            found.seconds = time.monotonic() - began
            told(found)
            if seconds is not None and found.seconds >= seconds:
                return

    try:
        with out.open("a", encoding="utf-8") as good, dropped_file(out).open("a", encoding="utf-8") as bad:
            async with asyncio.TaskGroup() as group:
                for _ in range(max(1, engine.about.parallel)):
                    group.create_task(work(good, bad))
    except OSError as error:
        raise EngineError(f"{out} cannot be written ({error.strerror}). Give a file in a folder that exists.") from None
    except ExceptionGroup as group_of:
        raise group_of.exceptions[0] from None
    return found


def in_blocks(wanted: Iterable[PagePrompt]) -> list[PagePrompt]:
    """The same prompts in an order in which an engine reads their common beginning once for many.

    Prompts with the same system part and examples come in blocks, and all sorts of blocks in turn, so that a run that
    is stopped early has some of each.
    """
    sorts: dict[tuple[str, tuple[Example, ...]], list[PagePrompt]] = {}
    for page in wanted:
        sorts.setdefault((page.prompt.system, page.prompt.examples), []).append(page)
    rounds = range(0, max(map(len, sorts.values()), default=0), _BLOCK)
    return [page for start in rounds for pages in sorts.values() for page in pages[start : start + _BLOCK]]


def dropped_file(out: Path) -> Path:
    """Where the pages go that are not good: ``sampled.dropped.jsonl`` beside ``sampled.jsonl``."""
    return out.with_suffix(".dropped.jsonl")


async def _written(engine: Engine, page: PagePrompt, seed: int | None) -> tuple[str, str, int]:
    """A page's text, why it is not good ("" if it is), and its tokens."""
    request = Request(
        page.prompt,
        canvases=-(-page.max_tokens // _CANVAS),
        max_tokens=page.max_tokens,
        schema=page.schema,
        seed=None if seed is None else _number(f"{seed}/{_key(page.title, page.prompt)}"),
    )
    last: Frame | None = None
    try:
        async with contextlib.aclosing(engine.generate(request)) as frames:
            async for frame in frames:
                last = frame
    except EngineClosed:
        raise
    except (GenerationFailed, RequestRefused) as error:
        return str(error), "refused or failed", 0
    if last is None or last.usage is None:
        return "", "refused or failed", 0
    text = last.text.strip()
    if not text.startswith(page.prompt.opening):
        return text, "another opening", last.usage.tokens
    if page.schema is not None:
        return text, record_fault(text, title=page.title, care=True), last.usage.tokens
    text = whole(text) if last.usage.reason == "length" else text
    if len(text) <= len(page.prompt.opening) + 1:
        return text, "too short", last.usage.tokens
    return text, fault(text, care=True), last.usage.tokens


def whole(text: str) -> str:
    """A text that was cut off, up to its last sentence, if enough of it is left; else the text as it is."""
    paragraphs = text.split("\n")
    while paragraphs and not ends(paragraphs[-1]):
        last = paragraphs.pop()
        kept = [sentence for sentence in sentences(last) if ends(sentence)]
        if kept:
            start = last.rfind(kept[-1]) + len(kept[-1])
            paragraphs.append(last[:start])
    cut = "\n".join(paragraphs).rstrip()
    return cut if len(cut) >= _AGAIN * len(text) else text


def _page(page: PagePrompt, text: str, model: str) -> TrainingPage:
    return TrainingPage(page.prompt, text, page.title, page.kind, model)


def _dropped_line(page: PagePrompt, reason: str, text: str) -> str:
    row = {"title": page.title, "key": _key(page.title, page.prompt), "reason": reason, "text": text}
    return json.dumps(row, ensure_ascii=False) + "\n"


def _done(path: Path) -> set[str]:
    """What a file says is done. A last line that was cut off is taken away: its page is written again."""
    if not path.exists():
        return set()
    _mend(path)
    keys = set()
    for row, where in read_json_lines(path, "sampled pages"):
        if not isinstance(row, dict):
            raise EngineError(f"{where}: this is no page. Give another file for the pages.")
        keys.add(row["key"] if "key" in row else _key_of(row))
    return keys


def _mend(path: Path) -> None:
    """Take away a last line that has no end."""
    with path.open("rb+") as file:
        content = file.read()
        if content and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)


def _key(title: str, prompt: Prompt) -> str:
    """What makes a wanted page the same as one that is done: its title, its ask and its opening."""
    return _hash(title, prompt.ask, prompt.opening)


def _key_of(row: dict[str, Any]) -> str:
    prompt = row.get("prompt", {})
    return _hash(row.get("title", ""), prompt.get("ask", ""), prompt.get("opening", ""))


def _hash(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]


def _number(words: str) -> int:
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], "big")
