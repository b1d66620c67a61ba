"""Painters, and the queue that paints one picture at a time."""

from __future__ import annotations

import asyncio
import importlib
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.apps import make_wiki
from tests.support.painters import FakePainter

from unwritten import App
from unwritten.core.errors import Busy, OverBudget, PageFailed
from unwritten.core.settings import Settings
from unwritten.generation.budgets import Budgets
from unwritten.pictures import painting
from unwritten.pictures.painting import PaintQueue
from unwritten.pictures.store import PictureRequest, get_picture
from unwritten.security.exposure import Exposure
from unwritten.security.rate_limits import Charge
from unwritten.storage.sqlite import SQLiteDatabase
from unwritten_engine import scripted
from unwritten_engine.errors import (
    BadOption,
    GenerationFailed,
    MissingPackage,
    ModelBroken,
    ModelNotFound,
    UnknownOption,
)
from unwritten_engine.text_to_image import Painter, open_painter

RED = PictureRequest("A red lighthouse.", 320, 200)


def make_queue(home: Path, painter: Painter, time_limit: float = 5, **given: Any) -> PaintQueue:
    settings = Settings(**given)
    return PaintQueue(painter, SQLiteDatabase(home / "p.db"), Budgets(settings, Exposure(settings)), time_limit)


def test_a_picture_is_painted_once_for_all_requests(tmp_path: Path) -> None:
    async def run() -> None:
        fake = FakePainter()
        paint_queue = make_queue(tmp_path, fake)
        fake.leave.clear()
        first = [asyncio.create_task(paint_queue.paint(RED, str(n), 5)) for n in range(20)]
        await asyncio.sleep(0.05)
        assert paint_queue.num_pending == 1 and await paint_queue.paint(RED, "late", 0) is None
        fake.leave.set()
        pictures = await asyncio.gather(*first)
        assert {picture.content for picture in pictures if picture} == {b"RIFFA red lighthouse."}
        assert fake.painted == [("A red lighthouse.", 320, 200, RED.seed)]
        assert get_picture(paint_queue._database, RED) == pictures[0]
        await paint_queue.close()
        assert fake.closed

    asyncio.run(run())


def test_a_failure_is_logged_and_tried_again_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        for fault in (GenerationFailed("The paint has run out."), ZeroDivisionError("bug")):
            fake = FakePainter(fault)
            paint_queue = make_queue(tmp_path, fake)
            assert await paint_queue.paint(RED, "a", 5) is None
            with pytest.raises(PageFailed, match="a moment ago"):
                await paint_queue.paint(RED, "a", 5)
            paint_queue._failed.clear()  # as after RETRY_DELAY
            fake.fault = None
            ask = RED if isinstance(fault, ZeroDivisionError) else PictureRequest("Else", 320, 200)
            assert (await paint_queue.paint(ask, "a", 5)) is not None
            await paint_queue.close()

    asyncio.run(run())
    assert "The paint has run out." in caplog.text and "ZeroDivisionError" in caplog.text


def test_the_queue_is_bounded_and_clients_are_charged(tmp_path: Path) -> None:
    async def run() -> None:
        fake = FakePainter()
        paint_queue = make_queue(tmp_path, fake, visitor_seconds=0.05)
        fake.leave.clear()
        for number in range(painting.QUEUE_LIMIT):
            assert await paint_queue.paint(PictureRequest(f"{number}", 32, 32), "a", 0) is None
        with pytest.raises(Busy, match="16 pictures"):
            await paint_queue.paint(RED, "a", 0)
        await asyncio.sleep(0.1)
        fake.leave.set()
        while paint_queue.num_pending:
            await asyncio.sleep(0.01)
        with pytest.raises(OverBudget):
            await paint_queue.paint(RED, "a", 0)
        assert await paint_queue.paint(RED, "b", 5) is not None
        await paint_queue.close()

    asyncio.run(run())


def test_painting_is_cancelled_after_its_time_limit_and_on_close(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        fake = FakePainter()
        fake.leave.clear()
        slow = make_queue(tmp_path, fake, time_limit=1)
        assert await slow.paint(RED, "a", 5) is None
        assert get_picture(slow._database, RED) is None
        assert await slow._budgets._windows.spend([Charge("visitor_seconds", "a", 3600, 0.9)]), (
            "failed pictures count towards the time"
        )
        task = asyncio.create_task(slow.paint(PictureRequest("Else", 32, 32), "a", 60))
        await asyncio.sleep(0.05)
        begun = time.monotonic()
        await slow.close()
        assert await task is None and time.monotonic() - begun < 20

    asyncio.run(run())
    assert "more than 1 seconds" in caplog.text and "server is stopping" not in caplog.text


def test_painting_pauses_while_a_visitor_waits_for_a_page(tmp_path: Path) -> None:
    async def run() -> None:
        fake = FakePainter()
        paint_queue = make_queue(tmp_path, fake)
        job: Any = object()
        paint_queue.on_promote(job)
        assert await paint_queue.paint(RED, "a", 0.3) is None
        paint_queue.on_end(job)
        assert await paint_queue.paint(RED, "a", 5) is not None
        await paint_queue.close()

    asyncio.run(run())


# -- a real pipeline, tiny and random ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def random_painter() -> Iterator[Any]:
    painter = open_painter("random", steps=2)
    yield painter
    painter.close()
    with pytest.raises(GenerationFailed, match="closed"):
        painter.paint("Tea", 64, 64, seed=1)


def test_a_seed_paints_the_same_picture_again(random_painter: Any) -> None:
    from PIL import Image

    one = random_painter.paint("A red lighthouse.", 160, 96, seed=3)
    assert one == random_painter.paint("A red lighthouse.", 160, 96, seed=3)
    assert one.content != random_painter.paint("A red lighthouse.", 160, 96, seed=4).content
    image: Any = Image.open(io.BytesIO(one.content))
    large: Any = Image.open(io.BytesIO(random_painter.paint("A red lighthouse.", 1000, 600, seed=3).content))
    assert large.size == (661, 397), "limited to the size of the model, with the requested aspect ratio"
    assert image.size == (160, 96) and one.media_type == "image/webp"
    assert "Generated by a tiny random painter, seed 3; not a photograph." in image.getexif().values()
    assert random_painter.about.random and "noise" in random_painter.about.reasons[0]


def test_painting_can_be_cancelled_between_two_steps(random_painter: Any) -> None:
    steps: list[int] = []

    def between() -> None:
        steps.append(1)
        if len(steps) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        random_painter.paint("Tea " * 500, 64, 64, seed=1, between=between)
    assert len(steps) == 2


def test_a_checkpoint_folder_paints_any_prompt(random_painter: Any, tmp_path: Path) -> None:
    random_painter._pipe.save_pretrained(tmp_path / "pipe")
    painter = open_painter(str(tmp_path / "pipe"), steps=1, guidance=0, size=64)
    assert painter.about.model == "pipe" and not painter.about.random
    for prompt in ("", "x" * 10_000, "<|endoftext|>" * 50, "日本の灯台 🗼", "../../etc/passwd"):
        assert painter.paint(prompt, 2000, 100, seed=1).content[:4] == b"RIFF"
    (tmp_path / "pipe" / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelBroken, match="copy it again"):
        open_painter(str(tmp_path / "pipe"))


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("/nowhere/at/all", {}, ModelNotFound, "--painter random"),
        ("lighthouse", {}, ModelNotFound, "nor an OWNER/REPO"),
        ("random", {"stepz": 3}, UnknownOption, "steps"),
        ("random", {"steps": 0}, BadOption, "from 1 to 200"),
        ("random", {"dtype": "int3"}, BadOption, "bfloat16"),
        ("random", {"device": "cuda:77"}, BadOption, "device=cpu"),
    ],
)
def test_errors_say_how_to_fix_them(name: str, options: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        open_painter(name, **options)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = importlib.import_module

    def missing(name: str, package: str | None = None) -> Any:
        if name == "diffusers":
            raise ImportError("No module named 'diffusers'")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", missing)
    app: App = make_wiki(tmp_path, scripted("Text."), painter="random")
    with pytest.raises(MissingPackage, match=r'pip install "unwritten\[images\]"'):
        app.prepare()
