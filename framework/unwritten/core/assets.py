"""Where our templates, style sheets, scripts and demos are, and how a browser gets them.

In an installed copy, ``templates/``, ``static/`` and ``demos/`` lie inside the package; in a checkout they
lie at the top of the tree. ``Static`` serves the files of an app's ``static`` folder and ours under URLs
that change with their content, so that a browser may keep them for ever.

htmx is not part of Unwritten. Pages load it from a CDN, unless ``unwritten offline`` has put a copy into the
user's cache; both are held to the same hash.
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


_FOREVER = "public, max-age=31536000, immutable"


def asset_dir(name: str) -> Path:
    """The folder ``templates``, ``static`` or ``demos``, in an installed copy or in a checkout.

    Raises:
        UnwrittenError: if this copy of Unwritten lacks it.
    """
    packaged = _PACKAGE / name
    checkout = _PACKAGE.parents[1]
    candidates = [packaged]
    # An installed package has a folder two levels up too, and it is not ours: only a checkout counts.
    if (checkout / "pyproject.toml").is_file():
        candidates.append(checkout / name)
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    looked = " and ".join(str(candidate) for candidate in candidates)
    raise UnwrittenError(
        f"This copy of Unwritten lacks its {name}/ folder (looked in {looked}). "
        "Install it again: pip install --force-reinstall --no-deps unwritten"
    )


@dataclass(frozen=True, slots=True)
class Script:
    """One file of htmx.

    Attributes:
        name: the file's name in the cache.
        path: its path inside the ``htmx.org`` package.
        integrity: its hash, as a ``<script integrity>`` attribute has it.
    """

    name: str
    path: str
    integrity: str

    @property
    def cdn(self) -> str:
        """Its URL on the CDN."""
        return f"https://cdn.jsdelivr.net/npm/htmx.org@{HTMX_VERSION}/{self.path}"


# Hashes computed from the files of the package itself; the one printed in its README fits none of them.
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


def htmx_cache() -> Path:
    """The folder of the user's own copy of htmx; it need not exist."""
    return platformdirs.user_cache_path("unwritten", appauthor=False) / f"htmx-{HTMX_VERSION}"


def htmx_copy(script: Script) -> Path | None:
    """The user's copy of a script, or None if there is none or its content is not what it should be."""
    file = htmx_cache() / script.name
    try:
        stat = file.stat()
        return file if _integrity(file, stat.st_mtime_ns, stat.st_size) == script.integrity else None
    except OSError:
        return None


def htmx_sources() -> list[tuple[str, str]]:
    """Where pages get htmx from: (URL, integrity) of each script, in the order in which they must load."""
    prefix = f"{STATIC_PREFIX}/htmx-{HTMX_VERSION}"
    return [(f"{prefix}/{script.name}" if htmx_copy(script) else script.cdn, script.integrity) for script in HTMX]


def integrity_of(content: bytes) -> str:
    """The hash of some bytes, as a ``<script integrity>`` attribute has it."""
    return "sha384-" + base64.b64encode(hashlib.sha384(content).digest()).decode("ascii")


@lru_cache(maxsize=64)
def _integrity(file: Path, modified: int, size: int) -> str:
    return integrity_of(file.read_bytes())


@lru_cache(maxsize=1024)
def _version(file: Path, modified: int, size: int) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


class VersionedStaticFiles(StaticFiles):
    """Serves static files, the app's before ours, under URLs that may be kept for ever.

    An ASGI app, to be mounted at ``PREFIX``. A request that names the file's present version is answered as
    immutable; any other is answered with the file and has to be asked for again.
    """

    def __init__(self, folders: Iterable[Path] = ()) -> None:
        """Serve from these folders, the first one that has the file; ours comes last."""
        self.folders = (*folders, asset_dir("static"))
        super().__init__(directory=self.folders[-1])
        self.all_directories = list(self.folders)

    def url(self, name: str) -> str:
        """The versioned URL of a file, such as ``/_unwritten/static/unwritten.css?v=0123456789ab``.

        Raises:
            BadTemplate: if no folder has the file.
        """
        file, stat = self.lookup_path(os.path.normpath(name))
        if stat is None or not Path(file).is_file():
            known = [
                path.relative_to(folder).as_posix()
                for folder in self.folders
                for path in folder.rglob("*")
                if path.is_file()
            ]
            looked = " and ".join(str(folder) for folder in self.folders)
            raise BadTemplate(
                f"A template asks for static({name!r}), and there is no such file in {looked}."
                + suggestion(name, known)
            )
        return f"{STATIC_PREFIX}/{name}?v={_version(Path(file), stat.st_mtime_ns, stat.st_size)}"

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """Find a file. The user's copy of htmx has a folder name of its own."""
        folder, _, name = path.replace(os.sep, "/").partition("/")
        if folder == f"htmx-{HTMX_VERSION}":
            copies = (htmx_copy(script) for script in HTMX if script.name == name)
            copy = next((copy for copy in copies if copy is not None), None)
            return (str(copy), copy.stat()) if copy else ("", None)
        if any(part.startswith(".") for part in Path(path).parts):
            return "", None  # hidden files are nobody's business
        return super().lookup_path(path)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Answer, and say how long the answer may be kept."""
        response = await super().get_response(path, scope)
        if response.status_code in {200, 304}:
            response.headers["cache-control"] = _FOREVER if self._is_current(path, scope) else "no-cache"
        return response

    def _is_current(self, path: str, scope: Scope) -> bool:
        query = scope.get("query_string", b"").decode("latin-1")
        if path.startswith(f"htmx-{HTMX_VERSION}"):
            return True  # its version is in its path
        try:
            return self.url(path).endswith(f"?{query}")
        except BadTemplate:
            return False
