"""``python tests/benchmarks click``: from a click to the first words and to the finished page, with a real model.

The demo wiki is served with an empty database. Unwritten articles are requested one after another, as a browser does: a
GET, and then frames over the socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import click
from tests.benchmarks.report import report
from tests.support.servers import AS_OWNER, OWNER_TOKEN
from websockets.asyncio.client import connect

from unwritten.storage.pages import PageStore

TITLES = (
    "Lantern Harbour",
    "Rain",
    "The Museum of Lost Keys",
    "Sourdough",
    "Cartography",
    "Otter",
    "Clockmaking",
    "Northern Lights",
    "Saffron",
    "The Great Fog of 1891",
)


@dataclass(frozen=True, slots=True)
class Clicked:
    """How long one click took, in seconds after the request.

    Attributes:
        shell: Until the last byte of the shell.
        first_words: Until the first frame with a word of the model, in any region.
        all_begun: Until every region had such a frame.
        settled: Until the page was finished.
        frames: The number of frames that arrived.
    """

    shell: float
    first_words: float
    all_begun: float
    settled: float
    frames: int


async def click_on(port: int, path: str) -> Clicked:
    """Request an unwritten page, and watch it until it is finished.

    Raises:
        click.ClickException: If it fails.
    """
    begun = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/html\r\nConnection: close\r\n"
    request += f"Authorization: {AS_OWNER['authorization']}\r\n\r\n"
    writer.write(request.encode())
    answer = (await reader.read()).decode()
    shell = time.perf_counter() - begun
    writer.close()
    regions = set(re.findall(r'data-region="(\w+)"', answer))
    if not regions:
        raise click.ClickException(f"The response for {path} is not a page that is being generated: {answer[:200]}")
    first, frames = await watch_to_end(port, path, begun)
    settled = time.perf_counter() - begun
    return Clicked(shell, min(first.values()), max(first.values()), settled, frames)


async def watch_to_end(
    port: int, path: str, begun: float, seen: Mapping[str, int] | None = None
) -> tuple[dict[str, float], int]:
    """Watch a page until it is finished.

    Args:
        port: The server's port.
        path: The page.
        begun: The time of the click, from ``time.perf_counter``.
        seen: The regions that are being generated, with the number of the frame in the shell. None: all regions.

    Returns:
        The seconds to the first frame with a word of the model, by region, and the number of frames.

    Raises:
        click.ClickException: If it fails.
    """
    first: dict[str, float] = {}
    frames = 0
    async with connect(f"ws://127.0.0.1:{port}/_unwritten/live", max_size=None) as live:
        await live.send(json.dumps({"type": "watch", "page": path, "seen": dict(seen or {})}))
        async for text in live:
            message = json.loads(text)
            if message["type"] == "frame":
                if message["state"] == "live" or (seen is not None and message["region"] not in seen):
                    continue
                frames += 1
                # Step 0 is the author's opening. The model's text begins with step 1.
                if message["step"] > 0 and re.search(r"\w", re.sub(r"<[^>]*>", "", message["html"])):
                    first.setdefault(message["region"], time.perf_counter() - begun)
            elif message["state"] == "written":
                break
            elif message["state"] in {"failed", "stopped", "unwritten"}:
                raise click.ClickException(f"{path} was not generated: {message['message']}")
    if not first:
        raise click.ClickException(f"{path} was generated without a word.")
    return first, frames


@contextlib.contextmanager
def demo(name: str, folder: Path, engine: str, environment: Mapping[str, str] | None = None) -> Iterator[int]:
    """Serve a demo with an empty database ``NAME.db`` in a folder. Yields its port once the server says its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-u", "-m", "unwritten", "demo", name, "--port", str(port)]
    command += ["--database", str(folder / f"{name}.db"), "--engine", engine]
    variables = {**os.environ, "UNWRITTEN_OWNER_TOKEN": OWNER_TOKEN, **(environment or {})}
    with (
        (folder / f"{name}.out").open("w+", encoding="utf-8") as output,
        subprocess.Popen(command, env=variables, stdout=output, stderr=subprocess.PIPE, text=True) as process,
    ):
        try:
            deadline = time.monotonic() + 120
            while f":{port}" not in Path(output.name).read_text(encoding="utf-8"):
                if process.poll() is not None or time.monotonic() > deadline:
                    process.kill()
                    assert process.stderr is not None
                    raise click.ClickException(f"The demo {name} did not start: {process.stderr.read().strip()}")
                time.sleep(0.005)
            yield port
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


@click.command()
@click.option("--engine", default="auto", show_default=True, help="Engine, as for `unwritten demo`.")
@click.option("--clicks", default=6, show_default=True, help="Articles to request.")
@click.option("--warm-up", default=12.0, show_default=True, help="Seconds between start and the first click.")
def command(engine: str, clicks: int, warm_up: float) -> None:
    """Measure the time from a click to the first words and to the finished page."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with demo("wiki", folder, engine) as port:
            time.sleep(warm_up)
            results: list[Clicked] = []
            keys: list[str] = []
            for title in (TITLES * (clicks // len(TITLES) + 1))[:clicks]:
                number = f" {len(keys) // len(TITLES) + 1}" if len(keys) >= len(TITLES) else ""
                keys.append("/wiki/" + quote((title + number).replace(" ", "_")))
                results.append(asyncio.run(click_on(port, keys[-1])))
        store = PageStore(folder / "wiki.db")
        try:
            kept = [page.provenance for page in map(store.get, keys) if page]
        finally:
            store.close()
    document = {
        "model": kept[0].model if kept else "",
        "clicks": len(results),
        "shell_ms": round(statistics.median(r.shell for r in results) * 1000, 1),
        "first_words_s": round(statistics.median(r.first_words for r in results), 3),
        "first_words_worst_s": round(max(r.first_words for r in results), 3),
        "all_begun_s": round(statistics.median(r.all_begun for r in results), 3),
        "settled_s": round(statistics.median(r.settled for r in results), 2),
        "settled_worst_s": round(max(r.settled for r in results), 2),
        "tokens_per_s": round(statistics.median(p.tokens_per_second for p in kept), 1),
        "tokens": round(statistics.median(p.tokens for p in kept)),
        "frames": round(statistics.median(r.frames for r in results)),
        "kept": len(kept),
    }
    rows = [
        ("shell", f"{document['shell_ms']} ms", "≤ 15 ms"),
        ("first words", f"{document['first_words_s']} s", "≤ 1 s"),
        ("first words, worst click", f"{document['first_words_worst_s']} s", ""),
        ("every region has words", f"{document['all_begun_s']} s", ""),
        ("finished page", f"{document['settled_s']} s", ""),
        ("finished page, worst click", f"{document['settled_worst_s']} s", ""),
        ("tokens per second, all regions together", f"{document['tokens_per_s']}", ""),
        ("tokens on a page", f"{document['tokens']}", ""),
        ("frames", f"{document['frames']}", ""),
        ("pages stored", f"{document['kept']} of {len(results)}", f"{len(results)}"),
    ]
    report(f"From a click to the page: {document['model']}", rows, document)
