"""Regions: the parts of a page as its template sees them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from markupsafe import Markup

from ..storage.records import WRITTEN, Change, Provenance

RegionState: TypeAlias = Literal["waiting", "writing", "written", "stopped", "failed"]


PageState: TypeAlias = Literal["queued", "writing", "written", "stopped", "failed", "unwritten"]


@dataclass(frozen=True, slots=True)
class Region:
    """A canvas at one moment. In a template ``{{ lead }}`` prints its HTML.

    Attributes:
        name: the canvas's name.
        state: waiting, writing, written, stopped or failed.
        number: the number of the frame, rising; 0 before the first.
        html: safe HTML.
        text: the text as the model wrote it.
        value: for a shape, what has arrived of it; its fields are attributes of the region too.
        settled: whether nothing in it is expected to change.
        lines: a guess at how many lines it will have, for the placeholder.
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
        # Markup and not str: what formats a region into other Markup must not escape it again.
        return self.html if self.html or self.state != "waiting" else Markup(skeleton(self.lines))

    def __str__(self) -> str:
        return self.__html__()

    def __bool__(self) -> bool:
        return bool(self.text)

    def __getattr__(self, name: str) -> Any:
        # Reached for names that are not attributes: the fields of the shape. Before the first word there is
        # no value yet, and every field of a shape is simply absent.
        if name.startswith("__") or self.value is None:
            raise AttributeError(name)
        return getattr(self.value, name)


@dataclass(frozen=True, slots=True)
class PageView:
    """The page as its template sees it, as ``page``.

    Attributes:
        key: its canonical URL.
        title: its title.
        state: queued, writing, written, stopped, failed, or unwritten.
        version: the number of the version shown, counted from 1; None until it is kept.
        versions: how many versions there are.
        written_at: when that version was written, in UTC; None until it is kept.
        kept: whether it comes from the store; otherwise it is being written, or was written just now.
        provenance: by which model and at which cost; None until it is written.
        message: a sentence for people, if there is something to say.
        change: what this version changed, and how.
        first: whether this is the first reader of a page that was written ahead.
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

    @property
    def is_old(self) -> bool:
        """Whether a newer version exists."""
        return self.version is not None and self.version < self.versions


def estimate_lines(tokens: int) -> int:
    """A guess at the lines of a finished region of so many tokens, so that its placeholder has about its height.

    A token is about four characters of English, a comfortable line has about 72, and texts use about three
    quarters of their budget.
    """
    return max(2, min(40, round(tokens * 3 / 72)))


def skeleton(lines: int) -> str:
    """A placeholder of so many lines. It is decoration, and hidden from screen readers."""
    return f'<div class="skeleton" aria-hidden="true">{"<i></i>" * lines}</div>'
