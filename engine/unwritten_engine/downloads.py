"""Atomic file writes, and downloads that report their size first."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import platformdirs

from .engine import Progress
from .errors import EngineError, MissingPackage, ModelNotFound


def models_folder() -> Path:
    """Return the folder of downloaded models: ``unwritten/models`` in the user's cache folder."""
    return Path(platformdirs.user_cache_dir("unwritten", appauthor=False)) / "models"


@contextlib.contextmanager
def whole_file(target: Path, size: int) -> Iterator[BinaryIO]:
    """Write a file atomically: under a temporary name that is renamed when it is complete.

    Several processes may write the same target; the last to finish wins.

    Args:
        target: the destination.
        size: expected size in bytes, used to check the free disk space.

    Raises:
        EngineError: the disk is full, or the folder is not writable.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(target.parent).free
        if free < size:
            raise OSError(errno.ENOSPC, "No space left on device")
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    except OSError as error:
        raise unwritable(target, size, error) from error
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o644)
        part.replace(target)
    except OSError as error:
        if isinstance(error, urllib.error.URLError | TimeoutError | ConnectionError):
            raise
        raise unwritable(target, size, error) from error
    finally:
        part.unlink(missing_ok=True)


def unwritable(target: Path, size: int, error: OSError) -> EngineError:
    """Return the exception for a file that cannot be written. Its message says what to do."""
    need = f"{size / 1e6:,.0f} MB"
    if error.errno == errno.ENOSPC:
        return EngineError(
            f"The disk is full: {target.name} needs {need} in {target.parent}. Free some space, or set "
            f"XDG_CACHE_HOME to a folder on another disk."
        )
    return EngineError(
        f"Cannot write {target.name} ({need}) to {target.parent}: {error.strerror or error}. "
        f"Change the permissions, or set XDG_CACHE_HOME to a folder of your own."
    )


def download(url: str, target: Path, progress: Progress) -> Path:
    """Download a file over HTTP, unless it exists. Return its path.

    Raises:
        ModelNotFound: the server does not have it, or cannot be reached.
        EngineError: the disk is full, or the folder is not writable.
    """
    if target.exists():
        return target
    request = urllib.request.Request(url, headers={"User-Agent": "unwritten"})  # noqa: S310 - http(s), see open.py
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            size = int(answer.headers.get("Content-Length") or 0)
            message = f"Downloading {target.name}, {size / 1e6:,.0f} MB, to {target.parent}"
            progress(0.0, message)
            done = 0
            with whole_file(target, size) as file:
                while block := answer.read(1 << 20):
                    file.write(block)
                    done += len(block)
                    progress(min(done / size, 1.0) if size else 0.0, message)
                if size and done < size:
                    raise ConnectionError(f"the connection ended after {done:,} of {size:,} bytes")
    except urllib.error.HTTPError as error:
        error.close()
        raise ModelNotFound(f"{url} answers {error.code} {error.reason}. Check the address.") from error
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise ModelNotFound(
            f"{url} cannot be downloaded: {reason}. Check the connection and try again, or give a file that is "
            f"already on this machine. 'embedded' needs no network."
        ) from error
    return target


def hugging_face() -> Any:
    """Return the module huggingface_hub, imported on demand.

    Raises:
        MissingPackage: it is not installed.
    """
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise MissingPackage(
            "Models on Hugging Face need the package huggingface_hub. Type: pip install huggingface_hub"
        ) from error
