"""Pictures over HTTP: the painted one, if there is one; until then, or for ever, the ornament that stands for it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..errors import Busy, PageFailed
from ..guarding.visitors import client_id
from ..keeping.pictures import PictureRequest, StoredPicture, stored_picture
from ..showing.pictures import PICTURES_PREFIX, drawn

if TYPE_CHECKING:
    from ..app import App

PATIENCE = 1.5
"""Seconds that a request waits for a picture. A browser opens few connections: a page's next click must find one."""
LOOK_AGAIN = 3
"""Seconds until a browser looks again."""

_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "cross-origin-resource-policy": "same-origin",
    "x-content-type-options": "nosniff",
}
_drawn = functools.lru_cache(maxsize=256)(drawn)


def picture_routes(app: App) -> list[BaseRoute]:
    """The route of pictures, for one app."""

    async def show(request: Request) -> Response:
        serving = await app.ready()
        ask = app.pictures.read(request.path_params["token"])
        picture = stored_picture(serving.store.database, ask)
        if picture is None and serving.paint_queue is None:
            return _ornament(ask, {"cache-control": "private, max-age=3600"})
        again = LOOK_AGAIN
        if picture is None and serving.paint_queue is not None:
            try:
                patience = 0.0 if request.method == "HEAD" else PATIENCE
                picture = await serving.paint_queue.paint(ask, client_id(request.scope), patience)
            except Busy as busy:
                again = busy.retry_after
            except PageFailed:
                again = 0
        if picture is not None:
            return _painted(picture, ask, request)
        waits = {"retry-after": str(again)} if again else {}
        return _ornament(ask, {"cache-control": "no-store", **waits})

    return [Route(f"{PICTURES_PREFIX}{{token}}", show)]


def _ornament(ask: PictureRequest, headers: dict[str, str]) -> Response:
    return Response(_drawn(ask), 200, {**_HEADERS, **headers, "x-picture": "ornament"}, "image/svg+xml")


def _painted(picture: StoredPicture, ask: PictureRequest, request: Request) -> Response:
    # It is painted once: what has its key is it.
    headers = {**_HEADERS, "cache-control": "private, max-age=604800", "etag": f'"{ask.key}"', "x-picture": "painted"}
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    return Response(picture.content, 200, headers, picture.media_type)
