"""Edits: a written page is changed, by hand, as it was asked, by the same prompt again, or back to what it was.

Each change becomes the page's next version, made from the newest one. If it comes to nothing, nothing has changed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from ..core.errors import BadEdit, EditConflict, PageFailed
from ..formats.schema import adapter, parse_value
from ..generation.page_job import PageJob
from ..generation.region_job import RegionJob, page_to_store
from ..generation.revisions import editable_spans, plan_revision, plan_rewrite
from ..routing.routes import PageRequest
from ..storage.records import WRITTEN, Change, Provenance, StoredCanvas, StoredPage
from ..web.site import Site

_RECORDED = """
    SELECT c.prompt FROM canvases c JOIN versions v ON v.id = c.version JOIN pages p ON p.id = v.page
    WHERE p.key = ? AND c.name = ? AND v.kind IN ('written', 'rewritten', 'amended')
        AND (v.regions = '[]' OR EXISTS (SELECT 1 FROM json_each(v.regions) WHERE value = c.name))
    ORDER BY c.seed = ? DESC, v.number DESC LIMIT 1
"""


def may_edit(site: Site) -> bool:
    """True if visitors may change pages.

    The setting ``auto`` allows it while only this machine can reach the app: on the open web anyone could rewrite
    everything.
    """
    setting = site.settings.edits
    return bool(setting == "on" or (setting == "auto" and not site.exposure.is_public))


class Editor:
    """Changes pages of one app.

    Args:
        site: The app's components.
    """

    def __init__(self, site: Site) -> None:
        self._site = site

    async def by_hand(
        self, page_request: PageRequest, kept: StoredPage, region: str, text: str, note: str = ""
    ) -> StoredPage:
        """Put a visitor's own text in the place of a region. It is drawn as a text of the model is.

        Args:
            click: the page.
            kept: its newest version.
            region: which one.
            text: the text; of a shape, its JSON.
            note: what the visitor says about it.

        Raises:
            BadEdit: if the region's format does not accept the text, or a part of the page is not written.
            Denied: if the author's check does not let the text through.
            PageMoved: if the page has moved on meanwhile.
            StoreError: it was not kept.
        """
        old, region_jobs = kept.canvases[region], self._region_jobs(page_request, kept)
        shape = page_request.page.canvases[region].schema
        try:
            if shape is not None:
                text = adapter(shape).dump_json(parse_value(shape, text), by_alias=True).decode()
            region_jobs[region].restore(_own(old, text))
        except PageFailed as error:
            raise BadEdit(f"This text cannot stand here. {error}") from error
        await self._site.policies.allow_text(page_request.key, region, text)
        return await self._keep(page_request, kept, region_jobs, Change("by hand", note, kept.version, (region,)))

    async def ask(
        self,
        page_request: PageRequest,
        kept: StoredPage,
        region: str,
        ask: str,
        keep: Sequence[int] = (),
        only: str = "",
    ) -> PageJob:
        """Have a region changed as a visitor asks for it.

        Args:
            click: the page.
            kept: its newest version.
            region: which one.
            ask: what is to change, in free words.
            keep: sentences that stay, see ``revisions.pieces_of``.
            only: words outside of which all stays.

        Raises:
            BadEdit: if it cannot be done so.
            RequestRefused: if the engine cannot fulfil it.
            PageMoved: if somebody else has begun to write the page meanwhile.
            Busy, OverBudget, Denied: see ``Serving.begin``.
        """
        region_jobs = self._site.starter.region_jobs(
            page_request, self._site.resolver.linker(page_request), kept.canvases
        )
        region_job, old = region_jobs[region], kept.canvases[region].text
        typed = region_job.canvas.schema is not None
        if typed and (keep or only):
            raise BadEdit("A record is changed as a whole. Ask without marking anything, or change it by hand.")
        about = self._site.engine.about
        abilities = replace(about.abilities, edits=about.abilities.edits and not typed)
        free = editable_spans(old, keep, only) if keep or only.strip() else ()
        prose = region_job.format.prose
        region_job.revise(plan_revision(old, ask, region_job.prompt, abilities=abilities, prose=prose, free=free))
        self._site.engine.check(region_job.request())
        return await self._begin(page_request, kept, region_jobs, Change("asked", ask, kept.version, (region,)))

    async def again(
        self, page_request: PageRequest, kept: StoredPage | None, region: str = "", seed: int | None = None
    ) -> PageJob:
        """Write a region, or the page, by the same prompt again.

        Args:
            click: the page.
            kept: its newest version; None if it is not written.
            region: which one; "" for the whole page.
            seed: makes it repeatable. The facts are then those that went with this seed before, or with the latest
                writing.

        Raises:
            RequestRefused: if the engine cannot fulfil it.
            PageMoved: if somebody else has begun to write the page meanwhile.
            Busy, OverBudget, Denied: see ``Serving.begin``.
        """
        finished = kept.canvases if kept else {}
        region_jobs = self._site.starter.region_jobs(
            page_request, self._site.resolver.linker(page_request), finished if region else {}
        )
        for name in [region] if region else list(region_jobs):
            region_job, prompt = region_jobs[name], region_jobs[name].prompt
            if seed is not None:
                prompt = replace(prompt, facts=self._facts(page_request.key, name, seed, prompt.facts))
            old = finished[name].text if name in finished else ""
            region_job.revise(plan_rewrite(old, prompt, prose=region_job.format.prose), seed)
            self._site.engine.check(region_job.request())
        change = Change("rewritten", "", kept.version, (region,) if region else ()) if kept else WRITTEN
        return await self._begin(page_request, kept, region_jobs, change)

    async def _begin(
        self, page_request: PageRequest, kept: StoredPage | None, region_jobs: dict[str, RegionJob], change: Change
    ) -> PageJob:
        job = await self._site.starter.start(page_request, region_jobs=region_jobs, change=change, before=kept)
        if job.regions is not region_jobs:  # while the author's check was asked
            raise EditConflict(f"The page {page_request.title!r} is being written by somebody else.")
        return job

    async def restore(self, page_request: PageRequest, kept: StoredPage, version: int) -> StoredPage:
        """Bring an old version back, as the newest. Regions that do not fit the page any more stay as they are now.

        Raises:
            BadEdit: if there is no such version, or nothing of it fits or differs.
            PageMoved: if the page has moved on meanwhile.
            StoreError: it was not kept.
        """
        old = self._site.store.get(page_request.key, version)
        if old is None:
            raise BadEdit(f"The page {kept.title!r} has no version {version}.")
        region_jobs = self._region_jobs(page_request, kept)
        changed = []
        for name, region_job in region_jobs.items():
            before = old.canvases.get(name)
            if before is None or before.format != region_job.format.name or before.text == kept.canvases[name].text:
                continue
            try:
                region_job.restore(before)
                changed.append(name)
            except PageFailed:
                region_job.restore(kept.canvases[name])
        if not changed:
            raise BadEdit(f"Version {version} says the same as the page does now, as far as it still fits it.")
        regions = () if len(changed) == len(region_jobs) else tuple(changed)
        change = Change("restored", f"version {version}", kept.version, regions)
        return await self._keep(page_request, kept, region_jobs, change, old.provenance)

    def _region_jobs(self, page_request: PageRequest, kept: StoredPage) -> dict[str, RegionJob]:
        """The regions of a page that is written."""
        linker = self._site.resolver.linker(page_request)
        region_jobs = self._site.starter.region_jobs(page_request, linker, kept.canvases, remember=False)
        missing = [name for name, region_job in region_jobs.items() if region_job.state != "written"]
        if missing:
            raise BadEdit(f"A part of this page, {missing[0]!r}, is not written yet. Open the page first.")
        return region_jobs

    async def _keep(
        self,
        page_request: PageRequest,
        kept: StoredPage,
        region_jobs: dict[str, RegionJob],
        change: Change,
        provenance: Provenance | None = None,
    ) -> StoredPage:
        p = kept.provenance
        provenance = provenance or Provenance(p.model, p.engine, p.seed, 0, 0, 0, 0.0, "end")
        linker = self._site.resolver.linker(page_request)
        now = await self._site.store.save(
            page_to_store(page_request.key, page_request.title, region_jobs, linker, provenance, change)
        )
        job = PageJob(page_request.key, page_request.page, page_request.title, region_jobs, linker, change=change)
        job.is_kept(now)
        self._site.live_pages.prepare(job)
        self._site.updates.on_start(job)
        for name in change.regions or region_jobs:
            region_jobs[name].count()  # who looks has not seen these
        job.notify()
        return now

    def _facts(self, key: str, name: str, seed: int, today: tuple[str, ...]) -> tuple[str, ...]:
        """What was known when a region was written with this seed, or the last time; the page may know more by now."""
        rows = self._site.store.database.read(_RECORDED, (key, name, seed))
        recorded = json.loads(rows[0][0]) if rows else {}
        return tuple(recorded.get("facts", today))


def _own(old: StoredCanvas, text: str) -> StoredCanvas:
    """A visitor's text in the place of a canvas."""
    return replace(old, text=text, seed=0, tokens=0, steps=0, canvases=0, seconds=0.0, reason="end", repairs="")
