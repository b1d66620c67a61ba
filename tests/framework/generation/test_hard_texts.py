"""Texts as models write them, in each format and from each kind of engine: what pages show and store of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from tests.support.apps import browser, make_app, write
from tests.support.model_server import ModelServer, model_server, says

from unwritten import Canvas
from unwritten.formats.registry import FORMATS
from unwritten_engine import Engine, open_engine, scripted
from unwritten_engine.tape import Recorder


class Thing(BaseModel):
    kind: str


ANSWERS = {
    "markdown": "The **lamp** is lit every night, and [[ships]] see it from far away.\n\n- It is bright.\n- It is old.",
    "text": "The lamp is lit every night.\n\nIt is bright.",
    "html": "<p>The <b>lamp</b> is lit every night.</p>\n<p>It is bright.</p>",
    "svg": '<svg viewBox="0 0 9 9"><title>lamp</title><circle cx="4" cy="4" r="3"/></svg>',
    "app": "<!doctype html><title>lamp</title><p>The lamp is lit every night.</p></html>",
    "typed": '{"kind":"lamp"}',
}
INFO = {"markdown": "markdown", "text": "text", "typed": "json"}

WRITTEN: dict[str, Callable[[str, str], str]] = {
    # What the model writes for an answer and the info string of its format.
    "plain": lambda answer, info: answer,
    "reasoning": lambda answer, info: f"<think>Hidden.</think>\n\n{answer}",
    "reasoning without its start": lambda answer, info: f"Hidden.</think>\n\n{answer}",
    "end of turn": lambda answer, info: f"{answer}<|im_end|>\n<|im_start|>user\nHidden?<|im_end|>",
    "end of sequence": lambda answer, info: f"{answer}</s>Hidden.",
    "control characters": lambda answer, info: "\x07" + answer.replace("lamp", "la\x00m\x1bp"),
    "half a character": lambda answer, info: answer.replace("lamp", "\ud83dlamp"),
    "two halves": lambda answer, info: answer.replace("lamp", "\ud83d\udca1lamp"),
    "wrapper": lambda answer, info: f"```{info}\n{answer}\n```",
    "polite wrapper": lambda answer, info: f"Sure! Here it is:\n\n```{info}\n{answer}\n```\n\nHope this helps!",
}
MARKS = {"half a character": "\ufffd", "two halves": "\U0001f4a1"}
REVEALED_BY_THE_END = "reasoning without its start"


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with model_server() as running:
        yield running


def pieces_of(text: str) -> list[str]:
    return [text[at : at + 5] for at in range(0, len(text), 5)]


def engine_of(kind: str, text: str, home: Path, server: ModelServer, canvas: Canvas) -> Engine:
    """Return an engine of this kind that writes the text for the canvas."""
    engine = scripted([text[:end] for end in range(5, len(text) + 5, 5)])
    if kind == "server":
        server.answers = [says(*pieces_of(text))]
        return open_engine(f"{server.url}/v1")
    if kind == "tape":
        tape = home / "recorded.tape"
        generate(Recorder(engine, tape), canvas, home / "recording")
        return open_engine(tape, speed=0)
    return engine


def generate(engine: Engine, canvas: Canvas, home: Path) -> tuple[str, list[str]]:
    """Return the stored text of a page with this canvas, and what its frames and the finished page show."""
    home.mkdir()
    app = make_app(home, engine, markup="on")
    app.page("/thing")(lambda: canvas)
    with browser(app) as client:
        frames = [message["html"] for message in write(client, "/thing") if message["type"] == "frame"]
        stored = app.store.get("/thing")
        assert stored is not None, "the page failed"
        return stored.canvases["body"].text, [*frames, client.get("/thing").text]


@pytest.mark.parametrize("kind", ["scripted", "tape", "server"])
@pytest.mark.parametrize("format", ANSWERS)
@pytest.mark.parametrize("written", WRITTEN)
def test_hard_texts(tmp_path: Path, server: ModelServer, written: str, format: str, kind: str) -> None:
    answer = ANSWERS[format]
    text = WRITTEN[written](answer, INFO.get(format, format))
    canvas = Canvas("A thing.", schema=Thing) if format == "typed" else Canvas("A thing.", format=format)
    stored, shown = generate(engine_of(kind, text, tmp_path, server, canvas), canvas, tmp_path / "pages")
    expected = answer.replace("lamp", MARKS.get(written, "") + "lamp")
    for stop in FORMATS[format].stop:  # some engines leave it out, and some do not
        stored, expected = stored.strip().removesuffix(stop), expected.removesuffix(stop)
    opening = FORMATS[format].opening.strip()  # stays, unless the model has written its own
    assert stored.strip().removeprefix(opening).strip() == expected.removeprefix(opening)
    if written != REVEALED_BY_THE_END:
        assert not [html for html in shown if "Hidden" in html or "```" in html or "Sure" in html]
    assert "Hidden" not in shown[-1]
