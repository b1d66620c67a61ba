"""Edits of stored pages: by hand, by an instruction for the model, by regenerating, or by restoring a version.

Every edit becomes the page's next version, based on the newest one. If it fails, the page stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from starlette.types import Scope

from unwritten_engine.text_thread import in_text_thread

from ..core.errors import BadEdit, EditConflict, PageFailed
from ..core.localization import gettext_lazy as _
from ..core.localization import join
from ..core.settings import Settings
from ..formats.schema import parse_value, type_adapter
from ..generation.page_job import PageJob
from ..generation.region_job import RegionJob, page_to_store
from ..generation.revisions import editable_spans, plan_revision, plan_rewrite
from ..routing.routes import PageRequest
from ..security.exposure import Exposure
from ..storage.records import WRITTEN, Change, Provenance, StoredCanvas, StoredPage
from ..web.site import Site

_RECORDED_PROMPT = """
    SELECT c.prompt FROM canvases c JOIN versions v ON v.id = c.version JOIN pages p ON p.id = v.page
    WHERE p.key = ? AND c.name = ? AND v.kind IN ('written', 'rewritten', 'amended', 'refreshed')
        AND (v.regions = '[]' OR replace(v.regions, ?, '') <> v.regions)
    ORDER BY c.seed = ? DESC, v.number DESC LIMIT 1
"""
"""The prompt that a region was last generated from, preferably with a given seed. ``regions`` is a list as JSON."""


def offers_edits(settings: Settings, exposure: Exposure) -> bool:
    """True if pages have edit links. They are the same for all visitors, of whom only the owner may be able to edit."""
    if settings.read_only:
        return False
    return settings.edits == "on" or (settings.edits == "auto" and exposure.is_private)


def may_edit(settings: Settings, exposure: Exposure, scope: Scope) -> bool:
    """True if a visitor may edit pages. The setting ``auto`` allows it to the owner of a private app."""
    if settings.read_only:
        return False
    return settings.edits == "on" or (settings.edits == "auto" and exposure.exempts(scope))


class Editor:
    """Edits the pages of one app. In all methods, ``stored`` is the newest version of the page."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def replace_text(
        self, page_request: PageRequest, stored: StoredPage, region: str, text: str, note: str = ""
    ) -> StoredPage:
        """Replace the text of a region by a visitor's own. It is formatted and sanitized like the model's.

        Args:
            page_request: The page.
            stored: Its newest version.
            region: The region.
            text: The new text. With a schema it is JSON.
            note: The visitor's summary of the change.

        Raises:
            BadEdit: If the format rejects the text, or a part of the page is not written.
            Denied: If the author's policy denies the text.
            EditConflict: If the page has changed meanwhile.
            StoreError: If it could not be saved.
        """
        canvas, region_jobs = stored.canvases[region], await self._stored_region_jobs(page_request, stored)
        schema = page_request.page.canvases[region].schema
        try:
            if schema is not None:
                text = type_adapter(schema).dump_json(parse_value(schema, text), by_alias=True).decode()
            await in_text_thread(region_jobs[region].restore, _with_own_text(canvas, text))
        except PageFailed as error:
            raise BadEdit(join(_("This text is not valid here."), str(error))) from error
        await self._site.policies.allow_text(page_request.key, region, text)
        change = Change("by hand", note, stored.version, (region,))
        return await self._save(page_request, stored, region_jobs, change)

    async def revise(
        self,
        page_request: PageRequest,
        stored: StoredPage,
        region: str,
        instruction: str,
        keep: Sequence[int] = (),
        only: str = "",
    ) -> PageJob:
        """Start a revision of a region by the model.

        Args:
            page_request: The page.
            stored: Its newest version.
            region: The region.
            instruction: The change, in the visitor's words.
            keep: Indexes of the sentences that stay; see ``revisions.split_sentences``.
            only: A passage outside of which all stays. Empty: all of the text may change.

        Raises:
            BadEdit: If a sentence or passage does not exist, nothing is left to change, or the region has a schema
                and a part of it should stay.
            RequestRefused: If the engine cannot do it.
            EditConflict: If another job has started meanwhile.
            Busy, OverBudget, Denied: See ``JobStarter.start``.
        """
        region_jobs = await self._region_jobs(page_request, stored.canvases)
        region_job, text = region_jobs[region], stored.canvases[region].text
        has_schema = region_job.canvas.schema is not None
        if has_schema and (keep or only):
            raise BadEdit(_("Structured data is revised as a whole: keep no part of it, or edit it by hand."))
        abilities = self._site.engine.about.abilities
        revision = plan_revision(
            text,
            instruction,
            region_job.prompt,
            abilities=replace(abilities, edits=abilities.edits and not has_schema),
            prose=region_job.format.prose,
            editable=editable_spans(text, keep, only) if keep or only.strip() else (),
        )
        region_job.revise(revision)
        self._site.engine.check(region_job.request())
        change = Change("asked", instruction, stored.version, (region,))
        return await self._start(page_request, stored, region_jobs, change)

    async def regenerate(
        self, page_request: PageRequest, stored: StoredPage | None, region: str = "", seed: int | None = None
    ) -> PageJob:
        """Start to regenerate a region, or the whole page, from the same prompt.

        Args:
            page_request: The page.
            stored: Its newest version. None if it is not stored.
            region: The region. Empty: the whole page.
            seed: For the same text again, if the engine can repeat it. The prompt then has the same facts as the last
                generation with this seed, or as the last generation of all.

        Raises:
            RequestRefused: If the engine cannot do it.
            EditConflict: If another job has started meanwhile.
            Busy, OverBudget, Denied: See ``JobStarter.start``.
        """
        canvases = stored.canvases if stored else {}
        region_jobs = await self._region_jobs(page_request, canvases if region else {})
        for name in [region] if region else list(region_jobs):
            region_job, prompt = region_jobs[name], region_jobs[name].prompt
            if seed is not None:
                prompt = replace(prompt, facts=self._recorded_facts(page_request.key, name, seed, prompt.facts))
            old = canvases[name].text if name in canvases else ""
            region_job.revise(plan_rewrite(old, prompt, prose=region_job.format.prose), seed)
            self._site.engine.check(region_job.request())
        change = Change("rewritten", "", stored.version, (region,) if region else ()) if stored else WRITTEN
        return await self._start(page_request, stored, region_jobs, change)

    async def restore(self, page_request: PageRequest, stored: StoredPage, version: int) -> StoredPage:
        """Save an old version as the newest. Regions that do not fit the page any more stay as they are.

        Raises:
            BadEdit: If there is no such version, or it changes nothing.
            EditConflict: If the page has changed meanwhile.
            StoreError: If it could not be saved.
        """
        old = self._site.store.get(page_request.key, version)
        if old is None:
            raise BadEdit(_("The page '%(title)s' has no version %(version)s.", title=stored.title, version=version))
        region_jobs = await self._stored_region_jobs(page_request, stored)
        changed = []
        for name, region_job in region_jobs.items():
            canvas = old.canvases.get(name)
            if canvas is None or canvas.format != region_job.format.name or canvas.text == stored.canvases[name].text:
                continue
            try:
                await in_text_thread(region_job.restore, canvas)
                changed.append(name)
            except PageFailed:  # the author has changed the schema since
                region_job.restore(stored.canvases[name])
        if not changed:
            raise BadEdit(_("Version %(version)s has the same text as the current version.", version=version))
        regions = () if len(changed) == len(region_jobs) else tuple(changed)
        change = Change("restored", f"version {version}", stored.version, regions)
        return await self._save(page_request, stored, region_jobs, change, old.provenance)

    # -- jobs ---------------------------------------------------------------------------------------------

    async def _region_jobs(
        self, page_request: PageRequest, canvases: Mapping[str, StoredCanvas]
    ) -> dict[str, RegionJob]:
        starter = self._site.starter
        return await starter.region_jobs(page_request, canvases, await starter.recall(page_request))

    async def _stored_region_jobs(self, page_request: PageRequest, stored: StoredPage) -> dict[str, RegionJob]:
        """Return the region jobs of a page whose canvases are all stored.

        Raises:
            BadEdit: If one is not.
        """
        region_jobs = await self._site.starter.region_jobs(page_request, stored.canvases)
        missing = [name for name, region_job in region_jobs.items() if region_job.state != "written"]
        if missing:
            raise BadEdit(
                _("The part '%(name)s' of this page is not written yet. Open the page first.", name=missing[0])
            )
        return region_jobs

    async def _start(
        self, page_request: PageRequest, stored: StoredPage | None, region_jobs: dict[str, RegionJob], change: Change
    ) -> PageJob:
        job = await self._site.starter.start(page_request, region_jobs=region_jobs, change=change, previous=stored)
        if job.regions is not region_jobs:  # another job has started while a policy was checked
            raise EditConflict(_("The page '%(title)s' is already being written.", title=page_request.title))
        return job

    async def _save(
        self,
        page_request: PageRequest,
        stored: StoredPage,
        region_jobs: dict[str, RegionJob],
        change: Change,
        provenance: Provenance | None = None,
    ) -> StoredPage:
        """Save finished regions as the next version, and show it in open tabs."""
        origin = stored.provenance
        provenance = provenance or Provenance(origin.model, origin.engine, origin.seed, 0, 0, 0, 0.0, "end")
        linker = page_request.linker
        page = await in_text_thread(
            page_to_store, page_request.key, page_request.title, region_jobs, linker, provenance, change
        )
        job = PageJob(page_request.key, page_request.page, page_request.title, region_jobs, linker, change=change)
        self._site.job_renderer.prepare(job)  # first: what fails must fail before the text is saved
        saved = await self._site.store.save(page)
        job.stored = saved
        job.finish("written", "")
        self._site.updates.on_start(job)
        for name in change.regions or region_jobs:
            region_jobs[name].renumber()  # so that tabs receive them
        job.notify()
        self._site.broker.announce("edited", key=page_request.key)
        return saved

    def _recorded_facts(self, key: str, name: str, seed: int, current: tuple[str, ...]) -> tuple[str, ...]:
        """Return the facts of the prompt that a region was generated from with this seed, or the last time.

        The memory may hold other facts by now, with which the same seed would generate another text.
        """
        rows = self._site.store.database.read(_RECORDED_PROMPT, (key, name, json.dumps(name), seed))
        prompt = json.loads(rows[0][0]) if rows else {}
        return tuple(prompt.get("facts", current))


def _with_own_text(canvas: StoredCanvas, text: str) -> StoredCanvas:
    """Return a canvas with a visitor's text, which no model generated."""
    return replace(canvas, text=text, seed=0, tokens=0, steps=0, canvases=0, seconds=0.0, reason="end", repairs="")
