"""Messages that the server sends over the live socket, as JSON."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..generation.page_job import PageJob
from ..rendering.blocks import LiveRegion
from ..rendering.document import FORM_KEY
from ..rendering.regions import PageState
from ..rendering.renderer import Renderer
from .live_pages import encode


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
    return encode(message)


def page_message(renderer: Renderer, job: PageJob, message: str) -> dict[str, Any]:
    """A page has come to another state; ``message`` is a sentence for people, or empty."""
    view = replace(job.view(), message=message)
    return {
        "type": "page",
        "page": view.key,
        "state": view.state,
        "message": message,
        "colophon": renderer.colophon(view),
        "title": "",
    }


def settled_message(key: str, state: PageState) -> dict[str, Any]:
    """A page is not being written: it is there ("written"), or it is not ("unwritten")."""
    return {"type": "page", "page": key, "state": state, "message": "", "colophon": "", "title": ""}


def refused_message(reason: str) -> dict[str, Any]:
    """A message of the browser made no sense."""
    return {"type": "refused", "message": reason}
