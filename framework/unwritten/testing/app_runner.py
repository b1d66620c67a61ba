"""The life of an app in a test: it is started, runs in an event loop of its own, and is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import threading
import weakref
from collections.abc import AsyncIterator, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

from unwritten_engine import Engine

from ..app.application import App
from ..core.errors import UnwrittenError
from ..generation.page_job import PageJob, Subscriber
from .asgi_client import running
from .html_tree import parse_html
from .scripted_engine import ScriptedText, answers

T = TypeVar("T")


_LIVES: weakref.WeakValueDictionary[int, AppRunner] = weakref.WeakValueDictionary()
"""The apps that are being visited, by their identity."""


class AppRunner:
    """An app that runs in an event loop of its own, which stands still between the visits.

    It knows nothing of the visitors, so that one that is forgotten can be seen to be so.
    """

    def __init__(
        self,
        app: App,
        engine: Engine | Mapping[str, ScriptedText] | str | None,
        database: str | Path | None,
        patience: float,
        settings: Mapping[str, Any],
    ) -> None:
        self.app = app
        self.visitors = 1
        self._closed = ""
        self._patience = patience
        earlier = _LIVES.get(id(app))
        if earlier is not None:
            earlier.replace()
        given = app.open_engine
        flags: dict[str, object] = {"painter": "", "painter_options": "", **settings}  # nobody paints in a test
        if isinstance(engine, str):
            given, flags["engine"] = None, engine
        elif engine is not None or given is None:
            given = answers(engine) if engine is None or isinstance(engine, Mapping) else engine
        if given is not None:
            flags |= {"model": "", "engine_options": ""}  # which an open engine does not take
        with contextlib.ExitStack() as ending:
            if database is None:
                database = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="unwritten-test-")), "pages.db")
            before = app.override(given, {**flags, "database": str(database)})
            ending.callback(app.override, *before)
            self._runner = ending.enter_context(asyncio.Runner())
            app.prepare()  # here, so that what is missing is told in its own words
            ending.callback(lambda: self._runner.run(app.close()))
            self._app_runs = running(app)
            self.run(self._app_runs.__aenter__())
            self._ending = ending.pop_all()
        _LIVES[id(app)] = self

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do some work in the app's loop.

        Raises:
            UnwrittenError: if a loop is running already, or the app was closed.
        """
        try:
            _not_inside()
            if self._closed:
                raise UnwrittenError(self._closed)
        except UnwrittenError:
            work.close()
            raise
        results: list[T] = []

        async def do() -> None:
            results.append(await work)

        # A task is remembered here and there after its end, and with its result the visitor would be.
        self._runner.run(do())
        return results.pop()

    def leave(self) -> None:
        """One visitor fewer; with the last one the app stops."""
        self.visitors -= 1
        if not self.visitors and not self._closed:
            self._stop("This visitor has been closed. Make another one: Visitor(app).")

    def replace(self) -> None:
        """Make room for a new visitor of the same app: a test that failed may never let go of its own."""
        if not self._closed:
            self._stop("Another Visitor(app) has taken over. For two visitors at once: visitor.another().")

    def _stop(self, reason: str) -> None:
        self._closed = reason
        # Whoever forgets a visitor may do so inside another loop, in which this one cannot run.
        if _loop_runs():
            closing = threading.Thread(target=self._close)
            closing.start()
            closing.join()
        else:
            self._close()

    def _close(self) -> None:
        with self._ending:
            self._runner.run(_left(self._app_runs))

    # -- what is being written ----------------------------------------------------------------------------

    def job(self, html: str) -> PageJob | None:
        """The generation that writes what a page shows as unfinished."""
        for node in parse_html(html).all():
            if node.attributes.get("data-state") in {"waiting", "writing"} and "data-page" in node.attributes:
                return self.app.site.jobs.recent(node.attributes["data-page"])
        return None

    @contextlib.asynccontextmanager
    async def watching(self, job: PageJob) -> AsyncIterator[None]:
        """Look at a page, so that it is not given up."""
        subscriber = Subscriber()
        job.subscribe(subscriber)
        try:
            yield
        finally:
            self.app.site.jobs.detach(job, subscriber)

    @contextlib.asynccontextmanager
    async def in_time(self, problem: str) -> AsyncIterator[None]:
        """Let something take no longer than the patience of a test."""
        try:
            async with asyncio.timeout(self._patience):
                yield
        except TimeoutError as error:
            raise TimeoutError(
                f"{problem} in {self._patience:g} seconds. Visitor(app, patience=…) waits longer."
            ) from error

    async def settled(self) -> None:
        """Wait until nothing is written."""
        jobs = self.app.site.jobs
        async with self.in_time("Not everything was finished"):
            while unfinished := jobs.unfinished():
                async with self.watching(unfinished[0]):
                    await unfinished[0].finished.wait()


async def _left(context: contextlib.AbstractAsyncContextManager[None]) -> None:
    await context.__aexit__(None, None, None)


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _not_inside() -> None:
    if _loop_runs():
        raise UnwrittenError(
            "A Visitor is for ordinary functions, and this one runs inside an event loop. Write the test with "
            "`def` instead of `async def`."
        )
