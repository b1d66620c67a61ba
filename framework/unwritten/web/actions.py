"""Actions: from the POST request of a form to its response.

1. The browser's headers and the form's token must show that the form comes from a page of this app, and the visitor may
   read that page.
2. Fields are converted to the types of the function's parameters. Errors are shown beside the fields.
3. A form that was submitted before with the same content gets the same response.
4. The function runs in one transaction, which also stores the response.
5. The response redirects to the page of the form or to another page, or it is the function's own.
6. Open pages are updated, and new canvases are generated. What fails now is logged and does not change the response.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import isawaitable
from typing import Any
from weakref import WeakValueDictionary

from pydantic import ValidationError
from starlette.middleware import sessions
from starlette.requests import Request
from starlette.responses import Response

from ..core.errors import BadApp, BadURL, StoreError, StoreFull, StoreLocked, StoreReadOnly, TimedOut
from ..core.localization import gettext_lazy as _
from ..core.localization import join
from ..core.mount import MountPoint
from ..core.paths import page_key, page_path
from ..rendering.renderer import Renderer
from ..routing.access import PageAccess
from ..routing.form_fields import FileKind, FormPairs, FormState
from ..routing.redirects import CanonicalRedirect, PageRedirect
from ..routing.routes import PageRequest
from ..routing.visit import Visit, VisitReader
from ..security.signer import FormCheck, Signer, VisitorCookie
from ..storage.database import Connection, Database, insert_row
from ..storage.transactions import WriteLock, function_transaction
from .action_routes import PAGE, TOKEN, ActionFunction, ActionRoute, FormTags
from .form_data import MAX_FIELD_SIZE, read_form
from .live_updates import LiveUpdates, canvases_of
from .page_handler import PageHandler
from .sent_files import SentFile, delete_unused, examine_files, store_files

log = logging.getLogger("unwritten")

RESPONSE_LIFETIME = 24 * 3600.0
"""Seconds for which the response to a form is stored, in case the form is submitted again."""

_MAX_STORED_BODY = 64 * 1024
"""Bytes. Larger responses are not stored: a form that is submitted again gets 204 (No Content) instead."""

_REASONS: Mapping[type[StoreError], str] = {
    StoreLocked: _("Nothing can be saved now, because another program has locked the database."),
    StoreFull: _("Nothing can be saved now, because the server's disk is full."),
    StoreReadOnly: _("Nothing can be saved now, because this server only reads its database."),
}

_FORM_ID = re.compile(r"[\w-]{8,64}")


class Redraw:
    """The result of an action that returns to the form's page and updates these of its regions.

    State regions are rendered again, which also happens whenever their tables have changed. Canvases are
    regenerated. In a group of canvases, ``"replies-12"`` names one of them and ``"replies"`` all.

    Args:
        names: The names of the regions.
    """

    def __init__(self, *names: str) -> None:
        self.names = names

    def __repr__(self) -> str:
        return f"Redraw({', '.join(map(repr, self.names))})"


class ActionHandler:
    """Responds to the forms of one app."""

    def __init__(
        self,
        *,
        mount: MountPoint,
        signer: Signer,
        forms: FormTags,
        visitor_cookie: VisitorCookie,
        visits: VisitReader,
        database: Database,
        access: PageAccess,
        renderer: Renderer,
        handler: PageHandler,
        updates: LiveUpdates,
        write_lock: asyncio.Lock,
        max_file_bytes: int,
    ) -> None:
        self._mount = mount
        self._signer = signer
        self._forms = forms
        self._visitor_cookie = visitor_cookie
        self._visits = visits
        self._database = database
        self._access = access
        self._renderer = renderer
        self._handler = handler
        self._updates = updates
        self._write_lock = write_lock
        self._max_file_bytes = max_file_bytes
        self._running: WeakValueDictionary[_Submission, asyncio.Lock] = WeakValueDictionary()

    async def handle(self, request: Request, route: ActionRoute) -> Response:
        """Respond to the POST request of a form.

        Raises:
            BadForm, BadURL, TimedOut, BadApp: Handled by the app's error pages.
        """
        takes_files = bool(route.function.form.file_fields)
        form = await read_form(request, MAX_FIELD_SIZE, self._max_file_bytes if takes_files else None)
        pairs = form.pairs
        try:
            files = await examine_files(form.files, self._signer)
            return await self._respond(request, route, pairs, files)
        except StoreError as error:
            log.error("%s: %s", request.url.path, error)
            return self._respond_unsaved(request, route, pairs, error)
        finally:
            for _, file in form.files:
                await file.close()

    async def _respond(
        self, request: Request, route: ActionRoute, pairs: FormPairs, files: Sequence[SentFile]
    ) -> Response:
        """Respond to a form with these fields."""
        values = route.pattern.parse_request(request.path_params)
        path, arguments = route.pattern.build(values), route.function.parse(values, {})
        page = request.query_params.get(PAGE, "")
        token, _, form_id = request.query_params.get(TOKEN, "").rpartition(".")
        check = self._signer.verify_form(token, path, page)
        if check != "good":
            return self._refuse_token(check, path, page_key(page) or "", route, pairs)
        submission = _Submission.create(path, form_id, pairs, files)
        previous = self._previous_response(submission)
        if previous is not None:
            return previous
        found = await self._find_page(page, request) if page else None
        if isinstance(found, Response):
            return found
        page_request = found
        kinds = route.function.form.file_fields
        fields = route.function.form.parse(pairs, [(sent.field, await _argument(sent, kinds)) for sent in files])
        if isinstance(fields, FormState):
            return await self._respond_invalid(page_request, path, page, route, pairs, fields)
        stored_files = [sent for sent in files if kinds[sent.field] == "upload"]
        visit, cookie = None, ""
        if route.function.wants_visit:
            visit = await self._visits.read_checked(request, page or path)
            if not visit.visitor:
                cookie, visitor = self._visitor_cookie.new()
                visit = replace(visit, visitor=visitor)
        # The function releases the write lock while it waits for the model. The same form, sent twice, still waits.
        async with self._running.setdefault(submission, asyncio.Lock()), WriteLock(self._write_lock) as write_lock:
            previous = self._previous_response(submission)
            if previous is not None:
                return previous
            try:
                response, names, written = await self._run(
                    route,
                    {**arguments, **fields},
                    visit,
                    request,
                    page,
                    page_request,
                    submission,
                    stored_files,
                    write_lock,
                )
            except ValidationError as error:  # of a model that the function made from its fields
                _check_awaited(error, route.function)
                form = route.function.form.explain(pairs, error)
                return await self._respond_invalid(page_request, path, page, route, pairs, form)
            if cookie:
                self._visitor_cookie.set_on(response, cookie, request)
        await self._updates.on_action(page, written, names, request)
        try:
            return self._handler.sign_redirect(response, request)
        except StoreError as error:  # the action is committed
            log.warning("%s: the redirect after an action is not signed: %s", path, error)
            return response

    async def _find_page(self, page: str, request: Request) -> PageRequest | Response:
        """Return the page of a form, or the response by which its page function refuses the visitor.

        Raises:
            BadURL: If the visitor may not read the page.
        """
        found = await self._access.resolve_key(page, request.scope)
        if isinstance(found, CanonicalRedirect):
            found = await self._access.resolve_key(found.key, request.scope)
        if found is None:
            raise BadURL(_("The page of this form, %(page)s, does not exist, so nothing was done.", page=page), 404)
        return found

    async def _run(
        self,
        route: ActionRoute,
        arguments: Mapping[str, Any],
        visit: Visit | None,
        request: Request,
        page: str,
        page_request: PageRequest | None,
        submission: _Submission,
        files: Sequence[SentFile],
        write_lock: WriteLock,
    ) -> tuple[Response, Sequence[str], set[str]]:
        """Call the function in a transaction. Return its response, the regions to update, and the changed tables."""
        function = route.function
        try:
            async with function_transaction(
                self._database, route.name, write_lock, is_async=function.is_async
            ) as transaction:
                result = await function.run(arguments, visit, request, transaction.time_limit)
                await store_files(transaction, files)  # not before: the function may wait for the model
                _check_session(request, route.name)
                names = result.names if isinstance(result, Redraw) else ()
                response = self._response(result, route, page or "/")
                if names and page:
                    await self._check_names(names, page, page_request, request)
                if files:
                    await delete_unused(transaction, files)
                if submission.form_id:
                    await asyncio.to_thread(
                        transaction.execute, lambda connection: _store_response(connection, submission, response)
                    )
        except TimedOut as error:
            raise TimedOut(join(str(error), _("All its changes were rolled back."))) from None
        except _SubmittedBeforeError:  # its changes were rolled back
            previous = self._previous_response(submission)
            assert previous is not None
            return previous, (), set()
        return response, names, transaction.written

    async def _check_names(
        self, names: Sequence[str], page: str, page_request: PageRequest | None, request: Request
    ) -> None:
        """Check that the page has the regions that an action redraws, before its writes are committed.

        Raises:
            BadApp: If it has not, neither before the action nor after it.
        """
        if page_request is not None:
            with contextlib.suppress(BadApp):
                canvases_of(page_request.page, names)
                return
        after = await self._access.resolve_key(page, request.scope)
        if isinstance(after, PageRequest):
            canvases_of(after.page, names)

    def _response(self, result: object, route: ActionRoute, page: str) -> Response:
        """Return the response for the result of an action's function."""
        if isinstance(result, Response):
            return result
        if result is None or isinstance(result, Redraw):
            return PageRedirect(self._mount, page)
        if isinstance(result, str) and page_path(result) is not None:
            return PageRedirect(self._mount, result)
        error = BadApp(
            f"The action {route.name!r} returned {result!r}, which is not a response. Return None, Redraw('name'), the "
            "key of a page such as app.url_path_for('thread', id=3), or a Starlette Response."
        )
        error.function = route.function.function
        raise error

    def _previous_response(self, submission: _Submission) -> Response | None:
        """Return the response to a form that was submitted before, or None."""
        if not submission.form_id:
            return None
        rows = self._database.read(
            "SELECT answer FROM actions WHERE action = ? AND key = ? AND content = ? AND at > ?",
            (submission.action, submission.form_id, submission.content, time.time() - RESPONSE_LIFETIME),
        )
        return _deserialize_response(rows[0][0]) if rows else None

    # -- forms that are not accepted ----------------------------------------------------------------------

    def _refuse_token(self, check: FormCheck, path: str, page: str, route: ActionRoute, pairs: FormPairs) -> Response:
        """Respond to a form whose token is not valid, with what was typed, so that it can be submitted again."""
        if check == "stale":
            message = _(
                "This form was open for more than a day, so nothing was done yet. Your input is below: send it again."
            )
        else:
            message = _(
                "This form does not belong to the current version of a page of this app, so nothing was done yet. "
                "Your input is below: check it, and send it again."
            )
        return self._resubmit_page(409 if check == "stale" else 403, path, page, route, pairs, message)

    def _respond_unsaved(self, request: Request, route: ActionRoute, pairs: FormPairs, error: StoreError) -> Response:
        """Respond that the database failed, with what was typed. The form keeps its key: it is never applied twice."""
        path = route.pattern.build(route.pattern.parse_request(request.path_params))
        page = request.query_params.get(PAGE, "")
        form_id = request.query_params.get(TOKEN, "").rpartition(".")[2]
        reason = next(
            (text for kind, text in _REASONS.items() if isinstance(error, kind)),
            _("The database does not respond now."),
        )
        message = join(reason, _("Your input is below: send it again in a moment. It is not saved twice."))
        response = self._resubmit_page(503, path, page_key(page) or "", route, pairs, message, form_id=form_id)
        response.headers["retry-after"] = "10"
        return response

    async def _respond_invalid(
        self,
        page_request: PageRequest | None,
        path: str,
        page: str,
        route: ActionRoute,
        pairs: FormPairs,
        form: FormState,
    ) -> Response:
        """Respond with the form's page, with what was typed and the errors."""
        if page_request is not None:
            return await self._handler.page_with_form(page_request, form)
        message = form.message or _("Some fields are not valid.")
        return self._resubmit_page(422, path, page, route, pairs, message, dict([*form.errors]))

    def _resubmit_page(
        self,
        status: int,
        path: str,
        page: str,
        route: ActionRoute,
        pairs: FormPairs,
        message: str,
        errors: Mapping[str, str] | None = None,
        form_id: str = "",
    ) -> Response:
        """Respond with a page that shows the submitted fields in a form."""
        errors = errors or {}
        files = route.function.form.file_fields  # a browser cannot be told which files were chosen
        values = {
            "title": _("Check the form") if status == 422 else _("Send the form again"),
            "message": message,
            "back": self._mount.url(page or "/"),
            "typed": [(name, value, errors.get(name, "")) for name, value in pairs if name not in files],
            "files": [(name, errors.get(name, "")) for name in files],
            "attributes": self._forms.attributes(
                path, page, form_id if _FORM_ID.fullmatch(form_id) else "", has_files=bool(files)
            ),
        }
        return self._renderer.render("resubmit.html", values, status, {"cache-control": "no-store"})


@dataclass(frozen=True, slots=True)
class _Submission:
    """Identifies a submitted form. Equal submissions get the same response.

    Attributes:
        action: The action's path.
        form_id: The unique key of the form in the page. Empty if it is missing: then it is never recognized.
        content: A hash of the fields.
    """

    action: str
    form_id: str
    content: str

    @classmethod
    def create(cls, action: str, form_id: str, pairs: FormPairs, files: Sequence[SentFile]) -> _Submission:
        sent = [(file.field, file.key, file.file.filename) for file in files]
        content = json.dumps([*sorted(pairs), *sent], ensure_ascii=True)
        return cls(
            action,
            form_id if _FORM_ID.fullmatch(form_id) else "",
            hashlib.sha256(content.encode()).hexdigest(),
        )


async def _argument(sent: SentFile, kinds: Mapping[str, FileKind]) -> Any:
    """Return a file as its field takes it."""
    kind = kinds.get(sent.field)
    if kind == "bytes":
        return await sent.file.read()
    return sent.file if kind == "file" else sent.as_upload()


class _SubmittedBeforeError(Exception):
    """Another process has committed the same form while this one ran the function."""


def _check_awaited(error: ValidationError, function: ActionFunction) -> None:
    """Check that a model lacks no value because the action has not awaited it.

    No visitor can correct such a form, so it is not shown again.

    Raises:
        BadApp: If it does.
    """
    field = next((".".join(map(str, item["loc"])) for item in error.errors() if isawaitable(item["input"])), None)
    if field is not None:
        refused = BadApp(
            f"The action {function.name!r} passes the field {field!r} a coroutine, because it calls an async function "
            "without await. Write async def and await; in a def function, anyio.from_thread.run calls it."
        )
        refused.function = function.function
        raise refused from error


def _check_session(request: Request, name: str) -> None:
    """Check that ``SessionMiddleware`` can store the session, which it does after the action is committed.

    Raises:
        BadApp: If it cannot.
    """
    session = request.scope.get("session")
    if isinstance(
        session, getattr(sessions, "Session", ())
    ):  # not in Starlette 1.0; other middleware stores other values
        try:
            json.dumps(session)
        except (TypeError, ValueError) as error:
            raise BadApp(
                f"The action {name!r} has set a value in request.session that cannot be stored: {error}. Use only "
                "values that JSON has, such as text and numbers. All changes of the action were rolled back."
            ) from error


def _store_response(connection: Connection, submission: _Submission, response: Response) -> None:
    now = time.time()
    same = (submission.action, submission.form_id, submission.content, now - RESPONSE_LIFETIME)
    sql = "SELECT 1 FROM actions WHERE action = ? AND key = ? AND content = ? AND at > ?"
    if connection.execute(sql, same).fetchall():
        raise _SubmittedBeforeError
    connection.execute("DELETE FROM actions WHERE at < ?", (now - RESPONSE_LIFETIME,))
    key = {"action": submission.action, "key": submission.form_id, "content": submission.content}
    connection.execute("DELETE FROM actions WHERE action = ? AND key = ? AND content = ?", tuple(key.values()))
    insert_row(connection, "actions", {**key, "answer": _serialize_response(response), "at": now})


def _serialize_response(response: Response) -> str:
    body = getattr(response, "body", None)
    if not isinstance(body, (bytes, memoryview)) or len(body) > _MAX_STORED_BODY:
        return json.dumps({"status": 204, "headers": [], "body": ""})
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.raw_headers]
    return json.dumps(
        {"status": response.status_code, "headers": headers, "body": base64.b64encode(bytes(body)).decode()}
    )


def _deserialize_response(text: str) -> Response:
    stored = json.loads(text)
    response = Response(base64.b64decode(stored["body"]), stored["status"])
    response.raw_headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in stored["headers"]]
    return response
