"""The site: every component of a running app, built once at start-up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from unwritten_engine import Engine

from ..core.mount import MountPoint
from ..core.settings import Settings
from ..generation.budgets import Budgets
from ..generation.hooks import Policies
from ..generation.job_queue import JobQueue
from ..generation.job_starter import JobStarter, SchemaChecker
from ..generation.metrics import Metrics
from ..generation.prefetcher import Prefetcher
from ..generation.prompt_builder import PromptBuilder
from ..rendering.renderer import Renderer
from ..routing.resolver import PageResolver
from ..routing.routes import PageRoute
from ..security.exposure import Exposure
from ..security.signed_links import SignedLinks
from ..security.signer import Signer
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
    values: ValueStore
    world: WorldStore
    tables: Tables
    policies: Policies
    budgets: Budgets
    metrics: Metrics
    schemas: SchemaChecker
    resolver: PageResolver
    prompt_builder: PromptBuilder
    renderer: Renderer
    jobs: JobQueue
    starter: JobStarter
    prefetcher: Prefetcher | None
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

    async def close(self) -> None:
        """Stop all work and close the store. Finished pages that are not stored yet get one last attempt."""
        self.watchdog.stop()
        if self.prefetcher is not None:
            self.prefetcher.close()
        await self.updates.close()
        await self.jobs.close()
        for extension in self.extensions:
            await extension.close()
        self.tables.close()
        self.store.close()
        if self.owns_engine:
            await self.engine.close()


GetSite: TypeAlias = Callable[[], Awaitable[Site]]
"""Returns the site, and builds it on the first request of an app without a lifespan."""
