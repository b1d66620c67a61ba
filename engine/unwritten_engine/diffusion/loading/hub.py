"""Find or download checkpoints on Hugging Face. Does not use torch."""

from __future__ import annotations

import fnmatch
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ...downloads import hugging_face
from ...engine import Progress
from ...errors import EngineError, ModelNotFound
from .memory_plan import gigabytes
from .safetensors_index import read_tensors

_WANTED: Final = ("*.json", "*.jinja", "tokenizer.model", "README.md", "model*.safetensors")
_SMALL: Final = ("*.json", "*.jinja", "tokenizer.model", "README.md")


def fetch_checkpoint(reference: str, progress: Progress, agree: Callable[[Path], str], *, example: str) -> Path:
    """Return the folder of a model on the hub, downloading it if it is not in the cache.

    Args:
        reference: OWNER/REPO.
        progress: gets size, licence and folder before the download.
        agree: called with a folder of its JSON files before weights are downloaded; returns its licence, or "" if
            unknown. Raises if the model cannot be loaded, or would not fit.
        example: OWNER/REPO of a checkpoint, for messages.

    Raises:
        MissingPackage: huggingface_hub is not installed.
        ModelNotFound: the model does not exist, or the hub cannot be reached.
        ModelUnsupported, ModelBroken: according to its ``config.json``, it cannot be loaded.
        EngineError: the disk is too full.
    """
    hub = hugging_face()
    cached = _cached(hub, reference, agree)
    if cached is not None:
        return cached
    try:
        about = hub.HfApi().model_info(reference, files_metadata=True)
        sizes = {item.rfilename: item.size or 0 for item in about.siblings or ()}
        small = Path(hub.snapshot_download(reference, allow_patterns=list(_SMALL)))
    except Exception as error:  # its error types differ between versions
        raise _unreachable(reference, error, example) from error
    licence = agree(small)
    size = sum(count for file, count in sizes.items() if any(fnmatch.fnmatch(file, want) for want in _WANTED))
    place = Path(hub.constants.HF_HUB_CACHE)
    free = _free(place)
    if free < size:
        raise EngineError(
            f"The disk is too full: {reference} needs {gigabytes(size)}, and {place} has {gigabytes(free)} free. "
            f"Free some space, or set HF_HOME to a folder on another disk."
        )
    terms = f", licence: {licence}" if licence else ""
    progress(0.0, f"Downloading {reference}, {gigabytes(size)}, to {place}{terms}")
    try:
        return Path(hub.snapshot_download(reference, allow_patterns=list(_WANTED)))
    except Exception as error:
        raise _unreachable(reference, error, example) from error


def _cached(hub: Any, reference: str, agree: Callable[[Path], str]) -> Path | None:
    """Return the folder in the cache if it is complete, else None."""
    try:
        folder = Path(hub.snapshot_download(reference, local_files_only=True))
        agree(folder)
        read_tensors(folder)
    except (ModelNotFound, FileNotFoundError, ValueError, OSError):
        return None  # missing or incomplete; other errors are raised
    return folder


def _unreachable(reference: str, error: Exception, example: str) -> ModelNotFound:
    return ModelNotFound(
        f"{reference} cannot be fetched from Hugging Face ({type(error).__name__}: {_first_line(error)}), and it is "
        f"not in its cache. Check the name, such as {example}, and the connection; a gated model needs: hf auth "
        f'login. A local folder and "random" need no network.'
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]


def _free(folder: Path) -> int:
    """Return the free bytes of the disk of a folder, which may not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
