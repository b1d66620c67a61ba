"""Operational faults: crashes, full disks, other processes, shutdown, clocks, and services that are away."""

from __future__ import annotations

import contextlib
import html
import http.client
import json
import os
import random
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.torture.app_server import AppServer, Reply, app_server, new_address
from tests.torture.figures import Figures
from tests.torture.hostile_server import HostileServer
from tests.torture.services import Service, Storage
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
"""Lets a process see another clock (Debian: libfaketime). Without it, the checks of the clock are left out."""

_UNIQUE = re.compile(r"unique-[0-9a-f]{16}")


def _word(reply: Reply) -> str:
    """Return the word that the model made up for this page, or "" if the page has none."""
    found = _UNIQUE.search(reply.text)
    return found[0] if found and reply.status == 200 else ""


class _Traffic:
    """Visitors who open new pages all the time, and remember what they have seen complete.

    Attributes:
        seen: The word of each page that a visitor has received complete.
    """

    def __init__(self, server: AppServer, visitors: int = 6) -> None:
        self.seen: dict[str, str] = {}
        self._server, self._stop = server, threading.Event()
        self._threads = [threading.Thread(target=self._visit, args=(n,)) for n in range(visitors)]

    def __enter__(self) -> _Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _visit(self, visitor: int) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            key = f"/short/unique-{visitor}-{number}-{random.randrange(10**9)}"
            try:
                word = _word(self._server.whole(key, seconds=20))
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
                continue
            if word:
                self.seen[key] = word


def _lost(server: AppServer, seen: dict[str, str]) -> int:
    """Return how many pages are not what their visitors saw."""
    with ThreadPoolExecutor(4) as pool:
        now = list(pool.map(lambda key: _word(server.whole(key)), seen))
    return sum(word != before for word, before in zip(now, seen.values(), strict=True))


def kills(folder: Path, model: HostileServer, storage: Storage, *, short: bool) -> Figures:
    """Kill the server again and again while visitors open pages. Every page that a visitor saw complete is there."""
    rounds = 1 if short else 30
    slowest = 0.0
    with app_server(folder, model.url, storage.flags(folder)) as server, _Traffic(server) as traffic:
        for _ in range(rounds):
            time.sleep(random.uniform(0.3, 1.2))
            server.kill()
            server.start(ready=False)
            slowest = max(slowest, server.wait_until_ready())
        time.sleep(0.5)
        seen = dict(traffic.seen)
        lost = _lost(server, seen)
    return {"kills": rounds, "kills_pages": len(seen), "kills_lost": lost, "kills_restart_s": slowest}


def shutdown(folder: Path, model: HostileServer, storage: Storage, *, short: bool) -> Figures:
    """Stop the server with SIGTERM while pages are written. All are stored, at the latest after a restart."""
    count = 6 if short else 16
    keys = [f"/markdown/{'slow' if short else 'long'}-{number}" for number in range(count)]
    complete: set[str] = set()

    def read(key: str) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if "Word39" in server.whole(key).text:
                complete.add(key)

    with app_server(folder, model.url, {**storage.flags(folder), "--jobs": "8"}) as server:
        with ThreadPoolExecutor(count) as pool:
            for key in keys:
                pool.submit(read, key)
            time.sleep(0.7)
            seconds = server.terminate()
        begun_before = dict(model.requests)
        server.start()
        time.sleep(5 if short else 30)  # pages that were cut off continue
        stored = {key for key in keys if _is_stored(server, key)}
        generated = sum(
            model.requests[key.rpartition("/")[2]] > begun_before.get(key.rpartition("/")[2], 0) for key in keys
        )
    return {
        "drain_s": seconds,
        "drain_cut_off": count - len(complete),
        "drain_lost": count - len(stored),
        "drain_resumed": generated,
    }


def _is_stored(server: AppServer, key: str) -> bool:
    """True if a page is stored and complete. Asks with HEAD, which generates nothing, then reads it."""
    reply = server.request("HEAD", key, new_address())
    return (
        reply.status == 200
        and "noindex" not in reply.headers.get("x-robots-tag", "")
        and "Word39" in server.whole(key).text
    )


@contextlib.contextmanager
def _small_disk(folder: Path, size: str = "6m") -> Iterator[Path]:
    """Mount a small file system. Needs root."""
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _fill(disk: Path) -> Path:
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)
    return filler


def disks(folder: Path, model: HostileServer, storage: Storage, *, short: bool) -> Figures:
    """Fill the disk under a running server, start one on a full disk, and one on a read-only file system."""
    figures: Figures = {}
    if storage.database is not None:  # the database is not on this disk
        return figures
    if os.geteuid() != 0 or shutil.which("mount") is None:
        print("    left out: small disks can only be mounted by root")
        return figures
    with _small_disk(folder) as disk:
        database = {"--database": str(disk / "torture.db")}
        with app_server(folder, model.url, database) as server:
            server.whole("/")
            board = server.whole("/board/full", "127.0.0.1")
            form = re.search(r'action="([^"]+/add\?[^"]+)"', board.text)
            assert form is not None
            filler = _fill(disk)
            keys = [f"/short/unique-disk-{number}" for number in range(8)]
            words = {key: _word(server.whole(key)) for key in keys}
            time.sleep(1.2)  # the health check is cached for a second
            answer = server.post(html.unescape(form[1]), {"text": "typed with care " * 3000})
            figures |= {
                "full_disk_health_ok": server.get("/health").status == 200,
                "full_disk_stored_pages_fail": server.get("/").status != 200,
                "full_disk_forms_lost": "typed with care" not in answer.text,
            }
            filler.unlink()
            time.sleep(3)
            figures["full_disk_lost"] = sum(_word(server.whole(key)) != word for key, word in words.items() if word)
            filler = _fill(disk)
            server.kill()
            server.start(ready=False)
            figures["full_disk_starts_fail"] = not _answers(server, "/")
            server.kill()
            filler.unlink()
        for read_only in (("--read-only",), ()):
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            server = AppServer(folder, model.url, database, extra=read_only)
            try:
                server.start(ready=False)
                if read_only:
                    figures["read_only_fails"] = not _answers(server, "/")
                else:
                    _answers(server, "/")
                    figures["read_only_tracebacks"] = server.log.read_text(errors="replace").count("Traceback")
            finally:
                server.kill()
                subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    return figures


def _answers(server: AppServer, path: str) -> bool:
    with contextlib.suppress(RuntimeError, OSError):
        server.wait_until_ready(15)
        return server.get(path).status == 200
    return False


def second_process(folder: Path, model: HostileServer, storage: Storage, *, short: bool) -> Figures:
    """Start a second server on the same database. It is refused with an explanation; a read-only one is not."""
    (folder / "second").mkdir()
    with app_server(folder, model.url, storage.flags(folder)) as server:
        server.whole("/")
        second = AppServer(folder / "second", model.url, storage.flags(folder))
        second.start(ready=False)
        refused = _ends(second) and "Traceback" not in second.log.read_text()
        if second.running:
            second.kill()
        reader = AppServer(folder / "second", model.url, storage.flags(folder), extra=("--read-only",))
        reader.start(ready=False)
        reads = _answers(reader, "/")
        if reader.running:
            reader.kill()
    if storage.broker is not None:  # then several processes serve one database
        return {"second_process_refused": refused, "second_reader_refused": not reads}
    return {"second_process_accepted": not refused, "second_reader_refused": not reads}


def _ends(server: AppServer, seconds: float = 10) -> bool:
    try:
        return server.process.wait(seconds) != 0
    except subprocess.TimeoutExpired:
        return False


def clocks(folder: Path, model: HostileServer, storage: Storage, *, short: bool) -> Figures:
    """Let the wall clock jump three days ahead and one hour back, as it does in laptops that sleep."""
    if not FAKETIME.exists():
        print("    left out: apt install libfaketime")
        return {}
    clock = folder / "clock"
    clock.write_text("+0")
    environment = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    with app_server(folder, model.url, storage.flags(folder), environment) as server:
        server.add_note("before")
        clock.write_text("+3d")
        refused = server.add_note("after three days") >= 400
        clock.write_text("+0")
        key = "/markdown/slow-9"
        with server.live_socket() as live:
            server.whole(key, "127.0.0.1")
            first = _frames_of_rewrite(server, live, key, seen=0)
            clock.write_text("-1h")
            second = _frames_of_rewrite(server, live, key, seen=max(first, default=0))
        dropped = not second or (first and min(second) <= max(first))
    return {"clock_forms_refused": refused, "clock_frames_dropped": bool(dropped)}


def _frames_of_rewrite(server: AppServer, live: ClientConnection, key: str, seen: int) -> list[int]:
    """Have a page written again, and return the numbers of the frames that an open tab gets."""
    server.post("/_unwritten/rewrite", {"page": key, "seed": ""})
    live.send(json.dumps({"type": "watch", "page": key, "seen": {"body": seen}}))
    numbers = []
    with contextlib.suppress(TimeoutError, WebSocketException):
        while True:
            message = json.loads(live.recv(8))
            if message["type"] == "frame":
                numbers.append(int(message["frame"]))
            elif message.get("state") == "written" and numbers:
                break
    return numbers


def growth(folder: Path, model: HostileServer, storage: Storage, *, short: bool) -> Figures:
    """Write many pages, with bursts of visitors between them. Memory and descriptors do not grow."""
    pages, visits = (300, 60) if short else (10_000, 200)
    with app_server(folder, model.url, storage.flags(folder)) as server, ThreadPoolExecutor(40) as burst:
        numbers = iter(range(1, pages + 1))

        def write(count: int) -> None:
            with ThreadPoolExecutor(8) as pool:
                for number, _ in zip(numbers, range(count), strict=False):
                    pool.submit(server.whole, f"/short/unique-{number}", new_address())

        def visit() -> None:
            list(burst.map(lambda n: server.get(f"/board/{n % 5}", new_address()), range(visits)))
            list(burst.map(lambda n: server.get(f"/slow/0/{n}", new_address()), range(40)))

        visit()
        write(pages // 10)
        time.sleep(0.5)
        descriptors, memory = server.descriptors, server.memory_mb
        rounds = 1 if short else 3
        for _ in range(rounds):
            write(pages * 9 // 10 // rounds)
            visit()
        time.sleep(1)
        return {
            "growth_pages": pages,
            "growth_memory_mb": server.memory_mb - memory,
            "growth_descriptors": server.descriptors - descriptors,
            "growth_descriptors_open": server.descriptors,
        }


def engine_away(folder: Path, model: HostileServer, storage: Storage, *, short: bool) -> Figures:
    """Stop the model server while pages are asked for, then start it again."""
    with app_server(folder, model.url, storage.flags(folder)) as server:
        server.whole("/")
        model.stop()
        away = [server.whole(f"/short/unique-away-{number}") for number in range(4)]
        stored = server.get("/").status
        model.start()
        back = _word(server.whole("/short/unique-away-0"))
    return {
        "engine_away_5xx": sum(reply.status >= 500 for reply in away) + (stored != 200),
        "engine_back_fails": not back,
    }


def service_away(
    folder: Path, model: HostileServer, storage: Storage, service: Service, name: str, *, short: bool
) -> Figures:
    """Stop the database or the broker for some seconds while visitors open pages, then start it again."""
    seconds = 2 if short else 10
    with app_server(folder, model.url, storage.flags(folder)) as server:
        server.whole("/")
        with _Traffic(server) as traffic, ThreadPoolExecutor(1) as pool:
            time.sleep(1)
            page = pool.submit(server.whole, "/markdown/slow-7", new_address())
            time.sleep(0.5)
            service.stop()
            longest = _slowest(server, seconds)
            service.start()
            complete = "Word39" in page.result(60).text
            recovered = _seconds_until(
                lambda: bool(_word(server.whole(f"/short/unique-{random.randrange(10**9)}", seconds=5)))
            )
            seen = dict(traffic.seen)
        lost = _lost(server, seen)
        lost += not (complete and "Word39" in server.whole("/markdown/slow-7").text)
        running = server.running
    return {
        f"{name}_away_lost": lost,
        f"{name}_away_answer_s": longest,
        f"{name}_away_recovery_s": recovered,
        f"{name}_away_died": not running,
    }


def _slowest(server: AppServer, seconds: float) -> float:
    """Ask for pages for some seconds. Return the longest time until a response, of any status."""
    end, slowest = time.monotonic() + seconds, 0.0
    while time.monotonic() < end:
        begun = time.monotonic()
        with contextlib.suppress(OSError, http.client.HTTPException):
            server.get("/", new_address(), seconds=30)
        slowest = max(slowest, time.monotonic() - begun)
        time.sleep(0.1)
    return slowest


def _seconds_until(condition: Callable[[], bool], limit: float = 30) -> float:
    begun = time.monotonic()
    while time.monotonic() - begun < limit:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if condition():
                break
        time.sleep(0.1)
    return time.monotonic() - begun
