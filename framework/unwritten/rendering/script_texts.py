"""The texts that the scripts in ``static/`` show to visitors.

Each page loads those of its language as one more script, under a URL that changes with them, so that browsers cache it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from urllib.parse import urlencode

from ..core.localization import Language, Text
from ..core.localization import gettext_lazy as _
from ..core.paths import TEXTS_PATH

_TEXTS: Mapping[str, Text | str] = {
    # live.js
    "queued": _("Waiting"),
    "writing": _("Writing"),
    "stop": _("Stop"),
    "stopping": _("Stopping …"),
    "stopped": _("Writing was stopped. This is what was written so far."),
    "failed": _("This page could not be completed."),
    "unwritten": _("Writing this page was interrupted."),
    "tryAgain": _("Try again"),
    "reconnecting": _("Connection lost. Reconnecting …"),
    "offline": _("The server cannot be reached. This page may be incomplete."),
    "announceWriting": _("Writing %(title)s …", title="%(title)s"),
    "announceReady": _("Ready: %(title)s", title="%(title)s"),
    # forms.js
    "unreachable": _("The server could not be reached, so nothing was sent. Your input is still here: try again."),
    "notSent": _("The form could not be sent (%(status)s).", status="%(status)s"),
    "sent": _("Sent."),
    "invalid": _("Not sent: please check the form."),
    # controls.js
    "changed": _("Changed elsewhere to “%(value)s”. Your input is kept.", value="%(value)s"),
    "checked": _("Checked elsewhere. Your input is kept."),
    "unchecked": _("Unchecked elsewhere. Your input is kept."),
    "emptied": _("Changed elsewhere to nothing. Your input is kept."),
    # box-host.js
    "restart": _("Restart"),
    "restarting": _("This app was stopped because it kept restarting itself."),
    "leaving": _("This app was stopped because it tried to leave its box."),
    # edits.js
    "editOpen": _("The edit form is open. Press Escape to close it."),
}
"""The texts by their names in the scripts. Values are filled in by the scripts."""


def script_texts(language: Language) -> dict[str, str]:
    """Return the texts in a language."""
    return {name: language.text(text) for name, text in _TEXTS.items()}


def texts_script(language: Language) -> str:
    """Return a script that defines the texts in a language."""
    texts = json.dumps(script_texts(language), ensure_ascii=False, separators=(",", ":"))
    return f"globalThis.unwrittenTexts={texts};\n"


def script_version(script: str) -> str:
    """Return the version of a script in its URL."""
    return hashlib.blake2b(script.encode("utf-8", "replace"), digest_size=6).hexdigest()


def texts_url(language: Language) -> str:
    """Return the URL of the script that defines the texts in a language."""
    return f"{TEXTS_PATH}?{urlencode({'lang': language.tag, 'v': script_version(texts_script(language))})}"
