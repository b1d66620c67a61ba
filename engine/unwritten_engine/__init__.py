"""The engine of Unwritten: prompts in, frames out. It has no knowledge of HTML, HTTP or pages.

    from unwritten_engine import Prompt, Request, open_engine

    engine = open_engine("auto")                    # loads a model, which takes seconds
    print(engine.about.model, engine.about.reasons)

    async for frame in engine.generate(Request(Prompt("An encyclopedia article about lighthouses."))):
        print(frame.text)                           # cumulative text
    print(frame.usage.tokens_per_second)            # the last frame has the usage

    await engine.close()

Closing the iterator of ``generate`` stops the work within one step. ``open_engine`` opens:

* ``auto``: DiffusionGemma on a GPU that it fits on, if its engine is installed, else ``embedded``
* ``embedded``: Gemma 3 270M, which is part of the installation
* ``qwen3-4b`` and other names of ``named_models``: a GGUF model that is downloaded and checked
* ``model.gguf``, ``hf:OWNER/REPO/FILE.gguf``, ``https://HOST/FILE.gguf``: any model that llama.cpp runs
* ``vllm``: DiffusionGemma in vLLM, on one or more GPUs
* ``diffusion``: DiffusionGemma in our own loop, in this process
* ``http://HOST:PORT/v1``: an OpenAI-compatible server such as vLLM, llama-server, Ollama, or a hosted one
* ``ws://HOST:PORT``: an engine server, which several processes share (``unwritten engine``)
* ``visual:PATH``: llama.cpp's resident program for DiffusionGemma, with ``model=FILE.gguf``
* ``recorded.tape``: recorded frames, with their timing or at once

For tests without a model, use ``scripted("A text.")``. From a shell: ``python -m unwritten_engine "An article …"``.
All errors are subclasses of ``EngineError``; see ``unwritten_engine.errors``.
"""

from __future__ import annotations

from .engine import Abilities, About, Engine, Progress
from .errors import EngineError
from .frames import Draft, Example, Frame, Priority, Prompt, Request, Span, StopReason, Usage
from .open import open_engine
from .scripted import scripted
from .tape import Recorder, TapeEngine

__all__ = [
    "Abilities",
    "About",
    "Draft",
    "Engine",
    "EngineError",
    "Example",
    "Frame",
    "Priority",
    "Progress",
    "Prompt",
    "Recorder",
    "Request",
    "Span",
    "StopReason",
    "TapeEngine",
    "Usage",
    "open_engine",
    "scripted",
]
