"""Messages of the server over the live socket."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.apps import browser, make_wiki, write

from unwritten.web.messages import encode, refused_message, settled_message
from unwritten_engine import Frame, scripted


def test_messages_are_compact_and_not_limited_to_ascii() -> None:
    assert encode({"html": "▒é"}) == '{"html":"▒é"}'


def test_the_fields_of_every_message(tmp_path: Path) -> None:
    frames = [Frame("Ones twos", ((0, 4),), canvas=1, canvases=3, step=4, steps=48)]
    with browser(make_wiki(tmp_path, scripted([*frames, 0.2]))) as client:
        heard = write(client, "/wiki/X")
    frame = next(m for m in heard if m["type"] == "frame")
    assert set(frame) == {
        "type", "page", "region", "frame", "state", "html", "canvas", "canvases", "step", "steps", "unsettled",
    }  # fmt: skip
    assert (frame["canvas"], frame["canvases"], frame["step"], frame["steps"]) == (1, 3, 4, 48)
    assert 0 < frame["unsettled"] < 1, "the share of unsettled text"
    assert set(heard[-1]) == {"type", "page", "state", "message", "colophon", "title"}
    assert settled_message("/x", "written").keys() == heard[-1].keys()
    assert refused_message("No.") == {"type": "refused", "message": "No."}


def test_a_frame_is_encoded_once_for_all_subscribers(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("Words."))) as client:
        write(client, "/wiki/X")
        site = client.app.site  # type: ignore[attr-defined]
        job = site.jobs.recent("/wiki/X")
        message = site.job_renderer.frame_message(job, "body")
        assert site.job_renderer.frame_message(job, "body") is message
        assert json.loads(message)["state"] == "written"
