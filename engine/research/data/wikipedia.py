"""Read summaries of Wikipedia's vital articles from a package."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

from unwritten_engine.errors import EngineError

from .entries import Dropped, Entry, sentences
from .packages import Package

SUMMARIES: Final = "data/summaries_en-us.json"
_GAP: Final = re.compile(r"\S  +\S|\s[.,](?:\s|$)|\(\s*[,;]|\bof \.|\( | and \.|\{|\\")
"""Gaps where a formula, foreign letters or a pronunciation were removed."""
_BROKEN: Final = re.compile(r"(?<![.!?:”\")\n])\s*\n+(?=[a-z])")
"""A line break in the middle of a sentence, after removed contents."""
_SPACES: Final = re.compile(r"[\u00a0\u2000-\u200a\u202f\u205f]")
_HIDDEN: Final = re.compile("[\u200b-\u200f\u2060\ufeff\u00ad]")


def read_wikipedia(package: Package, dropped: Dropped) -> Iterator[Entry]:
    """Yield the summaries as articles.

    Sentences with a missing formula are dropped; if it is the first, the article is dropped.

    Raises:
        EngineError: the package has an unexpected format.
    """
    try:
        summaries = json.loads(package.file(SUMMARIES))
        rows = [
            (row["title"], row["extract"], row.get("description") or "", row.get("topic")) for row in summaries.values()
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(f"{package.path}: {SUMMARIES} has another form than it had ({error!r}).") from None
    for title, extract, description, topic in rows:
        if title.startswith(("List of ", "Outline of ")):
            dropped("a list", title)
            continue
        text = _plain(extract)
        if not text:
            dropped("something is missing in its first sentence", title)
            continue
        short = _SPACES.sub(" ", description).strip()
        yield Entry(title, text, "wikipedia", "article", short=short, person=topic == "People")


def _plain(extract: str) -> str:
    paragraphs = []
    for number, paragraph in enumerate(_BROKEN.sub(" ", extract).split("\n")):
        kept = []
        for at, sentence in enumerate(sentences(_HIDDEN.sub("", _SPACES.sub(" ", paragraph)).strip())):
            mended = re.sub(r"(?<=\w) (?=[;:)])", "", re.sub(r" ?\(\s*\)", "", sentence))
            if not _GAP.search(mended):
                kept.append(mended)
            elif number == at == 0:
                return ""
        if kept:
            paragraphs.append(" ".join(kept))
    return "\n\n".join(paragraphs)
