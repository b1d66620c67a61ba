"""What can go wrong in the engine. Every message says what happened, to what, and what to do next.

* EngineError
  + UnknownEngine        no engine, file or server of that name
  + UnknownOption        an option that this engine does not have
  + BadOption            an option with a value that it cannot take
  + MissingPackage       an optional dependency is not installed
  + ModelNotFound        no model file there
  + ModelBroken          a file that is truncated, damaged, or not a model
  + ModelUnsupported     a model that this engine cannot run
  + RequestRefused       a request that this engine cannot fulfil
    - PromptTooLong      more tokens than the context holds
  + GenerationFailed     the work broke off in the middle
  + EngineClosed         the engine has been closed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EngineError(Exception):
    """The root of all errors of the engine. The message is meant for people."""


class UnknownEngine(EngineError):
    """No engine, file or server of that name."""


class UnknownOption(EngineError):
    """An option that this engine does not have."""

    def __init__(self, name: str, known: Iterable[str], owner: str) -> None:
        self.name = name
        super().__init__(f"{owner} has no option {name!r}.{suggestion(name, known)}")


class BadOption(EngineError):
    """An option with a value that it cannot take."""


class MissingPackage(EngineError):
    """An optional dependency is not installed."""


class ModelNotFound(EngineError):
    """No model file there."""


class ModelBroken(EngineError):
    """A file that is truncated, damaged, or not a model."""


class ModelUnsupported(EngineError):
    """A model that this engine cannot run."""


class RequestRefused(EngineError):
    """A request that this engine cannot fulfil."""


class PromptTooLong(RequestRefused):
    """The prompt has more tokens than the context holds."""


class GenerationFailed(EngineError):
    """The work broke off in the middle. Other requests are not affected."""


class EngineClosed(EngineError):
    """The engine has been closed."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a message about a misspelt name: the nearest known one, or the list of all."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f" Did you mean {near[0]!r}?"
    return f" Known: {', '.join(names)}." if names else " It takes none."
