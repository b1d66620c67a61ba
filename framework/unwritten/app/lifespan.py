"""The lifespan of an app: open its components, check its pages, and close."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

from starlette.applications import Starlette
from starlette.types import Lifespan as StarletteLifespan

from unwritten_engine import Progress

from ..core.background_tasks import BackgroundTasks
from ..core.errors import BadApp
from ..routing.routes import PageRequest
from ..web.site import Site
from .build import build, needs_server_lock
from .declarations import Declarations
from .outer_app import OuterApp

log = logging.getLogger("unwritten")

Declare: TypeAlias = Callable[[], Declarations]


class Lifespan:
    """Builds the site, and closes it. It is the app's ASGI lifespan.

    Args:
        declare: Returns what the author has declared.
        author: The author's lifespan. It runs inside: the engine and the store are open.
        outer: Told if the lifespan of another app starts this one.

    Attributes:
        running_site: The components of the app while it runs, otherwise None.
        is_server: True if the lifespan runs in a server. Commands run it too, beside a server on the same database.
        is_own: True if the app itself has received the lifespan event.
    """

    def __init__(self, declare: Declare, author: StarletteLifespan[Any] | None, outer: OuterApp) -> None:
        self._declare = declare
        self._outer = outer
        self._author = author
        self.running_site: Site | None = None
        self.is_server = True
        self.is_own = False
        self._samples: list[PageRequest] | None = None
        self._building = asyncio.Lock()
        self._script: contextlib.AbstractAsyncContextManager[Any] | None = None

    @property
    def site(self) -> Site:
        """The components of the running app.

        Raises:
            BadApp: If the app has not been prepared.
        """
        if self.running_site is None:
            raise BadApp(
                "The app is not running yet. In a script, use it inside `async with app:`, or call app.prepare(); "
                "otherwise serve it."
            )
        return self.running_site

    def prepare(self, progress: Progress | None = None, *, is_server: bool = False) -> None:
        """Build the site, unless it exists. See ``build``."""
        if self.running_site is None:
            self.running_site = build(self._declare(), progress, is_server=is_server)
        elif is_server and needs_server_lock(self.running_site.settings):
            self.running_site.store.database.acquire_server_lock()

    async def ready(self) -> Site:
        """Return the site. Without a lifespan, as in a mounted app, the first request builds it."""
        if self.running_site is None:
            async with self._building:
                await asyncio.to_thread(self.prepare)
        await self.site.broker.start()
        return self.site

    async def check(self) -> None:
        """Call every page function once with sample parameters, and check that the engine supports the schemas.

        Raises:
            BadSchema: If it does not.
            StoreError, EngineError, BadSetting: See ``build``.
        """
        site = await self.ready()
        if self._samples is None:
            samples = await site.resolver.sample_requests()
            for page_request in samples:
                site.schemas.check(page_request.route.path, page_request.page)
            self._samples = samples

    async def close(self) -> None:
        """Close the site, if it exists."""
        site, self.running_site, self._samples = self.running_site, None, None
        if site is not None:
            await site.close()

    @contextlib.asynccontextmanager
    async def __call__(self, app: Starlette) -> AsyncIterator[Any]:
        """Run as Starlette's lifespan."""
        tasks = BackgroundTasks()
        self._outer.reset(is_unknown=not self.is_own)
        try:
            if self.is_server:
                await asyncio.to_thread(self.prepare, is_server=True)
            await self.check()
            tasks.start(self._warm(), "warming the engine")
            async with contextlib.AsyncExitStack() as stack:
                state = await stack.enter_async_context(self._author(app)) if self._author is not None else None
                # Page functions may use what the author's lifespan has opened.
                tasks.start(self.site.resume(), "continuing unfinished pages")
                yield state
        finally:
            await tasks.close()
            await self.close()

    async def start_script(self, app: Starlette) -> None:
        """Run the lifespan without a server: ``async with app``. The database may be served by another process.

        Raises:
            BadApp: If the app is running.
            BadSchema, StoreError, EngineError, BadSetting: See ``check``.
        """
        if self._script is not None:
            raise BadApp("The app is running already: `async with app:` is for scripts that start it.")
        self.is_server, self.is_own = False, True
        self._script = self(app)
        try:
            await self._script.__aenter__()
        except BaseException:
            self._script = None
            raise

    async def end_script(self) -> None:
        """Stop what ``start_script`` has started."""
        script, self._script = self._script, None
        if script is not None:
            await script.__aexit__(None, None, None)

    async def _warm(self) -> None:
        """Let the engine evaluate the shared parts of all prompts, so that the first click is as fast as the second."""
        try:
            prompt_builder = self.site.prompt_builder
            samples = self._samples or ()
            prompts = [
                prompt_builder.prompts(page_request, await prompt_builder.recall(page_request))
                for page_request in samples
            ]
            await self.site.engine.warm([prompt for page in prompts for prompt in page.values()])
        except Exception:
            log.warning("The engine could not be warmed up; the first page will take longer.", exc_info=True)
