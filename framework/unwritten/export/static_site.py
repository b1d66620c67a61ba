"""A static site: all that is written of a world, as files that any file server can serve, and a browser can open.

The pages are asked of the app itself, as a visitor would, with the gates closed and an engine that writes nothing: so
they look as they do where the world runs, and none is written on the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import posixpath
import re
import shutil
import tempfile
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from unwritten_engine.scripted import ABOUT, scripted

from ..app.application import App
from ..core.assets import asset_dir
from ..core.errors import ShareError
from ..core.paths import BOX_PREFIX, PICTURES_PREFIX, STATIC_PREFIX
from ..testing.asgi_client import request, running
from .static_html import addresses_of, is_offered, local, make_static
from .world_file import copy_world

MARK = "unwritten-export.json"
"""The file by which an export is known again."""


STATIC = "unwritten-static"


PAINTED = "unwritten-pictures"


RED = "unwritten.html"
"""Where links to unwritten pages lead."""


MORE = 2000
"""Pages besides the written ones, such as lists, that are brought along at most."""


_LONGEST = 120


_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)", re.I)


_QUERY = re.compile(r"version=\d+")


_IN_CSS = re.compile(rf"url\((['\"]?){STATIC_PREFIX}/([^'\")?]*)[^'\")]*\1\)")


@dataclass(slots=True)
class ExportReport:
    """What an export made.

    Attributes:
        folder: where.
        pages: how many written pages there are.
        more: other pages and files of the app.
        changed: keys of pages that the app draws no more as they were written, and that are left out.
    """

    folder: Path
    pages: int = 0
    more: int = 0
    changed: list[str] = field(default_factory=list)


def export_site(app: App, folder: Path, *, replacing: bool = False, world: bool = False) -> ExportReport:
    """Write a world as a static site, whole or not at all.

    Args:
        app: the app, not yet prepared. Its engine is not opened.
        folder: where; it must be missing or empty.
        replacing: put it in the place of a former export. Nothing else is ever replaced.
        world: put a copy of the world's file beside the pages, without its secret.

    Raises:
        ShareError: if there is something in the folder, or nothing to export.
        StoreError, BadApp: if the database cannot be read, or the app cannot be started.
    """
    if not app.database.is_file():
        raise ShareError(f"Nothing is written yet: there is no database {app.database}.")
    _check_place(folder, replacing)
    with _beside(folder) as new:
        site = asyncio.run(_Export(app, new).run())
        if world:
            copy_world(app.database, new / "world.db", public=True)
        mark = {"app": app.name, "pages": site.pages, "made_at": datetime.now(UTC).isoformat(timespec="seconds")}
        (new / MARK).write_text(json.dumps(mark, ensure_ascii=False) + "\n", encoding="utf-8")
        _put(new, folder)
    return replace(site, folder=folder)


def _check_place(folder: Path, replacing: bool) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ShareError(f"{folder} is there already, and is no folder. Name another one.")
    if not folder.exists() or not any(folder.iterdir()):
        return
    is_ours = (folder / MARK).is_file()
    if not replacing:
        also = f", or replace this former export: unwritten export {folder} --replace" if is_ours else ""
        raise ShareError(f"The folder {folder} is not empty, and an export replaces nothing. Name another one{also}.")
    if not is_ours:
        raise ShareError(
            f"The folder {folder} has no file {MARK}, so it is no former export, and is not replaced. Name another one."
        )


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A folder beside the one that is meant, which is gone in the end unless it was put in its place."""
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.absolute().parent))
    except OSError as error:
        raise ShareError(f"The folder {folder} cannot be made: {error.strerror}. Name another one.") from error
    try:
        new.chmod(0o755)
        yield new
    except OSError as error:
        raise ShareError(f"The export could not be written to {folder}: {error}.") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _put(new: Path, folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.absolute().parent) as aside:
            folder.rename(Path(aside) / "old")
            try:
                new.rename(folder)
            except OSError:
                (Path(aside) / "old").rename(folder)
                raise
    else:
        new.rename(folder)  # over an empty folder, or none


class _Export:
    """One export on its way."""

    def __init__(self, app: App, folder: Path) -> None:
        self._app = app
        self._folder = folder
        self._files: dict[str, str] = {}
        self._taken: set[str] = {RED, MARK, "index.html", "world.db"}
        self._boxes: dict[str, str] = {}
        self._pages: list[str] = []
        self._licences: dict[str, str] = {}

    async def run(self) -> ExportReport:
        app = self._app
        _, flags = app.override(None, {})
        closed = {
            "signed_links": "on",
            "ahead": "off",
            **dict.fromkeys(("model", "engine_options", "painter", "painter_options"), ""),
            "debug": False,
        }
        app.override(scripted(about=replace(ABOUT, licence="")), {**flags, **closed})
        async with running(app):
            self._licences = app.site.world.get("licences", {})
            written = sorted(entry.key for entry in app.store.all(limit=-1))
            site = ExportReport(self._folder, len(written))
            await self._gather(written, site)
            await self._draw_ours(written)
            for key in self._pages:
                self._stand(key)
        self._copy_static()
        return site

    # -- asking -------------------------------------------------------------------------------------------

    async def _gather(self, written: list[str], site: ExportReport) -> None:
        """Ask for every page, and for what they link to, and put the answers where they will stand."""
        kept = set(written)
        waiting = deque([*written, "/"])
        seen = set(waiting)
        while waiting:
            key = waiting.popleft()
            status, kind, body = await self._ask(key)
            if status != 200:
                if key in kept:
                    site.changed.append(key)
                continue
            if key.startswith(PICTURES_PREFIX):
                self._files[key] = f"{PAINTED}/{_short_hash(key)}.{kind.partition('/')[2].partition('+')[0]}"
                self._write(self._files[key], body)
                continue
            if key not in kept:
                site.more += 1
            if kind != "text/html":
                self._write(self._file(key, ""), body)
                continue
            self._write(self._file(key, ".html"), body)
            self._pages.append(key)
            for address in addresses_of(body.decode("utf-8", "replace")):
                found = local(address)
                if (
                    found is None
                    or found[0].startswith((STATIC_PREFIX, BOX_PREFIX))
                    or is_offered(address)
                    or found[0] in seen
                ):
                    continue
                query = urlsplit(found[0]).query
                if site.more + len(waiting) < MORE + len(kept) and (not query or _QUERY.fullmatch(query)):
                    seen.add(found[0])
                    waiting.append(found[0])
            for box in re.findall(rf'src="({re.escape(BOX_PREFIX)}\?[^"]*)"', body.decode("utf-8", "replace")):
                await self._ask_box(box.replace("&amp;", "&"))
        site.pages -= len(site.changed)

    async def _ask(self, url: str) -> tuple[int, str, bytes]:
        body = bytearray()
        # Who asks beforehand leaves no trace as a reader.
        answer = await request(self._app, url, body.extend, headers={"sec-purpose": "prefetch"})
        kind = dict(answer.headers).get("content-type", "").partition(";")[0]
        return answer.status, kind, bytes(body)

    async def _ask_box(self, address: str) -> None:
        """The document of a box, with its policy inside it: a file server sends none."""
        body = bytearray()
        answer = await request(self._app, address, body.extend)
        policy = dict(answer.headers).get("content-security-policy", "default-src 'none'")
        rules = [rule for rule in policy.split("; ") if not rule.startswith(("sandbox", "frame-ancestors"))]
        tag = f'<meta http-equiv="Content-Security-Policy" content="{escape("; ".join(rules))}">'
        document = bytes(body).decode("utf-8", "replace")
        self._boxes[address] = document.replace('<meta charset="utf-8">', f'<meta charset="utf-8">{tag}', 1)

    # -- writing ------------------------------------------------------------------------------------------

    async def _draw_ours(self, written: list[str]) -> None:
        """The page to which red links lead; and a front page, if the app has none."""
        name, count = self._app.name, f"{len(written):,} page{'' if len(written) == 1 else 's'}"
        made = datetime.now(UTC).strftime("%d %B %Y").lstrip("0")
        told: dict[str, dict[str, Any]] = {
            RED: {
                "title": "Not written yet",
                "message": "Nobody had opened this page when this copy was made, so it was never written.",
                "hint": f"{name} is a world whose pages are written when they are clicked, by a model on one's own "
                f"machine. This is a copy of it with {count}, made on {made}. Where the world runs (pip install "
                "unwritten; unwritten run app.py), the click writes the page.",
            },
            "index.html": {
                "title": name,
                "message": f"A copy of a world with {count}, made on {made}.",
                "entries": self._app.store.all(limit=-1),
            },
        }
        for file, values in told.items():
            if file == RED or "/" not in self._files:
                drawn = self._app.render("exported.html", **values)
                self._files[f"\0{file}"] = file
                self._write(file, bytes(drawn.body))
                self._pages.append(f"\0{file}")

    def _stand(self, key: str) -> None:
        """Make a page that was gathered stand alone."""
        file = self._files[key]
        path = self._folder / file

        def address(tag: str, given: str) -> str | None:
            found = local(given)
            assert found is not None
            to, fragment = found
            mark = f"#{fragment}" if fragment else ""
            if to.startswith(f"{STATIC_PREFIX}/"):
                return _relative(file, f"{STATIC}/{urlsplit(to).path.removeprefix(STATIC_PREFIX + '/')}")
            if to.startswith("/_unwritten/") and to not in self._files:
                return None
            if to in self._files:
                return _relative(file, self._files[to]) + mark
            if to == "/" and tag == "a":
                return _relative(file, "index.html") + mark
            return _relative(file, RED) if tag == "a" else None

        kept = self._app.store.get(key)
        licence = self._licences.get(kept.provenance.model, "") if kept else ""
        foot = f'<footer class="colophon"><p class="licence">{escape(licence)}</p></footer>' if licence else ""
        html = path.read_text(encoding="utf-8")
        html = make_static(html, address, lambda box: self._boxes.get(box, ""), foot)
        path.write_text(html, encoding="utf-8")

    def _file(self, key: str, suffix: str) -> str:
        """Where the page with this key stands. No two share a file, on any file system."""
        name = file_of(key, suffix)
        if name.casefold() in self._taken and not (key == "/" and name == "index.html"):
            stem, dot, end = name.rpartition(".") if suffix else (name, "", "")
            name = f"{stem}~{_short_hash(key)}{dot}{end}"
        self._taken.add(name.casefold())
        self._files[key] = name
        return name

    def _write(self, file: str, body: bytes) -> None:
        path = self._folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)

    def _copy_static(self) -> None:
        ours = asset_dir("static")
        for folder in reversed(self._app.static_files.folders):
            for path in sorted(folder.rglob("*")):
                name = path.relative_to(folder)
                if not path.is_file() or any(part.startswith(".") for part in name.parts):
                    continue
                if folder == ours and path.suffix == ".js":
                    continue
                body = path.read_bytes()
                if path.suffix == ".css":
                    body = _IN_CSS.sub(rf"url(\1{'../' * (len(name.parts) - 1)}\2\1)", body.decode()).encode()
                self._write(f"{STATIC}/{name.as_posix()}", body)


def file_of(key: str, suffix: str = ".html") -> str:
    """The file of a page: its key, with whatever some file system or server could take for something else written as
    ``~`` and its number."""
    path, mark, query = key.partition("?")
    parts = [_part(part) for part in path.strip("/").split("/")] if path.strip("/") else []
    if path.endswith("/") or not parts:
        parts.append("index")
    if mark:
        parts[-1] += _part(f"?{query}")
    return "/".join([*parts[:-1], parts[-1] + suffix])


def _part(text: str) -> str:
    """One part of a path."""
    plain = unquote(text)
    safe = re.sub(r"[^\w\-.,'()!@=+ ]", lambda match: f"~{ord(match[0]):02X}", plain).replace(" ", "_")
    if safe.startswith(".") or safe.endswith(".") or _RESERVED.match(safe):
        safe = f"~{safe}~"
    if len(safe.encode()) > _LONGEST:
        cut = safe.encode()[:_LONGEST].decode(errors="ignore")
        safe = f"{cut}~{_short_hash(text)}"
    return safe


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _relative(source: str, target: str) -> str:
    return quote(posixpath.relpath(target, posixpath.dirname(source) or "."))
