"""Export a world as a static site: every stored page as a file, for any file server or for a browser alone.

The app itself renders the pages, as for a visitor, but with signed links and an engine that generates nothing. So the
files look like the running app, and no page is generated.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import mimetypes
import posixpath
import re
import shutil
import tempfile
import unicodedata
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from unwritten_engine.scripted import ABOUT, scripted

from ..app.application import App
from ..core.assets import asset_dir
from ..core.errors import TransferError
from ..core.localization import gettext_lazy as _
from ..core.localization import join
from ..core.localization import ngettext_lazy as _n
from ..core.paths import (
    BOX_PREFIX,
    FEED_PATH,
    FRAMEWORK_PREFIX,
    PICTURES_PREFIX,
    STATIC_PREFIX,
    UPLOADS_PREFIX,
    url_of_key,
)
from ..testing.asgi_client import request, running
from .static_html import is_signed, local_url, make_static, urls_of
from .world_file import copy_world

MARKER = "unwritten-export.json"
"""The file that marks a folder as an export, which may be replaced."""

STATIC_FOLDER = "unwritten-static"

PICTURES_FOLDER = "unwritten-pictures"

HEADERS_FILE = "_headers"
"""Headers for static hosts that read such a file. A policy inside of a page cannot forbid that others frame it."""

_HEADERS = """/*
  Content-Security-Policy: frame-ancestors 'self'
  Referrer-Policy: same-origin
  X-Content-Type-Options: nosniff
"""

UNWRITTEN_PAGE = "unwritten.html"
"""Where links to unwritten pages lead."""

MAX_OTHER_PAGES = 2000
"""The largest number of pages besides the stored ones, such as lists, that are exported."""

_MAX_NAME_BYTES = 120
_MAX_PATH_BYTES = 200

_RESERVED = re.compile(r"(?:con|prn|aux|nul|(?:com|lpt)[\d\xb9\xb2\xb3])(?:\.|$)", re.I)
"""File names that Windows reserves."""

_VERSION_QUERY = re.compile(r"version=\d+")

_CSS_URL = re.compile(rf"url\((['\"]?){STATIC_PREFIX}/([^'\")?]*)[^'\")]*\1\)")


@dataclass(slots=True)
class ExportReport:
    """What an export contains.

    Attributes:
        folder: Where it is.
        pages: The number of stored pages.
        more: The number of other pages and files of the app.
        keys: Keys of the stored pages that it contains.
        left_out: Keys of the other stored pages: a visitor without cookies may not read them, or the app cannot render
            them any more.
    """

    folder: Path
    pages: int = 0
    more: int = 0
    keys: set[str] = field(default_factory=set)
    left_out: list[str] = field(default_factory=list)


def export_site(app: App, folder: Path, *, replace: bool = False, world: bool = False) -> ExportReport:
    """Export a world as a static site. If it fails, nothing is left behind.

    Args:
        app: The app, not prepared yet. Its engine is not opened.
        folder: The target. It must not exist, or be empty.
        replace: True replaces an earlier export. Other folders are never replaced.
        world: True adds a copy of the database, without its secret and the pages that are left out.

    Raises:
        TransferError: If the folder is not empty, or there is nothing to export.
        StoreError, BadApp: If the database cannot be read, or the app cannot start.
    """
    if isinstance(app.database, Path) and not app.database.is_file():
        raise TransferError(f"No pages are stored yet: there is no database {app.database}.")
    if world and not isinstance(app.database, Path):
        raise TransferError("Only SQLite databases can be added to an export. Leave out --world, or use pg_dump.")
    _check_target(folder, replace)
    with _temporary_folder(folder) as new:
        report = asyncio.run(_Export(app, new).run())
        if world and isinstance(app.database, Path):
            copy_world(app.database, new / "world.db", public=True, only=report.keys)
        marker = {"app": app.name, "pages": report.pages, "made_at": datetime.now(UTC).isoformat(timespec="seconds")}
        (new / MARKER).write_text(json.dumps(marker, ensure_ascii=False) + "\n", encoding="utf-8")
        _move(new, folder)
    return dataclasses.replace(report, folder=folder)


# -- the target folder ------------------------------------------------------------------------------------------------


def _check_target(folder: Path, replace: bool) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise TransferError(f"{folder} exists already and is not a folder. Name another one.")
    if not folder.exists() or not any(folder.iterdir()):
        return
    is_export = (folder / MARKER).is_file()
    if not replace:
        also = f", or replace this earlier export: unwritten export {folder} --replace" if is_export else ""
        raise TransferError(f"The folder {folder} is not empty. Name another one{also}.")
    if not is_export:
        raise TransferError(
            f"The folder {folder} has no file {MARKER}, so it is not an export and is not replaced. Name another one."
        )


@contextlib.contextmanager
def _temporary_folder(folder: Path) -> Iterator[Path]:
    """Create a folder beside the target. It is deleted at the end, unless it was moved."""
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.absolute().parent))
    except OSError as error:
        raise TransferError(f"The folder {folder} cannot be created: {error.strerror}. Name another one.") from error
    try:
        new.chmod(0o755)
        yield new
    except OSError as error:
        raise TransferError(f"The export could not be written to {folder}: {error}.") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _move(new: Path, folder: Path) -> None:
    """Move a folder to the target. An earlier export comes back if that fails."""
    if folder.exists() and any(folder.iterdir()):
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.absolute().parent) as aside:
            folder.rename(Path(aside) / "old")
            try:
                new.rename(folder)
            except OSError:
                (Path(aside) / "old").rename(folder)
                raise
    else:
        new.rename(folder)


# -- pages ------------------------------------------------------------------------------------------------------------


class _Export:
    """One export: requests pages from the app, then rewrites them as files."""

    def __init__(self, app: App, folder: Path) -> None:
        self._app = app
        self._folder = folder
        self._files: dict[str, str] = {}
        self._taken: set[str] = {
            *(UNWRITTEN_PAGE, MARKER, HEADERS_FILE, "index.html", "world.db", STATIC_FOLDER, PICTURES_FOLDER),
            *("_redirects", "_worker.js", "_routes.json"),  # static hosts read these, too
        }
        self._folders: set[str] = set()
        self._boxes: dict[str, str] = {}
        self._pages: list[str] = []
        self._licences: dict[str, str] = {}

    async def run(self) -> ExportReport:
        """Write all files."""
        app = self._app
        _, flags = app.override(None, {})
        read_only = {
            "signed_links": "on",
            "prefetch": "off",
            **dict.fromkeys(("model", "engine_options", "painter", "painter_options"), ""),
            "debug": False,
        }
        app.override(scripted(about=dataclasses.replace(ABOUT, licence="")), {**flags, **read_only})
        async with running(app):
            self._licences = app.site.world.get("licences", {})
            stored = sorted(page.key for page in app.store.all(limit=-1))
            report = ExportReport(self._folder, len(stored))
            stored = await self._without_other_variants(stored, report)
            await self._collect(stored, report)
            self._add_own_pages(len(stored))
            for key in self._pages:
                self._rewrite(key)
        self._copy_static_files()
        self._write(HEADERS_FILE, _HEADERS.encode())
        return report

    async def _without_other_variants(self, stored: list[str], report: ExportReport) -> list[str]:
        """Return the keys without those of variants that a visitor without cookies does not get."""
        with_variants = {url_of_key(key) for key in stored if url_of_key(key) != key}
        kept = []
        for key in stored:
            if url_of_key(key) in with_variants and not await self._app.site.access.is_public(key):
                report.left_out.append(key)
            else:
                kept.append(key)
        return kept

    async def _collect(self, stored: list[str], report: ExportReport) -> None:
        """Request every stored page, and the pages that they link to, and write the responses to their files."""
        known = {url_of_key(key): key for key in stored}
        waiting = deque([*known, "/"])
        seen = set(waiting)
        while waiting:
            key = waiting.popleft()
            status, media_type, body = await self._request(key)
            if status != 200:
                if key in known:
                    report.left_out.append(known[key])
                continue
            if key in known:
                report.keys.add(known[key])
            if key.startswith((PICTURES_PREFIX, UPLOADS_PREFIX)):
                suffix = media_type.partition("/")[2].partition("+")[0]
                self._files[key] = f"{PICTURES_FOLDER}/{_short_hash(key)}.{suffix}"
                self._write(self._files[key], body)
                continue
            if key not in known:
                report.more += 1
            if media_type != "text/html":
                self._write(self._file(key, _suffix(key, media_type)), body)
                continue
            self._write(self._file(key, ".html"), body)
            self._pages.append(key)
            html = body.decode("utf-8", "replace")
            for url in urls_of(html):
                found = local_url(url)
                if found is None or found[0] in seen or is_signed(url):
                    continue
                if found[0].startswith((STATIC_PREFIX, BOX_PREFIX, FEED_PATH)):
                    continue
                query = urlsplit(found[0]).query
                has_room = report.more + len(waiting) < MAX_OTHER_PAGES + len(known)
                if has_room and (not query or _VERSION_QUERY.fullmatch(query)):
                    seen.add(found[0])
                    waiting.append(found[0])
            for box in re.findall(rf'src="({re.escape(BOX_PREFIX)}\?[^"]*)"', html):
                await self._request_box(box.replace("&amp;", "&"))
        report.pages -= len(report.left_out)

    async def _request(self, url: str) -> tuple[int, str, bytes]:
        body = bytearray()
        # Declared as a prefetch, so that it does not count as a visit.
        response = await request(self._app, url, body.extend, headers={"sec-purpose": "prefetch"})
        media_type = dict(response.headers).get("content-type", "").partition(";")[0]
        return response.status, media_type, bytes(body)

    async def _request_box(self, url: str) -> None:
        """Store the document of a box. Its policy moves into the document, since a file server sends no headers."""
        body = bytearray()
        response = await request(self._app, url, body.extend)
        policy = dict(response.headers).get("content-security-policy", "default-src 'none'")
        rules = [rule for rule in policy.split("; ") if not rule.startswith(("sandbox", "frame-ancestors"))]
        tag = f'<meta http-equiv="Content-Security-Policy" content="{escape("; ".join(rules))}">'
        document = bytes(body).decode("utf-8", "replace")
        self._boxes[url] = document.replace('<meta charset="utf-8">', f'<meta charset="utf-8">{tag}', 1)

    def _add_own_pages(self, num_stored: int) -> None:
        """Write the page for links to unwritten pages, and a home page if the app has none."""
        name, made = self._app.name, self._app.localization.get().format_date(datetime.now(UTC))
        copy = _n(
            "A copy of a world with %(num)s page, made on %(date)s.",
            "A copy of a world with %(num)s pages, made on %(date)s.",
            num_stored,
            date=made,
        )
        pages: dict[str, dict[str, Any]] = {
            UNWRITTEN_PAGE: {
                "title": _("Not written yet"),
                "message": _("This page had not been written when this copy was made."),
                "hint": join(
                    copy,
                    _(
                        "In the running app (pip install unwritten; unwritten run app.py) pages are written when they "
                        "are clicked, by a model on your own machine."
                    ),
                ),
            },
            "index.html": {
                "title": name,
                "message": copy,
                "entries": [entry for entry in self._app.store.all(limit=-1) if entry.key in self._files],
            },
        }
        for file, values in pages.items():
            if file == UNWRITTEN_PAGE or "/" not in self._files:
                response = self._app.render("exported.html", **values)
                self._files[f"\0{file}"] = file  # no key of the app
                self._write(file, bytes(response.body))
                self._pages.append(f"\0{file}")

    def _rewrite(self, key: str) -> None:
        """Make a page work as a file."""
        file = self._files[key]
        path = self._folder / file

        def rewrite(tag: str, url: str) -> str | None:
            found = local_url(url)
            assert found is not None
            target, fragment = found
            suffix = f"#{fragment}" if fragment else ""
            if target.startswith(f"{STATIC_PREFIX}/"):
                return _relative(file, f"{STATIC_FOLDER}/{urlsplit(target).path.removeprefix(STATIC_PREFIX + '/')}")
            if target.startswith(FRAMEWORK_PREFIX) and target not in self._files:
                return None
            if target in self._files:
                return _relative(file, self._files[target]) + suffix
            if target == "/" and tag == "a":
                return _relative(file, "index.html") + suffix
            return _relative(file, UNWRITTEN_PAGE) if tag == "a" else None

        stored = self._app.store.get(key)
        licence = self._licences.get(stored.provenance.model, "") if stored else ""
        footer = f'<footer class="colophon"><p class="licence">{escape(licence)}</p></footer>' if licence else ""
        html = path.read_text(encoding="utf-8")
        localization = self._app.localization
        html = make_static(
            html, rewrite, lambda box: self._boxes.get(box, ""), footer, policy=True, localization=localization
        )
        path.write_text(html, encoding="utf-8")

    # -- files --------------------------------------------------------------------------------------------

    def _file(self, key: str, suffix: str) -> str:
        """Choose the file of a page. No two share one, on any file system, and none is where another needs a folder."""
        name = file_of(key, suffix)
        if not self._is_free(name) and not (key == "/" and name == "index.html"):
            stem = name.removesuffix(suffix)
            name = f"{stem}~{_short_hash(key)}{suffix}"
            if not self._is_free(name):
                name = f"{_short_hash(stem)}~{_short_hash(key)}{suffix}"
        *folders, last = _folded(name)
        self._folders.update(folders)
        self._taken.add(last)
        self._files[key] = name
        return name

    def _is_free(self, name: str) -> bool:
        *folders, last = _folded(name)
        is_used = last in self._taken or last in self._folders or not self._taken.isdisjoint(folders)
        return not is_used and len(name.encode()) <= _MAX_PATH_BYTES

    def _write(self, file: str, body: bytes) -> None:
        path = self._folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)

    def _copy_static_files(self) -> None:
        """Copy the static files of the app and of the framework, without the framework's scripts."""
        framework = asset_dir("static")
        for folder in reversed(self._app.static_files.folders):
            for path in sorted(folder.rglob("*")):
                name = path.relative_to(folder)
                if not path.is_file() or any(part.startswith(".") for part in name.parts):
                    continue
                if folder == framework and path.suffix == ".js":
                    continue
                body = path.read_bytes()
                if path.suffix == ".css":
                    body = _CSS_URL.sub(rf"url(\1{'../' * (len(name.parts) - 1)}\2\1)", body.decode()).encode()
                self._write(f"{STATIC_FOLDER}/{name.as_posix()}", body)


def file_of(key: str, suffix: str = ".html") -> str:
    """Return the file name of a page. Characters that a file system or server might interpret become ``~`` and their
    code in hexadecimal."""
    path, mark, query = key.partition("?")
    parts = [_safe_name(part) for part in path.strip("/").split("/")] if path.strip("/") else []
    if path.endswith("/") or not parts:
        parts.append("index")
    if mark:
        parts[-1] += _safe_name(f"?{query}")
    return "/".join([*parts[:-1], parts[-1] + suffix])


def _safe_name(part: str) -> str:
    plain = unquote(part)
    safe = re.sub(r"[^\w\-.,'()!@=+ ]", lambda match: f"~{ord(match[0]):02X}", plain).replace(" ", "_")
    if safe.startswith(".") or safe.endswith(".") or _RESERVED.match(safe):
        safe = f"~{safe}~"
    if len(safe.encode()) > _MAX_NAME_BYTES:
        start = safe.encode()[:_MAX_NAME_BYTES].decode(errors="ignore")
        safe = f"{start}~{_short_hash(part)}"
    return safe


def _suffix(key: str, media_type: str) -> str:
    """Return the end of the name of a file that is not HTML, so that no file server sends it as another type."""
    guessed = mimetypes.guess_type(file_of(key, ""))[0]
    return "" if guessed in {None, media_type} else mimetypes.guess_extension(media_type) or ".bin"


def _folded(name: str) -> list[str]:
    """Return the folders of a file and the file, as a file system sees them that ignores case."""
    parts = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _relative(source: str, target: str) -> str:
    return quote(posixpath.relpath(target, posixpath.dirname(source) or "."))
