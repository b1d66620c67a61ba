"""Writing: one region on its way from its first frame to its last."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from markupsafe import Markup

from unwritten_engine import Frame, Prompt, Request, Usage

from .canvases import Canvas
from .errors import PageFailed
from .formats import FORMATS, schema_of
from .formats.drawn import Drawn
from .links import Link, Linker, find_anchors, find_links, plain, words_of
from .prompts import certain, finish
from .regions import Region, RegionState, expected_lines
from .store import KeptCanvas

_PROSE = frozenset({"markdown", "text"})


class Writing:
    """One region of one page, and what has arrived of it.

    Frames come faster than anybody looks: only the latest is kept, and it is drawn when somebody asks for it,
    once for all who ask.

    Args:
        name: the canvas's name.
        canvas: what to write.
        prompt: the same as the engine gets it.
        linker: decides where links lead.
        canvas_length: tokens in a canvas of the engine, for the placeholder's height.
    """

    def __init__(self, name: str, canvas: Canvas, prompt: Prompt, linker: Linker, canvas_length: int) -> None:
        self.name = name
        self.canvas = canvas
        self.prompt = prompt
        self.state: RegionState = "waiting"
        self.number = 0
        self.frame = Frame(text="")
        self._lines = expected_lines(canvas.tokens or canvas.canvases * canvas_length)
        self._drawer = FORMATS[canvas.format](linker, canvas.shape)
        self._drawn = Drawn(Markup(""))
        self._drawn_number = -1
        # Frames are numbered from the microsecond in which the writing began: a browser that has seen an earlier
        # attempt at this page, of this server or of the one before it, takes those of this one for newer.
        self._first = time.time_ns() // 1000
        self.encoded: tuple[tuple[int, RegionState], str] | None = None
        self._block: tuple[int, RegionState, str] | None = None

    def request(self) -> Request:
        """What the engine is asked for."""
        canvas = self.canvas
        return Request(
            prompt=self.prompt,
            canvases=canvas.canvases,
            max_tokens=canvas.tokens,
            shape=schema_of(canvas.shape) if canvas.shape else None,
            seed=canvas.seed,
            stop=tuple(canvas.stop),
            options=canvas.options,
        )

    def take(self, frame: Frame) -> None:
        """Take the next frame.

        Raises:
            PageFailed: if it is the last one, and the format cannot accept it, or it is empty; or if the region has
                failed meanwhile.
        """
        if self.state == "failed":
            raise PageFailed("The region has failed.")
        if frame.usage is None:
            self.state = "writing"
            self._show(frame)
            return
        text = frame.text
        if self.canvas.format in _PROSE:
            text = finish(text, frame.usage.reason)
        if not text.removeprefix(self.prompt.opening).strip():
            raise PageFailed("The model wrote nothing. Try again: another seed often helps.")
        draft = self.frame
        self._show(replace(frame, text=text, unsettled=(), fixed=len(text)))
        try:
            self.drawn()  # a text that the format cannot accept must not count as written
        except PageFailed:
            self._show(draft)  # which can be drawn
            raise
        self.state = "written"

    def restore(self, kept: KeptCanvas) -> None:
        """Take a text that was written before.

        Raises:
            PageFailed: if it does not fit any more: its shape has changed since.
        """
        usage = Usage(kept.tokens, 0, 0, kept.steps, kept.canvases, kept.seconds, 0.0, _reason(kept.reason), kept.seed)
        waiting = self.frame
        self.frame = Frame(kept.text, fixed=len(kept.text), usage=usage)
        self.number = 1
        try:
            self.drawn()
        except PageFailed:
            self.frame, self.number, self._drawn_number = waiting, 0, -1
            raise
        self.state = "written"

    def end(self, state: RegionState) -> None:
        """Leave a region that will not be finished as it is."""
        if self.state not in {"written", "failed"}:
            self.state = state
            self.count()

    def count(self) -> None:
        """Give what is there now a number of its own, higher than any before."""
        self.number = max(self.number, self._first) + 1

    def _show(self, frame: Frame) -> None:
        self.frame = frame
        self.count()

    def drawn(self) -> Drawn:
        """The latest frame, drawn."""
        if self._drawn_number != self.number:
            frame = self.frame
            if not frame.done and self.canvas.format in _PROSE:
                # The engine fixes what it has written; its end may still be cut back to a whole sentence.
                frame = replace(frame, fixed=min(frame.fixed, certain(frame.text[: frame.fixed])))
            self._drawn = self._drawer.draw(frame)
            self._drawn_number = self.number
        return self._drawn

    def region(self) -> Region:
        """What the template sees."""
        # A shape has its fields before its first word: a template may ask for them.
        drawn = self.drawn() if self.frame.text or self.canvas.shape else Drawn(Markup(""))
        return Region(
            name=self.name,
            state=self.state,
            number=self.number,
            html=drawn.html,
            text=self.frame.text,
            value=drawn.value,
            settled=self.frame.done or not self.frame.unsettled,
            lines=self._lines,
        )

    def block(self, draw: Callable[[Region], str]) -> str:
        """The region's inner HTML, drawn by its block, once for each frame."""
        if self._block is None or self._block[:2] != (self.number, self.state):
            self._block = (self.number, self.state, draw(self.region()))
        return self._block[2]

    def links(self, linker: Linker) -> list[Link]:
        """The links of the finished text, with the sentences around them: by brackets, and by address."""
        found = {} if self.canvas.format == "html" else {link.key: link for link in find_links(self.frame.text, linker)}
        for link in find_anchors(str(self.drawn().html)):
            found.setdefault(link.key, link)
        return list(found.values())

    def words(self) -> str:
        """The finished text as plain text on one line, for search and snippets."""
        if self.canvas.format == "html":
            return " ".join(words_of(str(self.drawn().html)).split())
        return plain(self.frame.text)

    def kept(self) -> KeptCanvas:
        """The finished text with what it took.

        Raises:
            ValueError: if it is not finished.
        """
        usage = self.frame.usage
        if usage is None or self.state != "written":
            raise ValueError(f"The region {self.name!r} is not finished.")
        return KeptCanvas(
            name=self.name,
            format=self.canvas.format,
            prompt=prompt_text(self.prompt),
            text=self.frame.text,
            seed=usage.seed,
            tokens=usage.tokens,
            steps=usage.steps,
            canvases=usage.canvases,
            seconds=round(usage.seconds, 3),
            reason=usage.reason,
        )


def prompt_text(prompt: Prompt) -> str:
    """A prompt as one JSON text, for its record and its hash. Images are named by their hash."""
    document: dict[str, Any] = asdict(prompt)
    document["images"] = [hashlib.sha256(image).hexdigest() for image in prompt.images]
    return json.dumps(document, ensure_ascii=False, sort_keys=True)


def prompt_hash(writings: Mapping[str, Writing]) -> str:
    """One hash for all the prompts of a page."""
    digest = hashlib.sha256()
    for name, writing in writings.items():
        digest.update(f"{name}\0{prompt_text(writing.prompt)}\0".encode())
    return digest.hexdigest()


def _reason(reason: str) -> Any:
    return reason if reason in {"end", "length", "stop"} else "end"
