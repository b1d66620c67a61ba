"""Live: one WebSocket for each browser tab, on which frames of all its pages arrive.

Messages are JSON texts. From the browser: ``watch``, ``leave`` and ``stop`` for a page that is being written, ``look``
and ``gone`` for one whose state is shown, each with the page's key; ``near`` (the tab shows this page, and these of its
links) and ``away`` (it does not any more). To the browser: ``frame`` (the inner HTML of a region, whole), ``page`` (a
page has come to another state), ``written`` (pages behind links of a page that is near), and ``refused`` (a message
that made no sense). Nothing is queued: when the socket is free, the latest frame of every region that has changed is
sent, so a slow browser skips frames and never falls behind. Watching never starts any work; only a GET or an action
does, and what is near may be written ahead.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from ..core.errors import StoreError
from ..generation.page_job import PageJob, Subscriber
from ..generation.prefetcher import Viewer
from ..security.client_address import client_id
from ..security.headers import is_same_origin, saves_data
from .live_pages import encode
from .live_updates import PageSubscription
from .messages import page_message, refused_message, settled_message
from .site import Site

log = logging.getLogger("unwritten")


MAX_MESSAGE = 8192
"""Characters in a message from a browser."""


MAX_PAGES = 32
"""Pages that one tab may watch at the same time."""


MAX_LINKS = 32
"""Links that a tab may name as near."""


MAX_RATE = 40
"""Messages from a browser in one second."""


SEND_LIMIT = 30.0
"""Seconds until a browser that takes nothing is given up."""


_POLICY_VIOLATION, _INTERNAL_ERROR, _TRY_AGAIN_LATER = 1008, 1011, 1013


_OTHERS = "Others are reading this page, so it is written on."


@dataclass
class _Subscription:
    """A page that a tab watches, and what it has been sent: the number of the last frame of each region."""

    job: PageJob
    seen: dict[str, int]
    change: int = -1
    told: tuple[str, str] = field(default=("", ""))


class _Refused(Exception):
    """A message that makes no sense; the text says why."""


class LiveSocket:
    """The socket of one tab.

    Args:
        site: The app's components.
        websocket: The connection.
    """

    def __init__(self, site: Site, websocket: WebSocket) -> None:
        self._site = site
        self._updates = site.updates
        self._socket = websocket
        self.visitor = client_id(websocket.scope)
        self._most = site.budgets.limit("visitor_sockets")
        self._interval = 1.0 / site.settings.frame_rate
        self._subscriber = Subscriber()
        self._watched: dict[str, _Subscription] = {}
        self._looks: dict[str, tuple[PageSubscription, dict[str, int]]] = {}
        self._answers: list[dict[str, Any]] = []
        self._kinds: dict[str, Callable[[str, Mapping[str, Any]], None]] = {
            "watch": self._watch,
            "leave": self._leave,
            "stop": self._stop,
            "near": self._near,
            "away": self._away,
            "look": self._look,
            "gone": self._gone,
        }
        self._viewer = self._new_viewer(websocket)

    async def run(self) -> None:
        """Serve the socket until it closes."""
        headers = self._socket.headers
        if not is_same_origin(headers.get("origin"), headers.get("host")):
            await self._socket.close(_POLICY_VIOLATION)  # before accept: the browser sees 403
            return
        await self._socket.accept()
        if self._most and self._site.sockets.by_visitor[self.visitor] >= self._most:
            self._site.metrics.refused["sockets"] += 1
            await self._socket.close(_POLICY_VIOLATION, "too many sockets")  # the browser goes on without one
            return
        self._site.sockets.add(self)
        sender = asyncio.create_task(self._send(), name="live sender")
        try:
            await self._receive()
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            # Leaving comes first: if this task is being cancelled, nothing after an await may ever run.
            self._site.sockets.remove(self)
            for key in list(self._watched):
                self._leave(key)
            if self._viewer is not None and self._site.prefetcher is not None:
                self._site.prefetcher.on_close(self._viewer)
            for key in list(self._looks):
                self._gone(key)
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    def say(self, message: dict[str, Any]) -> None:
        """Send a message that belongs to no page. In the app's event loop."""
        self._answers.append(message)
        self._subscriber.changed.set()

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
            self._subscriber.changed.set()
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
        take = self._kinds.get(kind) if isinstance(kind, str) else None
        if take is None:
            *most, last = self._kinds
            raise _Refused(f"The type of a message is {', '.join(most)} or {last}.")
        take(key, message)

    def _watch(self, key: str, message: Mapping[str, Any]) -> None:
        numbers = _numbers(message)
        job = self._site.jobs.recent(key)
        if job is None:
            written = bool(self._site.store.exists([key]))
            self._answers.append(settled_message(key, "written" if written else "unwritten"))
            return
        if key not in self._watched and len(self._watched) >= MAX_PAGES:
            raise _Refused(f"One tab may watch up to {MAX_PAGES} pages at the same time.")
        self._leave(key)
        # Frame numbers are those of one generation: a browser that brings higher ones has seen another one.
        if any(numbers.get(name, 0) > region_job.number for name, region_job in job.regions.items()):
            numbers = {}
        self._site.jobs.promote(job)  # somebody looks: it is not ahead of anybody any more
        job.subscribe(self._subscriber)
        self._watched[key] = _Subscription(job, numbers)

    def _leave(self, key: str, message: Mapping[str, Any] = MappingProxyType({})) -> None:
        watched = self._watched.pop(key, None)
        if watched:
            self._site.jobs.detach(watched.job, self._subscriber)

    def _stop(self, key: str, message: Mapping[str, Any]) -> None:
        watched = self._watched.get(key)
        if watched is None:
            raise _Refused("Only a page that is watched can be stopped.")
        if watched.job.subscribers > 1:
            # One visitor must not take a page from the others.
            self._answers.append(self._page_message(watched.job, _OTHERS))
        else:
            self._site.jobs.stop(watched.job)

    def _new_viewer(self, websocket: WebSocket) -> Viewer | None:
        """Who reads in this tab; None if nothing is to be written ahead for them."""
        if self._site.prefetcher is None or saves_data(websocket.headers):
            return None

        def tell(message: Mapping[str, Any]) -> None:
            self._answers.append(dict(message))
            self._subscriber.changed.set()

        return Viewer(websocket.scope, tell)

    def _near(self, key: str, message: Mapping[str, Any]) -> None:
        links, hover, press = (message.get(name) for name in ("links", "hover", "press"))
        if not isinstance(links, list) or len(links) > MAX_LINKS or not all(isinstance(link, str) for link in links):
            raise _Refused(f"The links that are near are a list of up to {MAX_LINKS} keys.")
        if not all(link is None or isinstance(link, str) for link in (hover, press)):
            raise _Refused("The link that is hovered or pressed is a key, or null.")
        if self._viewer is not None and self._site.prefetcher is not None:
            self._site.prefetcher.on_view(self._viewer, key, links, str(hover or ""), str(press or ""))

    def _away(self, key: str, message: Mapping[str, Any]) -> None:
        if self._viewer is not None and self._site.prefetcher is not None:
            self._site.prefetcher.on_hide(self._viewer, key)

    def _look(self, key: str, message: Mapping[str, Any]) -> None:
        if key not in self._looks and len(self._looks) >= MAX_PAGES:
            raise _Refused(f"One tab may look at up to {MAX_PAGES} pages at the same time.")
        self._gone(key)
        subscription = PageSubscription(self._subscriber, self._follow, self._socket.scope)
        self._looks[key] = subscription, _numbers(message)
        self._updates.join(key, subscription)

    def _gone(self, key: str, message: Mapping[str, Any] = MappingProxyType({})) -> None:
        look = self._looks.pop(key, None)
        if look:
            self._updates.leave(key, look[0])

    def _follow(self, job: PageJob) -> None:
        """A page that is looked at is being written again. What is there of it already is shown already."""
        self._leave(job.key)
        job.subscribe(self._subscriber)
        seen = {name: region_job.number for name, region_job in job.regions.items()}
        self._watched[job.key] = _Subscription(job, seen)

    # -- to the browser -----------------------------------------------------------------------------------

    async def _send(self) -> None:
        try:
            while True:
                await self._subscriber.changed.wait()
                self._subscriber.changed.clear()
                for text in self._pending_messages():
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

    def _pending_messages(self) -> list[str]:
        texts = [encode(answer) for answer in self._answers]
        self._answers.clear()
        for key, (_, seen) in self._looks.items():  # before the frames of canvases that stand in them
            for name, (number, text) in self._updates.scene(key).items():
                if number > seen.get(name, 0):
                    seen[name] = number
                    texts.append(text)
        for key, watched in list(self._watched.items()):
            job = watched.job
            if watched.change == job.change:
                continue
            watched.change = job.change
            for name, region_job in job.regions.items():
                if region_job.number > watched.seen.get(name, 0):
                    texts.append(self._site.live_pages.frame_message(job, name))
                    watched.seen[name] = region_job.number
            told = (job.state, self._place(job) or job.message)
            if told != watched.told:
                watched.told = told
                texts.append(encode(self._page_message(job, told[1])))
            # Not as soon as it is kept: what follows on that comes before its last word.
            if self._site.jobs.get(key) is not job:
                self._leave(key)
        return texts

    def _page_message(self, job: PageJob, message: str) -> dict[str, Any]:
        return page_message(self._site.renderer, job, message)

    def _place(self, job: PageJob) -> str:
        """How long a page will wait, in words; "" if it does not."""
        if job.state != "queued":
            return ""
        ahead = self._site.jobs.ahead(job)
        if ahead == 0:
            return "This page is next to be written."
        return f"{ahead} pages are written before this one." if ahead > 1 else "One page is written before this one."


def _numbers(message: Mapping[str, Any]) -> dict[str, int]:
    """What the browser has seen: of each region the number of the frame that it shows."""
    seen = message.get("seen")
    pairs = seen.items() if isinstance(seen, dict) else ()
    return {str(name): number for name, number in pairs if isinstance(number, int)}
