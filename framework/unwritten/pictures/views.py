"""Pictures over HTTP: the painted one, if there is one; until then, or for ever, the ornament that stands for it."""

from __future__ import annotations

import base64
import binascii
import functools
import json
import unicodedata
import zlib
from collections.abc import Callable
from html import escape as quoted
from typing import Any

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from unwritten_engine import Progress
from unwritten_engine.text_to_image import PROMPT_LIMIT, Painter, open_painter

from ..core.assets import asset_dir
from ..core.engine_options import painter_options
from ..core.errors import BadAddress, BadTemplate, Busy, PageFailed
from ..core.mount import MountPoint
from ..core.paths import PICTURES_PREFIX
from ..core.settings import Settings
from ..formats.schema import UnsettledText
from ..security.client_address import client_id
from ..security.signer import Signer
from ..web.extension import Extension
from ..web.site import GetSite, Site
from .avatars import avatar
from .ornaments import ornament
from .painting import PaintQueue, PictureRequest, StoredPicture, painter_of, stored_picture

PATIENCE = 1.5
"""Seconds that a request waits for a picture. A browser opens few connections: a page's next click must find one."""


LOOK_AGAIN = 3
"""Seconds until a browser looks again."""


_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "cross-origin-resource-policy": "same-origin",
    "x-content-type-options": "nosniff",
}


class Pictures(Extension):
    """Ornaments, avatars and pictures: ``ornament``, ``avatar`` and ``picture`` in templates.

    Pictures are painted by a text-to-image pipeline on this machine, if the setting ``painter`` names one. Without it
    an ornament takes their place.
    """

    def __init__(self) -> None:
        self._painter: Painter | None = None
        self._queue: PaintQueue | None = None
        self._site: Site | None = None

    def prepare(self, settings: Settings, progress: Progress | None = None) -> None:
        """Open the painter, if there is one."""
        if settings.painter:
            options = painter_options(settings)
            self._painter = open_painter(str(settings.painter), progress=progress, **options)

    def scripts(self) -> list[str]:
        """Return the script that waits for pictures, if any are painted."""
        return ["pictures.js"] if self._painter else []

    def connect(self, site: Site) -> None:
        """Start the queue of pictures. It pauses while pages are generated."""
        self._site = site
        if self._painter is not None:
            self._queue = PaintQueue(self._painter, site.store.database, site.budgets, site.settings)
            site.jobs.observe(self._queue)

    async def close(self) -> None:
        """Stop painting."""
        if self._queue is not None:
            await self._queue.close()
        self._queue = self._site = self._painter = None

    def template_globals(self) -> dict[str, Callable[..., Any]]:
        """Return ``ornament``, ``avatar`` and ``picture``."""
        return {"ornament": ornament, "avatar": avatar, "picture": self.tag}

    def routes(self, get_site: GetSite) -> list[BaseRoute]:
        """Return the route of pictures."""

        async def show(request: Request) -> Response:
            return await self._show(request, await get_site())

        return [Route("/picture/{token}", show, name="picture")]

    def tag(self, prompt: str, alt: str, width: int = 512, height: int = 320) -> Markup:
        """Return an ``<img>`` element of a fixed size.

        Args:
            prompt: What the picture shows. It may be untrusted text; it is cut to 300 characters.
            alt: The text alternative. A note that the picture is generated, or an ornament, is added.
            width: In pixels. On a narrow screen the picture shrinks with its proportions.
            height: In pixels.

        Raises:
            BadTemplate: If the size is out of range.
        """
        assert self._site is not None
        return PictureTag(self._site.signer, self._site.mount, self._painter_of).tag(prompt, alt, width, height)

    def _painter_of(self, ask: PictureRequest) -> tuple[str, bool]:
        """Return the model that has painted a picture, or will, and whether the picture exists."""
        assert self._site is not None
        painted_by = painter_of(self._site.store.database, ask)
        return painted_by or (self._queue.painter.about.model if self._queue else ""), bool(painted_by)

    async def _show(self, request: Request, site: Site) -> Response:
        ask = PictureTag(site.signer, site.mount, self._painter_of).read(request.path_params["token"])
        picture = stored_picture(site.store.database, ask)
        if picture is None and self._queue is None:
            return _ornament(ask, {"cache-control": "private, max-age=3600"})
        again = LOOK_AGAIN
        if picture is None and self._queue is not None:
            try:
                patience = 0.0 if request.method == "HEAD" else PATIENCE
                picture = await self._queue.paint(ask, client_id(request.scope), patience)
            except Busy as busy:
                again = busy.retry_after
            except PageFailed:
                again = 0
        if picture is not None:
            return _painted(picture, ask, request)
        waits = {"retry-after": str(again)} if again else {}
        return _ornament(ask, {"cache-control": "no-store", **waits})


def _ornament(ask: PictureRequest, headers: dict[str, str]) -> Response:
    return Response(drawn(ask), 200, {**_HEADERS, **headers, "x-picture": "ornament"}, "image/svg+xml")


def _painted(picture: StoredPicture, ask: PictureRequest, request: Request) -> Response:
    # It is painted once: what has its key is it.
    headers = {**_HEADERS, "cache-control": "private, max-age=604800", "etag": f'"{ask.key}"', "x-picture": "painted"}
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    return Response(picture.content, 200, headers, picture.media_type)


SMALLEST, LARGEST = 16, 2048
"""Pixels along a side."""


_LONGEST = 8 * PROMPT_LIMIT


class PictureTag:
    """Makes the elements and addresses of pictures, and reads the addresses again.

    Args:
        signer: The world's signer.
        mount: The prefix under which the app is served.
        painter: who has painted a picture, or will, and whether it is there; "" if nobody does, so that it is an
            ornament.
    """

    def __init__(
        self, signer: Signer, mount: MountPoint, painter: Callable[[PictureRequest], tuple[str, bool]]
    ) -> None:
        self._signer = signer
        self._mount = mount
        self._painter = painter

    def tag(self, prompt: str, alt: str, width: int = 512, height: int = 320) -> Markup:
        """An ``<img>`` of a fixed size.

        Args:
            prompt: what is on the picture. It may be a stranger's text: it is cut to 300 characters, and only read.
            alt: what those who cannot see it are told. That it is generated, or an ornament, is added.
            width: in pixels; on a narrow screen it shrinks with its proportions.
            height: in pixels.

        Raises:
            BadTemplate: if the size is none.
        """
        for side in (width, height):
            if isinstance(side, bool) or not isinstance(side, int) or not SMALLEST <= side <= LARGEST:
                raise BadTemplate(
                    f"picture(…) takes a width and a height from {SMALLEST} to {LARGEST} pixels, not {side!r}."
                )
        size = Markup('width="{}" height="{}"').format(width, height)
        words = _plain(str(prompt or ""))
        if not words or isinstance(prompt, UnsettledText):  # it is still being written: keep its place
            blank = f"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}'/%3E"
            return Markup('<img class="picture" src="{}" alt="" {}>').format(blank, size)
        ask = PictureRequest(words, width, height)
        painter, is_there = self._painter(ask)
        told = f"{alt} (a generated picture)" if painter else f"An ornament in place of a picture: {alt}"
        title = f"Painted by {painter}; not a photograph" if painter else "An ornament, not a picture of it"
        return Markup('<img class="picture" src="{}" alt="{}" title="{}" {} loading="lazy" decoding="async"{}>').format(
            self.address(ask), told, title, size, Markup(" data-pending") if painter and not is_there else ""
        )

    def address(self, ask: PictureRequest) -> str:
        """The address of a picture."""
        text = json.dumps([ask.prompt, ask.width, ask.height], ensure_ascii=False)
        packed = zlib.compress(text.encode("utf-8", "replace"), 9)
        token = base64.urlsafe_b64encode(packed).decode().rstrip("=")
        return self._mount.url(f"{PICTURES_PREFIX}{token}.{self._signer.signature('picture', token)}")

    def read(self, address: str) -> PictureRequest:
        """What a picture is asked for with, from the last part of its address.

        Raises:
            BadAddress: 404 if it is none of ours.
        """
        token, _, signature = address.partition(".")
        if len(address) > _LONGEST or not self._signer.verify("picture", token, signature):
            raise BadAddress("There is no such picture: its address was not made by this app, or was changed.", 404)
        try:
            packed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
            prompt, width, height = json.loads(zlib.decompress(packed))
        except (binascii.Error, zlib.error, ValueError) as error:  # signed by another version, at most
            raise BadAddress(f"There is no such picture: its address cannot be read ({error}).", 404) from None
        return PictureRequest(str(prompt), int(width), int(height))


@functools.lru_cache(maxsize=256)
def drawn(ask: PictureRequest) -> bytes:
    """The ornament that stands for a picture, as an SVG of its own: with its colours in itself, for light and dark."""
    css = (asset_dir("static") / "unwritten.css").read_text(encoding="utf-8")
    rules = css.partition("/* seeded: ")[2].partition("*/")[2].partition("/* end of seeded */")[0]
    style = f":root{{color-scheme:light dark}}{' '.join(rules.split())}"
    svg = str(ornament(ask.prompt)).replace(' aria-hidden="true"', "", 1)
    svg = svg.replace('width="320" height="200"', f'width="{ask.width}" height="{ask.height}"', 1)
    head, mark, body = svg.partition(">")
    namespace = ' xmlns="http://www.w3.org/2000/svg"'
    return f"{head}{namespace}{mark}<style>{quoted(style, quote=False)}</style>{body}".encode()


def _plain(text: str) -> str:
    """A prompt on one line, without what cannot be seen, and no longer than painters read."""
    shown = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text[: 4 * PROMPT_LIMIT])
    return unicodedata.normalize("NFC", " ".join(shown.split()))[:PROMPT_LIMIT].strip()
