"""The job starter: creates the job for a page request, if the checks allow it.

Every job starts here: clicks, forms, edits and prefetches. The checks are in one place: whether the engine supports
the page's schemas, the author's policies allow it, the queue has room, and the client has budget left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from weakref import WeakValueDictionary

from unwritten_engine import About, Priority, Prompt
from unwritten_engine.text_thread import in_text_thread

from ..broker.base import Lease
from ..core.errors import BadPage, Denied, PageFailed
from ..core.localization import gettext_lazy as _
from ..core.paths import url_of_key
from ..routing import vary_rule
from ..routing.personal_values import PersonalValues
from ..routing.routes import PageRequest
from ..security.client_address import client_id
from ..security.signer import VisitorCookie
from ..storage.pages import PageStore
from ..storage.records import WRITTEN, Change, StoredCanvas, StoredPage
from ..storage.values import ValueStore
from .budgets import Budgets
from .frame_formatting import LONG_TEXT
from .freshness import fresh_canvases, freshness_of
from .hooks import Policies, PromptCheck
from .job_queue import JobQueue
from .metrics import Metrics
from .page_job import UNATTENDED_RANK, PageJob, refresh_slot
from .prompt_builder import PromptBuilder
from .region_job import RegionJob
from .schema_checker import SchemaChecker, assumed_schema
from .shared_jobs import adopt, finished_canvases

log = logging.getLogger("unwritten")

_PREFETCH_SHARE = 0.5
"""The share of a client's budgets that prefetches may use."""

_REFRESH_RANK = 4
"""The rank of refreshes among prefetches, see ``PageJob.link_rank``: visitors have the old version."""


class JobStarter:
    """Starts page jobs.

    Attributes:
        pending_regions: Pages that are out of date, with the regions to regenerate once their current job ends.
    """

    def __init__(
        self,
        *,
        prompt_builder: PromptBuilder,
        store: PageStore,
        about: About,
        jobs: JobQueue,
        schemas: SchemaChecker,
        values: ValueStore,
        budgets: Budgets,
        policies: Policies,
        metrics: Metrics,
        validate: Callable[[PageJob], None],
        visitor_cookie: VisitorCookie,
        personal_values: PersonalValues,
        is_developing: Callable[[], bool],
    ) -> None:
        self._prompt_builder = prompt_builder
        self._store = store
        self._about = about
        self._jobs = jobs
        self._schemas = schemas
        self._values = values
        self._budgets = budgets
        self._policies = policies
        self._metrics = metrics
        self._validate = validate  # raises if the page cannot be rendered
        self._visitor_cookie = visitor_cookie
        self._personal_values = personal_values
        self._is_developing = is_developing
        self.pending_regions: dict[str, set[str]] = {}
        # One request at a time decides what happens to a page.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def join(self, page_request: PageRequest, *, searched: bool, visitor: str = "") -> PageJob:
        """Return the job of a page that a visitor waits for. Start it, if the page is not being generated.

        Args:
            page_request: The page, and the client that is charged for a new job.
            searched: See ``start``.
            visitor: See ``start``.

        Raises:
            Busy, OverBudget, Denied, BadSchema, BadTemplate: See ``start``.
        """
        job = self._jobs.get(page_request.key)
        if job is None:
            job = await self.start(page_request, searched=searched, visitor=visitor)
        else:
            await self.update(job, page_request)
        self._jobs.promote(job)
        return job

    async def start(
        self,
        page_request: PageRequest,
        *,
        searched: bool = False,
        priority: Priority = Priority.CLICK,
        region_jobs: dict[str, RegionJob] | None = None,
        change: Change = WRITTEN,
        previous: StoredPage | None = None,
        visitor: str = "",
        is_attended: bool = True,
    ) -> PageJob:
        """Start generating a page, or return the job that already does. Finished regions are not regenerated.

        Args:
            page_request: The page, and the client that is charged.
            searched: True if no page linked to it: the visitor used a search box or a button.
            priority: Whether a visitor waits for the page.
            region_jobs: Its regions, some of them finished. None: stored regions and partial results are finished.
            change: What changes on a stored page, and how.
            previous: That page. It stays if the change fails.
            visitor: The visitor's identifier, who may stop the job. Empty: that of the request's cookie.
            is_attended: False if no visitor has caused it; see ``PageJob``.

        Returns:
            The job. It is another one than was asked for if the page is being generated already, by this process or
            another one: then ``region_jobs``, ``change`` and ``previous`` are not used. It is finished if the page was
            stored a moment ago.

        Raises:
            Busy: If the queue is full.
            BrokerUnavailable: If another process may be generating the page, and cannot be asked.
            OverBudget: If the client's budget is spent.
            Denied: If the author's policy denies it.
            BadSchema: If the engine does not support a schema of the page.
            BadTemplate: If the page cannot be rendered.
        """
        facts = await self._prompt_builder.recall(page_request) if region_jobs is None else []
        await self._check(page_request, region_jobs, facts)
        async with self._locks.setdefault(page_request.key, asyncio.Lock()):
            running = self._jobs.get(page_request.key)
            if running is not None:  # another request has started it meanwhile
                return running
            with self._metrics.refusals():
                lease = await self._jobs.claim(page_request.key)
            if lease is None:
                return await self._follow(page_request, priority)
            try:
                finished = await self.finished_job(page_request) if region_jobs is None else None
                if finished is not None:  # the page was stored a moment ago
                    self._validate(finished)
                    self._jobs.release(lease)
                    self._jobs.add_finished(finished)
                    return finished
                with self._metrics.refusals(), self._jobs.reserve(priority):
                    if region_jobs is None:
                        job = await self._new_job(page_request, lease, facts, priority)
                    else:
                        job = self._job(page_request, region_jobs, priority, change, previous)
                    job.visitor = visitor or self._visitor_cookie.read(page_request.request)
                    if is_attended:
                        await self._charge(page_request, searched, priority)
                    else:
                        job.is_attended, job.link_rank = False, UNATTENDED_RANK
                    self._validate(job)
                    self._jobs.submit(job, lease)
                return job
            except BaseException:
                self._jobs.release(lease)
                raise

    async def refresh(self, page_request: PageRequest, stored: StoredPage, names: Collection[str]) -> PageJob | None:
        """Start to generate stale canvases as the page's next version, in the background: see ``PageJob.is_refresh``.

        Args:
            page_request: The page, and the client that is charged.
            stored: Its current version.
            names: The stale canvases. The others keep their texts.

        Returns:
            The job. None if this or another process generates the page, or has stored a newer version meanwhile.

        Raises:
            Busy, OverBudget, Denied, BadSchema: See ``start``.
        """
        key, slot = page_request.key, refresh_slot(page_request.key)
        facts = await self._prompt_builder.recall(page_request)
        kept = {name: canvas for name, canvas in stored.canvases.items() if name not in names}
        region_jobs = await self.region_jobs(page_request, kept, facts)
        await self._check(page_request, region_jobs, facts)
        change = Change("refreshed", base=stored.version, regions=tuple(_unfinished_prompts(region_jobs)))
        async with self._locks.setdefault(slot, asyncio.Lock()):
            if self._jobs.is_active(key) or self._jobs.is_active(slot):
                return None
            with self._metrics.refusals():
                lease = await self._jobs.claim(slot)
            if lease is None:
                return None
            try:
                current = self._store.get(key)
                if current is None or current.version != stored.version:
                    self._jobs.release(lease)
                    return None
                with self._metrics.refusals(), self._jobs.reserve(Priority.PREFETCH):
                    job = self._job(page_request, region_jobs, Priority.PREFETCH, change, stored)
                    job.slot, job.link_rank = slot, _REFRESH_RANK
                    await self._charge(page_request, False, Priority.PREFETCH)
                    self._jobs.submit(job, lease)
                return job
            except BaseException:
                self._jobs.release(lease)
                raise

    async def _check(
        self, page_request: PageRequest, region_jobs: Mapping[str, RegionJob] | None, facts: Sequence[str]
    ) -> None:
        """Check that a page may be generated.

        Raises:
            BadSchema, BadPage, Denied: See ``start``.
        """
        self._schemas.check(page_request.route.path, page_request.page)
        self._check_variants(page_request.key)
        await self._check_impersonal(page_request)
        if self._policies.prompt_policy is not None:
            prompts = (
                _unfinished_prompts(region_jobs) if region_jobs else self._prompt_builder.prompts(page_request, facts)
            )
            check = PromptCheck(page_request.key, page_request.title, client_id(page_request.request.scope), prompts)
            with self._metrics.refusals():
                await self._policies.allow_prompt(check)

    async def _new_job(
        self, page_request: PageRequest, lease: Lease, facts: Sequence[str], priority: Priority
    ) -> PageJob:
        """Return a job for what is missing of a page."""
        stored = self._store.get(page_request.key)
        finished = {
            **finished_canvases(lease.partial_results),
            **self._jobs.partial_results(page_request.key),
            **(stored.canvases if stored else {}),
        }
        job = self._job(page_request, await self.region_jobs(page_request, finished, facts), priority)
        job.set_base(stored)
        return job

    async def finished_job(self, page_request: PageRequest) -> PageJob | None:
        """Return a job that has ended, with a page whose canvases are all stored. None if one is missing."""
        stored = self._store.get(page_request.key)
        if stored is None or not page_request.page.canvases.keys() <= stored.canvases.keys():
            return None
        region_jobs = await self.region_jobs(page_request, stored.canvases)
        job = self._job(page_request, region_jobs, Priority.CLICK)
        if not adopt(job, stored):
            return None
        freshness = freshness_of(page_request, stored, self._store)
        job.as_of = freshness.as_of if freshness is not None else None
        job.finish("written", "")
        return job

    async def _follow(self, page_request: PageRequest, priority: Priority) -> PageJob:
        """Show what another process generates. It is free, like joining a job of this process."""
        stored = self._store.get(page_request.key)
        region_jobs = await self.region_jobs(page_request, stored.canvases if stored else {})
        job = self._job(page_request, region_jobs, priority)
        if all(region_job.state == "written" for region_job in job.regions.values()):
            job.previous = stored  # the other process changes the page
        self._validate(job)
        await self._jobs.follow(job)
        return job

    async def _charge(self, page_request: PageRequest, searched: bool, priority: Priority) -> None:
        """Charge the client for a new job.

        Raises:
            OverBudget: If a budget is spent.
        """
        scope = page_request.request.scope
        share = 1.0 if priority is Priority.CLICK else _PREFETCH_SHARE
        await self._budgets.spend(client_id(scope), searched=searched, share=share, scope=scope)

    def _job(
        self,
        page_request: PageRequest,
        region_jobs: dict[str, RegionJob],
        priority: Priority,
        change: Change = WRITTEN,
        previous: StoredPage | None = None,
    ) -> PageJob:
        job = PageJob(
            page_request.key,
            page_request.page,
            page_request.title,
            region_jobs,
            page_request.linker,
            priority,
            client_id(page_request.request.scope),
            change=change,
            previous=previous,
        )
        job.shows_age = bool(fresh_canvases(page_request))
        return job

    async def follow(self, page_request: PageRequest) -> PageJob | None:
        """Return the job of a page that this or another process generates, and show its frames. None if there is none.

        Raises:
            BadSchema, BadTemplate, StoreError: If the page cannot be shown.
        """
        async with self._locks.setdefault(page_request.key, asyncio.Lock()):
            job = self._jobs.get(page_request.key)
            if job is None and self._jobs.is_elsewhere(page_request.key):
                job = await self._follow(page_request, Priority.PREFETCH)
            return job

    async def update(self, job: PageJob, page_request: PageRequest) -> None:
        """Update a running job to what the page function returns now.

        New regions are added to the job, or generated after it has ended.
        """
        page = page_request.page
        if page == job.page:
            return
        added = page.canvases.keys() - job.regions.keys()
        new_jobs: dict[str, RegionJob] = {}
        if added:
            facts = await self._prompt_builder.recall(page_request)
            stored = self._store.get(page_request.key)
            finished = stored.canvases if stored else {}
            region_jobs = self._new_region_jobs(replace(page_request, linker=job.linker), facts)
            new_jobs = {name: made for name, made in region_jobs.items() if name in added - job.regions.keys()}
            for name, region_job in new_jobs.items():
                _restore(region_job, finished.get(name))
        if not job.add_regions(page, new_jobs):
            self.mark_pending(page_request.key)
        self._validate(job)
        job.notify()

    async def recall(self, page_request: PageRequest) -> list[str]:
        """Return what earlier pages say about the subject of a page, for its prompts."""
        return await self._prompt_builder.recall(page_request)

    async def region_jobs(
        self, page_request: PageRequest, finished: Mapping[str, StoredCanvas], facts: Sequence[str] = ()
    ) -> dict[str, RegionJob]:
        """Return the region jobs of a page. Those of finished canvases are "written".

        Long texts are formatted in a thread. A job of the page may have started meanwhile.

        Args:
            page_request: The page.
            finished: The stored canvases by name. One that does not fit the page any more is ignored.
            facts: What earlier pages say about its subject; see ``recall``. Not needed if nothing will be generated.
        """
        region_jobs = self._new_region_jobs(page_request, facts)
        for name, region_job in region_jobs.items():
            stored = finished.get(name)
            if stored is not None and len(stored.text) >= LONG_TEXT:
                await in_text_thread(_restore, region_job, stored)
            else:
                _restore(region_job, stored)
        return region_jobs

    def _new_region_jobs(self, page_request: PageRequest, facts: Sequence[str]) -> dict[str, RegionJob]:
        prompts = self._prompt_builder.prompts(page_request, facts)
        for canvas in page_request.page.canvases.values():
            if canvas.schema is not None:
                self._values.register(canvas.schema)
        return {
            name: RegionJob(
                name,
                canvas,
                prompts[name],
                page_request.linker,
                self._about.canvas_length,
                assumed_schema(canvas, self._about),
                gists=self._prompt_builder.asks_for_gists(canvas),
            )
            for name, canvas in page_request.page.canvases.items()
        }

    def _check_variants(self, key: str) -> None:
        """Check that a page may have another variant.

        Raises:
            Denied: If it has too many already.
        """
        url = url_of_key(key)
        if url == key or self._store.exists([key]) or self._store.count_variants(url) < vary_rule.MAX_VARIANTS:
            return
        log.error(
            "%s has %d variants, which is the limit: its function given as vary=… returns too many different values.",
            url,
            vary_rule.MAX_VARIANTS,
        )
        raise Denied(_("This page has too many variants already, so that none is written for you."))

    async def _check_impersonal(self, page_request: PageRequest) -> None:
        """Check that what is stored does not depend on the visitor, because all visitors see it.

        Raises:
            BadPage: While the app is developed. Otherwise it is logged.
        """
        if not page_request.route.depends_on_visitor:
            return
        is_developing = self._is_developing()
        found = await self._personal_values.find(page_request, compare=is_developing)
        if found is None:
            return
        place, source = found
        error = BadPage(
            f"The {place} on {url_of_key(page_request.key)} depends on the visitor ({source}), but it is stored and "
            "shown to all visitors. Leave it out: a template may print it, because its blocks are rendered for each "
            "visitor. Or store one page for each value: @app.page(…, vary=…), and read the value in visit.vary."
        )
        error.function = page_request.route.function.function
        if is_developing:
            raise error
        log.error("%s", error)

    def mark_pending(self, key: str, regions: Iterable[str] = ()) -> None:
        """Mark a page as out of date, with the regions to regenerate when its job has ended."""
        self.pending_regions.setdefault(key, set()).update(regions)


def _restore(region_job: RegionJob, stored: StoredCanvas | None) -> None:
    """Let a region show its stored text, unless that does not fit any more."""
    if stored is not None and stored.format == region_job.format.name:
        with contextlib.suppress(PageFailed):  # its schema has changed since
            region_job.restore(stored)


def _unfinished_prompts(region_jobs: Mapping[str, RegionJob]) -> dict[str, Prompt]:
    return {name: region_job.prompt for name, region_job in region_jobs.items() if region_job.state != "written"}
