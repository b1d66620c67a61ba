"""Boxes: apps that a model wrote, each served into a sandboxed iframe without network access, and their saved state.

The iframe has ``sandbox="allow-scripts"`` and nothing else, so its document has an opaque origin: no cookies, no
storage, no access to the page around it. Its own policy forbids all connections, and the policy of the page forbids the
frame to navigate to any other URL. ``box-guest.js`` runs before the model's text and removes what no policy forbids.
The only way out is the messages that ``box-host.js`` accepts.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from unwritten_engine import EngineError

from ..core.assets import asset_dir
from ..core.errors import BadURL, Denied, UnwrittenError
from ..core.incidents import report_to_visitor
from ..core.localization import Language
from ..core.localization import gettext_lazy as _
from ..core.paths import page_key
from ..core.text import is_text
from ..formats.app import extract_document, text_hash
from ..routing.redirects import PageRedirect
from ..security.client_address import client_id
from ..security.headers import is_cross_origin
from ..security.rate_limits import ClientWindows
from ..storage.database import Connection, Database, insert_row
from .site import GetSite, Site

log = logging.getLogger("unwritten")

FORMAT = "app"

MAX_STATE_SIZE = 16 * 1024
"""Maximum size in bytes of the state, as JSON, that a box saves."""

MAX_SAVES, SAVE_WINDOW = 30, 10.0
"""Maximum number of saves by one client's boxes, and the length of the window in seconds."""

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
"""The content security policy of a box."""

_HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-dns-prefetch-control": "off",
}

_JSON_HEADERS: Mapping[str, str] = {
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
    "x-content-type-options": "nosniff",
}

# Elements that open a document or a connection, wherever "<" precedes their name. box-guest.js has the same list
# for elements that are created later. HTML parsers end a name at exactly these characters.
_FORBIDDEN = re.compile(
    r"<(/?)(?=(?:iframe|frame|frameset|object|embed|applet|link|base|portal|fencedframe|webview)[\t\n\f\r />])", re.I
)

_HTTP_EQUIV = re.compile(r"http-equiv", re.I)


def saved_state(database: Database, page: str, region: str) -> str | None:
    """Return the state that a box saved last, as JSON, or None."""
    rows = database.read("SELECT state FROM boxes WHERE page = ? AND region = ?", (page, region))
    return str(rows[0][0]) if rows else None


async def save_state(database: Database, page: str, region: str, state: str) -> None:
    """Save the state of a box. It replaces the one before.

    Raises:
        BadURL: If it is not JSON, or larger than ``MAX_STATE_SIZE``.
        StoreError: If it could not be written.
    """
    if len(state.encode("utf-8", "replace")) > MAX_STATE_SIZE:
        raise _too_large()
    try:
        json.loads(state)
    except (ValueError, RecursionError):
        raise BadURL("The state of a box must be JSON.") from None
    row = {"page": page, "region": region, "state": state, "saved_at": datetime.now(UTC).isoformat()}

    def work(connection: Connection) -> None:
        connection.execute("DELETE FROM boxes WHERE page = ? AND region = ?", (page, region))
        insert_row(connection, "boxes", row)

    await database.write(work)


def find_text(site: Site, page: str, region: str, wanted_hash: str | None = None) -> str | None:
    """Return the text of an app that was just generated or is stored, in any version. None if there is none.

    Args:
        site: The app's components.
        page: The page's key.
        region: The region's name.
        wanted_hash: The hash of the text; see ``text_hash``. None: the newest text.
    """
    job = site.jobs.recent(page)
    region_job = job.regions.get(region) if job else None
    texts = []
    if region_job and region_job.state == "written" and region_job.format.name == FORMAT:
        texts.append(region_job.frame.text)
    texts += [
        text
        for (text,) in site.store.database.read(
            "SELECT c.text FROM canvases c JOIN versions v ON v.id = c.version JOIN pages p ON p.id = v.page "
            "WHERE p.key = ? AND c.name = ? AND c.format = ? ORDER BY v.number DESC LIMIT ?",
            (page, region, FORMAT, 1 if wanted_hash is None else 1000),
        )
    ]
    return next((text for text in texts if wanted_hash in (None, text_hash(text))), None)


def box_document(text: str, state: str | None, language: Language | None = None) -> str:
    """Return the document of a box: ``box-guest.js``, then the model's text without elements that open connections.

    Args:
        text: The model's text.
        state: The saved state, as JSON.
        language: The language of the text for browsers that are too old. None: English.

    Raises:
        PageFailed: If there is no document in the text.
    """
    script = (asset_dir("static") / "box-guest.js").read_text(encoding="utf-8")
    stored = (state or "null").replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    script = script.replace("/*stored*/ null", stored, 1)
    outdated = _("Apps need a browser with Trusted Types. Please update your browser.")
    script = script.replace("/*outdated*/ null", json.dumps(language.text(outdated) if language else outdated), 1)
    body = _HTTP_EQUIV.sub("x-http-equiv", _FORBIDDEN.sub(r"<\1x-", extract_document(text)))
    # The policy is repeated for a document that is opened without its headers, for example from a file.
    policy = "; ".join(rule for rule in POLICY.split("; ") if not rule.startswith(("sandbox", "frame-ancestors")))
    meta = f'<meta charset="utf-8"><meta http-equiv="content-security-policy" content="{policy}">'
    return f"<!doctype html>{meta}<script>{script}</script>{body}"


def box_routes(get_site: GetSite) -> list[BaseRoute]:
    """Return the routes of boxes: their documents, and their saved states."""
    saves = ClientWindows(SAVE_WINDOW)

    async def show(request: Request) -> Response:
        site = await get_site()
        page, region = _page_and_region(request.query_params)
        if request.headers.get("sec-fetch-dest") == "document":  # opened in a tab, without the page around it
            return PageRedirect(site.mount, (await site.handler.find_page(page, request)).key)
        await _check_access(site, page, region, request)
        text = find_text(site, page, region, request.query_params.get("text"))
        language = site.renderer.language()
        if text is None:
            message = language.text(_("This app does not exist any more."))
            return HTMLResponse(f"<!doctype html><p>{message}", 404, _HEADERS)
        document = box_document(text, saved_state(site.store.database, page, region), language)
        return HTMLResponse(document, headers=_HEADERS)

    async def state(request: Request) -> Response:
        try:
            site = await get_site()
            if request.method == "POST":
                return await _save(saves, site, request)
            return await _load(site, request)
        except (UnwrittenError, EngineError) as error:  # box-host.js expects JSON
            message = report_to_visitor(log, request.url.path, error)
            status = 403 if isinstance(error, Denied) else getattr(error, "status", 503)
            return JSONResponse({"message": message}, status, _JSON_HEADERS)

    return [
        Route("/box", show, name="box"),
        Route("/box/state", state, methods=["GET", "POST"], name="box_state"),
    ]


async def _load(site: Site, request: Request) -> Response:
    page, region = _page_and_region(request.query_params)
    await _check_access(site, page, region, request)
    _check_exists(site, page, region)
    return JSONResponse({"state": saved_state(site.store.database, page, region)}, headers=_JSON_HEADERS)


async def _save(saves: ClientWindows, site: Site, request: Request) -> Response:
    if is_cross_origin(request.headers):
        raise BadURL("The state of a box can only be saved from its own page.", 403)
    now, window = time.monotonic(), saves[client_id(request.scope)]
    if window.total(now) >= MAX_SAVES:
        raise BadURL(f"A box may save its state {MAX_SAVES} times in {SAVE_WINDOW:.0f} s.", 429)
    window.add(now)
    values = await _read_json(request)
    page, region = _page_and_region(values)
    await _check_access(site, page, region, request)
    _check_exists(site, page, region)
    await save_state(site.store.database, page, region, values["state"])
    return JSONResponse({}, headers=_JSON_HEADERS)


async def _read_json(request: Request) -> dict[str, str]:
    """Return the JSON object in a request, which has the strings page, region and state."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > 3 * MAX_STATE_SIZE:  # quotes in the state are escaped twice
            raise _too_large()
    try:
        values: Any = json.loads(body)
    except (ValueError, RecursionError):
        values = None
    names = {"page", "region", "state"}
    if not isinstance(values, dict) or set(values) != names or not all(map(_is_text, values.values())):
        raise BadURL("A box sends a JSON object with three strings: page, region and state.")
    return values


def _is_text(value: object) -> bool:
    return isinstance(value, str) and is_text(value)


def _page_and_region(values: Mapping[str, str]) -> tuple[str, str]:
    page, region = page_key(values.get("page") or ""), values.get("region")
    if page is None or not region or not is_text(region):
        raise BadURL("A box is identified by the key of its page and the name of its region.")
    return page, region


async def _check_access(site: Site, page: str, region: str, request: Request) -> None:
    """Check that the visitor may read the page of a box.

    Raises:
        BadURL: If the visitor may not, with the same message as if there were no box.
    """
    if not await site.access.may_read(page, request.scope):
        raise _not_found(page, region)


def _check_exists(site: Site, page: str, region: str) -> None:
    if find_text(site, page, region) is None:
        raise _not_found(page, region)


def _not_found(page: str, region: str) -> BadURL:
    return BadURL(f"The page {page} has no app {region!r}.", 404)


def _too_large() -> BadURL:
    return BadURL(f"A box may save up to {MAX_STATE_SIZE // 1024} kB of state.", 413)
