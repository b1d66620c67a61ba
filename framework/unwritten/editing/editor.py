"""Edits: a written page is changed, by hand, as it was asked, by the same prompt again, or back to what it was.

Each change becomes the page's next version, made from the newest one. If it comes to nothing, nothing has changed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from ..core.errors import BadEdit, EditConflict, PageFailed
from ..core.settings import Settings
from ..formats.schema import adapter, parse_value
from ..generation.page_job import PageJob
from ..generation.region_job import RegionJob, page_to_store
from ..generation.revisions import editable_spans, plan_revision, plan_rewrite
from ..routing.routes import PageRequest
from ..security.signed_links import SignedLinks
from ..storage.records import WRITTEN, Change, Provenance, StoredCanvas, StoredPage
from ..web.live_updates import LiveUpdates
from ..web.page_handler import PageHandler

_RECORDED = """
    SELECT c.prompt FROM canvases c JOIN versions v ON v.id = c.version JOIN pages p ON p.id = v.page
    WHERE p.key = ? AND c.name = ? AND v.means IN ('written', 'rewritten', 'amended')
        AND (v.regions = '[]' OR EXISTS (SELECT 1 FROM json_each(v.regions) WHERE value = c.name))
    ORDER BY c.seed = ? DESC, v.number DESC LIMIT 1
"""


def may_edit(settings: Settings, gates: SignedLinks) -> bool:
    """Whether visitors may change what is written.

    With ``auto`` they may while only this machine can reach the app: on the open web anybody could rewrite anything.
    """
    return bool(settings.edits == "on" or (settings.edits == "auto" and not gates.beyond))


class Editor:
    """Changes pages of one app.

    Args:
        serving: its pages.
        audience: who looks at them.
    """

    def __init__(self, serving: PageHandler, audience: LiveUpdates) -> None:
        self._serving = serving
        self._audience = audience

    async def by_hand(self, click: PageRequest, kept: StoredPage, region: str, text: str, note: str = "") -> StoredPage:
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
        old, writings = kept.canvases[region], self._writings(click, kept)
        shape = click.page.canvases[region].schema
        try:
            if shape is not None:
                text = adapter(shape).dump_json(parse_value(shape, text), by_alias=True).decode()
            writings[region].restore(_own(old, text))
        except PageFailed as error:
            raise BadEdit(f"This text cannot stand here. {error}") from error
        await self._serving.policies.allow_text(click.key, region, text)
        return await self._keep(click, kept, writings, Change("by hand", note, kept.version, (region,)))

    async def ask(
        self, click: PageRequest, kept: StoredPage, region: str, ask: str, keep: Sequence[int] = (), only: str = ""
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
        writings = self._serving.starter.region_jobs(click, self._serving.resolver.linker(click), kept.canvases)
        writing, old = writings[region], kept.canvases[region].text
        typed = writing.canvas.schema is not None
        if typed and (keep or only):
            raise BadEdit("A record is changed as a whole. Ask without marking anything, or change it by hand.")
        about = self._serving.engine.about
        abilities = replace(about.abilities, edits=about.abilities.edits and not typed)
        free = editable_spans(old, keep, only) if keep or only.strip() else ()
        prose = writing.format.prose
        writing.revise(plan_revision(old, ask, writing.prompt, abilities=abilities, prose=prose, free=free))
        self._serving.engine.check(writing.request())
        return await self._begin(click, kept, writings, Change("asked", ask, kept.version, (region,)))

    async def again(
        self, click: PageRequest, kept: StoredPage | None, region: str = "", seed: int | None = None
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
        writings = self._serving.starter.region_jobs(
            click, self._serving.resolver.linker(click), finished if region else {}
        )
        for name in [region] if region else list(writings):
            writing, prompt = writings[name], writings[name].prompt
            if seed is not None:
                prompt = replace(prompt, facts=self._facts(click.key, name, seed, prompt.facts))
            old = finished[name].text if name in finished else ""
            writing.revise(plan_rewrite(old, prompt, prose=writing.format.prose), seed)
            self._serving.engine.check(writing.request())
        change = Change("rewritten", "", kept.version, (region,) if region else ()) if kept else WRITTEN
        return await self._begin(click, kept, writings, change)

    async def _begin(
        self, click: PageRequest, kept: StoredPage | None, writings: dict[str, RegionJob], change: Change
    ) -> PageJob:
        generation = await self._serving.starter.start(click, writings=writings, change=change, before=kept)
        if generation.regions is not writings:  # while the author's check was asked
            raise EditConflict(f"The page {click.title!r} is being written by somebody else.")
        return generation

    async def restore(self, click: PageRequest, kept: StoredPage, version: int) -> StoredPage:
        """Bring an old version back, as the newest. Regions that do not fit the page any more stay as they are now.

        Raises:
            BadEdit: if there is no such version, or nothing of it fits or differs.
            PageMoved: if the page has moved on meanwhile.
            StoreError: it was not kept.
        """
        old = self._serving.store.get(click.key, version)
        if old is None:
            raise BadEdit(f"The page {kept.title!r} has no version {version}.")
        writings = self._writings(click, kept)
        changed = []
        for name, writing in writings.items():
            before = old.canvases.get(name)
            if before is None or before.format != writing.format.name or before.text == kept.canvases[name].text:
                continue
            try:
                writing.restore(before)
                changed.append(name)
            except PageFailed:
                writing.restore(kept.canvases[name])
        if not changed:
            raise BadEdit(f"Version {version} says the same as the page does now, as far as it still fits it.")
        regions = () if len(changed) == len(writings) else tuple(changed)
        change = Change("restored", f"version {version}", kept.version, regions)
        return await self._keep(click, kept, writings, change, old.provenance)

    def _writings(self, click: PageRequest, kept: StoredPage) -> dict[str, RegionJob]:
        """The regions of a page that is written."""
        linker = self._serving.resolver.linker(click)
        writings = self._serving.starter.region_jobs(click, linker, kept.canvases, remember=False)
        missing = [name for name, writing in writings.items() if writing.state != "written"]
        if missing:
            raise BadEdit(f"A part of this page, {missing[0]!r}, is not written yet. Open the page first.")
        return writings

    async def _keep(
        self,
        click: PageRequest,
        kept: StoredPage,
        writings: dict[str, RegionJob],
        change: Change,
        provenance: Provenance | None = None,
    ) -> StoredPage:
        p = kept.provenance
        provenance = provenance or Provenance(p.model, p.engine, p.seed, 0, 0, 0, 0.0, "end")
        linker = self._serving.resolver.linker(click)
        now = await self._serving.store.save(
            page_to_store(click.key, click.title, writings, linker, provenance, change)
        )
        generation = PageJob(click.key, click.page, click.title, writings, linker, change=change)
        generation.is_kept(now)
        generation.shell = self._serving.starter.shell(generation)
        self._audience.begun(generation)
        for name in change.regions or writings:
            writings[name].count()  # who looks has not seen these
        generation.notify()
        return now

    def _facts(self, key: str, name: str, seed: int, today: tuple[str, ...]) -> tuple[str, ...]:
        """What was known when a region was written with this seed, or the last time; the page may know more by now."""
        rows = self._serving.store.database.read(_RECORDED, (key, name, seed))
        recorded = json.loads(rows[0][0]) if rows else {}
        return tuple(recorded.get("facts", today))


def _own(old: StoredCanvas, text: str) -> StoredCanvas:
    """A visitor's text in the place of a canvas."""
    return replace(old, text=text, seed=0, tokens=0, steps=0, canvases=0, seconds=0.0, reason="end", repairs="")
