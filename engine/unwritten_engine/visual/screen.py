"""Reads what ``llama-diffusion-cli --diffusion-visual`` draws into its terminal, and makes frames of it.

After every step the program draws one picture, between two marks of a synchronised update::

    ESC[?2026h  ESC[<rows>A (not the first time)  CR
    diffusion step: 3/48 [===   …   ] 6%  ESC[K LF          (with --diffusion-visual-progress)
    <blank><line of the canvas>  ESC[K LF   …   ESC[K       (as many rows as the terminal has, less one)
    ESC[?2026l

The canvas in the picture is the one being written; those before it are not drawn any more. At the end it clears the
picture and shows the cursor, ``CR ESC[J ESC[?25h``, and prints the whole text and a line with its timing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final

from ..frames import Frame, Span, StopReason, Usage
from ..output_filters import PrefillFilter, ReasoningFilter, UnopenedReasoning

_PICTURE: Final = re.compile(rb"\x1b\[\?2026h(.*?)\x1b\[\?2026l", re.DOTALL)
_END: Final = b"\r\x1b[J\x1b[?25h"
_STEP: Final = re.compile(r"diffusion step: (\d+)/(\d+) \[[= ]*\] \d+%\s*$")
_TIMING: Final = re.compile(r"^total time: [\d.]+ms, time per step: [\d.]+ms \((\d+) steps over (\d+) blocks", re.M)
_ESCAPES: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")
_PIECES: Final = re.compile(r"\S+|\s+")


@dataclass(frozen=True, slots=True)
class Picture:
    """One drawing of the canvas.

    Attributes:
        step: the step within this canvas, counted from 0, as the program does.
        steps: the largest number of steps.
        text: the draft.
    """

    step: int
    steps: int
    text: str


class Screen:
    """Takes the bytes of the terminal, and keeps the newest picture of each canvas.

    Attributes:
        canvases: the newest picture of each canvas, the one at work last.
        ended: the picture was cleared: what follows is the text.
    """

    def __init__(self) -> None:
        self.canvases: list[Picture] = []
        self.ended = False
        self._rest = b""

    def feed(self, data: bytes) -> bool:
        """Take more bytes. True if there is a new picture."""
        self._rest += data
        if self.ended:
            return False
        drawn = False
        at = 0
        for match in _PICTURE.finditer(self._rest):
            drawn = self._draw(match[1]) or drawn
            at = match.end()
        self._rest = self._rest[at:]
        end = self._rest.find(_END)
        if end >= 0:
            self.ended = True
            self._rest = self._rest[end + len(_END) :]
        return drawn

    def _draw(self, picture: bytes) -> bool:
        rows = picture.decode("utf-8", "ignore").split("\x1b[K")
        lines = [_ESCAPES.sub("", row.removeprefix("\n")) for row in rows]
        head = _STEP.match(lines[0])
        if head is None:
            return False
        step, steps = int(head[1]), int(head[2])
        text = "\n".join(lines[1:]).removeprefix(" ").rstrip("\n")
        if not self.canvases or step <= self.canvases[-1].step:  # each canvas counts its steps from 0
            self.canvases.append(Picture(step, steps, text))
        else:
            self.canvases[-1] = Picture(step, steps, text)
        return True

    def text(self) -> tuple[str, int, int]:
        """The whole text at the end, with the steps and canvases that it took; 0 where the program did not say."""
        printed = self._rest.decode("utf-8", "ignore").replace("\r\n", "\n")
        timings = list(_TIMING.finditer(printed))
        if not timings:
            return _ESCAPES.sub("", printed).strip(), 0, 0
        last = timings[-1]
        return _ESCAPES.sub("", printed[: last.start()]).strip(), int(last[1]), int(last[2])


class ScreenFrames:
    """From pictures to frames.

    Args:
        opening: text that every frame begins with.
        stops: strings that end the text.
        canvases: how many canvases may be written.
    """

    def __init__(self, opening: str, stops: Sequence[str], canvases: int) -> None:
        self._opening = opening
        self._stops = [stop for stop in stops if stop]
        self._canvases = canvases
        self._before = ""
        self._canvas = -1

    def draft(self, screen: Screen) -> Frame:
        """What can be seen after the newest picture. What differs from the picture before is not settled."""
        *done, now = screen.canvases
        # Line breaks at the end of a canvas cannot be told from the empty rows below it: what comes after the first
        # canvas may still move.
        fixed = len(self._whole(done[0].text) if done else self._opening)
        text = self._whole("".join(canvas.text for canvas in screen.canvases))
        fixed = min(fixed, len(text))
        canvas = len(done)
        before = self._before[fixed:] if canvas == self._canvas else ""
        self._before, self._canvas = text, canvas
        return Frame(
            text,
            _changed(before, text[fixed:], fixed),
            fixed,
            canvas=canvas,
            canvases=max(self._canvases, canvas + 1),
            step=now.step + 1,
            steps=now.steps,
        )

    def last(self, screen: Screen, *, seconds: float, queued: float, seed: int) -> Frame:
        """The whole text. Its tokens are estimated, at four characters to one: the program does not count them."""
        written, steps, canvases = screen.text()
        text = self._whole(written, ended=True)
        canvases = canvases or max(1, len(screen.canvases))
        reason: StopReason = "stop" if len(self._whole(written, ended=True, stop=False)) > len(text) else "end"
        usage = Usage(
            tokens=(len(text) - len(self._opening) + 3) // 4,
            prompt_tokens=0,
            cached_tokens=0,
            steps=steps or sum(canvas.step + 1 for canvas in screen.canvases),
            canvases=canvases,
            seconds=seconds,
            queued_seconds=queued,
            reason=reason,
            seed=seed,
        )
        now = screen.canvases[-1] if screen.canvases else Picture(0, 0, "")
        return Frame(
            text,
            fixed=len(text),
            canvas=canvases - 1,
            canvases=max(self._canvases, canvases),
            step=now.step + 1,
            steps=max(now.steps, now.step + 1),
            usage=usage,
        )

    def _whole(self, written: str, *, ended: bool = False, stop: bool = True) -> str:
        """Text of the model as it is shown: without thoughts, behind the opening, up to a stop string.

        What may yet become a thought or the opening is held back until the text has ended.
        """
        thoughts = ReasoningFilter()
        try:
            text = thoughts.push(written) + (thoughts.end() if ended else "")
        except UnopenedReasoning:
            text = written.rpartition(">")[2]
        opening = PrefillFilter(self._opening)
        text = (opening.push(text) + (opening.end() if ended else "")).rstrip()
        found = [at for mark in self._stops if (at := text.find(mark)) >= 0] if stop else []
        text = text[: min(found)].rstrip() if found else text
        return self._opening + text if self._opening.strip() else text.lstrip()


def _changed(before: str, now: str, offset: int) -> tuple[Span, ...]:
    """Where a draft differs from the one before, word by word; all of it if there was none."""
    if not now:
        return ()
    if not before:
        return ((offset, offset + len(now)),)
    old, new = _PIECES.findall(before), _PIECES.findall(now)
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
