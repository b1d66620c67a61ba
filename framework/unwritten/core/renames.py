"""Errors for the names that arguments had in earlier versions."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from .errors import BadApp, BadPage

C = TypeVar("C", bound=Callable[..., Any])


def renamed_arguments(**names: str) -> Callable[[C], C]:
    """Return a decorator of a class or a function that rejects the old names of keyword arguments.

    Args:
        names: The new name of each argument, by its old name.

    Raises:
        BadApp: When it is called with an old name. The message gives the new one. Classes raise ``BadPage``.
    """

    def decorate(target: C) -> C:
        called, error = target.__name__, BadPage if isinstance(target, type) else BadApp

        def check(function: Callable[..., Any]) -> Callable[..., Any]:
            @wraps(function)
            def checked(*args: Any, **kwargs: Any) -> Any:
                for name in names.keys() & kwargs.keys():
                    raise error(f"{called} has no argument {name!r}: it is called {names[name]!r} now.")
                return function(*args, **kwargs)

            return checked

        if isinstance(target, type):
            target.__init__ = check(target.__init__)  # type: ignore[misc]
            return cast(C, target)
        return cast(C, check(target))

    return decorate
