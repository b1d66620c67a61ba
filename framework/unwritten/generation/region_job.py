"""A region job: one region of a page while it is generated, from the first frame to the last."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

from markupsafe import Markup

from unwritten_engine import Frame, Priority, Prompt, Request, StopReason, Usage

from ..core.errors import CopiedExample, PageFailed, UnusableText
from ..core.frame_numbers import frame_numbers
from ..core.localization import gettext_lazy as _
from ..formats.assumed_schema import AssumedSchema
from ..formats.base import RegionContext
from ..formats.direction import BlockDirections
from ..formats.gists import remove_gists
from ..formats.links import Link, Linker, find_anchors, html_to_text
from ..formats.page import Canvas
from ..formats.schema import json_schema_of
from ..formats.schema_repair import RepairResult, repair
from ..formats.schema_tidy import sample_texts
from ..formats.text_ends import has_content, settled_text
from ..formats.unsettled import FormattedFrame
from ..formats.uploads import Upload
from ..formats.wrappers import unwrap
from ..rendering.regions import Region, RegionState
from ..storage.records import WRITTEN, Change, PageWrite, Provenance, StoredCanvas
from .revisions import Revision

_REMOVED: Mapping[str, str] = {"repetition": "repetition", "echo": "echo of the prompt"}
"""What the engine has cut off, by the reason for the end."""


@dataclass(frozen=True)
class PreparedFrame:
    """A frame that is formatted and, if it is the last one, checked. ``RegionJob.apply_frame`` shows it.

    Attributes:
        frame: The frame. The last one has its final text.
        formatted: The frame as HTML.
        repairs: What had to be repaired in the text.
    """

    frame: Frame
    formatted: FormattedFrame
    repairs: Sequence[str] = ()


def requested_schema(canvas: Canvas, assumed: AssumedSchema | None) -> Mapping[str, Any] | None:
    """Return the JSON schema that the engine is held to."""
    if canvas.schema is None:
        return None
    return assumed.json_schema if assumed else json_schema_of(canvas.schema)


class RegionJob:
    """One region of one page, and what has been generated of it.

    Frames may come faster than they are shown. Only the latest is stored. It is formatted on demand, once for all
    subscribers.

    Args:
        name: The canvas's name.
        canvas: What to generate.
        prompt: The engine's prompt for it.
        linker: Decides where links lead.
        canvas_length: Tokens in one canvas of the engine, to estimate the placeholder's height.
        assumed: The canvas's schema with the bounds that the engine is held to. None: the schema alone.
        gists: True if the prompt asks for gists of links, which are removed from the text; see ``formats.gists``.

    Attributes:
        state: waiting, writing, written, stopped or failed.
        number: The number of the latest frame. It only rises, also across attempts and restarts of the server.
        frame: The latest frame.
        format: The canvas's format.
        repairs: What had to be repaired in the text, one phrase each.
        format_seconds: Seconds of processor time that the last formatting took.
    """

    def __init__(
        self,
        name: str,
        canvas: Canvas,
        prompt: Prompt,
        linker: Linker,
        canvas_length: int,
        assumed: AssumedSchema | None = None,
        *,
        gists: bool = False,
    ) -> None:
        self.name = name
        self.canvas = canvas
        self.prompt = prompt
        self.assumed = assumed
        self.state: RegionState = "waiting"
        self.number = 0
        self.frame = Frame(text="")
        self.format = canvas.resolved_format
        self.repairs: list[str] = []
        self.format_seconds = 0.0
        self._linker = linker
        self._canvas_length = canvas_length
        self._lines = self.format.placeholder_lines or estimate_lines(canvas.tokens or canvas.canvases * canvas_length)
        self._formatter = self.format.create_formatter(RegionContext(linker, name, prompt.ask, canvas.schema))
        self._directions = BlockDirections()
        self._formatted = FormattedFrame(Markup(""))
        self._formatted_of: Frame | None = None  # the frame that was formatted last
        self._retried = False
        self._asks_for_gists = gists
        self._gists: dict[str, str] = {}
        self._copy: PreparedFrame | None = None  # the first attempt, if it repeated the prompt's example
        self._seed = canvas.seed
        self._revision: Revision | None = None
        self._restored: StoredCanvas | None = None

    # -- requests to the engine ---------------------------------------------------------------------------

    def revise(self, revision: Revision, seed: int | None = None) -> None:
        """Change the region's text. The old text is shown until the first frame.

        Args:
            revision: The change.
            seed: Replaces the canvas's seed. None: the canvas's seed.
        """
        self._revision = revision
        self._seed = self.canvas.seed if seed is None else seed
        self._restored = None
        self.prompt = revision.task.prompt
        self.state = "waiting"
        self._set_frame(revision.initial_frame())

    def request(self, priority: Priority = Priority.CLICK) -> Request:
        """Return the next request to the engine."""
        canvas = self.canvas
        task = self._revision.task if self._revision else None
        canvases, tokens = canvas.canvases, canvas.tokens
        if task and task.tokens:
            canvas_tokens = tokens or canvases * self._canvas_length
            tokens = task.tokens if task.partial else max(task.tokens, canvas_tokens)
            canvases = max(canvases, -(-tokens // self._canvas_length))
        # The same seed would generate the same text.
        seed = (self._seed + 1) % 2**32 if self._seed is not None and self._retried else self._seed
        return Request(
            prompt=task.prompt if task else self.prompt,
            canvases=canvases,
            max_tokens=tokens,
            schema=requested_schema(canvas, self.assumed),
            seed=seed,
            priority=priority,
            stop=tuple(canvas.stop or self.format.stop),
            draft=task.draft if task else None,
            options=canvas.options,
        )

    @property
    def completed_requests(self) -> int:
        """How many requests are complete, so that another one follows. Only a revision takes several."""
        return self._revision.num_done if self._revision else 0

    # -- frames -------------------------------------------------------------------------------------------

    def merge(self, frame: Frame) -> Frame:
        """Return the frame of the whole region for a frame of the engine, which may cover only a part of it.

        A wrapper around the model's answer, and the gists of links in it, are removed here, before anything is shown,
        checked or stored.

        Raises:
            PageFailed: If it is the last frame of a part, and it is empty, or text that had to stay is missing.
        """
        task = self._revision.task if self._revision else None
        if not (task and task.draft and task.draft.keep):  # the positions of kept text are known
            prompt = task.prompt if task else self.prompt
            frame = unwrap(frame, self.format.name, prompt.opening)
            if self._asks_for_gists:
                frame, self._gists = remove_gists(frame)
        return self._revision.merge(frame) if self._revision else frame

    def apply_frame(self, frame: Frame, prepared: PreparedFrame | None = None) -> None:
        """Show the next frame of the region.

        Args:
            frame: The frame. The last one has ``usage``.
            prepared: What ``prepare`` has returned for it. None: the last frame is prepared now, and a draft when it is
                displayed.

        Raises:
            UnusableText: See ``prepare``.
            PageFailed: See ``prepare``; also if the region has failed meanwhile.
        """
        if self.state == "failed":
            raise PageFailed(_("A part of the page could not be written."))
        if prepared is None and frame.usage is not None:
            prepared = self.prepare(frame)
        self.state = "writing" if frame.usage is None else "written"
        if prepared is None:
            self._set_frame(frame)
            return
        self._set_frame(prepared.frame)
        self._formatted, self._formatted_of = prepared.formatted, prepared.frame
        self.repairs += prepared.repairs

    def prepare(self, frame: Frame) -> PreparedFrame:
        """Format a frame, and check it if it is the last one. It is not shown yet.

        It may run in another thread, as long as the region is not formatted elsewhere meanwhile.

        Raises:
            UnusableText: If the finished text does not fit the schema and cannot be repaired, or only repeats itself.
            CopiedExample: If a first attempt copies the prompt's example.
            PageFailed: If the finished text is empty or the format rejects it.
        """
        if frame.usage is None:
            return PreparedFrame(frame, self._format(frame))
        repairs: list[str] = []
        text = self._trimmed_text(frame)
        removed = _REMOVED.get(frame.usage.reason, "")
        if removed:
            repairs.append(f"{removed} removed")
        elif text.strip() != frame.text.strip():
            repairs.append("cut off incomplete end")
        copied: Sequence[str] = ()
        if self.canvas.schema is not None:
            repaired = self._repair(self.canvas.schema, text)
            text, copied = repaired.text, repaired.copied
            repairs += [*repaired.repairs, *(f"{place}: copied from the example" for place in copied)]
        if removed and self.format.prose and not has_content(text.removeprefix(self.prompt.opening)):
            raise UnusableText(_("The model wrote no usable text."))
        if self._revision is None and not text.removeprefix(self.prompt.opening).strip("… \n"):
            raise PageFailed(_("The model wrote nothing. Try again: another seed often helps."))
        final = replace(frame, text=text, unsettled=(), fixed=len(text))
        prepared = PreparedFrame(final, self._format(final), repairs)
        if copied and not self._retried:
            self._copy = prepared
            raise CopiedExample(f"{', '.join(copied)}: copied from the example.")
        return prepared

    def final_text(self, frame: Frame) -> str:
        """Return the text of the last frame as it will be stored.

        Raises:
            SchemaMismatch: If it does not fit the schema and cannot be repaired.
        """
        text = self._trimmed_text(frame)
        return text if self.canvas.schema is None else self._repair(self.canvas.schema, text).text

    def _repair(self, schema: type[Any], text: str) -> RepairResult:
        """Return the value that a text is meant to be.

        Raises:
            SchemaMismatch: If it does not fit the schema and cannot be repaired.
        """
        examples = self.prompt.examples if self._revision is None else ()  # those of a revision have the old text
        return repair(schema, text, self.assumed, sample_texts(example.answer for example in examples))

    def _trimmed_text(self, frame: Frame) -> str:
        """Return the text of the last frame without an incomplete end. A revision trims its parts itself."""
        if self._revision is not None:
            return frame.text
        return self.format.finalize(frame.text, frame.usage.reason if frame.usage else "end")

    def retry(self, error: UnusableText) -> bool:
        """Prepare a second attempt, with another seed. Return False if this was the second one.

        Args:
            error: Why the first attempt failed. It is recorded in ``repairs``.
        """
        if self._retried:
            return False
        self._retried = True
        self.repairs = [f"generated again: {error}"]
        self._set_frame(Frame(text=""))
        return True

    def use_copy(self) -> bool:
        """Show the first attempt, which copied the prompt's example, because the second one has failed.

        Returns:
            False if the first attempt was no such copy, or the region has ended.
        """
        if self._copy is None or self.state in {"written", "failed"}:
            return False
        self.repairs.append("the second attempt failed")
        self.apply_frame(self._copy.frame, self._copy)
        return True

    def _set_frame(self, frame: Frame) -> None:
        self.frame = frame
        self.renumber()

    def renumber(self) -> None:
        """Give the current frame a new number, so that subscribers receive it again."""
        self.number = frame_numbers.next(self.number)

    # -- state --------------------------------------------------------------------------------------------

    def restore(self, stored: StoredCanvas) -> None:
        """Show a stored text, and count as written.

        Raises:
            PageFailed: If the text does not fit any more, because the schema has changed.
        """
        usage = Usage(
            tokens=stored.tokens,
            prompt_tokens=0,
            cached_tokens=0,
            steps=stored.steps,
            canvases=stored.canvases,
            seconds=stored.seconds,
            queued_seconds=0.0,
            reason=_reason(stored.reason),
            seed=stored.seed,
        )
        before = self.frame
        self.frame = Frame(stored.text, fixed=len(stored.text), usage=usage)
        self.number = 1
        self.repairs = [stored.repairs] if stored.repairs else []
        try:
            self.formatted()
        except PageFailed:
            self.frame, self.number = before, 0
            raise
        self.state = "written"
        self._restored = stored
        self._revision = None

    def roll_back(self, stored: StoredCanvas) -> None:
        """Show a stored text again, in place of a change that has failed.

        Raises:
            PageFailed: See ``restore``.
        """
        number = self.number
        try:
            self.restore(stored)
        finally:
            self.number = max(self.number, number)  # subscribers may have seen later frames
            self.renumber()

    def show(self, prepared: PreparedFrame | Frame, state: RegionState, number: int) -> None:
        """Show an unfinished frame that another process has generated, under the same number."""
        if isinstance(prepared, PreparedFrame):
            self._formatted, self._formatted_of = prepared.formatted, prepared.frame
        self.frame = prepared.frame if isinstance(prepared, PreparedFrame) else prepared
        self.state, self.number = state, number

    def fail(self) -> None:
        """Mark the region as failed."""
        self.state = "failed"
        self.renumber()

    def abort(self, state: RegionState) -> None:
        """Leave an unfinished region as it is, in this state. Does nothing if it is written or has failed."""
        if self.state not in {"written", "failed"}:
            self.state = state
            self.renumber()

    def reset(self) -> None:
        """Discard the text of an unfinished region."""
        if self.state != "written":
            self.state = "waiting"
            if self.number:
                self._set_frame(Frame(text=""))

    # -- results ------------------------------------------------------------------------------------------

    def formatted(self) -> FormattedFrame:
        """Return the latest frame as HTML.

        Raises:
            PageFailed: If the text is finished and the format rejects it.
        """
        if self._formatted_of is not self.frame:
            self._formatted, self._formatted_of = self._format(self.frame), self.frame
        return self._formatted

    def _format(self, frame: Frame) -> FormattedFrame:
        if not frame.done and self.format.prose:
            # The end of what the engine has fixed may still be cut back to a complete sentence.
            frame = replace(frame, fixed=min(frame.fixed, settled_text(frame.text[: frame.fixed])))
        started = time.thread_time()
        formatted = self._directions.add(self._formatter.format(frame))
        self.format_seconds = time.thread_time() - started
        return formatted

    def region(self) -> Region:
        """Return the region as templates see it."""
        # With a schema the fields exist before the first word: templates may use them.
        formatted = self.formatted() if self.frame.text or self.canvas.schema else FormattedFrame(Markup(""))
        return Region(
            name=self.name,
            state=self.state,
            number=self.number,
            html=formatted.html,
            text=self.frame.text,
            value=formatted.value,
            settled=self.frame.done or not self.frame.unsettled,
            lines=self._lines,
        )

    def region_at(self, frame: Frame) -> Region:
        """Return the region as templates saw it at an earlier frame.

        Raises:
            PageFailed: If the format cannot render the frame.
        """
        earlier = RegionJob(self.name, self.canvas, self.prompt, self._linker, 1)
        earlier.state = "written" if frame.done else "writing"
        earlier._set_frame(frame)
        return earlier.region()

    def links(self, linker: Linker) -> list[Link]:
        """Return the links of the finished text as it is rendered, with the sentences around them, and their gists."""
        gists = {linker.key_for(title): gist for title, gist in reversed(self._gists.items())}
        links = find_anchors(str(self.formatted().html), linker.root_path)
        return [replace(link, key=linker.stored_key(link.key), gist=gists.get(link.key, "")) for link in links]

    def search_text(self) -> str:
        """Return the finished text as plain text on one line, for search and snippets."""
        formatted = self.formatted()
        if formatted.search_text is not None:
            return formatted.search_text
        return " ".join(html_to_text(str(formatted.html)).split())

    def to_stored(self) -> StoredCanvas:
        """Return the finished text for the store.

        Raises:
            ValueError: If it is not finished.
        """
        usage = self.frame.usage
        if usage is None or self.state != "written":
            raise ValueError(f"The region {self.name!r} is not finished.")
        schema, fact = self.canvas.schema.__name__ if self.canvas.schema else "", self.canvas.fact
        if self._restored is not None:
            return replace(self._restored, schema=schema, fact=fact)
        return StoredCanvas(
            name=self.name,
            format=self.format.name,
            prompt=prompt_text(self.prompt, self.canvas.images),
            text=self.frame.text,
            seed=usage.seed,
            tokens=usage.tokens,
            steps=usage.steps,
            canvases=usage.canvases,
            seconds=round(usage.seconds, 3),
            reason=usage.reason,
            schema=schema,
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
    """Return a finished page for the store.

    Raises:
        ValueError: If a region is not finished.
    """
    links: dict[str, Link] = {}
    for region_job in region_jobs.values():
        for link in region_job.links(linker):
            links.setdefault(link.key, link)
    return PageWrite(
        key=key,
        title=title,
        text=" ".join(
            region_job.search_text() for region_job in region_jobs.values() if region_job.canvas.format != "typed"
        ),
        prompt_hash=prompt_hash(region_jobs),
        provenance=provenance,
        canvases=tuple(region_job.to_stored() for region_job in region_jobs.values()),
        links=tuple(links.values()),
        change=change,
    )


def prompt_text(prompt: Prompt, images: Sequence[Upload | bytes] = ()) -> str:
    """Return a prompt as JSON, for its record and its hash. Images are represented by their key or SHA-256.

    Args:
        prompt: The prompt.
        images: The images of its canvas, which are read when the request is sent.
    """
    document: dict[str, Any] = asdict(prompt)
    document["images"] = [
        image.key if isinstance(image, Upload) else hashlib.sha256(image).hexdigest()
        for image in (*prompt.images, *images)
    ]
    return json.dumps(document, ensure_ascii=False, sort_keys=True)


def prompt_hash(region_jobs: Mapping[str, RegionJob]) -> str:
    """Return one hash of all prompts of a page."""
    digest = hashlib.sha256()
    for name, region_job in region_jobs.items():
        digest.update(f"{name}\0{prompt_text(region_job.prompt, region_job.canvas.images)}\0".encode())
    return digest.hexdigest()


def _reason(reason: str) -> Any:
    return reason if reason in get_args(StopReason) else "end"


def estimate_lines(tokens: int) -> int:
    """Estimate the number of lines of a region, so that its placeholder has about its height.

    A token is about four characters of English, a comfortable line has about 72, and texts use about three quarters of
    their tokens.

    Args:
        tokens: The largest number of tokens that the region may have.
    """
    return max(2, min(40, round(tokens * 3 / 72)))
