"""Starting jobs: from a page request to a page that is being generated, if that is allowed.

Every generation starts here: clicks, forms, edits and prefetching. The checks are made in one place: the engine
supports the page's schemas, the author's policies allow it, the queue has room, and the visitor has budget left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from unwritten_engine import About, Engine, EngineError, Priority, Prompt, Request

from ..core.errors import BadSchema, PageFailed
from ..formats.links import Linker
from ..formats.page import Canvas, Page
from ..formats.schema import schema_of
from ..routing.resolver import PageResolver
from ..routing.routes import PageRequest
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
    """Starts page jobs.

    Args:
        resolver: Builds the prompts of a page and decides where its links lead.
        store: The stored pages.
        about: The engine's capabilities.
        jobs: The queue.
        schemas: Checks that the engine supports a page's schemas.
        values: Learns every schema.
        budgets: How much a visitor may have generated.
        policies: The author's checks of prompts and texts.
        metrics: Counts refusals.
        validate: Called with a job before it is queued; raises if the page cannot be shown.

    Attributes:
        pending_regions: Pages that are out of date, with the regions to generate again once their current job ends.
    """

    def __init__(
        self,
        *,
        resolver: PageResolver,
        store: PageStore,
        about: About,
        jobs: JobQueue,
        schemas: SchemaChecker,
        values: ValueStore,
        budgets: Budgets,
        policies: Policies,
        metrics: Metrics,
        validate: Callable[[PageJob], None],
    ) -> None:
        self._resolver = resolver
        self._store = store
        self._about = about
        self._jobs = jobs
        self._schemas = schemas
        self._values = values
        self._budgets = budgets
        self._policies = policies
        self._metrics = metrics
        self._validate = validate
        self.pending_regions: dict[str, set[str]] = {}

    async def start(
        self,
        page_request: PageRequest,
        *,
        searched: bool = False,
        priority: Priority = Priority.CLICK,
        region_jobs: dict[str, RegionJob] | None = None,
        change: Change = WRITTEN,
        before: StoredPage | None = None,
    ) -> PageJob:
        """Start generating a page, or join the job that is doing so. Finished regions are not generated again.

        Args:
            page_request: The page, and the visitor who is charged.
            searched: True if no page offered it: the visitor used a search box or a button.
            priority: Whether a visitor waits for it.
            region_jobs: Its regions, some of them finished. None: stored and left-over regions count as finished.
            change: What changes on a page that exists, and how.
            before: That page. It is kept if the change fails.

        Raises:
            Busy: If too many pages wait.
            OverBudget: If the visitor's budget is spent.
            Denied: If the author's policy denies it.
            BadSchema: If the engine does not support a schema of the page.
            BadTemplate: If the page cannot be rendered.
        """
        self._schemas.check(page_request.route.path, page_request.page)
        if self._policies.prompt is not None:
            prompts = _prompts(region_jobs) if region_jobs else self._resolver.prompts(page_request)
            asked = PromptCheck(page_request.key, page_request.title, page_request.visitor, prompts)
            with self._metrics.refusals():
                await self._policies.allow_prompt(asked)
            running = self._jobs.get(page_request.key)
            if running is not None:
                return running
        share = 1.0 if priority is Priority.CLICK else _SHARE_AHEAD
        with self._metrics.refusals():
            self._jobs.admit(priority)
            self._budgets.spend(page_request.visitor, searched=searched, share=share)
        linker = self._resolver.linker(page_request)
        amends = False
        if region_jobs is None:
            kept = self._store.get(page_request.key)
            finished = {**self._jobs.partial_results(page_request.key), **(kept.canvases if kept else {})}
            region_jobs = self.region_jobs(page_request, linker, finished)
            carried = [region_jobs[name] for name in (kept.canvases if kept else ()) if name in region_jobs]
            amends = bool(carried) and all(region_job.state == "written" for region_job in carried)
        of = (
            page_request.key,
            page_request.page,
            page_request.title,
            region_jobs,
            linker,
            priority,
            page_request.visitor,
        )
        job = PageJob(*of, change=change, before=before)
        job.is_amendment = amends
        self._validate(job)
        self._jobs.add(job)
        return job

    def update(self, job: PageJob, page_request: PageRequest) -> None:
        """Bring a running job up to the page's current state: add new regions now, or after the job has ended."""
        page = page_request.page
        if page == job.page:
            return
        new = page.canvases.keys() - job.regions.keys()
        more: dict[str, RegionJob] = {}
        if new:
            kept = self._store.get(page_request.key)
            region_jobs = self.region_jobs(page_request, job.linker, kept.canvases if kept else {})
            more = {name: region_job for name, region_job in region_jobs.items() if name in new}
        if not job.add_regions(page, more):
            self.mark_pending(page_request.key)
        self._validate(job)
        job.notify()

    def region_jobs(
        self, page_request: PageRequest, linker: Linker, finished: Mapping[str, StoredCanvas], *, remember: bool = True
    ) -> dict[str, RegionJob]:
        """Return the region jobs of a page. Those that are finished do not need an engine.

        Args:
            page_request: The page.
            linker: Decides where its links lead.
            finished: The stored canvases by name.
            remember: False if nothing will be generated, so that the prompts need no facts from memory.
        """
        prompts = self._resolver.prompts(page_request, remember=remember)
        length = self._about.canvas_length
        region_jobs: dict[str, RegionJob] = {}
        for name, canvas in page_request.page.canvases.items():
            if canvas.schema is not None:
                self._values.register(canvas.schema)
            region_jobs[name] = RegionJob(name, canvas, prompts[name], linker, length)
            before = finished.get(name)
            if before is not None and before.format == region_jobs[name].format.name:
                with contextlib.suppress(PageFailed):  # its schema has changed since: generate it again
                    region_jobs[name].restore(before)
        return region_jobs

    def mark_pending(self, key: str, regions: Iterable[str] = ()) -> None:
        """Remember that a page is out of date, and which regions to generate again when its job has ended."""
        self.pending_regions.setdefault(key, set()).update(regions)


def _prompts(region_jobs: Mapping[str, RegionJob]) -> dict[str, Prompt]:
    """Return the prompts of the regions that are not finished."""
    return {name: region_job.prompt for name, region_job in region_jobs.items() if region_job.state != "written"}


class SchemaChecker:
    """Checks once per schema that the engine supports it, and registers it for stored values.

    Args:
        engine: The engine.
        values: The store of values.
    """

    def __init__(self, engine: Engine, values: ValueStore) -> None:
        self._engine = engine
        self._values = values
        self._checked: set[tuple[Any, ...]] = set()

    def check(self, path: str, page: Page) -> None:
        """Check that the engine supports every schema of a page.

        Args:
            path: The page's pattern, for the message.
            page: The page.

        Raises:
            BadSchema: If it does not. The message names the page, the canvas, the place in the schema, and the fix.
        """
        for name, canvas in page.canvases.items():
            schema = canvas.schema
            asked = (schema, canvas.canvases, canvas.tokens, canvas.opening, repr(canvas.options))
            if schema is None or asked in self._checked:
                continue
            try:
                self._engine.check(_request(canvas))
            except EngineError as error:
                about = self._engine.about
                reason = str(error).replace("The schema ", f"The schema {schema.__name__} ", 1)
                raise BadSchema(
                    f"The canvas {name!r} of the page {path!r} cannot be written by {about.model} ({about.engine}). "
                    f"{reason}"
                ) from None
            self._checked.add(asked)
            self._values.register(schema)


def _request(canvas: Canvas) -> Request:
    """Return the engine request for a canvas, with a placeholder prompt."""
    return Request(
        prompt=Prompt("A", opening=canvas.opening),
        canvases=canvas.canvases,
        max_tokens=canvas.tokens,
        schema=schema_of(canvas.schema) if canvas.schema else None,
        options=canvas.options,
    )
