"""The site: every component of a running app, built once at start-up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from unwritten_engine import Engine

from ..broker.base import Broker
from ..core.mount import MountPoint
from ..core.settings import Settings
from ..generation.budgets import Budgets
from ..generation.hooks import Policies
from ..generation.job_queue import JobQueue
from ..generation.job_starter import JobStarter
from ..generation.metrics import Metrics
from ..generation.page_writer import PageWriter
from ..generation.prefetcher import Prefetcher
from ..generation.prompt_builder import PromptBuilder
from ..generation.refresher import Refresher
from ..generation.schema_checker import SchemaChecker
from ..generation.text_generator import TextGenerator
from ..generation.unfinished_pages import UnfinishedPages
from ..rendering.renderer import Renderer
from ..routing.access import PageAccess
from ..routing.resolver import PageResolver
from ..routing.routes import PageRoute
from ..routing.stored_pages import StoredPages
from ..security.exposure import Exposure
from ..security.signed_links import SignedLinks
from ..security.signer import Signer, VisitorCookie
from ..storage.aliases import AliasStore
from ..storage.pages import PageStore
from ..storage.tables import Tables
from ..storage.values import ValueStore
from ..storage.world import WorldStore
from .actions import ActionHandler
from .job_renderer import JobRenderer
from .live_updates import LiveUpdates
from .page_cache import PageCache
from .page_handler import PageHandler
from .socket_registry import LiveSockets
from .template_globals import TemplateGlobals
from .watchdog import Watchdog


class Closable(Protocol):
    """What the site requires of an extension."""

    async def close(self) -> None:
        """Release all resources."""


@dataclass(frozen=True)
class Site:
    """The components of one running app. They are connected in ``app.build``, and nowhere else."""

    name: str
    settings: Settings
    mount: MountPoint
    pages: Sequence[PageRoute]
    engine: Engine
    owns_engine: bool
    exposure: Exposure
    watchdog: Watchdog
    signer: Signer
    signed_links: SignedLinks
    store: PageStore
    stored_pages: StoredPages
    aliases: AliasStore
    broker: Broker
    values: ValueStore
    world: WorldStore
    tables: Tables
    policies: Policies
    budgets: Budgets
    metrics: Metrics
    schemas: SchemaChecker
    resolver: PageResolver
    access: PageAccess
    visitor_cookie: VisitorCookie
    prompt_builder: PromptBuilder
    renderer: Renderer
    jobs: JobQueue
    starter: JobStarter
    generator: TextGenerator
    writer: PageWriter
    prefetcher: Prefetcher | None
    refresher: Refresher
    unfinished: UnfinishedPages
    job_renderer: JobRenderer
    cache: PageCache
    handler: PageHandler
    updates: LiveUpdates
    actions: ActionHandler
    sockets: LiveSockets
    template_globals: TemplateGlobals
    extensions: Sequence[Closable]

    def refresh(self) -> None:
        """Reload templates and static files, and tell every open page."""
        self.cache.clear()
        self.renderer.refresh()
        self.sockets.broadcast({"type": "refresh"})

    @property
    def draining(self) -> bool:
        """True if the server is stopping: it finishes running pages."""
        return self.jobs.draining

    async def drain(self) -> None:
        """Finish running pages within ``drain_seconds``. Call it when no connections are accepted, before ``close``."""
        if self.prefetcher is not None:
            self.prefetcher.close()
        draining = asyncio.create_task(self.jobs.drain(self.settings.drain_seconds), name="finishing pages")
        await asyncio.sleep(0)
        await self.unfinished.save()  # other processes continue the pages that wait
        await draining

    async def resume(self) -> None:
        """Continue the pages that were unfinished when the last server stopped."""
        await self.unfinished.resume(self.starter, self.resolver, repeats=self.broker.state != "none")

    async def close(self) -> None:
        """Stop all work and close the store. Finished pages that are not stored yet get one last attempt."""
        self.watchdog.stop()
        if self.prefetcher is not None:
            self.prefetcher.close()
        await self.refresher.close()
        await self.updates.close()
        await self.jobs.close()
        await self.unfinished.save()
        for extension in self.extensions:
            await extension.close()
        await self.broker.close()
        self.tables.close()
        self.store.close()
        if self.owns_engine:
            await self.engine.close()


GetSite: TypeAlias = Callable[[], Awaitable[Site]]
"""Returns the site, and builds it on the first request of an app without a lifespan."""
