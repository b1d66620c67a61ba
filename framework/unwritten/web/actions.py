"""Actions: what happens when a visitor sends a form, from the request to the answer, read from top to bottom.

1. Where does it come from? A page of ours, by its browser's word and by the token that the page gave to the form.
2. What was typed? Fields are read by their types; what does not fit is said beside the field, and nothing is lost.
3. Was it sent before? The same form with the same content is answered as the first time.
4. The function runs in one transaction, with the answer kept in it.
5. Whoever looks sees the change, and canvases that are new are written.
6. The answer: back to the page, another page, or whatever the function returned.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ..core.errors import BadApp, BadForm, TimedOut
from ..core.mount import MountPoint
from ..core.settings import Settings
from ..rendering.renderer import Renderer
from ..routing.form_fields import FormState, Pairs, submitted_pairs
from ..routing.resolver import PageResolver
from ..routing.routes import PageRequest
from ..security.headers import is_same_origin
from ..security.signer import Signer, VisitorCookie
from ..storage.database import Database
from ..storage.transactions import Transaction, active
from .forms import PAGE, TOKEN, ActionRoute, FormTags
from .live_updates import LiveUpdates
from .page_handler import PageHandler

REMEMBERED = 24 * 3600.0
"""Seconds that the answer to a form is remembered."""


_KEY = re.compile(r"/(?![/\\])[^\x00-\x1f\x7f]*$")


_LARGEST = 64 * 1024
"""Bytes of a response of an author's own that is given again to a form that is sent again."""


class Redraw:
    """An action's answer: back to the page where the form stands, with these of its regions made anew.

    Regions of state are drawn again, which they are in any case when what they show has changed. Canvases are written
    again now. Of several canvases under one name, ``"replies-12"`` is one and ``"replies"`` are all of them.
    """

    def __init__(self, *names: str) -> None:
        self.names = names

    def __repr__(self) -> str:
        return f"Redraw({', '.join(map(repr, self.names))})"


class ActionHandler:
    """Answers the forms of one app.

    Args:
        settings: ``form_size``, ``function_time_limit`` and ``title_length``.
        mount: The prefix under which the app is served.
        signer: Verifies forms.
        forms: Makes the attributes of forms.
        visitor_cookie: Recognizes visitors' browsers.
        database: The database of pages and tables.
        resolver: Resolves the page where a form stands.
        renderer: The app's renderer.
        handler: Answers with that page.
        updates: Shows what has changed.
        write_lock: Held while an action writes to tables. SQLite allows one writer; waiting here costs nothing.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        mount: MountPoint,
        signer: Signer,
        forms: FormTags,
        visitor_cookie: VisitorCookie,
        database: Database,
        resolver: PageResolver,
        renderer: Renderer,
        handler: PageHandler,
        updates: LiveUpdates,
        write_lock: asyncio.Lock,
    ) -> None:
        self._settings = settings
        self._mount = mount
        self._signer = signer
        self._forms = forms
        self._visitor_cookie = visitor_cookie
        self._database = database
        self._resolver = resolver
        self._renderer = renderer
        self._handler = handler
        self._updates = updates
        self._write_lock = write_lock

    async def handle(self, request: Request, route: ActionRoute) -> Response:
        """Answer a POST of a form.

        Raises:
            BadForm, BadAddress, TimedOut, BadApp, StoreError: as the case may be; the app turns them into pages.
        """
        if _from_elsewhere(request.headers):
            raise BadForm("This form was sent from a page that is not one of this app's, so nothing was done.", 403)
        pairs = await submitted_pairs(request, self._settings.form_size)
        path = route.pattern.build(route.pattern.parse_request(request.path_params, self._settings.title_length))
        arguments = route.function.parse(route.pattern.parse_request(request.path_params, self._settings.title_length), {})
        page = request.query_params.get(PAGE, "")
        token, _, key = request.query_params.get(TOKEN, "").rpartition(".")
        found = self._signer.verify_form(token, path, page)
        if found != "good":
            return self._give_back(route, path, page if _KEY.match(page) else "", pairs, found)
        read = route.function.form.parse(pairs)
        if isinstance(read, FormState):
            return await self._say_what_is_wrong(request, route, path, page, pairs, read)
        once = _Once(path, key if re.fullmatch(r"[\w-]{8,64}", key) else "", pairs)
        async with self._write_lock:
            before = self._answered(once)
            if before is not None:
                return before
            visit, cookie = self._resolver.visit(request, page or path), ""
            if route.function.wants_visit and not visit.visitor:
                cookie, visitor = self._visitor_cookie.new()
                visit = replace(visit, visitor=visitor)
            try:
                response, names, written = await self._run(route, {**arguments, **read}, visit, request, page, once)
            except ValidationError as error:  # of a model that the function made from its fields
                state = route.function.form.explain(pairs, error)
                return await self._say_what_is_wrong(request, route, path, page, pairs, state)
            if cookie:
                self._visitor_cookie.set_on(response, cookie, request)
        await self._updates.acted(page, written, names, request)
        return self._handler.sign_redirect(response, request)

    async def _run(
        self, route: ActionRoute, arguments: Mapping[str, Any], visit: Any, request: Request, page: str, once: _Once
    ) -> tuple[Response, Sequence[str], set[str]]:
        """Call the function, and keep all that it wrote, and its answer; or nothing."""
        transaction = Transaction(self._database, route.name)
        limit = self._settings.function_time_limit
        try:
            if route.function.is_async:  # on the event loop, its first statement must not wait for the lock
                await asyncio.to_thread(transaction.begin)
            with active(transaction):
                result = await route.function.run(arguments, visit, request, limit)
            names = result.names if isinstance(result, Redraw) else ()
            response = self._response_of(result, route.name, page or "/")
            if once.key:
                await asyncio.to_thread(transaction.use, lambda connection: _remember(connection, once, response))
            await asyncio.to_thread(transaction.commit)
        except TimedOut:
            transaction.roll_back(
                f"The {limit:g} seconds of the action {route.name!r} are over, and all that it wrote was taken back."
            )
            raise TimedOut(
                f"The action {route.name!r} did not answer within {limit:g} seconds. All that it wrote was taken back."
            ) from None
        except BaseException:
            transaction.roll_back(f"The action {route.name!r} has failed, and all that it wrote was taken back.")
            raise
        return response, names, transaction.written

    def _answered(self, once: _Once) -> Response | None:
        """The answer to a form that was sent before; None if it was not."""
        if not once.key:
            return None
        rows = self._database.read(
            "SELECT answer FROM actions WHERE action = ? AND key = ? AND content = ? AND at > ?",
            (once.action, once.key, once.content, time.time() - REMEMBERED),
        )
        return _thawed(rows[0][0]) if rows else None

    # -- what cannot be taken -----------------------------------------------------------------------------

    def _give_back(self, route: ActionRoute, path: str, page: str, pairs: Pairs, found: str) -> Response:
        """Nothing was done, but nothing that was typed is lost: it can be sent again."""
        words = (
            "This form was open for more than a day, so nothing was done yet. What you typed is here: send it again."
            if found == "stale"
            else "This form does not come from a page of this app as it is now, so nothing was done yet. "
            "What you typed is here: look at it, and send it again."
        )
        return self._again(409 if found == "stale" else 403, route, path, page, pairs, words, {})

    def _again(
        self, status: int, route: ActionRoute, path: str, page: str, pairs: Pairs, words: str, errors: Mapping[str, str]
    ) -> Response:
        values = {
            "title": "Send it again" if status != 422 else "Not quite",
            "message": words,
            "back": self._mount.url(page or "/"),
            "typed": [(name, value, errors.get(name, "")) for name, value in pairs],
            "attributes": self._forms.attributes(path, page),
        }
        response = self._renderer.template("resubmit.html", values)
        response.status_code = status
        response.headers["cache-control"] = "no-store"
        return response

    async def _say_what_is_wrong(
        self, request: Request, route: ActionRoute, path: str, page: str, pairs: Pairs, form: FormState
    ) -> Response:
        """The page again, with what was typed and what is wrong with it."""
        page_request = None
        if page:
            page_request = await self._resolver.resolve_key(page, request.scope)
        if isinstance(page_request, PageRequest):
            return self._handler.page_with_form(page_request, form)
        words = form.message or "Something in it does not fit yet."
        return self._again(422, route, path, page, pairs, words, dict([*form.errors]))

    def _response_of(self, result: object, action: str, page: str) -> Response:
        if isinstance(result, Response):
            return result
        if result is None or isinstance(result, Redraw):
            return RedirectResponse(self._mount.url(page), 303)
        if isinstance(result, str) and _KEY.match(result):
            return RedirectResponse(self._mount.url(result), 303)
        raise BadApp(
            f"The action {action!r} returned {result!r}, which cannot be answered. Return None, Redraw('name'), the key "
            "of a page such as app.url_path_for('thread', id=3), or a Starlette Response."
        )


def _from_elsewhere(headers: Headers) -> bool:
    """Whether a browser says that a page of somebody else sent a form."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in {"same-origin", "none"}
    return not is_same_origin(headers.get("origin"), headers.get("host"))


class _Once:
    """What makes a form the same as one that was sent before."""

    def __init__(self, action: str, key: str, pairs: Pairs) -> None:
        self.action = action
        self.key = key
        content = json.dumps(sorted(pairs), ensure_ascii=True)
        self.content = hashlib.sha256(content.encode()).hexdigest()


def _remember(connection: sqlite3.Connection, once: _Once, response: Response) -> None:
    now = time.time()
    connection.execute("DELETE FROM actions WHERE at < ?", (now - REMEMBERED,))
    connection.execute(
        "INSERT OR REPLACE INTO actions (action, key, content, answer, at) VALUES (?, ?, ?, ?, ?)",
        (once.action, once.key, once.content, _frozen(response), now),
    )


def _frozen(response: Response) -> str:
    body = getattr(response, "body", None)
    if not isinstance(body, (bytes, memoryview)) or len(body) > _LARGEST:
        return json.dumps({"status": 204, "headers": [], "body": ""})
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.raw_headers]
    return json.dumps(
        {"status": response.status_code, "headers": headers, "body": base64.b64encode(bytes(body)).decode()}
    )


def _thawed(answer: str) -> Response:
    kept = json.loads(answer)
    response = Response(base64.b64decode(kept["body"]), kept["status"])
    response.raw_headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in kept["headers"]]
    return response
