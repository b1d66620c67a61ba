"""The script with the texts of the other scripts, in the language of a page."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..core.assets import IMMUTABLE
from ..core.paths import FRAMEWORK_PREFIX, TEXTS_PATH
from ..rendering.script_texts import script_version, texts_script
from .site import GetSite


def texts_route(get_site: GetSite) -> Route:
    """Return the route of the script. Responses to its current URL are immutable."""

    async def show(request: Request) -> Response:
        site = await get_site()
        script = texts_script(site.renderer.language(request.query_params.get("lang", "")))
        is_current = request.query_params.get("v") == script_version(script)
        headers = {"cache-control": IMMUTABLE if is_current else "no-cache", "x-content-type-options": "nosniff"}
        return Response(script.encode("utf-8", "replace"), 200, headers, "text/javascript; charset=utf-8")

    return Route("/" + TEXTS_PATH.removeprefix(FRAMEWORK_PREFIX), show, methods=["GET"], name="texts")
