"""Texts and values for the author's own code: ``app.generate`` and ``app.stream``.

Each is a job in the queue of the pages, with one region and without a page: it waits, yields to clicks, is checked,
repaired and charged as a page is, and nothing is stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypedDict

from markupsafe import Markup
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from unwritten_engine import About, Example, Priority
from unwritten_engine.errors import suggestion

from ..core.errors import BadPage, Busy, TimedOut
from ..core.localization import gettext_lazy as _
from ..formats.base import Format
from ..formats.links import Linker
from ..formats.page import Canvas, Page
from ..routing.audience import current_connection
from ..routing.prompts import build_prompt
from ..security.client_address import client_id
from ..storage.transactions import no_table_access, without_write_lock
from .budgets import Budgets
from .hooks import Policies, PromptCheck
from .job_queue import JobQueue
from .metrics import Metrics
from .page_job import PageJob, Subscriber
from .prompt_builder import derives_examples
from .region_job import RegionJob
from .schema_checker import SchemaChecker, assumed_schema

REGION = "text"
"""The name of the region, for ``allow_prompt`` and ``allow_text``."""

CLIENT_CHECK_SECONDS = 0.25
"""Seconds between two checks whether the client has left, while the model writes nothing."""

CANCEL_SECONDS = 0.05
"""Seconds in which a streaming response, which notices this itself, may cancel the task before it fails."""


class CanvasOptions(TypedDict, total=False):
    """The arguments of ``Canvas`` that ``app.generate`` and ``app.stream`` take too; see there."""

    canvases: int
    tokens: int | None
    examples: Sequence[Example]
    opening: str
    stop: Sequence[str]
    seed: int | None
    options: Mapping[str, Any]


class TextJob(PageJob):
    """The job of one text for the author's code.

    Attributes:
        error: Why it has failed. None if it has not, or if it took too long.
    """

    is_page = False

    def __init__(self, key: str, page: Page, region_job: RegionJob, linker: Linker, scope: Scope | None) -> None:
        super().__init__(
            key,
            page,
            "",
            {REGION: region_job},
            linker,
            Priority.PREFETCH if scope is None else Priority.CLICK,
            "" if scope is None else client_id(scope),
        )
        self.is_attended = scope is not None
        self.region_job = region_job
        self.error: Exception | None = None

    def fail_region(self, region_job: RegionJob, error: Exception) -> None:
        """Keep the error, to raise it where the author waits."""
        self.error = error
        super().fail_region(region_job, error)


class TextGenerator:
    """Generates texts and values for the author's code, for one app.

    Args:
        world: What holds for everything in the app. It leads every prompt.
        about: The engine.
        jobs: The queue.
        schemas: Checks that the engine supports a schema.
        budgets: Charged if a visitor waits.
        policies: The author's policies.
        metrics: Counts refusals.
        linker: Decides where links in texts lead.
        is_disconnected: True if the client of a request has disconnected.
    """

    def __init__(
        self,
        *,
        world: str,
        about: About,
        jobs: JobQueue,
        schemas: SchemaChecker,
        budgets: Budgets,
        policies: Policies,
        metrics: Metrics,
        linker: Linker,
        is_disconnected: Callable[[Scope], bool],
    ) -> None:
        self._world = world
        self._about = about
        self._jobs = jobs
        self._schemas = schemas
        self._budgets = budgets
        self._policies = policies
        self._metrics = metrics
        self._linker = linker
        self._is_disconnected = is_disconnected
        self._numbers = itertools.count(1)

    async def generate(
        self, prompt: str, schema: type[Any] | None, format: str | Format | None, options: CanvasOptions
    ) -> Any:
        """Return a text, or an instance of the schema. See ``App.generate``."""
        canvas, scope = _canvas(prompt, schema, format, options), current_connection.get()
        async with without_write_lock(), self._job(canvas, scope) as (job, subscriber):
            while not job.finished.is_set():
                await self._wait(subscriber, scope)
            return _result(job)

    async def stream(
        self, prompt: str, schema: type[Any] | None, format: str | Format | None, options: CanvasOptions
    ) -> AsyncGenerator[Any, None]:
        """Yield the text so far, or the value so far, and the finished one last. See ``App.stream``."""
        canvas, scope = _canvas(prompt, schema, format, options), current_connection.get()
        # An action or a hook holds its transaction again in each iteration of its loop: it may use tables there, and
        # after a ``break``, which does not close this generator at once.
        async with contextlib.AsyncExitStack() as stack:
            async with without_write_lock():
                job, subscriber = await stack.enter_async_context(self._job(canvas, scope))
            number = 0
            while True:
                async with without_write_lock():
                    while not job.finished.is_set() and not _is_updated(job, number):
                        await self._wait(subscriber, scope)
                if job.finished.is_set():
                    yield _result(job)
                    return
                number = job.region_job.number
                yield _value(job)

    @contextlib.asynccontextmanager
    async def _job(self, canvas: Canvas, scope: Scope | None) -> AsyncIterator[tuple[TextJob, Subscriber]]:
        """Start a job, and stop it at the end of the context unless it has finished."""
        subscriber = Subscriber()
        with no_table_access():  # the task of the job lives on its own
            job = await self._start(canvas, scope)
        job.subscribe(subscriber)
        try:
            yield job, subscriber
        finally:
            with no_table_access():
                self._jobs.stop(job)

    async def _start(self, canvas: Canvas, scope: Scope | None) -> TextJob:
        """Submit the job of a canvas.

        Raises:
            Busy, OverBudget, Denied, BadSchema: See ``App.generate``.
        """
        self._schemas.check_canvas(f"The text {canvas.prompt[:60]!r}", canvas)
        prompt = build_prompt(world=self._world, canvas=canvas, subject="", with_examples=derives_examples(self._about))
        client = "" if scope is None else client_id(scope)
        with self._metrics.refusals():
            await self._policies.allow_prompt(PromptCheck("", "", client, {REGION: prompt}))
        assumed = assumed_schema(canvas, self._about)
        region_job = RegionJob(REGION, canvas, prompt, self._linker, self._about.canvas_length, assumed)
        key = f"app.generate, number {next(self._numbers)}"  # no page has it: it does not begin with a slash
        job = TextJob(key, Page(text=canvas), region_job, self._linker, scope)
        with self._metrics.refusals(), self._jobs.reserve(job.priority, stores=False):
            if scope is not None:
                await self._budgets.spend(client, scope=scope)
            self._jobs.submit(job)
        return job

    async def _wait(self, subscriber: Subscriber, scope: Scope | None) -> None:
        """Wait until the job has changed, or it is time to look again.

        Raises:
            ClientDisconnect: If the client for whose request the text is generated has left.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if scope is None else CLIENT_CHECK_SECONDS):
                await subscriber.changed.wait()
        subscriber.changed.clear()
        if scope is not None and self._is_disconnected(scope):
            await asyncio.sleep(CANCEL_SECONDS)
            raise ClientDisconnect


class FormattedText(str):
    """A generated text in a format such as "markdown". Templates print its HTML, which is sanitized.

    Attributes:
        html: The text as safe HTML.
    """

    html: Markup

    def __html__(self) -> str:
        return self.html


def _canvas(prompt: str, schema: type[Any] | None, format: str | Format | None, options: CanvasOptions) -> Canvas:
    """Return the canvas of a text. Raise ``BadPage`` if there cannot be one, and ``TypeError`` for unknown options."""
    unknown = sorted(options.keys() - CanvasOptions.__annotations__.keys())
    if unknown:
        raise TypeError(f"There is no argument {unknown[0]!r}.{suggestion(unknown[0], CanvasOptions.__annotations__)}")
    if not isinstance(prompt, str) or not prompt.strip():
        raise BadPage(f"The prompt must be a string that says what to write, but it is {prompt!r}.")
    if schema is not None and format is not None:
        raise BadPage(
            f"The text {prompt[:60]!r} has schema= and format=. A schema is generated as a value: leave out format=."
        )
    return Canvas(prompt, format or ("typed" if schema else "text"), schema=schema, **options)


def _is_updated(job: TextJob, number: int) -> bool:
    """True if there is a text to show that is newer than the frame with this number."""
    region_job = job.region_job
    return region_job.state == "writing" and region_job.number > number and bool(region_job.frame.text.strip())


def _value(job: TextJob) -> Any:
    """Return the text so far, or the value so far."""
    region_job = job.region_job
    text, format = region_job.frame.text.strip(), region_job.format
    if region_job.canvas.schema is not None:
        return region_job.formatted().value
    if format.name == "text" or format.uses_iframe:
        return text
    formatted = FormattedText(text)
    formatted.html = region_job.formatted().html
    return formatted


def _result(job: TextJob) -> Any:
    """Return the finished text or value, or raise what the job has failed with."""
    if job.state == "written":
        return _value(job)
    if job.error is not None:
        raise job.error
    if job.state == "stopped":
        raise Busy(job.message or _("The text was stopped before it was finished."), 5)
    raise TimedOut(_("The text was not finished in time. The setting time_limit is the limit in seconds."))
