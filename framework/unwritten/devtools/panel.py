"""The developer panel's content: what is known about a page, its canvases and the request that brought it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from unwritten_engine import About, Frame, Usage

from ..core.errors import UnwrittenError
from ..core.tracing import Trace
from ..generation.page_job import PageJob
from ..generation.region_job import RegionJob
from ..storage.records import StoredCanvas
from ..web.site import Site
from ..web.tracebacks import ErrorReport, error_reports
from .recordings import Recording, RegionRecording


@dataclass(frozen=True, slots=True)
class PanelFrame:
    """One frame in the panel.

    Attributes:
        number: its place among the remembered frames, from 0.
        count: how many are remembered.
        label: which frame it is, in words: "step 3 of 32", "settled".
        html: drawn as the page drew it.
        text: as the model wrote it.
        unsettled: the share of it that may still change, from 0 to 1.
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
        name: its name.
        state: of its region.
        format: how its text is read.
        prompt: the parts of the prompt as they were sent, by name.
        settings: seed, budget, options and the like, by name.
        figures: steps, times and speeds, by name.
        frame: what is shown of it; None if there is nothing.
        errors: why it failed.
    """

    name: str
    state: str
    format: str
    prompt: list[tuple[str, str]]
    settings: list[tuple[str, str]]
    figures: list[tuple[str, str]]
    frame: PanelFrame | None = None
    errors: list[ErrorReport] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Panel:
    """The panel of one page.

    Attributes:
        key: the page's key.
        going_on: whether it is being written.
        recorded: whether its frames are remembered.
        page: what is known about it, by name.
        engine: what is known about the engine, by name.
        canvases: its canvases.
        trace: what the last request for it did.
    """

    key: str
    going_on: bool
    recorded: bool
    page: list[tuple[str, str]]
    engine: list[tuple[str, str]]
    canvases: list[CanvasPanel]
    trace: Trace | None


def panel_of(
    site: Site, recording: Recording | None, trace: Trace | None, key: str, places: Mapping[str, str]
) -> Panel:
    """The panel of a page.

    Args:
        serving: the app's pages.
        recording: its frames, if they are remembered.
        trace: what the last request for it did, if that is known.
        key: the page's key.
        places: which frame of a canvas to show, by its number from 0; the last one of all others.
    """
    kept = site.store.get(key)
    job = recording.job if recording else None
    page: list[tuple[str, str]] = [("state", job.state if job else "written" if kept else "not written")]
    if kept:
        page += [
            ("version", f"{kept.version} of {kept.versions}"),
            ("written", f"{kept.written_at:%d %B %Y, %H:%M:%S} UTC by {kept.provenance.model}"),
        ]
    if trace:
        page += [("this request", trace.cache or "no page of a model"), ("ETag", trace.etag or "none")]
    page.append(("database stamp", str(site.store.data_version())))
    if recording:
        page.append(("seconds", f"{recording.so_far:.2f}, of which {recording.queued or 0:.2f} queued"))
    canvases: list[CanvasPanel] = []
    if recording:
        for name, strip in recording.strips.items():
            region_job = recording.job.regions[name]
            before = kept.canvases.get(name) if kept and not strip.moments else None
            canvases.append(_canvas(site, recording, region_job, strip, places.get(name, ""), before))
    elif kept:
        canvases = [_kept_canvas(canvas) for canvas in kept.canvases.values()]
    return Panel(
        key=key,
        going_on=job is not None and not job.finished.is_set(),
        recorded=recording is not None,
        page=page,
        engine=_engine(site.engine.about),
        canvases=canvases,
        trace=trace,
    )


def _engine(about: About) -> list[tuple[str, str]]:
    able = [
        name for name in ("instruct", "drafts", "schemas", "images", "edits", "markup") if getattr(about.abilities, name)
    ]
    return [
        ("engine", about.engine),
        ("model", f"{about.model} ({about.quantization})" if about.quantization not in about.model else about.model),
        ("device", about.device),
        ("context", f"{about.context} tokens, canvases of {about.canvas_length}, {about.parallel} at once"),
        ("can do", ", ".join(able) or "plain text"),
        ("why", " ".join(about.reasons)),
    ]


def _canvas(
    site: Site,
    recording: Recording,
    region_job: RegionJob,
    strip: RegionRecording,
    place: str,
    before: StoredCanvas | None,
) -> CanvasPanel:
    request = strip.request
    usage = strip.last.usage if strip.last else region_job.frame.usage
    settings = [
        ("format", region_job.format.name),
        (
            "seed",
            str(usage.seed) if usage else str(request.seed) if request.seed is not None else "drawn by the engine",
        ),
        ("budget", f"{request.budget(site.engine.about.canvas_length)} tokens in {request.canvases} canvas(es)"),
        ("priority", request.priority.name.lower()),
        *(("stop", repr(stop)) for stop in request.stop),
        *((name, repr(value)) for name, value in request.options.items()),
    ]
    if request.schema is not None:
        settings.append(("shape", json.dumps(request.schema, ensure_ascii=False)))
    if region_job.repairs:
        settings.append(("repaired", "; ".join(region_job.repairs)))
    if not strip.moments and region_job.state == "written":
        settings.append(("from", "an earlier attempt; it was not written again"))
    return CanvasPanel(
        name=region_job.name,
        state=region_job.state,
        format=region_job.format.name,
        prompt=_prompt(_as_dict(region_job)),
        settings=settings,
        figures=_figures(strip, usage),
        frame=_shown(site, recording, region_job, strip, place),
        errors=error_reports(strip.error) if strip.error else [],
    )


def _as_dict(region_job: RegionJob) -> dict[str, Any]:
    prompt = region_job.prompt
    return {
        "system": prompt.system,
        "examples": [{"ask": example.ask, "answer": example.answer} for example in prompt.examples],
        "facts": list(prompt.facts),
        "ask": prompt.ask,
        "opening": prompt.opening,
    }


def _prompt(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A prompt part by part, from the most stable to the least; parts without words are left out."""
    examples = "\n\n".join(f"=== {example['ask']}\n{example['answer']}" for example in document.get("examples", []))
    parts = [
        ("system", str(document.get("system", ""))),
        ("examples", examples),
        ("facts", "\n".join(f"- {fact}" for fact in document.get("facts", []))),
        ("ask", str(document.get("ask", ""))),
        ("opening", str(document.get("opening", ""))),
    ]
    return [(name, text) for name, text in parts if text]


def _figures(strip: RegionRecording, usage: Usage | None) -> list[tuple[str, str]]:
    last = strip.last
    figures: list[tuple[str, str]] = []
    if strip.first_words is not None:
        figures.append(("first words", f"{strip.first_words:.2f} s"))
    if strip.moments:
        kept = f", {len(strip.moments)} remembered" if len(strip.moments) < strip.seen else ""
        figures.append(("frames", f"{strip.seen}{kept}"))
    if usage:
        figures += [
            ("steps", f"{usage.steps} at {usage.steps / usage.seconds if usage.seconds else 0:.1f} a second"),
            ("tokens", f"{usage.tokens} at {usage.tokens_per_second:.1f} a second"),
            ("prompt", f"{usage.prompt_tokens} tokens, {usage.cached_tokens} of them from the cache"),
            ("canvases", str(usage.canvases)),
            ("work", f"{usage.seconds:.2f} s, {usage.queued_seconds:.2f} s in the engine's queue"),
            ("ended by", {"end": "its own end", "length": "its budget", "stop": "a stop string"}[usage.reason]),
        ]
    elif last is not None and last.step:
        figures.append(("step", f"{last.step} of {last.steps}"))
    return figures


def _shown(
    site: Site, recording: Recording, region_job: RegionJob, strip: RegionRecording, place: str
) -> PanelFrame | None:
    if not strip.moments:
        return None
    count = len(strip.moments)
    number = min(max(int(place), 0), count - 1) if place.isdecimal() else count - 1
    moment = strip.moments[number]
    frame = moment.frame
    unsettled = sum(end - start for start, end in frame.unsettled) / (len(frame.text) or 1)
    return PanelFrame(
        number=number,
        count=count,
        label=f"{_label(frame)}, {moment.seconds:.2f} s",
        html=_render_frame(site, recording.job, region_job, frame),
        text=frame.text,
        unsettled=round(unsettled, 2),
    )


def _label(frame: Frame) -> str:
    if frame.done:
        return "settled"
    canvas = f"canvas {frame.canvas + 1} of {frame.canvases}, " if frame.canvases > 1 else ""
    return f"{canvas}step {frame.step}" + (f" of at most {frame.steps}" if frame.steps else "")


def _kept_canvas(canvas: StoredCanvas) -> CanvasPanel:
    """A canvas of which only the end is known."""
    try:
        prompt = _prompt(json.loads(canvas.prompt))
    except (ValueError, UnwrittenError, AttributeError, TypeError, KeyError):
        prompt = [("prompt", canvas.prompt)]
    speed = canvas.steps / canvas.seconds if canvas.seconds else 0.0
    return CanvasPanel(
        name=canvas.name,
        state="written",
        format=canvas.format,
        prompt=prompt,
        settings=[
            ("format", canvas.format),
            ("seed", str(canvas.seed)),
            *([("repaired", canvas.repairs)] if canvas.repairs else []),
        ],
        figures=[
            ("steps", f"{canvas.steps} at {speed:.1f} a second"),
            ("tokens", f"{canvas.tokens} in {canvas.seconds:.2f} s"),
            ("canvases", str(canvas.canvases)),
            ("ended by", canvas.reason),
        ],
    )


def _render_frame(site: Site, job: PageJob, region_job: RegionJob, frame: Frame) -> Markup:
    """Render a region as it was at an earlier frame. If it cannot be rendered, return the error."""
    try:
        region = region_job.region_at(frame)
        return Markup(site.live_pages.current_shell(job).render_region(region, job.view()))
    except UnwrittenError as error:
        return Markup('<p class="region-error">{}</p>').format(error)
