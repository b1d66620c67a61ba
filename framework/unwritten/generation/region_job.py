"""Writing: one region on its way from its first frame to its last."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from markupsafe import Markup

from unwritten_engine import Frame, Priority, Prompt, Request, Usage

from ..core.errors import PageFailed, SchemaMismatch
from ..formats.base import RegionContext
from ..formats.links import Link, Linker, find_anchors, find_links, html_to_text, plain_text
from ..formats.page import Canvas
from ..formats.registry import get_format
from ..formats.schema import schema_of
from ..formats.schema_repair import repair
from ..formats.unsettled import FormattedFrame
from ..rendering.regions import Region, RegionState, estimate_lines
from ..routing.prompts import finalize_text, settled_text
from ..storage.records import WRITTEN, Change, PageWrite, Provenance, StoredCanvas
from .revisions import Revision


class RegionJob:
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
        self._linker = linker
        self.state: RegionState = "waiting"
        self.number = 0
        self.frame = Frame(text="")
        self._canvas_length = canvas_length
        self.format = get_format(canvas.format)
        self._lines = self.format.lines or estimate_lines(canvas.tokens or canvas.canvases * canvas_length)
        self._drawer = self.format.at(RegionContext(linker, name, prompt.ask, canvas.schema))
        self._drawn = FormattedFrame(Markup(""))
        self._drawn_number = -1
        # Frames are numbered from the microsecond in which the writing began: a browser that has seen an earlier
        # attempt at this page, of this server or of the one before it, takes those of this one for newer.
        self._first = time.time_ns() // 1000
        self.repairs: list[str] = []
        self._asked_again = False
        self._seed = canvas.seed
        self._revision: Revision | None = None
        self._restored: StoredCanvas | None = None

    def revise(self, revision: Revision, seed: int | None = None) -> None:
        """What stands here is changed. The old text is shown until the first frame.

        Args:
            revision: how.
            seed: makes it repeatable; None takes the canvas's own.
        """
        self._revision = revision
        self._seed = self.canvas.seed if seed is None else seed
        self._restored = None
        self.prompt = revision.task.prompt
        self.state = "waiting"
        self._show(revision.first())

    def request(self, priority: Priority = Priority.CLICK) -> Request:
        """What the engine is asked for."""
        canvas = self.canvas
        task = self._revision.task if self._revision else None
        canvases, tokens = canvas.canvases, canvas.tokens
        if task and task.tokens:
            own = tokens or canvases * self._canvas_length
            tokens = task.tokens if task.partial else max(task.tokens, own)
            canvases = max(canvases, -(-tokens // self._canvas_length))
        # The same seed would write the same again.
        seed = (self._seed + 1) % 2**32 if self._seed is not None and self._asked_again else self._seed
        return Request(
            prompt=task.prompt if task else self.prompt,
            canvases=canvases,
            max_tokens=tokens,
            schema=schema_of(canvas.schema) if canvas.schema else None,
            seed=seed,
            priority=priority,
            stop=tuple(canvas.stop or self.format.stop),
            draft=task.draft if task else None,
            options=canvas.options,
        )

    @property
    def requests(self) -> int:
        """How many requests have come to their end so that the next one can begin; a revision may take several."""
        return self._revision.number if self._revision else 0

    def fitted(self, frame: Frame) -> Frame:
        """A frame of the engine as a frame of the whole region, of which a request may write only a part.

        Raises:
            PageFailed: if it is the last one of a part, and nothing was written or what was kept is lost.
        """
        return self._revision.fitted(frame) if self._revision else frame

    def apply_frame(self, frame: Frame) -> None:
        """Take the next frame.

        Raises:
            Misshapen: if it is the last one, and is not and cannot be made a value of the shape.
            PageFailed: if it is the last one, and the format cannot accept it, or it is empty; or if the region has
                failed meanwhile.
        """
        if self.state == "failed":
            raise PageFailed("The region has failed.")
        if frame.usage is None:
            self.state = "writing"
            self._show(frame)
            return
        text = self._finished(frame)
        if self.canvas.schema is not None:
            repaired = repair(self.canvas.schema, text)
            text = repaired.text
            self.repairs += repaired.repairs
        if self._revision is None and not text.removeprefix(self.prompt.opening).strip():
            raise PageFailed("The model wrote nothing. Try again: another seed often helps.")
        draft = self.frame
        self._show(replace(frame, text=text, unsettled=(), fixed=len(text)))
        try:
            self.formatted()  # a text that the format cannot accept must not count as written
        except PageFailed:
            self._show(draft)  # which can be drawn
            raise
        self.state = "written"

    def retry(self, error: SchemaMismatch) -> bool:
        """Make ready for another attempt at a shape, with another seed. False if this was it.

        Args:
            error: why the first was none; it is told with what is kept.
        """
        if self._asked_again:
            return False
        self._asked_again = True
        self.repairs = [f"asked again: {error}"]
        self._show(Frame(text=""))
        return True

    def final(self, frame: Frame) -> str:
        """The text of a last frame as it will be kept.

        Raises:
            Misshapen: if it cannot be made a value of the shape.
        """
        text = self._finished(frame)
        return text if self.canvas.schema is None else repair(self.canvas.schema, text).text

    def _finished(self, frame: Frame) -> str:
        reason = frame.usage.reason if frame.usage else "end"
        # A revision sees to its ends itself.
        return finalize_text(frame.text, reason) if self.format.prose and self._revision is None else frame.text

    def restore(self, kept: StoredCanvas) -> None:
        """Take a text that was written before.

        Raises:
            PageFailed: if it does not fit any more: its shape has changed since.
        """
        usage = Usage(kept.tokens, 0, 0, kept.steps, kept.canvases, kept.seconds, 0.0, _reason(kept.reason), kept.seed)
        waiting = self.frame
        self.frame = Frame(kept.text, fixed=len(kept.text), usage=usage)
        self.number, self._drawn_number = 1, -1
        self.repairs = [kept.repairs] if kept.repairs else []
        try:
            self.formatted()
        except PageFailed:
            self.frame, self.number, self._drawn_number = waiting, 0, -1
            raise
        self.state = "written"
        self._restored = kept
        self._revision = None

    def roll_back(self, kept: StoredCanvas) -> None:
        """Take the text that was here before, in place of what came to nothing.

        Raises:
            PageFailed: see ``restore``.
        """
        number = self.number
        try:
            self.restore(kept)
        finally:
            self.number = max(self.number, number)  # who has seen later frames must see this one too
            self.count()

    def end(self, state: RegionState) -> None:
        """Leave a region that will not be finished as it is."""
        if self.state not in {"written", "failed"}:
            self.state = state
            self.count()

    def restart(self) -> None:
        """Forget what is there of a text that is not finished."""
        if self.state != "written":
            self.state = "waiting"
            if self.number:
                self._show(Frame(text=""))

    def count(self) -> None:
        """Give what is there now a number of its own, higher than any before."""
        self.number = max(self.number, self._first) + 1

    def _show(self, frame: Frame) -> None:
        self.frame = frame
        self.count()

    def formatted(self) -> FormattedFrame:
        """The latest frame, drawn."""
        if self._drawn_number != self.number:
            frame = self.frame
            if not frame.done and self.format.prose:
                # The engine fixes what it has written; its end may still be cut back to a whole sentence.
                frame = replace(frame, fixed=min(frame.fixed, settled_text(frame.text[: frame.fixed])))
            self._drawn = self._drawer.format(frame)
            self._drawn_number = self.number
        return self._drawn

    def region(self) -> Region:
        """What the template sees."""
        # A shape has its fields before its first word: a template may ask for them.
        drawn = self.formatted() if self.frame.text or self.canvas.schema else FormattedFrame(Markup(""))
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

    def as_of(self, frame: Frame) -> Region:
        """What the template saw, or would have seen, of an earlier frame.

        Raises:
            PageFailed: if the format cannot draw it.
        """
        earlier = RegionJob(self.name, self.canvas, self.prompt, self._linker, 1)
        earlier.state = "written" if frame.done else "writing"
        earlier._show(frame)
        return earlier.region()

    def links(self, linker: Linker) -> list[Link]:
        """The links of the finished text, with the sentences around them: by brackets, and by address."""
        found = {} if self.format.drawn_words else {link.key: link for link in find_links(self.frame.text, linker)}
        for link in find_anchors(str(self.formatted().html), linker.root_path):
            found.setdefault(link.key, link)
        return list(found.values())

    def words(self) -> str:
        """The finished text as plain text on one line, for search and snippets."""
        drawn = self.formatted()
        if drawn.words is not None:
            return drawn.words
        if self.format.drawn_words:
            return " ".join(html_to_text(str(self.formatted().html)).split())
        return plain_text(self.frame.text)

    def kept(self) -> StoredCanvas:
        """The finished text with what it took.

        Raises:
            ValueError: if it is not finished.
        """
        usage = self.frame.usage
        if usage is None or self.state != "written":
            raise ValueError(f"The region {self.name!r} is not finished.")
        shape, fact = self.canvas.schema.__name__ if self.canvas.schema else "", self.canvas.fact
        if self._restored is not None:  # it keeps the record of its own writing
            return replace(self._restored, schema=shape, fact=fact)
        return StoredCanvas(
            name=self.name,
            format=self.format.name,
            prompt=prompt_text(self.prompt),
            text=self.frame.text,
            seed=usage.seed,
            tokens=usage.tokens,
            steps=usage.steps,
            canvases=usage.canvases,
            seconds=round(usage.seconds, 3),
            reason=usage.reason,
            schema=shape,
            fact=fact,
            repairs="; ".join(self.repairs),
        )


def page_to_store(
    key: str,
    title: str,
    region_jobs: Mapping[str, RegionJob],
    linker: Linker,
    provenance: Provenance,
    change: Change = WRITTEN,
) -> PageWrite:
    """A finished page for the store.

    Raises:
        ValueError: if a region is not finished.
    """
    links: dict[str, Link] = {}
    for region_job in region_jobs.values():
        for link in region_job.links(linker):
            links.setdefault(link.key, link)
    return PageWrite(
        key=key,
        title=title,
        text=" ".join(region_job.words() for region_job in region_jobs.values() if region_job.canvas.format != "typed"),
        prompt_hash=prompt_hash(region_jobs),
        provenance=provenance,
        canvases=tuple(region_job.kept() for region_job in region_jobs.values()),
        links=tuple(links.values()),
        change=change,
    )


def prompt_text(prompt: Prompt) -> str:
    """A prompt as one JSON text, for its record and its hash. Images are named by their hash."""
    document: dict[str, Any] = asdict(prompt)
    document["images"] = [hashlib.sha256(image).hexdigest() for image in prompt.images]
    return json.dumps(document, ensure_ascii=False, sort_keys=True)


def prompt_hash(region_jobs: Mapping[str, RegionJob]) -> str:
    """One hash for all the prompts of a page."""
    digest = hashlib.sha256()
    for name, region_job in region_jobs.items():
        digest.update(f"{name}\0{prompt_text(region_job.prompt)}\0".encode())
    return digest.hexdigest()


def _reason(reason: str) -> Any:
    return reason if reason in {"end", "length", "stop"} else "end"
