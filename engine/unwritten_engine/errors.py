"""Errors of the engine. Every message says what happened, to what, and what to do next.

* EngineError
  + UnknownEngine        no engine, file or server of that name
  + UnknownOption        an option that this engine does not have
  + BadOption            an invalid value of an option
  + MissingPackage       an optional dependency is not installed
  + ModelNotFound        the model file does not exist
  + ModelBroken          a file is truncated, damaged, or not a model
  + ModelUnsupported     a model that this engine cannot run
  + RequestRefused       a request that this engine cannot fulfil
    - PromptTooLong      more tokens than the context holds
  + GenerationFailed     the generation failed after it had started
  + EngineClosed         the engine is closed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EngineError(Exception):
    """Base class of all engine errors. The message is shown to users."""


class UnknownEngine(EngineError):
    """No engine, file or server of that name."""


class UnknownOption(EngineError):
    """An option that this engine does not have."""

    def __init__(self, name: str, known: Iterable[str], owner: str) -> None:
        self.name = name
        super().__init__(f"{owner} has no option {name!r}.{suggestion(name, known)}")


class BadOption(EngineError):
    """An invalid value of an option."""


class MissingPackage(EngineError):
    """An optional dependency is not installed."""


class ModelNotFound(EngineError):
    """The model file does not exist."""


class ModelBroken(EngineError):
    """A file is truncated, damaged, or not a model."""


class ModelUnsupported(EngineError):
    """A model that this engine cannot run."""


class RequestRefused(EngineError):
    """A request that this engine cannot fulfil."""


class PromptTooLong(RequestRefused):
    """The prompt has more tokens than the context holds."""


class GenerationFailed(EngineError):
    """The generation failed after it had started. Other requests are not affected."""


class EngineClosed(EngineError):
    """The engine is closed."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the nearest known name, or all of them."""
    names = sorted(known)
    matches = difflib.get_close_matches(name, names, n=1)
    if matches:
        return f" Did you mean {matches[0]!r}?"
    return f" Known: {', '.join(names)}." if names else " It takes none."
