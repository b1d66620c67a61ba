"""The live socket: one WebSocket for each browser tab, which receives the frames of all pages that the tab shows.

Messages are JSON objects with a ``type`` and the key of a ``page``. From the browser:

* ``watch``, ``leave``, ``stop``: follow the generation of a page, stop following it, cancel it.
* ``follow``, ``unfollow``: follow a page's state regions and its next versions, stop following them. ``version`` is the
  version that the tab shows, if the page is generated again when it is old.
* ``view``, ``hide``: the tab shows this page and these of its links, or does not show it any more.

To the browser:

* ``frame``: the complete inner HTML of a region.
* ``restart``: the next frames of some regions have lower numbers than before, and are newer all the same.
* ``page``: a page has a new state.
* ``written``: pages behind links of a page that the tab shows are ready.
* ``refused``: the browser's message was not valid.
* ``refresh``: templates or static files have changed.

A visitor receives only what a GET of the page would show; see ``routing.access``. That is checked when a page is
watched, followed or shown, when a new job of it starts, and once a minute.

Nothing is queued. When the socket is free, the latest frame of every changed region is sent, so a slow browser skips
frames and never falls behind. Following a page starts no work: only a GET request or an action does, and pages
behind links in view may be prefetched.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from ..core.background_tasks import BackgroundTasks
from ..core.errors import StoreError
from ..core.incidents import report_to_visitor
from ..core.localization import gettext_lazy as _
from ..core.localization import ngettext_lazy as _n
from ..core.localization import unpack_text
from ..core.paths import page_key
from ..core.tracebacks import log_error
from ..formats.page import Page
from ..generation.page_job import PageJob, Subscriber
from ..generation.prefetcher import Viewer
from ..security.client_address import client_id
from ..security.headers import is_cross_origin, saves_data
from ..security.rate_limits import SlidingWindow
from .live_updates import PageSubscription
from .messages import encode, page_message, refused_message, restart_message, settled_message
from .site import Site
from .transport import abort

log = logging.getLogger("unwritten")

MAX_MESSAGE_LENGTH = 8192
"""Maximum length of a message from a browser."""

MAX_PAGES = 32
"""Maximum number of pages that one tab may follow at the same time."""

MAX_LINKS = 32
"""Maximum number of links in view that a tab may report."""

MAX_MESSAGE_RATE = 40
"""Maximum number of messages from a browser in one second."""

MAX_INVALID_MESSAGES = 5
"""Number of invalid messages after which the socket is closed."""

MAX_FRAME_RATE = 25.0
"""Maximum number of batches of frames that are sent to one browser in one second."""

SEND_TIMEOUT = 30.0
"""Seconds after which a browser that does not receive is disconnected."""

CLOSE_TIMEOUT = 1.0
"""Seconds after which a browser that does not receive is disconnected when its socket is closed."""

RECHECK_SECONDS = 60.0
"""Seconds after which the right to read what a tab shows is checked again, because sessions expire."""

_POLICY_VIOLATION, _INTERNAL_ERROR, _SERVICE_RESTART, _TRY_AGAIN_LATER = 1008, 1011, 1012, 1013

_RESTARTING = _("The server is restarting. This page continues in a moment.")

_SHARED = _("Other visitors are reading this page, so it is not stopped.")
_NOT_STARTER = _("Only the visitor who has opened this page first can stop it.")


@dataclass
class _JobSubscription:
    """A job that a tab follows, and what the tab has received of it.

    Attributes:
        job: The job.
        seen: The number of the last frame of each region.
        page: What the page function returned for the tab's visitor. None: it is the same for all visitors.
        num_updates: The job's ``num_updates`` at the last sending.
        status: The page's state and message at the last sending.
    """

    job: PageJob
    seen: dict[str, int]
    page: Page | None = None
    num_updates: int = -1
    status: tuple[str, str] = ("", "")


class _InvalidMessage(Exception):
    """A message from the browser that is not valid. The text says why."""


class LiveSocket:
    """The socket of one tab.

    Attributes:
        client_id: The client, whose open sockets are counted.
    """

    def __init__(self, site: Site, websocket: WebSocket) -> None:
        self.client_id = client_id(websocket.scope)
        self._site = site
        self._websocket = websocket
        self._interval = 1.0 / MAX_FRAME_RATE
        self._subscriber = Subscriber()
        self._jobs: dict[str, _JobSubscription] = {}
        self._pages: dict[str, tuple[PageSubscription, dict[str, int]]] = {}
        self._outbox: list[dict[str, Any]] = []
        self._tasks = BackgroundTasks()
        self._is_rechecking = False
        self._viewed = ""
        self._reconnects = False
        self._handlers: dict[str, Callable[[str, Mapping[str, Any]], Awaitable[None]]] = {
            "watch": self._watch,
            "leave": self._leave,
            "stop": self._stop,
            "view": self._view,
            "hide": self._hide,
            "follow": self._follow,
            "unfollow": self._unfollow,
        }
        self._viewer = self._new_viewer()
        self._lifetime = asyncio.timeout(None)
        self._following: dict[str, asyncio.Task[None]] = {}  # pages of other processes that are being looked up

    async def run(self) -> None:
        """Serve the socket until it closes."""
        if is_cross_origin(self._websocket.headers):
            await self._websocket.close(_POLICY_VIOLATION)  # before accept: the browser sees 403
            return
        await self._websocket.accept()
        limit = self._site.budgets.limit("visitor_sockets", self._websocket.scope)
        if not await self._site.sockets.admit(self, limit):
            self._site.metrics.refused["sockets"] += 1
            await self._close(_POLICY_VIOLATION, "too many sockets")  # the browser works without one
            return
        sender = asyncio.create_task(self._send(), name="live sender")
        try:
            async with self._lifetime:
                await self._receive()
        except (WebSocketDisconnect, TimeoutError):
            pass
        except RuntimeError as error:
            await self._close_after(error)
        finally:
            # Without an await: if this task is being cancelled, nothing after an await may run.
            self._site.sockets.remove(self)
            self._tasks.cancel()
            for key in [*self._jobs, *self._following]:
                self._drop_job(key)
            for key in list(self._pages):
                self._drop_page(key)
            if self._viewer is not None and self._site.prefetcher is not None:
                self._site.prefetcher.on_close(self._viewer)
            sender.cancel()
            # The server closes the connection when everything is sent, which a browser that does not receive prevents.
            asyncio.get_running_loop().call_later(SEND_TIMEOUT, abort, self._websocket.scope)
            # Not with gather(), which would hide from anyio's cancel scopes that it was them who cancelled this task.
            await asyncio.wait({sender})

    def send_soon(self, message: Mapping[str, Any]) -> None:
        """Send a message that belongs to no job. Call it in the app's event loop."""
        self._outbox.append(dict(message))
        self._subscriber.changed.set()

    # -- from the browser ---------------------------------------------------------------------------------

    async def _receive(self) -> None:
        messages, invalid = SlidingWindow(1.0), 0
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            now = time.monotonic()
            messages.add(now)
            if messages.total(now) > MAX_MESSAGE_RATE:
                await self._close(_POLICY_VIOLATION, "too many messages")
                return
            try:
                await self._dispatch(message.get("text"))
            except _InvalidMessage as error:
                invalid += 1
                self._outbox.append(refused_message(str(error)))
            except StoreError as error:
                self._outbox.append(refused_message(report_to_visitor(log, "A live socket", error)))
            self._subscriber.changed.set()
            if invalid > MAX_INVALID_MESSAGES:
                await asyncio.sleep(self._interval)  # so that the last reply is sent first
                await self._close(_POLICY_VIOLATION, "invalid messages")
                return

    async def _dispatch(self, text: str | None) -> None:
        if text is None or len(text) > MAX_MESSAGE_LENGTH:
            raise _InvalidMessage(f"A message is a JSON text of up to {MAX_MESSAGE_LENGTH} characters.")
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            raise _InvalidMessage("The message is not valid JSON.") from None
        if not isinstance(message, dict) or not isinstance(message.get("page"), str):
            raise _InvalidMessage('A message is an object such as {"type": "watch", "page": "/wiki/Lighthouse"}.')
        kind, key = message.get("type"), page_key(message["page"])
        if key is None:
            raise _InvalidMessage("A page is given by its key, such as /wiki/Lighthouse.")
        handler = self._handlers.get(kind) if isinstance(kind, str) else None
        if handler is None:
            *others, last = self._handlers
            raise _InvalidMessage(f"The type of a message is {', '.join(others)} or {last}.")
        await handler(key, message)

    async def _watch(self, key: str, message: Mapping[str, Any]) -> None:
        if self._site.jobs.is_elsewhere(key):
            self._drop_job(key)
            self._following[key] = asyncio.create_task(self._watch_elsewhere(key, message), name=f"following {key}")
        else:
            await self._watch_here(key, message)

    async def _watch_elsewhere(self, key: str, message: Mapping[str, Any]) -> None:
        """Watch a page that another process generates. Its page function is called, as for a request."""
        try:
            page_request = await self._site.access.find(key, self._websocket.scope)
            if page_request is not None:
                await self._site.starter.follow(page_request)
            await self._watch_here(key, message)
        except _InvalidMessage as error:
            self._outbox.append(refused_message(str(error)))
        except Exception as error:
            text = report_to_visitor(log, f"A tab that follows {key}", error)
            self._outbox.append(refused_message(text))
        finally:
            if self._following.get(key) is asyncio.current_task():  # and not a later one
                del self._following[key]
            self._subscriber.changed.set()

    async def _watch_here(self, key: str, message: Mapping[str, Any]) -> None:
        seen = _seen_numbers(message)
        is_readable, page = await self._check(key)
        if not is_readable:
            self._drop_job(key)
            self._outbox.append(settled_message(key, "unwritten"))
            return
        job = self._site.jobs.recent(key)
        if job is None:
            outcome = self._site.broker.outcome(key)
            if self._site.store.exists([key]):
                self._outbox.append(settled_message(key, "written"))
            elif outcome is not None and outcome["state"] in {"failed", "stopped"}:
                text = self._site.renderer.language(page.lang if page else "").text(unpack_text(outcome["message"]))
                self._outbox.append(settled_message(key, outcome["state"], text))
            else:
                self._outbox.append(settled_message(key, "unwritten"))
            return
        if key not in self._jobs and len(self._jobs) >= MAX_PAGES:
            raise _InvalidMessage(f"One tab may watch up to {MAX_PAGES} pages at the same time.")
        self._drop_job(key)
        # Higher frame numbers than the job's are those of another job, or its owner has not published them yet.
        if not job.follows and any(seen.get(name, 0) > region_job.number for name, region_job in job.regions.items()):
            seen = {}
            self._outbox.append(restart_message(key, job.regions))
        self._site.jobs.promote(job)
        job.subscribe(self._subscriber)
        self._jobs[key] = _JobSubscription(job, seen, page)

    async def _leave(self, key: str, message: Mapping[str, Any]) -> None:
        self._drop_job(key)

    def _drop_job(self, key: str) -> None:
        following = self._following.pop(key, None)
        if following is not None and following is not asyncio.current_task():
            following.cancel()
        subscription = self._jobs.pop(key, None)
        if subscription:
            self._site.jobs.unsubscribe(subscription.job, self._subscriber)

    async def _stop(self, key: str, message: Mapping[str, Any]) -> None:
        subscription = self._jobs.get(key)
        if subscription is None:
            raise _InvalidMessage("Only a page that is watched can be stopped.")
        job = subscription.job
        if job.num_subscribers > 1:
            self._outbox.append(page_message(self._site.renderer, job, _SHARED))
        elif not self._may_stop(job):
            self._outbox.append(page_message(self._site.renderer, job, _NOT_STARTER))
        else:
            self._site.jobs.stop(job)

    def _may_stop(self, job: PageJob) -> bool:
        """True if this tab's visitor has started a job, or owns the app."""
        visitor = self._site.visitor_cookie.read(self._websocket)
        return bool(visitor and visitor == job.visitor) or self._site.exposure.owner.owns(self._websocket.scope)

    def _new_viewer(self) -> Viewer | None:
        """Return the viewer for the prefetcher, or None if nothing should be prefetched for this tab."""
        if self._site.prefetcher is None or saves_data(self._websocket.headers):
            return None
        return Viewer(self._websocket.scope, self.send_soon)

    async def _view(self, key: str, message: Mapping[str, Any]) -> None:
        links, hover, press = (message.get(name) for name in ("links", "hover", "press"))
        if not isinstance(links, list) or len(links) > MAX_LINKS or not all(isinstance(link, str) for link in links):
            raise _InvalidMessage(f"The links in view are a list of up to {MAX_LINKS} keys.")
        if not all(link is None or isinstance(link, str) for link in (hover, press)):
            raise _InvalidMessage("The link that is hovered or pressed is a key or null.")
        if self._viewer is not None and self._site.prefetcher is not None:
            if key != self._viewed and not (await self._check(key))[0]:
                return
            self._viewed = key
            self._site.prefetcher.on_view(self._viewer, key, links, str(hover or ""), str(press or ""))

    async def _hide(self, key: str, message: Mapping[str, Any]) -> None:
        self._drop_view(key)

    def _drop_view(self, key: str) -> None:
        if key == self._viewed:
            self._viewed = ""
        if self._viewer is not None and self._site.prefetcher is not None:
            self._site.prefetcher.on_hide(self._viewer, key)

    async def _follow(self, key: str, message: Mapping[str, Any]) -> None:
        if key not in self._pages and len(self._pages) >= MAX_PAGES:
            raise _InvalidMessage(f"One tab may follow up to {MAX_PAGES} pages at the same time.")
        self._drop_page(key)
        if not (await self._check(key))[0]:
            self._deny(key)
            return
        subscription = PageSubscription(
            self._subscriber, self._on_job, functools.partial(self._deny, key), self._websocket.scope
        )
        self._pages[key] = subscription, _seen_numbers(message)
        self._site.updates.subscribe(key, subscription)
        version = message.get("version")
        if isinstance(version, int) and version > 0:
            self._site.updates.show_newer(key, version)

    async def _unfollow(self, key: str, message: Mapping[str, Any]) -> None:
        self._drop_page(key)

    def _drop_page(self, key: str) -> None:
        page = self._pages.pop(key, None)
        if page:
            self._site.updates.unsubscribe(key, page[0])

    def _on_job(self, job: PageJob) -> None:
        """Follow a new job of a page that the tab shows, if its visitor may still read the page."""
        seen = {name: region_job.number for name, region_job in job.regions.items()}  # the tab has these frames
        if self._site.access.is_open(job.key):
            self._follow_job(job, seen, None)
            return

        async def follow_if_readable() -> None:
            is_readable, page = await self._check(job.key)
            if not is_readable:
                self._deny(job.key)
            elif job.key in self._pages:
                self._follow_job(job, seen, page)
                self._subscriber.changed.set()  # it may have changed, or ended, during the check

        self._tasks.start(follow_if_readable(), f"checking access to {job.key}")

    def _follow_job(self, job: PageJob, seen: dict[str, int], page: Page | None) -> None:
        self._drop_job(job.key)
        job.subscribe(self._subscriber)
        self._jobs[job.key] = _JobSubscription(job, seen, page)

    # -- access -------------------------------------------------------------------------------------------

    async def _check(self, key: str) -> tuple[bool, Page | None]:
        """Return whether the tab's visitor may read a page, and what the page function returned for that visitor.

        The page is None if it is the same for all visitors.
        """
        access = self._site.access
        if access.is_open(key):
            return True, None
        page_request = await access.find(key, self._websocket.scope)
        if page_request is None:
            return False, None
        if not self._is_rechecking:
            self._is_rechecking = True
            self._tasks.start(self._recheck(), "rechecking access")
        return True, page_request.page

    async def _recheck(self) -> None:
        """Check again and again whether the visitor may still read what the tab shows."""
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            for key in {*self._jobs, *self._pages, self._viewed} - {""}:
                if await self._site.access.is_refused(key, self._websocket.scope):
                    self._deny(key)

    def _deny(self, key: str) -> None:
        """Stop sending a page that the visitor may not read. The browser loads it again, and sees why."""
        self._drop_job(key)
        self._drop_page(key)
        self._drop_view(key)
        self.send_soon(settled_message(key, "unwritten"))

    # -- to the browser -----------------------------------------------------------------------------------

    async def _send(self) -> None:
        turns = self._site.sockets.turns
        try:
            while True:
                await self._subscriber.changed.wait()
                await turns.take()
                self._subscriber.changed.clear()
                for number, text in enumerate(self._pending_messages()):
                    if number:
                        await turns.take()
                    async with asyncio.timeout(SEND_TIMEOUT):
                        await self._websocket.send_text(text)
                if self._reconnects:
                    await self._websocket.close(_SERVICE_RESTART, "the server is restarting")
                    return
                await asyncio.sleep(self._interval)
        except WebSocketDisconnect:
            return  # the tab is gone, which the receiving side notices too
        except TimeoutError:
            self._site.metrics.closed_connections["send"] += 1
            await self._close(_TRY_AGAIN_LATER, "the browser does not receive")
        except Exception as error:  # nothing awaits this task
            await self._close_after(error)

    async def _close_after(self, error: Exception) -> None:
        """Log an error and close the socket, unless it is closed already: the server raises ``RuntimeError`` then."""
        states = self._websocket.client_state, self._websocket.application_state
        if states == (WebSocketState.CONNECTED, WebSocketState.CONNECTED):
            log_error(log, "A live socket failed", error)
            await self._close(_INTERNAL_ERROR, "internal error")

    async def _close(self, code: int, reason: str) -> None:
        """Close the socket. If the browser does not receive the reason, cut the connection off."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._websocket.close(code, reason)
        except TimeoutError:
            if not abort(self._websocket.scope):
                self._lifetime.reschedule(asyncio.get_running_loop().time())  # the server learns that the app is done
        except (WebSocketDisconnect, RuntimeError):
            pass  # it is closed already

    def _pending_messages(self) -> list[str]:
        """Return everything that the tab has not received yet, as JSON."""
        messages = [encode(message) for message in self._outbox]
        self._outbox.clear()
        for key, (followed, seen) in self._pages.items():  # before the frames of canvases inside them
            for name, (number, text) in followed.regions.items():
                shown = seen.get(name, 0)
                if number < shown:  # a number of another server, or of a clock that was ahead
                    messages.append(encode(restart_message(key, [name])))
                if number != shown:
                    seen[name] = number
                    messages.append(text)
        for key, subscription in list(self._jobs.items()):
            job = subscription.job
            if subscription.num_updates == job.num_updates:
                continue
            subscription.num_updates = job.num_updates
            if job.cancel_reason == "shutdown" and job.state == "stopped":
                # For the browser the page is still unfinished, so that it connects again and follows the next server.
                messages.append(encode({**page_message(self._site.renderer, job, _RESTARTING), "state": "queued"}))
                self._reconnects = True
                self._drop_job(key)
                continue
            followed_page = self._pages[key][0].page if key in self._pages else None
            page = followed_page or subscription.page  # the former is the newer one
            for name, region_job in job.regions.items():
                if region_job.number > subscription.seen.get(name, 0):
                    messages.append(self._site.job_renderer.frame_message(job, name, page))
                    subscription.seen[name] = region_job.number
            status = (job.state, self._queue_text(job) or self._message(job))
            if status != subscription.status:
                subscription.status = status
                messages.append(encode(page_message(self._site.renderer, job, status[1])))
            # Not as soon as the page is stored: hooks run before the job leaves the queue.
            if self._site.jobs.get(key) is not job:
                self._drop_job(key)
        return messages

    def _message(self, job: PageJob) -> str:
        """Return a job's message. Only the owner sees the text of an error."""
        if job.detail and self._site.exposure.owner.owns(self._websocket.scope):
            return job.detail
        return job.message

    def _queue_text(self, job: PageJob) -> str:
        """Return a sentence about the job's place in the queue, or "" if it does not wait."""
        if job.state != "queued":
            return ""
        position = self._site.jobs.position(job)
        if position == 0:
            return _("This page is next to be written.")
        return _n("%(num)s page is written before this one.", "%(num)s pages are written before this one.", position)


def _seen_numbers(message: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of the frame that the browser shows, for each region."""
    seen = message.get("seen")
    pairs = seen.items() if isinstance(seen, dict) else ()
    return {str(name): number for name, number in pairs if isinstance(number, int)}
