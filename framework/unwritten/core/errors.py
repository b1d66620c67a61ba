"""The errors of the framework. Each message says what happened, to what, and what to do about it.

::

    UnwrittenError
    ├── BadSetting            an unknown setting, or an invalid value
    ├── BadApp                declarations that cannot work
    │   ├── BadPage           a page function returned something that is not a page
    │   │   └── BadSchema     a schema that is invalid, or that the engine does not support
    │   ├── BadTemplate       a template that is missing, invalid, or without a required block
    │   └── BadTable          a table that cannot be stored, or that is used incorrectly
    ├── NotAnApp              a file without an app
    ├── BadURL            a URL that cannot be a page (400, 404, 414, 421, …)
    ├── BadForm               a form that is refused (400, 403, 413, 415, …)
    ├── Denied                refused by the author's own check (403)
    ├── Busy                  too many pages are waiting (503)
    │   ├── OverBudget        a budget is used up (429)
    │   └── BrokerUnavailable the broker cannot be reached at the moment (503)
    ├── PageFailed            a page could not be generated; it can be tried again
    │   ├── TimedOut          it took too long
    │   └── UnusableText      the generated text cannot be used; another attempt may help
    │       ├── CopiedExample   it repeats an example of the prompt
    │       └── SchemaMismatch  it does not fit its schema
    ├── BadEdit               an edit that cannot be made as it was requested
    │   └── BadAlias          a key that cannot become an alias, or is not one
    ├── EditConflict          the page has changed since the version that was edited
    ├── StoreError            the database cannot be read or written
    │   ├── StoreLocked       another program holds the write lock
    │   ├── StoreFull         the disk is full
    │   ├── StoreReadOnly     the server only reads its database
    │   └── UnknownDatabase   a database of another program, damaged, or of a newer version
    ├── BrokerError           the broker cannot be used
    └── TransferError         a copy, export or import that is refused

The engine has its own errors; see ``unwritten_engine.errors``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class UnwrittenError(Exception):
    """The base class of all errors of the framework. Messages are meant to be shown to people."""


class BadSetting(UnwrittenError):
    """A setting is unknown or has an invalid value."""


class BadApp(UnwrittenError):
    """An app is declared in a way that cannot work.

    Attributes:
        function: The author's function that returned something invalid, for error reports. None: no function did.
    """

    function: Callable[..., Any] | None = None


class BadPage(BadApp):
    """A page function returned something that is not a page."""


class BadSchema(BadPage):
    """A schema is invalid, or the engine does not support it."""


class BadTemplate(BadApp):
    """A template is missing, invalid, or without a required block."""


class BadTable(BadApp):
    """The model of a table cannot be stored, or a table is used incorrectly."""


class NotAnApp(UnwrittenError):
    """A file that should contain an app does not."""


class _RequestError(UnwrittenError):
    """A request that is refused.

    Attributes:
        status: The HTTP status of the response.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class BadURL(_RequestError):
    """A URL cannot be a page. ``status`` is the HTTP status of the response."""


class BadForm(_RequestError):
    """A form is refused. ``status`` is the HTTP status of the response."""


class Denied(UnwrittenError):
    """The author's own check does not allow a page or a text."""


class Busy(UnwrittenError):
    """Too many pages are waiting to be generated.

    Attributes:
        retry_after: Seconds after which the client should try again.
    """

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class OverBudget(Busy):
    """One visitor, or all visitors together, have used up a budget.

    Attributes:
        budget: The name of the budget.
    """

    def __init__(self, message: str, retry_after: int, budget: str) -> None:
        super().__init__(message, retry_after)
        self.budget = budget


class BrokerUnavailable(Busy):
    """The broker cannot be reached at the moment, so no page can be started."""


class PageFailed(UnwrittenError):
    """A page could not be generated. It is not stored, and can be tried again."""


class TimedOut(PageFailed):
    """A function or the generation of a page took too long."""


class UnusableText(PageFailed):
    """The generated text cannot be used. Another attempt may help."""


class CopiedExample(UnusableText):
    """The generated value has texts of the prompt's example. It is used if a second attempt is no better."""


class SchemaMismatch(UnusableText):
    """The generated text does not fit its schema and cannot be repaired."""


class BadEdit(UnwrittenError):
    """An edit cannot be made as it was requested. The message says what to change about it."""


class BadAlias(BadEdit):
    """A key cannot become an alias, or is not one."""


class EditConflict(UnwrittenError):
    """The page has changed since the version that was edited. Nothing was written."""


class StoreError(UnwrittenError):
    """The database cannot be read or written."""


class StoreLocked(StoreError):
    """Another program holds the write lock of the database."""


class StoreFull(StoreError):
    """The disk is full."""


class StoreReadOnly(StoreError):
    """The server only reads its database, so nothing can be saved."""


class UnknownDatabase(StoreError):
    """The file is a database of another program, is damaged, or comes from a newer version."""


class BrokerError(UnwrittenError):
    """The broker cannot be used. The message says what to do, and never has the password of the URL."""


class TransferError(UnwrittenError):
    """A copy, export or import is refused: the target exists already, or the file is not a world."""
