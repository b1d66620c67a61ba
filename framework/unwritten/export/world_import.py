"""Import the pages of another world's file. Every value is checked, because the file is untrusted.

Rows are parsed by the models below, which have limits. A page with an invalid row is refused as a whole, and the
others are imported in one transaction. Of the other world, only its name is read: never its secret, tables or settings.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from ..core.bidi import remove_controls
from ..core.errors import TransferError
from ..core.paths import page_key, page_path
from ..core.text import is_text
from ..formats.gists import MAX_GIST
from ..formats.links import Link
from ..storage.aliases import AliasStore
from ..storage.location import Location
from ..storage.pages import PageStore
from ..storage.records import UNOPENED, Change, ChangeKind, PageWrite, Provenance, StoredCanvas
from .untrusted_file import UntrustedWorld, open_untrusted, printable

MAX_PAGES = 200_000
MAX_VERSIONS = 1000
"""Maximum number of versions of one page."""

MAX_CANVASES = 1000
"""Maximum number of canvases of one version."""

MAX_LINKS = 2000
"""Maximum number of links of one page."""

MAX_TEXT_LENGTH = 200_000
"""Maximum length of the text of a canvas."""

MAX_PAGE_LENGTH = 50_000_000
"""Maximum length of all texts and prompts of a page, over its versions."""

_MAX_PROMPT_LENGTH = 1_000_000
_MAX_SEARCH_LENGTH = 2_000_000
_MAX_REGIONS_LENGTH = 100_000
_FIRST_YEAR = 2000
_NO_LINE = re.compile("[\0-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")


# -- models of the rows -----------------------------------------------------------------------------------------------


def _check_text(text: str) -> str:
    if not is_text(text):
        raise ValueError("it is not valid text")
    return text


def _check_line(text: str) -> str:
    if _NO_LINE.search(text):
        raise ValueError("it is not text on one line")
    return text


def _check_key(text: str) -> str:
    if page_key(text) != text:
        raise ValueError("it is not the key of a page")
    return text


def _check_json(text: str) -> str:
    _load_json(text)
    return text


def _load_json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"JSON has no {name}")


def _parse_date(value: object) -> datetime:
    date = datetime.fromisoformat(value) if isinstance(value, str) else None
    if date is None or date.tzinfo is None:
        raise ValueError("it is not a date with a time zone")
    if date.year < _FIRST_YEAR or date > datetime.now(UTC) + timedelta(days=1):
        raise ValueError("it is long ago or in the future")
    return date.astimezone(UTC)


def _parse_regions(value: object) -> tuple[str, ...]:
    names = _load_json(value) if isinstance(value, str) and len(value) <= _MAX_REGIONS_LENGTH else None
    if not isinstance(names, list) or not all(isinstance(name, str) and _REGION.fullmatch(name) for name in names):
        raise ValueError("it is not a list of regions")
    return tuple(names)


_REGION = re.compile(r"[^\W\d]\w{0,99}(?:-[A-Za-z0-9_-]{1,99})?")

_Count = Annotated[int, Field(ge=0, le=2**53)]
_Seconds = Annotated[float, Field(ge=0, le=10**8, allow_inf_nan=False)]
_Date = Annotated[datetime, BeforeValidator(_parse_date)]
_Name = Annotated[str, StringConstraints(max_length=300), AfterValidator(_check_line)]
_Line = Annotated[str, StringConstraints(max_length=2000), AfterValidator(_check_line), AfterValidator(remove_controls)]
_Text = Annotated[str, StringConstraints(max_length=MAX_TEXT_LENGTH), AfterValidator(_check_text)]
_Key = Annotated[str, StringConstraints(max_length=4000), AfterValidator(_check_key)]


class _Row(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class _Page(_Row):
    id: int
    key: _Key
    version: Annotated[int, Field(ge=1, le=MAX_VERSIONS)]


class _Generated(_Row):
    """What a version and a canvas both record about their generation."""

    seed: _Count
    tokens: _Count
    steps: _Count
    canvases: _Count
    seconds: _Seconds
    reason: _Name


class _Version(_Generated):
    id: int
    number: int
    title: Annotated[_Line, StringConstraints(min_length=1)]
    written_at: _Date
    engine: _Name
    model: _Name
    prompt_hash: _Name
    kind: ChangeKind = "written"
    note: _Line = ""
    base: int | None = None
    regions: Annotated[tuple[str, ...], BeforeValidator(_parse_regions)] = ()
    opened_after: Annotated[float, Field(ge=UNOPENED, le=10**9, allow_inf_nan=False)] | None = None


class _Canvas(_Generated):
    name: Annotated[str, StringConstraints(pattern=f"^{_REGION.pattern}$")]
    # An author's own format is not known here. A text is shown only on a page that declares its format.
    format: Annotated[str, StringConstraints(pattern=r"^[\w-]{1,64}$")]
    prompt: Annotated[str, StringConstraints(max_length=_MAX_PROMPT_LENGTH), AfterValidator(_check_json)]
    text: _Text
    schema_: Annotated[_Name, Field(alias="schema")] = ""
    fact: Literal[0, 1] = 0
    repairs: _Line = ""

    def stored(self) -> StoredCanvas:
        """Return the canvas as it is stored.

        Raises:
            ValueError: If it has a schema, and its text is not JSON.
        """
        if self.schema_:
            _check_json(self.text)
        values = self.model_dump(exclude={"schema_", "fact"})
        return StoredCanvas(**values, schema=self.schema_, fact=bool(self.fact))


class _Link(_Row):
    target: Annotated[str, StringConstraints(max_length=4000)]
    text: _Line
    sentence: _Line
    gist: Annotated[_Line, StringConstraints(max_length=MAX_GIST)] = ""


class _Alias(_Row):
    alias: _Key
    target: _Key


# -- importing --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class ImportReport:
    """What an import did, or would do, as keys of pages.

    Attributes:
        name: The other world's name.
        new: Pages that this world did not have.
        same: Pages with the same text in both worlds.
        ours: Pages with another text here, which were left unchanged.
        theirs: Pages with another text here, which have a new version now.
        refused: Pages that are not valid, with the reasons. They are not imported.
        links: The number of links that lead to no page of this app. They are left out of the link graph.
        aliases: Other names of pages that this world did not have. What is a page here stays one.
        tables: Tables of the other world's app. They are not imported.
    """

    name: str = ""
    new: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    ours: list[str] = field(default_factory=list)
    theirs: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    links: int = 0
    aliases: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)


class _Refused(Exception):
    """A page is not valid. The text says why."""


def import_world(ours: Location, path: Path, *, theirs: bool = False, dry_run: bool = False) -> ImportReport:
    """Import the pages of another world, with their versions, links, aliases and values, in one transaction.

    Args:
        ours: This world's database. It is created if it does not exist.
        path: The other world's database. It is only read, and may come from an earlier version of Unwritten.
        theirs: Where both worlds have a page with different texts, True adds theirs as a new version. Otherwise ours is
            left unchanged.
        dry_run: True changes nothing.

    Returns:
        What was done, or would be done.

    Raises:
        TransferError: If the file is missing, not a world, from a newer version, or this world itself, or if it
            contains anything that worlds do not have.
        StoreError: If the import could not be written. Then nothing was imported.
    """
    exists = not isinstance(ours, Path) or ours.exists()
    if isinstance(ours, Path) and exists and path.exists() and path.samefile(ours):
        raise TransferError(f"{path} is this world itself. Name the database of another one.")
    with open_untrusted(path) as other, contextlib.ExitStack() as opened:
        store = None
        if exists or not dry_run:
            store = PageStore(ours)
            opened.callback(store.close)
        report = ImportReport(_world_name(other), tables=_table_names(other))
        writes = _writes(other, store, report, theirs)
        if store is None or dry_run:
            for _ in writes:
                pass
            known = dict(AliasStore(store.database).all()) if store else {}
            report.aliases = [alias for alias, _ in _aliases(other) if alias not in known]
        else:
            report.aliases = store.save_all(writes, _aliases(other))
        return report


def _world_name(other: UntrustedWorld) -> str:
    if not other.has("world"):
        return ""
    for row in other.rows("world", "WHERE name = ?", "name"):
        with contextlib.suppress(ValueError, RecursionError):
            name = json.loads(row["value"]) if isinstance(row["value"], str) else ""
            return printable(name) if isinstance(name, str) else ""
    return ""


def _table_names(other: UntrustedWorld) -> list[str]:
    if not other.has("tables"):
        return []
    names = [row["name"] for row in other.rows("tables", "ORDER BY name LIMIT 200")]
    return [name for name in names if isinstance(name, str) and re.fullmatch(r"\w{1,100}", name)]


def _writes(other: UntrustedWorld, store: PageStore | None, report: ImportReport, theirs: bool) -> Iterator[PageWrite]:
    """Compare two worlds page by page, and yield the writes in order. Fill the report while doing so."""
    seen: set[str] = set()
    for number, row in enumerate(other.rows("pages", "ORDER BY id")):
        if number >= MAX_PAGES:
            raise TransferError(f"The file has more than {MAX_PAGES:,} pages. Nothing was imported.")
        try:
            page = _parse(_Page, row)
            if page.key in seen:
                raise _Refused("its key occurs twice")
            versions = _versions(other, page, report)
        except _Refused as error:
            report.refused.append((printable(row.get("key")), str(error)))
            continue
        seen.add(page.key)
        current = store.get(page.key) if store else None
        newest = versions[-1]
        if current is None:
            report.new.append(page.key)
            yield from versions
        elif {c.name: c.text for c in newest.canvases} == {name: c.text for name, c in current.canvases.items()}:
            report.same.append(page.key)
        elif not theirs:
            report.ours.append(page.key)
        else:
            report.theirs.append(page.key)
            yield replace(newest, change=replace(newest.change, base=current.version, regions=()))


def _versions(other: UntrustedWorld, page: _Page, report: ImportReport) -> list[PageWrite]:
    """Return all versions of a page.

    Raises:
        _Refused: If any of its rows is not valid.
    """
    rows = other.rows("versions", f"WHERE page = ? ORDER BY number LIMIT {MAX_VERSIONS + 1}", page.id)
    versions = [_parse(_Version, row) for row in rows]
    if [version.number for version in versions] != list(range(1, page.version + 1)):
        raise _Refused("its versions are not numbered from 1 to the current one")
    found, length = [], 0
    for version in versions:
        found.append(_page_write(other, page, version, MAX_PAGE_LENGTH - length))
        length += sum(len(canvas.text) + len(canvas.prompt) for canvas in found[-1].canvases)
    links = _links(other, page, report)
    text = next((row["c1"] for row in other.rows("search_content", "WHERE id = ?", page.id)), "")
    if not isinstance(text, str) or len(text) > _MAX_SEARCH_LENGTH or not is_text(text):
        raise _Refused("its search text is not valid")
    return [*found[:-1], replace(found[-1], links=links, text=text)]


def _page_write(other: UntrustedWorld, page: _Page, version: _Version, max_length: int) -> PageWrite:
    canvases: list[StoredCanvas] = []
    for row in other.rows("canvases", "WHERE version = ? ORDER BY position", version.id):
        if len(canvases) >= MAX_CANVASES:
            raise _Refused(f"it has more than {MAX_CANVASES} canvases")
        try:
            canvases.append(_parse(_Canvas, row).stored())
        except ValueError:
            raise _Refused("the value of a schema is not JSON") from None
        max_length -= len(canvases[-1].text) + len(canvases[-1].prompt)
        if max_length < 0:
            raise _Refused(f"it has more than {MAX_PAGE_LENGTH:,} characters")
    if len({canvas.name for canvas in canvases}) < len(canvases):
        raise _Refused("two canvases have one name")
    names = {name: getattr(version, name) for name in Provenance.__dataclass_fields__}
    base = version.number - 1 if version.base is not None and version.number > 1 else None
    return PageWrite(
        key=page.key,
        title=version.title,
        text="",
        prompt_hash=version.prompt_hash,
        provenance=Provenance(**names),
        canvases=tuple(canvases),
        links=(),
        change=Change(version.kind, version.note, base, version.regions if base else ()),
        written_at=version.written_at,
    )


def _links(other: UntrustedWorld, page: _Page, report: ImportReport) -> tuple[Link, ...]:
    """Return the links of a page that lead to pages."""
    found = []
    for number, row in enumerate(other.rows("links", "WHERE source = ? ORDER BY position", page.key)):
        if number >= MAX_LINKS:
            raise _Refused(f"it has more than {MAX_LINKS} links")
        link = _parse(_Link, row)
        if page_path(link.target) == link.target:
            found.append(Link(link.target, link.text, link.sentence, link.gist))
        else:
            report.links += 1
    return tuple(found)


def _aliases(other: UntrustedWorld) -> Iterator[tuple[str, str]]:
    """Yield the valid aliases of a world with their targets."""
    if not other.has("aliases"):
        return
    for number, row in enumerate(other.rows("aliases", "ORDER BY alias")):
        if number >= MAX_PAGES:
            raise TransferError(f"The file has more than {MAX_PAGES:,} aliases. Nothing was imported.")
        with contextlib.suppress(_Refused):
            alias = _parse(_Alias, row)
            yield alias.alias, alias.target


def _parse(model: type[Any], row: dict[str, Any]) -> Any:
    try:
        return model.model_validate(row)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        message = printable(first["msg"].removeprefix("Value error, "))
        raise _Refused(f"{model.__name__.strip('_').lower()} {name}: {message}") from None
