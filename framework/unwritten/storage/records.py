"""TODO."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from ..formats.links import Link

ChangeKind: TypeAlias = Literal["written", "rewritten", "asked", "by hand", "restored", "amended"]
"""How a version came about: the model wrote it, wrote the same again, or changed it as it was asked; a visitor changed
it by hand, or brought an old one back; or regions were added to it."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a version changed, and how.

    Attributes:
        means: by which means.
        note: what was asked, in words; "" if nothing was.
        base: the version that it was made from; None if there was none.
        regions: the regions that were changed; empty for the whole page.
    """

    kind: ChangeKind = "written"
    note: str = ""
    base: int | None = None
    regions: tuple[str, ...] = ()


WRITTEN = Change()
"""The model wrote the page."""


UNOPENED = -1.0
"""In place of seconds: the page was written ahead, and nobody has opened it yet."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a page comes from.

    Attributes:
        model: the model's name.
        engine: the engine's name.
        seed: the seed of its first canvas.
        tokens: tokens written, over all canvases.
        steps: steps taken, over all canvases.
        canvases: canvases written.
        seconds: from the start of the writing to its end.
        reason: "end" if every canvas came to its own end, else why the first one did not.
        ahead: for a page that was written before anybody asked for it, how many seconds before; ``UNOPENED`` if nobody
            has opened it yet; None for all others.
    """

    model: str
    engine: str
    seed: int
    tokens: int
    steps: int
    canvases: int
    seconds: float
    reason: str
    ahead: float | None = None

    @property
    def waited(self) -> str:
        """How long it was there before its first reader came, in words; "" if nobody has come, or it was not ahead."""
        if self.ahead is None or self.ahead < 0:
            return ""
        for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
            if self.ahead >= 2 * size:
                return f"{self.ahead / size:.0f} {unit}"
        return f"{self.ahead:.0f} s"

    @property
    def tokens_per_second(self) -> float:
        """Tokens per second over the whole page; 0 if no time was measured."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class PageSummary:
    """A written page in a list.

    Attributes:
        key: its canonical URL.
        title: its title.
        snippet: the beginning of its text, or, for a search, the part that was found; plain text.
        written_at: when its current version was written, in UTC.
        version: the number of its current version.
    """

    key: str
    title: str
    snippet: str
    written_at: datetime
    version: int


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a page: its number, when it was written, its provenance, and what it changed."""

    number: int
    written_at: datetime
    provenance: Provenance
    change: Change = WRITTEN

    @property
    def model(self) -> str:
        """The model that wrote it."""
        return self.provenance.model


@dataclass(frozen=True, slots=True)
class StoredCanvas:
    """A finished canvas: its text, its prompt as it was sent, and what it took.

    Attributes:
        shape: the name of its shape, of which the text is a value as JSON; "" for none.
        fact: whether that value is a fact of the world.
        repairs: what had to be repaired in it, in words; "" for nothing.
    """

    name: str
    format: str
    prompt: str
    text: str
    seed: int
    tokens: int
    steps: int
    canvases: int
    seconds: float
    reason: str
    schema: str = ""
    fact: bool = False
    repairs: str = ""


@dataclass(frozen=True, slots=True)
class StoredPage:
    """A version of a page, whole.

    Attributes:
        versions: the number of the newest version.
    """

    key: str
    title: str
    version: int
    versions: int
    written_at: datetime
    provenance: Provenance
    canvases: dict[str, StoredCanvas]
    change: Change = WRITTEN


@dataclass(frozen=True, slots=True)
class PageWrite:
    """A finished page, ready to be kept.

    Attributes:
        text: its words, for search.
        links: where it leads.
        change: what it changes, and how. If it names a base, the page must still be that version.
        amends: whether all that was kept of it is carried over, so that it is no new version, but more of the same.
    """

    key: str
    title: str
    text: str
    prompt_hash: str
    provenance: Provenance
    canvases: tuple[StoredCanvas, ...]
    links: tuple[Link, ...]
    change: Change = WRITTEN
    amends: bool = False
