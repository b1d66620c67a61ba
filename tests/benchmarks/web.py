"""``python tests/benchmarks web``: what the framework costs, with a model that takes no time.

Stored pages are compared with a bare Starlette route that sends the same bytes from memory, in the same run.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from tests.benchmarks.apps import long_text, served
from tests.benchmarks.report import percentile, report
from tests.support.hostile import REPEATED, nested_list, repeated
from websockets.asyncio.client import connect

from unwritten.app.application import App
from unwritten.formats.links import Linker
from unwritten.formats.markdown import MarkdownFormatter
from unwritten.formats.page import Canvas, Page
from unwritten.generation.page_job import PageJob
from unwritten.generation.region_job import RegionJob
from unwritten.routing.patterns import PagePattern
from unwritten_engine import Frame, Prompt, scripted

_CONNECTIONS = 8


class Client:
    """A keep-alive connection that costs little, so that the server is measured."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, path: str) -> None:
        """Send a request for a page."""
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/html\r\n\r\n".encode())

    def receive(self) -> bytes:
        """Return the body of the response."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, body = data.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise click.ClickException(f"The server responded: {head[:80]!r}")
        match = re.search(rb"content-length: (\d+)", head, re.I)
        assert match, "the response has no length"
        while len(body) < int(match[1]):
            body += self._more()
        return body

    def get(self, path: str) -> bytes:
        """Send a request, and return the body of the response."""
        self.send(path)
        return self.receive()

    def _more(self) -> bytes:
        data = self._socket.recv(1 << 18)
        if not data:
            raise click.ClickException("The server closed the connection.")
        return data


def shells(port: int, count: int) -> list[float]:
    """Return the seconds from the request to the last byte of the shell, of unwritten pages, one at a time."""
    client = Client(port)
    for i in range(5):
        client.get(f"/page/Warm_{i}")
    seconds = []
    for i in range(count):
        begun = time.perf_counter()
        client.get(f"/page/Shell_{i}")
        seconds.append(time.perf_counter() - begun)
        time.sleep(0.35)  # the page is finished by then, and the server idle
    return seconds


def rate(port: int, path: str, seconds: float) -> float:
    """Return the requests per second for one page, over a few connections."""
    clients = [Client(port) for _ in range(_CONNECTIONS)]
    begun = time.perf_counter()
    count = 0
    while time.perf_counter() - begun < seconds:
        for client in clients:
            client.send(path)
        for client in clients:
            client.receive()
        count += len(clients)
    return count / (time.perf_counter() - begun)


def frame_cost(size: int, frames: int = 120) -> float:
    """Return the median seconds to parse, render, sanitize and encode one frame of a growing region."""
    with tempfile.TemporaryDirectory() as folder:
        app = App("Bench", engine=scripted("-"), database=f"{folder}/frames.db")
        app.page("/page/{title}")(lambda title: f"About {title}.")
        app.prepare()
        try:
            text = long_text("Frame", size)
            linker = Linker("/page/Frame", PagePattern("/page/{title}").link, app.site.store.exists)
            region_job = RegionJob("body", Canvas("About frames."), Prompt("About frames."), linker, 256)
            page = Page(body=Canvas("About frames."))
            job = PageJob("/page/Frame", page, "Frame", {"body": region_job}, linker)
            pages = app.site.job_renderer
            pages.prepare(job)
            seconds = []
            for i in range(frames):
                end = size - 5 * (frames - i)
                region_job.apply_frame(Frame(text[:end], unsettled=((end - 5, end),), fixed=end - 5))
                begun = time.perf_counter()
                pages.frame_message(job, "body")
                seconds.append(time.perf_counter() - begun)
            return statistics.median(seconds[5:])
        finally:
            app.site.store.close()


def hostile_costs(size: int = 100_000) -> dict[str, float]:
    """Return the least seconds to render one frame of Markdown that repeats a fragment, for each fragment.

    The frame is the first one of its formatter, so nothing is cached.
    """
    texts = {repr(fragment): repeated(fragment, size) for fragment in REPEATED}
    costs = {}
    for name, text in {**texts, "nested lists": nested_list(size)}.items():
        seconds = []
        for _ in range(3):
            formatter = MarkdownFormatter(Linker("/page/Frame", PagePattern("/page/{title}").link, lambda keys: set()))
            begun = time.perf_counter()
            formatter.format(Frame(text))
            seconds.append(time.perf_counter() - begun)
        costs[name] = min(seconds)
    return costs


async def visit(port: int, path: str) -> tuple[float, bool, int]:
    """Request a page as one visitor, and watch it until it is finished.

    Returns:
        Seconds to the shell, True if the page arrived complete and in order, and the number of frames.
    """
    begun = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/html\r\nConnection: close\r\n\r\n".encode())
    await reader.read()
    shell = time.perf_counter() - begun
    writer.close()
    last, frames, ordered, html = 0, 0, True, ""
    async with connect(f"ws://127.0.0.1:{port}/_unwritten/live", max_size=None, open_timeout=60) as socket:
        await socket.send(json.dumps({"type": "watch", "page": path, "seen": {}}))
        async for text in socket:
            message = json.loads(text)
            if message["type"] == "frame":
                ordered = ordered and message["frame"] > last
                last, html = message["frame"], message["html"]
                frames += 1
            elif message["state"] == "written":
                break
            elif message["state"] not in {"queued", "writing"}:
                return shell, False, frames
    subject = path.rsplit("/", 1)[-1].replace("_", " ")
    ends = long_text(subject, 2000).split()[-1].strip("*[].")
    return shell, ordered and f"<strong>{subject}</strong>" in html and ends in html, frames


async def crowd(port: int, paths: list[str]) -> list[tuple[float, bool, int]]:
    """Let visitors come at the same time, one for each path."""
    return list(await asyncio.gather(*(visit(port, path) for path in paths)))


def started(port: int) -> int:
    """Return how many jobs the server has started."""
    return int(json.loads(Client(port).get("/started"))["started"])


@click.command()
@click.option("--seconds", default=3.0, show_default=True, help="Seconds for each round of the stored page.")
@click.option("--shell-count", default=40, show_default=True, help="Unwritten pages to request at idle.")
@click.option("--visitors", default=200, show_default=True, help="Visitors on one unwritten page.")
@click.option("--soak", default=0, show_default=True, help="Pages to generate in a row, to see if memory grows.")
def command(seconds: float, shell_count: int, visitors: int, soak: int) -> None:
    """Measure what the framework costs, with a model that takes no time."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with served("ours", folder) as port:
            shell = shells(port, shell_count)
            kept = Client(port).get("/page/Shell_0")
            (folder / "kept.html").write_bytes(kept)
            with served("bare", folder) as bare_port:
                if len(Client(bare_port).get("/page/Shell_0")) != len(kept):
                    raise click.ClickException("The two servers do not send the same bytes.")
                Client(port).get("/sync/Shell_0")
                time.sleep(0.5)
                paths = [(at, path) for path in ("/page/Shell_0", "/sync/Shell_0") for at in (port, bare_port)]
                rounds = [[rate(at, path, seconds) for at, path in paths] for _ in range(5)]
            before = started(port)
            one = asyncio.run(crowd(port, ["/page/Crowd"] * visitors))
            jobs = started(port) - before
            many = asyncio.run(crowd(port, [f"/page/Many_{i}" for i in range(50)]))
            soaked = _soak(port, soak) if soak else {}
    frames = {size: frame_cost(size) * 1000 for size in (2_500, 10_000, 40_000)}
    hostile = {name: round(seconds * 1000, 1) for name, seconds in hostile_costs().items()}
    slowest = sorted(hostile, key=hostile.__getitem__, reverse=True)[:5]
    ratio = statistics.median(ours / bare for ours, bare, _, _ in rounds)
    ratio_sync = statistics.median(sync / bare_sync for _, _, sync, bare_sync in rounds)
    ratio_sync_async = statistics.median(sync / bare for _, bare, sync, _ in rounds)
    many_shells = [seconds for seconds, _, _ in many]
    complete = sum(whole for _, whole, _ in one)
    document: dict[str, Any] = {
        "shell_ms_p50": round(percentile(shell, 0.5) * 1000, 2),
        "shell_ms_p99": round(percentile(shell, 0.99) * 1000, 2),
        "kept_per_second": round(statistics.median(row[0] for row in rounds)),
        "bare_per_second": round(statistics.median(row[1] for row in rounds)),
        "kept_ratio": round(ratio, 3),
        "kept_ratio_sync": round(ratio_sync, 3),
        "kept_ratio_sync_to_async": round(ratio_sync_async, 3),
        "kept_bytes": len(kept),
        "frame_ms_2kb": round(frames[2_500], 3),
        "frame_ms_10kb": round(frames[10_000], 3),
        "frame_ms_40kb": round(frames[40_000], 3),
        "hostile_ms_100kb": hostile,
        "crowd_visitors": visitors,
        "crowd_generations": jobs,
        "crowd_complete": complete,
        "many_complete": sum(whole for _, whole, _ in many),
        "many_shell_ms_p99": round(percentile(many_shells, 0.99) * 1000, 1),
        **soaked,
    }
    rows = [
        ("shell of an unwritten page, p50", f"{document['shell_ms_p50']} ms", "≤ 5 ms"),
        ("shell of an unwritten page, p99", f"{document['shell_ms_p99']} ms", ""),
        ("stored page, Unwritten", f"{document['kept_per_second']} /s", ""),
        ("stored page, bare Starlette + Jinja2", f"{document['bare_per_second']} /s", ""),
        ("stored page, ratio, async page function", f"{document['kept_ratio']} ×", "≥ 0.8 ×"),
        ("stored page, ratio, def page function to def route", f"{document['kept_ratio_sync']} ×", "≥ 0.7 ×"),
        ("stored page, ratio, def page function to async route", f"{document['kept_ratio_sync_to_async']} ×", ""),
        ("frame of a 2.5 kB region", f"{document['frame_ms_2kb']} ms", ""),
        ("frame of a 10 kB region", f"{document['frame_ms_10kb']} ms", "≤ 0.5 ms"),
        ("frame of a 40 kB region", f"{document['frame_ms_40kb']} ms", "linear"),
        *((f"frame of 100 kB of {name}", f"{hostile[name]} ms", "≤ 50 ms") for name in slowest),
        (f"{visitors} visitors on one page: jobs", str(jobs), "1"),
        (f"{visitors} visitors on one page: complete", str(complete), str(visitors)),
        ("50 visitors on 50 pages: complete", str(document["many_complete"]), "50"),
        ("50 visitors on 50 pages: shell, p99", f"{document['many_shell_ms_p99']} ms", "≤ 50 ms"),
    ]
    if soaked:
        rows.append((f"{soak} pages in a row: complete", str(soaked["soak_complete"]), str(soak)))
        rows.append(("memory after the first and the last tenth", soaked["soak_memory"], "flat"))
    report("What the framework costs (a model that takes no time)", rows, document)


def _soak(port: int, pages: int) -> dict[str, Any]:
    """Generate many pages, 50 at a time, and return the server's memory (Linux only)."""
    complete, memory = 0, []
    for start in range(0, pages, 50):
        result = asyncio.run(crowd(port, [f"/page/Soak_{i}" for i in range(start, min(start + 50, pages))]))
        complete += sum(whole for _, whole, _ in result)
        memory.append(json.loads(Client(port).get("/started"))["memory_mb"])
    tenth = memory[len(memory) // 10]
    return {"soak_complete": complete, "soak_memory": f"{tenth} MB, {memory[-1]} MB"}
