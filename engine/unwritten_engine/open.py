"""``open_engine``: open an engine by name, path or address.

``ENGINE_KINDS`` is a table with one row per kind of engine: the specs that it accepts and the function that opens it.
"""

from __future__ import annotations

import difflib
import importlib
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from .cleaning import CleanEngine, clean_engine
from .downloads import download, models_folder
from .engine import Engine, Progress
from .errors import BadOption, EngineError, MissingPackage, UnknownEngine
from .hub_files import fetch_hub_file
from .named_models import MODELS, NamedModel
from .options import Option, check_options
from .vllm.gpus import GPU, OLDEST, OWN_ENGINE_NEEDS, choose_checkpoint, find_gpus, use_only
from .vllm.internals import INSTALL, installed_version, is_cpu_build, is_supported

log = logging.getLogger("unwritten_engine")


@dataclass(frozen=True, slots=True)
class _EngineKind:
    """A kind of engine.

    Attributes:
        name: its name, or the prefix or suffix of its specs.
        example: a spec, for messages and documentation.
        claims: True if a spec selects this kind.
        open: opens the engine; takes the spec, progress and options.
        models: whether it accepts the option ``model``.
        remote: whether it uses a model in another process, which several processes can share.
    """

    name: str
    example: str
    claims: Callable[[str], bool]
    open: Callable[..., Engine]
    models: bool = False
    remote: bool = False


def open_engine(spec: str | Path = "auto", *, progress: Progress | None = None, **options: Any) -> CleanEngine:
    """Open an engine. Its output is cleaned (see ``cleaning``).

    This loads a model, which takes seconds: call it in a thread, not in an event loop.

    Args:
        spec: which engine:

            * ``auto``: DiffusionGemma on the NVIDIA GPU with the most free memory, if it fits there, in vLLM if
              installed, or else in the engine ``diffusion`` if that is installed; else the embedded model;
            * ``embedded``: the model that is part of the installation, Gemma 3 270M;
            * a path to a ``.gguf`` file;
            * a name of ``named_models.MODELS`` such as ``qwen2.5-3b``: downloaded, checked and opened;
            * ``hf:OWNER/REPO/FILE.gguf``: a file on Hugging Face, downloaded to the cache folder;
            * an ``http(s)://….gguf`` address, downloaded likewise;
            * ``diffusion``: DiffusionGemma in this process; ``diffusion:REFERENCE`` for another checkpoint of
              DiffusionGemma or LFM2 diffusion, a folder or ``OWNER/REPO``; ``diffusion:random`` and
              ``diffusion:random-lfm2`` for small random models;
            * ``vllm``: DiffusionGemma in vLLM, with the checkpoint that suits the GPU; ``vllm:REFERENCE`` for another;
            * any other ``http(s)://`` address: an OpenAI-compatible server, such as ``http://localhost:8000/v1``;
            * a ``ws(s)://`` address: an engine server, which ``unwritten engine`` starts;
            * ``visual:PATH``: llama.cpp's resident program for DiffusionGemma, with ``model=FILE.gguf``;
            * a path to a ``.tape`` file, or ``tape:PATH``: recorded frames.
        progress: called with the share done and the current step. Before a download it gets the size and the folder.
        options: options of that kind of engine, see ``OPTIONS`` of its module. ``model`` is accepted by engines that
            take one.

    Raises:
        UnknownEngine: no engine of that name. The message suggests the nearest.
        UnknownOption, BadOption: an unknown option, or an invalid value.
        ModelNotFound, ModelBroken, ModelUnsupported: the model file is missing, damaged or of another kind.
        MissingPackage: an optional dependency is missing. The message has the install command.
    """
    text = str(spec).strip()
    progress = progress or (lambda share, step: None)
    for kind in ENGINE_KINDS:
        if kind.claims(text):
            if "model" in options and not kind.models:
                takers = ", ".join(kind.example for kind in ENGINE_KINDS if kind.models)
                raise BadOption(
                    f"The engine {text!r} takes no model, but got model={options['model']!r}. Leave it out, or use an "
                    f"engine that takes one: {takers}."
                )
            return clean_engine(kind.open(text, progress, **options))
    raise _unknown(text)


def is_remote(spec: str) -> bool:
    """True if an engine's model runs on a server, so that several processes can use the same one."""
    return next((kind.remote for kind in ENGINE_KINDS if kind.claims(spec.strip())), False)


def _unknown(text: str) -> UnknownEngine:
    is_path = "/" in text or "\\" in text or text.endswith((".bin", ".safetensors", ".gguf", ".tape"))
    if is_path:
        return UnknownEngine(
            f"{text!r} is neither a .gguf or .tape file nor a server address. Engines are {_examples()}."
        )
    names = [*(kind.name for kind in ENGINE_KINDS), *MODELS]
    near = sorted(name for name in MODELS if text and name.startswith(text.lower()))
    near = near or difflib.get_close_matches(text, names, n=1)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return UnknownEngine(f"There is no engine {text!r}.{hint} Engines are {_examples()}.")


def _examples() -> str:
    *most, last = [kind.example for kind in ENGINE_KINDS]
    return f"{', '.join(most)} and {last}"


def _open_auto(_: str, progress: Progress, **options: Any) -> Engine:
    """Open DiffusionGemma on a GPU that it fits on now, else the embedded model. Options are those of the latter."""
    why = "No other engine was requested."
    if not options:
        gpus = find_gpus()
        name, why, gpu = _auto_choice(gpus)
        if gpu is not None:
            if len(gpus) > 1:
                use_only(gpu)
            try:
                opener = _open_vllm if name == "vllm" else _open_diffusion
                return opener(name, progress, _why=why)
            except EngineError as error:
                log.warning("The embedded model is used instead of %s. %s", name, error)
                why = f"The engine {name!r} could not be opened: {error}"
    return _open_embedded("embedded", progress, _why=why, **options)


def _auto_choice(gpus: Sequence[GPU]) -> tuple[str, str, GPU | None]:
    """Return the engine for DiffusionGemma, why, and the GPU for it; "" and None if there is none.

    The GPU with the most free memory is preferred.
    """
    gpus = sorted(gpus, key=lambda gpu: gpu.free, reverse=True)
    for_vllm = [gpu for gpu in gpus if (choice := choose_checkpoint(gpu)) and gpu.free >= choice.needs]
    for_diffusion = [gpu for gpu in gpus if gpu.capability >= OLDEST and gpu.free >= OWN_ENGINE_NEEDS]
    version = installed_version()
    if for_vllm and version is not None and is_supported(version) and not is_cpu_build():
        return "vllm", f"DiffusionGemma fits on {for_vllm[0].name}, and vLLM is installed.", for_vllm[0]
    if for_diffusion and _has_torch_for_gpus():
        faster = f" vLLM is faster; type: {INSTALL}" if for_vllm else ""
        return "diffusion", f"DiffusionGemma fits on {for_diffusion[0].name}.{faster}", for_diffusion[0]
    if for_diffusion:
        extra = "vllm" if for_vllm else "diffusion"
        return "", f'{for_diffusion[0].name} could run DiffusionGemma. Type: pip install "unwritten[{extra}]"', None
    reasons = [
        f"{gpu.name} is too small or too old for DiffusionGemma."
        if gpu.memory < OWN_ENGINE_NEEDS or gpu.capability < OLDEST
        else f"Other programs use {gpu.name}: {gpu.free / 1e9:.0f} of {gpu.memory / 1e9:.0f} GB are free."
        for gpu in gpus
    ]
    return "", " ".join(dict.fromkeys(reasons)) or "No other engine was requested, and there is no NVIDIA GPU.", None


def _has_torch_for_gpus() -> bool:
    """True if transformers and a build of torch that is not for CPUs are installed. Imports neither."""
    if find_spec("torch") is None or find_spec("transformers") is None:
        return False
    return "cpu" not in metadata.version("torch")


def _open_embedded(_: str, progress: Progress, *, _why: str = "", **options: Any) -> Engine:
    from .llamacpp.embedded import open_embedded  # llama.cpp is imported only if it is used

    return open_embedded(progress=progress, reasons=(_why or "It was requested by name.",), **options)


def _open_gguf(path: str, progress: Progress, *, _name: str = "", **options: Any) -> Engine:
    from .llamacpp.engine import OPTIONS, open_llamacpp

    check_options(options, OPTIONS, "The llama.cpp engine")
    file = Path(path).expanduser()
    return open_llamacpp(file, progress=progress, reasons=(f"{_name or file.name} was requested by name.",), **options)


def _open_address(address: str, progress: Progress, **options: Any) -> Engine:
    from .llamacpp.engine import OPTIONS

    check_options(options, OPTIONS, "The llama.cpp engine")  # before the download, not after
    parts = urlsplit(address)
    target = models_folder() / (parts.hostname or "unknown") / Path(unquote(parts.path)).name
    file = download(address, target, lambda share, step: progress(share * 0.9, step))
    return _open_gguf(str(file), _after_download(progress), _name=address, **options)


def _open_hugging_face(spec: str, progress: Progress, **options: Any) -> Engine:
    from .llamacpp.engine import OPTIONS

    check_options(options, OPTIONS, "The llama.cpp engine")
    owner, _, rest = spec.removeprefix("hf:").partition("/")
    repo, _, file = rest.partition("/")
    if not (owner and repo and file.endswith(".gguf")) or ".." in spec.split("/"):
        raise UnknownEngine(f"{spec!r} does not name a file. The form is {_HF_EXAMPLE}.")
    path = fetch_hub_file(f"{owner}/{repo}", file, lambda share, step: progress(share * 0.9, step))
    return _open_gguf(str(path), _after_download(progress), _name=spec, **options)


def _open_named(name: str, progress: Progress, **options: Any) -> Engine:
    model = MODELS[name.lower()]
    if not model.repo:
        return _open_diffusion_gemma(model, progress, **options)
    if not model.file:
        return _open_diffusion(
            "diffusion", progress, model=model.repo, _why=f"{name} was requested by name.", **options
        )
    from .llamacpp.engine import OPTIONS, open_llamacpp

    check_options(options, OPTIONS, "The llama.cpp engine")
    progress(0.0, f"{model.title}, licence: {model.licence}")
    path = fetch_hub_file(model.repo, model.file, lambda share, step: progress(share * 0.9, step))
    return open_llamacpp(
        path,
        progress=_after_download(progress),
        model=f"{model.title} ({model.quantization})",
        licence=model.licence,
        reasons=(f"{name} was requested by name.",),
        **options,
    )


def _open_diffusion_gemma(model: NamedModel, progress: Progress, **options: Any) -> Engine:
    """Open DiffusionGemma in the engine that suits the GPU."""
    gpus = find_gpus()
    engine, why, gpu = _auto_choice(gpus)
    if gpu is None:
        raise EngineError(
            f"{model.title} cannot run here: {why} It needs an NVIDIA GPU with {OWN_ENGINE_NEEDS / 1e9:.0f} GB. "
            f"Models that fit: unwritten models"
        )
    if len(gpus) > 1:
        use_only(gpu)
    opener = _open_vllm if engine == "vllm" else _open_diffusion
    return opener(engine, progress, _why=f"{model.name} was requested by name. {why}", **options)


_HF_EXAMPLE: Final = "hf:OWNER/REPO/FILE.gguf"


def _after_download(progress: Progress) -> Progress:
    """Return a progress callback for loading the model, which is the last tenth of the work."""
    return lambda share, step: progress(0.9 + share * 0.1, step)


def _open_server(address: str, progress: Progress, **options: Any) -> Engine:
    from .openai.engine import open_openai

    return open_openai(address, progress=progress, **options)


_DIFFUSION_GEMMA: Final = "google/diffusiongemma-26B-A4B-it"


def _open_diffusion(
    spec: str, progress: Progress, *, model: str | None = None, _why: str = "", **options: Any
) -> Engine:
    reference = spec.removeprefix("diffusion").removeprefix(":").strip()
    if reference and model and reference != model:
        raise BadOption(f"{spec!r} and model={model!r} name different checkpoints. Leave one of them out.")
    try:
        importlib.import_module("torch")
        importlib.import_module("transformers")
    except ImportError as error:
        raise MissingPackage(
            f'The diffusion engine needs torch and transformers ({error}). Type: pip install "unwritten[diffusion]"'
        ) from error
    from .diffusion import open_diffusion

    reason = "It was requested by name." if reference or model else "DiffusionGemma is the engine's default model."
    reason = _why or reason
    engine: Engine = open_diffusion(
        reference or model or _DIFFUSION_GEMMA, progress=progress, reasons=(reason,), **options
    )
    return engine


def _open_vllm(spec: str, progress: Progress, *, model: str | None = None, _why: str = "", **options: Any) -> Engine:
    from .vllm import open_vllm

    reference = spec.removeprefix("vllm").removeprefix(":").strip()
    if reference and model and reference != model:
        raise BadOption(f"{spec!r} and model={model!r} name different checkpoints. Leave one of them out.")
    reason = _why or "It was requested by name."
    return open_vllm(reference or model, progress=progress, reasons=(reason,), **options)


def _open_remote(address: str, progress: Progress, **options: Any) -> Engine:
    from .remote.client import open_remote

    return open_remote(address, progress=progress, **options)


def _open_visual(spec: str, progress: Progress, **options: Any) -> Engine:
    from .visual.engine import open_visual

    return open_visual(spec.removeprefix("visual:"), progress=progress, **options)


_TAPE_OPTIONS: Final = (
    Option("speed", 1.0, "number", "1 plays in real time, 4 four times faster, 0 without delay", 0),
    Option("strict", False, "flag", "refuse requests that differ in more than seed and priority"),
)


def _open_tape(spec: str, progress: Progress, **options: Any) -> Engine:
    from .tape import TapeEngine

    settings = check_options(options, _TAPE_OPTIONS, "The tape engine")
    return TapeEngine(Path(spec.removeprefix("tape:")).expanduser(), **settings)


def _is_http(spec: str) -> bool:
    return spec.startswith(("http://", "https://"))


ENGINE_KINDS: Final[tuple[_EngineKind, ...]] = (
    _EngineKind("auto", "'auto'", lambda spec: spec == "auto", _open_auto),
    _EngineKind("embedded", "'embedded'", lambda spec: spec == "embedded", _open_embedded),
    _EngineKind(
        "diffusion",
        "'diffusion'",
        lambda spec: spec == "diffusion" or spec.startswith("diffusion:"),
        _open_diffusion,
        models=True,
    ),
    _EngineKind("vllm", "'vllm'", lambda spec: spec == "vllm" or spec.startswith("vllm:"), _open_vllm, models=True),
    _EngineKind("tape:", "'tape:FILE'", lambda spec: spec.startswith("tape:"), _open_tape),
    _EngineKind("qwen2.5-3b", "a name that 'unwritten models' lists", lambda spec: spec.lower() in MODELS, _open_named),
    _EngineKind("hf:", f"'{_HF_EXAMPLE}'", lambda spec: spec.startswith("hf:"), _open_hugging_face),
    _EngineKind(
        "https://",
        "'https://HOST/FILE.gguf'",
        lambda spec: _is_http(spec) and re.split("[?#]", spec)[0].endswith(".gguf"),
        _open_address,
    ),
    _EngineKind("http://", "'http://HOST:PORT/v1'", _is_http, _open_server, models=True, remote=True),
    _EngineKind(
        "ws://", "'ws://HOST:PORT'", lambda spec: spec.startswith(("ws://", "wss://")), _open_remote, remote=True
    ),
    _EngineKind("visual:", "'visual:PATH'", lambda spec: spec.startswith("visual:"), _open_visual, models=True),
    _EngineKind(".tape", "a path to a .tape", lambda spec: spec.endswith(".tape") and "://" not in spec, _open_tape),
    _EngineKind(
        ".gguf", "a path to a .gguf file", lambda spec: spec.endswith(".gguf") and "://" not in spec, _open_gguf
    ),
)
"""All kinds of engines. The first kind that claims a spec opens it."""
