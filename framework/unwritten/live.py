"""Live: one WebSocket for each browser tab, on which frames of all its pages arrive.

Messages are JSON texts. From the browser: ``watch``, ``leave`` and ``stop``, each with a page's key. To the
browser: ``frame`` (the inner HTML of a region, whole), ``page`` (a page has come to another state), and
``refused`` (a message that made no sense). Nothing is queued: when the socket is free, the latest frame of
every region that has changed is sent, so a slow browser skips frames and never falls behind. Watching never
starts any work; only a GET does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from .errors import StoreError
from .generations import Generation, Watcher
from .messages import encoded, frame_text, page_message, refused_message, settled_message
from .security import same_origin

if TYPE_CHECKING:
    from .serving import Serving

log = logging.getLogger("unwritten")

MAX_MESSAGE = 8192
"""Characters in a message from a browser."""
MAX_PAGES = 32
"""Pages that one tab may watch at the same time."""
MAX_RATE = 40
"""Messages from a browser in one second."""
SEND_LIMIT = 30.0
"""Seconds until a browser that takes nothing is given up."""

_POLICY_VIOLATION, _INTERNAL_ERROR, _TRY_AGAIN_LATER = 1008, 1011, 1013
_OTHERS = "Others are reading this page, so it is written on."


@dataclass
class _Watched:
    """A page that a tab watches, and what it has been sent: the number of the last frame of each region."""

    generation: Generation
    seen: dict[str, int]
    change: int = -1
    told: tuple[str, str] = field(default=("", ""))


class _Refused(Exception):
    """A message that makes no sense; the text says why."""


class Live:
    """The socket of one tab.

    Args:
        serving: the app's pages.
        frame_rate: frames per second at most.
    """

    def __init__(self, serving: Serving, websocket: WebSocket, frame_rate: float) -> None:
        self._serving = serving
        self._socket = websocket
        self._interval = 1.0 / frame_rate
        self._watcher = Watcher()
        self._watched: dict[str, _Watched] = {}
        self._answers: list[dict[str, Any]] = []

    async def run(self) -> None:
        """Serve the socket until it closes."""
        headers = self._socket.headers
        if not same_origin(headers.get("origin"), headers.get("host")):
            await self._socket.close(_POLICY_VIOLATION)  # before accept: the browser sees 403
            return
        await self._socket.accept()
        sender = asyncio.create_task(self._send(), name="live sender")
        try:
            await self._receive()
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            # Leaving comes first: if this task is being cancelled, nothing after an await may ever run.
            for key in list(self._watched):
                self._leave(key)
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    # -- from the browser ---------------------------------------------------------------------------------

    async def _receive(self) -> None:
        window, count, strikes = time.monotonic(), 0, 0
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            now = time.monotonic()
            if now - window > 1:
                window, count = now, 0
            count += 1
            if count > MAX_RATE:
                await self._socket.close(_POLICY_VIOLATION, "too many messages")
                return
            try:
                self._take(message.get("text"))
            except _Refused as refusal:
                strikes += 1
                self._answers.append(refused_message(str(refusal)))
            except StoreError as error:
                self._answers.append(refused_message(str(error)))
            self._watcher.changed.set()
            if strikes > 5:
                await asyncio.sleep(self._interval)  # the last answer goes out first
                await self._socket.close(_POLICY_VIOLATION, "messages that make no sense")
                return

    def _take(self, text: str | None) -> None:
        if text is None or len(text) > MAX_MESSAGE:
            raise _Refused(f"A message is a JSON text of up to {MAX_MESSAGE} characters.")
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            raise _Refused("A message is a JSON text, and this is none.") from None
        if not isinstance(message, dict) or not isinstance(message.get("page"), str):
            raise _Refused('A message is an object such as {"type": "watch", "page": "/wiki/Lighthouse"}.')
        kind, key = message.get("type"), message["page"]
        if not key.startswith("/") or not key.isascii():
            raise _Refused("A page is named by its key, such as /wiki/Lighthouse.")
        if kind == "watch":
            self._watch(key, message.get("seen"))
        elif kind == "leave":
            self._leave(key)
        elif kind == "stop":
            self._stop(key)
        else:
            raise _Refused("The type of a message is watch, leave or stop.")

    def _watch(self, key: str, seen: object) -> None:
        numbers = {
            str(name): number
            for name, number in (seen.items() if isinstance(seen, dict) else ())
            if isinstance(number, int)
        }
        generation = self._serving.generations.recent(key)
        if generation is None:
            written = bool(self._serving.store.exists([key]))
            self._answers.append(settled_message(key, "written" if written else "unwritten"))
            return
        if key not in self._watched and len(self._watched) >= MAX_PAGES:
            raise _Refused(f"One tab may watch up to {MAX_PAGES} pages at the same time.")
        self._leave(key)
        # Frame numbers are those of one generation: a browser that brings higher ones has seen another one.
        if any(numbers.get(name, 0) > writing.number for name, writing in generation.writings.items()):
            numbers = {}
        generation.attach(self._watcher)
        self._watched[key] = _Watched(generation, numbers)

    def _leave(self, key: str) -> None:
        watched = self._watched.pop(key, None)
        if watched:
            self._serving.generations.detach(watched.generation, self._watcher)

    def _stop(self, key: str) -> None:
        watched = self._watched.get(key)
        if watched is None:
            raise _Refused("Only a page that is watched can be stopped.")
        if watched.generation.watchers > 1:
            # One visitor must not take a page from the others.
            self._answers.append(self._page_message(watched.generation, _OTHERS))
        else:
            self._serving.generations.stop(watched.generation)

    # -- to the browser -----------------------------------------------------------------------------------

    async def _send(self) -> None:
        try:
            while True:
                await self._watcher.changed.wait()
                self._watcher.changed.clear()
                for text in self._news():
                    async with asyncio.timeout(SEND_LIMIT):
                        await self._socket.send_text(text)
                await asyncio.sleep(self._interval)
        except (WebSocketDisconnect, RuntimeError):
            return  # the tab is gone: the receiving side notices too
        except TimeoutError:
            await self._socket.close(_TRY_AGAIN_LATER, "the browser takes nothing")
        except Exception:
            # Nobody waits for this task: an exception would vanish, and the browser wait for ever.
            log.exception("The socket of a tab broke off")
            await self._socket.close(_INTERNAL_ERROR, "something went wrong inside")

    def _news(self) -> list[str]:
        texts = [encoded(answer) for answer in self._answers]
        self._answers.clear()
        for key, watched in list(self._watched.items()):
            generation = watched.generation
            if watched.change == generation.change:
                continue
            watched.change = generation.change
            for name, writing in generation.writings.items():
                if writing.number > watched.seen.get(name, 0):
                    texts.append(frame_text(generation, name))
                    watched.seen[name] = writing.number
            told = (generation.state, self._place(generation) or generation.message)
            if told != watched.told:
                watched.told = told
                texts.append(encoded(self._page_message(generation, told[1])))
            if generation.kept is not None or generation.state in {"failed", "stopped"}:
                self._leave(key)
        return texts

    def _page_message(self, generation: Generation, message: str) -> dict[str, Any]:
        return page_message(self._serving.views, generation, message)

    def _place(self, generation: Generation) -> str:
        """How long a page will wait, in words; "" if it does not."""
        if generation.state != "queued":
            return ""
        ahead = self._serving.generations.ahead(generation)
        if ahead == 0:
            return "This page is next to be written."
        return f"{ahead} pages are written before this one." if ahead > 1 else "One page is written before this one."
