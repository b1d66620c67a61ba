"""Messages: what the server says to a browser over the socket, as JSON texts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..generation.page_job import PageJob
from ..rendering.blocks import LiveRegion
from ..rendering.document import FORM_KEY
from ..rendering.regions import PageState
from ..rendering.renderer import Renderer


def encoded(message: Mapping[str, Any]) -> str:
    """A message as compact JSON. Not ASCII only: drafts full of glyphs would double in size."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


def frame_text(generation: PageJob, name: str) -> str:
    """The latest frame of a region: drawn once, and encoded once, for all who watch."""
    writing = generation.regions[name]
    html = generation.inner(name)  # may fail the region, and so change its number
    key = (writing.number, writing.state)
    if writing.encoded is None or writing.encoded[0] != key:
        frame = writing.frame
        message = {
            "type": "frame",
            "page": generation.key,
            "region": name,
            "frame": writing.number,
            "state": writing.state,
            "html": html.replace(FORM_KEY, ""),  # the script gives its forms keys
            "canvas": frame.canvas,
            "canvases": frame.canvases,
            "step": frame.step,
            "steps": frame.steps,
            "unsettled": round(sum(end - start for start, end in frame.unsettled) / (len(frame.text) or 1), 2),
        }
        writing.encoded = (key, encoded(message))
    return writing.encoded[1]


def live_text(page: str, name: str, live: LiveRegion) -> str:
    """A region of state, as it is now."""
    message = {
        "type": "frame",
        "page": page,
        "region": name,
        "frame": live.number,
        "state": "live",
        "html": live.html.replace(FORM_KEY, ""),
    }
    return encoded(message)


def page_message(views: Renderer, generation: PageJob, message: str) -> dict[str, Any]:
    """A page has come to another state; ``message`` is a sentence for people, or empty."""
    view = replace(generation.view(), message=message)
    return {
        "type": "page",
        "page": view.key,
        "state": view.state,
        "message": message,
        "colophon": views.colophon(view),
        "title": "",
    }


def settled_message(key: str, state: PageState) -> dict[str, Any]:
    """A page is not being written: it is there ("written"), or it is not ("unwritten")."""
    return {"type": "page", "page": key, "state": state, "message": "", "colophon": "", "title": ""}


def refused_message(reason: str) -> dict[str, Any]:
    """A message of the browser made no sense."""
    return {"type": "refused", "message": reason}
