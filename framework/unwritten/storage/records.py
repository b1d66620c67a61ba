"""Records: pages, versions, canvases and their provenance, as ``PageStore`` returns and takes them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from ..core.paths import url_of_key
from ..formats.links import Link

ChangeKind: TypeAlias = Literal["written", "rewritten", "asked", "by hand", "restored", "amended", "refreshed"]
"""How a version was made.

* written: the model generated the page.
* rewritten: the model generated it again from the same prompt.
* asked: the model changed it by a visitor's instruction.
* by hand: a visitor edited it.
* restored: a visitor restored an old version.
* amended: regions were added to it.
* refreshed: the model generated texts again that were older than the author allows; see ``fresh`` of pages.
"""


@dataclass(frozen=True, slots=True)
class Change:
    """What a version changed, and how.

    Attributes:
        kind: How it was made.
        note: The visitor's instruction, or summary of the change. Empty for none.
        base: The version that was changed. None: the change is not based on one.
        regions: The changed regions. Empty: the whole page.
    """

    kind: ChangeKind = "written"
    note: str = ""
    base: int | None = None
    regions: tuple[str, ...] = ()

    @property
    def restored_version(self) -> int | None:
        """The number of the version that was restored, or None."""
        number = self.note.removeprefix("version ")
        return int(number) if self.kind == "restored" and number.isdecimal() else None


WRITTEN = Change()
"""The change of a page that the model generated as a whole."""

UNOPENED = -1.0
"""``Provenance.opened_after`` of a prefetched page that no visitor has opened yet."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Which model generated a page, and at what cost.

    Attributes:
        model: The model's name.
        engine: The engine's name.
        seed: The seed of the first canvas.
        tokens: Generated tokens, over all canvases.
        steps: Denoising or decoding steps, over all canvases.
        canvases: The number of canvases that the engine filled.
        seconds: From the start of the generation to its end.
        reason: "end" if every canvas ended by itself, otherwise why the first one did not.
        opened_after: Of a prefetched page, the seconds until its first visitor opened it; ``UNOPENED`` until then.
            None: the page was not prefetched.
    """

    model: str
    engine: str
    seed: int
    tokens: int
    steps: int
    canvases: int
    seconds: float
    reason: str
    opened_after: float | None = None

    @property
    def tokens_per_second(self) -> float:
        """Tokens per second over the whole page. 0 if no time was measured."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class PageSummary:
    """A stored page in a list.

    Attributes:
        key: Its canonical URL.
        title: Its title.
        snippet: The beginning of its text, or the match of a search. Plain text.
        written_at: When its current version was stored, in UTC.
        version: The number of its current version.
    """

    key: str
    title: str
    snippet: str
    written_at: datetime
    version: int


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a page: its number, when it was stored (UTC), its provenance, and what it changed."""

    number: int
    written_at: datetime
    provenance: Provenance
    change: Change = WRITTEN

    @property
    def model(self) -> str:
        """The model that generated it."""
        return self.provenance.model


@dataclass(frozen=True, slots=True)
class StoredCanvas:
    """A finished canvas.

    Attributes:
        name: Its region.
        format: The name of its format.
        prompt: The prompt as it was sent to the engine, as JSON.
        text: The generated text.
        seed: Its seed.
        tokens: Generated tokens.
        steps: Denoising or decoding steps.
        canvases: How many canvases the engine filled for it.
        seconds: How long it took.
        reason: Why it ended.
        schema: The name of its schema, of which the text is a value as JSON. Empty for none.
        fact: True if the value is a fact of the world, which prompts of other pages mention.
        repairs: What was repaired in the text, in words. Empty for nothing.
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
    """One version of a page, with its canvases.

    Attributes:
        key: Its canonical URL.
        title: Its title.
        version: The number of this version.
        versions: The number of the newest version.
        written_at: When it was stored, in UTC.
        provenance: Which model generated it.
        canvases: Its canvases by name, in order.
        change: What it changed.
    """

    key: str
    title: str
    version: int
    versions: int
    written_at: datetime
    provenance: Provenance
    canvases: dict[str, StoredCanvas]
    change: Change = WRITTEN

    @property
    def path(self) -> str:
        """The path and query of the page's URL: the key, without the variant."""
        return url_of_key(self.key)


@dataclass(frozen=True, slots=True)
class PageWrite:
    """A finished page to be saved.

    Attributes:
        key: Its canonical URL.
        title: Its title.
        text: Its text without markup, for the search index.
        prompt_hash: The hash of its prompts.
        provenance: Which model generated it.
        canvases: The new canvases.
        links: Its links, in order.
        change: What it changes. If it has a base, the current version must be that one.
        amends: True to add the canvases to the current version, False to make a new one.
        written_at: When it was generated, if it was generated elsewhere. None: now.
        replaces: The number that the current version must have for a new one; 0 if the page must not exist. None: any.
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
    written_at: datetime | None = None
    replaces: int | None = None
