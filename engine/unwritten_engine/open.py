"""``open_engine``: from a name, a path or an address to an engine.

Every kind of engine is a row of one table: the names that it answers to, and the function that opens it. A new
kind is a new row.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from .downloads import download, hugging_face, models_folder
from .engine import Engine, Progress
from .errors import BadOption, MissingPackage, ModelNotFound, UnknownEngine, suggestion
from .options import Option, check_options


@dataclass(frozen=True, slots=True)
class _EngineKind:
    """A kind of engine.

    Attributes:
        name: how it is asked for, or what begins its specs.
        example: a spec, for messages and documentation.
        help: what it is, in one line.
        claims: whether a spec is meant for it.
        open: opens it; takes the spec, progress and options.
        models: it takes a ``model`` beside its spec.
    """

    name: str
    example: str
    help: str
    claims: Callable[[str], bool]
    open: Callable[..., Engine]
    models: bool = False


def open_engine(spec: str | Path = "auto", *, progress: Progress | None = None, **options: Any) -> Engine:
    """Open an engine. It loads a model, which takes seconds: call it in a thread, not in an event loop.

    Args:
        spec: which one:

            * ``auto``: the best that needs no download (today, the embedded model);
            * ``embedded``: the model in the box, Gemma 3 270M;
            * a path to a ``.gguf`` file;
            * ``hf:OWNER/REPO/FILE.gguf``: a file on Hugging Face, downloaded into the cache folder;
            * an ``http(s)://….gguf`` address, downloaded likewise;
            * ``diffusion``: DiffusionGemma, sharpened in this process; ``diffusion:REFERENCE`` another checkpoint
              of its kind, a folder or ``OWNER/REPO``;
            * any other ``http(s)://`` address: a server of OpenAI's kind, such as ``http://localhost:8000/v1``;
            * ``visual:PATH``: the command line of a llama.cpp that runs DiffusionGemma, with ``model=FILE.gguf``;
            * a path to a ``.tape`` file, or ``tape:PATH``: recorded frames.
        progress: called while it opens, with the share done and what is being done. Before a download it is
            told the size and the folder.
        options: of that kind of engine. For GGUF models ``threads``, ``context``, ``parallel``, ``gpu_layers``,
            ``instruct`` and ``log`` (see ``llamacpp.OPTIONS``); for servers ``model``, ``key`` and those of
            ``openai.OPTIONS``; for ``visual:`` those of ``visual.OPTIONS``; for tapes ``speed`` and ``strict``.

    Raises:
        UnknownEngine: no engine of that name; the message suggests the nearest.
        UnknownOption, BadOption: an option that it does not have, or with a value that it cannot take.
        ModelNotFound, ModelBroken, ModelUnsupported: the model is missing, damaged or of another kind.
        MissingPackage: an optional dependency is needed; the message has the command.
    """
    text = str(spec).strip()
    told = progress or (lambda share, doing: None)
    for kind in ENGINE_KINDS:
        if kind.claims(text):
            if "model" in options and not kind.models:
                takers = ", ".join(kind.example for kind in ENGINE_KINDS if kind.models)
                raise BadOption(
                    f"The engine {text!r} takes no model, but was given model={options['model']!r}. Leave it out, or "
                    f"name an engine that takes one: {takers}."
                )
            return kind.open(text, told, **options)
    raise _unknown(text)


def _unknown(text: str) -> UnknownEngine:
    if "/" in text or "\\" in text or "." in text:
        return UnknownEngine(
            f"{text!r} is neither a .gguf nor a .tape file, nor the address of a server. Engines are {_examples()}."
        )
    names = [kind.name for kind in ENGINE_KINDS]
    return UnknownEngine(f"There is no engine {text!r}.{suggestion(text, names)} Engines are {_examples()}.")


def _examples() -> str:
    *most, last = [kind.example for kind in ENGINE_KINDS]
    return f"{', '.join(most)} and {last}"


def _open_auto(_: str, progress: Progress, **options: Any) -> Engine:
    return _open_embedded("embedded", progress, _why="Nothing else was asked for.", **options)


def _open_embedded(_: str, progress: Progress, *, _why: str = "", **options: Any) -> Engine:
    from .llamacpp.embedded import open_embedded  # the runtime is imported only if it is used

    return open_embedded(progress=progress, reasons=(_why or "It was asked for by name.",), **options)


def _open_gguf(path: str, progress: Progress, *, _name: str = "", **options: Any) -> Engine:
    from .llamacpp.engine import OPTIONS, open_llamacpp

    check_options(options, OPTIONS, "The llama.cpp engine")
    file = Path(path).expanduser()
    return open_llamacpp(file, progress=progress, reasons=(f"{_name or file.name} was asked for by name.",), **options)


def _open_address(address: str, progress: Progress, **options: Any) -> Engine:
    from .llamacpp.engine import OPTIONS

    check_options(options, OPTIONS, "The llama.cpp engine")  # before the download, not after
    parts = urlsplit(address)
    target = models_folder() / (parts.hostname or "unknown") / Path(unquote(parts.path)).name
    file = download(address, target, lambda share, doing: progress(share * 0.9, doing))
    return _open_gguf(str(file), _second(progress, 0.9), _name=address, **options)


def _open_hugging_face(spec: str, progress: Progress, **options: Any) -> Engine:
    from .llamacpp.engine import OPTIONS

    check_options(options, OPTIONS, "The llama.cpp engine")
    owner, _, rest = spec.removeprefix("hf:").partition("/")
    repo, _, file = rest.partition("/")
    if not (owner and repo and file.endswith(".gguf")):
        raise UnknownEngine(f"{spec!r} does not name a file. Write it like {_HF_EXAMPLE}.")
    path = _fetch_hugging_face(f"{owner}/{repo}", file, lambda share, doing: progress(share * 0.9, doing))
    return _open_gguf(str(path), _second(progress, 0.9), _name=spec, **options)


_HF_EXAMPLE: Final = "hf:OWNER/REPO/FILE.gguf"


def _fetch_hugging_face(repo: str, file: str, progress: Progress) -> Path:
    """The file in Hugging Face's own cache, downloaded if it is not there."""
    hub = hugging_face()
    cached = hub.try_to_load_from_cache(repo, file)
    if isinstance(cached, str):
        return Path(cached)
    try:
        size = hub.get_hf_file_metadata(hub.hf_hub_url(repo, file)).size or 0
        progress(0.0, f"Downloading {file} from {repo}, {size / 1e6:,.0f} MB, to {hub.constants.HF_HUB_CACHE}")
        return Path(hub.hf_hub_download(repo, file))
    except Exception as error:  # its errors come from three packages and change with its versions
        raise ModelNotFound(
            f"{file} of {repo} cannot be downloaded from Hugging Face ({type(error).__name__}: {error}). Check the "
            f"name and the connection; a model behind a licence needs: hf auth login"
        ) from error


def _second(progress: Progress, begun: float) -> Progress:
    """Progress of the last part of the work, which begins at this share."""
    return lambda share, doing: progress(begun + share * (1 - begun), doing)


def _open_server(address: str, progress: Progress, **options: Any) -> Engine:
    from .openai.engine import open_openai

    return open_openai(address, progress=progress, **options)


_DIFFUSION_GEMMA: Final = "google/diffusiongemma-26B-A4B-it"


def _open_diffusion(spec: str, progress: Progress, *, model: str | None = None, **options: Any) -> Engine:
    named = spec.removeprefix("diffusion").removeprefix(":").strip()
    if named and model and named != model:
        raise BadOption(f"{spec!r} names a checkpoint, and so does model={model!r}. Leave one of them out.")
    try:
        importlib.import_module("torch")
        importlib.import_module("transformers")
    except ImportError as error:
        raise MissingPackage(
            f'The diffusion engine needs torch and transformers ({error}). Type: pip install "unwritten[diffusion]"'
        ) from error
    from .diffusion import open_diffusion

    reason = "It was asked for by name." if named or model else "DiffusionGemma is what the diffusion engine runs."
    engine: Engine = open_diffusion(named or model or _DIFFUSION_GEMMA, progress=progress, reasons=(reason,), **options)
    return engine


def _open_visual(spec: str, progress: Progress, **options: Any) -> Engine:
    from .visual.engine import open_visual

    return open_visual(spec.removeprefix("visual:"), progress=progress, **options)


_TAPE_OPTIONS: Final = (
    Option("speed", 1.0, "number", "1 plays in real time, 4 four times faster, 0 at once", 0),
    Option("strict", False, "flag", "refuse what is not the same in everything but seed and priority"),
)


def _open_tape(spec: str, progress: Progress, **options: Any) -> Engine:
    from .tape import TapeEngine

    settings = check_options(options, _TAPE_OPTIONS, "The tape engine")
    return TapeEngine(Path(spec.removeprefix("tape:")).expanduser(), **settings)


ENGINE_KINDS: Final[tuple[_EngineKind, ...]] = (
    _EngineKind("auto", "'auto'", "the best that needs no download", lambda spec: spec == "auto", _open_auto),
    _EngineKind("embedded", "'embedded'", "the model in the box", lambda spec: spec == "embedded", _open_embedded),
    _EngineKind(
        "diffusion",
        "'diffusion'",
        "DiffusionGemma in this process",
        lambda spec: spec == "diffusion" or spec.startswith("diffusion:"),
        _open_diffusion,
        models=True,
    ),
    _EngineKind("tape:", "'tape:FILE'", "recorded frames", lambda spec: spec.startswith("tape:"), _open_tape),
    _EngineKind(
        "hf:", f"'{_HF_EXAMPLE}'", "a file on Hugging Face", lambda spec: spec.startswith("hf:"), _open_hugging_face
    ),
    _EngineKind(
        "https://",
        "'https://HOST/FILE.gguf'",
        "a file on the web",
        lambda spec: spec.startswith(("http://", "https://")) and re.split("[?#]", spec)[0].endswith(".gguf"),
        _open_address,
    ),
    _EngineKind(
        "http://",
        "'http://HOST:PORT/v1'",
        "a server of OpenAI's kind",
        lambda spec: spec.startswith(("http://", "https://")),
        _open_server,
        models=True,
    ),
    _EngineKind(
        "visual:",
        "'visual:PATH'",
        "the command line of a llama.cpp that runs DiffusionGemma",
        lambda spec: spec.startswith("visual:"),
        _open_visual,
        models=True,
    ),
    _EngineKind(
        ".tape",
        "a path to a .tape",
        "recorded frames",
        lambda spec: spec.endswith(".tape") and "://" not in spec,
        _open_tape,
    ),
    _EngineKind(
        ".gguf",
        "a path to a .gguf file",
        "a model file",
        lambda spec: spec.endswith(".gguf") and "://" not in spec,
        _open_gguf,
    ),
)
"""All kinds of engines. The first that claims a spec opens it."""
