"""Parse the terminal output of ``llama-diffusion-cli --diffusion-visual`` and make frames of it.

After every step the program draws the canvas, between two synchronized-update sequences::

    ESC[?2026h  ESC[<rows>A (except the first time)  CR
    diffusion step: 3/48 [===   …   ] 6%  ESC[K LF          (with --diffusion-visual-progress)
    <blank><line of the canvas>  ESC[K LF   …   ESC[K       (as many rows as the terminal has, less one)
    ESC[?2026l

Only the current canvas is drawn. At the end the program clears the drawing and shows the cursor, ``CR ESC[J ESC[?25h``,
and prints the whole text and a line with its timing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final

from ..frames import Frame, Span, Usage

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
        step: step within this canvas, from 0 as in the program.
        steps: maximum number of steps.
        text: the draft.
    """

    step: int
    steps: int
    text: str


class Screen:
    """Parses terminal output and keeps the newest drawing of each canvas.

    Attributes:
        canvases: newest drawing of each canvas, the current one last.
        ended: the drawing was cleared; the final text follows.
    """

    def __init__(self) -> None:
        self.canvases: list[Picture] = []
        self.ended = False
        self._rest = b""

    def feed(self, data: bytes) -> bool:
        """Add output. Return True if there is a new drawing."""
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
        """Return the final text, with the number of steps and canvases; 0 if the program did not print them."""
        printed = self._rest.decode("utf-8", "ignore").replace("\r\n", "\n")
        timings = list(_TIMING.finditer(printed))
        if not timings:
            return _ESCAPES.sub("", printed).strip(), 0, 0
        last = timings[-1]
        return _ESCAPES.sub("", printed[: last.start()]).strip(), int(last[1]), int(last[2])


class ScreenFrames:
    """Converts drawings to frames.

    Args:
        canvases: maximum number of canvases.
    """

    def __init__(self, canvases: int) -> None:
        self._canvases = canvases
        self._before = ""
        self._canvas = -1

    def draft(self, screen: Screen) -> Frame:
        """Return the frame for the newest drawing. Words that differ from the previous drawing are unsettled."""
        *done, current = screen.canvases
        # Line breaks at the end of a canvas look like the empty rows below it, so text after the first canvas may
        # still move.
        fixed = len(done[0].text.strip()) if done else 0
        text = "".join(canvas.text for canvas in screen.canvases).strip()
        canvas = len(done)
        before = self._before[fixed:] if canvas == self._canvas else ""
        self._before, self._canvas = text, canvas
        return Frame(
            text,
            _changed_spans(before, text[fixed:], fixed),
            fixed,
            canvas=canvas,
            canvases=max(self._canvases, canvas + 1),
            step=current.step + 1,
            steps=current.steps,
        )

    def last(self, screen: Screen, *, seconds: float, queued: float, seed: int) -> Frame:
        """Return the last frame. The program does not count tokens; four characters are counted as one."""
        text, steps, canvases = screen.text()
        canvases = canvases or max(1, len(screen.canvases))
        usage = Usage(
            tokens=(len(text) + 3) // 4,
            prompt_tokens=0,
            cached_tokens=0,
            steps=steps or sum(canvas.step + 1 for canvas in screen.canvases),
            canvases=canvases,
            seconds=seconds,
            queued_seconds=queued,
            reason="end",
            seed=seed,
        )
        current = screen.canvases[-1] if screen.canvases else Picture(0, 0, "")
        return Frame(
            text,
            fixed=len(text),
            canvas=canvases - 1,
            canvases=max(self._canvases, canvases),
            step=current.step + 1,
            steps=max(current.steps, current.step + 1),
            usage=usage,
        )


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
