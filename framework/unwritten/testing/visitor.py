"""A visitor: opens pages of an app in a test, and waits until they are finished."""

from __future__ import annotations

import contextlib
import secrets
import weakref
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookies import CookieError, Morsel, SimpleCookie
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from starlette.types import ASGIApp

from unwritten_engine import Engine

from ..app.router import Router
from ..core.errors import BadURL
from ..core.paths import url_of_key
from .app_runner import AppRunner
from .asgi_client import HOST, request
from .scripted_engine import ScriptedText
from .visited_page import FieldValue, VisitedPage

MAX_REDIRECTS = 10


class Visitor:
    """Visits an app in this process: no server, no browser, and no model unless one is named.

        visitor = Visitor(app)
        page = visitor.visit("/wiki/Tea")
        assert "Tea" in page.text

    The visitor keeps cookies, so sessions and logins work. The app runs until the visitor is closed or
    garbage-collected; a ``with`` block closes it. Pages are stored in a temporary database. Exceptions of the author's
    functions and templates are raised here.

    Args:
        app: The app, or an ASGI app that contains it: ``Starlette(routes=[Mount("/guide", app)])``. Paths are then
            those of the outer app: ``visitor.visit("/guide/wiki/Tea")``. During the visit the app serves nothing else.
            Or a router, which is then visited alone, without a prefix.
        engine: An engine; answers by a part of the prompt (``{"lighthouse": "A lighthouse is…"}``, see ``answers``); or
            the name of a real engine, as for ``--engine``. None: the app's own open engine, or placeholders.
        database: A file to use instead of a temporary one.
        timeout: Seconds until a page that is not finished is an error.
        settings: Settings of the app, as keywords of ``App``, for this visit.

    Raises:
        BadSetting: For an unknown setting or an invalid value.
        BadApp: If there is no app, or its declarations do not fit together.
    """

    def __init__(
        self,
        app: ASGIApp | Router,
        engine: Engine | Mapping[str, ScriptedText] | str | None = None,
        *,
        database: str | Path | None = None,
        timeout: float = 30.0,
        **settings: Any,
    ) -> None:
        self._runner = AppRunner(app, engine, database, timeout, settings)
        self._cookies: dict[str, str] = {}
        self._address = HOST
        self._finalizer = weakref.finalize(self, self._runner.leave)

    def another(self, address: str = HOST) -> Visitor:
        """Return a second visitor of the same app, with cookies of its own.

        Args:
            address: Its IP address.
        """
        other = object.__new__(Visitor)
        other._runner = self._runner
        other._runner.visitors += 1
        other._cookies = {}
        other._address = address
        other._finalizer = weakref.finalize(other, self._runner.leave)
        return other

    def visit(self, path: str, *, referer: str | None = None, wait: bool = True) -> VisitedPage:
        """Open a page, follow redirects, and wait until the page is finished.

        Args:
            path: The path, such as ``/wiki/Tea``.
            referer: The path of the page on which the link was.
            wait: False returns the page as a browser shows it first.

        Raises:
            BadURL: If the path does not begin with a slash.
            TimeoutError: If the page is not finished in time.
        """
        if not path.startswith("/"):
            raise BadURL(f"A path begins with a slash: visitor.visit({'/' + path!r})")
        return self.send("get", path, {}, referer=referer, wait=wait)

    def send(
        self, method: str, path: str, values: Mapping[str, FieldValue], *, referer: str | None = None, wait: bool = True
    ) -> VisitedPage:
        """Send a form, follow redirects, and wait until the page in the response is finished.

        Args:
            method: "get" or "post".
            path: The path.
            values: The form's fields. A path or bytes, or a list of them, is sent as files.
            referer: The path of the page on which the form was.
            wait: See ``visit``.

        Raises:
            TimeoutError: If the page is not finished in time.
        """
        return self._runner.run(self._send(method.upper(), path, values, referer, wait))

    def wait(self) -> None:
        """Wait until no page is being generated.

        Raises:
            TimeoutError: If that takes too long.
        """
        self._runner.run(self._runner.settled())

    def close(self) -> None:
        """Stop the app, if this is its last visitor, and delete its temporary database."""
        self._finalizer()

    def __enter__(self) -> Visitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- requests -------------------------------------------------------------------------------------------------

    async def _send(
        self, method: str, path: str, values: Mapping[str, FieldValue], referer: str | None, wait: bool
    ) -> VisitedPage:
        for _ in range(MAX_REDIRECTS):
            body, content_type = b"", "application/x-www-form-urlencoded"
            if method == "GET" and values:
                path = f"{path.partition('?')[0]}?{urlencode(values)}"
            elif method != "GET" and not all(isinstance(value, str) for value in values.values()):
                body, content_type = _multipart(values)
            elif method != "GET":
                body = urlencode(values).encode()
            status, headers, content = await self._request(method, path, body, referer, content_type)
            location = headers.get("location")
            if not (300 <= status < 400 and location):
                break
            target = urlsplit(urljoin(f"http://{HOST}{path}", location))
            if target.netloc != HOST:
                raise LookupError(f"{path} redirects to {location}, which is not in the app.")
            path = target.path + (f"?{target.query}" if target.query else "")
            if status in {301, 302, 303}:
                method, values = "GET", {}
        else:
            raise LookupError(f"{path} was redirected {MAX_REDIRECTS} times without a page.")
        page = VisitedPage(self, path, status, headers, content)
        return await self._finished(page, referer) if wait else page

    async def _finished(self, page: VisitedPage, referer: str | None) -> VisitedPage:
        """Return the page when none of its regions is being generated."""
        runner, site = self._runner, self._runner.app.site
        async with runner.time_limit(f"The page {page.key} was not finished"):
            while page.state in {"waiting", "writing"}:
                job = runner.job(page.html)
                if job is None:
                    return page  # no job generates what it shows
                async with runner.watching(job):
                    await job.finished.wait()
                path = site.mount.url(url_of_key(job.key))
                if job.state != "written":
                    job.message = job.detail or job.message  # a test sees the error itself
                    return VisitedPage(self, path, page.status, page.headers, site.job_renderer.shell(job).html)
                # The response to a form may show an unfinished page too. It is opened at its own path.
                status, headers, content = await self._request("GET", path, b"", referer)
                page = VisitedPage(self, path, status, headers, content)
        return page

    async def _request(
        self, method: str, path: str, body: bytes, referer: str | None, content_type: str = ""
    ) -> tuple[int, dict[str, str], str]:
        runner = self._runner
        sent: dict[str, str] = {}
        if referer is not None:
            sent["referer"] = f"http://{HOST}{referer}"
        if self._cookies:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        if method != "GET":
            sent["origin"] = f"http://{HOST}"
            sent["content-type"] = content_type
        content = bytearray()
        async with runner.time_limit(f"There was no response for {path}"):
            response = await request(
                runner.asgi,
                path,
                content.extend,
                method=method,
                headers=sent,
                body=body,
                client=self._address,
                state=runner.state,
            )
        if response.failure is not None:
            raise response.failure
        headers: dict[str, str] = {}
        for name, value in response.headers:
            if name == "set-cookie":
                self._set_cookies(value)
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return response.status, headers, content.decode("utf-8", "replace")

    def _set_cookies(self, header: str) -> None:
        with contextlib.suppress(CookieError, ValueError):
            for name, cookie in SimpleCookie(header).items():
                if _is_expired(cookie):
                    self._cookies.pop(name, None)
                else:
                    self._cookies[name] = cookie.coded_value


def _multipart(values: Mapping[str, FieldValue]) -> tuple[bytes, str]:
    """Return a form with files as the body of a request, and its media type."""
    boundary, parts = f"form-{secrets.token_hex(16)}", bytearray()
    for name, value in values.items():
        for member in value if isinstance(value, list) else [value]:
            disposition = f'form-data; name="{name}"'
            if not isinstance(member, str):
                disposition += f'; filename="{member.name if isinstance(member, Path) else name}"'
            content = member.encode() if isinstance(member, str) else member
            content = content.read_bytes() if isinstance(content, Path) else content
            parts += f"--{boundary}\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + content + b"\r\n"
    return bytes(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def _is_expired(cookie: Morsel[str]) -> bool:
    if cookie["max-age"]:
        return int(cookie["max-age"]) <= 0
    with contextlib.suppress(ValueError):
        return bool(cookie["expires"]) and parsedate_to_datetime(cookie["expires"]).astimezone(UTC) <= datetime.now(UTC)
    return False
