"""A small imitation of Hugging Face, with a second server for the contents, as the real one has."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """The files of a hub, and how it misbehaves.

    Attributes:
        files: Contents by ``OWNER/REPO/FILE``.
        renamed: New names of repositories.
        gated: Repositories behind a licence, and the token that opens them.
        cuts: After how many bytes the next answers break off; one number per answer.
        sizes: Sizes that the hub states, where they are wrong.
        hashes: SHA-256 that the hub states, where it is wrong; "" states none.
        ranges: False sends all of a file, whatever was requested.
        requests: Methods, paths, ranges and authorizations of all requests, as text.
    """

    endpoint: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    gated: dict[str, str] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    requests: list[str] = field(default_factory=list)

    @property
    def downloads(self) -> list[str]:
        """The requests for contents."""
        return [request for request in self.requests if request.startswith("GET /blob/")]


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: FakeHub
    contents: str

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        details = f"{self.headers.get('Range', '')} {self.headers.get('Authorization', '')}".strip()
        self.hub.requests.append(f"{self.command} {path} {details}".strip())
        if path.startswith("/blob/"):
            self._send_contents(path.removeprefix("/blob/"))
            return
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/(?:main|[0-9a-f]{40})/(.+)", path)
        repo, name = (match[1], match[2]) if match else ("", "")
        key = f"{repo}/{name}"
        if repo in self.hub.renamed:
            self._send(307, {"Location": self.path.replace(repo, self.hub.renamed[repo])})
        elif repo in self.hub.gated and self.headers.get("Authorization") != f"Bearer {self.hub.gated[repo]}":
            self._send(401, {"X-Error-Code": "GatedRepo"})
        elif not any(known.startswith(f"{repo}/") for known in self.hub.files):
            self._send(401, {"X-Error-Code": "RepoNotFound"})
        elif key not in self.hub.files:
            self._send(404, {"X-Error-Code": "EntryNotFound"})
        else:
            body = self.hub.files[key]
            sha256 = self.hub.hashes.get(key, hashlib.sha256(body).hexdigest())
            linked = {"X-Linked-Etag": f'"{sha256}"'} if sha256 else {}
            size = str(self.hub.sizes.get(key, len(body)))
            commit = {"X-Repo-Commit": COMMIT, "X-Linked-Size": size}
            self._send(302, {"Location": f"{self.contents}/blob/{key}", **commit, **linked})

    def _send(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_contents(self, key: str) -> None:
        body = self.hub.files[key]
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        first = int(match[1]) if match and self.hub.ranges else 0
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - first))
        self.end_headers()
        cut = self.hub.cuts.pop(0) if self.hub.cuts else len(body)
        with contextlib.suppress(ConnectionError):  # the client was stopped
            self.wfile.write(body[first : first + cut])
        self.close_connection = True


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """Serve a fake hub on a loopback port. Its ``endpoint`` is for ``HF_ENDPOINT``."""
    hub = FakeHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as front,
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as contents,
    ):
        handler.contents = f"http://127.0.0.1:{contents.server_port}"  # type: ignore[attr-defined]
        hub.endpoint = f"http://127.0.0.1:{front.server_port}"
        threads = [threading.Thread(target=server.serve_forever, args=(0.01,)) for server in (front, contents)]
        for thread in threads:
            thread.start()
        yield hub
        for server, thread in zip((front, contents), threads, strict=True):
            server.shutdown()
            thread.join()
