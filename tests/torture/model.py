"""A hostile model, and a model server that breaks the protocol."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tests.torture.app_server import AppServer, Reply, new_address
from tests.torture.figures import Figures
from tests.torture.hostile_server import BEHAVIOURS, LEAK, HostileServer
from tests.torture.probe import Prober
from tests.torture.texts import SIZE, hostile_texts

MAX_TEXT_LENGTH = 60_000
"""Maximum length of a text that a visitor may submit."""

_SHORT_FRAGMENTS = 15
"""In the short form, one of so many fragments is tried."""

LIMIT_MS = 250.0


@dataclass
class Attempt:
    """What the server was given, and when."""

    name: str
    begun: float
    ended: float


def stalls(server: AppServer, model: HostileServer, *, short: bool) -> Figures:
    """Let the model write hostile texts in every format, and visitors submit them as edits. Find the longest stall."""
    attempts: list[Attempt] = []
    sizes: dict[str, float] = {}
    texts = [
        (f"{format}/{name}", text)
        for number, (format, name, text) in enumerate(hostile_texts(SIZE))
        if not short or not name.startswith("fragment") or number % _SHORT_FRAGMENTS == 0
    ]
    server.whole("/")
    failures = 0
    with Prober(server.port, "/", server.pid) as prober:
        for name, text in texts:
            key, case = f"/{name}", name.partition("/")[2]
            model.texts[case] = text
            begun = time.monotonic()
            with _counting_failures() as failed:
                reply = server.whole(key)
                sizes[name] = len(reply.body)
                failed |= _edit(server, key, text) if not short or not name.partition("/")[2].startswith("f") else set()
            failures += bool(failed)
            attempts.append(Attempt(name, begun, time.monotonic()))
    worst = {
        next((a.name for a in attempts if a.begun - 0.1 <= begun <= a.ended), "-"): round(delay * 1000)
        for delay, begun in reversed(prober.stalls)
        if delay * 1000 > LIMIT_MS
    }
    for name, delay in sorted(worst.items(), key=lambda item: -item[1])[:12]:
        print(f"    stall of {delay:,} ms: {name}")
    largest = max(sizes, key=sizes.__getitem__)
    print(f"    largest page: {largest}, {sizes[largest] / 1000:,.0f} kB")
    return {
        "texts": len(texts),
        "longest_stall_ms": prober.longest_ms,
        "texts_that_stall": len(worst),
        "texts_without_answer": failures,
        "largest_page_kb": sizes[largest] / 1000,
        "peak_memory_mb": server.peak_mb,
        "watchdog_stalls": server.metric("event_loop_stalls_total"),
        "watchdog_longest_ms": server.metric("event_loop_longest_stall_seconds") * 1000,
    }


@contextlib.contextmanager
def _counting_failures() -> Iterator[set[str]]:
    failed: set[str] = set()
    try:
        yield failed
    except (OSError, ValueError) as error:
        failed.add(str(error))


def _edit(server: AppServer, key: str, text: str) -> set[str]:
    """Submit a text as an edit, then read the edited page, its history and the difference. Return what failed."""
    page = server.get(f"/_unwritten/edit?page={key}")
    found = re.search(r'name="region" value="([\w-]+)">\s*<input type="hidden" name="base" value="(\d+)"', page.text)
    if found is None:
        return set()  # no text of it was stored
    form = {"page": key, "region": found[1], "base": found[2], "means": "by hand", "text": _shortened(text)}
    replies = [
        server.post("/_unwritten/edit", form, new_address()),
        server.whole(key),
        server.get(f"/_unwritten/history?page={key}&from=1&to=2"),
        server.get(f"/_unwritten/history?page={key}"),
    ]
    return {f"{key}: {reply.status}" for reply in replies if reply.status >= 500}


def _shortened(text: str) -> str:
    """Return a text that visitors may submit, with the same beginning and end."""
    return text if len(text) <= MAX_TEXT_LENGTH else text[: MAX_TEXT_LENGTH - 9] + text[-9:]


def behaviours(server: AppServer, model: HostileServer, *, short: bool) -> Figures:
    """Let the model server break the protocol in every way. Nothing leaks, nothing hangs, memory stays bounded."""
    names = [name for name in BEHAVIOURS if name not in {"article", "slow", "long", "growing", "unique"}]
    if short:
        names = [
            name for name in names if name not in {"drip", "hang", "endless-line", "endless-comments", "many-empty"}
        ]
    server.whole("/")
    leaks = unanswered = server_errors = 0
    longest_text = 0
    before = server.memory_mb
    longest_page = 0.0
    with Prober(server.port, "/", server.pid) as prober:
        for name in names:
            begun = time.monotonic()
            try:
                replies = [server.whole(f"/short/{name}", seconds=60)]
                if name not in {"hang", "drip"}:  # a page that failed is written again
                    replies += [server.get(f"/short/{name}", new_address()), _watched(server, f"/short/{name}")]
            except OSError:
                unanswered += 1
                continue
            finally:
                longest_page = max(longest_page, time.monotonic() - begun)
            leaks += any(_leaks(reply, model) for reply in replies)
            server_errors += any(reply.status >= 500 for reply in replies)
            if name == "endless":
                region = re.search(r"data-region.*?>(.*?)</(?:div|section|article)>", replies[0].text, re.S)
                longest_text = len(re.sub(r"<[^>]+>", "", region[1])) if region else 0
    leaks += _leaks(server.get("/health"), model)
    peak = server.peak_mb - before
    for _ in range(100):
        if model.open == 0:
            break
        time.sleep(0.1)
    return {
        "behaviours": len(names),
        "behaviours_unanswered": unanswered,
        "behaviours_5xx": server_errors,
        "behaviours_stall_ms": prober.longest_ms,
        "behaviours_memory_mb": peak,
        "behaviours_longest_page_s": longest_page,
        "secrets_leaked": leaks,
        "characters_for_100_tokens": longest_text,
        "requests_left_open": model.open,
    }


def _leaks(reply: Reply, model: HostileServer) -> bool:
    """True if a visitor can read an error text of the model server, its address, or a path of this machine."""
    secrets = (*(word for word in LEAK.split() if len(word) > 3), f"127.0.0.1:{model.port}", "/tmp/")
    return any(secret in reply.text for secret in secrets)


def _watched(server: AppServer, key: str) -> Reply:
    """Return what a socket says about a page, as a reply."""
    with server.live_socket(new_address()) as socket:
        socket.send(f'{{"type": "watch", "page": "{key}"}}')
        with contextlib.suppress(TimeoutError):
            return Reply(200, None, str(socket.recv(2)).encode())  # type: ignore[arg-type]
    return Reply(200, None, b"")  # type: ignore[arg-type]
