"""``python tests/benchmarks ahead``: what prefetching saves readers, and what it costs.

Simulated readers read a page for some seconds and click on one of its links, mostly on one of the first: once with
prefetching and once without, on the same engine. Then clicks on other pages are timed, with and without a running
prefetch.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import uvicorn
from tests.benchmarks.click_latency import click_on
from tests.benchmarks.readers import MAX_SECONDS, Reached, chromium, over_http, read
from tests.benchmarks.report import report
from tests.support.servers import OwnerConnections
from websockets.asyncio.client import connect

from unwritten.app.application import App
from unwritten.formats.page import Canvas
from unwritten_engine import Engine, scripted
from unwritten_engine import Request as EngineRequest
from unwritten_engine.scripted import ABOUT

_FIRST = "Amber Bell Cedar Delta Ember Fjord Garnet Harbour Iron Juniper Kelp Lantern Marble North Otter Pearl".split()

_SECOND = "Archive Bridge Canal Dance Engine Festival Garden House Island Journal Kite Ledger Market Opera".split()


_FRAMES, _TOKENS = 60, 120


@dataclass(frozen=True, slots=True)
class Side:
    """What readers saw, with or without prefetching.

    Attributes:
        model: The model's name.
        browser: True if they used a browser.
        reached: Every click.
        ready: The keys of pages that were complete when they were clicked.
        prefetched: Tokens that were prefetched and stored.
        unopened: How many of them no reader has opened.
        discarded: About how many tokens of prefetches were discarded.
        promoted: Pages that were clicked while they were being prefetched.
    """

    model: str
    browser: bool
    reached: list[Reached]
    ready: set[str]
    prefetched: int
    unopened: int
    discarded: int
    promoted: int

    def median(self) -> float:
        """Return the median milliseconds from a click to the complete page."""
        return statistics.median(reached.complete for reached in self.reached)


@dataclass(frozen=True, slots=True)
class Beside:
    """Median milliseconds from a click to the first words.

    Attributes:
        quiet: While nothing else ran.
        busy: While a prefetch ran.
        running: In how many rounds it ran when the click came.
        rounds: The number of rounds.
    """

    quiet: float
    busy: float
    running: int
    rounds: int


def page_text(subject: str) -> str:
    """Return a text of about 120 tokens with eight links, always the same for a subject."""
    rng = random.Random(subject)
    names = [f"{rng.choice(_FIRST)} {rng.choice(_SECOND)}" for _ in range(8)]
    return " ".join(
        f"The [[{name}]] has been known for as long as there were ships, and nobody says why." for name in names
    )


def script_engine(seconds: float) -> Engine:
    """Return a scripted engine that takes this long for a page, in 60 frames, for four pages at the same time."""

    def write(request: EngineRequest) -> list[str]:
        text = page_text(request.prompt.ask)
        return [text[: round(len(text) * (number + 1) / _FRAMES)] for number in range(_FRAMES)]

    return scripted(write, delay=seconds / _FRAMES, about=replace(ABOUT, model="a script", parallel=4))


def wiki(engine: Engine | str, folder: Path, prefetch: bool) -> App:
    """Return a small app, with pages of one short region."""
    folder.mkdir(exist_ok=True)
    app = App("Bench", engine=engine, database=str(folder / f"{prefetch}.db"), prefetch="on" if prefetch else "off")

    @app.page("/wiki/{title}")
    async def article(title: str) -> Canvas:
        return Canvas(f"An encyclopedia article about {title}.", tokens=_TOKENS)

    return app


@contextlib.contextmanager
def site(app: App) -> Iterator[str]:
    """Serve the app in a thread. Yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(OwnerConnections(app), log_level="error", access_log=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(15)


async def readers(app: App, address: str, count: int, clicks: int, seconds: float) -> tuple[list[Reached], bool]:
    """Let readers read. Return their clicks, and True if they used a browser."""
    async with chromium(address) as tab, over_http(address) as plain:
        opened = [await (tab or plain)() for _ in range(count)]
        starts = [f"/wiki/{_FIRST[number % len(_FIRST)]}_{_SECOND[number % len(_SECOND)]}" for number in range(count)]
        reached = await asyncio.gather(
            *(
                read(reader, start, clicks, seconds, seed)
                for seed, (reader, start) in enumerate(zip(opened, starts, strict=True))
            )
        )
        return [one for many in reached for one in many], tab is not None


def side(app: App, count: int, clicks: int, seconds: float) -> Side:
    """Let readers read, and count what they saw."""
    with site(app) as address:
        reached, browser = asyncio.run(readers(app, address, count, clicks, seconds))
        time.sleep(0.2)  # the first visit of a page is stored after the response
        prefetcher = app.site.prefetcher
        rows = app.site.store.database.read(
            "SELECT p.key, v.tokens, v.opened_after FROM versions v JOIN pages p ON p.id = v.page "
            "WHERE v.opened_after NOT NULL"
        )
        opened = {key for key, _, opened_after in rows if opened_after >= 0}
        return Side(
            model=app.engine.about.model,
            browser=browser,
            reached=reached,
            ready={one.key for one in reached} & opened,
            prefetched=sum(tokens for _, tokens, _ in rows),
            unopened=sum(tokens for key, tokens, _ in rows if key not in opened),
            discarded=prefetcher.discarded_tokens if prefetcher else 0,
            promoted=prefetcher.num_promoted if prefetcher else 0,
        )


async def _until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    for _ in range(round(seconds / 0.02)):
        if condition():
            return
        await asyncio.sleep(0.02)


def beside(app: App, rounds: int) -> Beside:
    """Time clicks without and with a running prefetch, in turn."""
    quiet: list[float] = []
    busy: list[float] = []
    running = 0

    async def measure(address: str) -> None:
        nonlocal running
        port = int(address.rpartition(":")[2])
        for number in range(rounds):
            hub = f"/wiki/Hub_{number}"
            quiet.append((await click_on(port, hub)).first_words * 1000)
            async with connect(f"ws://{address}/_unwritten/live") as live:
                await live.send(json.dumps({"type": "view", "page": hub, "links": [], "hover": None, "press": None}))
                await _until(lambda: app.site.jobs.load[0] > 0)
                await asyncio.sleep(0.5)
                running += app.site.jobs.load[0] > 0
                busy.append((await click_on(port, f"/wiki/Elsewhere_{number}")).first_words * 1000)
            await _until(lambda: app.site.jobs.load == (0, 0))

    with site(app) as address:
        asyncio.run(measure(address))
    return Beside(statistics.median(quiet), statistics.median(busy), running, rounds)


@click.command()
@click.option("--engine", default="script", show_default=True, help="`script`, or an engine as for `unwritten run`.")
@click.option("--page-seconds", default=2.0, show_default=True, help="Seconds that the script takes for a page.")
@click.option("--readers", "count", default=1, show_default=True, help="Readers at the same time.")
@click.option("--clicks", default=6, show_default=True, help="Links that each reader follows.")
@click.option(
    "--read-seconds", default=5.0, show_default=True, help="Seconds that each page is read.", type=click.FloatRange(1)
)
@click.option("--rounds", default=4, show_default=True, help="Clicks during a prefetch.")
def command(engine: str, page_seconds: float, count: int, clicks: int, read_seconds: float, rounds: int) -> None:
    """Measure what prefetching saves readers, and what it wastes."""

    def app(folder: Path, prefetch: bool) -> App:
        return wiki(script_engine(page_seconds) if engine == "script" else engine, folder, prefetch)

    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            on = side(app(folder, True), count, clicks, read_seconds)
            off = side(app(folder, False), count, clicks, read_seconds)
            alongside = beside(app(folder / "beside", True), rounds)
    except TimeoutError as error:
        raise click.ClickException(
            f"A page was not finished within {MAX_SECONDS:g} seconds. Is this machine busy? Try again."
        ) from error
    _report(on, off, alongside)


def _report(on: Side, off: Side, alongside: Beside) -> None:
    ready = [one.complete for one in on.reached if one.key in on.ready]
    spent = on.prefetched + on.discarded
    document: dict[str, Any] = {
        "model": on.model,
        "browser": "Chromium" if on.browser else "",
        "clicks": len(on.reached),
        "ahead_ready_share": round(len(ready) / len(on.reached), 3),
        "ahead_ms_p50": round(statistics.median(ready), 1) if ready else None,
        "ahead_ms_worst": round(max(ready), 1) if ready else None,
        "ahead_taken_over_share": round(on.promoted / len(on.reached), 3),
        "ahead_wasted_share": round((on.unopened + on.discarded) / spent, 3) if spent else None,
        "complete_ms_p50_on": round(on.median(), 1),
        "complete_ms_p50_off": round(off.median(), 1),
        "times_sooner": round(off.median() / on.median(), 1),
        "first_words_ms_quiet": round(alongside.quiet, 1),
        "first_words_ms_beside_ahead": round(alongside.busy, 1),
        "beside_ahead_rounds": f"{alongside.running} of {alongside.rounds}",
    }
    how = "in Chromium" if on.browser else "over HTTP: Playwright or Chromium is not installed"
    rows = [
        ("clicks on pages that were ready", f"{document['ahead_ready_share']:.0%}", ""),
        (f"click to the complete page, ready ones, p50 ({how})", f"{document['ahead_ms_p50']} ms", "≤ 100 ms"),
        ("the same, worst", f"{document['ahead_ms_worst']} ms", ""),
        ("clicks on pages that were being prefetched", f"{document['ahead_taken_over_share']:.0%}", ""),
        ("prefetched tokens that were not read", f"{document['ahead_wasted_share'] or 0:.0%}", ""),
        ("click to the complete page, all, p50: with, without", f"{on.median():.0f} ms, {off.median():.0f} ms", ""),
        ("speed-up", f"{document['times_sooner']} ×", ""),
        ("click to the first words: alone", f"{alongside.quiet:.0f} ms", ""),
        (f"the same during a prefetch ({document['beside_ahead_rounds']})", f"{alongside.busy:.0f} ms", "the same"),
    ]
    report(f"Prefetching: {on.model}", rows, document)
