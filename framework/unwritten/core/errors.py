"""What can go wrong. Every message says what happened, to which thing, and what to do next.

* UnwrittenError
  + BadSetting           a setting that is unknown, or has a value of the wrong kind
  + BadApp               an app that is declared in a way that cannot work
    - BadPage            a page function that returned something that is not a page
      * BadShape         a shape that is none, or that the engine cannot be held to
    - BadTemplate        a template that is missing, broken, or lacks a block
    - BadTable           a table whose model cannot be kept, or that is used in a way that it cannot be
  + NotAnApp             a file that should hold an app and does not
  + BadAddress           a URL that cannot be a page: too long, or not text
  + Denied               a page that the author's own check does not allow
  + BadForm              a form that cannot be taken: from elsewhere, too large, or with fields nobody asked for
  + Busy                 too much is waiting to be written
    - OverBudget         a visitor, or all together, had as much written as they may
  + PageFailed           a page that could not be written; it can be tried again
    - TimedOut           it took too long
    - Misshapen          what was written does not fit its shape
  + BadEdit              a change of a page that cannot be made as it was asked for
  + PageMoved            a page that has changed since the version that was to be changed
  + StoreError           the database cannot be read or written
    - StoreLocked        another program holds it
    - StoreFull          the disk is full
    - StoreForeign       the file is not a database of ours, or comes from a newer version
  + ShareError           a copy, an export or an import that is refused: something is in its way, or is not ours

Errors of the engine have a tree of their own: ``unwritten_engine.errors``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class UnwrittenError(Exception):
    """The root of all errors of the framework. The message is meant for people."""


class BadSetting(UnwrittenError):
    """A setting that is unknown, or has a value of the wrong kind."""


class BadApp(UnwrittenError):
    """An app that is declared in a way that cannot work.

    Attributes:
        function: The author's function that returned something invalid, for error reports. None: no function did.
    """

    function: Callable[..., Any] | None = None


class BadPage(BadApp):
    """A page function that returned something that is not a page."""


class BadSchema(BadPage):
    """A shape that is none, or that the engine cannot be held to."""


class BadTemplate(BadApp):
    """A template that is missing, broken, or lacks a block."""


class BadTable(BadApp):
    """A table whose model cannot be kept, or that is used in a way that it cannot be."""


class NotAnApp(UnwrittenError):
    """A file that should hold an app and does not."""


class BadAddress(UnwrittenError):
    """A URL that cannot be a page. ``status`` is the HTTP status that says so."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class BadForm(UnwrittenError):
    """A form that cannot be taken. ``status`` is the HTTP status that says so."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Busy(UnwrittenError):
    """Too much is waiting to be written. ``retry_after`` is a number of seconds."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class OverBudget(Busy):
    """A visitor, or all together, had as much written as they may for now. ``budget`` names the setting."""

    def __init__(self, message: str, retry_after: int, budget: str) -> None:
        super().__init__(message, retry_after)
        self.budget = budget


class Denied(UnwrittenError):
    """A page or a text that the author's own check does not allow."""


class PageFailed(UnwrittenError):
    """A page that could not be written. It is not kept, and can be tried again."""


class TimedOut(PageFailed):
    """A page that took too long."""


class BadEdit(UnwrittenError):
    """A change of a page that cannot be made as it was asked for. The message says what to change about it."""


class EditConflict(UnwrittenError):
    """A page that has changed since the version that was to be changed. Nothing was written."""


class SchemaMismatch(PageFailed):
    """What was written does not fit its shape, and cannot be repaired."""


class StoreError(UnwrittenError):
    """The database cannot be read or written."""


class StoreLocked(StoreError):
    """Another program holds the database."""


class StoreFull(StoreError):
    """The disk is full."""


class UnknownDatabase(StoreError):
    """The file is not a database of ours, or comes from a newer version."""


class ShareError(UnwrittenError):
    """A copy, an export or an import that is refused: something is in its way, or is not ours."""
