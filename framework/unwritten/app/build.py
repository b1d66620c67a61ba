"""The composition root: build every component of an app, and connect them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from unwritten_engine import Engine, Progress, open_engine

from ..broker.base import Broker
from ..broker.open import open_broker
from ..core.engine_options import engine_options
from ..core.errors import BadSetting
from ..core.settings import Settings
from ..formats.gists import writes_gists
from ..generation.budgets import Budgets
from ..generation.hooks import OnWrittenRunner
from ..generation.job_queue import JobQueue
from ..generation.job_starter import JobStarter
from ..generation.metrics import Metrics
from ..generation.page_writer import PageWriter
from ..generation.prefetcher import Prefetcher, is_prefetch_enabled
from ..generation.prompt_builder import PromptBuilder
from ..generation.refresher import Refresher
from ..generation.schema_checker import SchemaChecker
from ..generation.text_generator import TextGenerator
from ..generation.unfinished_pages import UnfinishedPages
from ..rendering.document import SCRIPTS
from ..rendering.renderer import Renderer
from ..rendering.templates import Templates
from ..routing.access import PageAccess
from ..routing.link_targets import LinkTargets
from ..routing.memory import Memory
from ..routing.personal_values import PersonalValues
from ..routing.resolver import PageResolver
from ..routing.stored_pages import StoredPages
from ..routing.visit import VisitReader
from ..security.signed_links import SignedLinks
from ..security.signer import Signer, VisitorCookie
from ..storage.aliases import AliasStore
from ..storage.pages import PageStore
from ..storage.unfinished import UnfinishedPageStore
from ..storage.values import ValueStore
from ..storage.world import WorldStore
from ..web.action_routes import FormTags
from ..web.actions import ActionHandler
from ..web.job_renderer import JobRenderer
from ..web.live_updates import LiveUpdates
from ..web.page_cache import PageCache
from ..web.page_data import PageData
from ..web.page_handler import PageHandler
from ..web.site import Site
from ..web.socket_registry import LiveSockets
from ..web.template_globals import TemplateGlobals
from ..web.transport import is_disconnected
from .declarations import Declarations, canonical_aliases

log = logging.getLogger("unwritten")


def build(declared: Declarations, progress: Progress | None = None, *, is_server: bool = False) -> Site:
    """Open the store and the engine, and build every component once. Slow: it may load a model.

    If it fails, it closes what it has opened.

    Args:
        declared: What the author declared.
        progress: Called while a model is loaded.
        is_server: True refuses to start if another process serves the same database.

    Raises:
        StoreError, EngineError: If the store or the engine cannot be opened.
        BrokerError: If the broker cannot be used.
        BadSetting: If the engine's options cannot be parsed, or an open engine is given options.
        BadApp: If a catalog of the app cannot be read.
    """
    settings = declared.settings
    options = engine_options(settings)
    declared.localization.get().preload()
    if declared.engine is not None and options:
        raise BadSetting(
            f"The app {declared.name!r} brings its own open engine, which cannot be given {sorted(options)}. "
            "Leave out --model and --engine-options, or write App(…, engine='a name')."
        )
    with contextlib.ExitStack() as opened:
        store = PageStore(declared.database, read_only=settings.read_only)
        opened.callback(store.close)
        opened.callback(declared.tables.close)
        if is_server and needs_server_lock(settings):
            store.database.acquire_server_lock()
        declared.tables.open(store.database)
        world = WorldStore(store.database)
        broker = open_broker(settings.broker, world.secret)
        for extension in declared.extensions:
            opened.callback(_close, extension.close)
            extension.prepare(settings, progress)
        engine = declared.engine
        if engine is None:
            engine = open_engine(settings.engine, progress=progress, **options)
            opened.callback(_close, engine.close)
        site = _connect(declared, store, world, broker, engine)
        opened.pop_all()
    return site


def needs_server_lock(settings: Settings) -> bool:
    """True if no other process may serve the database, because nothing gives each page to one of them."""
    return not settings.read_only and not settings.broker


def _close(close: Callable[[], Awaitable[None]]) -> None:
    """Close a component after a failed start. An error is logged, so that the reason of the failure is raised."""

    async def run() -> None:
        await close()

    try:
        with ThreadPoolExecutor(1) as pool:  # this thread may have a running event loop
            pool.submit(asyncio.run, run()).result()
    except Exception:
        log.exception("A component could not be closed after the app failed to start.")


def _connect(declared: Declarations, store: PageStore, world: WorldStore, broker: Broker, engine: Engine) -> Site:
    """Create the components that need nothing to be opened, and connect all of them."""
    settings, mount, exposure = declared.settings, declared.mount, declared.exposure

    # Storage and security.
    values = ValueStore(store.database)
    aliases = AliasStore(store.database)
    signer = Signer(world.secret)
    visitor_cookie = VisitorCookie(signer)
    signed_links = SignedLinks(settings.signed_links, exposure, signer)

    # Routing.
    visits = VisitReader(mount, store, visitor_cookie, lambda key, scope: access.may_read(key, scope))
    resolver = PageResolver(
        name=declared.name,
        pages=declared.pages,
        router=declared.router,
        mount=mount,
        store=store,
        visits=visits,
        sign=signed_links.sign,
        aliases=aliases,
        is_open=lambda key: access.is_open(key),
        is_developing=declared.is_developing,
    )

    access = PageAccess(
        resolver=resolver,
        pages=declared.pages,
        router=declared.router,
        mount=mount,
        dispatch=declared.dispatch,
        has_middleware=declared.has_middleware,
    )

    # Rendering.
    forms = FormTags(mount, signer)
    functions = TemplateGlobals(
        mount=mount,
        signed_links=signed_links,
        store=store,
        router=declared.router,
        forms=forms,
        routes=declared.routes,
    )
    template_globals: dict[str, Any] = {**functions.functions()}
    for extension in declared.extensions:
        template_globals |= extension.template_globals()
    templates = Templates(
        declared.templates,
        template_globals | dict(declared.template_globals),
        declared.router_templates,
        declared.localization,
    )
    templates.environment.filters["link"] = functions.link
    prefetching = is_prefetch_enabled(settings, engine.about) and not settings.read_only
    scripts = [
        *SCRIPTS,
        *(script for extension in declared.extensions for script in extension.scripts()),
        *(["prefetch.js"] if prefetching else []),
    ]
    renderer = Renderer(templates, declared.static_files, engine.about, mount, scripts)
    job_renderer = JobRenderer(renderer, mount)

    # Generation.
    write_lock = asyncio.Lock()
    metrics = Metrics()
    budgets = Budgets(settings, exposure, broker.windows)
    schemas = SchemaChecker(engine, values, declared.is_developing)
    policies = declared.policies
    jobs = JobQueue(
        engine,
        store,
        settings,
        check_text=policies.allow_text if policies.text_policy is not None else None,
        on_written=OnWrittenRunner(store.database, write_lock, declared.tables.notify, declared.written_hooks).run,
        broker=broker,
    )
    prompt_builder = PromptBuilder(
        declared.world,
        Memory(store, settings, access, engine.about.context),
        visits,
        engine.about,
        gists=writes_gists(engine.about, settings),
    )
    starter = JobStarter(
        prompt_builder=prompt_builder,
        store=store,
        about=engine.about,
        jobs=jobs,
        schemas=schemas,
        values=values,
        budgets=budgets,
        policies=policies,
        metrics=metrics,
        validate=job_renderer.prepare,
        visitor_cookie=visitor_cookie,
        personal_values=PersonalValues(resolver, visitor_cookie),
        is_developing=declared.is_developing,
    )
    text_links = declared.links or (declared.fallback.pattern if declared.fallback else None)
    generator = TextGenerator(
        world=declared.world,
        about=engine.about,
        jobs=jobs,
        schemas=schemas,
        budgets=budgets,
        policies=policies,
        metrics=metrics,
        linker=resolver.linker("/", LinkTargets(text_links)),
        is_disconnected=is_disconnected,
    )
    writer = PageWriter(
        settings=settings,
        about=engine.about,
        mount=mount,
        access=access,
        store=store,
        starter=starter,
        jobs=jobs,
    )
    prefetcher = Prefetcher(jobs=jobs, starter=starter, resolver=access, store=store) if prefetching else None

    refresher = Refresher(starter=starter, jobs=jobs, store=store)

    # Web.
    cache = PageCache(
        mount=mount,
        renderer=renderer,
        store=store,
        starter=starter,
        signed_links=signed_links,
        is_open=access.is_open,
    )
    unfinished = UnfinishedPages(UnfinishedPageStore(store.database), store, jobs)
    data = PageData(
        mount=mount,
        access=access,
        store=store,
        jobs=jobs,
        unfinished=unfinished,
        owner=exposure.owner,
        localization=declared.localization,
    )
    handler = PageHandler(
        mount=mount,
        resolver=resolver,
        access=access,
        visitor_cookie=visitor_cookie,
        signed_links=signed_links,
        store=store,
        cache=cache,
        data=data,
        jobs=jobs,
        starter=starter,
        job_renderer=job_renderer,
        prefetcher=prefetcher,
        refresher=refresher,
        renderer=renderer,
        metrics=metrics,
        unfinished=unfinished,
    )
    updates = LiveUpdates(
        access=access,
        renderer=renderer,
        store=store,
        jobs=jobs,
        starter=starter,
        job_renderer=job_renderer,
        cache=cache,
        broker=broker,
    )
    actions = ActionHandler(
        mount=mount,
        signer=signer,
        forms=forms,
        visitor_cookie=visitor_cookie,
        visits=visits,
        database=store.database,
        access=access,
        renderer=renderer,
        handler=handler,
        updates=updates,
        write_lock=write_lock,
        max_file_bytes=int(settings.upload_limit * 1e6),
    )
    jobs.observe(budgets, metrics, *([prefetcher] if prefetcher else []), updates, unfinished)
    broker.listen(jobs, budgets, *([prefetcher] if prefetcher else []), updates)
    declared.tables.observe(updates.on_table_write)
    aliases.declare(canonical_aliases(declared.aliases, resolver.canonical_key))
    world.update(declared.name, declared.world, declared.links.path if declared.links else None, engine.about)
    site = Site(
        name=declared.name,
        settings=settings,
        mount=mount,
        pages=declared.pages,
        engine=engine,
        owns_engine=declared.engine is None,
        exposure=exposure,
        watchdog=declared.watchdog,
        signer=signer,
        signed_links=signed_links,
        store=store,
        stored_pages=StoredPages(store, access, aliases),
        aliases=aliases,
        broker=broker,
        values=values,
        world=world,
        tables=declared.tables,
        policies=policies,
        budgets=budgets,
        metrics=metrics,
        schemas=schemas,
        resolver=resolver,
        access=access,
        visitor_cookie=visitor_cookie,
        prompt_builder=prompt_builder,
        renderer=renderer,
        jobs=jobs,
        starter=starter,
        generator=generator,
        writer=writer,
        prefetcher=prefetcher,
        refresher=refresher,
        unfinished=unfinished,
        job_renderer=job_renderer,
        cache=cache,
        handler=handler,
        updates=updates,
        actions=actions,
        sockets=LiveSockets(broker),
        template_globals=functions,
        extensions=declared.extensions,
    )
    for extension in declared.extensions:
        extension.connect(site)
    return site
