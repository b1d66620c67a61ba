"""The route of uploads: files that visitors have sent.

Everyone who knows a URL can read the file. The URL has a key that only this world can compute, even from the content.
No file is executed: browsers show images, and save everything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..core.localization import gettext_lazy as _
from ..formats.uploads import safe_name
from ..security.headers import is_cached_copy
from ..storage.uploads import get_upload
from .site import GetSite

_HEADERS: Mapping[str, str] = {
    "content-security-policy": "default-src 'none'; sandbox",
    "cross-origin-resource-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-robots-tag": "noindex",
    "cache-control": "private, max-age=31536000, immutable",  # the key is that of the content
}


def upload_routes(get_site: GetSite) -> list[BaseRoute]:
    """Return the route of files. Its name part is only the name under which a browser saves the file."""

    async def show(request: Request) -> Response:
        site = await get_site()
        key = request.path_params["key"]
        etag = f'"{key}"'
        stored = await asyncio.to_thread(get_upload, site.store.database, key)
        if stored is None:
            raise HTTPException(404, _("This file does not exist, or was deleted."))
        if is_cached_copy(request.scope, etag):
            return Response(status_code=304, headers={**_HEADERS, "etag": etag})
        name = quote(safe_name(request.path_params["name"]))
        kind = "inline" if stored.media_type.startswith("image/") else "attachment"
        headers = {**_HEADERS, "etag": etag, "content-disposition": f"{kind}; filename*=UTF-8''{name}"}
        response = Response(stored.content, 200, headers)
        response.headers["content-type"] = stored.media_type
        return response

    return [Route("/file/{key}/{name}", show, name="file")]
