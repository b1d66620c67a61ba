"""Boxes: the documents of apps that a model wrote, each served into a frame that can reach nothing; and what they keep.

The frame has ``sandbox="allow-scripts"`` and no more, so its document has no origin: no cookies, no storage, no way to
the page around it. Its own policy leaves it no network. The policy of the page lets the frame go nowhere but here. What
no policy closes, ``box-guest.js`` does, which is put before the model's text. What is left is ``box-host.js``: a few messages.
"""

from __future__ import annotations

import json
import re
import time
from collections import OrderedDict, deque
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ..core.assets import asset_dir
from ..core.errors import BadAddress, UnwrittenError
from ..formats.app import extract_document, text_hash
from ..security.client_address import client_id
from ..security.headers import is_same_origin
from ..storage.database import Database
from .site import GetSite, Site

FORMAT = "app"


STATE_LIMIT = 16 * 1024
"""Bytes that a box may keep."""


SAVES, SECONDS = 30, 10.0
"""Times that one visitor may have boxes keep something, in so many seconds."""


POLICY = "; ".join(
    [
        "sandbox allow-scripts",
        "default-src 'none'",
        "script-src 'unsafe-inline'",
        "style-src 'unsafe-inline'",
        "img-src data: blob:",
        "media-src data: blob:",
        "font-src data:",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-src 'none'",
        "worker-src 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types default",
        "frame-ancestors 'self'",
    ]
)


_HEADERS = {
    "content-security-policy": POLICY,
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-dns-prefetch-control": "off",
}


# Elements that would open a document or a connection, wherever "<" stands before their name; box-guest.js has the same
# list for what is made later. The parser ends a name at exactly these characters.
_CLOSED = re.compile(
    r"<(/?)(?=(?:iframe|frame|frameset|object|embed|applet|link|base|portal|fencedframe|webview)[\t\n\f\r />])", re.I
)


_HTTP_EQUIV = re.compile(r"http-equiv", re.I)


class BoxStore:
    """What boxes keep, by page and region, in the app's database."""

    def __init__(self) -> None:
        self._saves: OrderedDict[str, deque[float]] = OrderedDict()

    def state(self, database: Database, page: str, region: str) -> str | None:
        """What a box kept last, as JSON; None if nothing."""
        rows = database.read("SELECT state FROM boxes WHERE page = ? AND region = ?", (page, region))
        return str(rows[0][0]) if rows else None

    async def save(self, database: Database, page: str, region: str, state: str) -> None:
        """Keep the state of a box. The last one wins.

        Raises:
            BadAddress: if it is no JSON, or more than ``STATE_LIMIT``.
            StoreError: if it could not be written.
        """
        if len(state.encode("utf-8", "replace")) > STATE_LIMIT:
            raise BadAddress(f"A box keeps up to {STATE_LIMIT // 1024} kB of JSON, and this is more.", 413)
        try:
            json.loads(state)
        except (ValueError, RecursionError):
            raise BadAddress("A box keeps JSON, and this is none.") from None
        row = {"page": page, "region": region, "state": state, "saved_at": datetime.now(UTC).isoformat()}
        await database.write(lambda tables: tables.table("boxes").upsert(row, pk=("page", "region")))

    def admit(self, visitor: str) -> None:
        """Take note that a visitor's box keeps something.

        Raises:
            BadAddress: with status 429, if that is too often.
        """
        now = time.monotonic()
        times = self._saves.setdefault(visitor, deque())
        self._saves.move_to_end(visitor)
        while len(self._saves) > 10_000:
            self._saves.popitem(last=False)
        while times and now - times[0] > SECONDS:
            times.popleft()
        if len(times) >= SAVES:
            raise BadAddress(f"A box may keep its state {SAVES} times in {SECONDS:.0f} s, and this is more often.", 429)
        times.append(now)


def find_text(site: Site, page: str, region: str, wanted: str | None = None) -> str | None:
    """The text of an app: one that was written just now, or is kept, in whichever version.

    Args:
        site: The app's components.
        page: the page's key.
        region: the region's name.
        wanted: the text's hash; None takes any.
    """
    job = site.jobs.recent(page)
    region_job = job.regions.get(region) if job else None
    texts = (
        [region_job.frame.text]
        if region_job and region_job.state == "written" and region_job.format.name == FORMAT
        else []
    )
    texts += [
        text
        for (text,) in site.store.database.read(
            "SELECT c.text FROM canvases c JOIN versions v ON v.id = c.version JOIN pages p ON p.id = v.page "
            "WHERE p.key = ? AND c.name = ? AND c.format = ? ORDER BY v.number DESC LIMIT ?",
            (page, region, FORMAT, 1 if wanted is None else 1000),
        )
    ]
    return next((text for text in texts if wanted in (None, text_hash(text))), None)


def document(text: str, state: str | None) -> str:
    """The document of a box: our side of the wall, and then the model's text, without what would open a connection.

    Args:
        text: the model's.
        state: what the box kept last, as JSON.

    Raises:
        PageFailed: if there is no document in the text.
    """
    inside = (asset_dir("static") / "box-guest.js").read_text(encoding="utf-8")
    kept = (state or "null").replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    body = _HTTP_EQUIV.sub("x-http-equiv", _CLOSED.sub(r"<\1x-", extract_document(text)))
    prelude = inside.replace("/*kept*/ null", kept, 1)
    # The policy once more, for a document that comes without its headers: from a file, say.
    policy = "; ".join(rule for rule in POLICY.split("; ") if not rule.startswith(("sandbox", "frame-ancestors")))
    meta = f'<meta charset="utf-8"><meta http-equiv="content-security-policy" content="{policy}">'
    return f"<!doctype html>{meta}<script>{prelude}</script>{body}"


def box_routes(get_site: GetSite) -> list[BaseRoute]:
    """Return the routes of boxes."""
    boxes = BoxStore()

    async def show(request: Request) -> Response:
        site = await get_site()
        page, region = _place(request.query_params)
        if request.headers.get("sec-fetch-dest") == "document":
            return Response(
                status_code=303, headers={"location": site.mount.url(page)}
            )  # alone in a tab it is nobody's page
        text = find_text(site, page, region, request.query_params.get("text"))
        if text is None:
            return HTMLResponse("<!doctype html><p>This app is not here any more.", 404, _HEADERS)
        return HTMLResponse(document(text, boxes.state(site.store.database, page, region)), headers=_HEADERS)

    async def state(request: Request) -> Response:
        try:
            site = await get_site()
            return await (_save if request.method == "POST" else _load)(boxes, site, request)
        except UnwrittenError as error:  # box-host.js reads it, not a person
            return JSONResponse({"message": str(error)}, getattr(error, "status", 503), _JSON)

    return [
        Route("/box", show, name="box"),
        Route("/box/state", state, methods=["GET", "POST"], name="box_state"),
    ]


_JSON = {
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
    "x-content-type-options": "nosniff",
}


async def _load(boxes: BoxStore, site: Site, request: Request) -> Response:
    page, region = _place(request.query_params)
    if find_text(site, page, region) is None:
        raise BadAddress(f"The page {page} has no app {region!r}.", 404)
    return JSONResponse({"state": boxes.state(site.store.database, page, region)}, headers=_JSON)


async def _save(boxes: BoxStore, site: Site, request: Request) -> Response:
    if not is_same_origin(request.headers.get("origin"), request.headers.get("host")):
        raise BadAddress("A box keeps its state from its own page only.", 403)
    boxes.admit(client_id(request.scope))
    given = await _body(request)
    page, region = _place(given)
    if find_text(site, page, region) is None:
        raise BadAddress(f"The page {page} has no app {region!r}, so nothing can be kept for it.", 404)
    await boxes.save(site.store.database, page, region, given["state"])
    return JSONResponse({}, headers=_JSON)


async def _body(request: Request) -> dict[str, str]:
    """The JSON object of a request, with texts for page, region and state and nothing else."""
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > 3 * STATE_LIMIT:  # quotes in a state are escaped, in the state and again in the request
            raise BadAddress(f"A box keeps up to {STATE_LIMIT // 1024} kB of JSON, and this is more.", 413)
    try:
        given: Any = json.loads(content)
    except (ValueError, RecursionError):
        given = None
    fields = {"page", "region", "state"}
    if not isinstance(given, dict) or set(given) != fields or not all(isinstance(v, str) for v in given.values()):
        raise BadAddress("A box sends a JSON object of three texts: page, region and state.")
    return given


def _place(given: Any) -> tuple[str, str]:
    page, region = given.get("page"), given.get("region")
    if not page or not region or not page.startswith("/") or page.startswith("//") or not page.isascii():
        raise BadAddress("A box is named by the key of its page and the name of its region.")
    return page, region
