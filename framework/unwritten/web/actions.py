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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_type_hints
from urllib.parse import urlencode

from markupsafe import Markup
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from unwritten_engine.errors import suggestion

from ..core.errors import BadApp, BadForm, TimedOut
from ..core.settings import Settings
from ..rendering.document import FORM_KEY
from ..routing.form_fields import FormParser, FormState, Pairs, submitted_pairs
from ..routing.patterns import PagePattern
from ..routing.routes import PageFunction, PageRequest, PageRoute, TextRoute
from ..security.headers import is_same_origin
from ..security.signer import VisitorCookie, sign_form, verify_form
from ..storage.transactions import Transaction, active
from .live_updates import LiveUpdates
from .page_handler import PageHandler

PAGE, TOKEN = "_page", "_form"
"""Parts of the address that a form is sent to: the page where it stands; its token, with its key."""


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


class ActionFunction(PageFunction):
    """An author's function that handles a form. What its signature asks for beyond the path comes from the form.

    Args:
        function: sync or async.
        pattern: the path pattern.

    Raises:
        BadApp: if the signature and the pattern do not fit together.
    """

    def __init__(self, function: Callable[..., Any], pattern: PagePattern) -> None:
        super().__init__(function, pattern)
        hints = get_type_hints(function, include_extras=True)
        fields = {name: (hints.get(name, str), self._defaults.get(name, ...)) for name in self.query}
        self.query = {}
        self.form = FormParser(self.name, fields)


class ActionRoute(TextRoute):
    """A Starlette route of an action."""

    def __init__(self, pattern: PagePattern, function: ActionFunction, endpoint: Callable[[Request], Any]) -> None:
        super().__init__(pattern, function.name, endpoint, "POST")
        self.function = function


class ActionHandler:
    """Handles the forms of one app.

    Args:
        settings: ``form_size``, ``function_time_limit`` and ``title_length``.
        serving: the app's pages.
        audience: who looks at them.
        routes: all pages, as they are declared.

    Attributes:
        turn: held by whoever writes to tables.
    """

    def __init__(
        self,
        settings: Settings,
        serving: PageHandler,
        audience: LiveUpdates,
        routes: Callable[[], Sequence[PageRoute]],
    ) -> None:
        self._settings = settings
        self._clicks = serving.resolver
        self._serving = serving
        self._audience = audience
        self._routes = routes
        self._database = serving.store.database
        self._secret = serving.world.secret
        self._identity = VisitorCookie(lambda: self._secret)
        # SQLite lets one write at a time: so they take turns here, where waiting costs nothing.
        self.turn = asyncio.Lock()

    async def handle(self, request: Request, route: ActionRoute) -> Response:
        """Answer a POST of a form.

        Raises:
            BadForm, BadAddress, TimedOut, BadApp, StoreError: as the case may be; the app turns them into pages.
        """
        if _from_elsewhere(request.headers):
            raise BadForm("This form was sent from a page that is not one of this app's, so nothing was done.", 403)
        pairs = await submitted_pairs(request, self._settings.form_size)
        path = route.pattern.build(route.pattern.parse(request.path_params, self._settings.title_length))
        arguments = route.function.parse(route.pattern.parse(request.path_params, self._settings.title_length), {})
        page = request.query_params.get(PAGE, "")
        token, _, key = request.query_params.get(TOKEN, "").rpartition(".")
        found = verify_form(token, self._secret, path, page)
        if found != "good":
            return self._give_back(route, path, page if _KEY.match(page) else "", pairs, found)
        read = route.function.form.parse(pairs)
        if isinstance(read, FormState):
            return await self._say_what_is_wrong(request, route, path, page, pairs, read)
        once = _Once(path, key if re.fullmatch(r"[\w-]{8,64}", key) else "", pairs)
        async with self.turn:
            before = self._answered(once)
            if before is not None:
                return before
            visit, cookie = self._clicks.visit(request, page or path), ""
            if route.function.wants_visit and not visit.visitor:
                cookie, visitor = self._identity.new()
                visit = replace(visit, visitor=visitor)
            response, names, written = await self._run(route, {**arguments, **read}, visit, request, page, once)
            if cookie:
                self._identity.set_on(response, cookie, request)
        await self._audience.acted(page, written, names, request)
        return self._serving.sign_redirect(response, request)

    async def _run(
        self, route: ActionRoute, arguments: Mapping[str, Any], visit: Any, request: Request, page: str, once: _Once
    ) -> tuple[Response, Sequence[str], set[str]]:
        """Call the function, and keep all that it wrote, and its answer; or nothing."""
        transaction = Transaction(self._database, route.name)
        limit = self._settings.function_time_limit
        try:
            with active(transaction):
                result = await route.function.run(arguments, visit, request, limit)
            names = result.names if isinstance(result, Redraw) else ()
            response = _response_of(result, route.name, page or "/")
            if once.key:
                transaction.use(lambda connection: _remember(connection, once, response))
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
            "back": page or "/",
            "typed": [(name, value, errors.get(name, "")) for name, value in pairs],
            "attributes": self.attributes(path, page),
        }
        response = self._serving.renderer.template("again.html", values)
        response.status_code = status
        response.headers["cache-control"] = "no-store"
        return response

    async def _say_what_is_wrong(
        self, request: Request, route: ActionRoute, path: str, page: str, pairs: Pairs, form: FormState
    ) -> Response:
        """The page again, with what was typed and what is wrong with it."""
        click = None
        if page:
            click = await self._clicks.resolve_key(
                page, self._routes(), request.headers.raw, request.scope.get("client")
            )
        if isinstance(click, PageRequest):
            return await self._serving.page_with_form(click, form)
        words = form.message or "Something in it does not fit yet."
        return self._again(422, route, path, page, pairs, words, dict([*form.errors]))

    # -- forms --------------------------------------------------------------------------------------------

    def attributes(self, path: str, page: str) -> Markup:
        """The attributes of a form that is sent to an action from a page."""
        # The key is put in when the page is sent: see ``security.sealed``.
        token = sign_form(self._secret, path, page)
        address = f"{path}?{urlencode({PAGE: page, TOKEN: f'{token}.'})}{FORM_KEY}"
        return Markup('method="post" action="{}" data-action').format(address)


def find_action(routes: Sequence[Any], name: str, parameters: Mapping[str, Any], limit: int) -> str:
    """The address of an action by its name: ``find(routes, "reply", {"id": 3}, 120)``.

    Raises:
        BadApp: if there is no action of that name, or it takes other parameters.
        BadAddress: if its address cannot have these.
    """
    actions = {route.name: route for route in routes if isinstance(route, ActionRoute)}
    if name not in actions:
        raise BadApp(f"There is no action {name!r}.{suggestion(name, actions)}")
    pattern = actions[name].pattern
    if parameters.keys() != pattern.parameters.keys():
        raise BadApp(f"The action {name!r} has the pattern {pattern.path!r}, but was given {sorted(parameters)}.")
    values = {name: str(value) if pattern.is_words(name) else value for name, value in parameters.items()}
    return pattern.build(pattern.parse(values, limit))


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


def _response_of(result: object, action: str, page: str) -> Response:
    if isinstance(result, Response):
        return result
    if result is None or isinstance(result, Redraw):
        return RedirectResponse(page, 303)
    if isinstance(result, str) and _KEY.match(result):
        return RedirectResponse(result, 303)
    raise BadApp(
        f"The action {action!r} returned {result!r}, which is no answer. Return nothing, Redraw('name'), the key of a "
        "page such as app.key('thread', id=3), or a Starlette Response."
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
