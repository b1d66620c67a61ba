"""Simulated readers for ``ahead``: they read for a while and click on a link.

One uses Chromium, the other HTTP and the socket, with the hints that a browser sends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from html import unescape
from typing import Any, Protocol

from websockets.asyncio.client import ClientConnection, connect

NUM_LIKELY = 3
"""Most readers click on one of the first links of a page: so many."""

HOVER_SECONDS = 0.4
"""How long the pointer is over a link before the click."""

MAX_SECONDS = 60.0
"""Seconds until a page that is not finished is an error."""

_CLOCK = """
const now = () => performance.timeOrigin + performance.now();
addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (link) sessionStorage.clicked = JSON.stringify({ at: now(), to: link.getAttribute("href") });
}, true);
const look = () => {
  requestAnimationFrame(look);
  const clicked = JSON.parse(sessionStorage.clicked || "null");
  const regions = [...document.querySelectorAll("[data-region]")];
  if (!clicked || !regions.length || regions[0].dataset.page !== clicked.to) return;
  if (!clicked.first && regions.some((region) => region.textContent.trim())) clicked.first = now() - clicked.at;
  const done = regions.every((region) => region.dataset.state === "written");
  if (done) sessionStorage.reached = JSON.stringify({ ...clicked, ms: now() - clicked.at });
  if (done) delete sessionStorage.clicked;
  else sessionStorage.clicked = JSON.stringify(clicked);
};
requestAnimationFrame(look);
"""


@dataclass(frozen=True, slots=True)
class Reached:
    """One click.

    Attributes:
        key: The page that was clicked on.
        first: Milliseconds to its first words.
        complete: Milliseconds to the complete page.
    """

    key: str
    first: float
    complete: float


class Reader(Protocol):
    """A reader."""

    async def open(self, key: str) -> None:
        """Open a page, and wait until it is finished."""
        ...

    async def links(self) -> list[str]:
        """Return the keys of the links on the page, in order."""
        ...

    async def click(self, key: str) -> Reached:
        """Hover over a link, click it, and wait until its page is complete."""
        ...


async def read(reader: Reader, start: str, clicks: int, seconds: float, seed: int) -> list[Reached]:
    """Read from page to page.

    Args:
        reader: The reader.
        start: The first page.
        clicks: The number of links to follow.
        seconds: How long each page is read.
        seed: Seed for the choice of links. Seven clicks in ten go to one of the first links, the others anywhere.
    """
    rng = random.Random(seed)
    found: list[Reached] = []
    await reader.open(start)
    for number in range(clicks):
        await asyncio.sleep(seconds - HOVER_SECONDS)
        links = await reader.links()
        for other in range(8):
            if not links:  # a small model may write none
                await reader.open(f"{start}_{number}{other}")
                await asyncio.sleep(seconds - HOVER_SECONDS)
                links = await reader.links()
        seen = {reached.key for reached in found}
        fresh = [key for key in links if key not in seen] or links
        choice = rng.choice(fresh[:NUM_LIKELY] if rng.random() < 0.7 else fresh)
        found.append(await reader.click(choice))
    return found


class PlainReader:
    """Reads over HTTP and the socket, and sends the hints that a browser sends.

    Args:
        address: Such as ``127.0.0.1:8000``.
        live: The open socket.
    """

    def __init__(self, address: str, live: ClientConnection) -> None:
        self._address = address
        self._live = live
        self._page = ""
        self._html = ""

    async def open(self, key: str) -> None:
        """Open a page, and wait until it is finished."""
        await self._visit(key)
        self._html = (await self._get(key)).decode()
        self._page = key
        await self._near(None)

    async def links(self) -> list[str]:
        """Return the keys of the links on the page, in order."""
        found = re.findall(r'<a href="(/[^"]+)" class="(?:un)?written"', self._html)
        return list(dict.fromkeys(map(unescape, found)))

    async def click(self, key: str) -> Reached:
        """Hover over a link, click it, and wait until its page is complete."""
        await self._near(key)
        await asyncio.sleep(HOVER_SECONDS)
        first, complete = await self._visit(key)
        self._html = (await self._get(key)).decode()
        self._page = key
        await self._near(None)
        return Reached(key, first, complete)

    async def _near(self, hover: str | None) -> None:
        links = (await self.links())[:NUM_LIKELY]
        await self._send({"type": "view", "page": self._page, "links": links, "hover": hover, "press": None})

    async def _visit(self, key: str) -> tuple[float, float]:
        begun = time.perf_counter()
        first = 0.0
        html = (await self._get(key)).decode()
        if 'data-state="waiting"' in html or 'data-state="writing"' in html:
            await self._send({"type": "watch", "page": key, "seen": {}})
            async with asyncio.timeout(MAX_SECONDS):
                async for text in self._live:
                    message = json.loads(text)
                    if message["type"] == "frame" and re.sub(r"<[^>]*>", "", message["html"]).strip():
                        first = first or time.perf_counter() - begun
                    if message["type"] == "page" and message["page"] == key and message["state"] == "written":
                        break
        complete = time.perf_counter() - begun
        return (first or complete) * 1000, complete * 1000

    async def _send(self, message: dict[str, Any]) -> None:
        await self._live.send(json.dumps(message))

    async def _get(self, key: str) -> bytes:
        host, _, port = self._address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
        writer.write(
            f"GET {key} HTTP/1.1\r\nHost: {self._address}\r\nAccept: text/html\r\nConnection: close\r\n\r\n".encode()
        )
        answer = await reader.read()
        writer.close()
        return answer


class ChromiumReader:
    """Reads in a tab of Chromium.

    Args:
        address: Such as ``127.0.0.1:8000``.
        tab: Playwright's page.
    """

    def __init__(self, address: str, tab: Any) -> None:
        self._address = address
        self._tab = tab

    async def open(self, key: str) -> None:
        """Open a page, and wait until it is finished."""
        await self._tab.goto(f"http://{self._address}{key}", wait_until="load")
        await self._wait("() => !document.querySelector('[data-state=waiting], [data-state=writing]')")

    async def links(self) -> list[str]:
        """Return the keys of the links on the page, in order."""
        script = (
            """() => [...document.querySelectorAll("[data-region] a[href^='/']")].map((a) => a.getAttribute("href"))"""
        )
        return list(dict.fromkeys(await self._tab.evaluate(script)))

    async def click(self, key: str) -> Reached:
        """Hover over a link, click it, and wait until its page is complete."""
        link = self._tab.locator(f'[data-region] a[href="{key}"]').first
        await link.hover()
        await asyncio.sleep(HOVER_SECONDS)
        await link.click()
        await self._wait("() => !!sessionStorage.reached")
        reached = json.loads(await self._tab.evaluate("() => sessionStorage.reached"))
        await self._tab.evaluate("() => { delete sessionStorage.reached; }")
        return Reached(key, reached["first"], reached["ms"])

    async def _wait(self, condition: str) -> None:
        # Playwright's own waiting evaluates strings, which the Content-Security-Policy of the pages forbids.
        async with asyncio.timeout(MAX_SECONDS):
            while True:
                with contextlib.suppress(Exception):  # the document may be unloading
                    if await self._tab.evaluate(condition):
                        return
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def chromium(address: str) -> AsyncIterator[Callable[[], Any] | None]:
    """Yield a function that opens a reader in Chromium, or None if Playwright or Chromium is not installed."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    try:
        from playwright.async_api import async_playwright
    except ImportError:
        yield None
        return
    if executable is None:
        yield None
        return
    sandbox = ["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=["--disable-gpu", *sandbox])

        async def reader() -> ChromiumReader:
            tab = await (await browser.new_context()).new_page()
            await tab.add_init_script(_CLOCK)
            return ChromiumReader(address, tab)

        try:
            yield reader
        finally:
            await browser.close()


@contextlib.asynccontextmanager
async def over_http(address: str) -> AsyncIterator[Callable[[], Any]]:
    """Yield a function that opens a reader without a browser."""
    async with contextlib.AsyncExitStack() as stack:

        async def reader() -> PlainReader:
            live = await stack.enter_async_context(connect(f"ws://{address}/_unwritten/live", max_size=None))
            return PlainReader(address, live)

        yield reader
