"""Keep evaluated prompt prefixes on disk, so that a new process does not evaluate them again.

Reading the KV cache of a prefix takes milliseconds, evaluating it takes seconds on a CPU. llama.cpp reads and writes
the files itself, by requests to its loopback port. A file's name has a key and the SHA-256 of the contents: files of
another model, version or context are not found, and damaged ones are deleted.

A file holds a prefix that pages of an app share, and no text of visitors. Still, only its owner can read it.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import logging
import os
import re
import secrets
import shutil
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import platformdirs

MAX_BYTES: Final = 1 << 29
"""Maximum size of all files together. A file may have a quarter of it."""

MAX_AGE_SECONDS: Final = 30 * 86400
"""Age since the last use after which a file is deleted."""

_SPARE_DISK: Final = 1 << 30
"""Nothing is written if less is free on the disk."""

_NAME: Final = re.compile(r"([0-9a-f]{40})-([0-9a-f]{64})\.prefix")
_PART_SECONDS: Final = 3600
_TIMEOUT: Final = 60.0

log = logging.getLogger("unwritten_engine")


def prefixes_folder() -> Path:
    """Return the folder of the files: ``unwritten/prefixes`` in the user's cache folder."""
    return Path(platformdirs.user_cache_dir("unwritten", appauthor=False)) / "prefixes"


def disk_usage(folder: Path) -> tuple[int, int]:
    """Return the number of files and their size in bytes."""
    sizes = [size for path, _, size in _entries(folder) if _NAME.fullmatch(path.name)]
    return len(sizes), sum(sizes)


def model_identity(files: Sequence[Path]) -> tuple[str, ...]:
    """Return what identifies a model's files: path, size and time of the last change."""
    found = []
    for file in files:
        info = file.stat()
        found.append(f"{file.resolve()} {info.st_size} {info.st_mtime_ns}")
    return tuple(found)


class SavedPrefixes:
    """The evaluated prefixes of one model with one context. Its methods block: call them in a thread.

    Every failure means that a prefix is evaluated, as it would be without files. It is logged, and never raised.

    Args:
        folder: where the files are; see ``open_folder``.
        identity: everything that the files depend on, beside the prefix.
        max_bytes: maximum size of all files in the folder.
    """

    def __init__(self, folder: Path, identity: Sequence[str], *, max_bytes: int = MAX_BYTES) -> None:
        self._folder = folder
        self._identity = "\0".join(identity)
        self._max_bytes = max_bytes
        self._address = self._key = ""
        self._lock = threading.Lock()  # llama.cpp answers one such request at a time

    def connect(self, address: str, key: str) -> None:
        """Set the URL and the API key of llama.cpp, which are known once the model is loaded."""
        self._address, self._key = address, key

    def restore(self, slot: int, prefix: str) -> bool:
        """Load a prefix into a slot of the cache that is not in use. Return False if there is no usable file."""
        file = self._find(prefix)
        if file is None:
            return False
        if not self._call(slot, "restore", file.name):
            with contextlib.suppress(OSError):
                file.unlink()  # it has the right contents, but this llama.cpp does not accept it
            return False
        with contextlib.suppress(OSError):
            os.utime(file)  # the files that have not been used for longest are deleted first
        return True

    def save(self, slot: int, prefix: str) -> bool:
        """Write what a slot of the cache holds, which must be this prefix and little more.

        Returns:
            True if there is a file now, of this or of an earlier call.
        """
        if any(self._folder.glob(f"{self._hash(prefix)}-*.prefix")):
            return True
        part = self._folder / f"{secrets.token_hex(8)}.part"
        try:
            if shutil.disk_usage(self._folder).free < _SPARE_DISK or not self._call(slot, "save", part.name):
                return False
            part.chmod(0o600)
            if part.stat().st_size > self._max_bytes // 4:
                return False
            part.replace(self._folder / f"{self._hash(prefix)}-{_sha256(part)}.prefix")
        except OSError as error:
            log.debug("An evaluated prefix could not be written to %s: %s", self._folder, error)
            return False
        finally:
            with contextlib.suppress(OSError):
                part.unlink()
        self.clean()
        return True

    def clean(self) -> None:
        """Delete what is old, damaged or unfinished, and the least recently used files beyond the maximum size."""
        now, total = time.time(), 0
        for path, used, size in sorted(_entries(self._folder), key=lambda entry: entry[1], reverse=True):
            if path.suffix == ".part":
                is_kept = now - used < _PART_SECONDS  # another process may be writing it
            elif path.suffix == ".prefix":
                is_kept = _NAME.fullmatch(path.name) is not None and now - used < MAX_AGE_SECONDS
                is_kept = is_kept and total + size <= self._max_bytes
                total += size if is_kept else 0
            else:
                continue  # not ours
            if not is_kept:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _find(self, prefix: str) -> Path | None:
        """Return the file of a prefix, and delete damaged ones."""
        for file in self._folder.glob(f"{self._hash(prefix)}-*.prefix"):
            match = _NAME.fullmatch(file.name)
            try:
                if match and not file.is_symlink() and _sha256(file) == match[2]:
                    return file
                file.unlink()
            except OSError as error:
                log.debug("The evaluated prefix %s could not be read: %s", file, error)
        return None

    def _hash(self, prefix: str) -> str:
        return hashlib.sha256(f"{self._identity}\0{prefix}".encode("utf-8", "surrogatepass")).hexdigest()[:40]

    def _call(self, slot: int, action: str, name: str) -> bool:
        """Let llama.cpp save or restore a slot. Return True if it did."""
        address = urlsplit(self._address)
        connection = http.client.HTTPConnection(address.hostname or "127.0.0.1", address.port, timeout=_TIMEOUT)
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        try:
            with self._lock:
                body = json.dumps({"filename": name})
                connection.request("POST", f"/slots/{slot}?action={action}", body, headers)
                answer = connection.getresponse()
                result: dict[str, Any] = json.loads(answer.read())
            # It also answers 200 if it could write nothing.
            return answer.status == 200 and int(result.get("n_saved", result.get("n_restored", 0))) > 0
        except (OSError, ValueError, TypeError, AttributeError, http.client.HTTPException) as error:
            log.debug("llama.cpp could not %s an evaluated prefix: %s", action, error)
            return False
        finally:
            connection.close()


def open_folder(folder: Path) -> Path | None:
    """Create the folder, readable only for its owner. Return None if that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        info = folder.lstat()
        if not stat.S_ISDIR(info.st_mode) or (hasattr(os, "getuid") and info.st_uid != os.getuid()):
            log.debug("%s is not a folder of this user; evaluated prefixes are not kept.", folder)
            return None
        folder.chmod(0o700)
    except OSError as error:
        log.debug("Evaluated prefixes are not kept: %s", error)
        return None
    return folder if os.access(folder, os.W_OK) else None


def _entries(folder: Path) -> Iterator[tuple[Path, float, int]]:
    """Yield each file with the time of its last use and its size."""
    with contextlib.suppress(OSError), os.scandir(folder) as found:
        for entry in found:
            with contextlib.suppress(OSError):
                if not entry.is_dir(follow_symlinks=False):
                    info = entry.stat(follow_symlinks=False)
                    yield Path(entry.path), info.st_mtime, info.st_size


def _sha256(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
