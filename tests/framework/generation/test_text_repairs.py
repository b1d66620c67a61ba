"""What is removed from texts before they are stored: loops, echoes of the prompt, and incomplete ends."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from tests.support.apps import browser, in_turn, make_wiki, write

from unwritten_engine import Engine, Frame, Usage, scripted

KEY = "/wiki/Rain"
ASK = "An encyclopedia article about Rain."
LAMP = "The lamp is lit. "


def cut_off(text: str) -> Engine:
    """Return an engine that runs out of tokens after a text."""
    return scripted([Frame(text, usage=Usage(9, 9, 0, 9, 1, 0.1, 0.0, "length", 0))])


@pytest.mark.parametrize(
    ("engine", "text", "repairs", "reason"),
    [
        (scripted(f" is old. {LAMP * 60}"), " is old. The lamp is lit.", "repetition removed", "repetition"),
        (scripted(f" is wet.\n\n{ASK}"), " is wet.", "echo of the prompt removed", "echo"),
        (cut_off("**Rain** takes what the tide mig"), " takes what the tide…", "cut off incomplete end", "length"),
        (scripted(" is wet."), " is wet.", "", "end"),
    ],
)
def test_a_repaired_text_is_stored_as_finished(
    tmp_path: Path, engine: Engine, text: str, repairs: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_wiki(tmp_path, engine)
    with browser(app) as client, caplog.at_level(logging.INFO, "unwritten"):
        assert write(client, KEY)[-1]["state"] == "written"
        stored = app.store.get(KEY)
    assert stored is not None
    canvas = stored.canvases["body"]
    assert (canvas.text, canvas.repairs, canvas.reason) == (f"**Rain**{text}", repairs, reason)
    assert (repairs in caplog.text) and ("was repaired" in caplog.text) == bool(repairs)


@pytest.mark.parametrize(
    "loop", ["very " * 200, "! " * 400, "- \n" * 400, "\n\nAn encyclopedia article about Violin.\n\n"]
)
def test_a_text_of_nothing_else_is_generated_once_more(tmp_path: Path, loop: str) -> None:
    app = make_wiki(tmp_path, scripted(in_turn(loop, " is wet.")))
    with browser(app) as client:
        assert write(client, KEY)[-1]["state"] == "written"
        stored = app.store.get(KEY)
    assert stored is not None and "wet" in stored.canvases["body"].text
    assert "generated again: The model wrote no usable text" in stored.canvases["body"].repairs


def test_a_second_loop_fails_the_page_and_says_why(tmp_path: Path) -> None:
    engine = scripted("very " * 200)
    app = make_wiki(tmp_path, engine)
    with browser(app) as client:
        assert write(client, KEY)[-1]["state"] == "failed"
        assert app.store.get(KEY) is None
        page = client.get(f"{KEY}?plain=1").text
    assert "Two attempts failed. The model wrote no usable text." in page
