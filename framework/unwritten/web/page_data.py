"""Pages as data: a page as a JSON document, for programs. Reading it never generates anything.

``/wiki/Tea.json`` is the data of the page ``/wiki/Tea``, and so is the page's own URL for a client that prefers JSON. A
page whose own URL ends in ``.json`` takes precedence: one that is declared, written or being written, or that a signed
link leads to. Links to unwritten pages of that kind are always signed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ..core.errors import BadURL
from ..core.localization import Localization
from ..core.localization import gettext_lazy as _
from ..core.mount import MountPoint
from ..core.paths import DATA_SUFFIX, WRITE_PATH, page_key, url_of_key, variant_of
from ..formats.page import Canvas
from ..generation.job_queue import JobQueue
from ..generation.page_job import PageJob
from ..generation.region_job import RegionJob
from ..generation.unfinished_pages import UnfinishedPages
from ..routing.access import PageAccess
from ..routing.page_function import VERSION
from ..routing.redirects import CanonicalRedirect, PageRedirect
from ..routing.routes import PageRequest, PageRoute
from ..security.headers import NO_STORE, NOINDEX, PROBLEM_KEY, is_cached_copy
from ..security.owner import Owner
from ..security.signed_links import url_of
from ..storage.pages import PageStore
from ..storage.records import Provenance, StoredCanvas, StoredPage
from .page_cache import cache_headers, stored_version

RETRY_SECONDS = 2
"""Seconds after which a program should ask again for a page that is being written."""

MAX_VERSIONS = 100
"""Maximum number of versions in a document, the newest first. The history has all."""

_HEADERS = {"x-content-type-options": "nosniff", **NOINDEX}


class PageData:
    """Responds with the data of pages.

    Args:
        mount: The prefix under which the app is served.
        access: Decides who may read a page.
        store: The stored pages.
        jobs: The pages that are being generated.
        unfinished: The pages that wait to be continued.
        owner: Recognizes the owner, who sees the prompts.
        localization: The languages of messages.
    """

    def __init__(
        self,
        *,
        mount: MountPoint,
        access: PageAccess,
        store: PageStore,
        jobs: JobQueue,
        unfinished: UnfinishedPages,
        owner: Owner,
        localization: Localization,
    ) -> None:
        self._mount = mount
        self._access = access
        self._store = store
        self._jobs = jobs
        self._unfinished = unfinished
        self._owner = owner
        self._localization = localization

    async def respond_to_suffix(self, request: Request, route: PageRoute | None, key: str) -> Response | None:
        """Respond to a URL that ends in ``.json``. None if it is the URL of a page.

        Args:
            request: The request.
            route: The page that the URL matches. None: it matches no route.
            key: The key that this page has, or "".

        Raises:
            BadURL: If the visitor may not read the page, or it has no such version.
        """
        if route is not None and (route.path.endswith(DATA_SUFFIX) or (key and self._is_page(key, route))):
            return None
        path, mark, query = url_of(request.scope).removeprefix(self._mount.prefix).partition("?")
        target = page_key(path.removesuffix(DATA_SUFFIX) + mark + query)
        if target is None or not self._access.is_page(target):
            return None
        request.scope[PROBLEM_KEY] = True
        found = await self._access.resolve_key(target, request.scope)
        if isinstance(found, CanonicalRedirect):
            path, mark, query = found.key.partition("?")
            return PageRedirect(self._mount, path + DATA_SUFFIX + mark + query, 302)
        if found is None:
            raise BadURL(_("There is no page at %(path)s.", path=target), 404)
        return found if isinstance(found, Response) else self.respond(found, request)

    def _is_page(self, key: str, route: PageRoute) -> bool:
        """True if there is a page with this key, or a variant of it: it is stored, or was started."""
        is_started = self._jobs.is_active(key) or self._jobs.recent(key) is not None or key in self._unfinished
        has_variant = route.vary is not None and self._store.count_variants(key) > 0
        return is_started or has_variant or bool(self._store.exists([key]))

    def respond(self, page_request: PageRequest, request: Request) -> Response:
        """Respond with the data of a page: 200 if it is written, 202 while it is being written, and otherwise 404.

        Raises:
            BadURL: If it has no such version.
        """
        request.scope[PROBLEM_KEY] = True
        version = request.query_params.get(VERSION)
        if version is not None:
            stored: StoredPage | None = stored_version(self._store, page_request, version)
        else:
            stored = self._store.get(page_request.key)
        with_prompts = self._owner.owns(request.scope)
        document = self._document(page_request, stored, with_prompts=with_prompts, is_version=version is not None)
        body = json.dumps(document, ensure_ascii=False, indent=1).encode("utf-8", "backslashreplace")
        status = {"unwritten": 404, "queued": 202, "writing": 202}.get(document["state"], 200)
        # Not open: the owner of the app gets more fields than other clients.
        headers = {**_HEADERS, **cache_headers(page_request.route, is_open=False)}
        if status == 200 or stored is not None:
            etag = f'W/"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
            headers["etag"] = etag
            if is_cached_copy(request.scope, etag):
                return Response(status_code=304, headers=headers)
            return Response(body, 200, headers, "application/json")
        retry = {"retry-after": str(RETRY_SECONDS)} if status == 202 else {}
        return Response(body, status, {**headers, **NO_STORE, **retry}, "application/json")

    def _document(
        self, page_request: PageRequest, stored: StoredPage | None, *, with_prompts: bool, is_version: bool
    ) -> dict[str, Any]:
        key, declared = page_request.key, page_request.page.canvases
        job = None if is_version else self._jobs.get(key)
        if job is not None and job.finished.is_set():
            job = None
        texts = stored.canvases if stored else {}
        if is_version:
            canvases = {name: _stored_canvas(texts[name], with_prompts) for name in texts}
        else:
            canvases = {name: _canvas(declared[name], texts.get(name), job, name, with_prompts) for name in declared}
        state, message = self._state(key, stored, job, canvases, is_version=is_version)
        document: dict[str, Any] = {
            "key": url_of_key(key),
            "url": self._mount.url(url_of_key(key)),
            "variant": variant_of(key),
            "title": page_request.title,
            "state": state,
            "message": self._localization.get(page_request.page.lang).text(message),
            "version": stored.version if stored else None,
            "written_at": stored.written_at.isoformat() if stored else None,
            "provenance": _provenance(stored.provenance) if stored else None,
            "canvases": canvases,
            "links": None if is_version else self._links(page_request) if stored else [],
            "versions": self._versions(key) if stored else [],
        }
        if state == "unwritten":
            fields = {"page": url_of_key(key)}
            document["write"] = {"method": "POST", "url": self._mount.url(WRITE_PATH), "fields": fields}
        return document

    def _state(
        self,
        key: str,
        stored: StoredPage | None,
        job: PageJob | None,
        canvases: Mapping[str, Mapping[str, Any]],
        *,
        is_version: bool,
    ) -> tuple[str, str]:
        """Return a page's state, and a sentence about it or ""."""
        if job is not None:
            return job.state, job.message
        if self._jobs.is_elsewhere(key) and not is_version:
            return "writing", ""
        if stored is None and canvases:
            previous = self._jobs.recent(key)
            failed = previous.message if previous else ""
            return "unwritten", _("The last attempt failed: %(reason)s", reason=failed) if failed else ""
        is_complete = all(canvas["state"] == "written" for canvas in canvases.values())
        return ("written" if is_complete else "incomplete"), ""

    def _links(self, page_request: PageRequest) -> list[dict[str, Any]]:
        links = self._store.links_from(page_request.key)
        written = page_request.linker.find_written([link.key for link in links])
        return [
            {"key": url, "url": self._mount.url(url), "text": link.text, "written": link.key in written}
            for link in links
            for url in [url_of_key(link.key)]
        ]

    def _versions(self, key: str) -> list[dict[str, Any]]:
        return [
            {
                "version": version.number,
                "written_at": version.written_at.isoformat(),
                "model": version.model,
                "kind": version.change.kind,
                "note": version.change.note,
                "base": version.change.base,
                "regions": version.change.regions,
            }
            for version in self._store.history(key, MAX_VERSIONS)
        ]


def _canvas(
    canvas: Canvas, stored: StoredCanvas | None, job: PageJob | None, name: str, with_prompts: bool
) -> dict[str, Any]:
    """Return a canvas as it is now."""
    region_job: RegionJob | None = job.regions.get(name) if job is not None else None
    if region_job is not None and region_job.state != "written":
        return _unfinished_canvas(canvas, region_job.state, region_job.frame.text)
    if region_job is not None:
        return _stored_canvas(region_job.to_stored(), with_prompts)
    if stored is None or stored.format != canvas.resolved_format.name:
        return _unfinished_canvas(canvas, "unwritten", "")
    return _stored_canvas(stored, with_prompts)


def _unfinished_canvas(canvas: Canvas, state: str, text: str) -> dict[str, Any]:
    schema = canvas.schema.__name__ if canvas.schema else ""
    return {"format": canvas.resolved_format.name, "schema": schema, "state": state, "text": text, "value": None}


def _stored_canvas(stored: StoredCanvas, with_prompts: bool) -> dict[str, Any]:
    return {
        "format": stored.format,
        "schema": stored.schema,
        "state": "written",
        "text": stored.text,
        "value": _value(stored.text) if stored.schema else None,
        **{name: getattr(stored, name) for name in ("seed", "tokens", "steps", "seconds", "reason", "repairs")},
        **({"prompt": _value(stored.prompt)} if with_prompts else {}),
    }


def _provenance(provenance: Provenance) -> dict[str, Any]:
    return {name: value for name, value in asdict(provenance).items() if name != "opened_after"}


def _value(text: str) -> Any:
    """Return a value from its JSON. None if it is not valid; numbers that JSON cannot hold are None, too."""
    try:
        return json.loads(text, parse_constant=lambda name: None, parse_float=_finite)
    except (ValueError, RecursionError):
        return None


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None
