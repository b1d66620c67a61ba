"""Incidents: errors whose text is for the operator. Visitors see a number, under which the log has the text.

Messages of the store, the engine and the operating system name files, addresses and the words of other servers.
"""

from __future__ import annotations

import logging
import secrets

from unwritten_engine.errors import EngineError

from .errors import BadEdit, BadForm, BadURL, Busy, Denied, EditConflict, PageFailed, StoreError, UnwrittenError
from .localization import gettext_lazy as _
from .localization import join
from .tracebacks import log_error

_FOR_VISITORS = (BadEdit, BadForm, BadURL, Busy, Denied, EditConflict, PageFailed)
"""Errors whose messages are written for visitors."""


def report_to_visitor(log: logging.Logger, subject: str, error: BaseException) -> str:
    """Return what visitors see of an error: its message if that is for them, or else a number.

    In the second case the error is logged under that number.

    Args:
        log: The logger.
        subject: What failed, for the log.
        error: The error. An unexpected one is logged with its traceback.
    """
    # Some failures wrap what an author's function has raised.
    wraps_other = isinstance(error, PageFailed) and not isinstance(error.__cause__, (UnwrittenError, type(None)))
    if isinstance(error, _FOR_VISITORS) and not wraps_other:
        return str(error)
    number = secrets.token_hex(4)
    if isinstance(error, (UnwrittenError, EngineError)):
        log.error("%s failed (%s): %s", subject, number, error)
    else:
        log_error(log, f"{subject} failed ({number})", error)
    what = (
        _("The database cannot be used.") if isinstance(error, StoreError) else _("Something went wrong on the server.")
    )
    return join(what, _("The server's log has the details under the number %(number)s.", number=number))
