"""A painter for any text-to-image pipeline of diffusers, from a folder or the hub."""

from __future__ import annotations

import importlib
import inspect
import io
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image, ImageOps

from ..downloads import hugging_face
from ..engine import Progress
from ..errors import BadOption, GenerationFailed, ModelBroken, ModelNotFound, ModelUnsupported
from ..options import check_options
from .painter import OPTIONS, PROMPT_LIMIT, Painted, PainterAbout

# Imported without types: their annotations are incomplete and partly wrong.
diffusers: Any = importlib.import_module("diffusers")
transformers: Any = importlib.import_module("transformers")
RANDOM: Final = "random"
_RANDOM_STEPS: Final = 6
_DTYPES: Final = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_UNIT: Final = 16
"""Widths and heights are multiples of this, which every pipeline supports."""


def open_pipeline(name: str, progress: Progress, options: Mapping[str, Any]) -> DiffusersPainter:
    """See ``open_painter``."""
    settings = check_options(options, OPTIONS, "The painter")
    device = settings["device"] or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = settings["dtype"] or ("float32" if device == "cpu" else "float16")
    if dtype not in _DTYPES:
        raise BadOption(f"The painter: the option 'dtype' is {dtype!r}; give {', '.join(_DTYPES)}.")
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    progress(0.0, f"Loading the painter {name}")
    if name == RANDOM:
        from .random_pipeline import random_pipeline

        pipe, display_name = random_pipeline().to(_DTYPES[dtype]), "a tiny random painter"
        settings = {**settings, "steps": settings["steps"] or _RANDOM_STEPS}
    else:
        pipe, display_name = (
            _load(name, _DTYPES[dtype], progress),
            Path(name).name if Path(name).expanduser().exists() else name,
        )
    parameters = inspect.signature(pipe.__call__).parameters
    if "prompt" not in parameters or "num_inference_steps" not in parameters or "image" in parameters:
        raise ModelUnsupported(
            f"{name} is a {type(pipe).__name__}, which needs more than a prompt. Name a text-to-image pipeline, or "
            "leave the painter out: then pictures are ornaments."
        )
    try:
        pipe.to(device)
    except (RuntimeError, AssertionError) as error:
        raise BadOption(f"The painter: the device {device!r} cannot be used ({error}). Try device=cpu.") from error
    pipe.set_progress_bar_config(disable=True)
    steps = settings["steps"] or int(parameters["num_inference_steps"].default or 30)
    progress(1.0, f"The painter {display_name} is ready")
    reasons = (
        ("The painter is tiny and random: the mechanics are real, the pictures are noise.",) if name == RANDOM else ()
    )
    return DiffusersPainter(pipe, PainterAbout(display_name, str(device), steps, name == RANDOM, reasons), settings)


def _load(name: str, dtype: torch.dtype, progress: Progress) -> Any:
    folder = Path(name).expanduser()
    local = folder.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1
    if local and not (folder / "model_index.json").is_file():
        raise ModelNotFound(
            f"{name!r} is neither a folder with a diffusers pipeline (no model_index.json) nor an OWNER/REPO. "
            "To try it without a model: --painter random"
        )
    reference = str(folder) if local else _fetch(name, progress)
    try:
        # Only safetensors: loading a pickle can run arbitrary code.
        return diffusers.DiffusionPipeline.from_pretrained(
            reference, dtype=dtype, use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False
        )
    except Exception as error:  # errors of any component
        raise ModelBroken(
            f"The painter {name} cannot be loaded ({type(error).__name__}: {error}). If files are missing, copy it "
            "again; it must have its weights as .safetensors."
        ) from error


def _fetch(name: str, progress: Progress) -> str:
    """Return the folder of a pipeline on the hub, downloading it if needed."""
    hub = hugging_face()
    try:
        return str(hub.snapshot_download(name, local_files_only=True, allow_patterns=_WANTED))
    except Exception:  # noqa: S110 - not cached yet; the error type differs between versions
        pass
    try:
        files = hub.HfApi().model_info(name, files_metadata=True).siblings or []
        size = sum(file.size or 0 for file in files if file.rfilename.endswith(".safetensors"))
        progress(0.0, f"Downloading {name}, up to {size / 1e9:,.1f} GB, to {hub.constants.HF_HUB_CACHE}")
        return str(hub.snapshot_download(name, allow_patterns=_WANTED))
    except Exception as error:
        raise ModelNotFound(
            f"The painter {name} cannot be downloaded from Hugging Face ({type(error).__name__}: {error}). Check the "
            "name and the connection; a model behind a licence needs: hf auth login"
        ) from error


_WANTED: Final = ["model_index.json", "*/*.json", "*/*.txt", "*/*.model", "*/*.safetensors"]


class DiffusersPainter:
    """A painter for one pipeline. Created by ``open_painter``."""

    def __init__(self, pipe: Any, about: PainterAbout, settings: Mapping[str, Any]) -> None:
        self.about = about
        self._pipe = pipe
        self._settings = settings

    def paint(
        self, prompt: str, width: int, height: int, *, seed: int, between: Callable[[], None] = lambda: None
    ) -> Painted:
        """See ``Painter.paint``."""
        if self._pipe is None:
            raise GenerationFailed("The painter has been closed.")
        share = min(1.0, self._settings["size"] / math.sqrt(width * height))
        wanted = (max(1, round(width * share)), max(1, round(height * share)))
        across, down = (max(4 * _UNIT, math.ceil(side / _UNIT) * _UNIT) for side in wanted)
        parameters = inspect.signature(self._pipe.__call__).parameters
        options: dict[str, Any] = {"num_inference_steps": self.about.steps, "width": across, "height": down}
        if self._settings["guidance"] is not None and "guidance_scale" in parameters:
            options["guidance_scale"] = self._settings["guidance"]
        stopped: list[BaseException] = []

        def step(pipe: Any, number: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            try:
                between()
            except BaseException as error:
                stopped.append(error)
                raise
            return tensors

        if "callback_on_step_end" in parameters:
            options["callback_on_step_end"] = step
        generator = torch.Generator("cpu").manual_seed(seed)
        try:
            between()
            with torch.inference_mode():
                image = self._pipe(prompt[:PROMPT_LIMIT], generator=generator, **options).images[0]
        except Exception as error:
            if stopped or not isinstance(error, RuntimeError | ValueError | TypeError | IndexError):
                raise
            raise GenerationFailed(
                f"{self.about.model} could not paint {across} by {down} pixels on {self.about.device} "
                f"({type(error).__name__}: {error}). If memory ran out, try a smaller size or another device."
            ) from error
        # Crop to the requested proportions, for which the page has reserved space.
        image = ImageOps.fit(image.convert("RGB"), wanted)
        return Painted(_encode_webp(image, self.about, seed), "image/webp", seed, self.about.steps)

    def close(self) -> None:
        """Free the model."""
        self._pipe = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _encode_webp(image: Image.Image, about: PainterAbout, seed: int) -> bytes:
    """Return the image as WebP with its origin in the metadata."""
    exif = Image.Exif()
    exif[0x010E] = f"Generated by {about.model}, seed {seed}; not a photograph.".encode("ascii", "replace").decode()
    exif[0x0131] = "Unwritten"
    out = io.BytesIO()
    image.save(out, "WEBP", quality=82, exif=exif)
    return out.getvalue()
