"""Extensions: the interface by which editing, pictures, developer tools and authors add to an app."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from unwritten_engine import Progress

from ..core.settings import Settings
from .site import GetSite, Site


class Extension:
    """Adds routes, template globals and middleware to an app. Override what you need; ``app.extend`` installs it."""

    def routes(self, get_site: GetSite) -> Sequence[BaseRoute]:
        """Return routes, relative to ``/_unwritten``."""
        return ()

    def middleware(self, get_site: GetSite) -> Sequence[Middleware]:
        """Return ASGI middleware. It runs before the author's, and sees error pages, too."""
        return ()

    def template_globals(self) -> Mapping[str, Callable[..., Any]]:
        """Return functions that every template can call."""
        return {}

    def prepare(self, settings: Settings, progress: Progress | None = None) -> None:
        """Load what takes long. Called once at start-up, before the engine is opened, in a thread.

        Raises:
            BadSetting, EngineError: The app does not start.
        """

    def scripts(self) -> Sequence[str]:
        """Return the names of static scripts that every page loads."""
        return ()

    def connect(self, site: Site) -> None:
        """Connect to the app's components. Called once, when all of them exist."""

    async def close(self) -> None:
        """Release what ``prepare`` and ``connect`` opened."""
