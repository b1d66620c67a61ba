"""Sample pages in bulk from a model: several at once, resumable.

Good pages are appended to a file of training pages, others to a second file with the reason. Both files record what is
done. A text that was truncated at its budget is cut after its last sentence.
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
from .filters import find_fault, find_record_fault
from .page_prompts import PagePrompt

_CANVAS: Final = 256
_BLOCK: Final = 32
"""Prompts with the same prefix that are run one after the other."""
_AGAIN: Final = 0.3
"""Minimum share of a text that must remain after cutting."""


@dataclass(slots=True)
class SampleReport:
    """Statistics.

    Attributes:
        pages: good pages.
        dropped: other pages by reason.
        done_before: prompts that were done before.
        held_out: prompts with a held-out title.
        remaining: prompts that are not done yet.
        seconds: duration.
        tokens: generated tokens.
    """

    pages: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    done_before: int = 0
    held_out: int = 0
    remaining: int = 0
    seconds: float = 0.0
    tokens: int = 0


async def sample_pages(
    engine: Engine,
    wanted: Iterable[PagePrompt],
    out: Path,
    *,
    seconds: float | None = None,
    seed: int | None = None,
    progress: Callable[[SampleReport], None] = lambda sampled: None,
) -> SampleReport:
    """Generate the pages that are not done yet.

    Args:
        engine: the engine; ``about.parallel`` pages run at once.
        wanted: the prompts.
        out: file of training pages, which is appended to. Dropped pages go to ``dropped_file(out)``.
        seconds: time limit; running pages are finished. None for no limit.
        seed: makes the pages reproducible on the same engine, with an own seed each; slower, because prompts are then
            evaluated from their first token.
        progress: called after each page.

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
            found.done_before += 1
        else:
            waiting.append(page)
    began = time.monotonic()
    queue = iter(group_by_prefix(waiting))
    found.remaining = len(waiting)

    async def work(good: TextIO, bad: TextIO) -> None:
        for page in queue:  # shared by all workers
            text, reason, tokens = await _written(engine, page, seed)
            if reason:
                found.dropped[reason] += 1
                bad.write(_dropped_line(page, reason, text))
            else:
                found.pages += 1
                good.write(to_json_line(_page(page, text, engine.about.model)))
            (bad if reason else good).flush()  # so that a crash only loses running pages
            found.tokens += tokens
            found.remaining -= 1
            found.seconds = time.monotonic() - began
            progress(found)
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


def group_by_prefix(wanted: Iterable[PagePrompt]) -> list[PagePrompt]:
    """Order prompts so that engines evaluate common prefixes once.

    Prompts with the same system text and examples form blocks, which alternate, so that an incomplete run has pages of
    all kinds.
    """
    sorts: dict[tuple[str, tuple[Example, ...]], list[PagePrompt]] = {}
    for page in wanted:
        sorts.setdefault((page.prompt.system, page.prompt.examples), []).append(page)
    rounds = range(0, max(map(len, sorts.values()), default=0), _BLOCK)
    return [page for start in rounds for pages in sorts.values() for page in pages[start : start + _BLOCK]]


def dropped_file(out: Path) -> Path:
    """Return the file of dropped pages: ``sampled.dropped.jsonl`` beside ``sampled.jsonl``."""
    return out.with_suffix(".dropped.jsonl")


async def _written(engine: Engine, page: PagePrompt, seed: int | None) -> tuple[str, str, int]:
    """Return a page's text, why it is dropped ("" if it is not), and its number of tokens."""
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
        return text, find_record_fault(text, title=page.title, care=True), last.usage.tokens
    text = trim_to_sentence(text) if last.usage.reason == "length" else text
    if len(text) <= len(page.prompt.opening) + 1:
        return text, "too short", last.usage.tokens
    return text, find_fault(text, care=True), last.usage.tokens


def trim_to_sentence(text: str) -> str:
    """Cut a truncated text after its last sentence, if enough remains."""
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
    """Return the keys of finished prompts in a file. An incomplete last line is removed."""
    if not path.exists():
        return set()
    _drop_incomplete_line(path)
    keys = set()
    for row, where in read_json_lines(path, "sampled pages"):
        if not isinstance(row, dict):
            raise EngineError(f"{where}: this is no page. Give another file for the pages.")
        keys.add(row["key"] if "key" in row else _key_of(row))
    return keys


def _drop_incomplete_line(path: Path) -> None:
    """Remove a last line without an end."""
    with path.open("rb+") as file:
        content = file.read()
        if content and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)


def _key(title: str, prompt: Prompt) -> str:
    """Return the identity of a prompt: title, ask and opening."""
    return _hash(title, prompt.ask, prompt.opening)


def _key_of(row: dict[str, Any]) -> str:
    prompt = row.get("prompt", {})
    return _hash(row.get("title", ""), prompt.get("ask", ""), prompt.get("opening", ""))


def _hash(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]


def _number(words: str) -> int:
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], "big")
