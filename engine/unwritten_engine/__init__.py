"""Prompts in, frames out: the engine of Unwritten. It knows nothing of HTML, HTTP or pages.

    from unwritten_engine import Prompt, Request, open_engine

    engine = open_engine("auto")                    # loads a model: seconds, so not in an event loop
    print(engine.about.model, engine.about.reasons)

    async for frame in engine.generate(Request(Prompt("An encyclopedia article about lighthouses."))):
        print(frame.text)                           # the whole text so far
    print(frame.usage.tokens_per_second)            # the last frame has the usage

    await engine.close()

Closing the iterator of ``generate`` stops the work within one step. What can be opened:

* ``auto``, ``embedded``: Gemma 3 270M, which comes with the installation
* ``model.gguf``, ``hf:OWNER/REPO/FILE.gguf``, ``https://HOST/FILE.gguf``: any model that llama.cpp runs
* ``http://HOST:PORT/v1``: any server of OpenAI's kind, such as vLLM, llama-server, Ollama, or a hosted one
* ``visual:PATH``: the command line of a llama.cpp that draws DiffusionGemma, with ``model=FILE.gguf``
* ``recorded.tape``: frames of earlier generations, with their timing or at once

For tests without a model: ``scripted("A text.")``. From a shell: ``python -m unwritten_engine "An article …"``.
All that can go wrong is an ``EngineError``; see ``unwritten_engine.errors`` for the tree.
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
