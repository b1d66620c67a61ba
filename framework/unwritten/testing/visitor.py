"""A visitor: opens the pages of an app inside a test, and waits until they are written."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from unwritten_engine import Engine

from ..app.application import App
from ..core.errors import BadAddress
from .app_runner import AppRunner
from .asgi_client import HOST, request
from .scripted_engine import ScriptedText
from .visited_page import VisitedPage

REDIRECTS = 10
"""How many are followed in a row."""


class Visitor:
    """Visits an app in this process: no server, no browser, and no model unless one is asked for.

        visitor = Visitor(app)
        page = visitor.visit("/wiki/Tea")
        assert "Tea" in page.text

    The app runs until the visitor is closed or forgotten: use it in a ``with`` block, or simply let it go. Its pages
    go into a database that is thrown away. Exceptions of the author's functions and templates are raised here.

    Args:
        app: the app. While it is visited, it serves nobody else.
        engine: who writes: an engine; answers by a part of the prompt (``{"lighthouse": "A lighthouse is…"}``, see
            ``answers``); or the name of a real one, as ``--engine`` takes it. None takes the engine that the app
            brings, or stand-ins.
        database: a file to use instead of one that is thrown away.
        patience: seconds until a page that is not finished is an error.
        settings: settings of the app, as its keywords, for this visit.

    Raises:
        BadSetting: for an unknown setting, or a value that it cannot take.
    """

    def __init__(
        self,
        app: App,
        engine: Engine | Mapping[str, ScriptedText] | str | None = None,
        *,
        database: str | Path | None = None,
        patience: float = 30.0,
        **settings: Any,
    ) -> None:
        self._life = AppRunner(app, engine, database, patience, settings)
        self._cookies: dict[str, str] = {}
        self._address = HOST
        self._finalizer = weakref.finalize(self, self._life.leave)

    def another(self, address: str = HOST) -> Visitor:
        """A second visitor of the same app, with cookies of its own.

        Args:
            address: where it comes from.
        """
        other = object.__new__(Visitor)
        other._life = self._life
        other._life.visitors += 1
        other._cookies = {}
        other._address = address
        other._finalizer = weakref.finalize(other, self._life.leave)
        return other

    def visit(self, path: str, *, referer: str | None = None, wait: bool = True) -> VisitedPage:
        """Open a page, follow redirects, and wait until it is written.

        Args:
            path: its address in the app, such as ``/wiki/Tea``.
            referer: the key of the page on which the link stood.
            wait: whether to wait; otherwise the page is as a browser shows it first.

        Raises:
            BadAddress: if the path does not begin with a slash.
            TimeoutError: if it is not finished in time.
        """
        if not path.startswith("/"):
            raise BadAddress(f"A path begins with a slash: visitor.visit({'/' + path!r})")
        return self.send("get", path, {}, referer=referer, wait=wait)

    def send(
        self, method: str, path: str, values: Mapping[str, str], *, referer: str | None = None, wait: bool = True
    ) -> VisitedPage:
        """Send a form, follow redirects, and wait until the page that is answered is written.

        Args:
            method: "get" or "post".
            path: the address.
            values: the form's fields.
            referer: the key of the page on which the form stood.
            wait: see ``visit``.

        Raises:
            TimeoutError: if the page is not finished in time.
        """
        return self._life.run(self._send(method.upper(), path, values, referer, wait))

    def wait(self) -> None:
        """Wait until nothing is being written any more, by whomever it was begun.

        Raises:
            TimeoutError: if that takes too long.
        """
        self._life.run(self._life.settled())

    def close(self) -> None:
        """Stop the app, if this is its last visitor, and throw its database away."""
        self._finalizer()

    def __enter__(self) -> Visitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- requests -----------------------------------------------------------------------------------------

    async def _send(
        self, method: str, path: str, values: Mapping[str, str], referer: str | None, wait: bool
    ) -> VisitedPage:
        for _ in range(REDIRECTS):
            body = b""
            if method == "GET" and values:
                path = f"{path.partition('?')[0]}?{urlencode(values)}"
            elif method != "GET":
                body = urlencode(values).encode()
            status, headers, content = await self._request(method, path, body, referer)
            location = headers.get("location")
            if not (300 <= status < 400 and location):
                break
            target = urlsplit(urljoin(f"http://{HOST}{path}", location))
            if target.netloc != HOST:
                raise LookupError(f"{path} leads to {location}, out of the app: a test cannot go there.")
            path = target.path + (f"?{target.query}" if target.query else "")
            if status in {301, 302, 303}:
                method, values = "GET", {}
        else:
            raise LookupError(f"{path} leads in a circle: {REDIRECTS} redirects, and no page.")
        page = VisitedPage(self, path, status, headers, content)
        return await self._finished(page, referer) if wait else page

    async def _finished(self, page: VisitedPage, referer: str | None) -> VisitedPage:
        """The page when nothing on it is being written any more."""
        life = self._life
        async with life.in_time(f"The page {page.key} was not finished"):
            while page.state in {"waiting", "writing"}:
                found = life.job(page.html)
                if found is None:
                    return page  # what it shows is written by nobody
                async with life.watching(found):
                    await found.finished.wait()
                if found.state != "written":
                    html = life.app.site.live_pages.shell(found).html
                    return VisitedPage(self, found.key, page.status, page.headers, html)
                # The answer to a form may show such a page too: its own address is the one to ask.
                status, headers, content = await self._request("GET", found.key, b"", referer)
                page = VisitedPage(self, found.key, status, headers, content)
        return page

    async def _request(
        self, method: str, path: str, body: bytes, referer: str | None
    ) -> tuple[int, dict[str, str], str]:
        sent: dict[str, str] = {}
        if referer is not None:
            sent["referer"] = f"http://{HOST}{referer}"
        if self._cookies:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        if method != "GET":
            sent["origin"] = f"http://{HOST}"
            sent["content-type"] = "application/x-www-form-urlencoded"
        content = bytearray()
        async with self._life.in_time(f"{path} was not answered"):
            answer = await request(
                self._life.app, path, content.extend, method=method, headers=sent, body=body, client=self._address
            )
        if answer.failure is not None:
            raise answer.failure
        headers: dict[str, str] = {}
        for name, value in answer.headers:
            if name == "set-cookie":
                self._take_cookie(value)
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return answer.status, headers, content.decode("utf-8", "replace")

    def _take_cookie(self, header: str) -> None:
        with contextlib.suppress(CookieError):
            for name, morsel in SimpleCookie(header).items():
                if morsel["max-age"] == "0" or "1970" in morsel["expires"]:
                    self._cookies.pop(name, None)
                else:
                    self._cookies[name] = morsel.value
