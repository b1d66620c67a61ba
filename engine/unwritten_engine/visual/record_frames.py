"""Convert the records of one request to frames.

The program thinks before it writes, and cannot be told not to. Thoughts are hidden here, and they do not count towards
the budget of the request: the text is cut where it has as many tokens as were asked for. The program does not say how
many tokens a part of a text has; they are estimated from the length of its full blocks.
"""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import Final

from ..cleaning import common_prefix
from ..control_text import ControlScanner
from ..frames import Frame, Span, StopReason, Usage
from .program import CommitRecord, DraftRecord

_PIECES: Final = re.compile(r"\S+|\s+")
_LABEL: Final = "thought\n"
"""How a thought begins in a draft whose control tokens are missing."""
_OPENED: Final = re.compile(r"\A\s*(?:<\|channel>|<think(?:ing)?>)?\s*(?:thought\n)?")
_CHANNEL: Final = re.compile(r"(<\|channel>|<channel\|>)")
_CHARACTERS_PER_TOKEN: Final = 4.0
"""Estimate until a block is full."""
_LONGEST_WORD: Final = 64


class RecordFrames:
    """The text of one request.

    Args:
        budget: maximum number of tokens of the text.
        canvas_length: tokens in a block.

    Attributes:
        full: the text has reached its budget.
    """

    def __init__(self, budget: int, canvas_length: int) -> None:
        self._budget, self._canvas_length = budget, canvas_length
        self._scanner = ControlScanner()
        self._source = ""  # of the scanner
        self._committed = ""
        self._blocks = 0
        self._steps = 0
        self._characters_per_token = _CHARACTERS_PER_TOKEN
        self._before: tuple[int, str] = (-1, "")  # block and text of the draft before
        self._position = (0, 0)  # step and steps
        self._fixed = 0  # of all frames so far
        self.full = False

    @property
    def has_text(self) -> bool:
        """True if a block has been finished."""
        return bool(self._committed)

    def draft(self, record: DraftRecord) -> Frame:
        """Return the frame for the newest draft of a block. Words that differ from the draft before are unsettled."""
        self._position = (record.step, record.steps)
        text = record.text
        # The control token before the label may be missing, so that the end of the thought is unknown.
        head = text.lstrip()[: len(_LABEL)]
        text = "" if _LABEL.startswith(head) else self._without_noise(text)
        text, fixed = self._scan(self._committed + text, final=False)
        limit = self._limit(record.block + 1, text)
        text, fixed = text[:limit], min(fixed, limit)
        before = self._before[1][fixed:] if self._before[0] == record.block else ""
        self._before = (record.block, text)
        return self._frame(text, _changed_spans(before, text[fixed:], fixed), fixed)

    def commit(self, record: CommitRecord) -> Frame:
        """Return the frame after a block has been finished."""
        if self._committed and record.block:
            self._characters_per_token = len(self._committed) / (record.block * self._canvas_length)
        self._committed, self._blocks = record.text, record.block + 1
        self._steps += self._position[0]
        text, fixed = self._scan(record.text, final=False)
        limit = self._limit(self._blocks, text)
        self.full = len(text) > limit
        return self._frame(text[:limit], (), min(fixed, limit))

    def last(self, counts: dict[str, int], *, seconds: float, queued: float, seed: int) -> Frame | None:
        """Return the last frame, or None if there is no text besides a thought.

        Args:
            counts: of the program; empty if the text was cut.
            seconds: duration of the work.
            queued: seconds in the queue.
            seed: of the request.
        """
        text, _ = self._scan(self._committed, final=True)
        tokens = counts.get("predicted_n", 0)
        ended = 0 < tokens < self._blocks * self._canvas_length
        if not text.strip() and ended:  # the answer is in a thought that was not closed
            text = _OPENED.sub("", self._committed, count=1)
        text = text[: self._limit(self._blocks, text)].strip()
        if not text:
            return None
        share = min(1.0, len(text) / len(self._committed))
        tokens = round(tokens * share) if tokens else round(len(text) / self._characters_per_token)
        reason: StopReason = "end" if ended and not self.full else "length"
        usage = Usage(
            tokens=max(1, min(tokens, self._budget)),
            prompt_tokens=counts.get("prompt_n", 0),
            cached_tokens=0,
            steps=counts.get("steps", self._steps),
            canvases=self._blocks,
            seconds=seconds,
            queued_seconds=queued,
            reason=reason,
            seed=seed,
        )
        return self._frame(text, (), len(text), usage)

    def _without_noise(self, draft: str) -> str:
        """Return a draft without ends of thoughts that were not opened: they would hide all text before them."""
        is_open = self._committed.rfind("<|channel>") > self._committed.rfind("<channel|>")
        parts = []
        for part in _CHANNEL.split(draft):
            if part != "<channel|>" or is_open:
                parts.append(part)
            if _CHANNEL.fullmatch(part):
                is_open = part == "<|channel>"
        return "".join(parts)

    def _scan(self, source: str, *, final: bool) -> tuple[str, int]:
        """Return the text without thoughts, and how much of it is from finished blocks."""
        same = common_prefix(self._source, source)
        self._scanner.update(source, same, len(self._committed), final=final)
        self._source = source
        return self._scanner.text, self._scanner.positions(len(self._committed))

    def _limit(self, blocks: int, text: str) -> int:
        """Return how many characters the budget allows. The last word is not split."""
        if blocks * self._canvas_length <= self._budget:
            return len(text)
        limit = round(self._budget * self._characters_per_token)
        if limit >= len(text):
            return len(text)
        space = max(text.rfind(" ", 0, limit + 1), text.rfind("\n", 0, limit + 1))
        return max(self._fixed, space if space > limit - _LONGEST_WORD else limit)

    def _frame(self, text: str, unsettled: tuple[Span, ...], fixed: int, usage: Usage | None = None) -> Frame:
        canvases = -(-self._budget // self._canvas_length)
        canvas = min(self._blocks, int(len(text) / self._characters_per_token) // self._canvas_length)
        step, steps = self._position
        fixed = len(text[:fixed].rstrip())  # the text may end there
        self._fixed = max(self._fixed, fixed)
        return Frame(text, unsettled, fixed, min(canvas, canvases - 1), canvases, step, steps, usage)


def _changed_spans(before: str, after: str, offset: int) -> tuple[Span, ...]:
    """Return the spans of words that differ from the previous draft; all of it if there was none."""
    if not after:
        return ()
    if not before:
        return ((offset, offset + len(after)),)
    old, new = _PIECES.findall(before), _PIECES.findall(after)
    starts = [offset]
    for piece in new:
        starts.append(starts[-1] + len(piece))
    spans: list[Span] = []
    for kind, _, _, start, end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal" or start == end:
            continue
        if spans and spans[-1][1] == starts[start]:
            spans[-1] = (spans[-1][0], starts[end])
        else:
            spans.append((starts[start], starts[end]))
    return tuple(spans)
