"""The lifetime of an app: what is opened, in which order, what is made sure of before it serves, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from unwritten_engine import Engine, Progress, open_engine
from unwritten_engine.text_to_image import Painter, open_painter

from ..core.errors import BadApp, BadSetting
from ..editing.editor import may_edit
from ..generation.prefetcher import Prefetcher, is_prefetch_enabled
from ..pictures.avatars import avatar
from ..pictures.ornaments import ornament
from ..pictures.painting import PaintQueue, PictureRequest, painter_of
from ..rendering.document import AHEAD_SCRIPT, PICTURES_SCRIPT, SCRIPTS
from ..rendering.renderer import Renderer
from ..rendering.templates import Templates
from ..routing.memory import Memory
from ..routing.resolver import PageResolver
from ..routing.routes import PageRequest
from ..security.signer import VisitorCookie
from ..storage.pages import PageStore
from ..web.page_handler import PageHandler
from .engine_options import engine_options, painter_options

if TYPE_CHECKING:
    from .application import App

log = logging.getLogger("unwritten")


class Lifetime:
    """Opens, checks, warms and closes what serves one app.

    Args:
        app: the app, with all that its author has declared.
        engine: an open engine that the author brought; None opens the one that the settings name.
    """

    def __init__(self, app: App, engine: Engine | None) -> None:
        self._app = app
        self.brought = engine
        self._owned: Engine | None = None
        self._serving: PageHandler | None = None
        self._clicks: PageResolver | None = None
        self._samples: list[PageRequest] | None = None
        self._preparing = asyncio.Lock()

    @property
    def serving(self) -> PageHandler:
        """What answers clicks.

        Raises:
            BadApp: if the app has not been prepared.
        """
        if self._serving is None:
            raise BadApp("The app has not been prepared yet: call app.prepare(), or serve it.")
        return self._serving

    def prepare(self, progress: Progress | None = None) -> None:
        """See ``App.prepare``."""
        if self._serving is not None:
            return
        app, settings = self._app, self._app.settings
        options, painting = engine_options(settings), painter_options(settings)
        painter: Painter | None = None
        if self.brought is not None and options:
            raise BadSetting(
                f"The app {app.name!r} brings its own engine, which is open already; it cannot be given "
                f"{sorted(options)}. Leave out --model and --engine-options, or write App(…, engine='a name')."
            )
        store = PageStore(app.database)
        try:
            app.tables.open(store.database)
            if settings.painter:  # first: it is found out at once if there is none
                painter = open_painter(str(settings.painter), progress=progress, **painting)
            engine = self.brought
            if engine is None:
                engine = self._owned = open_engine(settings.engine, progress=progress, **options)
        except BaseException:
            app.tables.close()
            store.close()
            raise
        static = functools.cache(app.static_files.url)
        values = {"app": app, "link": app.link, "static": static, "action": app.form_attributes}
        values |= {"ornament": ornament, "avatar": avatar, "picture": app.pictures.tag}
        templates = Templates(app.own_templates, values)
        templates.environment.filters["link"] = app.link
        gates = app.connections.gates
        identity = VisitorCookie(lambda: app.handler.world.secret)
        clicks = PageResolver(
            name=app.name,
            world=app.world,
            settings=settings,
            store=store,
            memory=Memory(store, settings, engine.about.context),
            identity=identity,
            offer=gates.sign,
        )
        app.policies.time_limit = settings.function_time_limit
        ahead = is_prefetch_enabled(settings, engine.about)
        idle = {*([] if ahead else [AHEAD_SCRIPT]), *([] if painter else [PICTURES_SCRIPT])}
        scripts = [name for name in SCRIPTS if name not in idle]
        views = Renderer(templates, app.static_files, engine.about, scripts, edits=lambda: may_edit(settings, gates))
        serving = PageHandler(settings, clicks, views, store, engine, gates, app.policies)
        if ahead:
            serving.prefetcher = Prefetcher(serving, clicks, settings, lambda: app.pages)
        if painter is not None:
            serving.paint_queue = PaintQueue(painter, store.database, serving.budgets, settings)
            serving.jobs.observers.append(serving.paint_queue)
        self._serving, self._clicks = serving, clicks
        app.wire_state(serving)
        app.devtools.attach(serving)
        links = app.links.path if app.links else None
        serving.world.update(app.name, app.world, links, engine.about)

    def painter_of(self, ask: PictureRequest) -> tuple[str, bool]:
        """Who has painted a picture, or will, and whether it is there; "" if it is an ornament."""
        studio, painter = self.serving.paint_queue, painter_of(self.serving.store.database, ask)
        return painter or (studio.painter.about.model if studio else ""), bool(painter)

    async def check(self) -> None:
        """See ``App.check``."""
        serving = await self.ready()
        if self._samples is None and self._clicks is not None:
            samples = await self._clicks.sample_requests(self._app.pages)
            for click in samples:
                serving.schemas.check(click.route.path, click.page)
            self._samples = samples

    async def ready(self) -> PageHandler:
        """See ``App.ready``."""
        if self._serving is None:
            async with self._preparing:
                await asyncio.to_thread(self.prepare)
        return self.serving

    async def close(self) -> None:
        """See ``App.close``."""
        serving, self._serving, self._clicks, self._samples = self._serving, None, None, None
        if serving is not None:
            if serving.prefetcher is not None:
                serving.prefetcher.close()
            await self._app.audience.close()
            await serving.jobs.close()
            if serving.paint_queue is not None:
                await serving.paint_queue.close()
            self._app.tables.close()
            serving.store.close()
        if self._owned is not None:
            await self._owned.close()
            self._owned = None

    @contextlib.asynccontextmanager
    async def __call__(self, _: object) -> AsyncIterator[None]:
        """The lifespan, as Starlette wants it: everything is checked before the first request, and closed after the
        last."""
        warming: asyncio.Task[None] | None = None
        try:
            await self.check()
            warming = asyncio.create_task(self._warm(), name="warming")
            yield
        finally:
            if warming is not None:
                warming.cancel()
                await asyncio.gather(warming, return_exceptions=True)
            await self.close()

    async def _warm(self) -> None:
        """Let the engine evaluate what all pages share, so that the first click is as quick as the second."""
        try:
            if self._clicks is not None:
                prompts = [self._clicks.prompts(click) for click in self._samples or ()]
                await self.serving.engine.warm([prompt for page in prompts for prompt in page.values()])
        except Exception:
            log.warning("The engine could not be warmed; the first page will take longer.", exc_info=True)
