"""Declarations: everything that an author has declared, and the checks that it fits together."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.routing import BaseRoute, Mount
from starlette.routing import Router as StarletteRouter
from starlette.types import ASGIApp

from unwritten_engine import Engine

from ..core.assets import VersionedStaticFiles
from ..core.errors import BadApp, BadURL
from ..core.localization import Localization
from ..core.mount import MountPoint
from ..core.settings import Settings
from ..generation.hooks import OnWritten, Policies
from ..routing.patterns import PagePattern
from ..routing.routes import PageRoute, PatternRoute
from ..security.exposure import Exposure
from ..storage.location import Location
from ..storage.tables import Tables
from ..web.action_routes import ActionRoute
from ..web.extension import Extension
from ..web.watchdog import Watchdog
from .framework_routes import WellKnownRoutes


@dataclass(frozen=True)
class Declarations:
    """Everything that an author has declared: the input of ``build``."""

    name: str
    world: str
    links: PagePattern | None
    aliases: Mapping[str, str]
    settings: Settings
    database: Location
    engine: Engine | None
    pages: Sequence[PageRoute]
    fallback: PageRoute | None
    routes: Sequence[BaseRoute]
    router: StarletteRouter
    tables: Tables
    written_hooks: Sequence[OnWritten]
    policies: Policies
    templates: Path | None
    router_templates: Sequence[Path]
    static: Path | None
    router_static: Sequence[Path]
    localization: Localization
    static_files: VersionedStaticFiles
    template_globals: Mapping[str, Any]
    extensions: Sequence[Extension]
    mount: MountPoint
    exposure: Exposure
    dispatch: ASGIApp
    has_middleware: Callable[[], bool]
    is_developing: Callable[[], bool]
    watchdog: Watchdog

    def check(self) -> None:
        """Check that the declarations fit together, and set where the links of each page lead.

        Raises:
            BadApp: If they do not.
        """
        framework = (WellKnownRoutes, Mount)
        if not self.pages and all(isinstance(route, framework) for route in self.routes):
            raise BadApp(
                f"The app {self.name!r} has no pages. Declare one: @app.page('/{{title}}') above a function that "
                "returns a prompt. If your pages are in another module, import it where the app is made."
            )
        _check_duplicates("page", self.pages)
        _check_files("template", self.templates, self.router_templates)
        _check_files("static file", self.static, self.router_static)
        _check_duplicates("action", [route for route in self.routes if isinstance(route, ActionRoute)])
        fallback = self.fallback.pattern if self.fallback else None
        links = self._checked_links(self.links) if self.links else None
        for route in self.pages:
            own = route.pattern if route.links_to_itself else None
            route.links = self._checked_links(route.links) if route.links else links or own or fallback

    def _checked_links(self, links: PagePattern) -> PagePattern:
        """Return a pattern of links with the ``canonical`` function of the page that it leads to.

        Raises:
            BadApp: If it leads to no page.
        """
        target = next((route.pattern for route in self.pages if links.leads_to(route.pattern)), None)
        if target is None:
            raise BadApp(
                f"links={links.path!r} leads to no page. The pages are "
                f"{', '.join(repr(route.pattern.path) for route in self.pages)}."
            )
        return links.with_canonical_of(target)


def canonical_aliases(aliases: Mapping[str, str], canonical: Callable[[str], str | None]) -> dict[str, str]:
    """Return declared aliases with their keys in the canonical spelling, each with the page at its end.

    Args:
        aliases: The pages by their other names.
        canonical: Returns the canonical spelling of a key, or None if it leads to no page.

    Raises:
        BadApp: If a key leads to no page, or an alias to itself.
    """
    keys: dict[str, str] = {}
    for alias, target in aliases.items():
        for path in (alias, target):
            try:
                key = canonical(path)
            except BadURL as error:
                raise BadApp(f"app.alias({alias!r}, {target!r}): {error}") from None
            if key is None:
                raise BadApp(
                    f"app.alias({alias!r}, {target!r}): {path!r} leads to no page of this app. Both must match the "
                    "pattern of a page. For any other path, declare a route that returns a RedirectResponse."
                )
            keys[path] = key
    targets = {keys[alias]: keys[target] for alias, target in aliases.items()}
    ends: dict[str, str] = {}
    for alias in targets:
        seen = [alias]
        while seen[-1] in targets:
            seen.append(targets[seen[-1]])
            if seen[-1] in seen[:-1]:
                raise BadApp(f"The aliases of the app lead in a circle: {' → '.join(seen)}. Remove one of them.")
        ends[alias] = seen[-1]
    return ends


def _check_files(kind: str, own: Path | None, folders: Sequence[Path]) -> None:
    """Raise ``BadApp`` if two routers have a file of the same name, and the app does not decide with its own."""
    found: dict[Path, Path] = {}
    for folder in folders:
        for file in folder.rglob("*"):
            name = file.relative_to(folder)
            if not file.is_file() or any(part.startswith(".") for part in name.parts):
                continue
            if name in found and not (own is not None and (own / name).is_file()):
                raise BadApp(
                    f"Two routers have the {kind} {str(name)!r}: {found[name]} and {file}. Rename one of them, or put "
                    "it into a subfolder. If both should be the same, put it into the app's own folder."
                )
            found[name] = file


def _check_duplicates(kind: str, routes: Sequence[PatternRoute]) -> None:
    """Raise ``BadApp`` if two pages, or two actions, have the same path or the same name."""
    paths: dict[str, PatternRoute] = {}
    names: dict[str, PatternRoute] = {}
    for route in routes:
        paths_matched = re.sub(r"\?P<\w+>", "", route.path_regex.pattern)  # whatever its parameters are called
        if paths_matched in paths:
            raise BadApp(
                f"The {kind}s {paths[paths_matched].name!r} and {route.name!r} have the same path {route.path!r}. "
                "The second would never be reached: give it another path. A router that is included twice needs "
                "another prefix: include_router(…, prefix='/more', name='more')."
            )
        if route.name in names:
            raise BadApp(
                f"Two {kind}s are called {route.name!r}: {names[route.name].path!r} and {route.path!r}. "
                f"Rename a function, or write @app.{kind}(…, name='another'). A router that is included twice needs a "
                "name: include_router(…, name='more')."
            )
        paths[paths_matched] = names[route.name] = route
