"""Regions: the parts of a page, and the page itself, as templates see them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from markupsafe import Markup

from ..core.paths import url_of_key
from ..storage.records import WRITTEN, Change, Provenance

RegionState: TypeAlias = Literal["waiting", "writing", "written", "stopped", "failed"]
PageState: TypeAlias = Literal["queued", "writing", "written", "stopped", "failed", "unwritten"]


@dataclass(frozen=True, slots=True)
class Region:
    """A canvas at one moment. In a template ``{{ lead }}`` prints its HTML.

    Attributes:
        name: The canvas's name.
        state: waiting, writing, written, stopped or failed.
        number: The number of the frame. It only rises; 0 before the first frame.
        html: Safe HTML.
        text: The text as the model wrote it.
        value: With a schema, its value so far. The fields are also attributes of the region.
        settled: True if no part of it is expected to change.
        lines: The estimated number of lines, for the placeholder.
    """

    name: str
    state: RegionState = "waiting"
    number: int = 0
    html: Markup = field(default_factory=Markup)
    text: str = ""
    value: Any = None
    settled: bool = False
    lines: int = 3

    def __html__(self) -> Markup:
        # Markup, not str: a region that is formatted into other Markup must not be escaped again.
        return self.html if self.html or self.state != "waiting" else Markup(skeleton(self.lines))

    def __str__(self) -> str:
        return self.__html__()

    def __bool__(self) -> bool:
        return bool(self.text)

    def __getattr__(self, name: str) -> Any:
        # Called for names that are not attributes: the fields of the schema.
        if name.startswith("__") or self.value is None:
            raise AttributeError(name)
        return getattr(self.value, name)


@dataclass(frozen=True, slots=True)
class PageView:
    """A page as its template sees it, as ``page``.

    Attributes:
        key: The canonical URL.
        title: The title.
        state: queued, writing, written, stopped, failed, or unwritten.
        version: The number of the version that is shown, counted from 1. None until the page is stored.
        versions: The number of versions.
        written_at: When that version was written, in UTC. None until the page is stored.
        stored: True if the page comes from the store. False if it is being written, or was written just now.
        provenance: Which model wrote the page, and at what cost. None until it is written.
        message: A sentence for visitors; "" if there is nothing to say.
        change: What this version changed, and how.
        first_view: True for the first visitor of a page that was prefetched.
        lang: The page's language tag; "" if it is the app's.
        as_of: Of a page that is generated again when it is old (``fresh``), the time of its oldest such text, in UTC.
            None for others.
    """

    key: str
    title: str
    state: PageState = "unwritten"
    version: int | None = None
    versions: int = 0
    written_at: datetime | None = None
    stored: bool = False
    provenance: Provenance | None = None
    message: str = ""
    change: Change = WRITTEN
    first_view: bool = False
    lang: str = ""
    as_of: datetime | None = None

    @property
    def path(self) -> str:
        """The path and query of the page's URL: the key, without the variant."""
        return url_of_key(self.key)

    @property
    def is_old(self) -> bool:
        """True if a newer version exists."""
        return self.version is not None and self.version < self.versions


def skeleton(lines: int) -> str:
    """Return the HTML of a placeholder with this number of lines. It is hidden from screen readers."""
    return f'<div class="skeleton" aria-hidden="true">{"<i></i>" * lines}</div>'
