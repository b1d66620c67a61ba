"""Launching: from a click to a page that is being written, if it may be.

Every piece of writing begins here, whoever asks for it: a click, a form, an edit, or nobody yet. What it takes is made
sure of in one place: that the engine can be held to the page's shapes, that the author allows it, that there is room,
and that the visitor has budget left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from unwritten_engine import About, Engine, EngineError, Priority, Prompt, Request

from ..core.errors import BadSchema, Denied, PageFailed
from ..core.tracing import step
from ..formats.links import Linker
from ..formats.page import Canvas, Page
from ..formats.schema import schema_of
from ..rendering.renderer import Renderer
from ..rendering.templates import Shell
from ..routing.resolver import PageResolver
from ..routing.routes import PLAIN, PageRequest
from ..storage.pages import PageStore
from ..storage.records import WRITTEN, Change, StoredCanvas, StoredPage
from ..storage.values import ValueStore
from .budgets import Budgets
from .hooks import Policies, PromptCheck
from .job_queue import JobQueue
from .metrics import Metrics
from .page_job import PageJob
from .region_job import RegionJob

_SHARE_AHEAD = 0.5
"""Of a visitor's budgets that may be spent on pages that they have not asked for."""


class JobStarter:
    """Begins to write pages.

    Args:
        clicks: knows the prompts of a page, and where its links lead.
        views: draws the shell.
        store: knows what is there of a page.
        about: the engine that writes.
        generations: the queue.
        shapes: knows which shapes the engine can be held to.
        values: is told of every shape.
        budgets: how much a visitor may have written.
        hooks: the author's own say in what is written.
        metrics: counts what was refused.

    Attributes:
        later: pages that are not up to the state of the app yet, with the regions that are to be written again when
            what is being written of them is over.
    """

    def __init__(
        self,
        *,
        clicks: PageResolver,
        views: Renderer,
        store: PageStore,
        about: About,
        generations: JobQueue,
        shapes: SchemaChecker,
        values: ValueStore,
        budgets: Budgets,
        hooks: Policies,
        metrics: Metrics,
    ) -> None:
        self._clicks = clicks
        self._views = views
        self._store = store
        self._about = about
        self._generations = generations
        self._shapes = shapes
        self._values = values
        self._budgets = budgets
        self._hooks = hooks
        self._metrics = metrics
        self.pending_regions: dict[str, set[str]] = {}
        if hooks.text is not None:
            generations.check = self._check_text

    async def start(
        self,
        click: PageRequest,
        *,
        searched: bool = False,
        priority: Priority = Priority.CLICK,
        writings: dict[str, RegionJob] | None = None,
        change: Change = WRITTEN,
        before: StoredPage | None = None,
    ) -> PageJob:
        """Start to write a page, if it may be written, or join who has. Regions that are there already, kept or left
        over, are not written again.

        Args:
            click: who asks for it, and is charged.
            searched: whether no page offered it: it was asked for by a search box or a button.
            priority: whether somebody waits for it.
            writings: its regions, some of them finished; None takes those that are kept or left over for finished.
            change: what is changed of a page that is there, and how.
            before: that page; it stays if the change comes to nothing.

        Raises:
            Busy: if too many pages wait.
            OverBudget: if the visitor had as much written as they may.
            Denied: if the author's check says no.
            BadShape: if the engine cannot be held to a shape of the page.
            BadTemplate: if the page cannot be drawn.
        """
        self._shapes.check(click.route.path, click.page)
        if self._hooks.prompt is not None:
            prompts = _prompts(writings) if writings else self._clicks.prompts(click)
            asked = PromptCheck(click.key, click.title, click.visitor, prompts)
            with self._metrics.refusals():
                await self._hooks.allow_prompt(asked)
            running = self._generations.get(click.key)
            if running is not None:
                return running
        share = 1.0 if priority is Priority.CLICK else _SHARE_AHEAD
        with self._metrics.refusals():
            self._generations.admit(priority)
            self._budgets.spend(click.visitor, searched=searched, share=share)
        linker = self._clicks.linker(click)
        amends = False
        if writings is None:
            kept = self._store.get(click.key)
            finished = {**self._generations.partial_results(click.key), **(kept.canvases if kept else {})}
            writings = self.region_jobs(click, linker, finished)
            carried = [writings[name] for name in (kept.canvases if kept else ()) if name in writings]
            amends = bool(carried) and all(writing.state == "written" for writing in carried)
        of = (click.key, click.page, click.title, writings, linker, priority, click.visitor)
        generation = PageJob(*of, change=change, before=before)
        generation.is_amendment = amends
        with step("drawing the shell"):
            generation.shell = self.shell(generation)
        self._generations.add(generation)
        return generation

    async def _check_text(self, key: str, region: str, text: str) -> None:
        try:
            await self._hooks.allow_text(key, region, text)
        except Denied:
            self._metrics.refused["text"] += 1
            raise

    def update(self, generation: PageJob, click: PageRequest) -> None:
        """State has changed since a page was begun: what is new on it is written along, or as soon as this is over."""
        page = click.page
        if page == generation.page:
            return
        new = page.canvases.keys() - generation.regions.keys()
        more: dict[str, RegionJob] = {}
        if new:
            kept = self._store.get(click.key)
            writings = self.region_jobs(click, generation.linker, kept.canvases if kept else {})
            more = {name: writing for name, writing in writings.items() if name in new}
        if not generation.add_regions(page, more):
            self.pending_regions.setdefault(click.key, set())
        generation.shell = self.shell(generation)
        generation.notify()

    def region_jobs(
        self, click: PageRequest, linker: Linker, finished: Mapping[str, StoredCanvas], *, remember: bool = True
    ) -> dict[str, RegionJob]:
        """The regions of a page, of which those that are finished need not be written.

        Args:
            click: which page.
            linker: decides where its links lead.
            finished: what is there.
            remember: whether the prompts say what is known of the subject; nothing is going to be written otherwise.
        """
        prompts = self._clicks.prompts(click, remember=remember)
        length = self._about.canvas_length
        writings: dict[str, RegionJob] = {}
        for name, canvas in click.page.canvases.items():
            if canvas.schema is not None:
                self._values.register(canvas.schema)
            writings[name] = RegionJob(name, canvas, prompts[name], linker, length)
            before = finished.get(name)
            if before is not None and before.format == writings[name].format.name:
                with contextlib.suppress(PageFailed):  # its shape has changed since: it is written anew
                    writings[name].restore(before)
        return writings

    def shell(self, generation: PageJob) -> Shell:
        """The shell of a page that is being written, with whatever is there by now."""
        key = generation.key
        refresh = key + ("&" if "?" in key else "?") + urlencode({PLAIN: "1"})
        return self._views.generation(generation, refresh=refresh)


def _prompts(writings: Mapping[str, RegionJob]) -> dict[str, Prompt]:
    """What would be asked of the engine for the regions that are not finished."""
    return {name: writing.prompt for name, writing in writings.items() if writing.state != "written"}


class SchemaChecker:
    """Holds the shapes of pages up to the engine, each once, and makes them known.

    Args:
        engine: would be held to them.
        values: learns them.
    """

    def __init__(self, engine: Engine, values: ValueStore) -> None:
        self._engine = engine
        self._values = values
        self._held: set[tuple[Any, ...]] = set()

    def check(self, path: str, page: Page) -> None:
        """Make sure that the engine can be held to every shape of a page.

        Args:
            path: the pattern of the page, for the message.
            page: what its function asked for.

        Raises:
            BadShape: if not; the message names the page, the canvas, the place in the shape, and what to do.
        """
        for name, canvas in page.canvases.items():
            shape = canvas.schema
            asked = (shape, canvas.canvases, canvas.tokens, canvas.opening, repr(canvas.options))
            if shape is None or asked in self._held:
                continue
            try:
                self._engine.check(_request(canvas))
            except EngineError as error:
                about = self._engine.about
                reason = str(error).replace("The shape ", f"The shape {shape.__name__} ", 1)
                raise BadSchema(
                    f"The canvas {name!r} of the page {path!r} cannot be written by {about.model} ({about.engine}). "
                    f"{reason}"
                ) from None
            self._held.add(asked)
            self._values.register(shape)


def _request(canvas: Canvas) -> Request:
    """What a canvas asks for, with a prompt of no importance."""
    return Request(
        prompt=Prompt("A", opening=canvas.opening),
        canvases=canvas.canvases,
        max_tokens=canvas.tokens,
        schema=schema_of(canvas.schema) if canvas.schema else None,
        options=canvas.options,
    )
