"""The content of the developer panel: a page, its canvases, and the last request for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from markupsafe import Markup

from unwritten_engine import About, Frame, Usage

from ..core.errors import UnwrittenError
from ..core.tracebacks import ErrorReport, error_reports
from ..core.tracing import Trace
from ..generation.page_job import PageJob
from ..generation.region_job import RegionJob
from ..storage.records import StoredCanvas, StoredPage
from ..web.site import Site
from .recordings import Recording, RegionRecording

Rows: TypeAlias = list[tuple[str, str]]
"""Rows of a table: names and values."""

_ENDINGS: Mapping[str, str] = {
    "end": "its own end",
    "length": "its budget",
    "stop": "a stop string",
    "repetition": "a repetition",
    "echo": "an echo of its prompt",
}


@dataclass(frozen=True, slots=True)
class PanelFrame:
    """One frame in the panel.

    Attributes:
        number: Its index among the recorded frames.
        count: The number of recorded frames.
        label: A description: "step 3 of at most 32" or "settled".
        html: The frame as the page showed it.
        text: The text as the model wrote it.
        unsettled: The share of it that may still change, from 0 to 1.
    """

    number: int
    count: int
    label: str
    html: Markup
    text: str
    unsettled: float


@dataclass(frozen=True, slots=True)
class CanvasPanel:
    """One canvas in the panel.

    Attributes:
        name: Its name.
        state: The state of its region.
        format: The name of its format.
        prompt: The parts of its prompt.
        settings: Seed, budget, options and the like.
        figures: Steps, times and speeds.
        frame: The frame to show. None if there is none.
        errors: Why it failed.
    """

    name: str
    state: str
    format: str
    prompt: Rows
    settings: Rows
    figures: Rows
    frame: PanelFrame | None = None
    errors: list[ErrorReport] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Panel:
    """The panel of one page.

    Attributes:
        key: The page's key.
        is_active: True if the page is being generated.
        recorded: True if its frames are recorded.
        page: The state and provenance of the page.
        engine: The engine's description of itself.
        canvases: Its canvases.
        trace: The trace of the last request for it.
    """

    key: str
    is_active: bool
    recorded: bool
    page: Rows
    engine: Rows
    canvases: list[CanvasPanel]
    trace: Trace | None


def build_panel(
    site: Site, recording: Recording | None, trace: Trace | None, key: str, frame_numbers: Mapping[str, str]
) -> Panel:
    """Return the panel of a page.

    Args:
        site: The app's components.
        recording: The recording of its last job.
        trace: The trace of the last request for it.
        key: The page's key.
        frame_numbers: Indexes of frames to show, by canvas. Of the other canvases the latest frame is shown.
    """
    stored = site.store.get(key)
    canvases: list[CanvasPanel] = []
    if recording:
        canvases = [
            _recorded_canvas(site, recording, region, frame_numbers.get(name, ""))
            for name, region in recording.regions.items()
        ]
    elif stored:
        canvases = [_stored_canvas(canvas) for canvas in stored.canvases.values()]
    return Panel(
        key=key,
        is_active=recording is not None and not recording.job.finished.is_set(),
        recorded=recording is not None,
        page=_page_rows(site, stored, recording, trace),
        engine=_engine_rows(site.engine.about),
        canvases=canvases,
        trace=trace,
    )


def _page_rows(site: Site, stored: StoredPage | None, recording: Recording | None, trace: Trace | None) -> Rows:
    state = recording.job.state if recording else "written" if stored else "not written"
    rows: Rows = [("state", state)]
    if stored:
        rows += [
            ("version", f"{stored.version} of {stored.versions}"),
            ("written", f"{stored.written_at:%d %B %Y, %H:%M:%S} UTC by {stored.provenance.model}"),
        ]
    if trace:
        rows += [("this request", trace.cache or "not a generated page"), ("ETag", trace.etag or "none")]
    rows.append(("database version", str(site.store.data_version())))
    if recording:
        rejected = recording.job.linker.rejected.items()
        rows += [("no link", f"[[{title}]]: {reason}") for title, reason in rejected]
        rows.append(("seconds", f"{recording.elapsed:.2f}, of which {recording.queued_seconds or 0:.2f} queued"))
    return rows


def _engine_rows(about: About) -> Rows:
    names = ("instruct", "drafts", "schemas", "images", "edits", "markup")
    abilities = [name for name in names if getattr(about.abilities, name)]
    has_quantization = about.quantization in about.model
    return [
        ("engine", about.engine),
        ("model", about.model if has_quantization else f"{about.model} ({about.quantization})"),
        ("device", about.device),
        ("context", f"{about.context} tokens, canvases of {about.canvas_length}, {about.parallel} in parallel"),
        ("abilities", ", ".join(abilities) or "plain text"),
        ("reasons", " ".join(about.reasons)),
    ]


# -- canvases ---------------------------------------------------------------------------------------------


def _recorded_canvas(site: Site, recording: Recording, region: RegionRecording, number: str) -> CanvasPanel:
    """Return a canvas whose job is recorded. ``number`` is the index of the frame to show, as in the URL."""
    region_job = recording.job.regions[region.name]
    request, frames = region.request, region.frames
    usage = region.last.usage if region.last else region_job.frame.usage
    seed = str(usage.seed) if usage else str(request.seed) if request.seed is not None else "chosen by the engine"
    settings = [
        ("format", region_job.format.name),
        ("seed", seed),
        ("budget", f"{request.budget(site.engine.about.canvas_length)} tokens in {request.canvases} canvas(es)"),
        ("priority", request.priority.name.lower()),
        *(("stop", repr(stop)) for stop in request.stop),
        *((name, repr(value)) for name, value in request.options.items()),
    ]
    if request.schema is not None:
        settings.append(("schema", json.dumps(request.schema, ensure_ascii=False)))
    if region_job.assumed and region_job.assumed.bounds:
        settings.append(("assumed bounds", "; ".join(region_job.assumed.bounds)))
    if region_job.repairs:
        settings.append(("repaired", "; ".join(region_job.repairs)))
    if not frames and region_job.state == "written":
        settings.append(("from", "an earlier job; it was not generated again"))
    return CanvasPanel(
        name=region.name,
        state=region_job.state,
        format=region_job.format.name,
        prompt=_prompt_rows(asdict(region_job.prompt)),
        settings=settings,
        figures=_figures(region, usage),
        frame=_frame(site, recording.job, region_job, region, number),
        errors=error_reports(region.error) if region.error else [],
    )


def _stored_canvas(canvas: StoredCanvas) -> CanvasPanel:
    """Return a canvas of which only the stored result is known."""
    try:
        prompt = _prompt_rows(json.loads(canvas.prompt))
    except (ValueError, AttributeError, TypeError, KeyError):  # stored by another version of the framework
        prompt = [("prompt", canvas.prompt)]
    speed = canvas.steps / canvas.seconds if canvas.seconds else 0.0
    settings = [("format", canvas.format), ("seed", str(canvas.seed))]
    if canvas.repairs:
        settings.append(("repaired", canvas.repairs))
    return CanvasPanel(
        name=canvas.name,
        state="written",
        format=canvas.format,
        prompt=prompt,
        settings=settings,
        figures=[
            ("steps", f"{canvas.steps} at {speed:.1f} a second"),
            ("tokens", f"{canvas.tokens} in {canvas.seconds:.2f} s"),
            ("canvases", str(canvas.canvases)),
            ("ended by", _ENDINGS.get(canvas.reason, canvas.reason)),
        ],
    )


def _prompt_rows(prompt: Mapping[str, Any]) -> Rows:
    """Return the parts of a prompt, from the most stable to the least. Empty parts are left out."""
    examples = "\n\n".join(f"=== {example['ask']}\n{example['answer']}" for example in prompt.get("examples", []))
    parts = [
        ("system", str(prompt.get("system", ""))),
        ("examples", examples),
        ("facts", "\n".join(f"- {fact}" for fact in prompt.get("facts", []))),
        ("ask", str(prompt.get("ask", ""))),
        ("opening", str(prompt.get("opening", ""))),
    ]
    return [(name, text) for name, text in parts if text]


def _figures(region: RegionRecording, usage: Usage | None) -> Rows:
    last = region.last
    figures: Rows = []
    if region.first_words is not None:
        figures.append(("first words", f"{region.first_words:.2f} s"))
    if region.frames:
        is_thinned = len(region.frames) < region.num_frames
        figures.append(("frames", f"{region.num_frames}" + (f", {len(region.frames)} recorded" if is_thinned else "")))
    if usage:
        figures += [
            ("steps", f"{usage.steps} at {usage.steps / usage.seconds if usage.seconds else 0:.1f} a second"),
            ("tokens", f"{usage.tokens} at {usage.tokens_per_second:.1f} a second"),
            ("prompt", f"{usage.prompt_tokens} tokens, {usage.cached_tokens} of them cached"),
            ("canvases", str(usage.canvases)),
            ("work", f"{usage.seconds:.2f} s, {usage.queued_seconds:.2f} s in the engine's queue"),
            ("ended by", _ENDINGS[usage.reason]),
        ]
    elif last is not None and last.step:
        figures.append(("step", f"{last.step} of {last.steps}"))
    return figures


# -- frames -----------------------------------------------------------------------------------------------


def _frame(site: Site, job: PageJob, region_job: RegionJob, region: RegionRecording, number: str) -> PanelFrame | None:
    count = len(region.frames)
    if not count:
        return None
    index = min(int(number), count - 1) if number.isdecimal() else count - 1
    recorded = region.frames[index]
    frame = recorded.frame
    return PanelFrame(
        number=index,
        count=count,
        label=f"{_label(frame)}, {recorded.seconds:.2f} s",
        html=_render(site, job, region_job, frame),
        text=frame.text,
        unsettled=round(sum(end - start for start, end in frame.unsettled) / (len(frame.text) or 1), 2),
    )


def _label(frame: Frame) -> str:
    if frame.done:
        return "settled"
    canvas = f"canvas {frame.canvas + 1} of {frame.canvases}, " if frame.canvases > 1 else ""
    return f"{canvas}step {frame.step}" + (f" of at most {frame.steps}" if frame.steps else "")


def _render(site: Site, job: PageJob, region_job: RegionJob, frame: Frame) -> Markup:
    """Render a region as it was at an earlier frame. If it cannot be rendered, return the error."""
    try:
        region = region_job.region_at(frame)
        return Markup(site.job_renderer.current_shell(job).render_region(region, job.view()))
    except UnwrittenError as error:
        return Markup('<p class="region-error">{}</p>').format(error)
