"""Stand by for an app that cannot be started: tell browsers on this machine why, until a file changes."""

from __future__ import annotations

import contextlib
import socket
import threading

from ..assets import asset_dir
from ..developing.tracebacks import error_reports
from ..guarding.visitors import is_loopback
from ..showing.drawing import Templates

_ATTENTION = 0.2
"""Seconds until the thread looks whether it is to stop."""
_PATIENCE = 2.0
"""Seconds that a browser may take to ask."""


def standby_page(error: BaseException) -> str:
    """The page that says why an app cannot be started, with the author's own lines."""
    style = "\n".join(
        (asset_dir("static") / name).read_text(encoding="utf-8") for name in ("unwritten.css", "developer.css")
    )
    templates = Templates(None, {})
    # Our own style sheets, in a page that has nothing else: quotes must stay quotes there.
    page = templates.render("developer/standby.html", {"faults": error_reports(error), "style": "/* style */"})
    return page.replace("/* style */", style, 1)


class ErrorServer:
    """Answers on the socket of a server that is not there. Browsers elsewhere learn only that it is not.

    Args:
        sock: the listening socket; it stays open.
        page: the HTML for browsers on this machine.
    """

    def __init__(self, sock: socket.socket, page: str) -> None:
        self._sock = sock.dup()
        self._page = page
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._answer, name="standby", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Make room for a server."""
        self._over.set()
        self._thread.join()
        self._sock.close()

    def _answer(self) -> None:
        self._sock.settimeout(_ATTENTION)
        while not self._over.is_set():
            with contextlib.suppress(OSError):  # nobody came, or somebody left
                connection, peer = self._sock.accept()
                with connection:
                    connection.settimeout(_PATIENCE)
                    connection.recv(65536)
                    connection.sendall(self._response(str(peer[0])))

    def _response(self, peer: str) -> bytes:
        body = (self._page if is_loopback(peer) else "This app is being mended.\n").encode()
        kind = "text/html" if is_loopback(peer) else "text/plain"
        head = (
            "HTTP/1.1 503 Service Unavailable",
            f"content-type: {kind}; charset=utf-8",
            f"content-length: {len(body)}",
            "cache-control: no-store",
            "retry-after: 2",
            "x-content-type-options: nosniff",
            "connection: close",
        )
        return "\r\n".join([*head, "", ""]).encode() + body
