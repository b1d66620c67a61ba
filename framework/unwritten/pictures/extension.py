"""The pictures extension: ``picture``, ``ornament`` and ``avatar`` in templates, and the route of pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from unwritten_engine import Progress
from unwritten_engine.text_to_image import Painter, open_painter

from ..core.engine_options import painter_options
from ..core.errors import Busy, PageFailed
from ..core.settings import Settings
from ..security.client_address import client_id
from ..web.extension import Extension
from ..web.site import GetSite, Site
from .avatars import avatar
from .ornaments import ornament, standalone_ornament
from .painting import PaintQueue
from .picture_tag import PictureTag
from .store import PictureRequest, StoredPicture, get_painter, get_picture

WAIT_SECONDS = 1.5
"""Seconds for which a request waits for a picture. Browsers open few connections, and the next click needs one."""

RETRY_SECONDS = 3
"""Seconds after which a browser retries an unfinished picture."""

_HEADERS: Mapping[str, str] = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "cross-origin-resource-policy": "same-origin",
    "x-content-type-options": "nosniff",
}


class Pictures(Extension):
    """Ornaments, avatars and pictures.

    Pictures are painted by a text-to-image model on this machine, if the setting ``painter`` names one. Otherwise, and
    until a picture is finished, an ornament is shown in its place.
    """

    def __init__(self) -> None:
        self._painter: Painter | None = None
        self._queue: PaintQueue | None = None
        self._site: Site | None = None

    def prepare(self, settings: Settings, progress: Progress | None = None) -> None:
        """Open the painter, if the settings name one.

        Raises:
            BadSetting: For options that cannot be parsed, or options without a painter.
            EngineError: If the painter cannot be opened.
        """
        options = painter_options(settings)
        if settings.painter and not settings.read_only:
            self._painter = open_painter(settings.painter, progress=progress, **options)

    def connect(self, site: Site) -> None:
        """Start the queue of pictures. It pauses while visitors wait for pages."""
        self._site = site
        if self._painter is not None:
            self._queue = PaintQueue(self._painter, site.store.database, site.budgets)
            site.jobs.observe(self._queue)

    async def close(self) -> None:
        """Stop painting, and release the model."""
        if self._queue is not None:
            await self._queue.close()
        self._queue = self._site = self._painter = None

    def scripts(self) -> list[str]:
        """Return the script that waits for pictures, if any are painted."""
        return ["pictures.js"] if self._painter else []

    def template_globals(self) -> dict[str, Callable[..., Any]]:
        """Return ``ornament``, ``avatar`` and ``picture``."""
        return {"ornament": ornament, "avatar": avatar, "picture": self.picture}

    def routes(self, get_site: GetSite) -> list[BaseRoute]:
        """Return the route of pictures."""

        async def show(request: Request) -> Response:
            return await self._respond(request, await get_site())

        return [Route("/picture/{token}", show, name="picture")]

    @pass_context
    def picture(self, context: Context, prompt: str, alt: str, width: int = 512, height: int = 320) -> Markup:
        """Return an ``<img>`` element of a fixed size.

        Args:
            prompt: What the picture shows. It may be untrusted text. It is cut to 300 characters.
            alt: The text alternative. A note is added that the picture is generated, or an ornament.
            width: In pixels. On a narrow screen the picture shrinks with its proportions.
            height: In pixels.

        Raises:
            BadTemplate: If the size is out of range.
        """
        assert self._site is not None
        language = self._site.renderer.language(str(context.get("lang") or ""))
        return self._tag(self._site).render(language, prompt, alt, width, height)

    def _tag(self, site: Site) -> PictureTag:
        return PictureTag(site.signer, site.mount, self._painter_of)

    def _painter_of(self, picture: PictureRequest) -> tuple[str, bool]:
        """Return the model that has painted a picture, or will paint it, and whether the picture exists."""
        assert self._site is not None
        model = get_painter(self._site.store.database, picture)
        return model or (self._queue.painter.about.model if self._queue else ""), bool(model)

    async def _respond(self, request: Request, site: Site) -> Response:
        """Respond with a picture, or with an ornament if there is none yet."""
        picture = self._tag(site).parse(request.path_params["token"])
        stored = get_picture(site.store.database, picture)
        if stored is None and self._queue is None:
            return _ornament_response(picture, {"cache-control": "private, max-age=3600"})
        retry_after = RETRY_SECONDS
        if stored is None and self._queue is not None:
            try:
                seconds = 0.0 if request.method == "HEAD" else WAIT_SECONDS
                stored = await self._queue.paint(picture, client_id(request.scope), seconds)
            except Busy as error:
                retry_after = error.retry_after
            except PageFailed:
                retry_after = 0
        if stored is not None:
            return _picture_response(stored, picture, request)
        retry = {"retry-after": str(retry_after)} if retry_after else {}
        return _ornament_response(picture, {"cache-control": "no-store", **retry})


def _ornament_response(picture: PictureRequest, headers: Mapping[str, str]) -> Response:
    svg = standalone_ornament(picture.prompt, picture.width, picture.height)
    return Response(svg, 200, {**_HEADERS, **headers, "x-picture": "ornament"}, "image/svg+xml")


def _picture_response(stored: StoredPicture, picture: PictureRequest, request: Request) -> Response:
    # A picture is painted once, so its key is its ETag.
    etag = f'"{picture.key}"'
    headers = {**_HEADERS, "cache-control": "private, max-age=604800", "etag": etag, "x-picture": "painted"}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(stored.content, 200, headers, stored.media_type)
