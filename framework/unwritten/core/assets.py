"""Assets: the framework's templates, style sheets, scripts and demos, and the URLs of static files.

In an installed copy, ``templates/``, ``static/`` and ``demos/`` are inside the package. In a checkout they are at the
top of the tree. ``VersionedStaticFiles`` serves the app's static files and the framework's under URLs that change with
their content, so that browsers may cache them without revalidation.

htmx is not part of Unwritten. Pages load it from a CDN, or from the user's cache after ``unwritten offline``. Browsers
check both by the same hash.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import platformdirs
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from unwritten_engine.errors import suggestion

from .errors import BadTemplate, UnwrittenError
from .paths import STATIC_PREFIX

HTMX_VERSION = "4.0.1"

_PACKAGE = Path(__file__).resolve().parents[1]

IMMUTABLE = "public, max-age=31536000, immutable"
"""The header ``cache-control`` of responses under a URL that changes with their content."""


def asset_dir(name: str) -> Path:
    """Return the folder ``templates``, ``static`` or ``demos``, in an installed copy or in a checkout.

    Raises:
        UnwrittenError: If this copy of Unwritten has no such folder.
    """
    packaged = _PACKAGE / name
    checkout = _PACKAGE.parents[1]
    candidates = [packaged]
    # Two levels above an installed package there may be folders of other programs: only a checkout counts.
    if (checkout / "pyproject.toml").is_file():
        candidates.append(checkout / name)
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    searched = " and ".join(str(candidate) for candidate in candidates)
    raise UnwrittenError(
        f"This copy of Unwritten has no {name}/ folder (searched {searched}). "
        "Install it again: pip install --force-reinstall --no-deps unwritten"
    )


# -- htmx -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Script:
    """One file of htmx.

    Attributes:
        name: The file's name in the cache.
        path: Its path inside the ``htmx.org`` package.
        integrity: Its hash, for the attribute ``integrity`` of a ``<script>``.
    """

    name: str
    path: str
    integrity: str

    @property
    def cdn_url(self) -> str:
        """Its URL on the CDN."""
        return f"https://cdn.jsdelivr.net/npm/htmx.org@{HTMX_VERSION}/{self.path}"


# Hashes of the files in the package. The hash in the package's README matches none of them.
HTMX: tuple[Script, ...] = (
    Script(
        "htmx.min.js",
        "dist/htmx.min.js",
        "sha384-Qp9rdC8H7EqOoX+nR0P3RPG2Noji+qdwJlGpfzwQJsfOpp3sGwIdSP9xO3+UlEhn",
    ),
    Script(
        "hx-preload.min.js",
        "dist/ext/hx-preload.min.js",
        "sha384-7gaXKgQyxJfh9ekNnYPYQ27fsBHx1Qgya7sMCEFLlsW57R8l6rEnCWO8ucRcmYrP",
    ),
)
"""The scripts of htmx, in the order in which they must load."""


def htmx_cache() -> Path:
    """Return the folder of the user's own copy of htmx. It may not exist."""
    return platformdirs.user_cache_path("unwritten", appauthor=False) / f"htmx-{HTMX_VERSION}"


def htmx_copy(script: Script) -> Path | None:
    """Return the user's copy of a script, or None if it is missing or its hash is wrong."""
    file = htmx_cache() / script.name
    try:
        stat = file.stat()
        return file if _file_integrity(file, stat.st_mtime_ns, stat.st_size) == script.integrity else None
    except OSError:
        return None


def htmx_sources() -> list[tuple[str, str]]:
    """Return where pages load htmx from: (URL, integrity) of each script, in order."""
    prefix = f"{STATIC_PREFIX}/htmx-{HTMX_VERSION}"
    return [(f"{prefix}/{script.name}" if htmx_copy(script) else script.cdn_url, script.integrity) for script in HTMX]


def integrity_of(content: bytes) -> str:
    """Return the hash of a file's content, for the attribute ``integrity`` of a ``<script>``."""
    return "sha384-" + base64.b64encode(hashlib.sha384(content).digest()).decode("ascii")


@lru_cache(maxsize=64)
def _file_integrity(file: Path, modified: int, size: int) -> str:
    return integrity_of(file.read_bytes())


# -- static files -----------------------------------------------------------------------------------------------


class VersionedStaticFiles(StaticFiles):
    """Serves static files under URLs that contain a hash of their content. The app's files override the framework's.

    An ASGI app, to be mounted at ``STATIC_PREFIX``. Responses to the current URL of a file are immutable. Other
    versions of the URL get the file too, but caches must revalidate it.

    Args:
        folders: The app's folders. The first one that has a file is used; the framework's folder comes last.
    """

    def __init__(self, folders: Iterable[Path] = ()) -> None:
        self.folders = (*folders, asset_dir("static"))
        super().__init__(directory=self.folders[-1])
        self.all_directories = list(self.folders)

    def add(self, folders: Iterable[Path]) -> None:
        """Search these folders too, after the others and before the framework's."""
        new = [folder for folder in folders if folder not in self.folders]
        self.folders = (*self.folders[:-1], *new, self.folders[-1])
        self.all_directories = list(self.folders)

    def url(self, name: str) -> str:
        """Return the versioned URL of a file, such as ``/_unwritten/static/unwritten.css?v=0123456789ab``.

        Raises:
            BadTemplate: If no folder has the file. The message suggests the nearest.
        """
        file, stat = self.lookup_path(os.path.normpath(name))
        if stat is None or not Path(file).is_file():
            known = [
                path.relative_to(folder).as_posix()
                for folder in self.folders
                for path in folder.rglob("*")
                if path.is_file()
            ]
            searched = " and ".join(str(folder) for folder in self.folders)
            raise BadTemplate(
                f"A template calls static({name!r}), but there is no such file in {searched}." + suggestion(name, known)
            )
        return f"{STATIC_PREFIX}/{name}?v={_version(Path(file), stat.st_mtime_ns, stat.st_size)}"

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """Find a file. The user's copy of htmx is in a virtual folder."""
        folder, _, name = path.replace(os.sep, "/").partition("/")
        if folder == f"htmx-{HTMX_VERSION}":
            copies = (htmx_copy(script) for script in HTMX if script.name == name)
            copy = next((copy for copy in copies if copy is not None), None)
            return (str(copy), copy.stat()) if copy else ("", None)
        if any(part.startswith(".") for part in Path(path).parts):
            return "", None  # hidden files are not served
        return super().lookup_path(path)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Respond with a file, and with how long it may be cached."""
        response = await super().get_response(path, scope)
        if response.status_code in {200, 304}:
            response.headers["cache-control"] = IMMUTABLE if self._is_current(path, scope) else "no-cache"
        return response

    def _is_current(self, path: str, scope: Scope) -> bool:
        query = scope.get("query_string", b"").decode("latin-1")
        if path.startswith(f"htmx-{HTMX_VERSION}"):
            return True  # its path contains its version
        try:
            return self.url(path).endswith(f"?{query}")
        except BadTemplate:
            return False


@lru_cache(maxsize=1024)
def _version(file: Path, modified: int, size: int) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]
