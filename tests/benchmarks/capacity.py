"""``python tests/benchmarks capacity``: what a page costs, and what a thousand and a million pages a day need.

Everything is measured on a real server process, ``unwritten run``, in one run: processor time from the operating
system, bytes from the database. The engine is a model server that writes at a fixed speed and costs nothing here. The
speed of real ones is given as tokens per second.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import math
import socket
import sqlite3
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from tests.benchmarks.report import report
from tests.benchmarks.web import frame_cost
from tests.torture.app_server import AppServer, app_server, new_address
from tests.torture.hostile_server import hostile_server
from tests.torture.services import Storage, storages
from websockets.asyncio.client import connect

DAYS = (1_000, 1_000_000)
"""Generated pages a day that are estimated."""

_DAY = 86_400.0
_TABS = 40


def _cpu(server: AppServer, work: Callable[[], None], count: int) -> float:
    """Return the milliseconds of processor time that the server needs for one of ``count`` pieces of work."""
    time.sleep(0.3)
    before = server.cpu_seconds
    work()
    return (server.cpu_seconds - before) / count * 1000


def _stored(server: AppServer, count: int) -> None:
    connection = server.connection(new_address())
    for _ in range(count):
        connection.request("GET", "/article/0", headers={"Accept": "text/html"})
        response: http.client.HTTPResponse = connection.getresponse()
        if response.status != 200:
            raise click.ClickException(f"The server responded with status {response.status}.")
        response.read()
    connection.close()


def _shells(server: AppServer, count: int) -> None:
    """Request the shell of a page that is being written, again and again."""
    for _ in range(count):
        server.get("/article/long-1", new_address(), {"Sec-Fetch-Mode": "navigate"})


def _written(server: AppServer, first: int, count: int) -> None:
    """Have pages written, eight at a time, without a socket."""
    with ThreadPoolExecutor(8) as pool:
        for number in range(first, first + count):
            pool.submit(server.whole, f"/article/{number}")


async def _visit(server: AppServer, key: str, limit: asyncio.Semaphore) -> tuple[int, int]:
    """Open a page as a browser does, and watch it to its end. Return its messages, and their bytes."""
    messages = size = 0
    ip = new_address()
    async with limit:
        await asyncio.to_thread(server.get, key, ip, {"Sec-Fetch-Mode": "navigate"})
        address = f"ws://127.0.0.1:{server.port}/_unwritten/live"
        async with connect(address, local_addr=(ip, 0), max_size=None, compression=None) as live:
            await live.send(json.dumps({"type": "watch", "page": key, "seen": {}}))
            async for text in live:
                messages, size = messages + 1, size + len(text)
                message = json.loads(text)
                if message["type"] == "page" and message["state"] not in {"queued", "writing"}:
                    break
    return messages, size


def _crowd(server: AppServer, keys: list[str], at_once: int = 8) -> list[tuple[int, int]]:
    """Let one visitor open each of these pages. Return the messages that each of them got, and their bytes."""

    async def crowd() -> list[tuple[int, int]]:
        limit = asyncio.Semaphore(at_once)
        return await asyncio.gather(*(_visit(server, key, limit) for key in keys))

    return asyncio.run(crowd())


def measure(storage: Storage, folder: Path, count: int) -> dict[str, float]:
    """Return the cost of one page on one kind of storage."""
    with hostile_server() as engine, app_server(folder, engine.url, storage.flags(folder)) as server:
        server.whole("/article/0")
        stored = _cpu(server, lambda: _stored(server, 10 * count), 10 * count)
        _written(server, 1, count // 2)  # the first pages of a database take whole blocks
        before, commands = storage_bytes(storage, folder), _broker_commands(storage)
        alone = _cpu(server, lambda: _written(server, 1_000, count), count)
        size = (storage_bytes(storage, folder) - before) / count
        commands = (_broker_commands(storage) - commands) / count
        visits: list[tuple[int, int]] = []
        keys = [f"/article/{5_000 + number}" for number in range(count)]
        watched = _cpu(server, lambda: visits.extend(_crowd(server, keys)), count)
        tabs: list[tuple[int, int]] = []
        shared = _cpu(server, lambda: tabs.extend(_crowd(server, ["/article/9000"] * _TABS, _TABS)), 1)
        server.get("/article/long-1", new_address(), {"Sec-Fetch-Mode": "navigate"})
        shell = _cpu(server, lambda: _shells(server, count), count)
        memory = server.memory_mb
    frames = sum(messages for messages, _ in visits) / count
    return {
        "stored_page_ms": stored,
        "shell_ms": shell,
        "written_page_ms": alone,
        "watched_page_ms": watched,
        "messages_per_page": frames,
        "message_kb_per_page": sum(size for _, size in visits) / count / 1000,
        "frame_ms": frame_cost(2_400) * 1000,
        "tab_message_ms": max(0.0, shared - watched) / sum(messages for messages, _ in tabs),
        "bytes_per_page": size,
        "broker_commands_per_page": commands,
        "memory_mb": memory,
    }


def storage_bytes(storage: Storage, folder: Path) -> float:
    """Return the bytes that a database takes."""
    if storage.database is not None:
        return float(str(storage.database.execute("SELECT pg_database_size('postgres')")[0][0]))
    file = folder / "torture.db"
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return float(file.stat().st_size)


def _broker_commands(storage: Storage) -> float:
    """Return how many commands the broker has processed."""
    if not storage.broker_url:
        return 0.0
    address = urlsplit(storage.broker_url)
    with socket.create_connection((address.hostname or "", address.port or 6379), 5) as broker:
        broker.sendall(b"INFO stats\r\n")
        answer = broker.recv(1 << 16).decode()
    return float(next(line for line in answer.splitlines() if line.startswith("total_commands")).partition(":")[2])


def estimate(
    cost: Mapping[str, float], pages: float, *, tokens: float, speed: float, views: float, peak: float
) -> dict[str, float]:
    """Return what a number of generated pages a day needs.

    Args:
        cost: What ``measure`` returns.
        pages: Generated pages a day.
        tokens: Tokens of a page.
        speed: Tokens per second of one engine, all requests together.
        views: Views of stored pages for each generated page.
        peak: How many times more visitors come in the busiest minutes than on average.
    """
    rate = pages / _DAY * peak
    cores = rate * (cost["watched_page_ms"] + views * cost["stored_page_ms"]) / 1000
    return {
        "pages_per_second": rate,
        "engines": math.ceil(rate * tokens / speed),
        "engine_share": rate * tokens / speed,
        "cores": cores,
        "processes": max(1, math.ceil(cores / 0.6)),  # a process that is busier than that has long queues
        "disk_gb_per_year": cost["bytes_per_page"] * pages * 365 / 1e9,
        "socket_mb_per_second": rate * cost["message_kb_per_page"] / 1000,
        "broker_commands_per_second": rate * cost["broker_commands_per_page"],
    }


_ROWS = {
    "pages_per_second": ("generated pages a second, at the peak", "{:,.2f}"),
    "engine_share": ("engines of this speed, busy", "{:,.2f}"),
    "engines": ("engines of this speed, whole ones", "{:,.0f}"),
    "cores": ("processor cores of the web processes, busy", "{:,.3f}"),
    "processes": ("web processes", "{:,.0f}"),
    "disk_gb_per_year": ("database after a year, GB", "{:,.1f}"),
    "socket_mb_per_second": ("live messages, MB a second", "{:,.3f}"),
    "broker_commands_per_second": ("broker commands a second", "{:,.1f}"),
}


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in figures.items()}


@click.command()
@click.option("--count", default=60, show_default=True, help="Pages that each measurement generates.")
@click.option("--tokens", default=400.0, show_default=True, help="Tokens of a page.")
@click.option(
    "--speed", default=1000.0, show_default=True, help="Tokens per second of one engine, all requests together."
)
@click.option("--views", default=10.0, show_default=True, help="Views of stored pages for each generated page.")
@click.option(
    "--peak", default=4.0, show_default=True, help="Visitors in the busiest minutes, relative to the average."
)
@click.option("--postgresql", is_flag=True, help="Measure PostgreSQL with a broker too.")
def command(count: int, tokens: float, speed: float, views: float, peak: float, postgresql: bool) -> None:
    """Measure what a page costs, and estimate what a thousand and a million pages a day need."""
    document: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, storages(short=not postgresql, wanted=None) as kinds:
        for storage in kinds:
            folder = Path(name) / storage.name.replace(" ", "-")
            folder.mkdir()
            cost = measure(storage, folder, count)
            needs = {pages: estimate(cost, pages, tokens=tokens, speed=speed, views=views, peak=peak) for pages in DAYS}
            rows = [
                ("stored page, processor time", f"{cost['stored_page_ms']:.2f} ms", ""),
                ("shell of a page, processor time", f"{cost['shell_ms']:.2f} ms", ""),
                ("generated page without a socket, processor time", f"{cost['written_page_ms']:.1f} ms", ""),
                ("generated page that one tab watches, processor time", f"{cost['watched_page_ms']:.1f} ms", ""),
                ("one frame of it (parse, clean, render, encode), processor time", f"{cost['frame_ms']:.2f} ms", ""),
                ("a live message to one more tab, processor time", f"{cost['tab_message_ms']:.3f} ms", ""),
                ("live messages of a page", f"{cost['messages_per_page']:.0f}", ""),
                ("their size", f"{cost['message_kb_per_page']:.0f} kB", ""),
                ("a page in the database", f"{cost['bytes_per_page'] / 1000:.1f} kB", ""),
                ("broker commands of a page", f"{cost['broker_commands_per_page']:.0f}", ""),
                ("memory of the process", f"{cost['memory_mb']:.0f} MB", ""),
            ]
            report(f"What a page costs: {storage.name}", rows, _rounded(cost))
            print(f"\n| {storage.name} | {' | '.join(f'{pages:,} pages a day' for pages in DAYS)} |\n|---|---|---|")
            for key, (label, form) in _ROWS.items():
                if key != "broker_commands_per_second" or storage.broker_url:
                    print(f"| {label} | {' | '.join(form.format(needs[pages][key]) for pages in DAYS)} |")
            print()
            document[storage.name] = {
                "cost": _rounded(cost),
                "needs": {str(pages): _rounded(found) for pages, found in needs.items()},
            }
    print(json.dumps(document))
