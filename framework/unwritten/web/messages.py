"""Messages from the server over the live socket. All of them are JSON objects with a ``type``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..generation.page_job import PageJob
from ..rendering.blocks import StateRegion
from ..rendering.document import FORM_KEY
from ..rendering.regions import PageState
from ..rendering.renderer import Renderer


def encode(message: Mapping[str, Any]) -> str:
    """Return a message as compact JSON. It is not limited to ASCII: escapes would double the size of noisy drafts."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


def state_region_message(key: str, name: str, region: StateRegion) -> str:
    """Return the message with the current HTML of a state region, as JSON."""
    message = {
        "type": "frame",
        "page": key,
        "region": name,
        "frame": region.number,
        "state": "live",
        "html": region.html.replace(FORM_KEY, ""),
    }
    return encode(message)


def page_message(renderer: Renderer, job: PageJob, text: str) -> dict[str, Any]:
    """Return the message that a page has a new state. ``text`` is a sentence for visitors, or empty."""
    view = replace(job.view(), message=text)
    text = renderer.language(view.lang).text(text)
    return {
        "type": "page",
        "page": view.key,
        "state": view.state,
        "message": text,
        "colophon": renderer.colophon(view),
        "title": "",
    }


def settled_message(key: str, state: PageState, text: str = "") -> dict[str, Any]:
    """Return the message that a page is not being generated: it is stored ("written"), or not ("unwritten").

    ``text`` says why its last attempt has failed or was stopped, if another process has made it.
    """
    return {"type": "page", "page": key, "state": state, "message": text, "colophon": "", "title": ""}


def restart_message(key: str, regions: Iterable[str]) -> dict[str, Any]:
    """Return the message that the next frames of these regions are newer than what the tab shows, whatever its number.

    A tab has higher numbers than the server if they came from another server, or from a clock that was ahead.
    """
    return {"type": "restart", "page": key, "regions": list(regions)}


def refused_message(reason: str) -> dict[str, Any]:
    """Return the message that the browser's message was not valid."""
    return {"type": "refused", "message": reason}
