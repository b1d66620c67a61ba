"""The job renderer: renders a page and its regions while they are generated, each frame once for all subscribers."""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from markupsafe import Markup

from ..core.errors import UnwrittenError
from ..core.incidents import report_to_visitor
from ..core.mount import MountPoint
from ..core.paths import url_of_key
from ..core.tracing import current_trace
from ..formats.page import Page
from ..generation.page_job import PageJob
from ..rendering.document import FORM_KEY
from ..rendering.regions import RegionState
from ..rendering.renderer import Renderer
from ..rendering.templates import Shell
from ..routing.page_function import PLAIN
from ..security.signer import FORM_REUSE
from .messages import encode

log = logging.getLogger("unwritten")

_MAX_PERSONAL = 256
"""Maximum number of visitors with different values for whom the parts of one job are remembered."""


@dataclass
class _Rendered:
    """The rendered parts of a job.

    Attributes:
        page: What the page function returned, for the visitors who see these parts.
        shell: The page as it was at the start.
        num_updates: The job's ``num_updates`` at that time.
        rendered_at: That time, in seconds of the wall clock: the tokens of forms expire by that clock.
        blocks: The latest block of each region, with the number and state of its frame.
        messages: The latest message of each region, likewise.
    """

    page: Page
    shell: Shell
    num_updates: int
    rendered_at: float = field(default_factory=time.time)
    blocks: dict[str, tuple[tuple[int, RegionState], str]] = field(default_factory=dict)
    messages: dict[str, tuple[tuple[int, RegionState], str]] = field(default_factory=dict)


class JobRenderer:
    """Renders the jobs of one app. Results are remembered while the job exists."""

    def __init__(self, renderer: Renderer, mount: MountPoint) -> None:
        self._renderer = renderer
        self._mount = mount
        self._rendered: WeakKeyDictionary[PageJob, _Rendered] = WeakKeyDictionary()
        # Where the page function returns other values for other visitors, each gets blocks with their own.
        self._personal: WeakKeyDictionary[PageJob, list[_Rendered]] = WeakKeyDictionary()

    def prepare(self, job: PageJob) -> None:
        """Render the page of a job, for its first response and for its frames.

        Raises:
            BadTemplate: If the template is missing, raises, or lacks the block of a region.
        """
        trace = current_trace.get()
        with trace.step("rendering the page") if trace else nullcontext():
            self._rendered[job] = _Rendered(job.page, self.shell(job), job.num_updates)

    def _rendered_for(self, job: PageJob, page: Page | None) -> _Rendered | None:
        """Return the rendered parts for the visitors who see a page; see ``shell``."""
        common = self._rendered.get(job)
        if common is None or page is None or page is common.page or page == common.page:
            return common
        personal = self._personal.setdefault(job, [])
        found = next((rendered for rendered in personal if page is rendered.page or page == rendered.page), None)
        if found is None:
            found = _Rendered(page, self.shell(job, page), job.num_updates)
            personal.append(found)
            del personal[:-_MAX_PERSONAL]
        return found

    def shell(self, job: PageJob, page: Page | None = None, *, placeholders: bool = False) -> Shell:
        """Render a page with its regions as they are now.

        Args:
            job: The page.
            page: What the page function returned for the visitor. None: it is the same for all visitors.
            placeholders: True to put placeholders in place of regions and the colophon.
        """
        path = self._mount.prefix + url_of_key(job.key)
        refresh = None if placeholders else f"{path}{'&' if '?' in path else '?'}{PLAIN}=1"
        return self._renderer.shell(
            job.view(),
            job.page if page is None else page,
            job.region_views(),
            refresh=refresh,
            placeholders=placeholders,
        )

    def current_shell(self, job: PageJob, page: Page | None = None) -> Shell:
        """Return the page for a response. It is rendered again only if something has changed since the start."""
        rendered = self._rendered_for(job, page)
        if (
            rendered is not None
            and job.num_updates <= rendered.num_updates + 1
            and abs(time.time() - rendered.rendered_at) < FORM_REUSE
        ):
            return rendered.shell
        return self.shell(job, page)

    def block(self, job: PageJob, name: str, page: Page | None = None) -> str:
        """Return the current inner HTML of a region. If its block raises, the region fails, and shows the error."""
        region_job = job.regions[name]
        rendered = self._rendered_for(job, page)
        if rendered is None:
            return str(region_job.region())
        key = (region_job.number, region_job.state)
        known = rendered.blocks.get(name)
        if known is not None and known[0] == key:
            return known[1]
        try:
            html = rendered.shell.render_region(region_job.region(), job.view())
        except UnwrittenError as error:
            if region_job.frame.done:  # the text is complete and is stored all the same
                message = report_to_visitor(log, f"{job.key}: rendering the region {name!r}", error)
                job.publish_failure(region_job, error)
            else:
                if region_job.state != "failed":
                    job.fail_region(region_job, error)
                message = job.message
            message = self._renderer.language(job.page.lang).text(message)
            return str(Markup('<p class="region-error">{}</p>').format(message))
        rendered.blocks[name] = (key, html)
        return html

    def frame_message(self, job: PageJob, name: str, page: Page | None = None) -> str:
        """Return the message with the latest frame of a region, as JSON."""
        region_job = job.regions[name]
        html = self.block(job, name, page)  # may fail the region, which changes its number
        key = (region_job.number, region_job.state)
        rendered = self._rendered_for(job, page)
        known = rendered.messages.get(name) if rendered else None
        if known is not None and known[0] == key:
            return known[1]
        frame = region_job.frame
        text = encode(
            {
                "type": "frame",
                "page": job.key,
                "region": name,
                "frame": region_job.number,
                "state": region_job.state,
                "html": html.replace(FORM_KEY, ""),  # live.js adds keys to its forms
                "canvas": frame.canvas,
                "canvases": frame.canvases,
                "step": frame.step,
                "steps": frame.steps,
                "unsettled": round(sum(end - start for start, end in frame.unsettled) / (len(frame.text) or 1), 2),
            }
        )
        if rendered is not None:
            rendered.messages[name] = (key, text)
        return text
