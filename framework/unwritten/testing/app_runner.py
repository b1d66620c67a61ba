"""Run an app for tests: start it, run it in an event loop of its own, and stop it."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import threading
import weakref
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from starlette.types import ASGIApp

from unwritten_engine import Engine

from ..app.application import App
from ..app.router import Router
from ..core.errors import BadApp, UnwrittenError
from ..generation.page_job import PageJob, Subscriber
from .asgi_client import running
from .html_tree import parse_html
from .scripted_engine import ScriptedText, answers

T = TypeVar("T")

_RUNNERS: weakref.WeakValueDictionary[int, AppRunner] = weakref.WeakValueDictionary()
"""The runners by the identity of their app. An app has one at a time."""

_ROUTER_APPS: weakref.WeakKeyDictionary[Router, App] = weakref.WeakKeyDictionary()
"""The apps in which routers are tested alone."""


class AppRunner:
    """Runs an app in an event loop of its own, which only runs during a visit.

    It holds no reference to its visitors, so that it stops when they are garbage-collected.

    Args:
        asgi: The app, an ASGI app that contains it, such as a Starlette app with a ``Mount``, or a router.
        engine: See ``Visitor``.
        database: See ``Visitor``.
        timeout: Seconds until a page that is not finished is an error.
        settings: Settings that override the app's own.

    Attributes:
        asgi: What takes requests.
        app: The app.
        state: What the lifespan yielded, for every request.
        visitors: The number of visitors.
    """

    def __init__(
        self,
        asgi: ASGIApp | Router,
        engine: Engine | Mapping[str, ScriptedText] | str | None,
        database: str | Path | None,
        timeout: float,
        settings: Mapping[str, Any],
    ) -> None:
        self.app = find_app(asgi)
        self.asgi: ASGIApp = self.app if isinstance(asgi, Router) else asgi
        self.visitors = 1
        self._closed = ""
        self._timeout = timeout
        earlier = _RUNNERS.get(id(self.app))
        if earlier is not None:
            earlier.replace()
        given = self.app.provided_engine
        flags: dict[str, object] = {"painter": "", "painter_options": "", **settings}
        if isinstance(engine, str):
            given, flags["engine"] = None, engine
        elif engine is not None or given is None:
            given = answers(engine) if engine is None or isinstance(engine, Mapping) else engine
        if given is not None:
            flags |= {"model": "", "engine_options": ""}  # an open engine takes neither
        with contextlib.ExitStack() as stack:
            if database is None:
                database = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="unwritten-test-")), "pages.db")
            before = self.app.override(given, {**flags, "database": str(database)})
            stack.callback(self.app.override, *before)
            self._runner = stack.enter_context(asyncio.Runner())
            self.app.prepare()  # outside of the lifespan, so that its errors are raised as they are
            stack.callback(lambda: self._runner.run(self.app.close()))
            self._lifespan = running(self.asgi)
            self.state = self.run(self._lifespan.__aenter__())
            self._stack = stack.pop_all()
        _RUNNERS[id(self.app)] = self

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the app's event loop.

        Raises:
            UnwrittenError: If an event loop is running already, or the app was closed.
        """
        try:
            if _is_loop_running():
                raise UnwrittenError(
                    "A Visitor cannot be used inside an event loop. Write the test with `def` instead of `async def`."
                )
            if self._closed:
                raise UnwrittenError(self._closed)
        except UnwrittenError:
            work.close()
            raise
        results: list[T] = []

        async def run() -> None:
            results.append(await work)

        # The task returns nothing: asyncio keeps references to tasks that ended, and a result would keep its visitor.
        self._runner.run(run())
        return results.pop()

    def leave(self) -> None:
        """Remove a visitor. The app stops with the last one."""
        self.visitors -= 1
        if not self.visitors and not self._closed:
            self._stop("This visitor was closed. Make another one: Visitor(app).")

    def replace(self) -> None:
        """Stop for a new visitor of the same app. A failed test may never close its own."""
        if not self._closed:
            self._stop("Another Visitor(app) has replaced this one. For two visitors at once: visitor.another().")

    def _stop(self, reason: str) -> None:
        self._closed = reason
        # A visitor may be garbage-collected inside another event loop, where this one cannot run.
        if _is_loop_running():
            thread = threading.Thread(target=self._close)
            thread.start()
            thread.join()
        else:
            self._close()

    def _close(self) -> None:
        with self._stack:
            self._runner.run(self._lifespan.__aexit__(None, None, None))

    # -- jobs -----------------------------------------------------------------------------------------------------

    def job(self, html: str) -> PageJob | None:
        """Return the job that generates an unfinished region of a page."""
        for node in parse_html(html).find_all():
            if node.attributes.get("data-state") in {"waiting", "writing"} and "data-page" in node.attributes:
                return self.app.site.jobs.recent(node.attributes["data-page"])
        return None

    @contextlib.asynccontextmanager
    async def watching(self, job: PageJob) -> AsyncIterator[None]:
        """Subscribe to a job, so that it is not cancelled."""
        subscriber = Subscriber()
        job.subscribe(subscriber)
        try:
            yield
        finally:
            self.app.site.jobs.unsubscribe(job, subscriber)

    @contextlib.asynccontextmanager
    async def time_limit(self, problem: str) -> AsyncIterator[None]:
        """Raise TimeoutError with a description if something takes too long."""
        try:
            async with asyncio.timeout(self._timeout):
                yield
        except TimeoutError as error:
            raise TimeoutError(
                f"{problem} within {self._timeout:g} seconds. Visitor(app, timeout=…) waits longer."
            ) from error

    async def settled(self) -> None:
        """Wait until no job runs or waits."""
        site = self.app.site
        async with self.time_limit("Some pages were not finished"):
            while (unfinished := site.jobs.unfinished()) or site.refresher.is_active:
                if not unfinished:
                    await asyncio.sleep(0.01)  # a refresh is about to start, or has just ended
                    continue
                async with self.watching(unfinished[0]):
                    await unfinished[0].finished.wait()


def find_app(asgi: ASGIApp | Router) -> App:
    """Return the App that an ASGI app is or contains, in its routes or behind its middleware. A router gets one.

    Raises:
        BadApp: If there is none, or more than one.
    """
    if isinstance(asgi, Router) and not isinstance(asgi, App):
        app = _ROUTER_APPS.get(asgi)
        if app is None:
            app = _ROUTER_APPS[asgi] = App("Test")
            app.include_router(asgi)
        return app
    apps = list({id(app): app for app in _apps_in(asgi)}.values())
    if len(apps) == 1:
        return apps[0]
    if not apps:
        raise BadApp(f"A Visitor needs an App, or an ASGI app that mounts one. {asgi!r} has none in its routes.")
    names = ", ".join(repr(app.name) for app in apps)
    raise BadApp(f"This ASGI app mounts {len(apps)} Apps: {names}. A Visitor visits one: Visitor(app).")


def _apps_in(asgi: Any) -> Iterator[App]:
    if isinstance(asgi, App):
        yield asgi
        return
    # A Mount, a Host or a middleware has what it wraps in ``app``, a Starlette app its routes.
    for inner in (getattr(asgi, "app", None), *(getattr(asgi, "routes", None) or ())):
        if inner is not None and inner is not asgi:
            yield from _apps_in(inner)


def _is_loop_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
